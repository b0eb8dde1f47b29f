//! The checked configuration. Everything here has been validated; the submodules read it.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use fieldlog_projections::declared::{Declared, DerivedAttribute, NamedAggregate};
use fieldlog_projections::{Settings, Window};
use serde::Serialize;

mod alert;
mod checks;
pub mod command;
mod declared;
mod defaults;
mod describe;
mod diff;
mod faults;
mod hints;
mod home_assistant;
mod keys;
mod lines;
mod load;
mod notify;
pub(crate) mod presets;
mod raw;
mod retention;
mod rule;
pub mod rules;
mod show;
mod sink;
mod source;
mod sparkplug;
#[cfg(test)]
mod tests;
mod written;

pub use alert::{AlertRule, Watch};
pub use command::{CommandRule, EvidenceKind};
pub use describe::Describe;
pub use diff::Change;
pub use faults::{Fault, Faults};
use fieldlog_rules::choice;
pub use home_assistant::{HomeAssistantConfig, HomeAssistantTopics, as_id as home_assistant_id};
pub use load::Loaded;
pub use notify::{NotifyConfig, NotifyTarget};
pub use presets::PRESETS;
pub use retention::{RetentionConfig, WhenFull};
pub use rule::{
    ActionFields, Announcer, Arrays, Decoder, Each, KeepAlive, Kind, PayloadTime, Rename, Rule, Shape,
    Subject, Test, TimeFormat, Update, ValueType, When,
};
pub use sink::{
    HttpSink, KafkaSink, MqttCommands, MqttSink, NatsCommands, NatsSink, Order, RefusedPolicy, SaslMechanism,
    SinkConfig, SinkFilter, SinkFormat, SinkTarget,
};

/// Exit code for a faulty configuration, `EX_CONFIG` of sysexits.
pub const EXIT_CONFIG: u8 = 78;

/// The whole configuration of one agent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    /// `gateway_id`: names this gateway upstream and in answers; default: the machine's host name.
    pub gateway_id: String,
    /// `data_dir`: directory of the log and the snapshots.
    pub data_dir: PathBuf,
    /// `[log]`.
    pub log: LogConfig,
    /// `[snapshots]`.
    pub snapshots: SnapshotConfig,
    /// `[retention]`.
    pub retention: RetentionConfig,
    /// `[[aggregates]]`, shortest window first; each is a multiple of the previous one. May be empty.
    pub aggregates: Vec<WindowConfig>,
    /// `[[derived_attribute]]`; none by default.
    #[serde(rename = "derived_attribute", skip_serializing_if = "Vec::is_empty")]
    pub derived: Vec<DerivedAttribute>,
    /// `[[named_aggregate]]`; none by default.
    #[serde(rename = "named_aggregate", skip_serializing_if = "Vec::is_empty")]
    pub named: Vec<NamedAggregate>,
    /// `[http]`.
    pub http: HttpConfig,
    /// `[limits]`.
    pub limits: Limits,
    /// `[[source]]`; at least one for `fieldlog run`.
    #[serde(rename = "source", skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceConfig>,
    /// `[[sink]]`; none: nothing is forwarded.
    #[serde(rename = "sink", skip_serializing_if = "Vec::is_empty", serialize_with = "sink::written")]
    pub sinks: Vec<SinkConfig>,
    /// `[[alert]]`; none by default.
    #[serde(rename = "alert", skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<AlertRule>,
    /// `[[notify]]`; none: nobody is told of alerts.
    #[serde(rename = "notify", skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<NotifyConfig>,
    /// `[home_assistant]` (default none): Home Assistant is told of this gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home_assistant: Option<HomeAssistantConfig>,
}

/// `[log]`: when to commit, and how much to cache.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogConfig {
    /// `commit_delay_ms` (1–10,000; default 320): the batch is committed when its oldest event is this old.
    #[serde(rename = "commit_delay_ms", serialize_with = "written::milliseconds")]
    pub commit_delay: Duration,
    /// `commit_bytes_max` (4,096–16,777,216; default 262,144): commit when this many payload bytes are waiting.
    pub commit_bytes_max: usize,
    /// `cache_bytes` (1,048,576–1,073,741,824; default 1,048,576): page cache of the store.
    pub cache_bytes: usize,
    /// `quick_repair` (default false): write the allocator state with every commit, so that a start after a power loss
    /// does not read the whole file; every commit writes more.
    pub quick_repair: bool,
    /// `journal` (default true): small commits go to the journal, where each costs a block of 4 KiB, and from there into the
    /// log many at a time.
    pub journal: bool,
    /// `journal_move_bytes` (32,768–1,048,576; default 262,144): move the contents of the journal into the log when there
    /// are this many bytes.
    pub journal_move_bytes: usize,
    /// `journal_move_s` (1–3,600; default 60): or when the oldest of them is this old.
    #[serde(rename = "journal_move_s", serialize_with = "written::seconds")]
    pub journal_move: Duration,
    /// `endurance_tb` (1–100,000; default 10): how many terabytes (10^12 bytes) may be written to the storage in its life,
    /// for `/status` and the page.
    pub endurance_tb: u64,
}

