//! The checked stage of a rule.

use super::super::hints::one_of;
use super::super::raw::Table;
use super::{Announcer, Decoder, OFFLINE, ONLINE, PayloadTime, Rule, TimeFormat, Update, When};
use crate::pattern::Pattern;
use crate::topic::Template;

pub(super) const DECODERS: [(&str, Decoder); 12] = [
    ("json", Decoder::Json),
    ("scalar", Decoder::Scalar),
    ("availability", Decoder::Availability),
    ("action", Decoder::Action),
    ("ignore", Decoder::Ignore),
    ("zigbee2mqtt-devices", Decoder::Announcement(Announcer::Zigbee2mqttDevices)),
    ("zigbee2mqtt-groups", Decoder::Announcement(Announcer::Zigbee2mqttGroups)),
    ("homeassistant-discovery", Decoder::Announcement(Announcer::HomeAssistant)),
    ("homie", Decoder::Announcement(Announcer::Homie)),
    ("homie5-description", Decoder::Announcement(Announcer::Homie5)),
    ("tasmota-discovery", Decoder::Announcement(Announcer::Tasmota)),
    ("shelly-announce", Decoder::Announcement(Announcer::Shelly)),
];
const UPDATES: [(&str, Update); 2] = [("merge", Update::Merge), ("replace", Update::Replace)];
const TIME_FORMATS: [(&str, TimeFormat); 4] = [
    ("rfc3339", TimeFormat::Rfc3339),
    ("unix_s", TimeFormat::UnixS),
    ("unix_ms", TimeFormat::UnixMs),
    ("local", TimeFormat::Local),
];
/// Room for the name of a source, a dot and the name of a preset.
const NAMESPACE_BYTES_MAX: usize = 64;
/// Keys that only one decoder reads.
const JSON_KEYS: [&str; 7] = ["root", "when", "update", "time", "actions", "ignore", "idempotent_by"];
const AVAILABILITY_KEYS: [&str; 2] = ["online", "offline"];
/// Keys of a rule that a preset's subscription must not have.
pub(in super::super) const KEYS: [&str; 16] = [
    "topic",
    "qos",
    "decoder",
    "device",
    "attribute",
    "root",
    "when",
    "update",
    "time",
    "actions",
    "ignore",
    "online",
    "offline",
    "redact",
    "idempotent_by",
    "parent",
];

/// Reads a rule; `None` if what it lacks makes it impossible.
pub(in super::super) fn read(table: &mut Table<'_>) -> Option<Rule> {
    let topic = topic(table);
    let decoder = decoder(table);
    if let Some(decoder) = decoder {
        check_decoder_keys(table, decoder);
    }
    let (device_default, attribute_default) = decoder.unwrap_or(Decoder::Ignore).names();
    let text = |table: &mut Table<'_>, key, default: &str| {
        table.filled(key).map_or_else(|| default.to_owned(), |found| found.value)
    };
    let rule = Rule {
        qos: u8::try_from(table.integer("qos", 0..=1, "", 1)).unwrap_or(1),
        device: text(table, "device", device_default),
        attribute: text(table, "attribute", attribute_default),
        root: pointer(table, "root").unwrap_or_default(),
        when: table.table_if_present("when").and_then(when),
        update: table.choice("update", &UPDATES, Update::Merge),
        time: table.table_if_present("time").and_then(time),
        actions: table.texts("actions").unwrap_or_default(),
        ignore: table.texts("ignore").unwrap_or_default(),
        online: payloads(table, "online", &ONLINE),
        offline: payloads(table, "offline", &OFFLINE),
        namespace: namespace(table),
        redact: table.texts("redact").unwrap_or_default(),
        idempotent_by: pointer(table, "idempotent_by"),
        parent: table.filled("parent").map(|found| found.value),
        topic: topic.as_ref().map(Template::to_string).unwrap_or_default(),
        decoder: decoder.unwrap_or(Decoder::Ignore),
    };
    if let (Some(template), Some(_)) = (&topic, decoder) {
        check_captures(table, template, &rule);
    }
    check_payloads(table, &rule);
    check_patterns(table, "actions", &rule.actions, false);
    check_patterns(table, "ignore", &rule.ignore, false);
    check_patterns(table, "redact", &rule.redact, true);
    (topic.is_some() && decoder.is_some()).then_some(rule)
}

/// `namespace`, also of a preset's subscription.
pub(in super::super) fn namespace(table: &mut Table<'_>) -> Option<String> {
    let found = table.filled("namespace")?;
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.".contains(&b);
    if found.value.len() <= NAMESPACE_BYTES_MAX && found.value.bytes().all(allowed) {
        return Some(found.value);
    }
    let what = format!("{:?} is too long or has other characters than it may", found.value);
    table.fault_at(
        "namespace",
        found.origin.as_deref(),
        what,
        "use 1 to 64 of the characters a-z, 0-9, _, - and .",
    );
    None
}

