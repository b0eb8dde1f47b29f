//! The checked stage of a rule.

use std::time::Duration;

use super::super::hints::one_of;
use super::super::raw::Table;
use super::checks::{check_patterns, pointer};
use super::{
    ActionFields, Arrays, Decoder, Each, KeepAlive, PayloadTime, Rename, Rule, TimeFormat, keys, types, when,
};
use fieldlog_rules::choice::Choice;
use fieldlog_rules::topic::Template;

/// Room for the name of a source, a dot and the name of a preset.
const NAMESPACE_BYTES_MAX: usize = 64;
/// Reads a rule; `None` if it lacks something essential.
pub(in super::super) fn read(table: &mut Table<'_>) -> Option<Rule> {
    let topic = topic(table);
    let decoder = decoder(table);
    if let Some(decoder) = decoder {
        keys::check(table, decoder);
    }
    let payload = !matches!(decoder, Some(Decoder::Announcement(_)));
    let default = Rule::new("", decoder.unwrap_or(Decoder::Ignore));
    let rule = Rule {
        qos: u8::try_from(table.integer("qos", 0..=1, "", 1)).unwrap_or(default.qos),
        also: table.flag("also", false),
        when: when::read(table, topic.as_ref(), payload),
        device: device(table).unwrap_or(default.device),
        attribute: table.filled("attribute").map_or(default.attribute, |found| found.value),
        root: pointer(table, "root").unwrap_or_default(),
        each: table.choice("each").or(default.each),
        value: pointer(table, "value").or(default.value),
        arrays: arrays(table),
        update: table.choice("update").unwrap_or(default.update),
        time: table.table_if_present("time").map_or(default.time, time),
        only: patterns(table, "only"),
        actions: patterns(table, "actions"),
        action_fields: table.choice("action_fields").unwrap_or(default.action_fields),
        ignore: patterns(table, "ignore"),
        rename: renames(table),
        types: types::read(table),
        online: payloads(table, "online", default.online),
        offline: payloads(table, "offline", default.offline),
        namespace: namespace(table),
        redact: patterns(table, "redact"),
        idempotent_by: pointer(table, "idempotent_by"),
        order_by: pointer(table, "order_by"),
        keep_alive: table.table_if_present("keep_alive").and_then(|keep| keep_alive(keep, topic.as_ref())),
        parent: table.filled("parent").map(|found| found.value),
        topic: topic.as_ref().map(Template::to_string).unwrap_or_default(),
        decoder: decoder.unwrap_or(Decoder::Ignore),
    };
    if let (Some(template), Some(decoder)) = (&topic, decoder) {
        check_names(table, template, &rule, decoder);
    }
    check_payloads(table, &rule);
    check_counters(table, &rule);
    check_together(table, &rule);
    (topic.is_some() && decoder.is_some()).then_some(rule)
}

/// `namespace`, also of a subscription with a preset.
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
        table.fault("decoder", "it is missing", format!("choose {}", one_of(&Decoder::words())));
        return None;
    }
    table.choice("decoder")
}

/// One text, or a list of them; empty means the same as absent.
fn device(table: &mut Table<'_>) -> Option<Vec<String>> {
    let texts = table.text_or_texts("device")?;
    for (index, _) in texts.iter().enumerate().filter(|(_, text)| text.is_empty() && texts.len() > 1) {
        table.fault(&format!("device[{index}]"), "it is empty", "remove it");
    }
    if texts.is_empty() {
        table.fault("device", "it is empty", "give at least one text, or remove it for the default");
    }
    Some(texts).filter(|texts| texts.iter().any(|text| !text.is_empty()))
}

fn check_names(table: &Table<'_>, template: &Template, rule: &Rule, decoder: Decoder) {
    let list = rule.device.len() > 1;
    let devices = rule.device.iter().enumerate().map(|(index, text)| {
        (if list { format!("device[{index}]") } else { "device".to_owned() }, "device", text)
    });
    if let Some(parent) = &rule.parent {
        check_captures(table, "parent", parent, template);
    }
    for (place, key, text) in devices.chain([("attribute".to_owned(), "attribute", &rule.attribute)]) {
        let written = if table.was_written(key) { "" } else { " by default" };
        match template.pattern(text) {
            Err(error) => {
                let hint = format!("write +NAME or #NAME in the topic and {{NAME}} in {key}");
                table.fault(&place, format!("it is {text:?}{written}: {error}"), hint);
            }
            Ok(name) if name.needs_document() && !decoder.is_document() => {
                let what = format!("it is {text:?}: only a decoder for documents can look into the payload");
                table.fault(&place, what, "use captures of the topic, or change the decoder");
            }
            Ok(name) if name.needs_key() && rule.each != Some(Each::Members) => {
                let what = format!("it is {text:?}: there is a {{key}} only with each = \"members\"");
                table.fault(&place, what, "write +key in the topic, or set each");
            }
            Ok(_) => {}
        }
    }
}