/// `[snapshots]`: when to write the folded state to disk.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SnapshotConfig {
    /// `events` (1,000–1,000,000,000; default 500,000): after this many events.
    pub events: u64,
    /// `interval_s` (10–604,800; default 900): after this time, if there are so many new records that the snapshot
    /// writes at most 16 bytes for each.
    #[serde(rename = "interval_s", serialize_with = "written::seconds")]
    pub interval: Duration,
    /// `keep` (1–100; default 3).
    pub keep: usize,
    /// `past_bytes_max` (0–1,000,000,000,000; default 33,554,432): bytes of the sparse snapshots from which states at past
    /// moments are replayed; 0: none are kept.
    pub past_bytes_max: u64,
}

/// One `[[aggregates]]` window; defaults 60 s × 60, 3,600 s × 48, 86,400 s × 35.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct WindowConfig {
    /// `window_s` (10–31,536,000): length of one bucket, in seconds.
    pub window_s: u32,
    /// `keep` (1–100,000): closed buckets held in memory for each attribute; older ones are read from the log.
    pub keep: u32,
}

impl Config {
    /// The settings of the folds. Derived attributes are folded only for named aggregates.
    pub fn folds(&self) -> Settings {
        let declared = match self.named.is_empty() {
            true => Declared::default(),
            false => Declared { derived: self.derived.clone(), aggregates: self.named.clone() },
        };
        Settings { windows: windows(&self.aggregates), declared }
    }
}

/// The fold's windows from the configuration's.
pub fn windows(config: &[WindowConfig]) -> Vec<Window> {
    config.iter().map(|w| Window { length_s: w.window_s, keep: w.keep }).collect()
}

/// `[http]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HttpConfig {
    /// `listen` (default `127.0.0.1:8687`; empty: no TCP listener). Other than loopback needs a token.
    #[serde(serialize_with = "written::or_empty")]
    pub listen: Option<SocketAddr>,
    /// `unix_socket` (default empty: `http.sock` in the runtime directory of the systemd unit, or none without one).
    #[serde(serialize_with = "written::or_empty")]
    pub unix_socket: Option<PathBuf>,
    /// `token_file` (default empty: none): the bearer token that lets read over TCP; without it, everyone who reaches the port
    /// may read.
    #[serde(serialize_with = "written::or_empty")]
    pub token_file: Option<PathBuf>,
    /// `command_token_file` (default empty: none): the bearer token of requests over TCP that send commands; it also lets read.
    #[serde(serialize_with = "written::or_empty")]
    pub command_token_file: Option<PathBuf>,
    /// `admin_token_file` (default empty: none): the bearer token of requests over TCP that change anything, commands included;
    /// without it, only the Unix socket takes such requests.
    #[serde(serialize_with = "written::or_empty")]
    pub admin_token_file: Option<PathBuf>,
    /// `cert_file` (default empty: none): the certificate, PEM, with those that lead to its root; with `key_file`, TCP is HTTPS.
    #[serde(serialize_with = "written::or_empty")]
    pub cert_file: Option<PathBuf>,
    /// `key_file` (default empty: none): private key of `cert_file`, PEM.
    #[serde(serialize_with = "written::or_empty")]
    pub key_file: Option<PathBuf>,
    /// `hosts` (default empty): names, besides IP addresses and `localhost`, accepted in the Host header.
    pub hosts: Vec<String>,
}

/// `[limits]`: bounds on the memory that devices can make the agent use.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// `devices_max` (1–1,000,000; default 10,000).
    pub devices_max: usize,
    /// `attributes_per_device_max` (1–10,000; default 256).
    pub attributes_per_device_max: usize,
    /// `topics_max` (1–10,000,000; default 50,000): topics remembered by the decoder.
    pub topics_max: usize,
    /// `state_bytes_max` (0, or 1,048,576–10^12; default 0: a third of the memory that the process may use, see
    /// [`crate::memory`]): memory for names, values, aggregates and topics.
    #[serde(serialize_with = "written::or_zero")]
    pub state_bytes_max: Option<usize>,
    /// `text_bytes_max` (16–1,048,576; default 4,096): longest text or array kept as a value.
    pub text_bytes_max: usize,
    /// `name_bytes_max` (16–4,096; default 256): longest device id or attribute name. Messages with longer ones are
    /// quarantined.
    pub name_bytes_max: usize,
    /// `commands_max` (1–1,000,000; default 20,000): commands whose keys are remembered; more are refused.
    pub commands_max: usize,
    /// `command_key_s` (60–31,536,000; default 86,400): how long after a command's time to live its key is remembered, so
    /// that a repeat gets the first answer.
    #[serde(rename = "command_key_s", serialize_with = "written::seconds")]
    pub command_key: Duration,
    /// `alerts_max` (1–100,000; default 1,000): alerts that are open at the same time; more are counted.
    pub alerts_max: usize,
    /// `quarantine_records_max` (0–1,000,000; default 1,000).
    pub quarantine_records_max: usize,
    /// `quarantine_payload_bytes_max` (0–1,048,576; default 4,096): bytes kept of each undecodable payload.
    pub quarantine_payload_bytes_max: usize,
    /// `quarantine_per_topic_max` (0–1,000,000; default 3): undecodable inputs of a topic that are recorded
    /// individually per hour; further ones are summarised. 0: all are recorded individually.
    pub quarantine_per_topic_max: usize,
}

