//! A wall clock that is wrong across restarts, and log time that is far ahead because of it.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use fieldlog::clock::{Clock, TestClock};
use fieldlog::log::Log;
use fieldlog_projections::chunk::RecordBuffer;
use fieldlog_projections::{AttrId, DeviceId, Epoch, Fact, Seq, Time, Value};
use fieldlog_tests::agent::Agent;
use fieldlog_tests::rng::Rng;
use fieldlog_tests::wait::until;

use crate::history::{self, DAY_S, at, config};
use crate::rig::{OPTIONS, scratch};

mod corrected;

/// Further lines of the configuration.
const KEEP: &str = "[snapshots]\nkeep = 1\n";
/// Longer than the interval of retention scans, 5 s.
const KEEPER: Duration = Duration::from_secs(6);

/// A device that has a number: `meter`, `power`.
fn open(dir: &Path) -> Log {
    Log::open(dir, OPTIONS, Epoch(7)).unwrap()
}

fn introduce(log: &mut Log, at_s: i64) {
    let mut body = RecordBuffer::after(log.last_time());
    history::introduce(&mut body, at_s, &["meter"], &["power", "note"]);
    log.append(&body, &[]).unwrap();
}

/// The device's value at a time of the wall clock, one commit each, so that there are many chunks.
fn report(log: &mut Log, at_s: i64, value: f64) {
    let mut body = RecordBuffer::after(log.last_time());
    // Incompressible, or a hundred records would be one chunk.
    let mut rng = Rng::new(value.to_bits());
    let note = (0..80).map(|_| char::from(b'0' + rng.below(75) as u8)).collect::<String>();
    let changes = vec![(AttrId(0), Value::Float(value)), (AttrId(1), Value::Text(note.as_str().into()))];
    body.push_fact(at(at_s), &Fact::StateChanged { device: DeviceId(0), changes });
    log.append(&body, &[]).unwrap();
}

fn facts(agent: &Agent, is: fn(&Fact) -> bool) -> usize {
    let mut count = 0;
    let scanned = agent.handle.shared.reader.scan(Seq(1), |chunk| {
        count += chunk.records().filter(|record| is(&record.as_ref().unwrap().fact().unwrap())).count();
        ControlFlow::<()>::Continue(())
    });
    assert_eq!(scanned.unwrap(), None);
    count
}

#[tokio::test]
async fn a_jump_of_the_clock_deletes_nothing_however_often_the_agent_restarts() {
    let dir = scratch();
    let now_s = Clock::system().wall().0 / 1_000_000;
    let mut log = open(dir.path());
    introduce(&mut log, now_s - 3_600);
    // More than a page, so that there is a chunk that can be deleted.
    (0..500).for_each(|n| report(&mut log, now_s - 3_600 + n, (n * n % 9_973) as f64 / 7.0));
    log.close().unwrap();

    let (config, clock) = (config(dir.path(), "age_days = 1", KEEP), TestClock::running());
    let agent = Agent::start_at(config.clone(), clock.clock()).await;
    agent.pass(&clock, KEEPER).await;
    clock.step(730 * DAY_S * 1_000_000);
    clock.advance(Duration::from_secs(1));
    let stepped = || facts(&agent, |fact| matches!(fact, Fact::ClockStepped { .. }));
    until("the step in the log", || stepped() > 0).await;
    // The last stop leaves a snapshot that does not need the old records.
    agent.stop().await;
    for _ in 0..2 {
        let agent = Agent::start_at(config.clone(), clock.clock()).await;
        agent.pass(&clock, KEEPER).await;
        assert_eq!(agent.first(), Seq(1), "records were deleted for the age that a wrong clock gave them");
        assert_eq!(facts(&agent, |fact| matches!(fact, Fact::Trimmed { .. })), 0);
        agent.stop().await;
    }
}
