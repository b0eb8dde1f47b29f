//! When snapshots of the past are written and deleted, and that `/status` can say so.

use fieldlog_projections::{DeviceId, Epoch, Fact};
use tokio::sync::watch;

use super::*;
use crate::clock::TestClock;
use crate::log::{Log, LogOptions};
use crate::shared::{Position, RebuildProgress};
use crate::snapshots::SnapshotStore;
use crate::snapshots::past::SPACING;
use fieldlog_projections::chunk::{Envelope, RecordBuffer};

const EPOCH: Epoch = Epoch(7);

struct Given {
    shared: Arc<Shared>,
    writer: SnapshotWriter,
    config: SnapshotConfig,
    clock: Clock,
    _log: Log,
    _dir: tempfile::TempDir,
}

impl Given {
    fn new(past_bytes_max: u64) -> Given {
        let dir = tempfile::tempdir().unwrap();
        let options = LogOptions { cache_bytes: 1 << 20, quick_repair: false, quarantine_records_max: 10 };
        let log = Log::open(dir.path(), options, EPOCH).unwrap();
        let clock = TestClock::standing(Time::from_secs(1_000)).clock();
        let shared = Arc::new(Shared {
            epoch: EPOCH,
            view: View::new(Vec::new()).into(),
            position: watch::channel(Position::default()).0,
            reader: log.reader(),
            disk: log.disk().clone(),
            snapshots: SnapshotStore::open(dir.path()).unwrap(),
            stats: WriterStats::default(),
            rebuild: RebuildProgress::default(),
            alerts: watch::channel(Seq(0)).0,
        });
        let config = SnapshotConfig { past_bytes_max, events: u64::MAX, ..SnapshotConfig::default() };
        let writer = SnapshotWriter::new(shared.clone(), &config, clock.clone());
        Given { shared, writer, config, clock, _log: log, _dir: dir }
    }

    /// The view is at `seq`, and the writer is asked whether something is due. Returns the snapshots of the past.
    fn at(&mut self, seq: u64) -> Vec<u64> {
        self.shared.view.write().unwrap().seq = Seq(seq);
        if self.writer.is_due(Seq(seq), self.clock.now(), &self.config) {
            self.writer.begin();
        } else {
            self.writer.past_if_due(Seq(seq));
        }
        self.kept()
    }

    fn kept(&mut self) -> Vec<u64> {
        self.writer.wait();
        let past = self.shared.snapshots.past(EPOCH).unwrap();
        let stats = &self.shared.stats;
        let bytes: u64 = past.iter().map(|past| past.bytes).sum();
        let noted = (stats.past.load(Ordering::Relaxed), stats.past_bytes.load(Ordering::Relaxed));
        assert_eq!(noted, (past.len() as u64, bytes), "not what is on the disk");
        past.into_iter().map(|past| past.seq.0).collect()
    }
}

#[test]
fn one_is_written_when_the_last_one_is_far_enough() {
    let mut given = Given::new(1 << 20);
    assert!(given.at(SPACING - 1).is_empty());
    assert_eq!(given.at(SPACING + 5), [SPACING + 5]);
    assert_eq!(given.at(2 * SPACING + 4), [SPACING + 5]);
    assert_eq!(given.at(2 * SPACING + 5), [SPACING + 5, 2 * SPACING + 5]);
    // No other snapshot was due.
    assert!(given.shared.snapshots.candidates().unwrap().is_empty());
    // After a restart, it goes on from there.
    given.writer = SnapshotWriter::new(given.shared.clone(), &given.config, given.clock.clone());
    assert_eq!(given.at(3 * SPACING).len(), 2);
    assert_eq!(given.at(3 * SPACING + 5).len(), 3);
}

#[test]
fn after_the_interval_one_is_written_if_it_is_worth_its_bytes() {
    let mut given = Given::new(0);
    let mut due = |seq, bytes, elapsed_s| {
        given.shared.stats.snapshot_bytes.store(bytes, Ordering::Relaxed);
        let later = given.clock.now() + std::time::Duration::from_secs(elapsed_s);
        given.writer.is_due(Seq(seq), later, &given.config)
    };
    assert!(due(1, 0, 900), "nothing is known of its size");
    assert!(!due(1, 0, 899) && !due(0, 0, 900));
    assert!(!due(9_000, 11_000_000, 900), "fifteen minutes of ten events a second");
    assert!(!due(687_500, 11_000_000, 86_400) && due(687_501, 11_000_000, 900));
    given.writer.outlived(true);
    let later = given.clock.now() + given.config.interval;
    assert!(
        given.writer.is_due(Seq(1), later, &given.config),
        "the records behind the oldest one are too old"
    );
    assert!(!given.writer.is_due(Seq(0), later, &given.config), "a newer one would release nothing");
    given.writer.outlived(false);
    given.config.events = 500_000;
    let later = given.clock.now();
    assert!(given.writer.is_due(Seq(500_000), later, &given.config), "however large it is");
}

#[test]
fn one_comes_with_a_snapshot_that_is_due_anyway() {
    let mut given = Given::new(1 << 20);
    given.config.events = 1_000;
    assert_eq!(given.at(SPACING), [SPACING]);
    assert_eq!(given.shared.snapshots.candidates().unwrap().len(), 1);
}

#[test]
fn none_is_written_while_a_fold_is_rebuilt_or_without_a_budget() {
    let mut given = Given::new(1 << 20);
    let (number, _) = given.shared.rebuild.begin(&[fieldlog_projections::Commands::ID]);
    assert!(given.at(SPACING).is_empty());
    given.shared.rebuild.end(number, true);
    assert_eq!(given.at(SPACING), [SPACING]);
    // Without a budget none is kept: at the next snapshot they are deleted.
    given.config.past_bytes_max = 0;
    assert_eq!(given.at(2 * SPACING), [SPACING]);
    given.writer.begin();
    assert!(given.kept().is_empty());
}

#[test]
fn a_full_disk_keeps_none() {
    let mut given = Given::new(1 << 20);
    given.at(SPACING);
    given.writer.short_of_space(true);
    assert!(given.kept().is_empty());
    assert!(given.at(3 * SPACING).is_empty());
    given.writer.short_of_space(false);
    assert_eq!(given.at(3 * SPACING), [3 * SPACING]);
}

#[test]
fn one_that_is_too_large_is_not_written_again() {
    let mut given = Given::new(100);
    let mut records = RecordBuffer::after(Time(0));
    for device in 0..50 {
        let name = format!("device{}", u64::from(device).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let (device, source) = (DeviceId(device), "s".to_owned());
        let fact = Fact::DeviceDiscovered { device, name, source, parent: None, identity: None };
        records.push_fact(Envelope::default(), &fact);
    }
    given.shared.view.write().unwrap().apply_records(records.records(Seq(1)), Seq(50)).unwrap();
    assert!(given.at(SPACING).is_empty());
    assert!(given.writer.past_too_large.load(Ordering::Relaxed) > 100);
    assert!(!given.writer.past_is_due(Seq(9 * SPACING)));
    given.config.past_bytes_max = 1 << 20;
    assert_eq!(given.at(2 * SPACING), [2 * SPACING]);
}
