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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DevicePage<'a> {
    /// The position of the view.
    pub position: Position,
    /// The past state that this is; absent if it is the current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<AsOf>,
    /// The devices.
    pub devices: Vec<Device<'a>>,
    /// The last id of this page: pass it as `after` to get the next one; null on the last page.
    pub next: Option<Cow<'a, str>>,
}

/// `GET /api/v1/devices/{id}`: one device, with the positions and times of its attributes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeviceAnswer<'a, A = BTreeMap<String, Attribute>> {
    /// The position of the view.
    pub position: Position,
    /// The past position of this state; absent if it is the current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<AsOf>,
    /// The device.
    pub device: Device<'a, A>,
}

/// The position and time of a past state.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AsOf {
    /// The last record that it includes.
    pub seq: Seq,
    /// The requested time, or the log time of that record if a position was requested.
    pub time: Rfc3339,
    /// Whether the log has all that was recorded up to then, and no record can be added before that time any more.
    pub exact: bool,
    /// Why it is not exact; absent if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inexact_because: Option<Inexact>,
    /// The position of the snapshot it was made from; 0: it was made from the first record on. Absent for aggregates, which
    /// are made from the records and the archive alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Seq>,
    /// Number of records that were read after that snapshot.
    pub replayed: u64,
}

/// Why a past state is not exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Inexact {
    /// The moment is so recent, or in the future, that records of it may still be added.
    Unsettled,
    /// The log begins later.
    BeforeLog,
}

/// A device, with attributes of type `A`: those that have a value, by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Device_with_{A}"))]
pub struct Device<'a, A = Members> {
    /// Its id.
    pub id: Cow<'a, str>,
    /// The namespace of its name; null if no record has it yet.
    pub namespace: Option<Cow<'a, str>>,
    /// Its name at the source.
    pub called: Cow<'a, str>,
    /// Its former ids, which still find it.
    pub former_ids: Vec<Cow<'a, str>>,
    /// The source it was last discovered on.
    pub source: Cow<'a, str>,
    /// Its description; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<DeviceJson<'a>>,
    /// The device it is reached through; null if none.
    pub parent: Option<Cow<'a, str>>,
    /// Whether it is reachable; also offline if a device it is reached through is.
    pub availability: Availability,
    /// How that was determined.
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
    /// The device's own time in the newest record that has one; null if none has.
    pub device_time: Option<Rfc3339>,
    /// Arrival of its newest message, whether it changed anything or not; null if none has arrived since the agent
    /// started, or in a past state.
    pub heard_at: Option<Rfc3339>,
    /// Seconds since its newest record or message; not negative.
    pub data_age_s: f64,
    /// Records about it.
    pub events: u64,
    /// Its attributes.
    pub attributes: A,
    /// Its derived attributes, by name: those that can be computed now. Absent if there are none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub derived: BTreeMap<Cow<'a, str>, Derived<'a>>,
    /// Units of the attributes, in a list of devices; absent if none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<BTreeMap<Cow<'a, str>, String>>,
    /// Device classes of the attributes, in a list of devices; absent if none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<BTreeMap<Cow<'a, str>, String>>,
}

/// A value of an attribute, of type `V`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Attribute<V = serde_json::Value, D = AttributeJson<'static>> {
    /// The value; null for an attribute that has only a description.
    pub value: V,
    /// The record that set it; null if there is no value.
    pub seq: Option<Seq>,
    /// Log time of that record; null if there is no value.
    pub at: Option<Rfc3339>,
    /// Its description, as members beside these.
    #[serde(flatten)]
    pub description: D,
}

/// The value of a derived attribute, which is computed and not recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Derived<'a> {
    /// The value.
    pub value: DerivedValue,
    /// Its unit; absent if none is declared.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub unit: Cow<'a, str>,
    /// The newest of the records that set what it is computed from.
    pub seq: Seq,
    /// Log time of that record.
    pub at: Rfc3339,
}

/// See [`Derived::value`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum DerivedValue {
    /// Whether a threshold is passed.
    Bool(bool),
    /// The result.
    Number(f64),
}

/// Whether a device is reachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Availability {
    /// Not reported yet.
    Unknown,
    /// It is reachable.
    Online,
    /// It is not reachable.
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

/// How the availability of a device was determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum AvailabilityCause {
    /// A message said so.
    Topic,
    /// It was silent for its silence timeout.
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
