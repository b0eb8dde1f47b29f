//! Announcements: descriptions of devices and attributes, sent by devices, their bridges and discovery.
//!
//! Pure: topic and payload become a bounded list. A decoder does not know fieldlog's devices and attributes. It returns
//! the topic that a device sends on and the place in the document there; the rules for that topic determine the device
//! and attribute.

use std::fmt::Write;

use fieldlog_projections::{AttributeDescription, DataType, DeviceDescription};
use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde_json::value::RawValue;

use crate::config::Announcer;

mod homeassistant;
mod homie;
mod shelly;
mod tasmota;
mod template;
#[cfg(test)]
mod tests;
mod zigbee2mqtt;

/// Maximum values of one attribute. If there are more, none are kept.
const VALUES_MAX: usize = 64;
/// Maximum attributes of one payload.
const ATTRIBUTES_MAX: usize = 65_536;
/// Maximum size of a payload that is decoded as one document.
const DOCUMENT_BYTES_MAX: usize = 256 << 10;

/// Bounds on what one payload can announce.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Devices.
    pub devices: usize,
    /// Attributes of one device.
    pub attributes: usize,
    /// Maximum length of a text, in bytes; longer ones are left out.
    pub text_bytes: usize,
}

/// The content of one announcement payload.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Announcements {
    /// The devices.
    pub devices: Vec<Announcement>,
    /// The list is complete: a device that was announced before and is not in it is gone.
    pub complete: bool,
}

/// The announcement of one device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Announcement {
    /// How the device is found.
    pub device: Address,
    /// The device exists: discover it, or bring it back if it was retired.
    pub joined: bool,
    /// The device's description. An announcement of attributes only has empty `parts`.
    pub description: DeviceDescription,
    /// The parts that the description sets; the others stay unchanged.
    pub parts: Parts,
    /// Its attributes.
    pub attributes: Vec<Announced>,
    /// Attributes that are not listed are no longer described.
    pub complete: bool,
    /// An id by which other announcements refer to the device, and the topic of their attributes.
    pub introduces: Option<(String, String)>,
}

/// How to find a device.
#[derive(Clone, Debug, PartialEq)]
pub enum Address {
    /// By a topic that it sends on.
    Topic(String),
    /// By its availability topic: the first of these that a rule takes as such.
    Availability(Vec<String>),
    /// By an id that another announcement [introduces](Announcement::introduces), earlier or later.
    Introduced(String),
}

impl Default for Address {
    fn default() -> Address {
        Address::Topic(String::new())
    }
}

/// The announcement of one attribute.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Announced {
    /// The topic that it is sent on; empty: that of the device.
    pub topic: String,
    /// Its place in the document there, levels joined by dots; empty: the whole payload is its value.
    pub path: String,
    /// Its description.
    pub description: AttributeDescription,
    /// The parts that the description sets; the others stay unchanged.
    pub parts: Parts,
}

/// Parts of a description.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parts {
    /// None.
    #[default]
    Nothing,
    /// All parts: empty ones are withdrawn.
    Whole,
    /// The parts that are not empty.
    Given,
    /// The name.
    Name,
    /// The unit.
    Unit,
    /// The type.
    DataType,
    /// Smallest and largest value, step, and the list of values.
    Range,
    /// Whether it can be written.
    Writable,
}

impl Parts {
    /// The description of a device after this announcement.
    pub fn device(self, before: DeviceDescription, now: &DeviceDescription) -> DeviceDescription {
        match self {
            Parts::Whole => now.clone(),
            Parts::Given => now.clone().or(before),
            Parts::Name => DeviceDescription { name: now.name.clone(), ..before },
            _ => before,
        }
    }

