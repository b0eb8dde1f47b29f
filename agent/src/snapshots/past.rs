//! Snapshots of the past: sparse, compressed, without aggregates, within a budget of bytes. States at past moments are
//! replayed from them. Nothing else needs them, so they hold nothing back, and can be deleted at any time.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use fieldlog_projections::fold::FoldId;
use fieldlog_projections::{Epoch, Seq, View, snapshot};

use super::{SnapshotFault, SnapshotStore, absent_is_empty, write_as};

const EXTENSION: &str = "past";

/// Fewest records between two of them. This many are replayed in a fraction of the time that an answer may take.
pub const SPACING: u64 = 125_000;
/// Most bytes that they may write per record; larger ones are further apart.
const BYTES_PER_RECORD: u64 = 4;

/// Records between two of them, of this size.
pub fn spacing(bytes: u64) -> u64 {
    SPACING.max(bytes / BYTES_PER_RECORD)
}

/// A snapshot of the past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastSnapshot {
    /// The last record that it includes.
    pub seq: Seq,
    /// Its size.
    pub bytes: u64,
    /// The file.
    pub path: PathBuf,
}

impl SnapshotStore {
    /// The snapshots of the past of an epoch, oldest first, by their names; they are not opened.
    ///
    /// # Errors
    /// Of the file system.
    pub fn past(&self, epoch: Epoch) -> io::Result<Vec<PastSnapshot>> {
        let mut found = Vec::new();
        for entry in
            absent_is_empty(fs::read_dir(self.dir()).and_then(Iterator::collect::<io::Result<Vec<_>>>))?
        {
            let path = entry.path();
            if let Some((_, seq)) = named(&path).filter(|(of, _)| *of == epoch) {
                // It may be deleted meanwhile.
                let Ok(metadata) = entry.metadata() else { continue };
                found.push(PastSnapshot { seq, bytes: metadata.len(), path });
            }
        }
        found.sort_unstable_by_key(|past| past.seq);
        Ok(found)
    }

    /// Writes one atomically. Returns its size in bytes.
    ///
    /// # Errors
    /// Of the file system.
    pub fn save_past(&self, view: &View, epoch: Epoch) -> io::Result<u64> {
        let path = self.path(epoch, view.seq, EXTENSION);
        write_as(&path, |out| snapshot::write_compressed(view, epoch, out))
    }

    /// Deletes those that cannot be used, because the log of `epoch` now begins at `first` or they are of another epoch,
    /// and then as many as the budget demands. Returns those that are left.
    ///
    /// # Errors
    /// Of the file system.
    pub fn thin_past(&self, epoch: Epoch, first: Seq, bytes_max: u64) -> io::Result<Vec<PastSnapshot>> {
        for entry in fs::read_dir(self.dir())? {
            let path = entry?.path();
            if named(&path).is_some_and(|(of, seq)| of != epoch || seq.next() < first) {
                fs::remove_file(path)?;
            }
        }
        let mut past = self.past(epoch)?;
        while past.iter().map(|past| past.bytes).sum::<u64>() > bytes_max {
            let Some(at) = least_missed(&past, first) else { break };
            fs::remove_file(&past[at].path)?;
            past.remove(at);
        }
        Ok(past)
    }

    /// Deletes those after the log's last record: it will grow past them with other records.
    ///
    /// # Errors
    /// Of the file system.
    pub fn drop_past_after(&self, epoch: Epoch, head: Seq) -> io::Result<()> {
        for past in self.past(epoch)?.into_iter().filter(|past| past.seq > head) {
            fs::remove_file(past.path)?;
        }
        Ok(())
    }

    /// Reads the devices and the given other folds of any snapshot.
    ///
    /// # Errors
    /// [`SnapshotFault`]
    pub fn load_part(&self, path: &Path, folds: &[FoldId]) -> Result<View, SnapshotFault> {
        Ok(snapshot::read_part(File::open(path)?, folds)?)
    }
}

