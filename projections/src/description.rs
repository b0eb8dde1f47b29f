//! Descriptions of devices and attributes: names, units, ranges. Announced by devices, or configured by the operator.

use serde::{Deserialize, Serialize};

/// The author of a description. Field by field, the operator's overrides the device's announcement, which overrides
/// discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DescribedBy {
    /// The device's own announcement, or that of the bridge it is reached through.
    Announcement,
    /// The operator's configuration.
    Operator,
    /// Home Assistant's discovery, published by the device or by any other program that knows it.
    Discovery,
}

impl DescribedBy {
    /// All of them, in order of precedence.
    pub const ALL: [DescribedBy; 3] =
        [DescribedBy::Operator, DescribedBy::Announcement, DescribedBy::Discovery];
}

/// The description of a device. An empty text is not stated; if all are empty, the device has no description.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceDescription {
    /// An id that stays when the name changes: a hardware address, a serial number.
    pub stable_id: String,
    /// Its display name.
    pub name: String,
    /// The manufacturer's name of the model.
    pub model: String,
    /// Its manufacturer.
    pub manufacturer: String,
    /// Its location, such as a room.
    pub area: String,
}

/// The description of an attribute. Empty texts, `None` and [`DataType::Unknown`] are not stated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AttributeDescription {
    /// Its display name.
    pub name: String,
    /// Unit of its values, as announced: `°C`, `kWh`.
    pub unit: String,
    /// Kind of quantity, in the announcer's terms: `temperature`, `power`.
    pub device_class: String,
    /// Type of its values.
    pub data_type: DataType,
    /// Smallest value.
    pub min: Option<f64>,
    /// Largest value.
    pub max: Option<f64>,
    /// Step between values.
    pub step: Option<f64>,
    /// The permitted values, in the order announced; empty if any value is permitted.
    pub values: Vec<String>,
    /// Whether it can be set remotely.
    pub writable: Option<bool>,
}

/// Type of an attribute's values, as announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataType {
    /// Not stated.
    #[default]
    Unknown,
    /// Text.
    Text,
    /// A number.
    Number,
    /// A whole number.
    Integer,
    /// True or false.
    Boolean,
    /// One of several texts.
    Enum,
    /// A list or an object.
    Json,
}

impl DataType {
    /// The type as a word; empty if unknown.
    pub const fn word(self) -> &'static str {
        match self {
            DataType::Unknown => "",
            DataType::Text => "text",
            DataType::Number => "number",
            DataType::Integer => "integer",
            DataType::Boolean => "boolean",
            DataType::Enum => "enum",
            DataType::Json => "json",
        }
    }
}

impl DeviceDescription {
    /// Whether every field is empty.
    pub fn is_empty(&self) -> bool {
        *self == DeviceDescription::default()
    }

    /// This description, with its empty fields filled from `other`.
    #[must_use]
    pub fn or(self, other: DeviceDescription) -> DeviceDescription {
        DeviceDescription {
            stable_id: first(self.stable_id, other.stable_id),
            name: first(self.name, other.name),
            model: first(self.model, other.model),
            manufacturer: first(self.manufacturer, other.manufacturer),
            area: first(self.area, other.area),
        }
    }
}

impl AttributeDescription {
    /// Whether every field is empty.
    pub fn is_empty(&self) -> bool {
        *self == AttributeDescription::default()
    }

    /// This description, with its empty fields filled from `other`.
    #[must_use]
    pub fn or(self, other: AttributeDescription) -> AttributeDescription {
        let unknown = self.data_type == DataType::Unknown;
        AttributeDescription {
            name: first(self.name, other.name),
            unit: first(self.unit, other.unit),
            device_class: first(self.device_class, other.device_class),
            data_type: if unknown { other.data_type } else { self.data_type },
            min: self.min.or(other.min),
            max: self.max.or(other.max),
            step: self.step.or(other.step),
            values: if self.values.is_empty() { other.values } else { self.values },
            writable: self.writable.or(other.writable),
        }
    }
}

fn first(text: String, other: String) -> String {
    if text.is_empty() { other } else { text }
}
