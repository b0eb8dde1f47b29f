//! What devices and attributes are, in words: names, units, ranges. Announced by devices, or given by the operator.

use serde::{Deserialize, Serialize};

/// Whose words they are. Where several say something, what the operator says counts, then what the device announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DescribedBy {
    /// An announcement, by the device itself or by the bridge that it is reached through.
    Announcement,
    /// The operator's configuration.
    Operator,
    /// Home Assistant's discovery, which may come from the device or from anything else that knows it.
    Discovery,
}

impl DescribedBy {
    /// All of them; the words of an earlier one count before those of a later one.
    pub const ALL: [DescribedBy; 3] =
        [DescribedBy::Operator, DescribedBy::Announcement, DescribedBy::Discovery];
}

/// What a device is. An empty text is one that nothing was said about; if all are empty, the device has no description.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceDescription {
    /// What stays when the name changes: a hardware address, a serial number.
    pub stable_id: String,
    /// What people call it.
    pub name: String,
    /// Model, as its manufacturer calls it.
    pub model: String,
    /// Who makes it.
    pub manufacturer: String,
    /// Where it is, such as a room.
    pub area: String,
}

/// What an attribute is. Empty texts, `None` and [`DataType::Unknown`] are what nothing was said about.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AttributeDescription {
    /// What people call it.
    pub name: String,
    /// Unit of its values, as announced: `°C`, `kWh`.
    pub unit: String,
    /// Kind of quantity, in the words of who announces it: `temperature`, `power`.
    pub device_class: String,
    /// Type of its values.
    pub data_type: DataType,
    /// Smallest value.
    pub min: Option<f64>,
    /// Largest value.
    pub max: Option<f64>,
    /// Distance between neighbouring values.
    pub step: Option<f64>,
    /// The values it can have, in the order announced; empty if any.
    pub values: Vec<String>,
    /// Whether it can be set from outside.
    pub writable: Option<bool>,
}

/// Type of an attribute's values, as announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataType {
    /// Nothing is said.
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
    /// One of some texts.
    Enum,
    /// A list or an object.
    Json,
}

impl DataType {
    /// As it is written; empty if unknown.
    pub fn word(self) -> &'static str {
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
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == DeviceDescription::default()
    }

    /// This one, and where it says nothing, what `other` says.
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
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == AttributeDescription::default()
    }

    /// This one, and where it says nothing, what `other` says.
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
