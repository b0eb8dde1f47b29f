//! Descriptions in JSON. Fields that are not stated are left out.

use std::borrow::Cow;

use fieldlog_projections::{AttributeDescription, DeviceDescription};
use serde::{Deserialize, Serialize};

/// The description of a device. Texts that are not stated are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct DeviceJson<'a> {
    /// An id that stays when the name changes, such as an IEEE address.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub stable_id: Cow<'a, str>,
    /// Its display name.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub name: Cow<'a, str>,
    /// Its model.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub model: Cow<'a, str>,
    /// Its manufacturer.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub manufacturer: Cow<'a, str>,
    /// Its location.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub area: Cow<'a, str>,
}

impl<'a> DeviceJson<'a> {
    /// From a description.
    pub fn of(description: &'a DeviceDescription) -> DeviceJson<'a> {
        let DeviceDescription { stable_id, name, model, manufacturer, area } = description;
        DeviceJson {
            stable_id: stable_id.into(),
            name: name.into(),
            model: model.into(),
            manufacturer: manufacturer.into(),
            area: area.into(),
        }
    }

    /// The same, with owned texts.
    pub fn into_owned(self) -> DeviceJson<'static> {
        let own = |text: Cow<'a, str>| Cow::Owned(text.into_owned());
        let DeviceJson { stable_id, name, model, manufacturer, area } = self;
        DeviceJson {
            stable_id: own(stable_id),
            name: own(name),
            model: own(model),
            manufacturer: own(manufacturer),
            area: own(area),
        }
    }
}

/// The description of an attribute. Texts that are not stated are empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct AttributeJson<'a> {
    /// Its name for people.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub name: Cow<'a, str>,
    /// The unit of its values.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub unit: Cow<'a, str>,
    /// Its device class, in Home Assistant's terms.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub device_class: Cow<'a, str>,
    /// The type of its values: `number`, `boolean`, `text` and so on.
    #[serde(rename = "type", skip_serializing_if = "str::is_empty")]
    pub data_type: Cow<'a, str>,
    /// The least value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The greatest value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// The step between values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<f64>,
    /// The permitted values.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub values: Cow<'a, [String]>,
    /// Whether it can be set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writable: Option<bool>,
}

impl<'a> AttributeJson<'a> {
    /// From a description.
    pub fn of(description: &'a AttributeDescription) -> AttributeJson<'a> {
        let AttributeDescription { name, unit, device_class, data_type, min, max, step, values, writable } =
            description;
        AttributeJson {
            name: name.into(),
            unit: unit.into(),
            device_class: device_class.into(),
            data_type: data_type.word().into(),
            min: *min,
            max: *max,
            step: *step,
            values: values.as_slice().into(),
            writable: *writable,
        }
    }
}
