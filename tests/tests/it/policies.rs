//! Which values are recorded: equal values, deadbands, intervals, every value, never; and devices that go silent.

use std::time::Duration;

use fieldlog::clock::TestClock;
use fieldlog::config::{Config, SourceConfig};
use fieldlog_projections::fact::{Availability, AvailabilityCause};
use fieldlog_projections::{Fact, Value};
use fieldlog_sim::broker::{Broker, Options, Qos};
use fieldlog_tests::agent::Agent;
use fieldlog_tests::logbook::Logbook;
use fieldlog_tests::wait::until;
use tempfile::TempDir;

struct Scene {
    broker: Broker,
    agent: Agent,
    clock: TestClock,
    config: Config,
    _dir: TempDir,
}

impl Scene {
    async fn start(source: &str) -> Scene {
        let broker = Broker::bind("127.0.0.1:0", Options::default()).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let config = config(&dir, &[(&broker, source)]);
        let clock = TestClock::running();
        let agent = Agent::start_at(config.clone(), clock.clock()).await;
        agent.subscribed().await;
        Scene { broker, agent, clock, config, _dir: dir }
    }

    /// Publishes values of one attribute and waits until they are acknowledged.
    async fn publish(&self, attribute: &str, values: &[&str]) {
        publish(&self.broker, attribute, values).await;
    }

    /// Stops the agent and returns what it has recorded of an attribute.
    async fn recorded(self, attribute: &str) -> Vec<Value> {
        let log = Logbook::read(&self.agent.stop().await);
        values(&log, attribute)
    }
}

async fn publish(broker: &Broker, attribute: &str, values: &[&str]) {
    let before = broker.stats().pubacks_in;
    for value in values {
        broker.publish(&format!("t/d/{attribute}"), (*value).to_owned(), false, Qos::AtLeastOnce).unwrap();
    }
    until("PUBACKs", || broker.stats().pubacks_in >= before + values.len() as u64).await;
}

fn values(log: &Logbook, attribute: &str) -> Vec<Value> {
    log.changes().filter(|change| change.2 == attribute).map(|change| change.3.clone()).collect()
}

fn config(dir: &TempDir, sources: &[(&Broker, &str)]) -> Config {
    let mut text = format!(
        "gateway_id = \"test\"\ndata_dir = {:?}\n[log]\ncommit_delay_ms = 20\n[http]\nlisten = \"127.0.0.1:0\"\n",
        dir.path()
    );
    for (number, (broker, more)) in sources.iter().enumerate() {
        text += &format!(
            "[[source]]\nname = \"s{number}\"\naddress = \"mqtt://{}\"\nbackoff_max_s = 1\n\
             {more}\n[[source.subscription]]\ntopic = \"t/+device/+attribute\"\ndecoder = \"scalar\"\n",
            broker.local_addr()
        );
    }
    Config::from_toml(&text, "test").unwrap()
}

fn ints(values: &[i64]) -> Vec<Value> {
    values.iter().copied().map(Value::Int).collect()
}

#[tokio::test]
async fn equal_values_are_no_events() {
    let scene = Scene::start("").await;
    scene.publish("n", &["1", "1", "1.0", "2", "2", "1"]).await;
    let outcomes = scene.agent.source().outcomes;
    assert_eq!(outcomes.unchanged.load(std::sync::atomic::Ordering::Relaxed), 3);
    assert_eq!(scene.recorded("n").await, ints(&[1, 2, 1]));
}

#[tokio::test]
async fn a_deadband_is_measured_from_the_last_recorded_value() {
    let scene = Scene::start("[[source.policy]]\nattributes = [\"n\"]\ndeadband = 10").await;
    // Creeping along in small steps must not go unnoticed.
    scene.publish("n", &["100", "105", "109", "110", "101", "100", "off", "105"]).await;
    let expected =
        [Value::Int(100), Value::Int(110), Value::Int(100), Value::Text("off".into()), Value::Int(105)];
    assert_eq!(scene.recorded("n").await, expected);
}

