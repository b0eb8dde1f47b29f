//! `/api/v1/devices`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use fieldlog_projections::{Seq, fact};
use serde::{Deserialize, Serialize};

use super::Members;
use super::position::Position;
use crate::describe::{AttributeJson, DeviceJson};
use crate::json::Rfc3339;

/// `GET /api/v1/devices`: devices by id, with the values of their attributes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DevicePage<'a> {
    /// Where the view is.
    pub position: Position,
    /// The devices.
    pub devices: Vec<Device<'a>>,
    /// The last id of this page, to go on with as `after`; null if there are no more.
    pub next: Option<Cow<'a, str>>,
}

/// `GET /api/v1/devices/{id}`: one device, with the positions and times of its attributes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceAnswer<'a, A = BTreeMap<String, Attribute>> {
    /// Where the view is.
    pub position: Position,
    /// Which past state this is; absent if it is the current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<AsOf>,
    /// The device.
    pub device: Device<'a, A>,
}

/// What a past state is the state of.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AsOf {
    /// The last record that is in it.
    pub seq: Seq,
    /// The time that was asked for, or the log time of that record.
    pub time: Rfc3339,
    /// Whether no record can still be added before the moment.
    pub exact: bool,
    /// Records that were folded for it.
    pub replayed: u64,
}

/// A device, with attributes of type `A`: by name, those that have a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Device<'a, A = Members> {
    /// Its id.
    pub id: Cow<'a, str>,
    /// What its name is in; null if no record says so yet.
    pub namespace: Option<Cow<'a, str>>,
    /// What its source calls it.
    pub called: Cow<'a, str>,
    /// Ids that it had before; they still lead to it.
    pub former_ids: Vec<Cow<'a, str>>,
    /// The source it was last discovered on.
    pub source: Cow<'a, str>,
    /// What is said about it; absent if nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<DeviceJson<'a>>,
    /// The device it is reached through; null for none.
    pub parent: Option<Cow<'a, str>>,
    /// Whether it can be reached; offline also if a device it is reached through is.
    pub availability: Availability,
    /// How it is known whether it can be reached.
    pub availability_cause: AvailabilityCause,
    /// Log time of that.
    pub availability_at: Rfc3339,
    /// Id of the parent device that makes it offline; else null.
    pub offline_because: Option<Cow<'a, str>>,
    /// Removed at its source; its last state is kept.
    pub retired: bool,
    /// Log time of its first discovery.
    pub discovered_at: Rfc3339,
    /// Its newest record.
    pub changed_seq: Seq,
    /// Log time of that.
    pub changed_at: Rfc3339,
    /// The device's own time in the newest record that has one; null if none had.
    pub device_time: Option<Rfc3339>,
    /// When its newest message came, changed or not; null if none has come since the agent started, or in a past state.
    pub heard_at: Option<Rfc3339>,
    /// Seconds since its newest record or message, not negative.
    pub data_age_s: f64,
    /// Records about it.
    pub events: u64,
    /// Its attributes.
    pub attributes: A,
    /// Units of the attributes, in a list of devices; absent if none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<BTreeMap<Cow<'a, str>, String>>,
}

/// A value of an attribute, of type `V`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attribute<V = serde_json::Value, D = AttributeJson<'static>> {
    /// The value; null for an attribute that has none and is described.
    pub value: V,
    /// The record that set it; null if there is no value.
    pub seq: Option<Seq>,
    /// Log time of that record; null if there is no value.
    pub at: Option<Rfc3339>,
    /// What is said about it, as members beside these.
    #[serde(flatten)]
    pub description: D,
}

/// Whether a device can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Availability {
    /// It never said.
    Unknown,
    /// It can.
    Online,
    /// It cannot.
    Offline,
}

impl From<fact::Availability> for Availability {
    fn from(availability: fact::Availability) -> Availability {
        match availability {
            fact::Availability::Unknown => Availability::Unknown,
            fact::Availability::Online => Availability::Online,
            fact::Availability::Offline => Availability::Offline,
        }
    }
}

/// How it is known whether a device can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AvailabilityCause {
    /// A message said so.
    Topic,
    /// It was silent for too long.
    Silence,
}

impl From<fact::AvailabilityCause> for AvailabilityCause {
    fn from(cause: fact::AvailabilityCause) -> AvailabilityCause {
        match cause {
            fact::AvailabilityCause::Topic => AvailabilityCause::Topic,
            fact::AvailabilityCause::Silence => AvailabilityCause::Silence,
        }
    }
}
