//! How descriptions look in JSON. What nothing is said about is left out.

use fieldlog_projections::{AttributeDescription, DeviceDescription};
use serde::Serialize;

/// What a device is.
#[derive(Serialize)]
pub struct DeviceJson<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    stable_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    model: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    manufacturer: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    area: &'a str,
}

impl<'a> DeviceJson<'a> {
    /// Of a description.
    pub fn of(description: &'a DeviceDescription) -> DeviceJson<'a> {
        let DeviceDescription { stable_id, name, model, manufacturer, area } = description;
        DeviceJson { stable_id, name, model, manufacturer, area }
    }
}

/// What an attribute is.
#[derive(Serialize)]
pub struct AttributeJson<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    unit: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    device_class: &'a str,
    #[serde(rename = "type", skip_serializing_if = "str::is_empty")]
    data_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<f64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    values: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    writable: Option<bool>,
}

impl<'a> AttributeJson<'a> {
    /// Of a description.
    pub fn of(description: &'a AttributeDescription) -> AttributeJson<'a> {
        let AttributeDescription { name, unit, device_class, data_type, min, max, step, values, writable } =
            description;
        AttributeJson {
            name,
            unit,
            device_class,
            data_type: data_type.word(),
            min: *min,
            max: *max,
            step: *step,
            values,
            writable: *writable,
        }
    }
}
