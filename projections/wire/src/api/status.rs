//! `/status`: an overview for operators. Counts are since the start of the agent unless stated otherwise.

use std::borrow::Cow;
use std::collections::BTreeMap;

use fieldlog_projections::Seq;
use serde::{Deserialize, Serialize};

use super::position::Position;
use crate::json::Rfc3339;

/// A fixed or computed text.
pub type Words = Cow<'static, str>;

/// `GET /status`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Status {
    /// The position of the view.
    pub position: Position,
    /// The version that is running.
    pub version: Words,
    /// The gateway's id, from the configuration.
    pub gateway_id: String,
    /// When the agent was started.
    pub started_at: Rfc3339,
    /// Seconds since then.
    pub uptime_s: f64,
    /// The log.
    pub log: Log,
    /// Numbers of devices.
    pub devices: DeviceCounts,
    /// Memory accounting of the state.
    pub state: State,
    /// `<sequence>:<digest>` of the state, as `fieldlog replay` prints it; absent unless asked for with `?state_digest=true`,
    /// and while the state is being rebuilt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_digest: Option<String>,
    /// Commands to devices.
    pub commands: Commands,
    /// Alerts.
    #[serde(default)]
    pub alerts: AlertCounts,
    /// Who is told of alerts, as configured.
    #[serde(default)]
    pub notify: Vec<Notify>,
    /// The last snapshot.
    pub snapshot: Snapshot,
    /// Parts of the view that are being rebuilt.
    pub rebuild: Rebuild,
    /// The brokers, as configured.
    pub sources: Vec<Source>,
    /// Where records are sent, as configured.
    pub sinks: Vec<Sink>,
    /// Why ingest is blocked; null if it is not.
    pub blocked: Option<String>,
    /// Whether the system says that its clock is synchronised.
    #[serde(default)]
    pub clock_synchronised: bool,
    /// What to do about log time that is far ahead of the wall clock; null if it is not.
    pub clock_advice: Option<String>,
    /// Resource usage of the process.
    pub process: Process,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Log {
    /// Its oldest record; null if it is empty.
    pub first_seq: Option<Seq>,
    /// Size of its file; null if unknown.
    pub file_bytes: Option<u64>,
    /// Most that may be stored, `retention.bytes_max`; null: no bound.
    #[serde(default)]
    pub bytes_max: Option<u64>,
    /// Free bytes of the file system it is on; null if unknown.
    #[serde(default)]
    pub disk_free_bytes: Option<u64>,
    /// Free bytes below which ingest is blocked or old records go, `retention.free_bytes_min`.
    #[serde(default)]
    pub disk_free_bytes_min: u64,
    /// The journal.
    pub journal: Journal,
    /// Bytes written to the log and the journal.
    pub bytes_written: u64,
    /// Bytes written per record; null before the first one.
    pub bytes_per_event: Option<f64>,
    /// Bytes written per day to log, journal and snapshots, at the rate since the start.
    pub bytes_written_per_day: Option<f64>,
    /// In how many years this rate uses up the endurance of the storage (`log.endurance_tb`).
    pub endurance_years: Option<f64>,
    /// Calls to fsync.
    pub syncs: u64,
    /// Commits.
    pub commits: Commits,
    /// Mean duration of a commit in milliseconds; null before the first one.
    pub commit_ms_mean: Option<f64>,
    /// Longest commit, in milliseconds.
    pub commit_ms_max: f64,
    /// Records committed.
    pub events: u64,
    /// The archive of aggregates; null if it cannot be read.
    pub archive: Option<Archive>,
}

/// Alerts, by what the rules of the configuration say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AlertCounts {
    /// Rules in the configuration.
    pub rules: usize,
    /// Alerts that are open; null while they are being rebuilt from the log.
    pub open: Option<usize>,
    /// Critical ones of these.
    pub critical: Option<usize>,
    /// Alerts that were raised.
    pub raised: u64,
    /// Alerts that were not raised because too many were open.
    pub beyond: u64,
}

/// Somebody who is told of alerts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Notify {
    /// Its name.
    pub name: String,
    /// The source by which, or the server to which.
    pub target: String,
    /// Events that were passed on.
    pub told: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Events that the other side refuses, which are not tried again.
    pub refused: u64,
    /// Why the last attempt failed; null if it did not.
    pub last_error: Option<String>,
}

