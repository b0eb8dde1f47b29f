//! What can be asked of a device, and whether what is asked is that.

use fieldlog_projections::command::{CommandRequest, Evidence, Publish, digest};
use fieldlog_projections::{
    AttributeDescription, DataType, Device, DeviceId, Seq, Time, Value, ValueRef, View,
};
use fieldlog_wire::api::commands::{CommandBody, Expected};
use fieldlog_wire::json::Val;
use serde_json::Value as Json;

use super::template::{Fill, fill};
use crate::config::command::Reply;
use crate::config::{CommandRule, Config, EvidenceKind, SourceConfig};
use crate::pattern::Patterns;
use crate::topic;

/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 128;
/// Longest reason, in bytes.
const REASON_BYTES_MAX: usize = 512;
/// Longest time to live, in seconds.
pub const TTL_MAX_S: u32 = 604_800;
/// Names listed in an error, at most.
const NAMES_MAX: usize = 20;

/// Why a command is not accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejected {
    /// Which rule it breaks.
    pub code: Code,
    /// What is wrong, what was given, and what is allowed.
    pub reason: String,
    /// The present version of the device, where another one was expected.
    pub current: Option<Seq>,
}

/// Which rule a command breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The body is not a command.
    BadRequest,
    /// There is no such device.
    NoSuchDevice,
    /// The device cannot be told that.
    NoSuchCommand,
    /// The value is not allowed.
    InvalidValue,
    /// The device, or its broker, cannot be reached.
    Unreachable,
    /// The device is not as expected.
    NotAsExpected,
    /// The key stands for another command.
    KeyConflict,
    /// Too many commands.
    TooMany,
    /// The agent cannot tell yet.
    NotReady,
}

impl Code {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Code::BadRequest => "bad-command",
            Code::NoSuchDevice => "no-such-device",
            Code::NoSuchCommand => "no-such-command",
            Code::InvalidValue => "invalid-value",
            Code::Unreachable => "unreachable",
            Code::NotAsExpected => "not-as-expected",
            Code::KeyConflict => "key-conflict",
            Code::TooMany => "too-many-commands",
            Code::NotReady => "not-ready",
        }
    }
}

impl Rejected {
    pub(crate) fn new(code: Code, reason: impl Into<String>) -> Rejected {
        Rejected { code, reason: reason.into(), current: None }
    }
}

/// A device as commands see it.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// Its number.
    pub id: DeviceId,
    device: &'a Device,
    view: &'a View,
    source: &'a SourceConfig,
}

/// Something that a device can be told.
#[derive(Clone, Debug)]
pub struct Declared<'a> {
    /// The block that says so.
    pub rule: &'a CommandRule,
    /// The attribute, or the operation.
    pub name: String,
    /// What its values must be; of the block, and where that says nothing, of the device.
    pub value: AttributeDescription,
    star: String,
    reports: String,
}

/// When and by whom a command is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// Who asks.
    pub actor: &'a str,
    /// The position that the request gets.
    pub seq: Seq,
    /// The wall clock.
    pub wall: Time,
    /// The log time that the request gets, at the earliest.
    pub log_time: Time,
    /// Time since the kernel booted, in microseconds.
    pub booted_for: u64,
    /// How long its key is remembered after its time to live, in seconds.
    pub remember_s: u64,
}

/// The device of this id, if there is one; the id may be one that it had before.
pub fn device<'a>(view: &'a View, name: &str) -> Option<(DeviceId, &'a Device)> {
    view.devices.find_ever(name)
}

