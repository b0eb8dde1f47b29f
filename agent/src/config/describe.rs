//! `[[source.describe]]`: the operator's descriptions of devices and attributes.

use serde::Serialize;

use super::raw::Table;
use super::rule;

/// `[[source.describe]]`: the operator's description of devices, or of attributes. Fields that it does not set come
/// from the devices' announcements.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Describe {
    /// `devices` (default `*`): patterns on the device's id or its name at the source.
    pub devices: Vec<String>,
    /// `attributes`: patterns; without them, the block describes the devices themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Vec<String>>,
    /// `name`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `area` (devices only).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub area: String,
    /// `model` (devices only).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// `manufacturer` (devices only).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub manufacturer: String,
    /// `unit` (attributes only).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// `device_class` (attributes only).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub device_class: String,
}

/// Maximum length of a text, in bytes.
const TEXT_BYTES_MAX: usize = 256;
/// Keys of a block about devices.
const DEVICE_KEYS: [&str; 3] = ["area", "model", "manufacturer"];
/// Keys of a block about attributes.
const ATTRIBUTE_KEYS: [&str; 2] = ["unit", "device_class"];

pub(super) fn read_all(table: &mut Table<'_>) -> Vec<Describe> {
    table.tables("describe").unwrap_or_default().into_iter().map(read).collect()
}

fn read(mut table: Table<'_>) -> Describe {
    let attributes = table.texts("attributes");
    if attributes.as_ref().is_some_and(Vec::is_empty) {
        table.fault("attributes", "it is empty", "name attributes, or remove it to describe the devices");
    }
    let (foreign, of) = match attributes {
        Some(_) => (&DEVICE_KEYS[..], "devices; a block with `attributes` is about those"),
        None => (&ATTRIBUTE_KEYS[..], "attributes, and the block names none"),
    };
    for key in foreign.iter().filter(|key| table.has(key)) {
        let hint = "write one block for the devices and another for their attributes";
        table.fault(key, format!("it is for {of}"), hint);
    }
    let describe = Describe {
        devices: table.texts("devices").unwrap_or_else(|| vec!["*".to_owned()]),
        attributes,
        name: text(&mut table, "name"),
        area: text(&mut table, "area"),
        model: text(&mut table, "model"),
        manufacturer: text(&mut table, "manufacturer"),
        unit: text(&mut table, "unit"),
        device_class: text(&mut table, "device_class"),
    };
    rule::check_patterns(&table, "devices", &describe.devices);
    rule::check_patterns(&table, "attributes", describe.attributes.as_deref().unwrap_or_default());
    let Describe { name, area, model, manufacturer, unit, device_class, .. } = &describe;
    if [name, area, model, manufacturer, unit, device_class].iter().all(|text| text.is_empty()) {
        let key = if describe.attributes.is_some() { "unit" } else { "name" };
        table.fault(
            key,
            "the block says nothing",
            "give at least one of name, area, model, manufacturer, unit, device_class",
        );
    }
    table.finish();
    describe
}

fn text(table: &mut Table<'_>, key: &'static str) -> String {
    let found = table.filled(key).map(|found| found.value).unwrap_or_default();
    if found.len() > TEXT_BYTES_MAX || found.contains(char::is_control) {
        let what = format!("it is longer than {TEXT_BYTES_MAX} bytes or holds a control character");
        table.fault(key, what, "write a short text on one line");
    }
    found
}