fn topic(table: &mut Table<'_>) -> Option<Template> {
    let found = table.required("topic", "give a topic such as \"sensors/+device\", or a preset")?;
    match Template::parse(&found.value) {
        Ok(template) => Some(template),
        Err(error) => {
            let what = format!("{:?} is not a topic template: {error}", found.value);
            table.fault_at("topic", found.origin.as_deref(), what, "");
            None
        }
    }
}

fn decoder(table: &mut Table<'_>) -> Option<Decoder> {
    if !table.has("decoder") {
        table.expect(&["decoder"]);
        let words: Vec<&str> = DECODERS.iter().map(|(word, _)| *word).collect();
        table.fault("decoder", "it is missing", format!("choose {}", one_of(&words)));
        return None;
    }
    let choices = DECODERS.map(|(word, decoder)| (word, Some(decoder)));
    table.choice("decoder", &choices, None)
}

fn check_decoder_keys(table: &Table<'_>, decoder: Decoder) {
    let refuse = |keys: &[&str], word: &str| {
        for key in keys.iter().filter(|key| table.has(key)) {
            table.fault(
                key,
                format!("only the decoder \"{word}\" reads it"),
                "remove it, or change the decoder",
            );
        }
    };
    if decoder != Decoder::Json {
        refuse(&JSON_KEYS, "json");
    }
    if decoder != Decoder::Availability {
        refuse(&AVAILABILITY_KEYS, "availability");
    }
    if let Decoder::Announcement(_) = decoder {
        for key in ["device", "attribute"].iter().filter(|key| table.has(key)) {
            let what =
                "an announcement is about the devices that the other subscriptions make of their topics";
            table.fault(key, what, "remove it");
        }
    }
}

fn check_captures(table: &Table<'_>, template: &Template, rule: &Rule) {
    for (key, text) in [("device", &rule.device), ("attribute", &rule.attribute)] {
        if let Err(error) = template.pattern(text) {
            let written = if table.was_written(key) { "" } else { " by default" };
            let hint = format!("write +NAME or #NAME in the topic and {{NAME}} in {key}");
            table.fault(key, format!("it is {text:?}{written}: {error}"), hint);
        }
    }
}

fn pointer(table: &mut Table<'_>, key: &'static str) -> Option<String> {
    let found = table.text(key)?;
    if is_pointer(&found.value) {
        return Some(found.value);
    }
    let what = format!("{:?} is not a JSON pointer", found.value);
    let hint = "write it as \"/params/ts\"; ~1 stands for / and ~0 for ~ in a name";
    table.fault_at(key, found.origin.as_deref(), what, hint);
    None
}

/// RFC 6901.
fn is_pointer(text: &str) -> bool {
    let escapes_good = text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    (text.is_empty() || text.starts_with('/')) && escapes_good
}

/// Like [`pointer`], but it must be there.
fn pointer_required(table: &mut Table<'_>) -> Option<String> {
    if !table.has("pointer") {
        table.expect(&["pointer"]);
        table.fault("pointer", "it is missing", "write it as \"/method\"");
        return None;
    }
    pointer(table, "pointer")
}

fn when(mut table: Table<'_>) -> Option<When> {
    let pointer = pointer_required(&mut table);
    let equals = table.required("equals", "give the text that must be there");
    table.finish();
    Some(When { pointer: pointer?, equals: equals?.value })
}

fn time(mut table: Table<'_>) -> Option<PayloadTime> {
    let pointer = pointer_required(&mut table);
    let words: Vec<&str> = TIME_FORMATS.iter().map(|(word, _)| *word).collect();
    if !table.has("format") {
        table.fault("format", "it is missing", format!("choose {}", one_of(&words)));
    }
    let format = table.choice("format", &TIME_FORMATS.map(|(word, format)| (word, Some(format))), None);
    table.finish();
    Some(PayloadTime { pointer: pointer?, format: format? })
}

fn payloads(table: &mut Table<'_>, key: &'static str, default: &[&str]) -> Vec<String> {
    let given = table.texts(key);
    if given.as_ref().is_some_and(Vec::is_empty) {
        table.fault(key, "it is empty", "name at least one payload, or remove it for the default");
    }
    given.unwrap_or_else(|| default.iter().map(|&word| word.to_owned()).collect())
}

fn check_payloads(table: &Table<'_>, rule: &Rule) {
    let both =
        rule.online.iter().find(|word| rule.offline.iter().any(|other| other.eq_ignore_ascii_case(word)));
    if let Some(word) = both {
        let hint = "remove it from one of the two (each has a default)";
        table.fault("online", format!("{word:?} means online and offline"), hint);
    }
}

/// `*` may stand at the end, and at the start if `both`.
pub(in super::super) fn check_patterns(table: &Table<'_>, key: &str, patterns: &[String], both: bool) {
    for (index, text) in patterns.iter().enumerate() {
        let fits = Pattern::parse(text).is_ok_and(|pattern| both || !pattern.is_open_at_start());
        if !fits {
            let place = if both { "the start or the end" } else { "the end" };
            let what = format!("{text:?} is not a pattern; `*` may stand only at {place}");
            table.fault(&format!("{key}[{index}]"), what, "");
        }
    }
}
