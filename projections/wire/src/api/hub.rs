//! The API of the hub, `fieldlog-hub`, which has many gateways.
//!
//! A member that is an `Option` is null or absent if it has no value.

use std::borrow::Cow;

use fieldlog_projections::Seq;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Members;
use super::commands::RemoteAnswer;
use crate::account::Fault;
use crate::json::Rfc3339;

/// A range of positions, inclusive.
pub type Range = (Seq, Seq);

/// Items in the order of their paths' `after`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "{T}Items"))]
pub struct Items<T> {
    /// Up to `limit` of them.
    pub items: Vec<T>,
}

/// `GET /api/v1/gateways`: a gateway, by its newest log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Gateway {
    /// Its id.
    pub gateway: String,
    /// The incarnation of its log, in 16 hexadecimal digits; it and what follows are null until the log is known.
    pub epoch: Option<String>,
    /// Nothing is missing up to here.
    pub position: Option<u64>,
    /// The chain there, if it is known.
    pub chain: Option<String>,
    /// The newest position that has arrived.
    pub newest: Option<u64>,
    /// The newest that the gateway has mentioned.
    pub head: Option<u64>,
    /// Positions that are not here and not lost.
    pub lag_events: u64,
    /// Log time of the newest event.
    pub newest_time: Option<Rfc3339>,
    /// How long ago that was, in seconds.
    pub newest_age_s: Option<f64>,
    /// Seconds since the newest moment up to which nothing is missing that is not lost; 0 if nothing is.
    pub lag_s: Option<f64>,
    /// Missing ranges below `newest`.
    pub missing: Option<Vec<Range>>,
    /// Events that are here.
    pub events: Option<u64>,
    /// Events that came again.
    pub duplicates: Option<u64>,
    /// Contradictions between what has arrived.
    pub faults: Option<Vec<Fault>>,
    /// Why nothing more is taken of the log.
    pub forked: Option<String>,
    /// When something last arrived.
    pub last_seen: Option<Rfc3339>,
    /// The process of the hub that writes what it sends.
    pub holder: Option<String>,
    /// How many times that has changed.
    pub fence: u64,
    /// The missing ranges, with what is known of each.
    pub gaps: Vec<Gap>,
    /// Version of the agent, as of its newest start that has arrived.
    pub version: Option<String>,
    /// The worst of these: `forked`; `contradicted`, which its faults say; `silent`, nothing has arrived for an hour; `gaps`, the
    /// gateway was asked for what is missing; `behind`; `lost`, only what it does not have any more is missing; `complete`.
    pub state: String,
}

/// `GET /api/v1/fleet`: how many gateways there are, and in which state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Fleet {
    /// All of them.
    pub gateways: u64,
    /// Nothing more is taken of their logs.
    pub forked: u64,
    /// What has arrived of them contradicts itself.
    pub contradicted: u64,
    /// Nothing has arrived of them for an hour.
    pub silent: u64,
    /// They were asked for what is missing.
    pub gaps: u64,
    /// What is missing may still come by itself.
    pub behind: u64,
    /// Only what they do not have any more is missing.
    pub lost: u64,
    /// Nothing is missing.
    pub complete: u64,
    /// Positions that are not here and not lost, of all of them.
    pub lag_events: u64,
    /// Events that are here.
    pub events: u64,
}

/// A missing range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Gap {
    /// Its first position.
    pub first: Seq,
    /// Its last.
    pub last: Seq,
    /// `expected`, `asked` or `lost`.
    pub state: String,
    /// Since when it has these bounds.
    #[serde(default)]
    pub since: Option<Rfc3339>,
    /// How many times the gateway was asked for it.
    #[serde(default)]
    pub asks: Option<u32>,
    /// When last.
    #[serde(default)]
    pub asked_at: Option<Rfc3339>,
    /// Why it is lost, or why the gateway does not send it.
    #[serde(default)]
    pub why: Option<String>,
}

/// `GET /api/v1/gateways/{gateway}`: one of its logs, the newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GatewayLog {
    /// The gateway.
    pub gateway: String,
    /// The incarnation of its log, in 16 hexadecimal digits.
    pub epoch: String,
    /// Nothing is missing up to here.
    pub position: u64,
    /// The chain there, if it is known.
    pub chain: Option<String>,
    /// The newest position that has arrived.
    pub newest: u64,
    /// The newest that the gateway has mentioned.
    pub head: u64,
    /// Missing ranges below `newest`.
    pub missing: Vec<Range>,
    /// Events that are here.
    pub events: u64,
    /// Events that came again.
    pub duplicates: u64,
    /// Contradictions between what has arrived.
    pub faults: Vec<Fault>,
    /// Why nothing more is taken of it.
    pub forked: Option<String>,
    /// When something first arrived.
    pub first_seen: Rfc3339,
    /// When something last arrived.
    pub last_seen: Rfc3339,
    /// Log time of the newest event.
    pub newest_time: Option<Rfc3339>,
    /// Version of the agent, as of its newest start in this log that has arrived.
    pub version: Option<String>,
}

/// `GET /api/v1/devices`: a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HubDevice {
    /// Its gateway.
    pub gateway: String,
    /// Its id there.
    pub device: String,
    /// Its newest event.
    pub seq: u64,
    /// Log time of that.
    pub changed: Rfc3339,
    /// The source that found it.
    pub source: Option<String>,
    /// The device that it is reached through.
    pub parent: Option<String>,
    /// Whether it was removed.
    pub retired: bool,
    /// `online` or `offline`, if it was said.
    pub availability: Option<String>,
    /// Since when.
    pub availability_since: Option<Rfc3339>,
    /// How it is described.
    pub description: Option<Members>,
    /// The values of its attributes, by name.
    pub state: Option<Members>,
}

