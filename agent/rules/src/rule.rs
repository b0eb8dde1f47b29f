//! One rule: its topics, and how to read their payloads. Used in `[[source.subscription]]` and in presets.

use serde::{Serialize, Serializer};

use crate::{choice, written};

mod types;
mod when;

pub use types::{Kind, ValueType};
pub use when::{Shape, Subject, Test, When};

/// One expanded subscription rule.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rule {
    /// `topic`: a template such as `zigbee2mqtt/+device` (see [`crate::topic`]).
    pub topic: String,
    /// `qos`: 0 or 1 (default 1).
    pub qos: u8,
    /// `decoder`.
    pub decoder: Decoder,
    /// `also` (default false): later rules get the message too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub also: bool,
    /// `when`: conditions that must all hold; otherwise the next rule is tried.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<When>,
    /// `device` (default `{device}`; ignore and announcements: none): the device's name, built from captures and values
    /// in the document; of several, the first with all of its parts.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "written::one_or_more")]
    pub device: Vec<String>,
    /// `attribute` (scalar; default `{attribute}`; action; default `action`), or prefix of attributes and actions
    /// (documents; default empty).
    pub attribute: String,
    /// `root` (documents; default empty: the whole document): JSON pointer (RFC 6901) to the object that holds the state.
    pub root: String,
    /// `each` (documents; default none: one document): the object or list at `root` holds a document for each device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub each: Option<Each>,
    /// `value` (documents; default none): JSON pointer from `root` to the value of `attribute`. For availability: to the word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// `arrays` (documents; default `json`).
    #[serde(serialize_with = "written_arrays")]
    pub arrays: Arrays,
    /// `update`: `merge` (default) or `replace`.
    pub update: Update,
    /// `time` (documents): where the payload's own time is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<PayloadTime>,
    /// `only` (documents; default empty: all): attribute patterns; all other attributes are left out. As in `ignore`
    /// and `actions`, these are names in the document, below `root`, before `rename` and the prefix.
    pub only: Vec<String>,
    /// `actions` (documents): patterns of momentary attributes; fired as actions, never state.
    pub actions: Vec<String>,
    /// `action_fields` (documents; default `each`).
    pub action_fields: ActionFields,
    /// `ignore` (documents): attribute patterns that are not recorded.
    pub ignore: Vec<String>,
    /// `rename` (documents): new names for attributes and for those below them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rename: Vec<Rename>,
    /// `types` (documents, scalar): types of the values; the first entry that matches an attribute counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<ValueType>,
    /// `online` (availability; default `online`, `true`, `1`, `on`, `connected`, `ready`): payloads, any case.
    pub online: Vec<String>,
    /// `offline` (availability; default `offline`, `false`, `0`, `off`, `disconnected`, `lost`).
    pub offline: Vec<String>,
    /// `namespace` (default: the source's name; for a second preset in a source, that plus the preset's name, as in
    /// `home.tasmota`): the namespace of its devices' names. The same name in another namespace is another device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// `redact`: attribute patterns whose values are never stored: only the change is recorded. Names as in `ignore`.
    pub redact: Vec<String>,
    /// `idempotent_by` (documents): JSON pointer to a counter in the payload. An action whose counter equals that of
    /// the topic's previous message is a repeat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotent_by: Option<String>,
    /// `order_by` (documents): JSON pointer to a whole number that the payload counts up, anywhere in it. A message whose number
    /// is lower than that of the device's last one comes late, and is not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_by: Option<String>,
    /// `keep_alive` (default none): what the source publishes so that the topic's devices keep sending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<KeepAlive>,
    /// `parent` (default empty): id of a device, such as a bridge, that makes this one offline when it is offline.
    #[serde(serialize_with = "written::or_empty")]
    pub parent: Option<String>,
}