/// One `[[source]]`: a broker and its subscriptions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SourceConfig {
    /// `name`: unique, `[a-z0-9_-]{1,32}`; in metrics, events and messages.
    pub name: String,
    /// `address`: `mqtt://host[:1883]` or `mqtts://host[:8883]`.
    #[serde(serialize_with = "source::written_address")]
    pub address: Address,
    /// `protocol`: 5 (default, MQTT 5) or 4 (MQTT 3.1.1).
    pub protocol: Protocol,
    /// `client_id` (default `fieldlog-<gateway_id>-<name>`): identifies the session; must be unique at the broker.
    pub client_id: String,
    /// `username` (default empty: none).
    #[serde(serialize_with = "written::or_empty")]
    pub username: Option<String>,
    /// `password_file` (default empty): a file, or the name of a systemd credential. Read at each connection attempt.
    #[serde(serialize_with = "written::or_empty")]
    pub password_file: Option<PathBuf>,
    /// `keep_alive_s` (5–3,600; default 30).
    #[serde(rename = "keep_alive_s", serialize_with = "written::seconds")]
    pub keep_alive: Duration,
    /// `connect_timeout_s` (1–300; default 20): TCP, TLS and CONNACK together.
    #[serde(rename = "connect_timeout_s", serialize_with = "written::seconds")]
    pub connect_timeout: Duration,
    /// `backoff_max_s` (1–3,600; default 60): longest wait between connection attempts.
    #[serde(rename = "backoff_max_s", serialize_with = "written::seconds")]
    pub backoff_max: Duration,
    /// `session_expiry_s` (0–4,294,967,295; default 604,800): how long the broker keeps the session (MQTT 5).
    #[serde(rename = "session_expiry_s", serialize_with = "written::seconds")]
    pub session_expiry: Duration,
    /// `receive_window` (1–65,535; default 1,000): maximum unacknowledged messages.
    pub receive_window: u16,
    /// `packet_bytes_max` (1,024–268,435,455; default 1,048,576): larger packets are quarantined.
    pub packet_bytes_max: u32,
    /// `[source.tls]`; only with `mqtts://`.
    #[serde(skip_serializing_if = "TlsConfig::is_default")]
    pub tls: TlsConfig,
    /// `[source.will]` (default none, or `fieldlog/<gateway_id>/availability` if `[home_assistant]` names the source):
    /// published by the broker when this agent's connection dies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub will: Option<WillConfig>,
    /// `[source.sparkplug]` (default none): the source is a Sparkplug host application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sparkplug: Option<SparkplugConfig>,
    /// `silence_timeout_s` (0–31,536,000; default 0: never): a device of this source that is silent for this time is
    /// recorded as offline.
    #[serde(rename = "silence_timeout_s", serialize_with = "written::seconds")]
    pub silence_timeout: Option<Duration>,
    /// `exclude`: MQTT filters whose topics are ignored.
    pub exclude: Vec<String>,
    /// `redact`: attribute patterns whose values are never stored, in addition to those of the rules.
    pub redact: Vec<String>,
    /// `[[source.subscription]]`, presets expanded, in order: the first rule that matches a topic takes it.
    #[serde(
        rename = "subscription",
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "rule::written"
    )]
    pub rules: Vec<Rule>,
    /// `[[source.policy]]`, in order: the first that matches an attribute applies.
    #[serde(rename = "policy", skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<Policy>,
    /// `[[source.command]]`, those of presets after them; the first that names a device and an attribute counts.
    #[serde(rename = "command", skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<CommandRule>,
    /// `[[source.describe]]`, in order; if several blocks set the same field, the first counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub describe: Vec<Describe>,
}

impl SourceConfig {
    /// Whether it is the placeholder of a source that was removed from the configuration.
    pub fn is_removed(&self) -> bool {
        self.address.host.is_empty()
    }