    /// The description of an attribute after this announcement.
    pub fn attribute(self, before: AttributeDescription, now: &AttributeDescription) -> AttributeDescription {
        let now = now.clone();
        match self {
            Parts::Nothing => before,
            Parts::Whole => now,
            Parts::Given => now.or(before),
            Parts::Name => AttributeDescription { name: now.name, ..before },
            Parts::Unit => AttributeDescription { unit: now.unit, ..before },
            Parts::DataType => AttributeDescription { data_type: now.data_type, ..before },
            Parts::Range => AttributeDescription {
                min: now.min,
                max: now.max,
                step: now.step,
                values: now.values,
                ..before
            },
            Parts::Writable => AttributeDescription { writable: now.writable, ..before },
        }
    }
}

/// Decodes an announcement.
///
/// # Errors
/// [`DescribeError`] with the reason in words, for the quarantine.
pub fn decode(
    announcer: Announcer,
    topic: &str,
    payload: &[u8],
    bounds: &Bounds,
) -> Result<Announcements, DescribeError> {
    let text = std::str::from_utf8(payload).map_err(|_| DescribeError::NotText)?;
    let mut announcements = match announcer {
        Announcer::Zigbee2mqttDevices => zigbee2mqtt::devices(topic, text, bounds)?,
        Announcer::Zigbee2mqttGroups => zigbee2mqtt::groups(topic, text, bounds)?,
        Announcer::HomeAssistant => homeassistant::config(small(text)?)?,
        Announcer::Homie => homie::attribute(topic, text),
        Announcer::Homie5 => homie::description(topic, small(text)?)?,
        Announcer::Tasmota => tasmota::discovery(topic, small(text)?)?,
        Announcer::Shelly => shelly::announce(topic, small(text)?)?,
    };
    bound(&mut announcements, bounds);
    Ok(announcements)
}

fn small(text: &str) -> Result<&str, DescribeError> {
    if text.len() > DOCUMENT_BYTES_MAX {
        return Err(DescribeError::TooLarge { bytes: text.len() });
    }
    Ok(text)
}

/// Removes everything beyond the bounds.
fn bound(announcements: &mut Announcements, bounds: &Bounds) {
    if announcements.devices.len() > bounds.devices {
        announcements.devices.truncate(bounds.devices);
        announcements.complete = false;
    }
    let short = |text: &mut String| {
        if text.len() > bounds.text_bytes {
            text.clear();
        }
    };
    for device in &mut announcements.devices {
        device.attributes.truncate(bounds.attributes);
        let DeviceDescription { stable_id, name, model, manufacturer, area } = &mut device.description;
        [stable_id, name, model, manufacturer, area].into_iter().for_each(short);
        for attribute in &mut device.attributes {
            let AttributeDescription { name, unit, device_class, min, max, step, values, .. } =
                &mut attribute.description;
            [name, unit, device_class].into_iter().for_each(short);
            for number in [min, max, step] {
                *number = number.filter(|number| number.is_finite());
            }
            if values.len() > VALUES_MAX || values.iter().any(|value| value.len() > bounds.text_bytes) {
                values.clear();
            }
        }
    }
}

/// Reads a value of an unexpected type as absent, so that one odd field does not invalidate the announcement.
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(raw.get()).ok())
}

/// A value of a list, as text.
fn as_text(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Type and values of an on/off attribute: `true` and `false` are booleans, anything else is one of two texts.
fn two_values(on: &serde_json::Value, off: &serde_json::Value) -> (DataType, Vec<String>) {
    match (on, off) {
        (serde_json::Value::Bool(_), serde_json::Value::Bool(_)) => (DataType::Boolean, Vec::new()),
        (on, off) => (DataType::Enum, vec![as_text(on), as_text(off)]),
    }
}

/// A place in a document.
fn join(path: &str, key: &str) -> String {
    let mut joined = path.to_owned();
    let _ = write!(joined, "{}{key}", if path.is_empty() { "" } else { "." });
    joined
}

/// Why an announcement cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    /// The payload is not UTF-8.
    #[error("an announcement that is not UTF-8 text")]
    NotText,
    /// It is not the expected document.
    #[error("an announcement that cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// It is larger than the limit.
    #[error("an announcement of {bytes} bytes; at most {DOCUMENT_BYTES_MAX} are taken")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}
