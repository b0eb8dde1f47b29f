//! A writer with all of its dependencies, without a broker.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use fieldlog::clock::{Clock, TestClock};
use fieldlog::config::{
    Address, Config, Decoder, HttpConfig, Limits, LogConfig, Protocol, RetentionConfig, Rule, SnapshotConfig,
    SourceConfig, WindowConfig,
};
use fieldlog::log::{Log, LogOptions};
use fieldlog::message::{Acks, Message, Outbox};
use fieldlog::observe::{Heard, Observer, Outcomes};
use fieldlog::recovery::past::Wanted;
use fieldlog::shared::{Position, Shared, WriterStats};
use fieldlog::snapshots::SnapshotStore;
use fieldlog::writer::{Writer, WriterError};
use fieldlog_projections::fact::ClockQuality;
use fieldlog_projections::view::ValuesOf;
use fieldlog_projections::{Alerts, Commands, Descriptions, Fact, Seq, Sessions, Time, View};

/// All that can be asked of a past state.
pub const ALL_OF_PAST: Wanted<'static> =
    Wanted { folds: &[Descriptions::ID, Sessions::ID, Commands::ID, Alerts::ID], values: ValuesOf::All };

/// Log options of the tests.
pub const OPTIONS: LogOptions =
    LogOptions { cache_bytes: 1 << 20, quick_repair: false, quarantine_records_max: 10 };

/// Boot id of the kernel.
const BOOT: [u8; 16] = [1; 16];

const BEGIN: Time = Time(1_700_000_000_000_000);

thread_local! {
    static CLOCK: TestClock = TestClock::standing(BEGIN).moved_by_each_look(1_000);
}

/// A directory for one test; in memory where there is such a place, because the syncs of snapshots would otherwise be
/// most of the time a crash matrix takes.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A wall clock that goes on by a millisecond whenever somebody looks at it, while no time passes on the other: the same
/// in every run.
pub fn clock() -> Clock {
    CLOCK.with(TestClock::clock)
}

/// Time passes, on both clocks.
pub fn pass(time: Duration) {
    CLOCK.with(|clock| clock.advance(time));
}

/// `sources` brokers whose topics `d/…` carry JSON. A commit is due only when a window or the bytes say so.
pub fn config(sources: usize) -> Config {
    let source = |n: usize| SourceConfig {
        client_id: "test".into(),
        address: Address { host: "broker.example".into(), port: 1883, tls: false },
        protocol: Protocol::V5,
        receive_window: 1_000,
        packet_bytes_max: 1 << 20,
        rules: vec![rule()],
        ..SourceConfig::removed(&format!("source{n}"))
    };
    Config {
        gateway_id: "test".into(),
        data_dir: "unused".into(),
        log: LogConfig {
            commit_delay: Duration::from_secs(3_600),
            commit_bytes_max: 1 << 20,
            cache_bytes: 1 << 20,
            quick_repair: false,
            journal: false,
            ..LogConfig::default()
        },
        snapshots: SnapshotConfig {
            events: u64::MAX,
            interval: Duration::from_secs(1 << 40),
            keep: 2,
            past_bytes_max: 1 << 20,
        },
        retention: RetentionConfig::default(),
        aggregates: vec![WindowConfig { window_s: 60, keep: 5 }, WindowConfig { window_s: 3_600, keep: 5 }],
        derived: Vec::new(),
        named: Vec::new(),
        http: HttpConfig { listen: None, ..HttpConfig::default() },
        limits: Limits {
            devices_max: 1_000,
            attributes_per_device_max: 100,
            topics_max: 50,
            state_bytes_max: None,
            text_bytes_max: 4_096,
            name_bytes_max: 256,
            commands_max: 20_000,
            command_key: Duration::from_secs(86_400),
            quarantine_records_max: 20,
            quarantine_payload_bytes_max: 4_096,
            alerts_max: 1_000,
            quarantine_per_topic_max: 3,
        },
        sources: (0..sources).map(source).collect(),
        sinks: Vec::new(),
        alerts: Vec::new(),
        notify: Vec::new(),
        home_assistant: None,
    }
}

fn rule() -> Rule {
    Rule::new("d/+device", Decoder::Json)
}

/// A PUBLISH of QoS 1.
pub fn message(topic: &str, payload: String, pkid: u16) -> Message {
    Message {
        topic: topic.as_bytes().to_vec().into(),
        payload: payload.into_bytes().into(),
        retain: false,
        dup: false,
        pkid: Some(pkid),
        fault: None,
    }
}

/// One writer with a connection for each source.
pub struct Rig {
    writer: Option<Writer>,
    pub shared: Arc<Shared>,
    pub connections: Vec<Arc<Acks>>,
    pub outstanding: Vec<Arc<AtomicUsize>>,
    pub outboxes: Vec<Arc<Outbox>>,
}

impl Rig {
    /// Continues `log` from `view`.
    pub fn new(log: Log, view: View, config: &Config, store: &SnapshotStore) -> Rig {
        CLOCK.with(|clock| clock.set_wall(view.time.max(BEGIN)));
        let outcomes: Vec<_> = config.sources.iter().map(|_| Arc::new(Outcomes::default())).collect();
        let observer =
            Observer::new(config, &view, Arc::new(Heard::default()), &outcomes, clock().wall()).unwrap();
        let position = Position { head: log.head(), applied: view.seq };
        let shared = Arc::new(Shared {
            epoch: log.epoch(),
            view: view.into(),
            position: tokio::sync::watch::channel(position).0,
            reader: log.reader(),
            disk: log.disk().clone(),
            snapshots: store.clone(),
            stats: WriterStats::default(),
            rebuild: fieldlog::shared::RebuildProgress::default(),
            alerts: tokio::sync::watch::channel(Seq(0)).0,
        });
        let outstanding: Vec<Arc<AtomicUsize>> = config.sources.iter().map(|_| Arc::default()).collect();
        let connections = outstanding.iter().map(|count| Acks::new(count.clone())).collect();
        let outboxes = outcomes.iter().map(|outcomes| outcomes.outbox.clone()).collect();
        let writer = Writer::new(log, shared.clone(), observer, config.clone(), clock());
        Rig { writer: Some(writer.with_commands(BOOT)), shared, connections, outstanding, outboxes }
    }

    /// Records the start, as the agent does before anything else, and gives the writer out to be run.
    pub fn boot(&mut self) -> Result<Writer, WriterError> {
        let booted =
            Fact::Booted { boot_id: BOOT, version: "test".into(), clock: ClockQuality::Unsynchronised };
        let mut writer = self.writer.take().unwrap();
        writer.record(&booted)?;
        Ok(writer)
    }

    /// Waits for what the writer started, and takes the view as it was at the end.
    pub fn end(self) -> View {
        while Arc::strong_count(&self.shared) > 1 {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.shared.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
