//! `[[source.command]]`: what devices can be told, and how. Presets bring such blocks for the devices they know.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ::config::ValueKind;
use fieldlog_projections::DataType;
use fieldlog_projections::command::OnOffline;
use serde::{Serialize, Serializer};

use super::hints::one_of;
use super::raw::Table;
use super::{SourceConfig, rule, written};
use crate::sorted;
use fieldlog_projections::pattern::Pattern;
use fieldlog_rules::choice;
use fieldlog_rules::topic::Template;

/// `[[source.command]]`: one thing that devices can be told. The first block that names a device and an attribute, or an
/// operation, counts; blocks of the source come before those of its presets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CommandRule {
    /// `devices` (default `*`): patterns on the device id, or on what its source calls it.
    pub devices: Vec<String>,
    /// `attribute`: the attribute that is set, in which one `*` may stand for any text. Either this or `operation`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub attribute: String,
    /// `operation`: name of something a device can do that sets no attribute; with `of`, it may contain `{attribute}` and
    /// `{*}`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub operation: String,
    /// `of` (only with `operation`): the device can do it for each attribute that this pattern matches.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub of: String,
    /// `device` (default: any name): a template that what the source calls the device must match, such as
    /// `+bridge/+name`. Its captures are placeholders.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub device: String,
    /// `where`: only devices whose attributes have these values. A name is that of an attribute, `{attribute}`, or one of
    /// `$model`, `$manufacturer` and `$stable_id` of what the device announces; the patterns are those of its value.
    #[serde(rename = "where", skip_serializing_if = "BTreeMap::is_empty")]
    pub conditions: BTreeMap<String, Vec<String>>,
    /// `except`: attribute patterns that the block is not for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
    /// `announced` (default false): only attributes that their device announces as writable.
    pub announced: bool,
    /// `type`: what values must be (default: what the device announces; an operation takes none).
    #[serde(rename = "type", skip_serializing_if = "is_unknown", serialize_with = "written_type")]
    pub data_type: DataType,
    /// `min`: smallest value (default: what the device announces).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// `max`: largest value (default: what the device announces).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// `values`: the values that are allowed (default: what the device announces).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// `unit` (default: what the device announces).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// `topic`: what is published to, with placeholders.
    pub topic: String,
    /// `payload` (default `{value}`): what is published, with placeholders.
    pub payload: String,
    /// `words`: payload texts for values, such as `{ true = "ON", false = "OFF" }`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub words: BTreeMap<String, String>,
    /// `qos` (0 or 1; default 1).
    pub qos: u8,
    /// `idempotent` (default: true for attributes, false for operations): publishing it twice does no more than once.
    pub idempotent: bool,
    /// `on_offline` (default `reject`): what becomes of it while the device is offline: `reject`, `hold` or `latest_wins`.
    #[serde(serialize_with = "written_on_offline")]
    pub on_offline: OnOffline,
    /// `confirm_s` (1–86,400; default 30): how long evidence is waited for.
    #[serde(rename = "confirm_s", serialize_with = "written::seconds")]
    pub confirm: Duration,
    /// `evidence` (default: `reported` for attributes, `none` for operations): what shows that it was carried out.
    pub evidence: EvidenceKind,
    /// `reports` (default `{attribute}`): the attribute that must reach the value.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reports: String,
    /// `reaches` (default: the value of the command): the value that it must reach.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reaches: String,
    /// `tolerance` (default 0): how far a reported number may be from the value.
    #[serde(skip_serializing_if = "is_zero")]
    pub tolerance: f64,
    /// `reply`: how the device answers. With `evidence = "reported"` the answer acknowledges or refuses the command, and
    /// what is reported shows that it was carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
    /// `namespace` (default: the source's name): what its devices' names are in; for those of a second preset in a source,
    /// `SOURCE.PRESET`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// `device_prefix` (default empty): what device ids have in front of what their topics call them.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub device_prefix: String,
}

/// What shows that a command was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvidenceKind {
    /// An attribute is reported with the value.
    Reported,
    /// The device answers.
    Reply,
    /// Nothing does.
    None,
}

choice!(EvidenceKind {
    "reported" => EvidenceKind::Reported,
    "reply" => EvidenceKind::Reply,
    "none" => EvidenceKind::None,
});

