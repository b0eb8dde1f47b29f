//! One rule: which topics, and how to read their payloads. It stands in `[[source.subscription]]` and in presets.

mod read;
mod show;

pub(super) use read::{KEYS, check_patterns, namespace, read};
pub(super) use show::show;

/// One expanded subscription rule: which topics, and how to read them.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// `topic`: a template such as `zigbee2mqtt/+device` (see [`crate::topic`]).
    pub topic: String,
    /// `qos`: 0 or 1 (default 1).
    pub qos: u8,
    /// `decoder`.
    pub decoder: Decoder,
    /// `device` (default `{device}`; ignore and announcements: empty): the device's id, built from captures.
    pub device: String,
    /// `attribute` (scalar; default `{attribute}`; action; default `action`), or prefix of the attributes (json;
    /// default empty).
    pub attribute: String,
    /// `root` (json; default empty: the whole document): JSON pointer (RFC 6901) to the object that holds the state.
    pub root: String,
    /// `when` (json): only documents in which `pointer` has this text; others go on to the next rule.
    pub when: Option<When>,
    /// `update`: `merge` (default) or `replace`.
    pub update: Update,
    /// `time` (json): where the payload's own time is.
    pub time: Option<PayloadTime>,
    /// `actions` (json): attributes (`*` at the end) that are momentary; fired as actions, never state. Like `ignore`,
    /// they name attributes as they are in the document, below `root` and before the prefix.
    pub actions: Vec<String>,
    /// `ignore` (json): attribute patterns (`*` at the end) that are not recorded.
    pub ignore: Vec<String>,
    /// `online` (availability; default `online`, `true`, `1`, `on`, `connected`, `ready`): payloads, any case.
    pub online: Vec<String>,
    /// `offline` (availability; default `offline`, `false`, `0`, `off`, `disconnected`, `lost`).
    pub offline: Vec<String>,
    /// `namespace` (default: the source's name; for a preset, if there is another one before it in the source, that and the
    /// preset's name, as in `home.tasmota`): what its devices' names are in. The same name in another namespace is another
    /// device.
    pub namespace: Option<String>,
    /// `redact`: attribute patterns whose values are never kept: what is recorded is that they changed. They name attributes
    /// like `ignore`.
    pub redact: Vec<String>,
    /// `idempotent_by` (json): JSON pointer to a counter of the payload. An action whose counter is the one of the topic's
    /// last message is a repeat.
    pub idempotent_by: Option<String>,
    /// `parent` (default empty): device id whose being offline makes this device offline, e.g. the bridge.
    pub parent: Option<String>,
}

/// How a payload is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoder {
    /// A JSON object, flattened into attributes.
    Json,
    /// One value as text: number, `ON`/`OFF`, `true`/`false`, anything else as text.
    Scalar,
    /// Online or offline: as text, or `{"state": …}`.
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

/// What a JSON document says about attributes it does not mention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// Nothing (RFC 7396 merge).
    Merge,
    /// They are gone.
    Replace,
}

/// A condition on a JSON document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct When {
    /// JSON pointer (RFC 6901).
    pub pointer: String,
    /// The text (or number or bool as text) that must be there.
    pub equals: String,
}

/// Where a payload's own time is and how it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadTime {
    /// JSON pointer (RFC 6901).
    pub pointer: String,
    /// How it is written.
    pub format: TimeFormat,
}

/// How a payload writes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeFormat {
    /// `2026-11-23T10:00:00Z`, with an offset; without one it is ignored.
    Rfc3339,
    /// Seconds since 1970, may have a fraction.
    UnixS,
    /// Milliseconds since 1970.
    UnixMs,
    /// Like `Rfc3339` without offset, in the gateway's time zone.
    Local,
}

impl Rule {
    /// A rule with the defaults of its decoder.
    pub fn new(topic: &str, decoder: Decoder) -> Rule {
        let (device, attribute) = decoder.names();
        let texts = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        Rule {
            topic: topic.to_owned(),
            qos: 1,
            decoder,
            device: device.to_owned(),
            attribute: attribute.to_owned(),
            root: String::new(),
            when: None,
            update: Update::Merge,
            time: None,
            actions: Vec::new(),
            ignore: Vec::new(),
            online: texts(&ONLINE),
            offline: texts(&OFFLINE),
            namespace: None,
            redact: Vec::new(),
            idempotent_by: None,
            parent: None,
        }
    }
}

impl Decoder {
    /// Defaults of `device` and `attribute`.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Decoder::Scalar => ("{device}", "{attribute}"),
            Decoder::Action => ("{device}", "action"),
            Decoder::Json | Decoder::Availability => ("{device}", ""),
            Decoder::Ignore | Decoder::Announcement(_) => ("", ""),
        }
    }
}

/// Payloads of the availability decoder when none are configured.
const ONLINE: [&str; 6] = ["online", "true", "1", "on", "connected", "ready"];
const OFFLINE: [&str; 6] = ["offline", "false", "0", "off", "disconnected", "lost"];
