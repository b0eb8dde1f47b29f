//! Points that delete the front of a log with an archive: together they must have every value exactly once.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;

use fieldlog::log::{Commit, Log, LogReader};
use fieldlog::retention::rollup::{Job, roll_up};
use fieldlog_projections::aggregates::start_s;
use fieldlog_projections::chunk::RecordBuffer;
use fieldlog_projections::rollup::{Period, Series};
use fieldlog_projections::stored::{Changes, type_id};
use fieldlog_projections::{AttrId, Bucket, DeviceId, Epoch, Seq, Time, View};
use fieldlog_tests::fault_disk::FaultDisk;
use fieldlog_tests::rng::Rng;

use super::records::{Kept, Made, kept, make};
use super::{Tally, add, begin, end, indexed, open, plan_fault, windows};

/// The full history, and what was done to it.
struct Model {
    epoch: Option<Epoch>,
    records: Vec<Kept>,
    view: View,
    ambiguous: Option<Made>,
    length_s: u32,
    /// The window length has changed: a window may be archived in parts of several lengths.
    relengthened: bool,
    /// The front of the archive may have been deleted.
    pruned: bool,
}

pub fn point(rng: &mut Rng, tally: &Tally) {
    let disk = FaultDisk::new(rng.fork());
    let mut model = Model {
        epoch: None,
        records: Vec::new(),
        view: View::new(windows()),
        ambiguous: None,
        length_s: *rng.pick(&[60, 3_600, 86_400]),
        relengthened: false,
        pruned: false,
    };
    for _ in 0..rng.between(2, 6) {
        if rng.chance(85) {
            let operations = *rng.pick(&[12, 60, 400]);
            plan_fault(&disk, rng, operations);
        }
        let log = life(&disk, rng, &mut model, tally);
        end(log, &disk, rng, tally);
    }
    let mut log = open(&disk, false, rng, tally).expect("opens once the disk is well");
    model.check(&log, tally);
    for _ in 0..3 {
        assert!(model.append(&mut log, rng, tally), "appends once the disk is well");
        assert!(model.thin(&mut log, rng, tally), "thins once the disk is well");
        model.check(&log, tally);
    }
    add(&tally.records, model.records.len());
}

fn life(disk: &FaultDisk, rng: &mut Rng, model: &mut Model, tally: &Tally) -> Option<Log> {
    let mut log = begin(disk, rng, tally)?;
    if disk.fired() {
        return Some(log);
    }
    disk.unharmed(|| model.check(&log, tally));
    if rng.chance(10) {
        model.length_s = *rng.pick(&[60, 3_600, 86_400]);
        model.relengthened = true;
    }
    for _ in 0..rng.between(1, 9) {
        let done = match rng.chance(60) {
            true => model.append(&mut log, rng, tally),
            false => model.thin(&mut log, rng, tally),
        };
        if !done {
            assert!(disk.fired(), "a commit fails on a disk without faults");
            break;
        }
    }
    Some(log)
}

fn naive<'a>(records: impl Iterator<Item = &'a Kept>, start_s: i64) -> Vec<Series> {
    let mut buckets: BTreeMap<(DeviceId, AttrId), Bucket> = BTreeMap::new();
    for record in records.filter(|record| record.kind.type_id == type_id::STATE_CHANGED) {
        let mut changes = Changes::parse(record.kind, &record.payload).unwrap();
        while let Some((attr, value)) = changes.next().unwrap() {
            let Some(number) = value.as_number() else { continue };
            let key = (changes.device, attr);
            buckets
                .entry(key)
                .and_modify(|bucket| bucket.add(number))
                .or_insert(Bucket::new(start_s, number));
        }
    }
    buckets.into_iter().map(|((device, attr), bucket)| Series { device, attr, bucket }).collect()
}

fn upto(reader: &LogReader) -> Seq {
    reader.rollups_end().unwrap().map_or(Seq(0), |end| end.period.last)
}

