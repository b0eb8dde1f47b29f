//! `[[alert]]`: rules that say what is wrong.

use std::time::Duration;

use ::config::ValueKind;
use fieldlog_projections::alert::Severity;
use fieldlog_projections::pattern::Pattern;
use fieldlog_projections::{Value, ValueRef};
use fieldlog_rules::choice;
use serde::{Serialize, Serializer};

use super::raw::Table;
use super::source::seconds;
use super::{SinkConfig, hints, source, written};

/// Rules, at most: a set of them is the bits of a number.
pub const RULES_MAX: usize = 64;
/// Percent below which a battery is low.
const BATTERY_LOW: f64 = 20.0;
/// Longest time that something may have to last, in seconds.
const FOR_MAX_S: u64 = 31_536_000;

const SEVERITIES: [(&str, Severity); 2] = [("warning", Severity::Warning), ("critical", Severity::Critical)];

/// One `[[alert]]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AlertRule {
    /// `name`: unique, `[a-z0-9_-]{1,32}`.
    pub name: String,
    /// `on`: what it watches.
    pub on: Watch,
    /// `device` (default `["*"]`): patterns of device ids. Not with `sink-backlog`.
    #[serde(rename = "device", skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// `attribute`: patterns of attribute names; only with `attribute`, where it is required.
    #[serde(rename = "attribute", skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<String>,
    /// `above`: the value must be greater. With `attribute` one of this, `below` and `equals`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    /// `below`: the value must be less. With `battery` 20 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
    /// `equals`: the value must be this: text, a number, true or false.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "written_value")]
    pub equals: Option<Value>,
    /// `clear` (default: the threshold): the value at which the alert is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clear: Option<f64>,
    /// `sink`: the name of the sink; only with `sink-backlog`, where it is required.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sink: String,
    /// `above_events`: more events wait for the sink. With `sink-backlog` either this or `above_s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub above_events: Option<u64>,
    /// `above_s`: the oldest event that waits for the sink is older.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub above_s: Option<u64>,
    /// `for_s` (0–31,536,000; default 0): how long it must be so. With `silence` required, at least 1.
    #[serde(rename = "for_s", serialize_with = "written::seconds")]
    pub lasting: Duration,
    /// `severity`: `warning` (default) or `critical`.
    pub severity: Severity,
}

/// What a rule watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// The values of attributes.
    Attribute,
    /// Devices that are not heard, or are offline.
    Silence,
    /// Batteries that are low.
    Battery,
    /// What waits for a sink.
    SinkBacklog,
}

choice!(Watch {
    "attribute" => Watch::Attribute,
    "silence" => Watch::Silence,
    "battery" => Watch::Battery,
    "sink-backlog" => Watch::SinkBacklog,
});

/// Keys that only some kinds of rules have.
const KEYS: [(&str, &[Watch]); 9] = [
    ("device", &[Watch::Attribute, Watch::Silence, Watch::Battery]),
    ("attribute", &[Watch::Attribute]),
    ("above", &[Watch::Attribute]),
    ("below", &[Watch::Attribute, Watch::Battery]),
    ("equals", &[Watch::Attribute]),
    ("clear", &[Watch::Attribute, Watch::Battery]),
    ("sink", &[Watch::SinkBacklog]),
    ("above_events", &[Watch::SinkBacklog]),
    ("above_s", &[Watch::SinkBacklog]),
];

/// `sinks` are those of the same configuration.
pub(super) fn read_all(table: &mut Table<'_>, sinks: &[SinkConfig]) -> Vec<AlertRule> {
    let mut rules: Vec<AlertRule> = Vec::new();
    let blocks = table.tables("alert").unwrap_or_default();
    if blocks.len() > RULES_MAX {
        let what = format!("there are {}; at most {RULES_MAX} can be declared", blocks.len());
        table.fault("alert", what, "remove some, or use patterns in device and attribute");
    }
    for mut entry in blocks {
        if let Some(rule) = read(&mut entry, sinks) {
            if rules.iter().any(|other| other.name == rule.name) {
                entry.fault("name", "another block has it too", "give each its own name");
            }
            rules.push(rule);
        }
        entry.finish();
    }
    rules
}

fn read(table: &mut Table<'_>, sinks: &[SinkConfig]) -> Option<AlertRule> {
    let name = source::name(table, "give the rule a short name, such as \"freezer-warm\"");
    if !table.has("on") {
        let hint = format!("choose {}", hints::one_of(&<Watch as choice::Choice>::words()));
        table.fault("on", "it is missing", hint);
    }
    let Some(on) = table.choice::<Watch>("on") else {
        // It is unknown which of them apply.
        for key in KEYS.map(|(key, _)| key).into_iter().chain(["for_s", "severity"]) {
            table.expect(&[key]);
            table.discard(key);
        }
        return None;
    };
    refuse_keys_of_others(table, on);
    let least_s = u64::from(on == Watch::Silence);
    if on == Watch::Silence && !table.has("for_s") {
        table.fault("for_s", "it is missing", "say after how many seconds a device is silent");
    }
    let mut rule = AlertRule {
        name: name.unwrap_or_default(),
        on,
        devices: Vec::new(),
        attributes: Vec::new(),
        above: None,
        below: None,
        equals: None,
        clear: None,
        sink: String::new(),
        above_events: None,
        above_s: None,
        lasting: seconds(table, "for_s", least_s, FOR_MAX_S, least_s),
        severity: table.word("severity", &SEVERITIES).unwrap_or_default(),
    };
    match on {
        Watch::SinkBacklog => backlog(table, sinks, &mut rule),
        _ => {
            rule.devices = patterns(table, "device").unwrap_or_else(|| vec!["*".to_owned()]);
            thresholds(table, on, &mut rule);
        }
    }
    (!rule.name.is_empty()).then_some(rule)
}

