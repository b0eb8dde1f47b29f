//! `/api/v1/devices/{id}/aggregates`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::devices::AsOf;
use super::position::Position;
use crate::json::Rfc3339;

/// `GET /api/v1/devices/{id}/aggregates`: aggregates of one numeric attribute, by window, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AggregatesAnswer<'a> {
    /// The position of the view.
    pub position: Position,
    /// The past moment, none of whose later values are in it; absent if all values are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<AsOf>,
    /// Length of a window in seconds, 1 to 31,536,000.
    pub window_s: u32,
    /// The attribute.
    pub attribute: Cow<'a, str>,
    /// Where the buckets come from: `memory`, `log`, `archive` or `archive+log`.
    pub source: Cow<'a, str>,
    /// Buckets before this time may lack deleted records; absent if the whole requested range is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete_from: Option<Rfc3339>,
    /// The windows that have values, at most 10,000.
    pub buckets: Vec<Bucket>,
}

/// The recorded values in one window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Bucket {
    /// Its start, a multiple of its length since 1970, UTC.
    pub start: Rfc3339,
    /// Values, at least 1.
    pub count: u32,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// Arithmetic mean of the values, not weighted by time.
    pub mean: f64,
    /// Last.
    pub last: f64,
    /// Whether values can still be added to it.
    pub open: bool,
}