impl<'a> Target<'a> {
    /// A device with the source that leads to it.
    ///
    /// # Errors
    /// [`Rejected`] if there is no such device, or none any more, or its source is not configured.
    pub fn find(config: &'a Config, view: &'a View, name: &str) -> Result<Target<'a>, Rejected> {
        let missing = || Rejected::new(Code::NoSuchDevice, format!("there is no device `{name}`"));
        let (id, device) = device(view, name).ok_or_else(missing)?;
        if device.retired {
            let reason = format!("device `{name}` was removed at its source; it cannot be told anything");
            return Err(Rejected::new(Code::NoSuchDevice, reason));
        }
        let mut sources = config.sources.iter().filter(|source| !source.is_removed());
        let source = sources.find(|source| source.name == *device.source).ok_or_else(|| {
            let reason = format!(
                "device `{name}` was last seen on source `{}`, which is not in the configuration",
                device.source
            );
            Rejected::new(Code::Unreachable, reason)
        })?;
        Ok(Target { id, device, view, source })
    }

    /// The id of the device.
    pub fn name(&self) -> &'a str {
        &self.device.name
    }

    /// Name of its source.
    pub fn source(&self) -> &'a str {
        &self.source.name
    }

    /// All that it can be told: attributes by name, then operations.
    pub fn declared(&self) -> Vec<Declared<'a>> {
        let devices = &self.view.devices;
        let reported = self.device.attributes.iter().filter_map(|a| devices.attribute_name(a.id));
        let described = self.view.descriptions.get(self.id);
        let announced = described.into_iter().flat_map(|described| described.attributes());
        let announced = announced.filter_map(|attr| devices.attribute_name(attr));
        let mut names: Vec<&str> = reported.chain(announced).collect();
        names.sort_unstable();
        names.dedup();
        let attributes = names.into_iter().filter_map(|name| self.attribute(name));
        let operations = self.source.commands.iter().filter(|rule| rule.is_operation());
        let mut all: Vec<Declared<'a>> = attributes.collect();
        for rule in operations.filter(|rule| self.is_for(rule)) {
            if !all.iter().any(|known| known.rule.is_operation() && known.name == rule.operation) {
                all.push(self.operation(rule));
            }
        }
        all
    }

    /// What setting this attribute is, if it can be set.
    fn attribute(&self, name: &str) -> Option<Declared<'a>> {
        let described = || {
            let attr = self.view.devices.attribute_named(name)?;
            self.view.descriptions.get(self.id).map(|described| described.attribute(attr))
        };
        let rules = self.source.commands.iter().filter(|rule| !rule.is_operation() && self.is_for(rule));
        let mut candidates = rules.filter_map(|rule| Some((rule, star(&rule.attribute, name)?)));
        let (rule, star, description) = candidates.find_map(|(rule, star)| {
            let excepted = Patterns::parse(&rule.except).is_ok_and(|except| except.matches(name));
            let description = described().unwrap_or_default();
            let announced = !rule.announced || description.writable == Some(true);
            (announced && !excepted).then_some((rule, star, description))
        })?;
        let reports = match rule.reports.as_str() {
            "" => name.to_owned(),
            text => text.replace("{attribute}", name).replace("{*}", star),
        };
        Some(Declared {
            rule,
            name: name.to_owned(),
            value: of_rule(rule).or(description),
            star: star.to_owned(),
            reports,
        })
    }

    fn operation(&self, rule: &'a CommandRule) -> Declared<'a> {
        Declared {
            rule,
            name: rule.operation.clone(),
            value: of_rule(rule),
            star: String::new(),
            reports: rule.reports.clone(),
        }
    }

    fn is_for(&self, rule: &CommandRule) -> bool {
        let namespace = rule.namespace.as_deref().unwrap_or(&self.source.name);
        let ours = self.device.namespace().is_none_or(|own| own == namespace);
        let called = self.device.called();
        let named = || {
            Patterns::parse(&rule.devices)
                .is_ok_and(|patterns| patterns.matches(&self.device.name) || patterns.matches(called))
        };
        ours && called.starts_with(&rule.device_prefix) && named()
    }

    /// What a body asks for.
    fn asked(&self, body: &CommandBody) -> Result<Declared<'a>, Rejected> {
        let (name, operation) = match (&body.attribute, &body.operation) {
            (Some(attribute), None) => (attribute, false),
            (None, Some(operation)) => (operation, true),
            _ => {
                let reason = "give either `attribute`, to set it, or `operation`, and not both";
                return Err(Rejected::new(Code::BadRequest, reason));
            }
        };
        let found = match operation {
            false => self.attribute(name),
            true => self
                .source
                .commands
                .iter()
                .find(|rule| rule.operation == *name && self.is_for(rule))
                .map(|rule| self.operation(rule)),
        };
        found.ok_or_else(|| {
            let field = if operation { "operation" } else { "attribute" };
            let known: Vec<String> =
                self.declared().into_iter().map(|declared| format!("`{}`", declared.name)).collect();
            let offer = match known.len() {
                0 => "nothing: see [[source.command]] in the configuration".to_owned(),
                1..=NAMES_MAX => known.join(", "),
                more => format!("{} and {} more", known[..NAMES_MAX].join(", "), more - NAMES_MAX),
            };
            let reason = format!(
                "`{field}`: device `{}` cannot be told `{name}`; it can be told {offer}",
                self.name()
            );
            Rejected::new(Code::NoSuchCommand, reason)
        })
    }

    /// The request that a body makes, after all checks that need no more than the view.
    ///
    /// # Errors
    /// [`Rejected`]: which field is wrong, what was given, and what is allowed.
    pub fn request(&self, body: &CommandBody, asking: &Asking<'_>) -> Result<CommandRequest, Rejected> {
        check_body(body)?;
        let declared = self.asked(body)?;
        self.check_secret(&declared)?;
        self.check_expected(body.expected.as_ref())?;
        let value = declared.check(&body.value)?;
        let Declared { rule, name, star, reports, .. } = &declared;
        let called = self.device.called();
        let word = match &value {
            Value::Text(text) | Value::Json(text) => text.to_string(),
            other => serde_json::to_string(&Val(other.borrow())).unwrap_or_default(),
        };
        let word = rule.words.get(&word).unwrap_or(&word);
        let reply = rule.reply.as_ref().map(|reply| self.source.reply_topic(reply)).unwrap_or_default();
        let fill_in = Fill {
            device: called.strip_prefix(rule.device_prefix.as_str()).unwrap_or(called),
            attribute: name,
            star,
            value: word,
            json: &body.value,
            id: asking.seq.0,
            reply: &reply,
            client_id: &self.source.client_id,
        };
        let topic = fill(&rule.topic, &fill_in);
        if let Err(error) = topic::check_name(&topic) {
            let reason =
                format!("the topic {topic:?} that `{name}` would be published to cannot be used: {error}");
            return Err(Rejected::new(Code::NoSuchCommand, reason));
        }
        let seconds = |s: u64| i64::try_from(s).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        let ttl = seconds(body.ttl_s.into());
        Ok(CommandRequest {
            actor: asking.actor.to_owned(),
            key: body.idempotency_key.clone(),
            digest: body_digest(self.id, body),
            reason: body.reason.clone(),
            name: name.clone(),
            operation: rule.is_operation(),
            expires: Time(asking.wall.0.saturating_add(ttl)),
            ttl_s: body.ttl_s,
            booted_for: asking.booted_for,
            remember_until: Time(
                asking
                    .log_time
                    .max(asking.wall)
                    .0
                    .saturating_add(ttl)
                    .saturating_add(seconds(asking.remember_s)),
            ),
            publish: Publish {
                source: self.source.name.clone(),
                topic,
                payload: fill(&rule.payload, &fill_in).into_bytes(),
                qos: rule.qos,
            },
            idempotent: rule.idempotent,
            on_offline: rule.on_offline,
            confirm_s: u32::try_from(rule.confirm.as_secs()).unwrap_or(u32::MAX),
            evidence: evidence(rule, reports, &value, reply),
            value,
        })
    }

    /// A value that is never kept must not be recorded as a command either.
    fn check_secret(&self, declared: &Declared<'_>) -> Result<(), Rejected> {
        let rules = self.source.rules.iter().flat_map(|rule| &rule.redact);
        let patterns: Vec<&String> = rules.chain(&self.source.redact).collect();
        if declared.rule.is_operation()
            || !Patterns::parse(&patterns).is_ok_and(|secrets| secrets.matches(&declared.name))
        {
            return Ok(());
        }
        let reason = format!(
            "`attribute`: values of `{}` are redacted in the configuration, and a command would record one",
            declared.name
        );
        Err(Rejected::new(Code::NoSuchCommand, reason))
    }

    fn check_expected(&self, expected: Option<&Expected>) -> Result<(), Rejected> {
        let Some(Expected { changed_seq, attributes }) = expected else { return Ok(()) };
        let current = self.device.changed.0;
        let differs =
            |reason: String| Err(Rejected { code: Code::NotAsExpected, reason, current: Some(current) });
        if let Some(seq) = changed_seq
            && *seq != current
        {
            return differs(format!(
                "`expected.changed_seq` is {seq}, but the device has changed_seq {current}"
            ));
        }
        for (name, wanted) in attributes {
            let attr = self.view.devices.attribute_named(name);
            let slot = attr.and_then(|attr| self.device.attributes.iter().find(|slot| slot.id == attr));
            let value = slot.map_or(Value::Null, |slot| slot.value.clone());
            if !value.borrow().same(from_json(wanted).borrow()) {
                let value = serde_json::to_string(&Val(value.borrow())).unwrap_or_default();
                return differs(format!(
                    "`expected.attributes.{name}` is {wanted}, but the device reports {value}"
                ));
            }
        }
        Ok(())
    }
}

