//! Announcements: what devices, their bridges and discovery say that devices and attributes are.
//!
//! Pure: topic and payload become a bounded list. A decoder does not know what devices and attributes are called here. It
//! names the topic that a device speaks on and the place in the document there, and the rules that take that topic say
//! which device and attribute it is.

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

/// Values of one attribute that are kept, at most. If it has more, none are.
const VALUES_MAX: usize = 64;
/// Attributes of one payload, at most.
const ATTRIBUTES_MAX: usize = 65_536;
/// Payloads that are taken as one document are not larger than this.
const DOCUMENT_BYTES_MAX: usize = 256 << 10;

/// Bounds on what one payload can announce.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Devices.
    pub devices: usize,
    /// Attributes of one device.
    pub attributes: usize,
    /// Longest text, in bytes; what is longer is left out.
    pub text_bytes: usize,
}

/// What one payload announces.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Announcements {
    /// The devices.
    pub devices: Vec<Announcement>,
    /// The list names every device that there is; one that was announced before and is not in it is gone.
    pub complete: bool,
}

/// What is announced of one device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Announcement {
    /// How the device is found.
    pub device: Address,
    /// It is there: known from now on, also if it was retired.
    pub joined: bool,
    /// What it is. An announcement of attributes alone has no parts here.
    pub description: DeviceDescription,
    /// What the description says something about; the rest stays as it was.
    pub parts: Parts,
    /// Its attributes.
    pub attributes: Vec<Announced>,
    /// Attributes that are not listed are no longer described.
    pub complete: bool,
    /// An id by which other announcements speak of the device, and the topic that their attributes are sent on.
    pub introduces: Option<(String, String)>,
}

/// How a device is found.
#[derive(Clone, Debug, PartialEq)]
pub enum Address {
    /// By a topic that it speaks on.
    Topic(String),
    /// By the topic of its availability: the first of these that is one.
    Availability(Vec<String>),
    /// By an id that another announcement [introduces](Announcement::introduces), before or after.
    Introduced(String),
}

impl Default for Address {
    fn default() -> Address {
        Address::Topic(String::new())
    }
}

/// What is announced of one attribute.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Announced {
    /// The topic that it is sent on; empty: the one of the device.
    pub topic: String,
    /// Its place in the document there, levels joined by dots; empty: the payload is its value.
    pub path: String,
    /// What it is.
    pub description: AttributeDescription,
    /// What the description says something about; the rest stays as it was.
    pub parts: Parts,
}

/// Parts of a description.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parts {
    /// None.
    #[default]
    Nothing,
    /// All: what is empty is taken back.
    Whole,
    /// Those that are not empty.
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
    /// What is said about a device, after this.
    pub fn device(self, before: DeviceDescription, now: &DeviceDescription) -> DeviceDescription {
        match self {
            Parts::Whole => now.clone(),
            Parts::Given => now.clone().or(before),
            Parts::Name => DeviceDescription { name: now.name.clone(), ..before },
            _ => before,
        }
    }

    /// What is said about an attribute, after this.
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

/// Leaves out what is beyond the bounds.
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

/// A value whose type is not what it should be counts as not said: one odd field must not cost the whole announcement.
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

/// Type and values of something that is on or off: `true` and `false` are booleans, anything else is one of two texts.
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
    /// It is not the document that it should be.
    #[error("an announcement that cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// It is larger than any that is taken.
    #[error("an announcement of {bytes} bytes; at most {DOCUMENT_BYTES_MAX} are taken")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}
