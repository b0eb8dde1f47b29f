//! The HTTP contract, over real sockets and a real log.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::fact::{Availability, AvailabilityCause};
use fieldlog_projections::{AttrId, DeviceId, Epoch, Fact, Seq, Time, Value, View, Window};
use serde_json::Value as Json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::clock::{Clock, TestClock};
use crate::config::Config;
use crate::config::{HttpConfig, Limits, LogConfig, RetentionConfig, SnapshotConfig};
use crate::forward::sinks::Sinks;
use crate::log::{Commit, Log, LogOptions};
use crate::notify::Notifiers;
use crate::shared::Shared;
use crate::shared::{Position, WriterStats};
use crate::snapshots::SnapshotStore;
use crate::sources::Sources;
use client::{Answer, Target};

mod administer;
mod alerts;
mod bounds;
mod client;
mod commands;
mod described;
mod gate;
mod growing;
mod log;
mod login;
mod named;
mod odd;
mod past;
mod rebuild;
mod state;
mod stream;
mod why;
mod wire;

const EPOCH: Epoch = Epoch(0xfeed);
/// 2025-11-23T10:00:00Z, when the first record was made.
const BEGIN_S: i64 = 1_763_892_000;
/// Windows held in memory: two closed minutes.
const WINDOW: Window = Window { length_s: 60, keep: 2 };

/// An hour and a half after the first record.
fn clock() -> Clock {
    TestClock::standing(Time::from_secs(BEGIN_S + 5_400)).clock()
}

/// An agent without writer thread and sources: the tests commit.
struct Agent {
    side: Arc<ReadSide>,
    log: Mutex<Log>,
    tcp: Target,
    unix: Target,
    stop: watch::Sender<bool>,
    served: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

fn config(dir: PathBuf, http: HttpConfig) -> Config {
    Config {
        gateway_id: "gw".into(),
        data_dir: dir,
        log: LogConfig {
            commit_delay: Duration::ZERO,
            commit_bytes_max: 4096,
            cache_bytes: 1 << 20,
            quick_repair: false,
            journal: false,
            ..LogConfig::default()
        },
        snapshots: SnapshotConfig { events: 1_000, ..SnapshotConfig::default() },
        retention: RetentionConfig::default(),
        aggregates: Vec::new(),
        derived: Vec::new(),
        named: Vec::new(),
        http,
        limits: Limits {
            devices_max: 100,
            attributes_per_device_max: 100,
            topics_max: 100,
            state_bytes_max: None,
            text_bytes_max: 100,
            name_bytes_max: 100,
            commands_max: 10,
            command_key: Duration::from_secs(86_400),
            quarantine_records_max: 10,
            quarantine_payload_bytes_max: 100,
            alerts_max: 1_000,
            quarantine_per_topic_max: 3,
        },
        sources: vec![crate::config::SourceConfig::removed("z2m")],
        sinks: Vec::new(),
        alerts: Vec::new(),
        notify: Vec::new(),
        home_assistant: None,
    }
}

impl Agent {
    async fn start() -> Agent {
        Agent::start_with(|_| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut HttpConfig)) -> Agent {
        Agent::start_configured(|config| change(&mut config.http)).await
    }

    async fn start_configured(change: impl FnOnce(&mut Config)) -> Agent {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("http.sock");
        let http = HttpConfig {
            listen: Some("127.0.0.1:0".parse().unwrap()),
            unix_socket: Some(socket.clone()),
            ..HttpConfig::default()
        };
        let mut config = config(dir.path().to_owned(), http);
        change(&mut config);
        let clock = clock();
        let options = LogOptions { cache_bytes: 1 << 20, quick_repair: false, quarantine_records_max: 10 };
        let log = Log::open(dir.path(), options, EPOCH).unwrap();
        let shared = Arc::new(Shared {
            epoch: log.epoch(),
            view: View::new(vec![WINDOW]).into(),
            position: watch::channel(Position::default()).0,
            reader: log.reader(),
            disk: log.disk().clone(),
            snapshots: SnapshotStore::open(dir.path()).unwrap(),
            stats: WriterStats::default(),
            rebuild: crate::shared::RebuildProgress::default(),
            alerts: watch::channel(Seq(0)).0,
        });
        shared.stats.beat.store(clock.wall().0, std::sync::atomic::Ordering::Relaxed);
        let sinks = Sinks::new(shared.clone(), std::sync::mpsc::channel().0, "gw", clock.clone());
        let sources = Arc::new(Sources::new(&config, clock.clone()));
        let notifiers = Notifiers::new(shared.clone(), sources.clone(), "gw", clock.clone());
        let side = Arc::new(ReadSide {
            shared,
            sinks: Arc::new(sinks),
            notifiers: Arc::new(notifiers),
            sources,
            config: watch::channel(Arc::new(config.clone())).1,
            heard: Arc::default(),
            started: Time::from_secs(BEGIN_S),
            clock,
            inputs: std::sync::mpsc::channel().0,
        });
        let listeners = bind(&config.http).await.unwrap();
        let tcp = Target::Tcp(listeners.local_addr().unwrap());
        let (stop, stopping) = watch::channel(false);
        let served = tokio::spawn(serve(listeners, side.clone(), stopping));
        Agent { side, log: log.into(), tcp, unix: Target::Unix(socket), stop, served, _dir: dir }
    }

