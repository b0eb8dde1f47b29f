//! A wall clock that is wrong, and is set: everything but what is shown of time goes on as if nothing had happened.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use fieldlog::clock::wall_clock;
use fieldlog::config::Config;
use fieldlog_projections::fact::AvailabilityCause;
use fieldlog_projections::{Fact, Seq, Time, Value};
use fieldlog_tests::agent::Agent;
use fieldlog_tests::logbook::Logbook;
use fieldlog_tests::proxy::{Fault, Proxy};
use fieldlog_tests::receiver::Receiver;
use fieldlog_tests::wait::until;

use super::site::{Site, arrived, assert_complete, assert_lines, http, position};

const DAY: i64 = 86_400_000_000;
/// So that a clock that jumps makes all records old, and nothing else keeps them.
const LIMITS: &str = "[[source.policy]]\nattributes = [\"slow\"]\nmin_interval_ms = 1500\n\
                      [retention]\nage_days = 1\nfree_bytes_min = 0\n\
                      [snapshots]\nevents = 1000\nkeep = 1\n";

fn config(site: &Site, sink: &str) -> Config {
    let text = site.text(&(LIMITS.to_owned() + sink));
    let text = text.replacen("client_id =", "silence_timeout_s = 3600\nclient_id =", 1);
    Config::from_toml(&text, "test").unwrap()
}

fn first(agent: &Agent) -> u64 {
    agent.handle.shared.reader.range().unwrap().unwrap().0.0
}

/// How often the clock was found to have been set.
fn steps(agent: &Agent) -> usize {
    let mut steps = 0;
    let scanned = agent.handle.shared.reader.scan(Seq(1), |chunk| {
        let facts = chunk.records().map(|record| record.unwrap().fact().unwrap());
        steps += facts.filter(|fact| matches!(fact, Fact::ClockStepped { .. })).count();
        ControlFlow::<()>::Continue(())
    });
    assert_eq!(scanned.unwrap(), None);
    steps
}

/// Sets the clock, and waits until the agent has noticed.
async fn set(offset: &AtomicI64, to: i64, agent: &Agent) {
    // It is compared with what it was a second ago, or longer.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let before = steps(agent);
    offset.store(to, Ordering::Relaxed);
    until("the step in the log", || steps(agent) > before).await;
}

/// A value that may change every 1.5 s changes, and is recorded before the clock is right again by itself.
async fn assert_intervals_end(site: &Site, agent: &Agent, value: i64) {
    for value in [-value, value] {
        site.publish("t/meter/state", format!(r#"{{"slow":{value}}}"#));
    }
    until("the end of an interval", || agent.value("meter", "slow") == Some(Value::Int(value))).await;
}

/// Log time never goes back (the logbook looks), nothing fell silent, the receiver has everything in order.
async fn assert_whole(site: &Site, receiver: Receiver, head: u64, stepped: usize) {
    let log = Logbook::read(&site.data_dir());
    let count = |is: fn(&Fact) -> bool| log.records.iter().filter(|(_, _, fact)| is(fact)).count();
    assert_eq!(count(|fact| matches!(fact, Fact::ClockStepped { .. })), stepped);
    let silence = AvailabilityCause::Silence;
    let silent = |fact: &Fact| matches!(fact, Fact::AvailabilityChanged { cause, .. } if *cause == silence);
    let silent = log.records.iter().filter(|(_, _, fact)| silent(fact)).count();
    assert_eq!(silent, 0, "a step was taken for silence");
    let (received, lines) = receiver.stop().await;
    assert_complete(&received, head);
    assert_lines(&lines, head);
    assert!(lines.lines().map(position).is_sorted());
}

static STEPPING: AtomicI64 = AtomicI64::new(0);

fn stepping() -> Time {
    Time(wall_clock().0 + STEPPING.load(Ordering::Relaxed))
}

#[tokio::test]
async fn steps_of_three_days_change_nothing_but_what_is_shown() {
    let receiver = Receiver::http().await;
    let proxy = Proxy::start(receiver.address(), Fault::Pass).await;
    let mut site = Site::new().await;
    let config = config(&site, &http(proxy.address, "order = \"strict\"\nbandwidth_bytes_per_s = 1000000"));
    let agent = Agent::start_at(config, stepping).await;
    agent.subscribed().await;
    site.post(2_500);
    site.recorded().await;
    arrived(&agent, &receiver).await;
    let snapshot = || agent.handle.shared.stats.snapshot_seq.load(Ordering::Relaxed);
    until("a snapshot that needs no early records", || snapshot() > 1_000).await;

    for (n, to) in [3 * DAY, 0, -3 * DAY, 0].into_iter().enumerate() {
        proxy.set(Fault::Refuse);
        site.post(100);
        set(&STEPPING, to, &agent).await;
        assert_intervals_end(&site, &agent, n as i64 + 1).await;
        // It tries again soon, whatever the clock says.
        proxy.set(Fault::Pass);
        site.recorded().await;
        arrived(&agent, &receiver).await;
        // What may be deleted is looked at every 5 s.
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(first(&agent), 1, "records were deleted for the age that a wrong clock gave them");
    }
    let head = agent.head();
    agent.stop().await;
    assert_whole(&site, receiver, head, 4).await;
}

static BOOTING: AtomicI64 = AtomicI64::new(0);

fn booting() -> Time {
    Time(wall_clock().0 + BOOTING.load(Ordering::Relaxed))
}

#[tokio::test]
async fn a_boot_in_1970_is_a_clock_like_any_other() {
    let receiver = Receiver::http().await;
    let mut site = Site::new().await;
    let config = config(&site, &http(receiver.address(), "order = \"strict\""));
    let in_1970 = 60_000_000 - wall_clock().0;
    for boot in 0..2 {
        BOOTING.store(in_1970, Ordering::Relaxed);
        let agent = Agent::start_at(config.clone(), booting).await;
        agent.subscribed().await;
        site.post(1_500);
        assert_intervals_end(&site, &agent, 10 * boot + 1).await;
        site.recorded().await;
        arrived(&agent, &receiver).await;

        set(&BOOTING, 0, &agent).await;
        site.post(100);
        assert_intervals_end(&site, &agent, 10 * boot + 2).await;
        site.recorded().await;
        arrived(&agent, &receiver).await;
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(first(&agent), 1, "records were deleted for the age that a wrong clock gave them");
        agent.stop().await;
    }
    let log = Logbook::read(&site.data_dir());
    assert!(log.records[0].1 < Time(DAY), "the first boot was not in 1970");
    drop(log);
    // What the last stop recorded goes at the next start.
    let agent = site.start(&config).await;
    arrived(&agent, &receiver).await;
    let head = agent.head();
    agent.stop().await;
    assert_whole(&site, receiver, head, 2).await;
}