/// A name in which captures of the topic can be, and nothing from the payload.
fn check_captures(table: &Table<'_>, key: &str, text: &str, template: &Template) {
    let what = match template.pattern(text) {
        Ok(pattern) if pattern.needs_document() || pattern.needs_key() => {
            "only captures of the subscription's topic can be in it".to_owned()
        }
        Ok(_) => return,
        Err(error) => error.to_string(),
    };
    let hint = format!("write +NAME or #NAME in the topic and {{NAME}} in {key}");
    table.fault(key, format!("it is {text:?}: {what}"), hint);
}

/// Checks for keys that have no effect without another one.
fn check_together(table: &Table<'_>, rule: &Rule) {
    let nameless = rule.attribute.is_empty();
    if table.was_written("value") && nameless && rule.decoder.is_document() {
        table.fault("value", "the value has no name", "give attribute");
    }
    if rule.action_fields == ActionFields::Together {
        if nameless {
            table.fault("action_fields", "the action has no name", "give attribute");
        }
        if rule.actions.is_empty() {
            table.fault("action_fields", "there are no actions", "give actions, such as [\"*\"]");
        }
    }
}

fn arrays(table: &mut Table<'_>) -> Arrays {
    match table.filled("arrays").map(|found| found.value) {
        None => Arrays::Json,
        Some(word) if word == "json" => Arrays::Json,
        Some(word) if word == "index" => Arrays::Index,
        Some(field) => Arrays::Field(field),
    }
}

fn renames(table: &mut Table<'_>) -> Vec<Rename> {
    let tables = table.tables("rename").unwrap_or_default();
    let one = |mut table: Table<'_>| {
        let from = table.required("from", "give the name that is in the document");
        let to = table.required("to", "give the name that it shall have");
        table.finish();
        Some(Rename { from: from?.value, to: to?.value })
    };
    tables.into_iter().filter_map(one).collect()
}

fn keep_alive(mut table: Table<'_>, rule_topic: Option<&Template>) -> Option<KeepAlive> {
    let topic = table.required("topic", "give the topic to publish, such as \"plant/{device}/keepalive\"");
    if let (Some(found), Some(template)) = (&topic, rule_topic) {
        let what = match template.pattern(&found.value) {
            Ok(pattern) if pattern.needs_document() || pattern.needs_key() => {
                Some("only captures of the subscription's topic can be in it".to_owned())
            }
            Ok(_) => {
                found.value.contains(['+', '#']).then(|| "a message has no wildcards in its topic".to_owned())
            }
            Err(error) => Some(error.to_string()),
        };
        if let Some(what) = what {
            let hint = "write +NAME or #NAME in the topic of the subscription and {NAME} here";
            table.fault_at(
                "topic",
                found.origin.as_deref(),
                format!("it is {:?}: {what}", found.value),
                hint,
            );
        }
    }
    let payload = table.text("payload").map(|found| found.value).unwrap_or_default();
    let first_payload = table.text("first_payload").map_or_else(|| payload.clone(), |found| found.value);
    let every = Duration::from_secs(table.integer("every_s", 5..=3_600, "seconds", 30));
    table.finish();
    Some(KeepAlive { topic: topic?.value, first_payload, payload, every })
}

fn time(mut table: Table<'_>) -> Option<PayloadTime> {
    if !table.has("pointer") {
        table.expect(&["pointer"]);
        table.fault("pointer", "it is missing", "write it as \"/Time\"");
    }
    let pointer = pointer(&mut table, "pointer");
    let format = table.choice("format").unwrap_or(TimeFormat::Auto);
    table.finish();
    Some(PayloadTime { pointer: pointer?, format })
}

fn payloads(table: &mut Table<'_>, key: &'static str, default: Vec<String>) -> Vec<String> {
    let given = table.texts(key);
    if given.as_ref().is_some_and(Vec::is_empty) {
        table.fault(key, "it is empty", "name at least one payload, or remove it for the default");
    }
    given.unwrap_or(default)
}

/// The whole payload is no number.
fn check_counters(table: &Table<'_>, rule: &Rule) {
    for (key, pointer) in [("idempotent_by", &rule.idempotent_by), ("order_by", &rule.order_by)] {
        if pointer.as_deref() == Some("") {
            table.fault(key, "it is empty", "write it from the top of the document, as \"/event_cnt\"");
        }
    }
}

fn check_payloads(table: &Table<'_>, rule: &Rule) {
    let both =
        rule.online.iter().find(|word| rule.offline.iter().any(|other| other.eq_ignore_ascii_case(word)));
    if let Some(word) = both {
        let hint = "remove it from one of the two (each has a default)";
        table.fault("online", format!("{word:?} means online and offline"), hint);
    }
}

fn patterns(table: &mut Table<'_>, key: &'static str) -> Vec<String> {
    let patterns = table.texts(key).unwrap_or_default();
    check_patterns(table, key, &patterns);
    patterns
}
