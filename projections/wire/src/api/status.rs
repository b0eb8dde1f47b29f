//! `/status`: everything an operator asks first, in one answer. Counts are since the start of the agent unless they say
//! otherwise.

use std::borrow::Cow;
use std::collections::BTreeMap;

use fieldlog_projections::Seq;
use serde::{Deserialize, Serialize};

use super::position::Position;
use crate::json::Rfc3339;

/// A word or sentence that is fixed where it is written.
pub type Words = Cow<'static, str>;

/// `GET /status`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Where the view is.
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
    /// How many devices there are.
    pub devices: DeviceCounts,
    /// Memory counted for what is known about devices.
    pub state: State,
    /// The last snapshot.
    pub snapshot: Snapshot,
    /// Parts of the view that are being rebuilt.
    pub rebuild: Rebuild,
    /// The brokers, as configured.
    pub sources: Vec<Source>,
    /// Where records are sent, as configured.
    pub sinks: Vec<Sink>,
    /// Why no messages are taken; null while they are.
    pub blocked: Option<String>,
    /// What to do about log time that is far ahead of the wall clock; null if it is not.
    pub clock_advice: Option<String>,
    /// What the process uses.
    pub process: Process,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Log {
    /// Its oldest record; null if it is empty.
    pub first_seq: Option<Seq>,
    /// Size of its file; null if that cannot be told.
    pub file_bytes: Option<u64>,
    /// Bytes written to the file.
    pub bytes_written: u64,
    /// Bytes written per record; null before the first one.
    pub bytes_per_event: Option<f64>,
    /// Bytes written per day at the present rate.
    pub bytes_written_per_day: Option<f64>,
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
    /// Aggregates of records, kept longer than the records; null if they cannot be read.
    pub archive: Option<Archive>,
}

/// Commits by what made them due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// Aggregates of records, kept longer than the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    /// Rows: aggregates of one attribute in one window.
    pub rows: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// The last record that is in them; null if there are none.
    pub upto_seq: Option<Seq>,
    /// Log time of that.
    pub upto: Option<Rfc3339>,
}

/// Devices by what is known about them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceCounts {
    /// All that are not retired.
    pub total: usize,
    /// Of these, can be reached.
    pub online: usize,
    /// Of these, cannot be reached.
    pub offline: usize,
    /// Of these, never said.
    pub unknown: usize,
    /// Retired.
    pub retired: usize,
}

/// Memory counted for what is known about devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Bytes counted for names, values, aggregates and topics.
    pub bytes: u64,
    /// What that may come to, `limits.state_bytes_max`.
    pub bytes_max: u64,
    /// Devices, attributes and values refused for lack of room.
    pub refused: u64,
    /// Retired devices forgotten to make room.
    pub devices_forgotten: u64,
}

/// The last snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The last record that is in it; 0 for no snapshot.
    pub seq: Seq,
    /// When it was written; null if that was before the start.
    pub at: Option<Rfc3339>,
    /// Its size; 0 if it was written before the start.
    pub bytes: u64,
    /// Snapshots written.
    pub written: u64,
    /// Snapshots that could not be written.
    pub errors: u64,
}

/// Parts of the view that are being rebuilt from the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuild {
    /// Whether one is.
    pub running: bool,
    /// The last record that this, or the last rebuild, has come to; 0 before the first one.
    pub applied: u64,
    /// The names of these parts, such as `aggregates`.
    #[serde(default)]
    pub folds: Vec<Words>,
}

