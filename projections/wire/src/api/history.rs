//! `/api/v1/devices/{id}/history`.

use std::borrow::Cow;

use fieldlog_projections::Seq;
use serde::{Deserialize, Serialize};

use super::Members;
use super::position::Position;
use crate::json::Rfc3339;

/// `GET /api/v1/devices/{id}/history`: the records about one device, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HistoryPage<'a> {
    /// The position of the view.
    pub position: Position,
    /// The records.
    pub history: Vec<HistoryItem<'a>>,
    /// Pass this as `after` to continue; null if there is no more up to the position.
    pub next: Option<Seq>,
    /// Whether this is the whole rest, so that `next` is null.
    pub complete: bool,
}

/// A record about the device, with changes of type `C` and data of type `D`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HistoryItem<'a, C = Members, D = Members> {
    /// Its position.
    pub seq: Seq,
    /// Its log time.
    pub at: Rfc3339,
    /// Its type, such as `state_changed`.
    #[serde(rename = "type")]
    pub kind: Cow<'a, str>,
    /// New values by attribute; null for a removed one. Absent unless it is a state change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changes: Option<C>,
    /// Its content, in the form of its type. Absent for a state change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<D>,
    /// The device's own time; absent if it gave none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_time: Option<Rfc3339>,
}
