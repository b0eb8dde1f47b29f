//! One rule: which topics, and how to read their payloads. It stands in `[[source.subscription]]` and in presets.

use serde::ser::Error;
use serde::{Serialize, Serializer};

use super::written::{self, table_of};

mod checks;
mod read;
mod types;
mod when;

pub(super) use checks::check_patterns;
pub(super) use read::{keys, namespace, read};
pub use types::{Kind, ValueType};
pub use when::{Shape, Subject, Test, When};

/// One expanded subscription rule: which topics, and how to read them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rule {
    /// `topic`: a template such as `zigbee2mqtt/+device` (see [`crate::topic`]).
    pub topic: String,
    /// `qos`: 0 or 1 (default 1).
    pub qos: u8,
    /// `decoder`.
    pub decoder: Decoder,
    /// `also` (default false): later rules get the message, too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub also: bool,
    /// `when`: all of them must hold; otherwise the next rule is tried.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<When>,
    /// `device` (default `{device}`; ignore and announcements: none): the device's id, built from captures and what is in the document; the
    /// first whose parts are all there.
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
    /// `only` (documents; default empty: all): attribute patterns; nothing else is state. Like `ignore` and `actions`, they
    /// name attributes as they are in the document, below `root`, before `rename` and the prefix.
    pub only: Vec<String>,
    /// `actions` (documents): attribute patterns that are momentary; fired as actions, never state.
    pub actions: Vec<String>,
    /// `action_fields` (documents; default `each`).
    pub action_fields: ActionFields,
    /// `ignore` (documents): attribute patterns that are not recorded.
    pub ignore: Vec<String>,
    /// `rename` (documents): other names for attributes and for what is below them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rename: Vec<Rename>,
    /// `types` (documents, scalar): what the values of attributes are; the first entry that names an attribute counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<ValueType>,
    /// `online` (availability; default `online`, `true`, `1`, `on`, `connected`, `ready`): payloads, any case.
    pub online: Vec<String>,
    /// `offline` (availability; default `offline`, `false`, `0`, `off`, `disconnected`, `lost`).
    pub offline: Vec<String>,
    /// `namespace` (default: the source's name; for a preset, if there is another one before it in the source, that and the
    /// preset's name, as in `home.tasmota`): what its devices' names are in. The same name in another namespace is another
    /// device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// `redact`: attribute patterns whose values are never kept: what is recorded is that they changed. They name attributes
    /// like `ignore`.
    pub redact: Vec<String>,
    /// `idempotent_by` (documents): JSON pointer to a counter, anywhere in the payload. An action whose counter is the one that
    /// the device has is a repeat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotent_by: Option<String>,
    /// `order_by` (documents): JSON pointer to a whole number that the payload counts up, anywhere in it. A message whose number
    /// is lower than that of the device's last one comes late, and is not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_by: Option<String>,
    /// `keep_alive` (default none): what the source publishes so that the devices of the topic go on sending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<KeepAlive>,
    /// `parent` (default empty): device whose being offline makes this device offline, e.g. the bridge; built from captures.
    #[serde(serialize_with = "written::or_empty")]
    pub parent: Option<String>,
}

/// How a payload is read.
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
    /// The payload is a momentary action's name.
    Action,
    /// Taken from the broker, acknowledged, not recorded.
    Ignore,
    /// What devices are, in words: names, units, ranges. Which device it is about follows from the topics that it speaks
    /// on, by the other rules.
    Announcement(Announcer),
}

/// Who announces devices, and how.
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

/// What the documents of several devices are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Each {
    /// An object: each member is a document, its key tells the devices apart.
    Members,
    /// A list of documents.
    Elements,
}

/// What becomes of lists in documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Arrays {
    /// One value, JSON text.
    #[default]
    Json,
    /// An attribute for each element, named by its index.
    Index,
    /// An attribute for each element, named by this field of it; by its index if it has none.
    Field(String),
}

/// How a document's actions are fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionFields {
    /// One action for each attribute.
    Each,
    /// One action for all of them, whose value is an object.
    Together,
}

/// Another name for an attribute, and for what is below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rename {
    /// `from`: as it is in the document.
    pub from: String,
    /// `to`.
    pub to: String,
}

/// What a JSON document says about attributes it does not mention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Update {
    /// Nothing (RFC 7396 merge).
    Merge,
    /// They are gone.
    Replace,
}

/// A message that devices need now and then, or they fall silent. It is published with QoS 0 and not retained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeepAlive {
    /// `topic`: with captures of the rule's topic. Nothing is published before a message has come whose topic has them.
    pub topic: String,
    /// `first_payload` (default: `payload`): the first one on a connection.
    pub first_payload: String,
    /// `payload` (default empty).
    pub payload: String,
    /// `every_s` (5 to 3,600; default 30).
    #[serde(rename = "every_s", serialize_with = "written::seconds")]
    pub every: std::time::Duration,
}

/// Where a payload's own time is and how it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PayloadTime {
    /// JSON pointer (RFC 6901).
    pub pointer: String,
    /// How it is written (default `auto`).
    pub format: TimeFormat,
}

/// How a payload writes time. A text with an offset is always taken as that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeFormat {
    /// Whatever it looks like: a text without offset is in the gateway's time zone; of numbers, the size tells seconds,
    /// milliseconds, microseconds and nanoseconds apart.
    Auto,
    /// `2026-11-23T10:00:00Z`, with an offset; without one it cannot be read.
    Rfc3339,
    /// Seconds since 1970, may have a fraction.
    UnixS,
    /// Milliseconds since 1970.
    UnixMs,
    /// A text without offset, in the gateway's time zone.
    Local,
}

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

    /// Whether the payload has documents with device, time and values of their own, see `decode/formats`.
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

impl Serialize for Decoder {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(read::decoder_word(*self))
    }
}

/// Payloads of the availability decoder when none are configured.
const ONLINE: [&str; 6] = ["online", "true", "1", "on", "connected", "ready"];
const OFFLINE: [&str; 6] = ["offline", "false", "0", "off", "disconnected", "lost"];

/// Rules as their tables, without the keys that their decoder does not read: read back, those would be faults.
pub(super) fn written<S: Serializer>(rules: &[Rule], serializer: S) -> Result<S::Ok, S::Error> {
    let table = |rule: &Rule| -> Result<written::Table, S::Error> {
        let mut table = table_of(rule).map_err(S::Error::custom)?;
        table.retain(|key, _| read::reads(rule.decoder, key));
        Ok(table)
    };
    rules.iter().map(table).collect::<Result<Vec<_>, _>>()?.serialize(serializer)
}

fn written_arrays<S: Serializer>(arrays: &Arrays, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match arrays {
        Arrays::Json => "json",
        Arrays::Index => "index",
        Arrays::Field(name) => name,
    })
}
