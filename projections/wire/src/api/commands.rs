//! `/api/v1/commands` and the commands of a device.

use std::borrow::Cow;
use std::collections::BTreeMap;

use fieldlog_projections::Seq;
use fieldlog_projections::command::CommandState;
use serde::{Deserialize, Serialize};

use super::devices::AsOf;
use super::position::Position;
use crate::json::Rfc3339;

/// Largest body of a command, in bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// The body of `POST /api/v1/devices/{id}/commands`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CommandBody {
    /// The attribute to set; either this or `operation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attribute: Option<String>,
    /// The operation to carry out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// The value to set, or the operation's argument.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub value: serde_json::Value,
    /// 1 to 128 printable ASCII characters. The same key with the same body is the same command.
    pub idempotency_key: String,
    /// Time to live, 1 to 604,800 seconds: it is not sent later.
    pub ttl_s: u32,
    /// What must be so for the command to be accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
    /// Why, up to 512 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// What must be so for a command to be accepted. All that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The device has no newer record than this one, its `changed_seq`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_seq: Option<Seq>,
    /// These attributes have these values; null: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, serde_json::Value>,
}

/// `POST /api/v1/devices/{id}/commands` and `GET /api/v1/commands/{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CommandAnswer<'a> {
    /// Where the view is.
    pub position: Position,
    /// The past state that this is; absent if it is the current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<AsOf>,
    /// The command.
    pub command: CommandJson<'a>,
}

/// `GET /api/v1/commands`: the newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CommandPage<'a> {
    /// Where the view is.
    pub position: Position,
    /// The past state that this is; absent if it is the current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<AsOf>,
    /// The commands.
    pub commands: Vec<CommandJson<'a>>,
    /// The last id of this page, to go on with as `before`; null if there are no more.
    pub next: Option<Seq>,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CommandJson<'a> {
    /// Its id: the position of its request.
    pub id: Seq,
    /// Where it can be asked for.
    pub url: String,
    /// The device.
    pub device: Cow<'a, str>,
    /// The attribute to set, or the operation.
    pub name: Cow<'a, str>,
    /// Whether it is an operation.
    pub operation: bool,
    /// The value, or the operation's argument.
    pub value: serde_json::Value,
    /// Where it is: `requested`, `dispatched`, `acknowledged`, `applied`, `failed`, `expired`, `superseded`, `unconfirmed` or
    /// `unknown`.
    pub state: Cow<'a, str>,
    /// Whether it is closed: nothing more can come of it.
    pub closed: bool,
    /// Why it failed; absent if it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Cow<'a, str>>,
    /// The command that took its place; absent if none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<Seq>,
    /// Who asked.
    pub actor: Cow<'a, str>,
    /// The requester's key.
    pub idempotency_key: Cow<'a, str>,
    /// Why, in the requester's words; empty if not said.
    pub reason: Cow<'a, str>,
    /// Log time of the request.
    pub requested_at: Rfc3339,
    /// It is not sent later than this.
    pub expires_at: Rfc3339,
    /// Time to live, in seconds.
    pub ttl_s: u32,
    /// Whether it may be sent more than once; absent if it ended long ago and the log does not have its request any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotent: Option<bool>,
    /// What shows that it was carried out: `reported`, `reply` or `none`; absent if `idempotent` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Cow<'a, str>>,
    /// The trace context that it was asked in, as the `traceparent` of W3C Trace Context; absent if none was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<Cow<'a, str>>,
    /// How many times it was dispatched.
    pub attempts: u32,
    /// Record of its last dispatch; null if there was none.
    pub dispatched_seq: Option<Seq>,
    /// Record of its first acknowledgement; null if there was none.
    pub acknowledged_seq: Option<Seq>,
    /// The record of the state that shows that it was carried out; null if there is none.
    pub evidence_seq: Option<Seq>,
    /// Its newest record.
    pub changed_seq: Seq,
    /// Log time of that.
    pub changed_at: Rfc3339,
}

