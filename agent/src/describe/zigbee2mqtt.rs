//! Zigbee2MQTT's lists: `bridge/devices`, with the features of each device, and `bridge/groups`.
//! <https://www.zigbee2mqtt.io/guide/usage/mqtt_topics_and_messages.html>,
//! <https://www.zigbee2mqtt.io/guide/usage/exposes.html>

use std::fmt;

use fieldlog_projections::{AttributeDescription, DataType, DeviceDescription};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{
    ATTRIBUTES_MAX, Address, Announced, Announcement, Announcements, Bounds, DescribeError, Parts, as_text,
    join, lenient, two_values,
};

/// Bit of `access`: it can be set.
const ACCESS_SET: u32 = 2;
/// Maximum nesting of features.
const DEPTH_MAX: usize = 8;

#[derive(Deserialize)]
struct Device {
    #[serde(default, deserialize_with = "lenient")]
    ieee_address: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    friendly_name: Option<String>,
    #[serde(default, rename = "type", deserialize_with = "lenient")]
    kind: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    disabled: Option<bool>,
    #[serde(default, deserialize_with = "lenient")]
    model_id: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    manufacturer: Option<String>,
    #[serde(default)]
    definition: Option<Definition>,
}

#[derive(Default, Deserialize)]
struct Definition {
    #[serde(default, deserialize_with = "lenient")]
    model: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    vendor: Option<String>,
    #[serde(default)]
    exposes: Vec<Expose>,
}

#[derive(Deserialize)]
struct Expose {
    #[serde(default, rename = "type", deserialize_with = "lenient")]
    kind: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    property: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    label: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    unit: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    access: Option<u32>,
    #[serde(default, deserialize_with = "lenient")]
    value_min: Option<f64>,
    #[serde(default, deserialize_with = "lenient")]
    value_max: Option<f64>,
    #[serde(default, deserialize_with = "lenient")]
    value_step: Option<f64>,
    #[serde(default, deserialize_with = "lenient")]
    value_on: Option<Value>,
    #[serde(default, deserialize_with = "lenient")]
    value_off: Option<Value>,
    #[serde(default, deserialize_with = "lenient")]
    values: Option<Vec<Value>>,
    #[serde(default)]
    features: Vec<Expose>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default, deserialize_with = "lenient")]
    id: Option<u32>,
    #[serde(default, deserialize_with = "lenient")]
    friendly_name: Option<String>,
    #[serde(default)]
    members: Vec<IgnoredAny>,
}

/// `bridge/devices`.
pub(super) fn devices(topic: &str, text: &str, bounds: &Bounds) -> Result<Announcements, DescribeError> {
    let mut attributes = 0;
    list(topic, text, bounds, |base, device: Device| {
        let announcement = self::device(base, device, ATTRIBUTES_MAX.saturating_sub(attributes))?;
        attributes += announcement.attributes.len();
        Some(announcement)
    })
}

/// `bridge/groups`.
pub(super) fn groups(topic: &str, text: &str, bounds: &Bounds) -> Result<Announcements, DescribeError> {
    list(topic, text, bounds, |base, group: Group| {
        let (id, name) = (group.id?, group.friendly_name?);
        Some(Announcement {
            device: Address::Topic(format!("{base}/{name}")),
            // The group for bindings always exists and is usually empty.
            joined: !group.members.is_empty(),
            description: DeviceDescription {
                stable_id: format!("group {id}"),
                name,
                ..DeviceDescription::default()
            },
            parts: Parts::Whole,
            ..Announcement::default()
        })
    })
}

/// Reads a list element by element, since its devices take many times their bytes in memory. An invalid element is left
/// out, and the list then does not count as complete.
fn list<'t, T: Deserialize<'t>>(
    topic: &str,
    text: &'t str,
    bounds: &Bounds,
    make: impl FnMut(&str, T) -> Option<Announcement>,
) -> Result<Announcements, DescribeError> {
    let base =
        topic.strip_suffix("/bridge/devices").or(topic.strip_suffix("/bridge/groups")).unwrap_or(topic);
    if text.is_empty() {
        return Ok(Announcements::default());
    }
    let announcements = Announcements { devices: Vec::new(), complete: true };
    let mut list =
        List { base, make, devices_max: bounds.devices, announcements, item: std::marker::PhantomData };
    let mut json = serde_json::Deserializer::from_str(text);
    (&mut json).deserialize_seq(&mut list)?;
    json.end()?;
    Ok(list.announcements)
}

