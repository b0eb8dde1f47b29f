//! The crash matrix: seeded points, each with a few runs of one log that end in a power cut, a full disk or an I/O
//! error at a random operation. After each run the log is opened and compared with what was promised.
//!
//! `FIELDLOG_SEED=n` replays the point of one seed; `FIELDLOG_CRASH_POINTS=n` sets their number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use fieldlog::log::{JournalBounds, Log, LogError, LogOptions};
use fieldlog_projections::{Epoch, Window};
use fieldlog_tests::fault_disk::{Fault, FaultDisk, On, Plan};
use fieldlog_tests::rng::Rng;

mod commanded;
mod direct;
pub mod files;
mod indexed;
pub mod records;
mod thinning;
mod through_writer;

/// Seed of the first point. Set another one to test other points.
const SEED: u64 = 1;
const POINTS: usize = 2_000;

/// Counters over all points: a matrix without faults proves nothing.
#[derive(Debug, Default)]
pub struct Tally {
    points: AtomicUsize,
    through_writer: AtomicUsize,
    faults: AtomicUsize,
    failed_opens: AtomicUsize,
    failed_commits: AtomicUsize,
    /// Failed commits whose records were kept.
    ambiguous_kept: AtomicUsize,
    records: AtomicUsize,
    acks: AtomicUsize,
    snapshots_used: AtomicUsize,
    snapshots_passed_over: AtomicUsize,
    /// Commits that went to the journal.
    journal_commits: AtomicUsize,
    /// Commits that only the journal had when the log was opened.
    journal_found: AtomicUsize,
    thinning: AtomicUsize,
    commanded: AtomicUsize,
    commands_accepted: AtomicUsize,
    commands_published: AtomicUsize,
    /// Commands that were recorded, but not answered.
    commands_unanswered: AtomicUsize,
    /// Rows of the index that were checked.
    index_rows: AtomicUsize,
    /// Periods stored in the archive.
    archived: AtomicUsize,
    /// Commits that deleted archived records.
    trimmed: AtomicUsize,
}

impl Tally {
    /// Records at the end.
    #[allow(dead_code)] // for the soak suite
    pub fn records(&self) -> usize {
        self.records.load(Ordering::Relaxed)
    }
}

fn add(counter: &AtomicUsize, by: usize) {
    counter.fetch_add(by, Ordering::Relaxed);
}

fn environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

#[test]
fn what_was_acknowledged_survives() {
    let tally = Tally::default();
    if let Some(seed) = environment("FIELDLOG_SEED") {
        point(seed, &tally);
        println!("{tally:?}");
        return;
    }
    let points = environment("FIELDLOG_CRASH_POINTS").unwrap_or(POINTS as u64);
    let next = AtomicU64::new(SEED);
    let workers = std::thread::available_parallelism().map_or(2, |n| n.get().min(8));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= SEED + points {
                        break;
                    }
                    let replay = Replay(seed);
                    point(seed, &tally);
                    drop(replay);
                }
            });
        }
    });
    println!("{tally:?}");
    if points >= POINTS as u64 {
        let happened = |counter: &AtomicUsize, least: usize| counter.load(Ordering::Relaxed) >= least;
        assert!(happened(&tally.faults, POINTS), "{tally:?}");
        assert!(happened(&tally.failed_opens, POINTS / 10), "{tally:?}");
        assert!(happened(&tally.failed_commits, POINTS / 10), "{tally:?}");
        assert!(happened(&tally.ambiguous_kept, POINTS / 100), "{tally:?}");
        assert!(happened(&tally.journal_commits, POINTS / 2), "{tally:?}");
        assert!(happened(&tally.journal_found, POINTS / 4), "{tally:?}");
        assert!(happened(&tally.through_writer, POINTS / 4), "{tally:?}");
        assert!(happened(&tally.thinning, POINTS / 7), "{tally:?}");
        assert!(happened(&tally.commanded, POINTS / 7), "{tally:?}");
        assert!(happened(&tally.commands_accepted, POINTS), "{tally:?}");
        assert!(happened(&tally.commands_published, POINTS), "{tally:?}");
        assert!(happened(&tally.commands_unanswered, POINTS / 100), "{tally:?}");
        assert!(happened(&tally.index_rows, POINTS / 10), "{tally:?}");
        assert!(happened(&tally.archived, POINTS), "{tally:?}");
        assert!(happened(&tally.trimmed, POINTS / 10), "{tally:?}");
        assert!(happened(&tally.snapshots_used, POINTS / 10), "{tally:?}");
        assert!(happened(&tally.snapshots_passed_over, POINTS / 20), "{tally:?}");
    }
}

