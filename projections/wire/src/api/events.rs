//! `/api/v1/events`, and what its stream sends.

use std::borrow::Cow;

use fieldlog_projections::Seq;
use serde::{Deserialize, Serialize};

use super::Members;
use super::position::Position;
use crate::json::Rfc3339;

/// `GET /api/v1/events`: records, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventPage<'a> {
    /// Where the view is.
    pub position: Position,
    /// The records.
    pub events: Vec<Event<'a>>,
    /// Where to go on, as `after`; null if there is no more up to the position. A page may be empty and have it.
    pub next: Option<Seq>,
}

/// `GET /api/v1/events/{seq}`: one record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventAnswer<'a, D = Members> {
    /// Where the view is.
    pub position: Position,
    /// The record.
    pub event: Event<'a, D>,
}

/// A record, with data of type `D`: what it says, in the form of its type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event<'a, D = Members> {
    /// `<gateway>/<epoch>/<seq>`, the same wherever the record goes.
    pub id: Cow<'a, str>,
    /// Its position.
    pub seq: Seq,
    /// Its type, such as `state_changed`; `unknown` for one that this version does not know.
    #[serde(rename = "type")]
    pub kind: Cow<'a, str>,
    /// Log time, which goes back only where a clock was corrected.
    pub time: Rfc3339,
    /// The wall clock when it was recorded; absent if that is the log time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_time: Option<Rfc3339>,
    /// The device's own time; absent if it gave none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_time: Option<Rfc3339>,
    /// The record it follows from; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Seq>,
    /// The device it is about; absent if it is about none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Cow<'a, str>>,
    /// What it says.
    pub data: D,
}

/// What the stream sends as `omitted` in place of a record that is too large for any answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Omitted<'a> {
    /// Its position.
    pub seq: Seq,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: Cow<'a, str>,
}

/// What the stream sends as `reset` when the client's position means nothing in this log: the client must read the state again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reset {
    /// Position of the view, from which the stream continues.
    pub position: Position,
}
