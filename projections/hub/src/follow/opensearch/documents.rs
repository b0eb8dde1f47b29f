//! What the documents look like. No mapping is ever derived from what devices say, so an attribute may change its type.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::postgres::{Arrived, DeviceRow, Log};

/// A document of a bulk request.
pub(super) struct Document {
    pub(super) index: String,
    pub(super) id: String,
    pub(super) version: i64,
    pub(super) source: String,
    /// What is left of it if that is not taken.
    pub(super) reduced: Value,
}

/// An attribute, in a field for each type: a number is in `number`, and everything as it is written in `text`.
#[derive(Serialize)]
struct Attribute<'a> {
    name: &'a str,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<&'a str>,
}

#[derive(Serialize)]
struct Event<'a> {
    gateway: &'a str,
    epoch: &'a str,
    seq: i64,
    recorded: &'a str,
    time: &'a str,
    r#type: &'a str,
    device: Option<&'a str>,
    attributes: Vec<Attribute<'a>>,
    text: &'a str,
    data: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Device<'a> {
    gateway: &'a str,
    epoch: &'a str,
    generation: i64,
    device: &'a str,
    seq: i64,
    changed: &'a str,
    source: Option<&'a str>,
    parent: Option<&'a str>,
    retired: bool,
    availability: Option<&'a str>,
    availability_since: Option<&'a str>,
    text: &'a str,
    description: Option<&'a RawValue>,
    attributes: Vec<Attribute<'a>>,
}

/// The index templates, by what their indices are for.
pub(super) fn templates(prefix: &str) -> [(String, String); 3] {
    let keyword = || json!({"type": "keyword", "ignore_above": 1000});
    let (long, date, text) = (json!({"type": "long"}), json!({"type": "date"}), json!({"type": "text"}));
    // Kept and given back as it is, and never looked into.
    let opaque = json!({"type": "object", "enabled": false});
    let attributes = json!({"type": "nested", "dynamic": false, "properties": {
        "name": keyword(), "text": keyword(), "number": {"type": "double"}, "seq": long, "changed": date,
    }});
    let events = json!({
        "gateway": keyword(), "epoch": keyword(), "seq": long, "recorded": date, "time": date, "type": keyword(),
        "device": keyword(), "attributes": attributes, "text": text, "data": opaque,
    });
    let devices = json!({
        "gateway": keyword(), "epoch": keyword(), "generation": long, "device": keyword(), "seq": long,
        "changed": date, "source": keyword(), "parent": keyword(), "retired": {"type": "boolean"},
        "availability": keyword(), "availability_since": date, "text": text, "description": opaque,
        "attributes": attributes,
    });
    let template = |name: &str, pattern: &str, properties: &Value| {
        let body = json!({
            "index_patterns": [format!("{prefix}-{pattern}")],
            "template": {"mappings": {"dynamic": false, "properties": properties}},
        });
        (format!("/_index_template/{prefix}-{name}"), body.to_string())
    };
    [
        template("events", "events-*", &events),
        template("devices", "devices", &devices),
        template("cursors", "cursors", &json!({})),
    ]
}

/// An event: its id is the one that it has as a CloudEvent, its version its position.
pub(super) fn event(prefix: &str, log: &Log, event: &Arrived) -> Document {
    let month = event.recorded.get(..7).filter(|_| event.is_plausible).map(|month| month.replace('-', "."));
    let data: Option<&RawValue> = serde_json::from_str(&event.data).ok();
    let changes = StateChanged::of(event);
    let document = Event {
        gateway: &log.gateway,
        epoch: &log.epoch,
        seq: event.seq,
        recorded: &event.recorded,
        time: &event.time,
        r#type: &event.kind,
        device: event.device.as_deref(),
        attributes: changes.iter().map(|(name, value)| attribute(name, value.get())).collect(),
        text: &event.data,
        data,
    };
    Document {
        index: format!("{prefix}-events-{}", month.as_deref().unwrap_or("other")),
        id: format!("{}/{}/{}", log.gateway, log.epoch, event.seq),
        version: event.seq,
        source: serde_json::to_string(&document).unwrap_or_default(),
        reduced: json!({
            "gateway": log.gateway, "epoch": log.epoch, "seq": event.seq, "type": event.kind, "recorded": event.recorded,
        }),
    }
}

/// A device. A late event may change it without being its newest, so its version is the arrival as of which it was read.
pub(super) fn device(prefix: &str, log: &Log, generation: i64, row: &DeviceRow, as_of: i64) -> Document {
    let mut text = row.device.clone();
    if let Some(description) = &row.description {
        text.push(' ');
        text.push_str(description.get());
    }
    let document = Device {
        gateway: &log.gateway,
        epoch: &log.epoch,
        generation,
        device: &row.device,
        seq: row.seq,
        changed: &row.changed,
        source: row.source.as_deref(),
        parent: row.parent.as_deref(),
        retired: row.retired,
        availability: row.availability.as_deref(),
        availability_since: row.availability_since.as_deref(),
        text: &text,
        description: row.description.as_deref(),
        attributes: row
            .state
            .iter()
            .map(|state| Attribute {
                name: &state.attribute,
                text: state.value.get(),
                number: state.number,
                seq: Some(state.seq),
                changed: Some(&state.changed),
            })
            .collect(),
    };
    let id = format!("{}/{}", log.gateway, row.device);
    Document {
        index: format!("{prefix}-devices"),
        // Names of devices may be longer than ids of documents.
        id: blake3::hash(id.as_bytes()).to_hex().to_string(),
        // A newer log of the gateway is above all arrivals of the ones before.
        version: (i64::from(log.log) << 40) | as_of,
        source: serde_json::to_string(&document).unwrap_or_default(),
        reduced: json!({
            "gateway": log.gateway, "epoch": log.epoch, "generation": generation, "device": row.device, "seq": row.seq,
        }),
    }
}

/// The content of a `state_changed`.
#[derive(Default, serde::Deserialize)]
struct StateChanged<'a> {
    #[serde(borrow)]
    changes: std::collections::BTreeMap<String, &'a RawValue>,
}

impl StateChanged<'_> {
    fn of(event: &Arrived) -> std::collections::BTreeMap<String, &RawValue> {
        if event.kind != "state_changed" {
            return std::collections::BTreeMap::new();
        }
        serde_json::from_str::<StateChanged<'_>>(&event.data).unwrap_or_default().changes
    }
}

fn attribute<'a>(name: &'a str, json: &'a str) -> Attribute<'a> {
    let number = json.parse::<f64>().ok().filter(|number| number.is_finite());
    Attribute { name, text: json, number, seq: None, changed: None }
}