/// Prints how to replay the point that panicked.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay this point with FIELDLOG_SEED={} cargo test -p fieldlog-tests crash", self.0);
        }
    }
}

/// The point of one seed.
pub fn point(seed: u64, tally: &Tally) {
    let mut rng = Rng::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    add(&tally.points, 1);
    match rng.below(100) {
        0..35 => {
            add(&tally.through_writer, 1);
            through_writer::point(&mut rng, tally);
        }
        80..100 => {
            add(&tally.commanded, 1);
            commanded::point(&mut rng, tally);
        }
        35..55 => {
            add(&tally.thinning, 1);
            thinning::point(&mut rng, tally);
        }
        _ => direct::point(&mut rng, tally),
    }
}

/// Plans the end of a run.
fn plan_fault(disk: &FaultDisk, rng: &mut Rng, operations: usize) {
    use std::io::ErrorKind::{Other, StorageFull};
    let (on, fault) = match rng.below(12) {
        0..5 => (*rng.pick(&[On::Any, On::Change, On::Sync, On::Write]), Fault::PowerCut),
        5 => (*rng.pick(&[On::Any, On::Read, On::Write, On::Sync]), Fault::Error(Other)),
        6 => (*rng.pick(&[On::Write, On::SetLen]), Fault::Error(StorageFull)),
        7 => (*rng.pick(&[On::Write, On::SetLen]), Fault::ErrorsFromNow(StorageFull)),
        8 => (*rng.pick(&[On::Write, On::Sync, On::Read]), Fault::ErrorsFromNow(Other)),
        9 => (On::Sync, Fault::SyncLoses),
        10 => (On::Sync, Fault::SyncKeeps),
        _ => (On::SetLen, Fault::PowerCut),
    };
    let operations = match on {
        On::Sync => operations / 8,
        On::SetLen => 3,
        _ => operations,
    };
    disk.plan(Plan { on, nth: 1 + rng.below(operations), fault });
}

/// Opens the log for a run; `None` if a fault prevents it.
fn begin(disk: &FaultDisk, rng: &mut Rng, tally: &Tally) -> Option<Log> {
    let quick_repair = rng.chance(25);
    match open(disk, quick_repair, rng, tally) {
        Ok(log) => Some(log),
        Err(error) => {
            assert!(disk.fired(), "the log does not open on a disk without faults: {error}");
            add(&tally.failed_opens, 1);
            None
        }
    }
}

/// Ends a run, in one way or another, and restarts the disk.
fn end(log: Option<Log>, disk: &FaultDisk, rng: &mut Rng, tally: &Tally) {
    if let Some(log) = log {
        add(&tally.journal_commits, log.disk().journal_commits.load(Ordering::Relaxed) as usize);
        if rng.chance(20) {
            let _ = log.close();
        } else {
            disk.cut();
            drop(log);
        }
    }
    add(&tally.faults, usize::from(disk.fired()));
    come_back(disk, rng);
}

/// Restarts the disk after a run.
fn come_back(disk: &FaultDisk, rng: &mut Rng) {
    if rng.chance(75) {
        disk.crash(*rng.pick(&[0, 5, 50, 95, 100]));
    } else {
        disk.restart();
    }
}

const QUARANTINE_RECORDS_MAX: u64 = 20;

fn windows() -> Vec<Window> {
    vec![Window { length_s: 60, keep: 5 }, Window { length_s: 3_600, keep: 5 }]
}

fn open(disk: &FaultDisk, quick_repair: bool, rng: &mut Rng, tally: &Tally) -> Result<Log, LogError> {
    let options =
        LogOptions { cache_bytes: 1 << 20, quick_repair, quarantine_records_max: QUARANTINE_RECORDS_MAX };
    let ring = disk.beside();
    let there = !ring.content().is_empty();
    let beside = || Ok(there.then(|| Arc::new(ring.clone()) as Arc<_>));
    let mut log = Log::open_beside(disk.clone(), beside, Default::default(), options, Epoch(rng.next_u64()))?;
    add(&tally.journal_found, log.disk().journal_found.load(Ordering::Relaxed) as usize);
    match rng.below(10) {
        0 => log.give_up_journal()?,
        1 => {}
        _ => {
            // Small ones, so that they are written over and over.
            let blocks = *rng.pick(&[3, 8, 40]);
            let move_bytes = *rng.pick(&[300, 4_000, 60_000]);
            log.use_journal_on(ring.clone(), blocks, JournalBounds { move_bytes })?;
        }
    }
    Ok(log)
}