struct List<'b, F, T> {
    base: &'b str,
    make: F,
    devices_max: usize,
    announcements: Announcements,
    item: std::marker::PhantomData<T>,
}

impl<'de, T: Deserialize<'de>, F: FnMut(&str, T) -> Option<Announcement>> Visitor<'de>
    for &mut List<'_, F, T>
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(raw) = seq.next_element::<&'de RawValue>()? {
            if self.announcements.devices.len() >= self.devices_max {
                self.announcements.complete = false;
                continue;
            }
            match serde_json::from_str::<T>(raw.get()) {
                Ok(item) => self.announcements.devices.extend((self.make)(self.base, item)),
                Err(_) => self.announcements.complete = false,
            }
        }
        Ok(())
    }
}

fn device(base: &str, device: Device, attributes_max: usize) -> Option<Announcement> {
    let ieee = device.ieee_address?;
    if device.kind.as_deref() == Some("Coordinator") {
        return None;
    }
    let name = device.friendly_name.filter(|name| !name.is_empty()).unwrap_or_else(|| ieee.clone());
    let definition = device.definition.unwrap_or_default();
    let mut attributes = Vec::new();
    walk(&definition.exposes, "", 0, &mut attributes);
    attributes.truncate(attributes_max);
    Some(Announcement {
        device: Address::Topic(format!("{base}/{name}")),
        joined: device.disabled != Some(true),
        description: DeviceDescription {
            stable_id: ieee,
            name,
            model: definition.model.or(device.model_id).unwrap_or_default(),
            manufacturer: definition.vendor.or(device.manufacturer).unwrap_or_default(),
            area: String::new(),
        },
        parts: Parts::Whole,
        attributes,
        complete: true,
        introduces: None,
    })
}

/// Collects the attributes among some features. Those of a light and the like are beside the others in the state; those
/// of a composite are in an object.
fn walk(exposes: &[Expose], path: &str, depth: usize, out: &mut Vec<Announced>) {
    if depth >= DEPTH_MAX {
        return;
    }
    for expose in exposes {
        let path = match &expose.property {
            Some(property) => join(path, property),
            None => path.to_owned(),
        };
        match expose.kind.as_deref() {
            Some("list") => push(out, path, expose),
            _ if !expose.features.is_empty() => walk(&expose.features, &path, depth + 1, out),
            _ if expose.property.is_some() => push(out, path, expose),
            _ => {}
        }
    }
}

/// Hue and saturation of a colour are in the same object as x and y; a duplicate is skipped.
fn push(out: &mut Vec<Announced>, path: String, expose: &Expose) {
    if out.iter().any(|known| known.path == path) {
        return;
    }
    let texts = |values: &Vec<Value>| values.iter().map(as_text).collect::<Vec<_>>();
    let (data_type, values) = match (expose.kind.as_deref(), &expose.value_on, &expose.value_off) {
        (Some("binary"), Some(on), Some(off)) => two_values(on, off),
        (Some("enum"), _, _) => (DataType::Enum, expose.values.as_ref().map(texts).unwrap_or_default()),
        (Some("numeric"), _, _) => (DataType::Number, Vec::new()),
        (Some("text"), _, _) => (DataType::Text, Vec::new()),
        (Some("list"), _, _) => (DataType::Json, Vec::new()),
        _ => (DataType::Unknown, Vec::new()),
    };
    let description = AttributeDescription {
        name: expose.label.clone().unwrap_or_default(),
        unit: expose.unit.clone().unwrap_or_default(),
        device_class: String::new(),
        data_type,
        min: expose.value_min,
        max: expose.value_max,
        step: expose.value_step,
        values,
        writable: expose.access.map(|access| access & ACCESS_SET != 0),
    };
    out.push(Announced { topic: String::new(), path, description, parts: Parts::Whole });
}
