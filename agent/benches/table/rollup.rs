//! Thinning: folds old records into the buckets of the archive, and measures the result.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use fieldlog::log::{Commit, Log, LogOptions};
use fieldlog::retention::rollup::{Job, roll_up};
use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::{AttrId, DeviceId, Epoch, Fact, Time, Value};

use crate::{EVENTS, Table};

const DEVICES: u64 = 100;
/// Events in one commit.
const EACH: u64 = 1_000;
/// An event every 100 ms: 28 windows of an hour.
const STEP_MICROS: i64 = 100_000;
const WINDOW_S: u32 = 3_600;

/// Thins all but the last hour of a log of a million events to hours.
pub fn measure(table: &mut Table) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = LogOptions { cache_bytes: 4 << 20, quick_repair: false, quarantine_records_max: 1000 };
    let mut log = Log::open(dir.path(), options, Epoch(1)).expect("a log");
    fill(&mut log);
    let took = roll_up_all(&mut log);
    let size = log.reader().rollups_size().expect("the archive's size");
    // Each row is a window, with one bucket per device and attribute.
    let buckets = size.rows as f64 * 2.0 * DEVICES as f64;
    let rate = EVENTS as f64 / took.as_secs_f64();
    table.info("1 M events of 2 numbers thinned to hours", format!("{rate:.0} events/s"));
    table.info("archive on disk per bucket", format!("{:.1} bytes", size.bytes as f64 / buckets));
    log.close().expect("a clean close");
}

/// Two numbers from each device in turn.
fn fill(log: &mut Log) {
    let mut wall = Time::from_secs(1_700_000_000);
    for commit in 0..EVENTS / EACH {
        let mut body = RecordBuffer::after(log.last_time());
        for n in commit * EACH..(commit + 1) * EACH {
            wall.0 += STEP_MICROS;
            let value = |salt: u64| Value::Float(20.0 + ((n * 7_919 + salt) % 100) as f64 / 10.0);
            let changes = vec![(AttrId(0), value(3)), (AttrId(1), value(71))];
            let fact = Fact::StateChanged { device: DeviceId((n % DEVICES) as u32), changes };
            body.push_fact(Envelope { wall, ..Envelope::default() }, &fact);
        }
        log.append(&body, &[]).expect("a commit");
    }
}

/// Runs jobs and stores their results until there is nothing left to fold.
fn roll_up_all(log: &mut Log) -> Duration {
    let begin = Instant::now();
    loop {
        let job = Job { length_s: WINDOW_S, before: log.head(), head: (log.head(), log.last_time()) };
        let periods = roll_up(&log.reader(), job, &AtomicBool::new(false)).expect("a readable log");
        if periods.is_empty() {
            return begin.elapsed();
        }
        let nothing = RecordBuffer::after(log.last_time());
        log.commit(&Commit { rollups: &periods, ..Commit::of(&nothing) }).expect("a commit");
    }
}
