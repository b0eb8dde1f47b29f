//! Announcements and the resulting descriptions. Payloads are from the documentation and test suites that each test
//! names.

// Helpers of tests fail by panicking, like the tests themselves.
#![allow(clippy::unwrap_used)]

use fieldlog_projections::{AttributeDescription, DataType, DeviceDescription};
use serde_json::json;

use super::*;

const BOUNDS: Bounds = Bounds { devices: 100, attributes: 50, text_bytes: 64 };

fn announced(announcer: Announcer, topic: &str, payload: impl std::fmt::Display) -> Announcements {
    decode(announcer, topic, payload.to_string().as_bytes(), &BOUNDS).unwrap()
}

/// The only device.
fn one(announcements: Announcements) -> Announcement {
    let [device] = <[Announcement; 1]>::try_from(announcements.devices).unwrap();
    device
}

fn refused(announcer: Announcer, payload: &[u8]) -> String {
    decode(announcer, "a/b/config", payload, &BOUNDS).unwrap_err().to_string()
}

/// Attributes, one per line: topic and place, then the description.
fn told(device: &Announcement) -> Vec<String> {
    let line = |announced: &Announced| {
        let AttributeDescription { name, unit, device_class, data_type, min, max, step, values, writable } =
            &announced.description;
        let mut line = format!("{}{}", announced.topic, announced.path);
        for word in [name, unit, device_class, data_type.word()].into_iter().filter(|word| !word.is_empty()) {
            line += &format!(", {word}");
        }
        for (word, number) in [("from", min), ("to", max), ("by", step)] {
            line += &number.map(|number| format!(", {word} {number}")).unwrap_or_default();
        }
        if !values.is_empty() {
            line += &format!(", one of {}", values.join("|"));
        }
        line + match writable {
            Some(true) => ", writable",
            Some(false) => ", read only",
            None => "",
        }
    };
    device.attributes.iter().map(line).collect()
}

fn is(stable_id: &str, name: &str, model: &str, manufacturer: &str) -> DeviceDescription {
    DeviceDescription {
        stable_id: stable_id.into(),
        name: name.into(),
        model: model.into(),
        manufacturer: manufacturer.into(),
        area: String::new(),
    }
}

mod discovery;
mod homie;
mod shelly;
mod tasmota;
mod zigbee2mqtt;

#[test]
fn what_is_no_announcement_is_refused_in_words() {
    assert_eq!(refused(Announcer::Homie5, b"\xff"), "an announcement that is not UTF-8 text");
    let list = refused(Announcer::Zigbee2mqttDevices, b"{\"a\":1}");
    assert_eq!(
        list,
        "an announcement that cannot be read: invalid type: map, expected a list at line 1 column 0"
    );
    let cut = refused(Announcer::Tasmota, b"{\"a\":");
    assert_eq!(cut, "an announcement that cannot be read: EOF while parsing a value at line 1 column 5");
    let large = vec![b' '; DOCUMENT_BYTES_MAX + 1];
    assert_eq!(
        refused(Announcer::HomeAssistant, &large),
        "an announcement of 262145 bytes; at most 262144 are taken"
    );
}

#[test]
fn texts_and_lists_are_bounded() {
    let long = "x".repeat(65);
    let values: Vec<String> = (0..65).map(|n| n.to_string()).collect();
    let exposes = json!([
        { "type": "enum", "property": "a", "values": values, "label": long, "unit": "V" },
        { "type": "enum", "property": "b", "values": ["on", long] },
        { "type": "numeric", "property": "c", "value_max": "many" },
    ]);
    let many: Vec<_> = (0..60).map(|n| json!({ "type": "text", "property": format!("p{n}") })).collect();
    let payload = json!([
        { "ieee_address": "0x01", "friendly_name": "a", "definition": { "vendor": long, "exposes": exposes } },
        { "ieee_address": "0x02", "friendly_name": "b", "definition": { "exposes": many } },
    ]);
    let both = announced(Announcer::Zigbee2mqttDevices, "z/bridge/devices", payload);
    assert_eq!(told(&both.devices[0]), ["a, V, enum", "b, enum", "c, number"]);
    assert_eq!((both.devices[0].description.manufacturer.len(), both.devices[1].attributes.len()), (0, 50));
}

#[test]
fn parts_leave_the_rest_as_it_was() {
    let before = AttributeDescription {
        name: "n".into(),
        unit: "V".into(),
        device_class: "voltage".into(),
        data_type: DataType::Number,
        min: Some(1.0),
        max: Some(2.0),
        step: None,
        values: vec!["a".into()],
        writable: Some(true),
    };
    let none = AttributeDescription::default();
    let after = |parts: Parts| parts.attribute(before.clone(), &none);
    assert_eq!((after(Parts::Nothing), after(Parts::Given)), (before.clone(), before.clone()));
    assert_eq!(after(Parts::Whole), none);
    assert_eq!(after(Parts::Name), AttributeDescription { name: String::new(), ..before.clone() });
    assert_eq!(after(Parts::Unit), AttributeDescription { unit: String::new(), ..before.clone() });
    assert_eq!(
        after(Parts::DataType),
        AttributeDescription { data_type: DataType::Unknown, ..before.clone() }
    );
    let range = AttributeDescription { min: None, max: None, values: Vec::new(), ..before.clone() };
    assert_eq!(after(Parts::Range), range);
    assert_eq!(after(Parts::Writable), AttributeDescription { writable: None, ..before });
    let (old, new) = (is("1", "a", "m", "x"), is("", "b", "", ""));
    assert_eq!(Parts::Whole.device(old.clone(), &new), new);
    assert_eq!(Parts::Given.device(old.clone(), &new), is("1", "b", "m", "x"));
    assert_eq!(Parts::Name.device(old.clone(), &is("", "", "z", "")), is("1", "", "m", "x"));
    assert_eq!(Parts::Unit.device(old.clone(), &new), old);
}