#[tokio::test]
async fn every_value_is_recorded_if_so_asked_and_none() {
    let every = "[[source.policy]]\nattributes = [\"every\"]\nrecord = \"every\"\n";
    let never = "[[source.policy]]\nattributes = [\"nev*\"]\nrecord = \"never\"\n";
    let scene = Scene::start(&format!("{every}{never}")).await;
    scene.publish("every", &["1", "1", "1"]).await;
    scene.publish("never", &["1", "2"]).await;
    let log = Logbook::read(&scene.agent.stop().await);
    assert_eq!((values(&log, "every"), values(&log, "never")), (ints(&[1, 1, 1]), vec![]));
}

#[tokio::test]
async fn an_interval_holds_values_back_and_records_the_last() {
    let scene = Scene::start("[[source.policy]]\nattributes = [\"n\"]\nmin_interval_ms = 3600000").await;
    scene.publish("n", &["1", "2", "3", "4"]).await;
    assert_eq!(scene.agent.value("d", "n"), Some(Value::Int(1)));
    scene.clock.advance(Duration::from_secs(3_600));
    until("the last value", || scene.agent.value("d", "n") == Some(Value::Int(4))).await;
    assert_eq!(scene.recorded("n").await, ints(&[1, 4]));
}

/// It was acknowledged, so nobody would send it again.
#[tokio::test]
async fn a_value_held_back_is_recorded_at_a_stop() {
    let scene = Scene::start("[[source.policy]]\nattributes = [\"n\"]\nmin_interval_ms = 86400000").await;
    scene.publish("n", &["1", "2", "3"]).await;
    assert_eq!(scene.agent.value("d", "n"), Some(Value::Int(1)));
    assert_eq!(scene.recorded("n").await, ints(&[1, 3]));
}

#[tokio::test]
async fn a_silent_device_is_offline_until_it_is_heard_again() {
    let scene = Scene::start("silence_timeout_s = 3600").await;
    let availability = || {
        scene.agent.view(|view| view.devices.find("d").map(|(_, d)| (d.availability, d.availability_cause)))
    };
    scene.publish("n", &["1"]).await;
    let silence = AvailabilityCause::Silence;
    scene.clock.advance(Duration::from_secs(3_605));
    until("silence", || availability() == Some((Availability::Offline, silence))).await;
    // An equal value is no event, and a sign of life all the same.
    scene.publish("n", &["1"]).await;
    until("life", || availability() == Some((Availability::Online, silence))).await;
    let log = Logbook::read(&scene.agent.stop().await);
    assert_eq!(values(&log, "n"), ints(&[1]));
    assert!(log.count(|fact| matches!(fact, Fact::AvailabilityChanged { .. })) >= 2);
}

#[tokio::test]
async fn limits_and_policies_change_while_running() {
    let scene = Scene::start("[[source.subscription]]\ntopic = \"j/+device\"\ndecoder = \"json\"").await;
    let mut new = scene.config.clone();
    new.limits.quarantine_records_max = 2;
    new.limits.quarantine_per_topic_max = 0;
    let every = config(
        &scene._dir,
        &[(&scene.broker, "[[source.policy]]\nattributes = [\"n\"]\nrecord = \"every\"")],
    );
    new.sources[0].policies = every.sources[0].policies.clone();
    scene.publish("n", &["1", "1"]).await;
    scene.agent.reload(new).await;
    let is_changed = || scene.agent.view(|view| view.seq.0) == scene.agent.head() && scene.agent.head() >= 5;
    until("the change in the log", is_changed).await;
    scene.agent.subscribed().await;
    scene.publish("n", &["1", "1"]).await;
    for n in 0..5 {
        scene.broker.publish("j/d", format!("{{{n}"), false, Qos::AtLeastOnce).unwrap();
    }
    scene.publish("n", &["2"]).await;
    let log = Logbook::read(&scene.agent.stop().await);
    assert_eq!(values(&log, "n"), ints(&[1, 1, 1, 2]));
    let kept: Vec<bool> = log.quarantined().iter().map(|(_, _, payload)| !payload.is_empty()).collect();
    assert_eq!(kept, [false, false, false, true, true]);
}

