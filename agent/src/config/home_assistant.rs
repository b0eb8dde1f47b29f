//! `[home_assistant]`: what is announced to Home Assistant, and on which topics.

use std::fmt::Write;

use serde::Serialize;

use super::notify::check_source;
use super::raw::Table;
use super::sink::takes;
use super::{Announcer, Decoder, SourceConfig, WillConfig, rule};

/// Where Home Assistant looks for announcements by default.
const PREFIX: &str = "homeassistant";

/// `[home_assistant]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HomeAssistantConfig {
    /// `source`: the name of the source whose broker Home Assistant uses.
    pub source: String,
    /// `prefix` (default `homeassistant`): the first levels of the topics of announcements.
    pub prefix: String,
    /// `devices` (default empty: none): patterns of the ids of devices that are announced too.
    pub devices: Vec<String>,
}

/// The topics on which a gateway and its devices are announced, and their states published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeAssistantTopics {
    gateway: String,
    prefix: String,
}

impl HomeAssistantTopics {
    /// The `origin` in the announcements of this program, by which it ignores them.
    pub const ORIGIN: &'static str = "fieldlog";

    /// Those of a gateway, under a prefix of Home Assistant.
    pub fn new(gateway: &str, prefix: &str) -> HomeAssistantTopics {
        HomeAssistantTopics { gateway: gateway.into(), prefix: prefix.into() }
    }

    /// The gateway's id in Home Assistant. Those of devices and entities begin with it, and a dot.
    pub fn id(&self) -> String {
        format!("fieldlog_{}", as_id(&self.gateway))
    }

    /// The announcement of the gateway.
    pub fn config(&self) -> String {
        format!("{}/device/{}/config", self.prefix, self.id())
    }

    /// The state of the gateway.
    pub fn status(&self) -> String {
        format!("fieldlog/{}/status", self.gateway)
    }

    /// Whether the gateway is connected, if its source has no will of its own.
    pub fn availability(&self) -> String {
        format!("fieldlog/{}/availability", self.gateway)
    }

    /// The announcement of a device. It has no level of its own for the gateway, Home Assistant's `node_id`: of a device that
    /// has one, Home Assistant 2025.1 does not find the entities again when the announcement is taken back. No id has `--` in it.
    pub fn device_config(&self, device: &str) -> String {
        format!("{}/device/{}--{}/config", self.prefix, self.id(), as_id(device))
    }

    /// The state of a device.
    pub fn device_state(&self, device: &str) -> String {
        format!("fieldlog/{}/devices/{}/state", self.gateway, as_levels(device))
    }
}

/// A text in the characters of which Home Assistant makes ids; no two texts become the same one.
pub fn as_id(text: &str) -> String {
    let mut id = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'_' => id.push('_'),
            byte if byte.is_ascii_alphanumeric() => id.push(char::from(byte)),
            byte => _ = write!(id, "-{byte:02x}"),
        }
    }
    id
}

/// A text as levels of a topic; no two texts become the same.
fn as_levels(text: &str) -> String {
    let mut levels = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '+' | '#' | '%' | '\0'..='\x1f' | '\x7f' => _ = write!(levels, "%{:02X}", u32::from(c)),
            c => levels.push(c),
        }
    }
    levels
}

/// Gives the source that it names a will, unless it has one: a broker says better than any timeout that a gateway is gone.
pub(super) fn read(
    table: &mut Table<'_>,
    gateway_id: &str,
    sources: &mut [SourceConfig],
) -> Option<HomeAssistantConfig> {
    let mut table = table.table_if_present("home_assistant")?;
    let found = table.required("source", "name the source whose broker Home Assistant uses");
    found.iter().for_each(|found| check_source(&table, "source", &found.value, sources));
    let prefix = table.filled("prefix").map_or_else(|| PREFIX.to_owned(), |found| found.value);
    if prefix.contains(['+', '#', '\0']) || prefix.starts_with('/') || prefix.ends_with('/') {
        let what = format!("{prefix:?} has a wildcard, or begins or ends with a slash");
        table.fault("prefix", what, "write it as in Home Assistant, such as \"homeassistant\"");
    }
    let devices = table.texts("devices").unwrap_or_default();
    rule::check_patterns(&table, "devices", &devices);
    let topics = HomeAssistantTopics::new(gateway_id, &prefix);
    let source = found.map(|found| found.value);
    if let Some(at) = sources.iter().position(|known| Some(&known.name) == source.as_ref()) {
        check_loop(&table, &topics, &sources[at], sources, !devices.is_empty());
        let source = &mut sources[at];
        // A Sparkplug host application needs its session's will for its own state.
        if source.will.is_none() && source.sparkplug.is_none() {
            source.will = Some(WillConfig {
                topic: topics.availability(),
                offline: "offline".into(),
                online: "online".into(),
            });
        }
    }
    table.finish();
    Some(HomeAssistantConfig { source: source?, prefix, devices })
}

/// What is published must not come back as messages of devices: their states would be published as well, and so on.
fn check_loop(
    table: &Table<'_>,
    topics: &HomeAssistantTopics,
    broker: &SourceConfig,
    sources: &[SourceConfig],
    with_devices: bool,
) {
    let mut published = vec![topics.status(), topics.availability(), topics.config()];
    if with_devices {
        published.extend([topics.device_state("device"), topics.device_config("device")]);
    }
    for source in sources.iter().filter(|source| source.address == broker.address) {
        // This decoder knows the announcements by their origin.
        let harmless = Decoder::Announcement(Announcer::HomeAssistant);
        let rules = source.rules.iter().filter(|rule| rule.decoder != harmless).cloned().collect();
        let source = SourceConfig { rules, ..source.clone() };
        if let Some(topic) = published.iter().find(|topic| takes(&source, topic, true)) {
            let what = format!("source {:?} takes {topic:?} from the same broker", source.name);
            let hint = "what is published would be recorded as messages of devices, and published again; exclude \
                        \"fieldlog/#\" from the source, or the topic";
            table.fault("source", what, hint);
            return;
        }
    }
}