/// An answer to a command that came through a sink: when it is accepted or refused, and when it is closed. What there is
/// nothing to say about is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RemoteAnswer<'a> {
    /// The gateway.
    pub gateway: Cow<'a, str>,
    /// The incarnation of its log, in 16 hexadecimal digits.
    pub epoch: Cow<'a, str>,
    /// The device, as it was asked for.
    pub device: Cow<'a, str>,
    /// The requester's key; absent if the command could not be read.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub idempotency_key: Cow<'a, str>,
    /// The command's id: the position of its request; absent if it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Seq>,
    /// Where it is, as in [`CommandJson::state`]; absent if it was refused.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub state: Cow<'a, str>,
    /// Whether nothing more can come of it, and so no further answer.
    pub closed: bool,
    /// It had been accepted before, under the same key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeated: bool,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub failure: Cow<'a, str>,
    /// The command that took its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<Seq>,
    /// Why it was refused, in one word; the words are those of the problems over HTTP.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub code: Cow<'a, str>,
    /// Why it was refused: what was wrong, and what to do.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub detail: Cow<'a, str>,
    /// The device's newest record, if another one was expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_seq: Option<Seq>,
}

/// `GET /api/v1/devices/{id}/twin`: what is wanted of a device beside what it reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TwinAnswer<'a> {
    /// Where the view is.
    pub position: Position,
    /// The past state that this is; absent if it is the current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<AsOf>,
    /// The device.
    pub device: Cow<'a, str>,
    /// What was last asked for and not given up, by attribute.
    pub desired: BTreeMap<Cow<'a, str>, DesiredJson>,
    /// What the device reports, by attribute.
    pub reported: BTreeMap<Cow<'a, str>, ReportedJson>,
    /// Attributes whose reported value is not the desired one, with the desired value.
    pub delta: BTreeMap<Cow<'a, str>, serde_json::Value>,
}

/// A desired value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DesiredJson {
    /// The value.
    pub value: serde_json::Value,
    /// The command that wants it.
    pub command: Seq,
    /// Log time of that command.
    pub at: Rfc3339,
}

/// A reported value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReportedJson {
    /// The value.
    pub value: serde_json::Value,
    /// The record that set it.
    pub seq: Seq,
    /// Log time of that.
    pub at: Rfc3339,
}

/// `GET /api/v1/devices/{id}/command-set`: what a device can be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CommandSetAnswer<'a> {
    /// Where the view is.
    pub position: Position,
    /// The device.
    pub device: Cow<'a, str>,
    /// What it can be told, attributes first.
    pub commands: Vec<DeclaredJson<'a>>,
}

/// Something that a device can be told. What nothing is said about is absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeclaredJson<'a> {
    /// The attribute, or the operation.
    pub name: Cow<'a, str>,
    /// Whether it is an operation.
    pub operation: bool,
    /// Type of the value: `text`, `number`, `integer`, `boolean`, `enum` or `json`.
    #[serde(default, rename = "type", skip_serializing_if = "str::is_empty")]
    pub data_type: Cow<'a, str>,
    /// Smallest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Largest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// Distance between neighbouring values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<f64>,
    /// The values that are allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// Unit of the value.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub unit: Cow<'a, str>,
    /// Whether it may be sent more than once.
    pub idempotent: bool,
    /// What becomes of it while the device is offline: `reject`, `hold` or `latest_wins`.
    pub on_offline: Cow<'a, str>,
    /// What shows that it was carried out: `reported`, `reply` or `none`.
    pub evidence: Cow<'a, str>,
}

/// HTTP status and title of the problem that says that a command is refused; `code` is that of [`RemoteAnswer`].
pub fn refusal(code: &str) -> (u16, &'static str) {
    match code {
        "bad-command" => (400, "The command cannot be read"),
        "retained" => (400, "The command is retained"),
        "no-such-device" => (404, "No such device"),
        "unreachable" => (409, "The device cannot be reached"),
        "key-conflict" => (409, "The key stands for another command"),
        "expired" => (410, "The time of the command is over"),
        "not-as-expected" => (412, "The device is not as expected"),
        "too-large" => (413, "The command is too large"),
        "no-such-command" => (422, "The device cannot be told that"),
        "invalid-value" => (422, "The value is not allowed"),
        "busy" | "too-many-commands" | "not-ready" => (503, "No commands are taken now"),
        // Of a gateway that is newer.
        _ => (409, "The command is refused"),
    }
}

/// The state of that name.
pub fn state_named(name: &str) -> Option<CommandState> {
    CommandState::ALL.into_iter().find(|state| state.word() == name)
}