/// The format of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoder {
    /// A JSON document, flattened into attributes.
    Json,
    /// The same in CBOR (RFC 8949).
    Cbor,
    /// The same in MessagePack.
    Msgpack,
    /// SenML (RFC 8428) as JSON: the base name is the device.
    Senml,
    /// SenML as CBOR.
    SenmlCbor,
    /// Lines of InfluxDB's line protocol: the tag `host` is the device.
    Influx,
    /// One value as text: number, `ON`/`OFF`, `true`/`false`, anything else as text.
    Scalar,
    /// Online or offline: as text, or `{"state": …}`, or at `value` in a document.
    Availability,
    /// The payload is the name of a momentary action.
    Action,
    /// Acknowledged but not recorded.
    Ignore,
    /// Descriptions: names, units, ranges. The other rules determine which device they are about, by the topics on
    /// which it sends.
    Announcement(Announcer),
}

/// The format of an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announcer {
    /// Zigbee2MQTT's list of devices, `bridge/devices`.
    Zigbee2mqttDevices,
    /// Zigbee2MQTT's list of groups, `bridge/groups`.
    Zigbee2mqttGroups,
    /// Home Assistant's MQTT discovery, a component or a device with components.
    HomeAssistant,
    /// An attribute of a device or property, Homie 3 and 4.
    Homie,
    /// `$description`, Homie 5.
    Homie5,
    /// `tasmota/discovery/…/config` and `…/sensors`.
    Tasmota,
    /// Shelly's `announce`, and the answer to `Shelly.GetDeviceInfo`.
    Shelly,
}

/// The container of several devices' documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Each {
    /// An object: each member is a document, and its key identifies the device.
    Members,
    /// A list of documents.
    Elements,
}

choice!(Each { "members" => Each::Members, "elements" => Each::Elements });

/// How lists in documents are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Arrays {
    /// One value, JSON text.
    #[default]
    Json,
    /// One attribute per element, named by its index.
    Index,
    /// One attribute per element, named by this field; by its index if the field is missing.
    Field(String),
}

/// How a document's actions are fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionFields {
    /// One action per attribute.
    Each,
    /// One action for all attributes; its value is an object.
    Together,
}

choice!(ActionFields { "each" => ActionFields::Each, "together" => ActionFields::Together });

/// A new name for an attribute, and for those below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rename {
    /// `from`: the name in the document.
    pub from: String,
    /// `to`.
    pub to: String,
}

/// The meaning of a document for attributes that it does not contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// They stay unchanged (RFC 7396 merge).
    Merge,
    /// They are gone.
    Replace,
}

choice!(Update { "merge" => Update::Merge, "replace" => Update::Replace });

/// A message that keeps devices sending. Published with QoS 0, not retained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeepAlive {
    /// `topic`: may use captures of the rule's topic. Nothing is published before a message with that topic has
    /// arrived.
    pub topic: String,
    /// `first_payload` (default: `payload`): the first payload on a connection.
    pub first_payload: String,
    /// `payload` (default empty).
    pub payload: String,
    /// `every_s` (5 to 3,600; default 30).
    #[serde(rename = "every_s", serialize_with = "written::seconds")]
    pub every: std::time::Duration,
}

/// Place and format of a payload's own time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PayloadTime {
    /// JSON pointer (RFC 6901).
    pub pointer: String,
    /// Its format (default `auto`).
    pub format: TimeFormat,
}

/// The format of a time. A text with an offset is always accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeFormat {
    /// Recognised: a text without offset is in the gateway's time zone; seconds, milliseconds, microseconds and
    /// nanoseconds are distinguished by the size of the number.
    Auto,
    /// `2026-11-23T10:00:00Z`; unreadable without an offset.
    Rfc3339,
    /// Seconds since 1970, possibly with a fraction.
    UnixS,
    /// Milliseconds since 1970.
    UnixMs,
    /// A text without offset, in the gateway's time zone.
    Local,
}

choice!(TimeFormat {
    "auto" => TimeFormat::Auto,
    "rfc3339" => TimeFormat::Rfc3339,
    "unix_s" => TimeFormat::UnixS,
    "unix_ms" => TimeFormat::UnixMs,
    "local" => TimeFormat::Local,
});

