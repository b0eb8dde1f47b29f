//! The agent with a broker that misbehaves by a script. After each fault the same invariants hold: what was
//! acknowledged is in the log, acknowledgements come in order and for messages that were sent, no value is recorded
//! twice, and the agent reconnects.

use std::collections::HashSet;
use std::time::Duration;

use fieldlog::config::{Config, Protocol};
use fieldlog_projections::Value;
use fieldlog_sim::broker::fault::{Action, Behaviour, PacketIds, Point, Script, SubscribeReasonCode};
use fieldlog_sim::broker::{Broker, Options, Qos};
use fieldlog_tests::agent::Agent;
use fieldlog_tests::logbook::Logbook;
use fieldlog_tests::wait::until;
use tempfile::TempDir;

const CLIENT: &str = "fieldlog-scripted";
/// Number of devices, and so of messages per round; more than the broker's window, so that it must wait for
/// acknowledgements.
const DEVICES: usize = 50;

pub const BOTH: [Protocol; 2] = [Protocol::V5, Protocol::V4];

/// A broker with a script, an agent, and their task.
pub struct Scene {
    pub broker: Broker,
    pub agent: Agent,
    config: Config,
    _dir: TempDir,
    rounds: i64,
}

pub fn config(dir: &TempDir, broker: &Broker, protocol: Protocol) -> Config {
    let level = if protocol == Protocol::V5 { 5 } else { 4 };
    let text = format!(
        r#"
        gateway_id = "test"
        data_dir = {:?}
        [log]
        commit_delay_ms = 20
        [http]
        listen = "127.0.0.1:0"
        [[source]]
        name = "plant"
        address = "mqtt://{}"
        protocol = {level}
        client_id = "{CLIENT}"
        backoff_max_s = 1
        connect_timeout_s = 2
        [[source.subscription]]
        topic = "t/+device/state"
        decoder = "json"
        "#,
        dir.path(),
        broker.local_addr()
    );
    Config::from_toml(&text, "test").unwrap()
}

impl Scene {
    /// Starts both; the agent may be refused at first.
    pub async fn start(
        protocol: Protocol,
        script: impl IntoIterator<Item = Behaviour>,
        change: impl FnOnce(&mut Config),
    ) -> Scene {
        let broker = Broker::bind("127.0.0.1:0", Options::scripted(Script::new(script))).await.unwrap();
        Scene::with_broker(broker, protocol, change).await
    }

    pub async fn with_broker(broker: Broker, protocol: Protocol, change: impl FnOnce(&mut Config)) -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(&dir, &broker, protocol);
        // Below the configurable minimum, so that a dead connection is noticed within a test.
        config.sources[0].keep_alive = Duration::from_secs(1);
        change(&mut config);
        let agent = Agent::start(config.clone()).await;
        Scene { broker, agent, config, _dir: dir, rounds: 0 }
    }

    /// Stops the agent and starts it again.
    pub async fn restart_agent(mut self) -> Scene {
        self.agent.stop().await;
        self.agent = Agent::start(self.config.clone()).await;
        self
    }

    /// Publishes one new value for every device.
    pub fn publish_round(&mut self) {
        self.rounds += 1;
        for device in 0..DEVICES {
            let payload = format!(r#"{{"n":{},"constant":true}}"#, self.rounds);
            self.broker.publish(&format!("t/d{device}/state"), payload, false, Qos::AtLeastOnce).unwrap();
        }
    }

    /// Waits until the agent has the newest value of every device and the broker every acknowledgement.
    pub async fn settled(&self) {
        let newest = Some(Value::Int(self.rounds));
        let all = || (0..DEVICES).all(|device| self.agent.value(&format!("d{device}"), "n") == newest);
        until("the newest values", all).await;
        self.acknowledged().await;
    }

    /// Waits until the broker has every acknowledgement.
    pub async fn acknowledged(&self) {
        until("PUBACKs", || {
            self.broker.session(CLIENT).is_some_and(|s| s.connected && s.in_flight + s.queued == 0)
        })
        .await;
    }

    /// Waits until the agent has been accepted this many times.
    pub async fn connections(&self, accepted: u64) {
        let status = self.agent.source().status;
        until("the next connection", || status.connections.get() >= accepted && status.is_connected()).await;
    }

    /// Stops the agent and checks the invariants. `stray` PUBACKs are for packets that the script made up.
    pub async fn finish(self, stray: u64) -> Logbook {
        let log = Logbook::read(&self.agent.stop().await);
        let stats = self.broker.stats();
        assert_eq!((stats.stray_acks, stats.misordered_acks), (stray, 0), "{stats:?}");
        log.assert_no_equal_values(&[]);
        let recorded: HashSet<(&str, i64)> =
            log.changes().filter_map(|change| number(change.1, change.3)).collect();
        let quarantined: HashSet<&str> = log.quarantined().iter().map(|(topic, ..)| *topic).collect();
        for acked in self.broker.acked() {
            let kept = quarantined.contains(acked.topic.as_str())
                || sent(&acked.topic, &acked.payload)
                    .is_some_and(|(device, n)| recorded.contains(&(&*device, n)));
            assert!(kept, "acknowledged and not in the log: {acked:?}");
        }
        self.broker.shutdown().await;
        log
    }
}