/// How a device answers a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reply {
    /// `topic`: where the answer arrives, with placeholders; the source subscribes to it.
    pub topic: String,
    /// `id` (default `/id`): JSON pointer (RFC 6901) to the number that was sent as `{id}`.
    pub id: String,
    /// `error` (default `/error`): JSON pointer to what is there, and not null, if the device refuses.
    pub error: String,
}

impl CommandRule {
    /// What it is for: the attribute pattern, or the operation.
    pub fn name(&self) -> &str {
        if self.operation.is_empty() { &self.attribute } else { &self.operation }
    }

    /// Whether it is an operation.
    pub fn is_operation(&self) -> bool {
        !self.operation.is_empty()
    }

    /// Whether commands have a value: those of attributes do, and operations if the block says which.
    pub fn takes_value(&self) -> bool {
        !self.is_operation() || self.data_type != DataType::Unknown || !self.values.is_empty()
    }
}

impl SourceConfig {
    /// The topics on which devices answer commands.
    pub(crate) fn replies(&self) -> BTreeSet<String> {
        let replies = self.commands.iter().filter_map(|rule| rule.reply.as_ref());
        sorted::set(replies.map(|reply| self.reply_topic(reply)))
    }

    /// The topic on which devices answer, written out.
    pub(crate) fn reply_topic(&self, reply: &Reply) -> String {
        reply.topic.replace("{client_id}", &self.client_id)
    }
}

/// Placeholders of topics and payloads; `command/template.rs` fills them in.
pub const PLACEHOLDERS: [&str; 10] =
    ["device", "attribute", "attribute/", "*", "value", "json", "document", "id", "reply", "client_id"];

/// What `where` can ask of the description of a device.
pub const OF_DESCRIPTION: [&str; 3] = ["$model", "$manufacturer", "$stable_id"];

pub(super) fn read_all(table: &mut Table<'_>) -> Vec<CommandRule> {
    table.tables("command").unwrap_or_default().into_iter().filter_map(read).collect()
}

/// Reads one block.
pub(super) fn read(mut table: Table<'_>) -> Option<CommandRule> {
    let attribute = table.filled("attribute").map(|found| found.value).unwrap_or_default();
    let operation = table.filled("operation").map(|found| found.value).unwrap_or_default();
    let of = table.filled("of").map(|found| found.value).unwrap_or_default();
    if attribute.is_empty() == operation.is_empty() {
        let hint = "give either the attribute that is set, such as attribute = \"state\", or the name of an operation";
        table.fault("attribute", "the block must name an attribute or an operation, and not both", hint);
    }
    table.rename(format!(
        "{} {:?}",
        table.label(),
        if operation.is_empty() { &attribute } else { &operation }
    ));
    let of_attribute = operation.is_empty();
    let topic =
        table.required("topic", "give the topic that the device listens on, such as \"lab/{device}/set\"");
    let payload = table.text("payload").map_or_else(|| "{value}".to_owned(), |found| found.value);
    let default_evidence = if of_attribute { EvidenceKind::Reported } else { EvidenceKind::None };
    let evidence = table.choice("evidence").unwrap_or(default_evidence);
    let reply = table.table_if_present("reply").map(read_reply);
    let rule = CommandRule {
        devices: table.texts("devices").unwrap_or_else(|| vec!["*".to_owned()]),
        except: table.texts("except").unwrap_or_default(),
        announced: table.flag("announced", false),
        data_type: table.choice("type").unwrap_or(DataType::Unknown),
        min: bound(&mut table, "min"),
        max: bound(&mut table, "max"),
        values: table.texts("values").unwrap_or_default(),
        unit: table.filled("unit").map(|found| found.value).unwrap_or_default(),
        topic: topic.map(|found| found.value)?,
        payload,
        words: words(&mut table),
        qos: u8::try_from(table.integer("qos", 0..=1, "", 1)).unwrap_or(1),
        idempotent: table.flag("idempotent", of_attribute),
        on_offline: table.choice("on_offline").unwrap_or(OnOffline::Reject),
        confirm: Duration::from_secs(table.integer("confirm_s", 1..=86_400, "seconds", 30)),
        evidence,
        reports: table.filled("reports").map(|found| found.value).unwrap_or_default(),
        reaches: table.filled("reaches").map(|found| found.value).unwrap_or_default(),
        device: table.filled("device").map(|found| found.value).unwrap_or_default(),
        conditions: conditions(&mut table),
        tolerance: table.number("tolerance", 0.0),
        reply,
        namespace: rule::namespace(&mut table),
        device_prefix: table.filled("device_prefix").map(|found| found.value).unwrap_or_default(),
        attribute,
        operation,
        of,
    };
    check(&table, &rule);
    table.finish();
    Some(rule)
}