/// A hash of what a body asks of a device. The key is not part of it.
pub fn body_digest(device: DeviceId, body: &CommandBody) -> [u8; 16] {
    let keyless = CommandBody { idempotency_key: String::new(), ..body.clone() };
    // It has been read from JSON, so it can be written.
    digest(&serde_json::to_vec(&(device.0, keyless)).unwrap_or_default())
}

/// What can be said of a body without the device.
///
/// # Errors
/// [`Rejected`]
pub fn check_body(body: &CommandBody) -> Result<(), Rejected> {
    let bad = |reason: String| Err(Rejected::new(Code::BadRequest, reason));
    let key = &body.idempotency_key;
    if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.bytes().all(|b| b.is_ascii_graphic()) {
        return bad(format!(
            "`idempotency_key` must be 1 to {KEY_BYTES_MAX} printable ASCII characters without spaces, such as a UUID"
        ));
    }
    if !(1..=TTL_MAX_S).contains(&body.ttl_s) {
        return bad(format!("`ttl_s` is {}; it must be 1 to {TTL_MAX_S} seconds", body.ttl_s));
    }
    if body.reason.len() > REASON_BYTES_MAX {
        return bad(format!("`reason` has {} bytes; it may have {REASON_BYTES_MAX}", body.reason.len()));
    }
    Ok(())
}