fn number<'a>(device: &'a str, value: &Value) -> Option<(&'a str, i64)> {
    match value {
        Value::Int(n) => Some((device, *n)),
        _ => None,
    }
}

/// Device and value in one of our messages.
fn sent(topic: &str, payload: &[u8]) -> Option<(String, i64)> {
    let device = topic.strip_prefix("t/")?.strip_suffix("/state")?;
    let payload: serde_json::Value = serde_json::from_slice(payload).ok()?;
    Some((device.to_owned(), payload.get("n")?.as_i64()?))
}

/// Plays a script during which the agent must connect `connections` times, with a round before and a round after.
async fn play(script: Vec<Behaviour>, connections: u64) {
    for protocol in BOTH {
        let mut scene = Scene::start(protocol, script.clone(), |_| {}).await;
        scene.agent.subscribed().await;
        scene.publish_round();
        scene.connections(connections).await;
        scene.settled().await;
        scene.publish_round();
        scene.settled().await;
        assert_eq!(scene.agent.source().status.connections.get(), connections, "{protocol:?}");
        let log = scene.finish(0).await;
        // Every value once: the redelivered ones equalled the recorded ones.
        assert_eq!(log.changes().filter(|(_, _, attribute, _)| *attribute == "n").count(), 2 * DEVICES);
    }
}

#[tokio::test]
async fn behaves() {
    play(vec![], 1).await;
}

#[tokio::test]
async fn the_connection_ends_between_publish_and_puback() {
    play(vec![Behaviour::close_after_publishes(10)], 2).await;
}

#[tokio::test]
async fn the_connection_ends_between_commit_and_puback() {
    play(vec![Behaviour::close_after_ignored_pubacks(15), Behaviour::close_after_ignored_pubacks(3)], 3)
        .await;
}

#[tokio::test]
async fn the_connection_is_reset_with_messages_under_way() {
    play(vec![Behaviour::default().then(Point::Publishes(12), Action::Reset)], 2).await;
}

/// Several values of one attribute in flight: a redelivered one is older than the recorded one, and the agent cannot
/// know that it is not new. The last state is the newest, since the broker sends in order.
#[tokio::test]
async fn values_of_one_device_that_come_again_end_with_the_newest() {
    for protocol in BOTH {
        let script = [Behaviour::close_after_ignored_pubacks(15)];
        let scene = Scene::start(protocol, script, |_| {}).await;
        scene.agent.subscribed().await;
        for n in 1..=15 {
            scene.broker.publish("t/one/state", format!("{{\"n\":{n}}}"), false, Qos::AtLeastOnce).unwrap();
        }
        scene.connections(2).await;
        scene.acknowledged().await;
        until("the newest value", || scene.agent.value("one", "n") == Some(Value::Int(15))).await;
        let log = scene.finish(0).await;
        assert_eq!(log.state()["one"]["n"], &Value::Int(15));
        assert!((15..=30).contains(&log.changes().count()));
    }
}