/// `GET /api/v1/state`: the value that an attribute of a device has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AttributeState {
    /// The attribute.
    pub attribute: String,
    /// Its value.
    pub value: Value,
    /// Position of the event that set it.
    pub seq: Seq,
    /// Log time of that.
    pub changed: Rfc3339,
    /// How it is described, such as with `name` and `unit`.
    pub description: Option<Members>,
}

/// `GET /api/v1/history`: a value that an attribute got.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Change {
    /// Position of the event.
    pub seq: Seq,
    /// Log time.
    pub recorded: Rfc3339,
    /// The device's own time, if it has said one, else log time.
    pub time: Rfc3339,
    /// The value; null if the attribute was removed.
    pub value: Value,
}

/// `GET /api/v1/aggregates`: the numbers of one window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WindowNumbers {
    /// When it begins.
    pub start: Rfc3339,
    /// How many numbers there were.
    pub count: u64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// Their mean.
    pub mean: f64,
    /// Their sum.
    pub sum: f64,
    /// The last.
    pub last: f64,
}

/// `GET /api/v1/events`: an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HubEvent {
    /// Its position.
    pub seq: Seq,
    /// Log time.
    pub recorded: Rfc3339,
    /// The device's own time, if it has said one, else log time.
    pub time: Rfc3339,
    /// Its type, such as `state_changed`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The device that it is about.
    pub device: Option<String>,
    /// Its content.
    pub data: Value,
}

/// `GET /api/v1/commands`: a command, as far as its events have arrived.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HubCommand {
    /// Its id: the position of its request.
    pub command: Seq,
    /// The device.
    pub device: Option<String>,
    /// The content of its request, if that has arrived.
    pub request: Option<Value>,
    /// Log time of it.
    pub requested: Option<Rfc3339>,
    /// Where it is, as at the gateway.
    pub state: String,
    /// The content of its newest step.
    pub step: Option<Value>,
    /// Position of that.
    pub seq: Seq,
    /// Log time of that.
    pub changed: Rfc3339,
}

/// `GET /api/v1/gateways/{gateway}/commands/{command}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HubCommandAnswer {
    /// The command.
    #[serde(flatten)]
    pub command: HubCommand,
    /// Every event of it that has arrived.
    pub steps: Vec<CommandStep>,
}

/// An event of a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CommandStep {
    /// Its position.
    pub seq: Seq,
    /// Log time.
    pub recorded: Rfc3339,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its content.
    pub data: Value,
}

/// `POST /api/v1/gateways/{gateway}/devices/{device}/commands`: a command that the gateway has recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CommandTaken<'a> {
    /// Where it can be asked for, once its events have arrived.
    pub url: Cow<'a, str>,
    /// The gateway's answer.
    #[serde(flatten, borrow)]
    pub answer: RemoteAnswer<'a>,
}

/// `GET /api/v1/stores`: a store that follows the tables, as far as this process's gateways go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Store<'a> {
    /// `redis` or `opensearch`.
    pub store: Cow<'a, str>,
    /// `off`, `rebuilding`, `live` or `failing`.
    pub state: Cow<'a, str>,
    /// Why it is failing; absent if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Logs of gateways that this process holds.
    pub gateways: usize,
    /// Events of them in PostgreSQL.
    pub events: i64,
    /// How many of these the store lacks.
    pub lag_events: i64,
    /// For how long it has not had everything.
    pub behind_s: f64,
    /// While it is rebuilding: how long that will take at the speed that it has had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_s: Option<f64>,
    /// Grows each time it begins anew.
    pub generation: i64,
    /// Documents that the store has without their content, which it would not take.
    pub reduced: u64,
}

/// `GET /api/v1/sources`: a stream of parcels, as far as this process reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Source<'a> {
    /// Its address, and its stream or topic.
    pub source: String,
    /// `connecting`, `reading`, `waiting` (another process reads it) or `failing`.
    pub state: Cow<'a, str>,
    /// The last error since this process was started: while it is failing, why. Absent if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_time: Option<String>,
    /// Subjects of NATS that are this process's share and that it does not take; what is on them stays in the stream.
    pub stopped: Vec<Stopped>,
    /// Records of a topic of Kafka that this process has not read yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_records: Option<u64>,
    /// Parcels of a topic of Kafka of which some records have not come yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete_parcels: Option<u64>,
}

/// A subject that is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Stopped {
    /// The subject.
    pub subject: String,
    /// Why, and what to do.
    pub why: String,
}

/// `GET /api/v1/search`: what was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Found {
    /// Devices by gateway and id, then refused messages, by gateway and the newest first.
    pub items: Vec<Hit>,
    /// To go on with, as `after`; null if there is no more.
    pub next: Option<String>,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Hit {
    /// `device`, or `quarantine`: a message that the gateway could not read.
    pub kind: String,
    /// The gateway.
    pub gateway: String,
    /// The device's id; null if it is none.
    pub device: Option<String>,
    /// Position of the event that says so; null for a device.
    pub seq: Option<Seq>,
    /// Log time of that.
    pub recorded: Option<Rfc3339>,
    /// The words that were looked through.
    pub text: String,
}
