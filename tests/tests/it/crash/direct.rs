//! Points that append to the log directly, and so know its exact bytes.

use std::ops::ControlFlow;

use fieldlog::log::Log;
use fieldlog::recovery::{self, past::state_at};
use fieldlog::snapshots::SnapshotStore;
use fieldlog_projections::{Epoch, Seq, View, snapshot};
use fieldlog_tests::fault_disk::FaultDisk;
use fieldlog_tests::rng::Rng;

use crate::rig::{ALL_OF_PAST, scratch};

use super::records::{Kept, Made, kept, make};
use super::{QUARANTINE_RECORDS_MAX, Tally, add, begin, end, files, indexed, open, plan_fault, windows};

/// The expected content of the log.
struct Model {
    epoch: Option<Epoch>,
    records: Vec<Kept>,
    quarantine: Vec<(Seq, Vec<u8>)>,
    view: View,
    /// A batch whose commit failed: it is in the log as a whole, or not at all.
    ambiguous: Option<Made>,
    dir: tempfile::TempDir,
    store: SnapshotStore,
}

pub fn point(rng: &mut Rng, tally: &Tally) {
    let disk = FaultDisk::new(rng.fork());
    let dir = scratch();
    let mut model = Model {
        epoch: None,
        records: Vec::new(),
        quarantine: Vec::new(),
        view: View::new(windows()),
        ambiguous: None,
        store: SnapshotStore::open(dir.path()).unwrap(),
        dir,
    };
    for _ in 0..rng.between(2, 5) {
        if rng.chance(90) {
            let operations = *rng.pick(&[12, 60, 400]);
            plan_fault(&disk, rng, operations);
        }
        let log = life(&disk, rng, &mut model, tally);
        end(log, &disk, rng, tally);
        files::spoil(&model.store, model.epoch, &model.view, rng);
    }
    let mut log = open(&disk, false, rng, tally).expect("opens once the disk is well");
    model.check(&log, rng, tally);
    for _ in 0..3 {
        assert!(model.append(&mut log, rng, tally), "appends once the disk is well");
    }
    log.close().unwrap();
    let log = open(&disk, false, rng, tally).expect("opens after a clean close");
    model.check(&log, rng, tally);
    add(&tally.records, model.records.len());
}

/// From opening to the end; `None` if the log could not be opened.
fn life(disk: &FaultDisk, rng: &mut Rng, model: &mut Model, tally: &Tally) -> Option<Log> {
    let mut log = begin(disk, rng, tally)?;
    if disk.fired() {
        return Some(log);
    }
    disk.unharmed(|| model.check(&log, rng, tally));
    for _ in 0..rng.between(1, 9) {
        if !model.append(&mut log, rng, tally) {
            assert!(disk.fired(), "a commit fails on a disk without faults");
            break;
        }
        if rng.chance(25) {
            let bytes = snapshot::encode(&model.view, log.epoch()).unwrap();
            files::save(&model.store, &bytes, model.view.seq, log.epoch());
        }
    }
    Some(log)
}

impl Model {
    /// Appends a batch; `false` if that failed.
    fn append(&mut self, log: &mut Log, rng: &mut Rng, tally: &Tally) -> bool {
        let (count, text_max) = match rng.below(12) {
            0 => (rng.between(300, 900), 20),
            1 => (rng.between(1, 4), 20_000),
            2 => (rng.between(30, 80), 1_000),
            3..6 => (1, 20),
            _ => (rng.between(1, 40), 40),
        };
        let mut made = make(rng, &self.view, count, text_max);
        if rng.chance(8) {
            indexed::add_large(rng, &self.view, &mut made);
        }
        let (next, count) = (self.view.seq.next(), made.body.len());
        match log.append(&made.body, &made.quarantine) {
            Ok(committed) => {
                assert_eq!(committed.first, next);
                assert_eq!(committed.last.0, next.0 + count as u64 - 1);
                assert_eq!(log.head(), committed.last);
                self.take(&made);
                true
            }
            Err(_) => {
                add(&tally.failed_commits, 1);
                self.ambiguous = Some(made);
                false
            }
        }
    }

    fn take(&mut self, made: &Made) {
        let first = self.view.seq.next();
        self.records.extend(kept(made.body.records(first)));
        self.view.apply_records(made.body.records(first), Seq(u64::MAX)).unwrap();
        let of = |(index, payload): &(usize, Vec<u8>)| (Seq(first.0 + *index as u64), payload.clone());
        self.quarantine.extend(made.quarantine.iter().map(of));
    }

    /// Checks everything that was promised, on a newly opened log.
    fn check(&mut self, log: &Log, rng: &mut Rng, tally: &Tally) {
        let reader = log.reader();
        assert_eq!(*self.epoch.get_or_insert(log.epoch()), log.epoch(), "the epoch changed");
        if let Some(made) = self.ambiguous.take()
            && log.head() != self.view.seq
        {
            add(&tally.ambiguous_kept, 1);
            self.take(&made);
        }
        assert_eq!(log.head(), self.view.seq, "records are lost, made up, or a batch is there in part");
        assert_eq!(log.last_time(), self.view.time);
        let mut found = Vec::new();
        let stopped = reader.scan(Seq(1), |chunk| {
            found.extend(kept(chunk.records()));
            ControlFlow::<()>::Continue(())
        });
        assert_eq!(stopped.unwrap(), None);
        assert_eq!(found.len(), self.records.len());
        assert!(found == self.records, "a committed record has changed");
        assert!(found.iter().zip(1..).all(|(record, seq)| record.seq == Seq(seq)), "not gapless from 1");
        indexed::check(&reader, &self.records, tally);
        self.check_quarantine(log);
        self.check_views(log, rng, tally);
    }

    fn check_quarantine(&self, log: &Log) {
        let newest: Vec<_> = self.quarantine.iter().rev().take(QUARANTINE_RECORDS_MAX as usize).collect();
        let found = log.reader().quarantine(1_000).unwrap();
        assert_eq!(found, newest.iter().map(|(seq, _)| *seq).collect::<Vec<_>>());
        for (seq, payload) in newest {
            assert_eq!(log.reader().quarantined(*seq).unwrap().as_ref(), Some(payload));
        }
    }

    fn check_views(&self, log: &Log, rng: &mut Rng, tally: &Tally) {
        let reader = log.reader();
        let recovered = recovery::recover(&self.store, &reader, log.epoch(), &windows()).unwrap();
        add(&tally.snapshots_used, usize::from(recovered.snapshot > Seq(0)));
        add(&tally.snapshots_passed_over, recovered.notes.len());
        assert!(recovered.view == self.view, "fold(snapshot + tail) is not the view before the crash");
        assert!(recovered.view.stale().is_empty());
        let nothing = tempfile::tempdir_in(self.dir.path()).unwrap();
        let nothing = SnapshotStore::open(nothing.path()).unwrap();
        let folded = recovery::recover(&nothing, &reader, log.epoch(), &windows()).unwrap();
        let bytes = |view: &View| snapshot::encode(view, log.epoch()).unwrap();
        assert!(bytes(&folded.view) == bytes(&recovered.view), "fold(all) differs, byte for byte");
        let past = Seq(rng.below(self.view.seq.0 as usize + 1) as u64);
        let then = state_at(&self.store, &reader, log.epoch(), past, ALL_OF_PAST, &|| false).unwrap();
        assert_eq!(then.view.seq, past);
    }
}