fn of_rule(rule: &CommandRule) -> AttributeDescription {
    AttributeDescription {
        unit: rule.unit.clone(),
        data_type: rule.data_type,
        min: rule.min,
        max: rule.max,
        values: rule.values.clone(),
        ..AttributeDescription::default()
    }
}

fn evidence(rule: &CommandRule, reports: &str, value: &Value, topic: String) -> Evidence {
    match (rule.evidence, &rule.reply) {
        (EvidenceKind::Reported, _) => Evidence::Reported {
            attribute: reports.to_owned(),
            target: value.clone(),
            tolerance: rule.tolerance,
        },
        (EvidenceKind::Reply, Some(Reply { id, error, .. })) => {
            Evidence::Reply { topic, id: id.clone(), error: error.clone() }
        }
        _ => Evidence::None,
    }
}

/// What the `*` of a pattern stands for in a name; empty if it has none.
fn star<'n>(pattern: &str, name: &'n str) -> Option<&'n str> {
    match pattern.split_once('*') {
        None => (pattern == name).then_some(""),
        Some((head, tail)) => name.strip_prefix(head)?.strip_suffix(tail),
    }
}

impl Declared<'_> {
    /// Whether it takes a value.
    pub fn takes_value(&self) -> bool {
        !self.rule.is_operation()
            || self.value.data_type != DataType::Unknown
            || !self.value.values.is_empty()
    }

    /// The value that a body gives, if it is allowed.
    fn check(&self, given: &Json) -> Result<Value, Rejected> {
        let reject = |allowed: &str| {
            let reason = format!("`value` is {given}; `{}` takes {allowed}", self.name);
            Err(Rejected::new(Code::InvalidValue, reason))
        };
        if !self.takes_value() {
            return if given.is_null() { Ok(Value::Null) } else { reject("no value") };
        }
        let value = from_json(given);
        let typed = match self.value.data_type {
            DataType::Unknown => !given.is_null(),
            DataType::Text | DataType::Enum => given.is_string(),
            DataType::Number => given.is_number(),
            DataType::Integer => given.as_f64().is_some_and(|number| number.fract() == 0.0),
            DataType::Boolean => given.is_boolean(),
            DataType::Json => given.is_object() || given.is_array(),
        };
        let words = self.value.values.is_empty();
        // Values are announced as texts, whatever they are.
        let listed = words || self.value.values.iter().any(|word| *word == word_of(given));
        // A device that announces words for true and false reports those words.
        let typed = typed || (!words && self.value.data_type == DataType::Boolean && given.is_string());
        if !typed || !listed {
            return reject(&self.allowed());
        }
        if let Some(number) = given.as_f64() {
            let least = self.value.min.is_none_or(|min| number >= min);
            let most = self.value.max.is_none_or(|max| number <= max);
            if !least || !most {
                return reject(&self.allowed());
            }
        }
        Ok(value)
    }

    /// What is allowed, in words.
    fn allowed(&self) -> String {
        let AttributeDescription { unit, data_type, min, max, values, .. } = &self.value;
        if !values.is_empty() {
            let values: Vec<String> = values.iter().map(|value| format!("\"{value}\"")).collect();
            return format!("one of {}", values.join(", "));
        }
        let what = match data_type {
            DataType::Unknown => "a value that is not null",
            DataType::Text | DataType::Enum => "a text",
            DataType::Number => "a number",
            DataType::Integer => "a whole number",
            DataType::Boolean => "true or false",
            DataType::Json => "a list or an object",
        };
        let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
        match (min, max) {
            (Some(min), Some(max)) => format!("{what} from {min} to {max}{unit}"),
            (Some(min), None) => format!("{what} of {min}{unit} or more"),
            (None, Some(max)) => format!("{what} of {max}{unit} or less"),
            (None, None) => what.to_owned(),
        }
    }
}

fn word_of(json: &Json) -> String {
    json.as_str().map_or_else(|| json.to_string(), str::to_owned)
}

/// A JSON value as an attribute's value.
pub fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Bool(*flag),
        Json::String(text) => Value::Text(text.as_str().into()),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(int), ..) => Value::Int(int),
            (None, Some(uint), _) => Value::Uint(uint),
            (None, None, Some(float)) => Value::Float(float),
            (None, None, None) => Value::Text(number.to_string().into()),
        },
        Json::Array(_) | Json::Object(_) => Value::Json(json.to_string().into()),
    }
}

/// A value as JSON.
pub fn to_json(value: ValueRef<'_>) -> Json {
    serde_json::to_value(Val(value)).unwrap_or_default()
}