/// The one whose deletion leaves the shortest gap; of several, the oldest. So they stay evenly spaced, and where they do
/// not, the older ones are further apart. The newest one goes last.
fn least_missed(past: &[PastSnapshot], first: Seq) -> Option<usize> {
    let gap = |at: usize| {
        let before = if at == 0 { first.0 } else { past[at - 1].seq.0 };
        past.get(at + 1).map_or(u64::MAX, |after| after.seq.0.saturating_sub(before))
    };
    (0..past.len()).min_by_key(|at| gap(*at))
}

/// Epoch and position in the name of a file, if it is one.
fn named(path: &Path) -> Option<(Epoch, Seq)> {
    if path.extension()? != EXTENSION {
        return None;
    }
    let (epoch, seq) = path.file_stem()?.to_str()?.split_once('-')?;
    Some((Epoch(u64::from_str_radix(epoch, 16).ok()?), Seq(seq.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, SnapshotStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = SnapshotStore::open(dir.path()).unwrap();
        (dir, store)
    }

    fn save(store: &SnapshotStore, epoch: u64, seq: u64) {
        let mut view = View::new(Vec::new());
        view.seq = Seq(seq);
        store.save_past(&view, Epoch(epoch)).unwrap();
    }

    fn seqs(past: &[PastSnapshot]) -> Vec<u64> {
        past.iter().map(|past| past.seq.0).collect()
    }

    #[test]
    fn they_are_found_by_epoch_and_position_and_read_back() {
        let (_dir, store) = store();
        save(&store, 1, 20);
        save(&store, 1, 10);
        save(&store, 2, 15);
        fs::write(store.dir().join("notes.past"), "x").unwrap();
        let past = store.past(Epoch(1)).unwrap();
        assert_eq!(seqs(&past), [10, 20]);
        assert_eq!(past[0].bytes, fs::metadata(&past[0].path).unwrap().len());
        assert_eq!(store.load_part(&past[0].path, &[]).unwrap().seq, Seq(10));
        assert!(store.candidates().unwrap().is_empty(), "a start must not use them");
    }

    #[test]
    fn large_ones_are_further_apart() {
        let checks = [(0, 125_000), (28_000, 125_000), (500_000, 125_000), (4_000_000, 1_000_000)];
        for (bytes, records) in checks {
            assert_eq!(spacing(bytes), records, "{bytes}");
        }
    }

    #[test]
    fn those_of_deleted_records_and_of_other_epochs_go() {
        let (_dir, store) = store();
        for seq in [8, 9, 10, 30] {
            save(&store, 1, seq);
        }
        save(&store, 2, 100);
        // The log begins with record 10, which follows the state at 9.
        assert_eq!(seqs(&store.thin_past(Epoch(1), Seq(10), u64::MAX).unwrap()), [9, 10, 30]);
        assert!(store.past(Epoch(2)).unwrap().is_empty());
        store.drop_past_after(Epoch(1), Seq(29)).unwrap();
        assert_eq!(seqs(&store.past(Epoch(1)).unwrap()), [9, 10]);
    }

    #[test]
    fn a_budget_leaves_them_evenly_spaced() {
        let (_dir, store) = store();
        save(&store, 1, 100);
        let each = store.past(Epoch(1)).unwrap()[0].bytes;
        for budget in [1, 2, 5, 8] {
            for n in 1..=64 {
                save(&store, 1, n * 100);
                let left = seqs(&store.thin_past(Epoch(1), Seq(1), budget * each + 3).unwrap());
                // None of them is larger than the first here.
                assert_eq!(left.len() as u64, budget.min(n), "{left:?}");
                assert_eq!(left.last(), Some(&(n * 100)));
                let ends = std::iter::once(&0).chain(&left);
                let widest = ends.zip(&left).map(|(a, b)| b - a).max().unwrap();
                let even = (n * 100).div_ceil(budget);
                assert!(widest <= even.max(100) * 2, "{widest} with {budget} of {n}: {left:?}");
            }
            store.thin_past(Epoch(1), Seq(1), 0).unwrap();
            assert!(store.past(Epoch(1)).unwrap().is_empty(), "0 keeps none");
        }
    }
}