    /// Commits facts like the writer, each this many seconds after the first record.
    fn commit(&self, facts: impl IntoIterator<Item = (i64, Fact)>) -> Seq {
        self.commit_with(facts, &[])
    }

    fn commit_with(
        &self,
        facts: impl IntoIterator<Item = (i64, Fact)>,
        quarantine: &[(usize, Vec<u8>)],
    ) -> Seq {
        let mut log = self.log.lock().unwrap();
        let mut body = RecordBuffer::after(log.last_time());
        for (second, fact) in facts {
            body.push_fact(
                Envelope { wall: Time::from_secs(BEGIN_S + second), ..Envelope::default() },
                &fact,
            );
        }
        let committed = log.commit(&Commit { quarantine, ..Commit::of(&body) }).unwrap();
        let shared = &self.side.shared;
        shared.view.write().unwrap().apply_records(body.records(committed.first), committed.last).unwrap();
        shared.position.send_replace(Position { head: committed.last, applied: committed.last });
        committed.last
    }

    /// Two devices, `kitchen/lamp` behind `bridge`, and a minute of temperatures: records 1 to 9.
    fn commit_house(&self) {
        self.commit([
            (0, discovered(0, "bridge", None)),
            (0, discovered(1, "kitchen/lamp", Some(0))),
            (0, named(0, "temperature")),
            (0, named(1, "on")),
            (1, changed(1, vec![(0, Value::Float(20.5)), (1, Value::Bool(true))])),
            (10, changed(1, vec![(0, Value::Float(21.5))])),
            (70, changed(1, vec![(0, Value::Int(22))])),
            (80, available(1, Availability::Online)),
            (90, available(0, Availability::Online)),
        ]);
    }

    async fn get(&self, path: &str) -> Answer {
        client::get(&self.tcp, path, &[]).await
    }

    async fn json(&self, path: &str) -> Json {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        answer.json()
    }

    /// The problem that a request must return.
    async fn problem(&self, path: &str, status: u16, code: &str) -> Json {
        let answer = self.get(path).await;
        check_problem(&answer, path, status, code);
        answer.json()
    }

    /// Stops serving, and checks that nothing uses the log any more.
    async fn stop(self) {
        self.stop.send_replace(true);
        self.served.await.unwrap();
        assert_eq!(Arc::strong_count(&self.side), 1, "something of the server is still there");
    }
}

fn check_problem(answer: &Answer, path: &str, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{path}: {}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
    let body = answer.json();
    assert_eq!(body["code"], code, "{path}");
    assert_eq!(body["status"], status);
    assert_eq!(body["type"], format!("urn:fieldlog:problem:{code}"));
    assert_eq!(body["instance"], path.split('?').next().unwrap());
    assert!(body["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{body}");
}

fn discovered(device: u32, name: &str, parent: Option<u32>) -> Fact {
    let parent = parent.map(DeviceId);
    Fact::DeviceDiscovered {
        device: DeviceId(device),
        name: name.into(),
        source: "z2m".into(),
        parent,
        identity: None,
    }
}

fn named(attribute: u32, name: &str) -> Fact {
    Fact::AttributeNamed { attribute: AttrId(attribute), name: name.into() }
}

fn changed(device: u32, changes: Vec<(u32, Value)>) -> Fact {
    let changes = changes.into_iter().map(|(attr, value)| (AttrId(attr), value)).collect();
    Fact::StateChanged { device: DeviceId(device), changes }
}

fn available(device: u32, availability: Availability) -> Fact {
    Fact::AvailabilityChanged { device: DeviceId(device), availability, cause: AvailabilityCause::Topic }
}

fn quarantined(topic: &str) -> Fact {
    let (source, reason) = ("z2m".into(), "no JSON".into());
    Fact::InputQuarantined { source, topic: topic.into(), reason, size: 3 }
}

/// The members `seq` of a list.
fn seqs(list: &Json) -> Vec<u64> {
    list.as_array().unwrap().iter().map(|item| item["seq"].as_u64().unwrap()).collect()
}
