//! `/api/v1/quarantine`.

use std::borrow::Cow;

use fieldlog_projections::Seq;
use serde::{Deserialize, Serialize};

use super::position::Position;
use crate::json::Rfc3339;

/// `GET /api/v1/quarantine`: messages that could not be decoded and whose payloads are kept, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QuarantinePage<'a> {
    /// The position of the view.
    pub position: Position,
    /// The messages.
    pub quarantine: Vec<Quarantined<'a>>,
    /// Pass this as `before` to continue; null if there are no more.
    pub next: Option<Seq>,
}

/// A message that could not be decoded. `GET /api/v1/quarantine/{seq}` has its payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Quarantined<'a> {
    /// Position of its record.
    pub seq: Seq,
    /// Log time of that.
    pub at: Rfc3339,
    /// The source it came from.
    pub source: Cow<'a, str>,
    /// Its topic.
    pub topic: Cow<'a, str>,
    /// Why it could not be decoded.
    pub reason: Cow<'a, str>,
    /// Size of its payload in bytes; fewer bytes may be stored.
    pub size: u64,
    /// Number of messages that this summarises; reason, size and payload are those of the newest. Absent for a single
    /// message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Arrival of the first of them; absent for a single message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_at: Option<Rfc3339>,
    /// Arrival of the last of them; absent for a single message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<Rfc3339>,
}
