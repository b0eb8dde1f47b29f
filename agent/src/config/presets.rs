//! Rules for well-known families of devices, embedded from `config/presets`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};

use ::config::{Map, Value};
use flate2::read::GzDecoder;

use super::faults::Collector;
use super::hints::{did_you_mean, one_of};
use super::raw::{Table, WithOrigin};
use super::{CommandRule, Rule, command, lines, rule};
use fieldlog_rules::topic::{self, Captures, Template};

/// The preset `tasmota`, for the other order of prefix and topic in its topics.
const TOPIC_FIRST: &str = "tasmota-topic-first";

/// All files, compressed together by `build.rs`: of each its name and its text, each with U+0000 behind it.
static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/presets.gz"));

/// Name of each preset.
pub const PRESETS: [&str; 24] = [
    "zigbee2mqtt",
    "tasmota",
    TOPIC_FIRST,
    "shelly-gen1",
    "shelly-gen2",
    "esphome",
    "homie",
    "homeassistant-discovery",
    "homeassistant-statestream",
    "chirpstack",
    "the-things-stack",
    "zwave-js-ui",
    "victron-venus",
    "rtl_433",
    "openmqttgateway",
    "owntracks",
    "wled",
    "frigate",
    "ems-esp",
    "valetudo",
    "evcc",
    "ring-mqtt",
    "meshtastic",
    "aws-shadow",
];

/// Maximum bases of one preset to look for.
const BASES_MAX: usize = 8;

/// The text of a preset.
pub fn text_of(preset: &str) -> Option<String> {
    let name = PRESETS.iter().find(|name| **name == preset)?;
    let file = if *name == TOPIC_FIRST { "tasmota" } else { name };
    // What comes after it is neither unpacked nor kept.
    let mut parts = BufReader::new(GzDecoder::new(PACKED)).split(0).map_while(Result::ok);
    parts.find(|part| part.strip_suffix(b".toml") == Some(file.as_bytes()))?;
    let text = String::from_utf8(parts.next()?).ok()?;
    if *name != TOPIC_FIRST {
        return Some(text);
    }
    let swap =
        |text: String, prefix| text.replace(&format!("/{prefix}/+device/"), &format!("/+device/{prefix}/"));
    let text = ["tele", "stat"].into_iter().fold(text, swap);
    let command =
        |text: String, name| text.replace(&format!("/cmnd/{{{name}}}/"), &format!("/{{{name}}}/cmnd/"));
    Some(["device", "bridge"].into_iter().fold(text, command))
}

/// The names of all presets.
pub fn names() -> impl Iterator<Item = &'static str> {
    PRESETS.into_iter()
}

/// The default base of a preset's topics. `None` if there is no such preset.
pub fn default_base(preset: &str) -> Option<String> {
    Some(head(&text_of(preset)?).base)
}

/// Topics that only the devices of a preset have, containing `{base}`.
#[cfg(test)]
pub fn recognised_by(preset: &str) -> Vec<String> {
    head(&text_of(preset).unwrap_or_default()).recognised_by
}

/// The bases under which a preset's devices appear among these topics, found by topics that only they have. The most
/// frequent base is first. The devices of a preset that has a base are never without one.
pub fn bases<'t>(preset: &str, topics: impl IntoIterator<Item = &'t &'t str>) -> Vec<String> {
    let Some(text) = text_of(preset) else { return Vec::new() };
    let head = head(&text);
    // The base is a capture; without a base there is nothing in front of the rest.
    let topics_with = |base: &'static str| head.recognised_by.iter().map(move |topic| with_base(topic, base));
    let templates = topics_with("#base").chain(topics_with(""));
    let templates: Vec<Template> = templates.filter_map(|topic| Template::parse(&topic).ok()).collect();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut captures = Captures::default();
    for topic in topics {
        let template = templates.iter().find(|template| template.matches(topic, &mut captures));
        let Some(template) = template else { continue };
        let place = template.captures().iter().position(|name| name == "base");
        let base = place.and_then(|place| captures.values().get(place)).copied().unwrap_or_default();
        *counts.entry(base.to_owned()).or_default() += 1;
    }
    if !head.base.is_empty() {
        counts.remove("");
    }
    let mut bases: Vec<(String, usize)> = counts.into_iter().collect();
    bases.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    bases.into_iter().take(BASES_MAX).map(|(base, _)| base).collect()
}

/// The head of a preset's text, before its rules.
struct Head {
    base: String,
    recognised_by: Vec<String>,
}

fn head(text: &str) -> Head {
    Head::read(&mut Table::new("", parse(text), None, &Collector::default()))
}

impl Head {
    fn read(table: &mut Table<'_>) -> Head {
        Head {
            base: table.text("base").map(|found| found.value).unwrap_or_default(),
            recognised_by: table.texts("recognised_by").unwrap_or_default(),
        }
    }
}

