//! Rules for well-known families of devices, embedded from `config/presets`.

use ::config::{FileFormat, Format, Map, Value};

use super::faults::Sink;
use super::hints::{did_you_mean, one_of};
use super::raw::{Found, Table};
use super::{Rule, rule};
use crate::topic;

/// Name and text of each preset.
pub const PRESETS: [(&str, &str); 7] = [
    ("zigbee2mqtt", include_str!("../../../config/presets/zigbee2mqtt.toml")),
    ("tasmota", include_str!("../../../config/presets/tasmota.toml")),
    ("shelly-gen1", include_str!("../../../config/presets/shelly-gen1.toml")),
    ("shelly-gen2", include_str!("../../../config/presets/shelly-gen2.toml")),
    ("esphome", include_str!("../../../config/presets/esphome.toml")),
    ("homie", include_str!("../../../config/presets/homie.toml")),
    ("homeassistant-discovery", include_str!("../../../config/presets/homeassistant-discovery.toml")),
];

/// A subscription that names a preset.
pub(super) struct Subscription {
    /// Name of the preset; empty if there is none of that name.
    pub(super) name: &'static str,
    /// As it is written.
    pub(super) namespace: Option<String>,
    pub(super) rules: Vec<Rule>,
}

/// Reads a subscription that names a preset.
pub(super) fn subscription(table: &mut Table<'_>) -> Subscription {
    let preset = table.required("preset", "name a preset").and_then(|found| preset(table, &found));
    let base = table.text("base").map(|found| found.value);
    let prefix = table.filled("device_prefix").map(|found| found.value).unwrap_or_default();
    let namespace = rule::namespace(table);
    let qos = table.integer("qos", 0..=1, "", 1);
    for (key, text) in [("base", base.as_deref()), ("device_prefix", Some(prefix.as_str()))] {
        check_literal(table, key, text.unwrap_or_default());
    }
    for key in rule::KEYS {
        if table.discard(key).is_none() {
            continue;
        }
        let hint = "a preset takes only base, device_prefix, namespace and qos; write a subscription of its own before it";
        table.fault(key, "it cannot be combined with a preset", hint);
    }
    let Some((name, text)) = preset else { return Subscription { name: "", namespace, rules: Vec::new() } };
    let mut rules = expand(text, base.as_deref(), &prefix);
    for rule in &mut rules {
        rule.qos = u8::try_from(qos).unwrap_or(1);
    }
    Subscription { name, namespace, rules }
}

fn preset(table: &Table<'_>, name: &Found<String>) -> Option<(&'static str, &'static str)> {
    let found = PRESETS.iter().find(|(known, _)| *known == name.value).copied();
    if found.is_none() {
        let names = PRESETS.map(|(known, _)| known);
        let what = format!("there is no preset {:?}; it must be {}", name.value, one_of(&names));
        let hint = did_you_mean(&name.value, &names).unwrap_or_default();
        table.fault_at("preset", name.origin.as_deref(), what, hint);
    }
    found
}

fn check_literal(table: &Table<'_>, key: &str, text: &str) {
    let fault = |what: String| table.fault(key, what, "use plain text, such as \"zigbee2mqtt\"");
    if text.contains(['{', '}']) {
        fault(format!("{text:?} has a brace in it"));
    } else if key == "base" && !text.is_empty() {
        if let Err(error) = topic::check_name(text) {
            fault(format!("{text:?} is not the beginning of a topic: {error}"));
        } else if text.starts_with('/') || text.ends_with('/') {
            fault(format!("{text:?} begins or ends with a slash"));
        }
    }
}

/// The rules of a preset's text. The presets are embedded and tested: they have no faults to report.
fn expand(text: &str, base: Option<&str>, prefix: &str) -> Vec<Rule> {
    let sink = Sink::default();
    let mut table = Table::new("", parse(text), None, &sink);
    let default_base = table.text("base").map(|found| found.value).unwrap_or_default();
    let base = base.unwrap_or(&default_base);
    let entries = table.tables("rule").unwrap_or_default();
    let rules = entries.into_iter().filter_map(|mut entry| {
        for key in ["topic", "device", "parent"] {
            entry.edit(key, |text| with_base(text, base));
        }
        let mut rule = rule::read(&mut entry)?;
        entry.finish();
        rule.parent = rule.parent.map(|parent| format!("{prefix}{parent}"));
        if !rule.device.is_empty() {
            rule.device.insert_str(0, prefix);
        }
        Some(rule)
    });
    let rules = rules.collect();
    table.finish();
    debug_assert!(!sink.has_faults(), "{sink:?}");
    rules
}

fn parse(text: &str) -> Map<String, Value> {
    Format::parse(&FileFormat::Toml, None, text).unwrap_or_default()
}

/// An empty base leaves no slash behind.
fn with_base(text: &str, base: &str) -> String {
    if base.is_empty() { text.replace("{base}/", "") } else { text.replace("{base}", base) }
}
