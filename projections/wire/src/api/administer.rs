//! Calls that change something, other than commands: devices and the quarantine.

use std::borrow::Cow;

use fieldlog_projections::Seq;
use serde::{Deserialize, Serialize};

use super::position::Position;

/// The body of `POST /api/v1/devices/{id}/retire` and `/forget`, and of a requeue of one input; may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ReasonBody {
    /// Why, for the log; up to 512 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// The body of `POST /api/v1/snapshot` and `POST /api/v1/sinks/{name}/retry`; may be left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// The answer to `POST /api/v1/snapshot`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SnapshotDone {
    /// The position of the view.
    pub position: Position,
    /// The last record that the snapshot includes.
    pub seq: Seq,
    /// Its size in bytes; 0 if it was written before the agent's start and nothing has been recorded since.
    pub bytes: u64,
}

/// The answer to `POST /api/v1/sinks/{name}/retry`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RetryDone<'a> {
    /// The position of the view.
    pub position: Position,
    /// The sink.
    pub sink: Cow<'a, str>,
    /// Its state before, in words.
    pub waited: Cow<'a, str>,
}

/// The body of `POST /api/v1/devices/{id}/rename`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RenameBody {
    /// The id from now on.
    pub id: String,
    /// Why, for the log; up to 512 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// The body of `POST /api/v1/quarantine/requeue` and `/purge`: which inputs. `source` or `topic` is needed; `*` in them
/// matches any text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct QuarantineBody {
    /// Pattern of the source's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Pattern of the topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Only inputs after this position: the `next` of the answer before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Seq>,
    /// How many, at most, oldest first; 1 to 1000, 100 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Why, for the log; up to 512 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// The answer to a call about a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeviceDone<'a> {
    /// The position of the view, which includes what was done.
    pub position: Position,
    /// The record of the call; the records that follow from it have it as their cause.
    pub seq: Seq,
    /// The id of the device: the new one after a rename, the last one of a forgotten device.
    pub device: Cow<'a, str>,
    /// Commands of the device that were open and are given up.
    pub commands_given_up: u64,
    /// What this means, in words.
    pub note: Cow<'a, str>,
}

/// The answer to a requeue or a purge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QuarantineDone<'a> {
    /// The position of the view, which includes what was done.
    pub position: Position,
    /// The record of the call; null if no input matched.
    pub seq: Option<Seq>,
    /// Inputs that have left the quarantine, oldest first.
    pub resolved: Vec<ResolvedJson>,
    /// Inputs that stay in the quarantine.
    pub kept: Vec<KeptJson<'a>>,
    /// Pass this as `after` to continue; null if there are no more.
    pub next: Option<Seq>,
}

/// An input that has left the quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ResolvedJson {
    /// Position of its record, which is the cause of the records made of it.
    pub input: Seq,
    /// Records of its values; 0 after a purge.
    pub records: u64,
}

/// An input that stays in the quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KeptJson<'a> {
    /// Position of its record.
    pub input: Seq,
    /// Why it stays, and what to do.
    pub reason: Cow<'a, str>,
}

/// The body of `POST /api/v1/backup`, which is answered over the Unix socket only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BackupBody {
    /// Absolute path of the directory, which must be empty or missing. The agent writes there, with its own rights.
    pub to: String,
    /// Why, for the log; up to 512 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// The answer to it, when the copy is complete and durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BackupDone<'a> {
    /// The position of the view.
    pub position: Position,
    /// The record of the call.
    pub seq: Seq,
    /// The directory.
    pub to: Cow<'a, str>,
    /// First position in the copy.
    pub first: Seq,
    /// Last position in the copy, at least `seq`.
    pub last: Seq,
    /// Size of its log, in bytes.
    pub bytes: u64,
}