    /// A placeholder, without rules, for a source that was removed from the configuration.
    pub fn removed(name: &str) -> SourceConfig {
        let zero = Duration::ZERO;
        SourceConfig {
            name: name.into(),
            address: Address { host: String::new(), port: 0, tls: false },
            protocol: Protocol::V5,
            client_id: String::new(),
            username: None,
            password_file: None,
            keep_alive: zero,
            connect_timeout: zero,
            backoff_max: zero,
            session_expiry: zero,
            receive_window: 1,
            packet_bytes_max: 0,
            tls: TlsConfig::default(),
            will: None,
            sparkplug: None,
            silence_timeout: None,
            redact: Vec::new(),
            exclude: Vec::new(),
            rules: Vec::new(),
            policies: Vec::new(),
            commands: Vec::new(),
            describe: Vec::new(),
        }
    }
}

/// Address of a broker or a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// `mqtts://`, or another scheme with TLS.
    pub tls: bool,
}

impl Address {
    /// `host:port`, an IPv6 address in brackets.
    pub fn host_and_port(&self) -> String {
        let host = &self.host;
        if host.contains(':') { format!("[{host}]:{}", self.port) } else { self.to_string() }
    }
}

impl fmt::Display for Address {
    /// `host:port`, as configured.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Protocol version spoken to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "u8")]
pub enum Protocol {
    /// MQTT 3.1.1, protocol level 4.
    V4,
    /// MQTT 5.
    V5,
}

impl From<Protocol> for u8 {
    /// The number in the configuration.
    fn from(protocol: Protocol) -> u8 {
        match protocol {
            Protocol::V4 => 4,
            Protocol::V5 => 5,
        }
    }
}

/// `[source.tls]` and `[sink.tls]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TlsConfig {
    /// `ca_file` (default empty: the system's trusted roots): PEM.
    #[serde(serialize_with = "written::or_empty")]
    pub ca_file: Option<PathBuf>,
    /// `cert_file`: client certificate chain, PEM; with `key_file`.
    #[serde(serialize_with = "written::or_empty")]
    pub cert_file: Option<PathBuf>,
    /// `key_file`: private key, PEM.
    #[serde(serialize_with = "written::or_empty")]
    pub key_file: Option<PathBuf>,
    /// `server_name` (default: the host of `address`).
    #[serde(serialize_with = "written::or_empty")]
    pub server_name: Option<String>,
}

impl TlsConfig {
    fn is_default(&self) -> bool {
        *self == TlsConfig::default()
    }
}

/// `[source.will]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WillConfig {
    /// `topic`.
    pub topic: String,
    /// `offline` (default `offline`): payload of the will; also published at a clean stop.
    pub offline: String,
    /// `online` (default `online`): payload published, retained, after each connection.
    pub online: String,
}

/// `[source.sparkplug]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SparkplugConfig {
    /// `host_id` (default: `gateway_id`): unique among all host applications of the broker.
    pub host_id: String,
    /// `groups` (default `["+"]`: all): groups of edge nodes to take.
    pub groups: Vec<String>,
    /// `reorder_timeout_ms` (0–60,000; default 2,000): how long a message waits for earlier ones.
    #[serde(rename = "reorder_timeout_ms", serialize_with = "written::milliseconds")]
    pub reorder_timeout: Duration,
    /// `commands` (default true): edge nodes and devices can be sent commands for the metrics of their births.
    pub commands: bool,
}

/// `[[source.policy]]`: when a change of an attribute becomes an event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Policy {
    /// `attributes`: patterns.
    pub attributes: Vec<String>,
    /// `devices` (default `*`): patterns on the device id.
    pub devices: Vec<String>,
    /// `deadband` (0 or more; default 0): numbers that differ by less from the last recorded one are not recorded.
    pub deadband: f64,
    /// `min_interval_ms` (0–86,400,000; default 0): at most one event of the attribute in this time.
    #[serde(rename = "min_interval_ms", serialize_with = "written::milliseconds")]
    pub min_interval: Duration,
    /// `held`: how to treat a message whose value `min_interval_ms` holds back: `memory` (default), or `record`.
    pub held: HeldValues,
    /// `record`: `change` (default), `every` (equal values too), or `never`.
    pub record: RecordMode,
}

/// See [`Policy::record`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordMode {
    /// Only values that differ.
    Change,
    /// Every observation.
    Every,
    /// None.
    Never,
}

choice!(RecordMode { "change" => RecordMode::Change, "every" => RecordMode::Every, "never" => RecordMode::Never });

/// See [`Policy::held`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeldValues {
    /// It is acknowledged at once; the value waits in memory for the end of the interval.
    #[default]
    Memory,
    /// It is acknowledged after a commit has recorded the newest value: the next commit, or a separate one a few
    /// seconds later.
    Record,
}

choice!(HeldValues { "memory" => HeldValues::Memory, "record" => HeldValues::Record });