#[tokio::test]
async fn many_unreadable_messages_are_a_few_events_and_one_that_counts_the_others() {
    let scene = Scene::start("[[source.subscription]]\ntopic = \"j/+device\"\ndecoder = \"json\"").await;
    for n in 0..40 {
        scene.broker.publish("j/d", format!("{{{n}"), false, Qos::AtLeastOnce).unwrap();
    }
    scene.publish("n", &["1"]).await;
    let before = scene.agent.head();
    scene.clock.advance(Duration::from_secs(601));
    until("the summary", || scene.agent.head() > before).await;
    for n in 40..45 {
        scene.broker.publish("j/d", format!("{{{n}"), false, Qos::AtLeastOnce).unwrap();
    }
    scene.publish("n", &["2"]).await;
    let log = Logbook::read(&scene.agent.stop().await);
    assert_eq!(log.count(|fact| matches!(fact, Fact::InputQuarantined { .. })), 3);
    // The rest is recorded at the stop.
    for expected in [37, 5] {
        let is = |fact: &Fact| matches!(fact, Fact::QuarantineSummarised { count, .. } if *count == expected);
        assert_eq!(log.count(is), 1, "{expected}");
    }
}

/// Changes that follow each other faster than a connection ends: the last one counts, and one connection is left.
#[tokio::test]
async fn the_last_of_many_reloads_counts() {
    let scene = Scene::start("").await;
    for keep_alive in 6..=12 {
        let mut new = scene.config.clone();
        new.sources[0].keep_alive = Duration::from_secs(keep_alive);
        new.sources[0].client_id = format!("client-{keep_alive}");
        scene.agent.reload(new).await;
    }
    let connected = |id: &str| scene.broker.session(id).is_some_and(|session| session.connected);
    until("the last one", || connected("client-12")).await;
    until("the others", || !(6..12).any(|id| connected(&format!("client-{id}")))).await;
    scene.agent.subscribed().await;
    scene.publish("n", &["1"]).await;
    assert_eq!(scene.agent.details().client_id, "client-12");
    assert_eq!(scene.recorded("n").await, ints(&[1]));
}

#[tokio::test]
async fn sources_come_and_go_while_running() {
    let (first, second) = tokio::join!(
        Broker::bind("127.0.0.1:0", Options::default()),
        Broker::bind("127.0.0.1:0", Options::default())
    );
    let (first, second) = (first.unwrap(), second.unwrap());
    let dir = tempfile::tempdir().unwrap();
    let both = config(&dir, &[(&first, ""), (&second, "")]);
    let only = |number: usize| Config { sources: vec![both.sources[number].clone()], ..both.clone() };
    let agent = Agent::start(only(0)).await;
    agent.subscribed().await;
    publish(&first, "n", &["1"]).await;

    agent.reload(both.clone()).await;
    let session = |source: &SourceConfig, broker: &Broker| {
        broker.session(&source.client_id).is_some_and(|session| session.connected)
    };
    let granted = |number: usize| {
        agent.handle.sources.views().get(number).is_some_and(|view| !view.status.details().granted.is_empty())
    };
    until("the new source", || session(&both.sources[1], &second) && granted(1)).await;
    publish(&second, "n", &["2"]).await;
    assert!(session(&both.sources[0], &first), "the other is not touched");

    agent.reload(only(1)).await;
    until("the end of the old source", || !session(&both.sources[0], &first)).await;
    publish(&second, "n", &["3"]).await;

    agent.reload(both.clone()).await;
    until("the old source", || session(&both.sources[0], &first)).await;
    publish(&first, "n", &["4"]).await;
    let log = Logbook::read(&agent.stop().await);
    assert_eq!(values(&log, "n"), ints(&[1, 2, 3, 4]));
}
