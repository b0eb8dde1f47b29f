//! Damage in a cleanly closed log: one spot of the file is changed, and the log is opened and read to the end. It must
//! give exactly its old content or refuse; only a cursor may be reported as lost.
//!
//! `FIELDLOG_SEED=n` replays the damage of one seed; `FIELDLOG_CORRUPTIONS=n` sets their number.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use fieldlog::log::{Commit, Log, LogError, LogOptions, LogReader};
use fieldlog_projections::Epoch;
use fieldlog_tests::fault_disk::FaultDisk;
use fieldlog_tests::rng::Rng;

pub mod content;
pub mod damage;
mod named;

use content::{Content, Original, cursor, original};
use damage::Damage;

use crate::crash::records::{kept, make};

const CORRUPTIONS: u64 = 500;
const OPTIONS: LogOptions =
    LogOptions { cache_bytes: 1 << 20, quick_repair: false, quarantine_records_max: 100 };

/// The result of opening a damaged log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It has its whole content.
    Same,
    /// It cannot be opened.
    NotOpened,
    /// It opens, and reading it fails.
    NotRead,
    /// Everything can be read, but appending fails.
    NotContinued,
    /// All but some cursors, which it reports as lost.
    CursorsLost,
    /// The content differs, without an error.
    Different(&'static str),
    /// The process would have died.
    Panic,
}

fn open_on(disk: &FaultDisk) -> Result<Log, LogError> {
    Log::open_on(disk.clone(), Arc::default(), OPTIONS, Epoch(99))
}

/// Appends to a damaged log without missing content, as the agent would, and reads it again; returns whether it then
/// has everything.
fn go_on(mut log: Log, disk: &FaultDisk, before: &Content, original: &Original) -> Result<bool, String> {
    let mut rng = Rng::new(5);
    let (mut view, mut records) = (before.view.clone(), before.records.clone());
    for _ in 0..4 {
        let made = make(&mut rng, &view, 25, 60);
        let cursors = [("site".to_owned(), cursor(120))];
        let commit = Commit { quarantine: &made.quarantine, cursors: &cursors, ..Commit::of(&made.body) };
        let committed = log.commit(&commit).map_err(|error| lasting(&error))?;
        view.apply_records(made.body.records(committed.first), committed.last).unwrap();
        records.extend(kept(made.body.records(committed.first)));
    }
    log.close().map_err(|error| lasting(&error))?;
    let log = open_on(disk).map_err(|error| lasting(&error))?;
    let after = Content::of(&log, &original.snapshots)?;
    log.close().map_err(|error| lasting(&error))?;
    Ok(after.records == records && after.view == view && after.epoch == before.epoch)
}

/// Opens and reads `bytes` and compares the content with the original.
fn outcome(bytes: Vec<u8>, original: &Original) -> (Outcome, String) {
    let tried = catch_unwind(AssertUnwindSafe(|| {
        let disk = FaultDisk::with_content(bytes, Rng::new(1));
        let log = match open_on(&disk) {
            Ok(log) => log,
            Err(error) => return (Outcome::NotOpened, lasting(&error)),
        };
        let content = match Content::of(&log, &original.snapshots) {
            Ok(content) => content,
            Err(words) => return (Outcome::NotRead, words),
        };
        let outcome = original.content.held_against(&content);
        if matches!(outcome, Outcome::Different(_)) {
            return (outcome, String::new());
        }
        match go_on(log, &disk, &content, original) {
            Ok(true) => (outcome, String::new()),
            Ok(false) => (Outcome::Different("what was appended"), String::new()),
            Err(error) => (Outcome::NotContinued, error),
        }
    }));
    tried.unwrap_or((Outcome::Panic, String::new()))
}

/// The words of an error that must be lasting, so that a restart cannot help.
fn lasting(error: &LogError) -> String {
    assert!(error.is_lasting(), "would be tried again for ever: {error}");
    error.to_string()
}

fn environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

#[test]
fn damage_after_a_clean_close_is_refused_or_harmless() {
    let original = original();
    assert_eq!(outcome(original.bytes.clone(), &original).0, Outcome::Same);
    let seeds = match environment("FIELDLOG_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..1 + environment("FIELDLOG_CORRUPTIONS").unwrap_or(CORRUPTIONS),
    };
    let next = AtomicU64::new(seeds.start);
    let tally = Mutex::new(BTreeMap::<(&str, Outcome), usize>::new());
    let wrong = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(2, |n| n.get().min(8));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if !seeds.contains(&seed) {
                        break;
                    }
                    let mut rng = Rng::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                    let damage = Damage::new(&mut rng, &original);
                    let (outcome, words) = outcome(damage.done_to(&original.bytes), &original);
                    if matches!(outcome, Outcome::Different(_) | Outcome::Panic) {
                        wrong.lock().unwrap().push(format!("seed {seed}: {damage:?}: {outcome:?} {words}"));
                    }
                    *tally.lock().unwrap().entry((damage.name(), outcome)).or_default() += 1;
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap();
    println!("{} bytes, {} live pages: {tally:#?}", original.bytes.len(), original.live.len());
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} went wrong; replay with FIELDLOG_SEED:\n{}", wrong.len(), wrong.join("\n"));
    let refused: usize =
        tally.iter().filter(|((_, outcome), _)| *outcome != Outcome::Same).map(|(_, count)| count).sum();
    assert!(seeds.end - seeds.start == 1 || refused as u64 * 2 > seeds.end - seeds.start, "{refused}");
}
