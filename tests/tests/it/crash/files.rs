//! Snapshot files and their damage.

use std::fs;

use fieldlog::snapshots::SnapshotStore;
use fieldlog_projections::{Epoch, Seq, View, snapshot};
use fieldlog_tests::rng::Rng;

/// Writes a snapshot like [`SnapshotStore::save`], without the syncs, which would take most of a test's time.
pub fn save(store: &SnapshotStore, bytes: &[u8], seq: Seq, epoch: Epoch) {
    fs::write(store.dir().join(format!("{epoch}-{:020}.snap", seq.0)), bytes).unwrap();
}

/// Damages the snapshots as a crash, a flash card or an operator might.
pub fn spoil(store: &SnapshotStore, epoch: Option<Epoch>, view: &View, rng: &mut Rng) {
    let Some(epoch) = epoch else { return };
    match rng.below(12) {
        0 => fs::write(store.dir().join("leftover.tmp"), b"FLSN").unwrap(),
        1 => save(store, b"", Seq(7), epoch),
        2 => {
            let other = Epoch(epoch.0 ^ 1);
            save(store, &snapshot::encode(view, other).unwrap(), view.seq, other);
        }
        3 => {
            // Different from the log's later content at that position.
            let mut ahead = View::new(super::windows());
            ahead.seq = Seq(view.seq.0 + 10_000 + rng.below(100) as u64);
            save(store, &snapshot::encode(&ahead, epoch).unwrap(), ahead.seq, epoch);
        }
        4..8 => {
            let candidates = store.candidates().unwrap();
            let Some(candidate) = candidates.first() else { return };
            let mut bytes = fs::read(&candidate.path).unwrap();
            if bytes.is_empty() {
                return;
            }
            if rng.chance(50) {
                bytes.truncate(rng.below(bytes.len()));
            } else {
                let at = rng.below(bytes.len());
                bytes[at] ^= 1 << rng.below(8);
            }
            fs::write(&candidate.path, bytes).unwrap();
        }
        _ => {}
    }
}
