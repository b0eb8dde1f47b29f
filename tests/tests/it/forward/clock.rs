//! A wall clock that is wrong and then set: everything except the displayed times must continue normally.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fieldlog::clock::TestClock;
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
/// Longer than the interval of retention scans, 5 s.
const KEEPER: Duration = Duration::from_secs(6);
/// Of `slow` in [`LIMITS`].
const INTERVAL: Duration = Duration::from_millis(1_500);
/// A jump of the clock makes all records old, and nothing else keeps them.
const LIMITS: &str = "[[source.policy]]\nattributes = [\"slow\"]\nmin_interval_ms = 1500\n\
                      [retention]\nage_days = 1\nfree_bytes_min = 0\n\
                      [snapshots]\nevents = 1000\nkeep = 1\n";

fn config(site: &Site, sink: &str) -> Config {
    let text = site.text(&(LIMITS.to_owned() + sink));
    let text = text.replacen("client_id =", "silence_timeout_s = 3600\nclient_id =", 1);
    Config::from_toml(&text, "test").unwrap()
}

fn first(agent: &Agent) -> u64 {
    agent.first().0
}

/// Number of recorded clock steps.
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

/// Steps the clock by so many microseconds, and waits until the agent has noticed.
async fn set(clock: &TestClock, by: i64, agent: &Agent) {
    let before = steps(agent);
    clock.step(by);
    clock.advance(Duration::from_secs(1));
    until("the step in the log", || steps(agent) > before).await;
}

/// Changes a value with an interval of 1.5 s, and checks that it is recorded when that has elapsed.
async fn assert_intervals_end(site: &Site, clock: &TestClock, agent: &Agent, value: i64) {
    for value in [-value, value] {
        site.publish("t/meter/state", format!(r#"{{"slow":{value}}}"#));
    }
    site.recorded().await;
    clock.advance(INTERVAL);
    until("the end of an interval", || agent.value("meter", "slow") == Some(Value::Int(value))).await;
}

/// Log time never goes back (the logbook checks this), nothing fell silent, and the receiver has everything in order.
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

#[tokio::test]
async fn steps_of_three_days_change_nothing_but_what_is_shown() {
    let receiver = Receiver::http().await;
    let proxy = Proxy::start(receiver.address(), Fault::Pass).await;
    let mut site = Site::new().await;
    let config = config(&site, &http(proxy.address, "order = \"strict\"\nbandwidth_bytes_per_s = 1000000"));
    let clock = TestClock::running();
    let agent = site.start_at(&config, &clock).await;
    site.post(2_500);
    site.recorded().await;
    arrived(&agent, &receiver).await;
    let snapshot = || agent.handle.shared.stats.snapshot_seq.load(Ordering::Relaxed);
    until("a snapshot that needs no early records", || snapshot() > 1_000).await;

    for (n, by) in [3 * DAY, -3 * DAY, -3 * DAY, 3 * DAY].into_iter().enumerate() {
        proxy.set(Fault::Refuse);
        site.post(100);
        set(&clock, by, &agent).await;
        assert_intervals_end(&site, &clock, &agent, n as i64 + 1).await;
        // It tries again soon, whatever the clock says.
        proxy.set(Fault::Pass);
        site.recorded().await;
        arrived(&agent, &receiver).await;
        agent.pass(&clock, KEEPER).await;
        assert_eq!(first(&agent), 1, "records were deleted for the age that a wrong clock gave them");
    }
    let head = agent.head();
    agent.stop().await;
    assert_whole(&site, receiver, head, 4).await;
}

#[tokio::test]
async fn a_boot_in_1970_is_a_clock_like_any_other() {
    let receiver = Receiver::http().await;
    let mut site = Site::new().await;
    let config = config(&site, &http(receiver.address(), "order = \"strict\""));
    for boot in 0..2 {
        let clock = TestClock::running();
        let right = clock.wall().0;
        clock.set_wall(Time(60_000_000));
        let agent = site.start_at(&config, &clock).await;
        site.post(1_500);
        assert_intervals_end(&site, &clock, &agent, 10 * boot + 1).await;
        site.recorded().await;
        arrived(&agent, &receiver).await;

        set(&clock, right - clock.wall().0, &agent).await;
        site.post(100);
        assert_intervals_end(&site, &clock, &agent, 10 * boot + 2).await;
        site.recorded().await;
        arrived(&agent, &receiver).await;
        agent.pass(&clock, KEEPER).await;
        assert_eq!(first(&agent), 1, "records were deleted for the age that a wrong clock gave them");
        agent.stop().await;
    }
    let log = Logbook::read(&site.data_dir());
    assert!(log.records[0].1 < Time(DAY), "the first boot was not in 1970");
    drop(log);
    // Records of the last stop are deleted at the next start.
    let agent = site.start(&config).await;
    arrived(&agent, &receiver).await;
    let head = agent.head();
    agent.stop().await;
    assert_whole(&site, receiver, head, 2).await;
}
