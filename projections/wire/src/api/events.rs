//! `/api/v1/events`, and what its stream sends.

use std::borrow::Cow;

use fieldlog_projections::Seq;
use serde::{Deserialize, Serialize};

use super::Members;
use super::position::Position;
use crate::json::Rfc3339;

/// `GET /api/v1/events`: records, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EventPage<'a> {
    /// The position of the view.
    pub position: Position,
    /// The records.
    pub events: Vec<Event<'a>>,
    /// Pass this as `after` to continue; null if there is no more up to the position. Can be set on an empty page, where a
    /// filter finds nothing in the part of the log that was read and the index cannot exclude the rest.
    pub next: Option<Seq>,
}

/// `GET /api/v1/events/{seq}`: one record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EventAnswer<'a, D = Members> {
    /// The position of the view.
    pub position: Position,
    /// The record.
    pub event: Event<'a, D>,
}

/// A record, with data of type `D`, whose form depends on the record's type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Event<'a, D = Members> {
    /// `<gateway>/<epoch>/<seq>`, the same in every format and transport.
    pub id: Cow<'a, str>,
    /// Its position.
    pub seq: Seq,
    /// Its type, such as `state_changed`; `unknown` for a type unknown to this version.
    #[serde(rename = "type")]
    pub kind: Cow<'a, str>,
    /// Log time, which goes back only at a clock correction.
    pub time: Rfc3339,
    /// The wall clock when it was recorded; absent if equal to the log time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_time: Option<Rfc3339>,
    /// The device's own time; absent if it gave none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_time: Option<Rfc3339>,
    /// The record that caused it; absent if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Seq>,
    /// The device it is about; absent if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Cow<'a, str>>,
    /// Its content.
    pub data: D,
}

/// Sent by the stream as `omitted`, in place of a record that is too large for any answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Omitted<'a> {
    /// Its position.
    pub seq: Seq,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: Cow<'a, str>,
}

/// Sent by the stream as `reset` if the client's position is not in this log: the client must read the state again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Reset {
    /// Position of the view, from which the stream continues.
    pub position: Position,
}
