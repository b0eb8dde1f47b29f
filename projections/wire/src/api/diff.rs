//! What is different between two moments: `/api/v1/diff` and `/api/v1/devices/{id}/diff`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use fieldlog_projections::Seq;
use serde::{Deserialize, Serialize};

use super::devices::AsOf;
use super::position::Position;
use crate::json::Rfc3339;

/// `GET /api/v1/devices/{id}/diff`: what is different about one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DiffAnswer<'a> {
    /// The position of the view.
    pub position: Position,
    /// The earlier state.
    pub from: AsOf,
    /// The later state.
    pub to: AsOf,
    /// The device.
    pub device: DeviceDiff<'a>,
}

/// `GET /api/v1/diff`: the devices that are different, by id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DiffPage<'a> {
    /// The position of the view.
    pub position: Position,
    /// The earlier state.
    pub from: AsOf,
    /// The later state.
    pub to: AsOf,
    /// The devices.
    pub devices: Vec<DeviceDiff<'a>>,
    /// The last id of this page: pass it as `after` to get the next one; null on the last page.
    pub next: Option<Cow<'a, str>>,
}

/// What is different about a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeviceDiff<'a> {
    /// Its id in the later state, or in the earlier one if it was forgotten.
    pub id: Cow<'a, str>,
    /// What became of it.
    pub change: DeviceChange,
    /// Records about it in between.
    pub events: u64,
    /// Of `id`, `source`, `parent`, `retired`, `availability` and `offline_because`, those that are different.
    pub fields: BTreeMap<Cow<'a, str>, FromTo>,
    /// The attributes whose value is different.
    pub attributes: BTreeMap<Cow<'a, str>, AttributeDiff>,
}

/// What became of a device between two moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum DeviceChange {
    /// Nothing is different.
    None,
    /// Something is different.
    Changed,
    /// It was discovered in between.
    Discovered,
    /// It was forgotten in between.
    Forgotten,
}

/// A value in both states; null if there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FromTo {
    /// In the earlier state.
    pub from: serde_json::Value,
    /// In the later state.
    pub to: serde_json::Value,
}

/// The value of an attribute in both states.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AttributeDiff {
    /// In the earlier state; null if it had none.
    pub from: serde_json::Value,
    /// In the later state; null if it has none.
    pub to: serde_json::Value,
    /// Position of the record that set or removed the later one; null if its device was forgotten.
    pub seq: Option<Seq>,
    /// Log time of that record.
    pub at: Option<Rfc3339>,
}