#[tokio::test]
async fn every_publish_comes_twice() {
    let twice = Behaviour { duplicate_publishes: true, ..Behaviour::default() };
    play(vec![twice.clone().then(Point::PubAcks(11), Action::Close), twice], 2).await;
}

#[tokio::test]
async fn packet_ids_come_in_any_order() {
    let ids = |packet_ids| Behaviour { packet_ids: Some(packet_ids), ..Behaviour::default() };
    play(vec![ids(PacketIds::Descending)], 1).await;
    play(vec![ids(PacketIds::Random { seed: 7 })], 1).await;
    let close = |behaviour: Behaviour| behaviour.then(Point::Publishes(10), Action::Close);
    let renumbered = Behaviour { renumber: true, ..ids(PacketIds::Sequence((1..=20).rev().collect())) };
    play(vec![close(ids(PacketIds::Random { seed: 8 })), renumbered], 2).await;
}

#[tokio::test]
async fn the_broker_does_not_watch_the_keep_alive() {
    play(vec![Behaviour { server_keep_alive: Some(0), ..Behaviour::default() }], 1).await;
}

#[tokio::test]
async fn the_connection_is_half_open() {
    play(vec![Behaviour::half_open_after_publishes(10)], 2).await;
}

#[tokio::test]
async fn connect_is_never_answered() {
    play(vec![Behaviour::never_answer()], 1).await;
}

#[tokio::test]
async fn the_session_is_lost() {
    for protocol in BOTH {
        let forget = Behaviour { forget_session: true, ..Behaviour::default() };
        let script = [Behaviour::close_after_ignored_pubacks(10), forget];
        let mut scene = Scene::start(protocol, script, |_| {}).await;
        scene.agent.subscribed().await;
        scene.publish_round();
        scene.connections(2).await;
        assert!(!scene.agent.details().session_present);
        // What the broker has forgotten is lost to any receiver; the agent has subscribed again.
        scene.agent.subscribed().await;
        scene.publish_round();
        scene.settled().await;
        scene.finish(0).await;
    }
}

#[tokio::test]
async fn connect_is_refused_at_first() {
    for protocol in BOTH {
        // Unavailable; not authorized.
        let codes = if protocol == Protocol::V5 { [0x88, 0x87] } else { [3, 5] };
        let mut scene = Scene::start(protocol, codes.map(Behaviour::refuse), |_| {}).await;
        scene.connections(1).await;
        scene.agent.subscribed().await;
        let failures = scene.agent.details().failures;
        assert_eq!(failures.values().sum::<u64>(), 2, "{failures:?}");
        assert!(failures.contains_key("not_authorized"), "{failures:?}");
        scene.publish_round();
        scene.settled().await;
        scene.finish(0).await;
    }
}

#[tokio::test]
async fn subscribe_is_refused() {
    for protocol in BOTH {
        let refuse =
            Behaviour { refuse_subscribe: Some(SubscribeReasonCode::NotAuthorized), ..Behaviour::default() };
        let scene = Scene::start(protocol, [refuse], |_| {}).await;
        scene.agent.subscribed().await;
        let details = scene.agent.details();
        assert_eq!((details.granted.len(), details.refused.len()), (0, 1), "{details:?}");
        // Kept: another filter may have been granted, and the next connection asks again.
        assert!(scene.agent.source().status.is_connected());
        let mut scene = scene.restart_agent().await;
        scene.agent.subscribed().await;
        assert!(scene.agent.details().refused.is_empty());
        scene.publish_round();
        scene.settled().await;
        scene.finish(0).await;
    }
}

#[tokio::test]
async fn the_broker_shuts_down_in_words() {
    // Server shutting down; MQTT 3.1.1 has no DISCONNECT from the server, so the client only sees the end.
    play(vec![Behaviour::default().then(Point::Publishes(10), Action::Disconnect(0x8b))], 2).await;
}