fn check(table: &Table<'_>, rule: &CommandRule) {
    rule::check_patterns(table, "devices", &rule.devices);
    rule::check_patterns(table, "except", &rule.except);
    check_star(table, "attribute", &rule.attribute);
    check_star(table, "of", &rule.of);
    if !rule.of.is_empty() && !rule.is_operation() {
        table.fault("of", "it has no effect without an operation", "name the operation, or remove it");
    }
    check_placeholders(table, rule);
    check_evidence(table, rule);
    if let (Some(min), Some(max)) = (rule.min, rule.max)
        && min > max
    {
        table.fault("min", format!("it is larger than max, {max}"), "exchange the two");
    }
}

fn check_star(table: &Table<'_>, key: &str, pattern: &str) {
    if pattern.matches('*').count() > 1 || (!pattern.is_empty() && Pattern::parse(pattern).is_err()) {
        table.fault(key, "it may have one `*`", "write one block for each group of attributes");
    }
}

fn check_placeholders(table: &Table<'_>, rule: &CommandRule) {
    let captures = match Template::parse(&rule.device) {
        _ if rule.device.is_empty() => Vec::new(),
        Ok(template) => template.captures().to_vec(),
        Err(error) => {
            let hint = "write it like a topic, such as \"+bridge/+name\"";
            table.fault("device", format!("{:?} is not a template: {error}", rule.device), hint);
            Vec::new()
        }
    };
    let known: Vec<&str> = PLACEHOLDERS.into_iter().chain(captures.iter().map(String::as_str)).collect();
    if let Some(name) =
        captures.iter().find(|name| PLACEHOLDERS.contains(&name.as_str()) && *name != "device")
    {
        let what = format!("{{{name}}} already stands for something else");
        table.fault("device", what, "call the capture something else");
    }
    for (key, text) in [("topic", &rule.topic), ("reports", &rule.reports), ("operation", &rule.operation)] {
        if let Some(unknown) = unknown_placeholder(text, &known) {
            let what = format!("there is no placeholder {{{unknown}}}");
            let all: Vec<String> = known.iter().map(|name| format!("{{{name}}}")).collect();
            table.fault(key, what, format!("use {}", all.join(", ")));
        }
    }
    if rule.of.is_empty() && rule.operation.contains('{') {
        let hint = "say with `of` which attributes the operation is for, or remove the placeholder";
        table.fault("operation", "there is no attribute that its placeholder could stand for", hint);
    }
}

fn check_evidence(table: &Table<'_>, rule: &CommandRule) {
    match (rule.evidence, &rule.reply) {
        (EvidenceKind::Reply, None) => {
            table.fault(
                "reply",
                "it is missing",
                "say where the answer arrives: reply = { topic = \"...\" }",
            );
        }
        (EvidenceKind::Reply | EvidenceKind::Reported, Some(_)) if !rule.payload.contains("{id}") => {
            let hint = "put {id} where the device takes the number that it sends back";
            table.fault("payload", "it has no {id}, so an answer cannot be told from another", hint);
        }
        (EvidenceKind::None, Some(_)) => {
            let hint = "set evidence to \"reply\" or \"reported\", or remove it";
            table.fault("reply", "it has no effect with evidence = \"none\"", hint);
        }
        _ => {}
    }
    if rule.evidence == EvidenceKind::None && rule.qos == 0 {
        let hint = "set qos = 1, so that at least the broker acknowledges it";
        table.fault("qos", "with 0 and without evidence nothing would ever be known of the command", hint);
    }
    let reported = rule.evidence == EvidenceKind::Reported;
    if reported && rule.is_operation() && rule.reports.is_empty() && rule.of.is_empty() {
        let hint = "name the attribute that reaches the value, or set evidence = \"none\"";
        table.fault("reports", "an operation has no attribute of its own", hint);
    }
    if reported && !rule.takes_value() && rule.reaches.is_empty() {
        let hint = "say with `reaches` what the attribute is when it is done, or set evidence = \"none\"";
        table.fault("reaches", "the operation takes no value that could be reached", hint);
    }
    if !reported && !rule.reaches.is_empty() {
        table.fault(
            "reaches",
            "it has no effect without evidence = \"reported\"",
            "set evidence, or remove it",
        );
    }
}

