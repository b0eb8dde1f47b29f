//! A source broker and the configuration of an agent with one sink.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use fieldlog::clock::TestClock;
use fieldlog::config::Config;
use fieldlog_sim::broker::{Broker, Options, Qos, SessionInfo};
use fieldlog_tests::agent::Agent;
use fieldlog_tests::receiver::Receiver;
use fieldlog_tests::rng::Rng;
use fieldlog_tests::wait::until;
use fieldlog_wire::ledger::LogReport;
use tempfile::TempDir;

const CLIENT: &str = "fieldlog-forward";
const DEVICES: usize = 20;

pub fn random() -> Rng {
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = std::env::var("FIELDLOG_SEED").ok().map_or(clock, |text| text.parse().unwrap());
    println!("FIELDLOG_SEED={seed}");
    Rng::new(seed)
}

pub struct Site {
    pub broker: Broker,
    pub dir: TempDir,
    posted: usize,
}

impl Site {
    pub async fn new() -> Site {
        let broker = Broker::bind("127.0.0.1:0", Options::default()).await.unwrap();
        Site { broker, dir: tempfile::tempdir().unwrap(), posted: 0 }
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A configuration with additional lines at its end, as text.
    pub fn text(&self, more: &str) -> String {
        format!(
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
            client_id = "{CLIENT}"
            backoff_max_s = 1
            [[source.subscription]]
            topic = "t/+device/state"
            decoder = "json"
            {more}
            "#,
            self.data_dir(),
            self.broker.local_addr()
        )
    }

    pub fn config(&self, more: &str) -> Config {
        Config::from_toml(&self.text(more), "test").unwrap()
    }

    /// Waits until an agent in another process has subscribed.
    pub async fn subscribed(&mut self) {
        let before = self.broker.stats().pubacks_in;
        until("the subscription", || {
            self.post(1);
            self.broker.stats().pubacks_in > before
        })
        .await;
    }

    /// An agent that has subscribed.
    pub async fn start(&self, config: &Config) -> Agent {
        let agent = Agent::start(config.clone()).await;
        agent.subscribed().await;
        agent
    }

    /// The same, with a clock controlled by the test.
    pub async fn start_at(&self, config: &Config, clock: &TestClock) -> Agent {
        let agent = Agent::start_at(config.clone(), clock.clock()).await;
        agent.subscribed().await;
        agent
    }

    /// Publishes this many messages, each of which is an event.
    pub fn post(&mut self, count: usize) {
        for _ in 0..count {
            self.posted += 1;
            let payload = format!(r#"{{"value":{}}}"#, self.posted);
            self.publish(&format!("t/d{}/state", self.posted % DEVICES), payload);
        }
    }

    /// Publishes this many hardly compressible bytes.
    pub fn post_bytes(&mut self, rng: &mut Rng, bytes: usize) {
        const EACH: usize = 1_000;
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        for _ in 0..bytes / EACH {
            self.posted += 1;
            let text: String =
                rng.bytes(EACH).into_iter().map(|b| char::from(ALPHABET[usize::from(b % 64)])).collect();
            self.publish(&format!("t/d{}/state", self.posted % DEVICES), format!(r#"{{"text":"{text}"}}"#));
        }
    }

    pub fn publish(&self, topic: &str, payload: String) {
        self.broker.publish(topic, payload, false, Qos::AtLeastOnce).unwrap();
    }

    pub fn session(&self) -> SessionInfo {
        self.broker.session(CLIENT).unwrap()
    }

    /// Waits until the agent has recorded and acknowledged all that was published.
    pub async fn recorded(&self) {
        until("the source's acknowledgements", || {
            let session = self.session();
            session.queued == 0 && session.in_flight == 0
        })
        .await;
    }

    /// Publishes for a while, a few messages at a time.
    pub async fn post_for(&mut self, duration: Duration) {
        let end = tokio::time::Instant::now() + duration;
        while tokio::time::Instant::now() < end {
            self.post(5);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A sink with short timeouts and retries.
pub fn sink(address: &str, more: &str) -> String {
    format!(
        r#"
        [[sink]]
        name = "cloud"
        address = "{address}"
        connect_timeout_s = 1
        answer_timeout_s = 1
        backoff_max_s = 1
        parcel_delay_ms = 20
        {more}
        "#
    )
}

pub fn http(address: SocketAddr, more: &str) -> String {
    sink(&format!("http://{address}/events"), more)
}

/// Waits until the receiver has everything that the agent has, and the agent knows it.
pub async fn arrived(agent: &Agent, receiver: &Receiver) {
    until("everything at the receiver", || receiver.contiguous() == agent.head()).await;
    forwarded(agent).await;
}

/// Waits until the sink has acknowledged everything.
pub async fn forwarded(agent: &Agent) {
    let contiguous = || agent.handle.sinks.views()[0].status.details().acked.contiguous().0;
    until("the last acknowledgement", || contiguous() == agent.head()).await;
}

/// Waits until everything has arrived, stops both, and checks that the receiver has everything, each event in one line.
/// Returns its report and the lines.
pub async fn complete(agent: Agent, receiver: Receiver) -> (LogReport, String) {
    arrived(&agent, &receiver).await;
    let head = agent.head();
    agent.stop().await;
    let (log, lines) = receiver.stop().await;
    assert_complete(&log, head);
    assert_lines(&lines, head);
    (log, lines)
}

/// Checks that nothing is missing or contradictory, and that the stated chain matches throughout.
pub fn assert_complete(log: &LogReport, head: u64) {
    println!("{log}");
    assert!(log.missing.is_empty() && log.counts.faults == 0, "{log}");
    assert_eq!((log.first.0, log.contiguous.0, log.chained.0), (1, head, head), "{log}");
    assert_eq!(log.counts.events, head, "{log}");
}

/// Checks that each event has one line.
pub fn assert_lines(lines: &str, head: u64) {
    let mut seen: Vec<String> = lines
        .lines()
        .map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            event["id"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(seen.len() as u64, head);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len() as u64, head, "an event has two lines");
}

/// The position of the event in a line.
pub fn position(line: &str) -> u64 {
    let event: serde_json::Value = serde_json::from_str(line).unwrap();
    event["sequence"].as_str().unwrap().parse().unwrap()
}
