//! The checked stage of one rule, as it stands in `[[source.subscription]]` and in presets.

use serde::ser::Error;
use serde::{Serialize, Serializer};

use super::hints::one_of;
use super::raw::Table;
use super::written::{self, table_of};
use super::{Decoder, PayloadTime, Rule, TimeFormat, Update, When};
use crate::pattern::Pattern;
use crate::topic::Template;

const DECODERS: [(&str, Decoder); 5] = [
    ("json", Decoder::Json),
    ("scalar", Decoder::Scalar),
    ("availability", Decoder::Availability),
    ("action", Decoder::Action),
    ("ignore", Decoder::Ignore),
];
const UPDATES: [(&str, Update); 2] = [("merge", Update::Merge), ("replace", Update::Replace)];
pub(super) const TIME_FORMATS: [(&str, TimeFormat); 4] = [
    ("rfc3339", TimeFormat::Rfc3339),
    ("unix_s", TimeFormat::UnixS),
    ("unix_ms", TimeFormat::UnixMs),
    ("local", TimeFormat::Local),
];
/// Keys that only one decoder reads.
const JSON_KEYS: [&str; 6] = ["root", "when", "update", "time", "actions", "ignore"];
const AVAILABILITY_KEYS: [&str; 2] = ["online", "offline"];
/// Keys of a rule that a preset's subscription must not have.
pub(super) const KEYS: [&str; 14] = [
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
    "parent",
];

/// Payloads of the availability decoder when none are configured.
pub(super) const ONLINE: [&str; 6] = ["online", "true", "1", "on", "connected", "ready"];
pub(super) const OFFLINE: [&str; 6] = ["offline", "false", "0", "off", "disconnected", "lost"];

/// Reads a rule; `None` if what it lacks makes it impossible.
pub(super) fn read(table: &mut Table<'_>) -> Option<Rule> {
    let topic = topic(table);
    let decoder = decoder(table);
    if let Some(decoder) = decoder {
        check_decoder_keys(table, decoder);
    }
    let (device_default, attribute_default) = names(decoder.unwrap_or(Decoder::Ignore));
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
    (topic.is_some() && decoder.is_some()).then_some(rule)
}

/// Defaults of `device` and `attribute`.
fn names(decoder: Decoder) -> (&'static str, &'static str) {
    match decoder {
        Decoder::Scalar => ("{device}", "{attribute}"),
        Decoder::Action => ("{device}", "action"),
        Decoder::Json | Decoder::Availability => ("{device}", ""),
        Decoder::Ignore => ("", ""),
    }
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

/// Rules as their tables, without the keys that their decoder does not read: read back, those would be faults.
pub(super) fn written<S: Serializer>(rules: &[Rule], serializer: S) -> Result<S::Ok, S::Error> {
    let table = |rule: &Rule| -> Result<written::Table, S::Error> {
        let mut table = table_of(rule).map_err(S::Error::custom)?;
        table.retain(|key, _| {
            (rule.decoder == Decoder::Json || !JSON_KEYS.contains(&key))
                && (rule.decoder == Decoder::Availability || !AVAILABILITY_KEYS.contains(&key))
        });
        Ok(table)
    };
    rules.iter().map(table).collect::<Result<Vec<_>, _>>()?.serialize(serializer)
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
pub(super) fn check_patterns(table: &Table<'_>, key: &str, patterns: &[String], both: bool) {
    for (index, text) in patterns.iter().enumerate() {
        let fits = Pattern::parse(text).is_ok_and(|pattern| both || !pattern.is_open_at_start());
        if !fits {
            let place = if both { "the start or the end" } else { "the end" };
            let what = format!("{text:?} is not a pattern; `*` may stand only at {place}");
            table.fault(&format!("{key}[{index}]"), what, "");
        }
    }
}