/// The journal, which takes small commits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Journal {
    /// Whether commits go to it.
    pub used: bool,
    /// Why not; null if they do.
    pub unused_because: Option<String>,
    /// Commits that went to it.
    pub commits: u64,
}

/// Commits, by the reason that made them due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Commits {
    /// The oldest message had waited long enough.
    pub delay: u64,
    /// Enough bytes waited.
    pub bytes: u64,
    /// A broker's window was full.
    pub window: u64,
    /// The agent's own records.
    pub internal: u64,
}

/// The archive: aggregates that are kept longer than their records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Archive {
    /// Rows: aggregates of one attribute in one window.
    pub rows: u64,
    /// Size of these rows.
    pub bytes: u64,
    /// The last archived record; null if there is none.
    pub upto_seq: Option<Seq>,
    /// Log time of that.
    pub upto: Option<Rfc3339>,
}

/// Numbers of devices, by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeviceCounts {
    /// All devices that are not retired.
    pub total: usize,
    /// Reachable ones of these.
    pub online: usize,
    /// Unreachable ones of these.
    pub offline: usize,
    /// Those that never reported it.
    pub unknown: usize,
    /// Retired.
    pub retired: usize,
}

/// Memory accounting of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct State {
    /// Bytes counted for names, values, aggregates and topics.
    pub bytes: u64,
    /// Limit of these bytes, `limits.state_bytes_max`.
    pub bytes_max: u64,
    /// Devices, attributes and values refused because the limit was reached.
    pub refused: u64,
    /// Retired devices forgotten to make room.
    pub devices_forgotten: u64,
}

/// Commands to devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Commands {
    /// Those that are not closed; null while they are being rebuilt from the log.
    pub open: Option<usize>,
    /// Whether they are taken over TCP: `http.command_token_file` or `http.admin_token_file` was set at the start.
    pub admin_token: bool,
    /// How many came into each state; a command counts once in each of its states.
    pub by_state: BTreeMap<Words, u64>,
    /// How many were not accepted, by reason.
    pub rejected: BTreeMap<Words, u64>,
}

/// The last snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Snapshot {
    /// The last record that it includes; 0 if there is no snapshot.
    pub seq: Seq,
    /// When it was written; null if before the start.
    pub at: Option<Rfc3339>,
    /// Its size in bytes; 0 if it was written before the start.
    pub bytes: u64,
    /// Snapshots written.
    pub written: u64,
    /// Failed attempts to write a snapshot.
    pub errors: u64,
    /// The sparse snapshots from which states at past moments are replayed.
    #[serde(default)]
    pub past: PastSnapshots,
}

/// The sparse snapshots of the past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PastSnapshots {
    /// How many are kept.
    pub count: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// The most that it may be, in bytes.
    pub bytes_max: u64,
}

/// Parts of the view that are being rebuilt from the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Rebuild {
    /// Whether one is.
    pub running: bool,
    /// The last record that the current or last rebuild has processed; 0 before the first one.
    pub applied: u64,
    /// The names of these parts, such as `aggregates`.
    #[serde(default)]
    pub folds: Vec<Words>,
}