/// A subscription that names a preset.
pub(super) struct Subscription {
    /// Name of the preset; empty if no preset has that name.
    pub(super) name: &'static str,
    /// As configured.
    pub(super) namespace: Option<String>,
    pub(super) rules: Vec<Rule>,
    pub(super) commands: Vec<CommandRule>,
}

/// Reads a subscription that names a preset.
pub(super) fn subscription(table: &mut Table<'_>) -> Subscription {
    let preset = table.required("preset", "name a preset").and_then(|found| preset(table, &found));
    let base = table.text("base").map(|found| found.value);
    let prefix = table.filled("device_prefix").map(|found| found.value).unwrap_or_default();
    let namespace = rule::namespace(table);
    let qos = table.integer("qos", 0..=1, "", 1);
    let with_commands = table.flag("commands", true);
    for (key, text) in [("base", base.as_deref()), ("device_prefix", Some(prefix.as_str()))] {
        check_literal(table, key, text.unwrap_or_default());
    }
    for key in rule::keys() {
        if table.discard(key).is_none() {
            continue;
        }
        let hint = "a preset takes only base, commands, device_prefix, namespace and qos; write a subscription of its own before it";
        table.fault(key, "it cannot be combined with a preset", hint);
    }
    let Some(name) = preset else {
        return Subscription { name: "", namespace, rules: Vec::new(), commands: Vec::new() };
    };
    // What is wrong with the base has been said.
    let base = base.filter(|base| base_fault(base).is_none());
    let (mut rules, mut commands) = expand(&text_of(name).unwrap_or_default(), base.as_deref(), &prefix);
    if !with_commands {
        commands.clear();
    }
    for rule in &mut rules {
        rule.qos = u8::try_from(qos).unwrap_or(1);
    }
    Subscription { name, namespace, rules, commands }
}

fn preset(table: &Table<'_>, name: &WithOrigin<String>) -> Option<&'static str> {
    let found = names().find(|known| *known == name.value);
    if found.is_none() {
        let names = PRESETS;
        let what = format!("there is no preset {:?}; it must be {}", name.value, one_of(&names));
        let hint = did_you_mean(&name.value, &names).unwrap_or_default();
        table.fault_at("preset", name.origin.as_deref(), what, hint);
    }
    found
}

fn check_literal(table: &Table<'_>, key: &str, text: &str) {
    let what = if key == "base" { base_fault(text) } else { brace_fault(text) };
    if let Some(what) = what {
        table.fault(key, what, "use plain text, such as \"zigbee2mqtt\"");
    }
}

fn brace_fault(text: &str) -> Option<String> {
    text.contains(['{', '}']).then(|| format!("{text:?} has a brace in it"))
}

fn base_fault(text: &str) -> Option<String> {
    let of_topic = || match topic::check_name(text) {
        _ if text.is_empty() => None,
        Err(error) => Some(format!("{text:?} is not the beginning of a topic: {error}")),
        Ok(()) if text.starts_with('/') || text.ends_with('/') => {
            Some(format!("{text:?} begins or ends with a slash"))
        }
        Ok(()) => None,
    };
    brace_fault(text).or_else(of_topic)
}

/// The rules and commands of a preset's text. The presets are embedded and tested: they have no faults to report.
fn expand(text: &str, base: Option<&str>, prefix: &str) -> (Vec<Rule>, Vec<CommandRule>) {
    let faults = Collector::default();
    let mut table = Table::new("", parse(text), None, &faults);
    let head = Head::read(&mut table);
    let base = base.unwrap_or(&head.base);
    let entries = table.tables("rule").unwrap_or_default();
    let rules = entries.into_iter().filter_map(|mut entry| {
        for key in ["topic", "device", "parent"] {
            entry.edit(key, |text| with_base(text, base));
        }
        let mut rule = rule::read(&mut entry)?;
        entry.finish();
        rule.parent = rule.parent.map(|parent| format!("{prefix}{parent}"));
        rule.device.iter_mut().for_each(|device| device.insert_str(0, prefix));
        Some(rule)
    });
    let rules = rules.collect();
    let entries = table.tables("command").unwrap_or_default();
    let commands = entries.into_iter().filter_map(|mut entry| {
        for key in ["topic", "device"] {
            entry.edit(key, |text| with_base(text, base));
        }
        let command = command::read(entry)?;
        Some(CommandRule { device_prefix: prefix.to_owned(), ..command })
    });
    let commands = commands.collect();
    table.finish();
    debug_assert!(!faults.has_faults(), "{faults:?}");
    (rules, commands)
}

fn parse(text: &str) -> Map<String, Value> {
    lines::parse(text, "preset").unwrap_or_default()
}

/// With an empty base, the slash is removed too.
fn with_base(text: &str, base: &str) -> String {
    if base.is_empty() { text.replace("{base}/", "") } else { text.replace("{base}", base) }
}