impl Model {
    fn append(&mut self, log: &mut Log, rng: &mut Rng, tally: &Tally) -> bool {
        let (count, text_max) = match rng.below(6) {
            0 => (rng.between(300, 900), 20),
            1 => (rng.between(30, 80), 1_000),
            _ => (rng.between(1, 60), 40),
        };
        let mut made = make(rng, &self.view, count, text_max);
        if rng.chance(8) {
            indexed::add_large(rng, &self.view, &mut made);
        }
        match log.append(&made.body, &made.quarantine) {
            Ok(_) => {
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
    }

    /// Works like the writer: fold, store, and only then delete, up to what was stored.
    fn thin(&mut self, log: &mut Log, rng: &mut Rng, tally: &Tally) -> bool {
        let (head, reader) = (log.head(), log.reader());
        if head == Seq(0) {
            return true;
        }
        let before = Seq(1 + rng.below(head.0 as usize + 1) as u64);
        let job = Job { length_s: self.length_s, before, head: (head, log.last_time()) };
        if !self.prune(log, rng) {
            return false;
        }
        let nothing = RecordBuffer::after(log.last_time());
        loop {
            let Ok(periods) = roll_up(&reader, job, &AtomicBool::new(false)) else { return false };
            let Some(last) = periods.last().map(|archived| archived.period.last) else { break };
            if log.commit(&Commit { rollups: &periods, ..Commit::of(&nothing) }).is_err() {
                add(&tally.failed_commits, 1);
                return false;
            }
            add(&tally.archived, periods.len());
            if last.next() >= before {
                break;
            }
        }
        let Ok(end) = reader.rollups_end() else { return false };
        assert!(before == Seq(1) || end.is_some_and(|end| end.period.last.next() >= before));
        for _ in 0..rng.below(4) {
            match log.commit(&Commit { trim_before: Some(before), ..Commit::of(&nothing) }) {
                Ok(committed) => add(&tally.trimmed, usize::from(committed.trimmed.is_some())),
                Err(_) => {
                    add(&tally.failed_commits, 1);
                    return false;
                }
            }
        }
        true
    }

    /// Deletes from the front of the archive, now and then.
    fn prune(&mut self, log: &mut Log, rng: &mut Rng) -> bool {
        if !rng.chance(10) {
            return true;
        }
        self.pruned = true;
        let too_old = Time(self.view.time.0 - 4_000_000_000);
        let Ok(before) = log.reader().rollups_older(too_old) else { return false };
        let nothing = RecordBuffer::after(log.last_time());
        log.commit(&Commit { trim_rollups_before: before, ..Commit::of(&nothing) }).is_ok()
    }

    fn check(&mut self, log: &Log, tally: &Tally) {
        let reader = log.reader();
        assert_eq!(*self.epoch.get_or_insert(log.epoch()), log.epoch(), "the epoch changed");
        if let Some(made) = self.ambiguous.take()
            && log.head() != self.view.seq
        {
            add(&tally.ambiguous_kept, 1);
            self.take(&made);
        }
        assert_eq!(log.head(), self.view.seq);
        assert_eq!(self.check_rollups(&reader), upto(&reader));
        let Some((first, last)) = reader.range().unwrap() else { return };
        assert_eq!(last, log.head());
        assert!(first <= upto(&reader).next(), "records are neither in the log nor in the archive");
        let mut found = Vec::new();
        let stopped = reader.scan(Seq(1), |chunk| {
            found.extend(kept(chunk.records()));
            ControlFlow::<()>::Continue(())
        });
        assert_eq!(stopped.unwrap(), None);
        assert!(found == self.records[first.0 as usize - 1..], "a committed record has changed");
        indexed::check(&reader, &found, tally);
    }

    /// Checks that every period equals the fold of its records, and that periods are contiguous. Returns the last
    /// record in them.
    fn check_rollups(&self, reader: &LogReader) -> Seq {
        let mut periods: Vec<(Period, Vec<Series>)> = Vec::new();
        let stopped = reader.scan_rollups(Seq(0), |row| {
            match periods.last_mut() {
                Some((period, all)) if *period == row.period => all.extend(row.series()?),
                _ => periods.push((row.period, row.series()?)),
            }
            Ok(ControlFlow::<()>::Continue(()))
        });
        assert_eq!(stopped.unwrap(), None);
        let mut before: Option<Period> = None;
        for (period, series) in &periods {
            match before {
                None => assert!(self.pruned || period.first == Seq(1)),
                Some(before) => {
                    assert_eq!(period.first, before.last.next(), "periods overlap, or records are in none");
                    assert!(self.relengthened || period.start_s > before.start_s, "a window in two periods");
                }
            }
            let at = |seq: Seq| &self.records[seq.0 as usize - 1];
            let records = &self.records[period.first.0 as usize - 1..period.last.0 as usize];
            assert!(records.iter().all(|record| start_s(record.time, period.length_s) == period.start_s));
            assert_eq!(period.last_time, at(period.last).time);
            let earlier = period.first.0 - 1;
            assert_eq!(period.base_time, if earlier == 0 { Time(0) } else { at(Seq(earlier)).time });
            assert!(
                *series == naive(records.iter(), period.start_s),
                "{period:?} is not what its records are"
            );
            before = Some(*period);
        }
        before.map_or(Seq(0), |period| period.last)
    }
}