/// A broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Source {
    /// Its name in the configuration.
    pub name: String,
    /// Host and port.
    pub address: String,
    /// The state of the connection, one word for programs.
    pub state: Words,
    /// The same in words.
    pub state_text: String,
    /// Whether it is connected.
    pub connected: bool,
    /// Since when it is connected; null if it is not.
    pub connected_at: Option<Rfc3339>,
    /// Whether the broker had kept the session at the last connect.
    pub session_present: bool,
    /// Connections after the first one.
    pub reconnects: u64,
    /// Why the last connection ended or failed; null if none has.
    pub last_error: Option<String>,
    /// What to do about that error; null if nothing.
    pub advice: Option<String>,
    /// Conditions that need the operator's attention.
    pub warnings: Vec<String>,
    /// Messages received.
    pub messages: u64,
    /// Messages received with QoS 0, which can be lost.
    pub qos0: u64,
    /// Records made of them.
    pub events: u64,
    /// Messages that changed nothing, because their values are equal.
    pub unchanged: u64,
    /// Retained messages among these, which the broker sends on subscription.
    pub retained_repeats: u64,
    /// Values held back by a deadband, an interval or `record = "never"`.
    pub suppressed: u64,
    /// Messages that could not be decoded.
    pub quarantined: u64,
    /// Quarantined messages that are recorded only in a summary.
    pub summarised: u64,
    /// Devices whose name is also used in another namespace.
    pub name_clashes: u64,
    /// Messages that no rule takes, or whose rule ignores them.
    pub ignored: u64,
    /// Messages not yet acknowledged to the broker.
    pub unacked: u64,
    /// Subscriptions that the broker has refused.
    pub refused_filters: Vec<RefusedFilter>,
    /// Null unless the source is a Sparkplug host application.
    pub sparkplug: Option<SparkplugHost>,
}

/// A Sparkplug host application and its edge nodes. Counts are since the agent's start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SparkplugHost {
    /// Its id, as in its STATE topic.
    pub host_id: String,
    /// Edge nodes that are online.
    pub nodes_online: u64,
    /// Edge nodes that are online, but whose messages may have been missed in part.
    pub nodes_stale: u64,
    /// Edge nodes that are offline.
    pub nodes_offline: u64,
    /// Birth certificates of edge nodes and devices.
    pub births: u64,
    /// Death certificates of edge nodes and devices.
    pub deaths: u64,
    /// Gaps in the message order of edge nodes.
    pub gaps: u64,
    /// Requests for births, by reason.
    pub rebirth_requests: BTreeMap<Words, u64>,
}

/// A subscription that the broker has refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RefusedFilter {
    /// The topic filter.
    pub filter: String,
    /// Why.
    pub reason: Words,
}

/// A destination of records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Sink {
    /// Its name in the configuration.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Whether records are kept until the sink has them.
    pub required: bool,
    /// The state of the connection, one word for programs.
    pub state: Words,
    /// The same in words.
    pub state_text: String,
    /// Whether it is connected.
    pub connected: bool,
    /// Since when it is connected; null if it is not.
    pub connected_at: Option<Rfc3339>,
    /// Until when it waits before the next attempt; null if it does not wait.
    pub waiting_until: Option<Rfc3339>,
    /// Why it waits.
    pub waiting_why: Option<String>,
    /// Every record up to this one is acknowledged; 0 for none.
    pub acked_upto: Seq,
    /// Records that are not acknowledged yet.
    pub backlog_events: u64,
    /// Approximate bytes of these records in the log.
    pub backlog_bytes: u64,
    /// Approximate log time of the oldest of them; null if there are none.
    pub backlog_oldest: Option<Rfc3339>,
    /// Records acknowledged per second, over the last ten seconds.
    pub events_per_s: f64,
    /// Records acknowledged.
    pub events_acked: u64,
    /// Priority copies acknowledged.
    pub priority_acked: u64,
    /// Parcels acknowledged.
    pub parcels_acked: u64,
    /// Bytes of these parcels.
    pub bytes_acked: u64,
    /// Parcels sent again.
    pub parcels_retried: u64,
    /// Refused records that were skipped.
    pub dead_letters: u64,
    /// Refused records that are kept and will be offered again.
    pub refused_events: u64,
    /// Requests of the receiver to send something again.
    #[serde(default)]
    pub resend_requests: u64,
    /// Records acknowledged after such a request.
    #[serde(default)]
    pub events_resent: u64,
    /// Records that are still to be sent again.
    #[serde(default)]
    pub resend_events: u64,
    /// Connections made.
    pub connections: u64,
    /// A condition that needs the operator's attention; null if none.
    pub warning: Option<String>,
    /// The last failure; null if there was none.
    pub last_error: Option<String>,
    /// When.
    pub last_error_at: Option<Rfc3339>,
}

/// Resource usage of the process; null where the system does not report it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Process {
    /// Resident memory, in bytes.
    pub resident_bytes: Option<u64>,
    /// User and system CPU time since the start, in seconds.
    pub cpu_s: Option<f64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
}
