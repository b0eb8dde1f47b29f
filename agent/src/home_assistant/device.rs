//! The announcement and the state of a device.

use fieldlog_projections::fact::Availability;
use fieldlog_projections::folds::devices::{Attribute, Device};
use fieldlog_projections::{
    AttributeDescription, DataType, Described, Descriptions, DeviceId, Devices, Value,
};
use fieldlog_wire::json::{Val, availability};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Map, Value as Json};

use super::classes;
use super::document::{Announcer, texts, written};
use crate::config::home_assistant_id;

/// Attributes of a device that are announced, at most.
const ATTRIBUTES_MAX: usize = 256;

/// A device with what is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    pub(super) id: DeviceId,
    pub(super) device: &'a Device,
    pub(super) devices: &'a Devices,
    pub(super) descriptions: &'a Descriptions,
}

impl<'a> Known<'a> {
    /// The attributes that Home Assistant can show. A removed one stays announced, so that it is known again when it is back.
    fn attributes(&self) -> impl Iterator<Item = (&'a str, &'a Attribute)> + use<'a> {
        let devices = self.devices;
        let shown =
            self.device.attributes.iter().filter(|attribute| !matches!(attribute.value, Value::Json(_)));
        shown
            .filter_map(move |attribute| Some((devices.attribute_name(attribute.id)?, attribute)))
            .take(ATTRIBUTES_MAX)
    }

    /// Whether it can be reached, as far as it is known.
    pub(super) fn availability(&self) -> Availability {
        self.devices.effective_availability(self.device).0
    }
}

impl Announcer {
    /// The announcement of a device.
    pub(super) fn device_config(&self, known: &Known<'_>) -> Vec<u8> {
        let described = known.descriptions.get(known.id);
        let about = described.map(Described::device).unwrap_or_default();
        let name: &str = &known.device.name;
        let id = format!("{}.{}", self.topics.id(), home_assistant_id(name));
        let device = texts(&[
            ("ids", &id),
            ("name", if about.name.is_empty() { name } else { &about.name }),
            ("mf", &about.manufacturer),
            ("mdl", &about.model),
            ("sa", &about.area),
            ("via_device", &self.topics.id()),
        ]);
        let mut components = Map::new();
        for (name, attribute) in known.attributes() {
            let about = described.map(|described| described.attribute(attribute.id)).unwrap_or_default();
            if let Some(mut entity) = entity(name, &attribute.value, &about) {
                let key = home_assistant_id(name);
                entity.insert("uniq_id".into(), format!("{id}.{key}").into());
                components.insert(key, entity.into());
            }
        }
        let topic = self.topics.device_state(name);
        let offline = "{{ 'offline' if value_json.availability == 'offline' else 'online' }}";
        let own = texts(&[("t", &topic), ("val_tpl", offline)]);
        let availability: Vec<Json> = self.availability().into_iter().chain([own]).map(Json::from).collect();
        let mut document = self.announcement(device, topic, components);
        document.insert("avty".into(), availability.into());
        document.insert("avty_mode".into(), "all".into());
        written(document)
    }
}

/// The entity of an attribute; `None` if its kind is not known.
fn entity(name: &str, value: &Value, about: &AttributeDescription) -> Option<Map<String, Json>> {
    let place = format!("value_json.attributes.get({})", Json::from(name));
    let shown = if about.name.is_empty() { name } else { &about.name };
    let numeric = matches!(value, Value::Int(_) | Value::Uint(_) | Value::Float(_));
    let is_number = numeric || matches!(about.data_type, DataType::Number | DataType::Integer);
    let class = about.device_class.as_str();
    Some(match value {
        Value::Bool(_) => texts(&[
            ("p", "binary_sensor"),
            ("name", shown),
            ("dev_cla", if classes::is_binary(class) { class } else { "" }),
            ("pl_on", "True"),
            ("pl_off", "False"),
            ("val_tpl", &format!("{{{{ {place} }}}}")),
        ]),
        _ if is_number => {
            let class = if classes::is_of_sensor(class, &about.unit) { class } else { "" };
            texts(&[
                ("p", "sensor"),
                ("name", shown),
                ("unit_of_meas", &about.unit),
                ("dev_cla", class),
                ("stat_cla", classes::state_class(class)),
                ("val_tpl", &format!("{{{{ {place} }}}}")),
            ])
        }
        // A state of Home Assistant has 255 characters at most.
        Value::Text(_) => texts(&[
            ("p", "sensor"),
            ("name", shown),
            ("val_tpl", &format!("{{{{ ({place} | string)[:255] }}}}")),
        ]),
        _ => return None,
    })
}

/// The state of a device.
pub(super) fn state(known: &Known<'_>) -> Vec<u8> {
    #[derive(Serialize)]
    struct State<'a> {
        availability: &'static str,
        attributes: Values<'a>,
    }
    let state = State { availability: availability(known.availability()), attributes: Values(known) };
    // Nothing in it can fail.
    serde_json::to_vec(&state).unwrap_or_default()
}

struct Values<'a>(&'a Known<'a>);

impl Serialize for Values<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, attribute) in self.0.attributes() {
            map.serialize_entry(name, &Val(attribute.value.borrow()))?;
        }
        map.end()
    }
}
