//! Home Assistant's MQTT discovery: one component, or a device with components; with full or abbreviated keys.
//! <https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery>

use fieldlog_projections::{AttributeDescription, DataType, DeviceDescription};
use serde_json::{Map, Value};

use super::{
    Address, Announced, Announcement, Announcements, DescribeError, Parts, as_text, template, two_values,
};
use crate::config::HomeAssistantTopics;

/// The keys that are read, and their abbreviations.
const ABBREVIATIONS: [(&str, &str); 21] = [
    ("command_topic", "cmd_t"),
    ("components", "cmps"),
    ("device", "dev"),
    ("device_class", "dev_cla"),
    ("identifiers", "ids"),
    ("manufacturer", "mf"),
    ("max", "max"),
    ("min", "min"),
    ("model", "mdl"),
    ("name", "name"),
    ("options", "ops"),
    ("origin", "o"),
    ("payload_off", "pl_off"),
    ("payload_on", "pl_on"),
    ("platform", "p"),
    ("state_class", "stat_cla"),
    ("state_topic", "stat_t"),
    ("step", "step"),
    ("suggested_area", "sa"),
    ("unit_of_measurement", "unit_of_meas"),
    ("value_template", "val_tpl"),
];

/// An object whose keys may be abbreviated.
struct Doc<'v>(&'v Map<String, Value>);

impl<'v> Doc<'v> {
    fn get(&self, key: &str) -> Option<&'v Value> {
        let short = ABBREVIATIONS.iter().find(|(long, _)| *long == key).map_or(key, |(_, short)| short);
        self.0.get(key).or_else(|| self.0.get(short)).filter(|value| !value.is_null())
    }

    fn text(&self, key: &str) -> Option<&'v str> {
        self.get(key)?.as_str()
    }

    fn texts(&self, key: &str) -> Option<Vec<String>> {
        Some(self.get(key)?.as_array()?.iter().map(as_text).collect())
    }

    fn doc(&self, key: &str) -> Option<Doc<'v>> {
        self.get(key)?.as_object().map(Doc)
    }

    /// A topic; `~` at either end stands for `base`.
    fn topic(&self, key: &str, base: &str) -> Option<String> {
        let topic = self.text(key)?;
        let begun = topic.strip_prefix('~').map_or_else(|| topic.to_owned(), |rest| format!("{base}{rest}"));
        Some(match begun.strip_suffix('~') {
            Some(rest) => format!("{rest}{base}"),
            None => begun,
        })
    }
}

/// The payload of a `config` topic. An empty one withdraws the topic's announcement. What an agent like this one announces
/// says nothing new: it is made of what devices have announced themselves.
pub(super) fn config(text: &str) -> Result<Announcements, DescribeError> {
    if text.is_empty() {
        return Ok(Announcements::default());
    }
    let map: Map<String, Value> = serde_json::from_str(text)?;
    let doc = Doc(&map);
    if doc.doc("origin").is_some_and(|origin| origin.text("name") == Some(HomeAssistantTopics::ORIGIN)) {
        return Ok(Announcements::default());
    }
    let base = doc.text("~").unwrap_or_default();
    let description = doc.doc("device").map(|device| self::device(&device)).unwrap_or_default();
    let devices = match doc.doc("components") {
        None => announcement(&doc, base, "", &description).into_iter().collect(),
        Some(components) => {
            let components = components.0.values().filter_map(Value::as_object).map(Doc);
            let shared = doc.text("state_topic").map(|_| &doc);
            components.filter_map(|component| one_of_device(&component, shared, base, &description)).collect()
        }
    };
    Ok(Announcements { devices, complete: false })
}

/// A component of a device; one with only its platform is removed.
fn one_of_device(
    component: &Doc<'_>,
    shared: Option<&Doc<'_>>,
    base: &str,
    description: &DeviceDescription,
) -> Option<Announcement> {
    let own = component.topic("state_topic", base);
    let topic = own.or_else(|| shared?.topic("state_topic", base)).unwrap_or_default();
    announcement(component, base, &topic, description)
}

/// The announcement of a component; `topic` is the default state topic.
fn announcement(
    component: &Doc<'_>,
    base: &str,
    topic: &str,
    device: &DeviceDescription,
) -> Option<Announcement> {
    let topic = component.topic("state_topic", base).unwrap_or_else(|| topic.to_owned());
    if topic.is_empty() {
        return None;
    }
    let path = match (component.get("value_template"), component.text("schema")) {
        (Some(template), _) => template::path(template.as_str()?),
        (None, Some("json")) => Some("state".to_owned()),
        (None, _) => Some(String::new()),
    };
    let attribute = path.map(|path| Announced {
        topic: String::new(),
        path,
        description: attribute(component),
        parts: Parts::Whole,
    });
    Some(Announcement {
        device: Address::Topic(topic),
        joined: false,
        description: device.clone(),
        parts: Parts::Given,
        attributes: attribute.into_iter().collect(),
        complete: false,
        introduces: None,
    })
}

fn device(device: &Doc<'_>) -> DeviceDescription {
    let text = |key| device.text(key).unwrap_or_default().to_owned();
    let id = device.get("identifiers").map(|ids| match ids {
        Value::Array(ids) => ids.first().map(as_text).unwrap_or_default(),
        id => as_text(id),
    });
    DeviceDescription {
        stable_id: id.unwrap_or_default(),
        name: text("name"),
        model: text("model"),
        manufacturer: text("manufacturer"),
        area: text("suggested_area"),
    }
}

fn attribute(component: &Doc<'_>) -> AttributeDescription {
    let text = |key| component.text(key).unwrap_or_default().to_owned();
    let number = |key| component.get(key).and_then(Value::as_f64);
    let options = component.texts("options").unwrap_or_default();
    let on_off = || {
        let or = |key, default: &str| component.get(key).cloned().unwrap_or_else(|| default.into());
        two_values(&or("payload_on", "ON"), &or("payload_off", "OFF"))
    };
    let is_number = component.get("unit_of_measurement").is_some() || component.get("state_class").is_some();
    let (data_type, values) = match component.text("platform") {
        _ if !options.is_empty() => (DataType::Enum, options),
        _ if is_number || component.get("min").is_some() => (DataType::Number, Vec::new()),
        Some("binary_sensor" | "switch") => on_off(),
        _ if component.get("payload_on").is_some() => on_off(),
        _ => (DataType::Unknown, Vec::new()),
    };
    AttributeDescription {
        name: text("name"),
        unit: text("unit_of_measurement"),
        device_class: text("device_class"),
        data_type,
        min: number("min"),
        max: number("max"),
        step: number("step"),
        values,
        writable: Some(component.get("command_topic").is_some()),
    }
}
