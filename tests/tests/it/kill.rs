//! The real binary with a real broker, killed repeatedly. Everything that the broker has acknowledged to the publisher
//! must be in the log at the end, exactly once.
//!
//! `FIELDLOG_KILLS=n` sets the number of kills, `FIELDLOG_SEED=n` replays a run.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fieldlog::config::Config;
use fieldlog_projections::Value;
use fieldlog_tests::agent::Agent;
use fieldlog_tests::commander::Commander;
use fieldlog_tests::logbook::Logbook;
use fieldlog_tests::mosquitto::Mosquitto;
use fieldlog_tests::process::{Process, free_port};
use fieldlog_tests::publisher::{Post, Publisher};
use fieldlog_tests::rng::Rng;
use fieldlog_tests::wait::until;

/// More than can be in flight to the agent: no device has two unacknowledged messages at the same time, so redelivered
/// values equal the recorded ones.
const DEVICES: u64 = 2000;
/// Messages waiting at the publisher at any time.
const BACKLOG: usize = 200;
/// Of four messages one is a button press, one is always recorded, two are counters.
const KINDS: u64 = 4;

fn random() -> Rng {
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = number("FIELDLOG_SEED").unwrap_or(clock);
    println!("FIELDLOG_SEED={seed}");
    Rng::new(seed)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// The message with this number, which is also its value and identifies it.
fn post(number: u64) -> Post {
    let (round, device) = (number / KINDS, number / KINDS % DEVICES);
    let topic = match number % KINDS {
        0 => format!("t/{device}/beat"),
        1 => return Post::new(format!("a/{device}"), format!("press-{round}")),
        2 => format!("t/{device}/even"),
        _ => format!("t/{device}/odd"),
    };
    Post::new(topic, round.to_string())
}

fn config(dir: &Path, port: u16, protocol: u8) -> (Config, PathBuf) {
    let text = format!(
        r#"
        gateway_id = "test"
        data_dir = {:?}
        [log]
        commit_delay_ms = 50
        [snapshots]
        events = 1000
        [http]
        listen = "127.0.0.1:0"
        [[source]]
        name = "plant"
        address = "mqtt://127.0.0.1:{port}"
        backoff_max_s = 1
        protocol = {protocol}
        [[source.subscription]]
        topic = "t/+device/+attribute"
        decoder = "scalar"
        [[source.subscription]]
        topic = "a/+device"
        decoder = "action"
        [[source.policy]]
        attributes = ["beat"]
        record = "every"
        "#,
        dir.join("data")
    );
    let path = dir.join("fieldlog.toml");
    std::fs::write(&path, &text).unwrap();
    (Config::from_toml(&text, "test").unwrap(), path)
}

struct Run {
    mosquitto: Mosquitto,
    publisher: Publisher,
    posted: u64,
    random: Rng,
}

impl Run {
    /// Lets the publisher work for a random time up to this.
    async fn for_a_while(&mut self, millis: usize) {
        let until = tokio::time::Instant::now() + Duration::from_millis(self.random.below(millis) as u64);
        loop {
            self.top_up();
            if tokio::time::Instant::now() >= until {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn top_up(&mut self) {
        let missing = BACKLOG.saturating_sub(self.publisher.waiting());
        self.publisher.post((self.posted..).take(missing).map(post));
        self.posted += missing as u64;
    }
}

async fn run(protocol: u8, mosquitto_too: bool) {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (config, path) = config(dir.path(), mosquitto.port, protocol);
    // The session must exist before the first message, or that one is lost.
    let agent = Agent::start(config.clone()).await;
    agent.subscribed().await;
    agent.stop().await;

    let publisher = Publisher::start(mosquitto.port);
    let mut run = Run { mosquitto, publisher, posted: 0, random: random() };
    for kill in 0..number("FIELDLOG_KILLS").unwrap_or(12) {
        let process = Process::run(&path, &[]);
        run.for_a_while(1200).await;
        if mosquitto_too && kill % 3 == 1 {
            // The agent keeps running and acknowledges to the end.
            run.publisher.idle().await;
            run.mosquitto.save_kill_restart();
            run.for_a_while(1500).await;
        }
        let ended = process.kill();
        assert_eq!(ended.code, -9, "it ended before it was killed: {}", ended.words);
        assert!(mosquitto_too || !ended.words.contains("ERROR"), "{}", ended.words);
        run.for_a_while(100).await;
    }
    run.publisher.idle().await;
    let acked = run.publisher.acked();
    println!("{} messages acknowledged, {} unknown", acked.len(), run.publisher.unknown());
    drain(config, &run.publisher, &acked).await;
    check(&dir.path().join("data"), &acked, mosquitto_too);
}

/// Runs an agent until a last message, after all others, is in its view.
async fn drain(config: Config, publisher: &Publisher, acked: &[Post]) {
    assert!(acked.len() > 1000, "too few messages to prove anything");
    let agent = Agent::start(config).await;
    publisher.post([Post::new("t/last/last", "true")]);
    until("the last message", || agent.value("last", "last") == Some(Value::Bool(true))).await;
    until("PUBACKs", || agent.source().status.unacked.get() == 0).await;
    agent.stop().await;
}

fn check(data_dir: &Path, acked: &[Post], mosquitto_too: bool) {
    let log = Logbook::read(data_dir);
    let mut recorded: BTreeMap<String, u64> = BTreeMap::new();
    for (_, device, attribute, value) in log.changes() {
        let Value::Int(round) = value else { continue };
        *recorded.entry(format!("t/{device}/{attribute} {round}")).or_default() += 1;
    }
    for (device, _, value) in log.actions() {
        let Value::Text(press) = value else { panic!("{value:?}") };
        *recorded.entry(format!("a/{device} {press}")).or_default() += 1;
    }
    let lost: Vec<String> = acked
        .iter()
        .map(|post| format!("{} {}", post.topic, String::from_utf8_lossy(&post.payload)))
        .filter(|message| !recorded.contains_key(message))
        .collect();
    assert!(lost.is_empty(), "{} of {} acknowledged are lost: {:?}", lost.len(), acked.len(), &lost[..1]);

    let twice = |of: &dyn Fn(&str) -> bool| {
        recorded.iter().filter(|(message, _)| of(message)).map(|(_, count)| count - 1).sum::<u64>()
    };
    let is_action = |message: &str| message.starts_with("a/");
    let is_every = |message: &str| message.contains("/beat ");
    let changes_twice = twice(&|message| !is_action(message) && !is_every(message));
    println!(
        "recorded more than once: {} actions, {} of record = \"every\", {changes_twice} changes",
        twice(&is_action),
        twice(&is_every)
    );
    log.assert_no_equal_values(&["beat"]);
    // A killed broker sends again what was acknowledged since it last saved its state, including older values of a
    // device, which are then changes. They cannot be distinguished from new ones.
    assert!(mosquitto_too || changes_twice == 0, "{changes_twice} changes are recorded twice");
    order(&log, mosquitto_too);
}

/// Counters only increase, unless the broker itself was reset to an older state.
fn order(log: &Logbook, mosquitto_too: bool) {
    let mut last: HashMap<(&str, &str), i64> = HashMap::new();
    let mut back = HashSet::new();
    for (seq, device, attribute, value) in log.changes().filter(|change| change.2 != "beat") {
        let Value::Int(round) = *value else { continue };
        let before = last.insert((device, attribute), round);
        if before.is_some_and(|before| before > round) {
            back.insert(seq);
        }
    }
    println!("{} values older than the one before them", back.len());
    assert!(mosquitto_too || back.is_empty(), "{back:?}");
}

/// MQTT 3.1.1: mosquitto decides how many are in flight.
#[tokio::test]
async fn killed_with_mqtt_3_1_1() {
    run(4, false).await;
}

/// MQTT 5: the whole receive window is in flight, 1000 messages.
#[tokio::test]
async fn killed_with_mqtt_5() {
    run(5, false).await;
}

#[tokio::test]
async fn killed_together_with_mosquitto() {
    run(5, true).await;
}

/// No command that was accepted is lost, and none that must not be done twice is.
#[tokio::test]
async fn killed_while_commands_are_asked_for_and_carried_out() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut random = random();
    let mut commander = Commander::start(dir.path(), mosquitto.port, free_port(), &mut random).await;
    for kill in 0..number("FIELDLOG_KILLS").unwrap_or(6) {
        let process = Process::run(&commander.config, &[]);
        if kill == 0 {
            commander.executes().await;
        }
        tokio::time::sleep(Duration::from_millis(300 + random.below(1_200) as u64)).await;
        let ended = process.kill();
        assert_eq!(ended.code, -9, "it ended before it was killed: {}", ended.words);
    }
    let process = Process::run(&commander.config, &[]);
    commander.settle().await;
    process.signal("TERM");
    let ended = process.ended().await;
    assert_eq!(ended.code, 0, "{}", ended.words);
    let outcome = commander.outcome();
    println!("{outcome}");
    assert!(outcome.is_ok(), "{outcome:#?}");
}
