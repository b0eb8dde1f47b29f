//! Homie: the `$` attributes of versions 3 and 4, one topic each, and `$description` of version 5.
//! <https://homieiot.github.io/specification/>

use std::collections::BTreeMap;

use fieldlog_projections::{AttributeDescription, DataType, DeviceDescription};
use serde::Deserialize;

use super::{Address, Announced, Announcement, Announcements, DescribeError, Parts, lenient};

#[derive(Deserialize)]
struct Description {
    #[serde(default, deserialize_with = "lenient")]
    name: Option<String>,
    #[serde(default)]
    nodes: BTreeMap<String, Node>,
}

#[derive(Default, Deserialize)]
struct Node {
    #[serde(default)]
    properties: BTreeMap<String, Property>,
}

#[derive(Deserialize)]
struct Property {
    #[serde(default, deserialize_with = "lenient")]
    name: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    datatype: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    format: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    settable: Option<bool>,
    #[serde(default, deserialize_with = "lenient")]
    unit: Option<String>,
}

/// An attribute of version 3 or 4. A name may be that of a device or of a property: the rules determine which.
/// Attributes of nodes, and those without a description, announce nothing.
pub(super) fn attribute(topic: &str, text: &str) -> Announcements {
    let Some((owner, field)) = topic.rsplit_once('/') else { return Announcements::default() };
    let mut description = AttributeDescription::default();
    let parts = match field {
        "$name" => {
            text.clone_into(&mut description.name);
            Parts::Name
        }
        "$unit" => {
            text.clone_into(&mut description.unit);
            Parts::Unit
        }
        "$datatype" => {
            description.data_type = data_type(text);
            Parts::DataType
        }
        "$format" => {
            range(text, &mut description);
            Parts::Range
        }
        "$settable" => {
            description.writable = text.parse().ok();
            Parts::Writable
        }
        _ => return Announcements::default(),
    };
    let property = Announcement {
        device: Address::Topic(owner.to_owned()),
        attributes: vec![Announced { description, parts, ..Announced::default() }],
        ..Announcement::default()
    };
    let named = (parts == Parts::Name).then(|| Announcement {
        device: Address::Availability(vec![format!("{owner}/$state")]),
        description: DeviceDescription { name: text.to_owned(), ..DeviceDescription::default() },
        parts,
        ..Announcement::default()
    });
    Announcements { devices: named.into_iter().chain([property]).collect(), complete: false }
}

/// `$description` of version 5. An empty one withdraws the announcement.
pub(super) fn description(topic: &str, text: &str) -> Result<Announcements, DescribeError> {
    let base = topic.strip_suffix("/$description").unwrap_or(topic);
    let description: Option<Description> =
        if text.is_empty() { None } else { Some(serde_json::from_str(text)?) };
    let mut announcement = Announcement {
        device: Address::Availability(vec![format!("{base}/$state")]),
        joined: description.is_some(),
        parts: Parts::Whole,
        complete: true,
        ..Announcement::default()
    };
    if let Some(description) = description {
        announcement.description.name = description.name.unwrap_or_default();
        for (node_id, node) in description.nodes {
            let properties = node.properties.into_iter();
            announcement.attributes.extend(properties.map(|(id, property)| Announced {
                topic: format!("{base}/{node_id}/{id}"),
                path: String::new(),
                description: property.into(),
                parts: Parts::Whole,
            }));
        }
    }
    Ok(Announcements { devices: vec![announcement], complete: false })
}

impl From<Property> for AttributeDescription {
    fn from(property: Property) -> AttributeDescription {
        let mut description = AttributeDescription {
            name: property.name.unwrap_or_default(),
            unit: property.unit.unwrap_or_default(),
            data_type: data_type(property.datatype.as_deref().unwrap_or_default()),
            // By the specification, the default is not settable.
            writable: Some(property.settable.unwrap_or(false)),
            ..AttributeDescription::default()
        };
        if matches!(description.data_type, DataType::Number | DataType::Integer | DataType::Enum) {
            range(property.format.as_deref().unwrap_or_default(), &mut description);
        }
        description
    }
}

fn data_type(word: &str) -> DataType {
    match word {
        "integer" => DataType::Integer,
        "float" => DataType::Number,
        "boolean" => DataType::Boolean,
        "string" | "color" | "datetime" | "duration" => DataType::Text,
        "enum" => DataType::Enum,
        "json" => DataType::Json,
        _ => DataType::Unknown,
    }
}

/// A format: `min:max` and `min:max:step` with any number omitted, or a list of values. Colour formats are neither.
fn range(format: &str, description: &mut AttributeDescription) {
    let numbers: Vec<&str> = format.split(':').collect();
    let is_number = |text: &&str| text.is_empty() || text.parse::<f64>().is_ok();
    if matches!(numbers.len(), 2 | 3) && numbers.iter().all(is_number) {
        let number = |at: usize| numbers.get(at).and_then(|text| text.parse().ok());
        (description.min, description.max, description.step) = (number(0), number(1), number(2));
    } else if format.contains(',') && !format.split(',').all(|word| matches!(word, "rgb" | "hsv" | "xyz")) {
        description.values = format.split(',').map(str::to_owned).collect();
    }
}
