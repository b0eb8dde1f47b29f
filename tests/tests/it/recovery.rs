//! The recovery table of `agent/src/recovery.rs`: one test per label.

use std::fs;
use std::path::PathBuf;

use fieldlog::log::{FILE_NAME, Log, LogReader};
use fieldlog::recovery::past::{self, PastState, Wanted, state_at};
use fieldlog::recovery::{self, Recovered, RecoveryError};
use fieldlog::snapshots::{DIR_NAME, SnapshotStore};
use fieldlog_projections::view::ValuesOf;
use fieldlog_projections::{Aggregates, Commands, Descriptions, Epoch, Seq, View, Window, snapshot};
use fieldlog_tests::rng::Rng;
use redb::{ReadableTable, TableDefinition};

use crate::crash::records::make;
use crate::rig::{ALL_OF_PAST, OPTIONS, scratch};

fn windows() -> Vec<Window> {
    vec![Window { length_s: 60, keep: 10 }]
}

/// A log with snapshots at some positions of it.
struct Given {
    dir: tempfile::TempDir,
    store: SnapshotStore,
    log: Log,
    view: View,
}

impl Given {
    /// `batches` commits of 100 records.
    fn log(batches: usize) -> Given {
        let dir = scratch();
        let mut given = Given {
            store: SnapshotStore::open(dir.path()).unwrap(),
            log: Log::open(dir.path(), OPTIONS, Epoch(0xe)).unwrap(),
            view: View::new(windows()),
            dir,
        };
        (0..batches).for_each(|n| given.append(n as u64));
        given
    }

    fn append(&mut self, seed: u64) {
        let made = make(&mut Rng::new(seed), &self.view, 100, 30);
        let committed = self.log.append(&made.body, &made.quarantine).unwrap();
        self.view.apply_records(made.body.records(committed.first), committed.last).unwrap();
    }

    /// A snapshot of where the log is now.
    fn snapshot(&self) -> PathBuf {
        self.store.save(&self.view, self.log.epoch(), 10).unwrap().0
    }

    fn reader(&self) -> LogReader {
        self.log.reader()
    }

    fn recover(&self) -> Result<Recovered, RecoveryError> {
        recovery::recover(&self.store, &self.reader(), self.log.epoch(), &windows())
    }

    /// The state at a past position, without aggregates.
    fn past(&self, until: u64) -> Result<PastState, RecoveryError> {
        state_at(&self.store, &self.reader(), self.log.epoch(), Seq(until), ALL_OF_PAST, &|| false)
    }

    fn snapshot_of_the_past(&self) -> PathBuf {
        self.store.save_past(&self.view, self.log.epoch()).unwrap();
        self.store.past(self.log.epoch()).unwrap().pop().unwrap().path
    }

    /// Checks that a past state is what the view was then, made from the snapshot at `base`.
    fn check_past(&self, until: u64, base: u64, then: &View) {
        let past = self.past(until).unwrap();
        let bytes = |view: &View| snapshot::encode(&view.share_without_aggregates(), Epoch(1)).unwrap();
        assert!(bytes(&past.view) == bytes(then), "another state at {until}");
        assert_eq!((past.base, past.replayed), (Seq(base), then.seq.0 - base), "at {until}");
    }

    /// Recovers, and checks that the view is the same, from the snapshot at `snapshot`, with `notes`.
    fn check(&self, snapshot: u64, notes: &[&str]) {
        let recovered = self.recover().unwrap();
        assert!(recovered.view == self.view, "another view");
        assert_eq!(recovered.snapshot, Seq(snapshot));
        assert_eq!(recovered.replayed, self.view.seq.0 - snapshot);
        assert_eq!(recovered.notes.len(), notes.len(), "{:?}", recovered.notes);
        for (note, expected) in recovered.notes.iter().zip(notes) {
            assert!(note.contains(expected), "{note}");
        }
    }

    /// Deletes the chunks in front of `seq`, as a trim would; the log has to be opened anew for it.
    fn trim(self, seq: Seq) -> Given {
        const CHUNKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("chunks");
        let Given { dir, store, log, view } = self;
        log.close().unwrap();
        let db = redb::Database::open(dir.path().join(FILE_NAME)).unwrap();
        let txn = db.begin_write().unwrap();
        let mut chunks = txn.open_table(CHUNKS).unwrap();
        while chunks.first().unwrap().is_some_and(|(key, _)| key.value() < seq.0) {
            chunks.pop_first().unwrap();
        }
        drop(chunks);
        // A trim would have deleted the record of what there was when the log was closed.
        const SUMS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sums");
        txn.open_table(SUMS).unwrap().remove("closed").unwrap();
        txn.commit().unwrap();
        db.close().unwrap();
        let log = Log::open(dir.path(), OPTIONS, Epoch(1)).unwrap();
        Given { dir, store, log, view }
    }
}