impl Rule {
    /// A rule with the defaults of its decoder.
    pub fn new(topic: &str, decoder: Decoder) -> Rule {
        let (device, attribute) = decoder.names();
        let texts = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let parts = decoder.has_parts();
        let time = || PayloadTime { pointer: "/time".to_owned(), format: TimeFormat::UnixS };
        Rule {
            topic: topic.to_owned(),
            qos: 1,
            decoder,
            also: false,
            when: Vec::new(),
            device: device.iter().map(|&text| text.to_owned()).collect(),
            attribute: attribute.to_owned(),
            root: String::new(),
            each: parts.then_some(Each::Elements),
            value: parts.then(|| "/values".to_owned()),
            arrays: Arrays::Json,
            update: Update::Merge,
            time: parts.then(time),
            only: Vec::new(),
            actions: Vec::new(),
            action_fields: ActionFields::Each,
            ignore: Vec::new(),
            rename: Vec::new(),
            types: Vec::new(),
            online: texts(&ONLINE),
            offline: texts(&OFFLINE),
            namespace: None,
            redact: Vec::new(),
            idempotent_by: None,
            order_by: None,
            keep_alive: None,
            parent: None,
        }
    }
}

impl Decoder {
    /// Whether the payload is a document with attributes in it.
    pub fn is_document(self) -> bool {
        match self {
            Decoder::Json | Decoder::Cbor | Decoder::Msgpack => true,
            Decoder::Senml | Decoder::SenmlCbor | Decoder::Influx => true,
            Decoder::Scalar | Decoder::Availability | Decoder::Action => false,
            Decoder::Ignore | Decoder::Announcement(_) => false,
        }
    }

    /// Whether the payload has documents with their own device, time and values, see `decode/formats`.
    fn has_parts(self) -> bool {
        matches!(self, Decoder::Senml | Decoder::SenmlCbor | Decoder::Influx)
    }

    /// Defaults of `device` and `attribute`.
    fn names(self) -> (&'static [&'static str], &'static str) {
        match self {
            Decoder::Scalar => (&["{device}"], "{attribute}"),
            Decoder::Action => (&["{device}"], "action"),
            Decoder::Json | Decoder::Cbor | Decoder::Msgpack | Decoder::Availability => (&["{device}"], ""),
            Decoder::Senml | Decoder::SenmlCbor => (&["{/device}", "{device}"], ""),
            Decoder::Influx => (&["{/tags/host}", "{device}"], ""),
            Decoder::Ignore | Decoder::Announcement(_) => (&[], ""),
        }
    }
}

choice!(Decoder {
    "json" => Decoder::Json,
    "cbor" => Decoder::Cbor,
    "msgpack" => Decoder::Msgpack,
    "senml" => Decoder::Senml,
    "senml-cbor" => Decoder::SenmlCbor,
    "influx" => Decoder::Influx,
    "scalar" => Decoder::Scalar,
    "availability" => Decoder::Availability,
    "action" => Decoder::Action,
    "ignore" => Decoder::Ignore,
    "zigbee2mqtt-devices" => Decoder::Announcement(Announcer::Zigbee2mqttDevices),
    "zigbee2mqtt-groups" => Decoder::Announcement(Announcer::Zigbee2mqttGroups),
    "homeassistant-discovery" => Decoder::Announcement(Announcer::HomeAssistant),
    "homie" => Decoder::Announcement(Announcer::Homie),
    "homie5-description" => Decoder::Announcement(Announcer::Homie5),
    "tasmota-discovery" => Decoder::Announcement(Announcer::Tasmota),
    "shelly-announce" => Decoder::Announcement(Announcer::Shelly),
});

/// Default payloads of the availability decoder.
const ONLINE: [&str; 6] = ["online", "true", "1", "on", "connected", "ready"];
const OFFLINE: [&str; 6] = ["offline", "false", "0", "off", "disconnected", "lost"];

fn written_arrays<S: Serializer>(arrays: &Arrays, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match arrays {
        Arrays::Json => "json",
        Arrays::Index => "index",
        Arrays::Field(name) => name,
    })
}