/// A placeholder of a text that is none.
fn unknown_placeholder<'t>(text: &'t str, known: &[&str]) -> Option<&'t str> {
    let names = text.split('{').skip(1).map(|rest| rest.split_once('}').map_or(rest, |(name, _)| name));
    names.into_iter().find(|name| !known.contains(name))
}

fn read_reply(mut table: Table<'_>) -> Reply {
    let pointer = |found: Option<super::raw::WithOrigin<String>>, default: &str| {
        found.map_or_else(|| default.to_owned(), |found| found.value)
    };
    let reply = Reply {
        topic: table
            .required("topic", "give the topic on which the device answers")
            .map(|found| found.value)
            .unwrap_or_default(),
        id: pointer(table.filled("id"), "/id"),
        error: pointer(table.filled("error"), "/error"),
    };
    for (key, text) in [("id", &reply.id), ("error", &reply.error)] {
        if !fieldlog_rules::topic::is_pointer(text) {
            table.fault(
                key,
                format!("{text:?} is not a JSON pointer"),
                "begin it with a slash, such as \"/id\"",
            );
        }
    }
    let fixed = ["client_id"];
    let varies = reply.topic.split('{').skip(1).any(|rest| {
        let name = rest.split_once('}').map_or(rest, |(name, _)| name);
        !fixed.contains(&name)
    });
    if varies {
        let hint = "write the topic out; {client_id} is the only placeholder";
        table.fault(
            "topic",
            "it must be the same for all devices, because the source subscribes to it",
            hint,
        );
    }
    table.finish();
    reply
}

fn bound(table: &mut Table<'_>, key: &'static str) -> Option<f64> {
    table.has(key).then(|| table.number_in(key, f64::MIN..=f64::MAX, "a number", 0.0))
}

fn words(table: &mut Table<'_>) -> BTreeMap<String, String> {
    let Some(value) = table.take("words") else { return BTreeMap::new() };
    let texts = |value: ::config::Value| match value.kind {
        ValueKind::String(text) => Some(text),
        _ => None,
    };
    let map = match value.kind {
        ValueKind::Table(map) => {
            let entries = map.into_iter().map(|(key, value)| Some((key, texts(value)?)));
            entries.collect::<Option<Vec<_>>>().map(sorted::map)
        }
        _ => None,
    };
    map.unwrap_or_else(|| {
        table.fault(
            "words",
            "it must be a table of texts",
            "write words = { true = \"ON\", false = \"OFF\" }",
        );
        BTreeMap::new()
    })
}

/// `where`: names, each with the patterns that its value may match.
fn conditions(table: &mut Table<'_>) -> BTreeMap<String, Vec<String>> {
    let Some(value) = table.take("where") else { return BTreeMap::new() };
    let texts = |value: ::config::Value| match value.kind {
        ValueKind::String(text) => Some(vec![text]),
        ValueKind::Array(all) => all.into_iter().map(|one| one.into_string().ok()).collect(),
        _ => None,
    };
    let map = match value.kind {
        ValueKind::Table(map) => {
            let entries = map.into_iter().map(|(key, value)| Some((key, texts(value)?)));
            entries.collect::<Option<Vec<_>>>().map(sorted::map)
        }
        _ => None,
    };
    let Some(map) = map else {
        let hint = "write where = { state = [\"ON\", \"OFF\"] }";
        table.fault("where", "it must be a table of attributes with lists of texts", hint);
        return BTreeMap::new();
    };
    for (name, patterns) in &map {
        rule::check_patterns(table, "where", patterns);
        if name.starts_with('$') && !OF_DESCRIPTION.contains(&name.as_str()) {
            let what = format!("{name} is not known of a device");
            table.fault(
                "where",
                what,
                format!("use the name of an attribute, or {}", one_of(&OF_DESCRIPTION)),
            );
        }
    }
    map
}

fn is_unknown(data_type: &DataType) -> bool {
    *data_type == DataType::Unknown
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

fn written_type<S: Serializer>(data_type: &DataType, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(data_type.word())
}

fn written_on_offline<S: Serializer>(on_offline: &OnOffline, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(on_offline.word())
}