fn refuse_keys_of_others(table: &mut Table<'_>, on: Watch) {
    for (key, owners) in KEYS.iter().filter(|(_, owners)| !owners.contains(&on)) {
        let Some(value) = table.discard(key) else { continue };
        let owners: Vec<&str> = owners.iter().map(|owner| choice::Choice::word(*owner)).collect();
        let what = format!("only rules on {} have it", hints::one_of(&owners));
        table.fault_at(key, value.origin(), what, "remove it, or change `on`");
    }
}

fn patterns(table: &mut Table<'_>, key: &'static str) -> Option<Vec<String>> {
    let texts = table.text_or_texts(key)?;
    if texts.is_empty() {
        table.fault(key, "it is empty", "leave it out, or name at least one");
    }
    for text in &texts {
        if let Err(error) = Pattern::parse(text) {
            table.fault(key, error.to_string(), "");
        }
    }
    Some(texts)
}

fn number(table: &mut Table<'_>, key: &'static str) -> Option<f64> {
    table.has(key).then(|| table.number_in(key, f64::MIN..=f64::MAX, "finite", 0.0))
}

fn thresholds(table: &mut Table<'_>, on: Watch, rule: &mut AlertRule) {
    match on {
        Watch::Attribute => {
            if !table.has("attribute") {
                let hint = "name the attributes, such as \"temperature\"; * stands for any text";
                table.fault("attribute", "it is missing", hint);
            }
            rule.attributes = patterns(table, "attribute").unwrap_or_default();
            (rule.above, rule.below) = (number(table, "above"), number(table, "below"));
            rule.equals = equals(table);
            let given = [
                ("above", rule.above.is_some()),
                ("below", rule.below.is_some()),
                ("equals", table.was_written("equals")),
            ];
            let given: Vec<&str> = given.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
            match given[..] {
                [] => table.fault("above", "it is missing", "give one of above, below and equals"),
                [_] => {}
                [first, second, ..] => {
                    table.fault(
                        second,
                        format!("there is also {first}"),
                        "give one of above, below and equals",
                    );
                }
            }
        }
        Watch::Battery => rule.below = Some(number(table, "below").unwrap_or(BATTERY_LOW)),
        Watch::Silence | Watch::SinkBacklog => return,
    }
    rule.clear = number(table, "clear");
    let Some(clear) = rule.clear else { return };
    match (rule.above, rule.below) {
        (Some(above), _) if clear > above => {
            table.fault("clear", format!("{clear} is greater than above, {above}"), "use the same or less");
        }
        (_, Some(below)) if clear < below => {
            table.fault("clear", format!("{clear} is less than below, {below}"), "use the same or more");
        }
        (None, None) if rule.equals.is_some() => {
            table.fault("clear", "it has no effect beside equals", "remove it");
        }
        _ => {}
    }
}

fn equals(table: &mut Table<'_>) -> Option<Value> {
    let value = table.take("equals")?;
    match value.kind {
        ValueKind::Boolean(flag) => Some(Value::Bool(flag)),
        ValueKind::I64(number) => Some(Value::Int(number)),
        ValueKind::Float(number) if number.is_finite() => Some(Value::Float(number)),
        ValueKind::String(text) => Some(Value::Text(text.into())),
        _ => {
            table.fault("equals", "it must be text, a number, true or false", "");
            None
        }
    }
}

fn backlog(table: &mut Table<'_>, sinks: &[SinkConfig], rule: &mut AlertRule) {
    let found = table.required("sink", "name the sink whose backlog is watched");
    if let Some(found) = found {
        if !sinks.iter().any(|sink| sink.name == found.value) {
            let names: Vec<&str> = sinks.iter().map(|sink| sink.name.as_str()).collect();
            let hint = match names.is_empty() {
                true => "there is no [[sink]]".to_owned(),
                false => hints::did_you_mean(&found.value, &names)
                    .unwrap_or_else(|| format!("it must be {}", hints::one_of(&names))),
            };
            table.fault("sink", format!("there is no sink {:?}", found.value), hint);
        }
        rule.sink = found.value;
    }
    let mut limit = |key, unit| table.has(key).then(|| table.integer(key, 0..=u64::MAX >> 1, unit, 0));
    rule.above_events = limit("above_events", "events");
    rule.above_s = limit("above_s", "seconds");
    match (rule.above_events, rule.above_s) {
        (None, None) => table.fault("above_events", "it is missing", "give either above_events or above_s"),
        (Some(_), Some(_)) => {
            table.fault("above_s", "there is also above_events", "give either above_events or above_s");
        }
        _ => {}
    }
}

fn written_value<S: Serializer>(value: &Option<Value>, serializer: S) -> Result<S::Ok, S::Error> {
    match value.as_ref().map_or(ValueRef::Null, Value::borrow) {
        ValueRef::Bool(flag) => serializer.serialize_bool(flag),
        ValueRef::Int(number) => serializer.serialize_i64(number),
        ValueRef::Float(number) => serializer.serialize_f64(number),
        ValueRef::Text(text) => serializer.serialize_str(text),
        _ => serializer.serialize_none(),
    }
}