fn spoil(path: &PathBuf, how: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    how(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[test]
fn s1_the_newest_snapshot_is_used() {
    let mut given = Given::log(2);
    given.snapshot();
    given.append(7);
    given.snapshot();
    given.append(8);
    given.check(300, &[]);
}

#[test]
fn s1_at_the_head_nothing_is_replayed() {
    let given = Given::log(2);
    given.snapshot();
    given.check(200, &[]);
}

#[test]
fn s2_a_damaged_snapshot_gives_way_to_an_older_one() {
    type Damage = fn(&mut Vec<u8>);
    // Without a header it is last in line, and never looked at while there is a better one.
    let damages: [(Damage, &[&str]); 6] = [
        (Vec::clear, &[]),
        (|bytes| bytes.truncate(20), &[]),
        (|bytes| bytes[9] ^= 1, &[]),
        (|bytes| bytes.truncate(bytes.len() - 1), &["it is cut short"]),
        (|bytes| bytes.extend([0; 512]), &["it is cut short"]),
        (|bytes| *bytes.last_mut().unwrap() ^= 0x80, &["its checksum is wrong"]),
    ];
    for (damage, notes) in damages {
        let mut given = Given::log(1);
        given.snapshot();
        given.append(7);
        spoil(&given.snapshot(), damage);
        given.append(8);
        given.check(100, notes);
    }
}

#[test]
fn s2_a_snapshot_of_a_newer_layout_is_passed_over() {
    let given = Given::log(1);
    spoil(&given.snapshot(), |bytes| {
        bytes[4] = 9;
        let crc = crc32(&bytes[..44]);
        bytes[44..48].copy_from_slice(&crc.to_le_bytes());
    });
    given.check(0, &["layout version 9 is not known; it was written by a newer fieldlog"]);
}

#[test]
fn s3_a_snapshot_of_another_epoch_is_passed_over() {
    let given = Given::log(2);
    let other = Epoch(0xf);
    given.store.save(&given.view, other, 10).unwrap();
    given.check(0, &["another epoch"]);
}

#[test]
fn s4_a_snapshot_ahead_of_the_log_is_set_aside_for_good() {
    let mut given = Given::log(2);
    // The log as it was backed up, and its last commit, lost by restoring it.
    let (head, mut later) = (given.view.clone(), Given::log(2));
    later.append(50);
    let path = given.store.dir().join("ahead.snap");
    fs::write(&path, snapshot::encode(&later.view, given.log.epoch()).unwrap()).unwrap();
    // A look at the past changes nothing.
    given.past(150).unwrap();
    assert!(path.exists());
    given.check(0, &["ahead of the log; was the log restored from a backup?"]);
    assert!(given.view == head);
    // Other records take the positions that the snapshot has; it must not be believed then.
    given.append(51);
    given.append(52);
    assert!(given.view.seq > later.view.seq);
    given.check(0, &[]);
    assert!(!path.exists() && path.with_extension("ahead").exists());
}

#[test]
fn s5_a_snapshot_before_a_gap_is_passed_over() {
    let mut given = Given::log(1);
    given.snapshot();
    (0..60).for_each(|n| given.append(n));
    let given = given.trim(Seq(3_000));
    let error = given.recover().unwrap_err();
    assert!(matches!(error, RecoveryError::NoBase { .. }));
    assert!(error.to_string().contains("the records after it are trimmed"), "{error}");
}

#[test]
fn b0_an_empty_log_begins_with_nothing() {
    let given = Given::log(0);
    given.check(0, &[]);
    given.snapshot();
    given.check(0, &[]);
}

#[test]
fn b1_without_a_snapshot_all_of_the_log_is_folded() {
    Given::log(5).check(0, &[]);
}

#[test]
fn b2_a_trimmed_log_without_its_base_is_refused() {
    let given = Given::log(60).trim(Seq(2_000));
    let error = given.recover().unwrap_err();
    let RecoveryError::NoBase { first, .. } = &error else { panic!("{error}") };
    assert!(first.0 >= 2_000);
    let text = error.to_string();
    assert!(
        text.contains(&format!("begins at sequence {first}")) && text.contains("restore a snapshot"),
        "{text}"
    );
}

#[test]
fn a_trimmed_log_with_its_base_goes_on() {
    let mut given = Given::log(30);
    given.snapshot();
    let snapshot = given.view.seq.0;
    (0..30).for_each(|n| given.append(n));
    let mut given = given.trim(Seq(2_000));
    given.check(snapshot, &[]);
    given.append(99);
    given.check(snapshot, &[]);
    let gone = given.past(1_999).unwrap_err();
    assert!(matches!(gone, RecoveryError::NoPast { .. }), "a past that is gone is not made up: {gone}");
}

#[test]
fn the_past_comes_from_the_nearest_snapshot_before_it() {
    let mut given = Given::log(2);
    let then = given.view.clone();
    given.snapshot();
    given.append(7);
    given.snapshot();
    given.append(8);
    given.check_past(200, 200, &then);
    given.check_past(9_999, 300, &given.view);
    assert_eq!(given.past(199).unwrap().base, Seq(0));
}

#[test]
fn sparse_snapshots_serve_the_past_when_the_newest_ones_are_gone() {
    let mut given = Given::log(2);
    let (at_200, first) = (given.view.clone(), given.snapshot_of_the_past());
    given.append(7);
    let (at_300, second) = (given.view.clone(), given.snapshot_of_the_past());
    (0..20).for_each(|n| given.append(n));
    given.check_past(200, 200, &at_200);
    given.check_past(300, 300, &at_300);
    given.check_past(2_300, 300, &given.view);
    // The start does not use them, and what is read of them is only what is asked for.
    given.check(0, &[]);
    let wanted = Wanted { folds: &[Commands::ID], values: ValuesOf::None };
    let commands =
        state_at(&given.store, &given.reader(), Epoch(0xe), Seq(2_200), wanted, &|| false).unwrap();
    assert!(commands.view.is_stale(Descriptions::ID) && !commands.view.is_stale(Commands::ID));
    assert_eq!((commands.base, commands.view.seq), (Seq(300), Seq(2_200)));

    // A damaged one is deleted, and the one before it serves.
    let mut bytes = fs::read(&second).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&second, bytes).unwrap();
    given.check_past(300, 200, &at_300);
    assert!(first.exists() && !second.exists());
}

#[test]
fn a_past_snapshot_ahead_of_the_log_is_gone_before_the_log_grows() {
    let mut given = Given::log(2);
    let mut later = Given::log(2);
    later.append(50);
    let path = later.snapshot_of_the_past();
    let here = given.store.dir().join(path.file_name().unwrap());
    fs::copy(&path, &here).unwrap();
    given.check_past(300, 0, &given.view);
    given.check(0, &[]);
    assert!(!here.exists(), "other records will take its positions");
    given.append(51);
    given.check_past(300, 0, &given.view);
}

#[test]
fn a_trimmed_log_answers_from_its_first_past_snapshot_on() {
    let mut given = Given::log(30);
    (0..30).for_each(|n| given.append(n));
    let (then, _) = (given.view.clone(), given.snapshot_of_the_past());
    given.append(5);
    let given = given.trim(Seq(2_000));
    given.check_past(6_000, 6_000, &then);
    assert!(matches!(given.past(5_999), Err(RecoveryError::NoPast { .. })));
    let earliest = past::earliest(&given.store, &given.reader(), Epoch(0xe)).unwrap();
    assert_eq!(earliest, Some(Seq(6_000)));
}

#[test]
fn other_windows_make_the_aggregates_stale_and_nothing_else() {
    let given = Given::log(3);
    given.snapshot();
    let other = [Window { length_s: 30, keep: 4 }];
    let recovered = recovery::recover(&given.store, &given.reader(), given.log.epoch(), &other).unwrap();
    assert_eq!(recovered.view.stale(), [Aggregates::ID]);
    assert_eq!(recovered.snapshot, Seq(300));
    assert!(recovered.view.devices == given.view.devices);
    assert_eq!(recovered.view.aggregates.windows(), other);

    // A snapshot of that does not have them either, and makes nothing else stale.
    given.store.save(&recovered.view, given.log.epoch(), 10).unwrap();
    let again = given.recover().unwrap();
    assert_eq!(again.view.stale(), [Aggregates::ID]);
    assert!(again.view.devices == given.view.devices);
}

#[test]
fn saving_sweeps_up_what_a_crash_left() {
    let given = Given::log(1);
    let leftover = given.dir.path().join(DIR_NAME).join("0000-1.tmp");
    fs::write(&leftover, b"FLSN").unwrap();
    given.check(0, &[]);
    given.snapshot();
    assert!(!leftover.exists());
    given.check(100, &[]);
}

/// CRC-32 as everyone has it, one bit at a time.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1)))
    })
}