/// A broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Since when; null if it is not.
    pub connected_at: Option<Rfc3339>,
    /// Whether the broker had kept the session when the connection was made.
    pub session_present: bool,
    /// Connections after the first one.
    pub reconnects: u64,
    /// Why the last connection ended or could not be made; null if there was none such.
    pub last_error: Option<String>,
    /// What to do about it; null for nothing.
    pub advice: Option<String>,
    /// What the operator should look at.
    pub warnings: Vec<String>,
    /// Messages received.
    pub messages: u64,
    /// Of these, of quality of service 0, which can be lost.
    pub qos0: u64,
    /// Records made of them.
    pub events: u64,
    /// Messages that changed nothing: equal values.
    pub unchanged: u64,
    /// Of these, retained ones, which the broker sends because of the subscription.
    pub retained_repeats: u64,
    /// Values held back by a deadband, an interval or `record = "never"`.
    pub suppressed: u64,
    /// Messages that could not be decoded.
    pub quarantined: u64,
    /// Of these, the ones that are recorded in a summary.
    pub summarised: u64,
    /// Devices that have the name of another one in another namespace.
    pub name_clashes: u64,
    /// Messages that no rule takes or that a rule says to ignore.
    pub ignored: u64,
    /// Messages that are not acknowledged to the broker yet.
    pub unacked: u64,
    /// Subscriptions that the broker refuses.
    pub refused_filters: Vec<RefusedFilter>,
    /// Null unless the source is a Sparkplug host application.
    pub sparkplug: Option<SparkplugHost>,
}

/// A Sparkplug host application and its edge nodes. Counts are since the agent's start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SparkplugHost {
    /// Its id, as in its STATE topic.
    pub host_id: String,
    /// Edge nodes that are online.
    pub nodes_online: u64,
    /// Online, but messages of theirs may have been missed.
    pub nodes_stale: u64,
    /// Edge nodes that are offline.
    pub nodes_offline: u64,
    /// Birth certificates of edge nodes and devices.
    pub births: u64,
    /// Death certificates of edge nodes and devices.
    pub deaths: u64,
    /// Messages that were missing in the order of an edge node.
    pub gaps: u64,
    /// How often an edge node was asked for its births, by reason.
    pub rebirth_requests: BTreeMap<Words, u64>,
}

/// A subscription that the broker refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedFilter {
    /// The topic filter.
    pub filter: String,
    /// Why.
    pub reason: Words,
}

/// A place that records are sent to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sink {
    /// Its name in the configuration.
    pub name: String,
    /// Where it is.
    pub address: String,
    /// Whether records are kept until it has them.
    pub required: bool,
    /// The state of the connection, one word for programs.
    pub state: Words,
    /// The same in words.
    pub state_text: String,
    /// Whether it is connected.
    pub connected: bool,
    /// Since when; null if it is not.
    pub connected_at: Option<Rfc3339>,
    /// Until when it waits before the next attempt; null if it does not wait.
    pub waiting_until: Option<Rfc3339>,
    /// Why it waits.
    pub waiting_why: Option<String>,
    /// All records up to this one are acknowledged; 0 for none.
    pub acked_upto: Seq,
    /// Records that are not acknowledged yet.
    pub backlog_events: u64,
    /// Their bytes in the log, about.
    pub backlog_bytes: u64,
    /// Log time of the oldest of them, about; null if there are none.
    pub backlog_oldest: Option<Rfc3339>,
    /// Records acknowledged in a second, over the last while.
    pub events_per_s: f64,
    /// Records acknowledged.
    pub events_acked: u64,
    /// Copies sent ahead of their turn and acknowledged.
    pub priority_acked: u64,
    /// Parcels acknowledged.
    pub parcels_acked: u64,
    /// Bytes of these.
    pub bytes_acked: u64,
    /// Parcels sent again.
    pub parcels_retried: u64,
    /// Records that the sink refused and that were passed over.
    pub dead_letters: u64,
    /// Records that the sink refuses, kept and offered again.
    pub refused_events: u64,
    /// Connections made.
    pub connections: u64,
    /// What the operator should look at; null for nothing.
    pub warning: Option<String>,
    /// Why something last failed; null if nothing has.
    pub last_error: Option<String>,
    /// When.
    pub last_error_at: Option<Rfc3339>,
}

/// What the process uses; null where the system does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Memory in RAM, in bytes.
    pub resident_bytes: Option<u64>,
    /// Processor time since the start, user and system, in seconds.
    pub cpu_s: Option<f64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
}
