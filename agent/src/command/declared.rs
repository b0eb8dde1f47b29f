//! What can be asked of a device, and whether what is asked is that.

use std::collections::BTreeSet;

use fieldlog_projections::command::{CommandRequest, Evidence, Publish, digest};
use fieldlog_projections::{AttributeDescription, Device, DeviceId, Seq, Time, Value, View};
use fieldlog_wire::api::commands::{CommandBody, Expected};
use fieldlog_wire::json::Val;

use super::sparkplug::{self, Metric};
use super::template::{Fill, fill};
use super::value::word_of;
pub use super::value::{from_json, to_json};
use crate::config::{CommandRule, Config, EvidenceKind, SourceConfig};
use crate::pattern::Patterns;
use crate::topic::{self, Captures, Template};

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
    /// The attribute that is meant; empty for an operation that is for none.
    attribute: String,
    star: String,
    metric: Option<Metric<'a>>,
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
        let source = config.sources.iter().find(|source| source.name == *device.source).ok_or_else(|| {
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
        let mut all: Vec<Declared<'a>> = names.iter().filter_map(|name| self.attribute(name)).collect();
        let mut known = BTreeSet::new();
        let operations = self.source.commands.iter().filter(|rule| rule.is_operation());
        for declared in operations.flat_map(|rule| self.operations(rule, &names)) {
            if known.insert(declared.name.clone()) {
                all.push(declared);
            }
        }
        all
    }

    /// What a block for operations lets the device do.
    fn operations(&self, rule: &'a CommandRule, names: &[&str]) -> Vec<Declared<'a>> {
        if rule.of.is_empty() {
            return self
                .is_for(rule, "")
                .then(|| self.make(rule, "", "", AttributeDescription::default()))
                .into_iter()
                .collect();
        }
        let of = names.iter().filter_map(|name| {
            let (star, _) = self.matching(rule, &rule.of, name)?;
            Some(self.make(rule, name, star, AttributeDescription::default()))
        });
        of.collect()
    }

    /// What setting this attribute is, if it can be set.
    fn attribute(&self, name: &str) -> Option<Declared<'a>> {
        let rules = self.source.commands.iter().filter(|rule| !rule.is_operation());
        let mut found = rules.filter_map(|rule| Some((rule, self.matching(rule, &rule.attribute, name)?)));
        match found.next() {
            Some((rule, (star, description))) => Some(self.make(rule, name, star, description)),
            None => self.metric(name),
        }
    }

    /// A metric of a Sparkplug edge node or device. The birth says what there is; no block is needed.
    fn metric(&self, name: &str) -> Option<Declared<'a>> {
        self.source.sparkplug.as_ref().filter(|host| host.commands)?;
        let attr = self.view.devices.attribute_named(name)?;
        let metric = Metric::find(self.view, self.id, self.device.called(), attr)?;
        let description = self.description(name);
        (description.writable != Some(false)).then(|| Declared {
            rule: sparkplug::rule(),
            name: name.to_owned(),
            value: metric.description().or(description),
            attribute: name.to_owned(),
            star: String::new(),
            metric: Some(metric),
        })
    }

    fn make(
        &self,
        rule: &'a CommandRule,
        attribute: &str,
        star: &str,
        description: AttributeDescription,
    ) -> Declared<'a> {
        let name = match rule.is_operation() {
            true => rule.operation.replace("{attribute}", attribute).replace("{*}", star),
            false => attribute.to_owned(),
        };
        Declared {
            rule,
            name,
            value: of_rule(rule).or(description),
            attribute: attribute.to_owned(),
            star: star.to_owned(),
            metric: None,
        }
    }

    fn description(&self, attribute: &str) -> AttributeDescription {
        let attr = self.view.devices.attribute_named(attribute);
        let described = attr.zip(self.view.descriptions.get(self.id));
        described.map(|(attr, described)| described.attribute(attr)).unwrap_or_default()
    }

    /// Whether a block is for an attribute: what the `*` of its pattern stands for, and what the device announces.
    fn matching<'n>(
        &self,
        rule: &CommandRule,
        pattern: &str,
        name: &'n str,
    ) -> Option<(&'n str, AttributeDescription)> {
        let star = star(pattern, name)?;
        let excepted = Patterns::parse(&rule.except).is_ok_and(|except| except.matches(name));
        let description = self.description(name);
        let announced = !rule.announced || description.writable == Some(true);
        (!excepted && announced && self.is_for(rule, name)).then_some((star, description))
    }

    fn is_for(&self, rule: &CommandRule, attribute: &str) -> bool {
        let namespace = rule.namespace.as_deref().unwrap_or(&self.source.name);
        let ours = self.device.namespace().is_none_or(|own| own == namespace);
        let called = self.device.called();
        let named = || {
            Patterns::parse(&rule.devices)
                .is_ok_and(|patterns| patterns.matches(&self.device.name) || patterns.matches(called))
        };
        let Some(called_there) = called.strip_prefix(rule.device_prefix.as_str()) else { return false };
        let shaped = || {
            rule.device.is_empty()
                || Template::parse(&rule.device)
                    .is_ok_and(|template| template.matches(called_there, &mut Captures::default()))
        };
        let meets = |(name, patterns): (&String, &Vec<String>)| {
            let value = self.says(&name.replace("{attribute}", attribute));
            value
                .is_some_and(|value| Patterns::parse(patterns).is_ok_and(|patterns| patterns.matches(&value)))
        };
        ours && named() && shaped() && rule.conditions.iter().all(meets)
    }

    /// What a device says under a name of `where`.
    fn says(&self, name: &str) -> Option<String> {
        if name.starts_with('$') {
            let description = self.view.descriptions.get(self.id)?.device();
            return match name {
                "$model" => Some(description.model),
                "$manufacturer" => Some(description.manufacturer),
                "$stable_id" => Some(description.stable_id),
                _ => None,
            };
        }
        let attr = self.view.devices.attribute_named(name)?;
        let slot = self.device.attributes.iter().find(|slot| slot.id == attr)?;
        Some(word_of(&to_json(slot.value.borrow())))
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
                .declared()
                .into_iter()
                .find(|declared| declared.rule.is_operation() && declared.name == *name),
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
        let rule = declared.rule;
        let (topic, payload, target) = match &declared.metric {
            Some(metric) => metric.command(&declared, &body.value, asking.wall)?,
            None => self.filled(&declared, body, &value, asking)?,
        };
        let name = &declared.name;
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
            publish: Publish { source: self.source.name.clone(), topic, payload, qos: rule.qos },
            idempotent: rule.idempotent,
            on_offline: rule.on_offline,
            confirm_s: u32::try_from(rule.confirm.as_secs()).unwrap_or(u32::MAX),
            evidence: evidence(&declared, target, self.source),
            value,
        })
    }

    /// Topic and payload of a block, and the value that is to be reported.
    fn filled(
        &self,
        declared: &Declared<'_>,
        body: &CommandBody,
        value: &Value,
        asking: &Asking<'_>,
    ) -> Result<(String, Vec<u8>, Value), Rejected> {
        let rule = declared.rule;
        let word = match value {
            Value::Text(text) | Value::Json(text) => text.to_string(),
            other => serde_json::to_string(&Val(other.borrow())).unwrap_or_default(),
        };
        let word = rule.words.get(&word).unwrap_or(&word);
        if rule.topic.contains("{value}") && (word.is_empty() || word.contains(['/', '+', '#'])) {
            let reason = format!(
                "`value` is {}; it becomes a level of a topic, which is not empty and has none of the characters /, + \
                 and #",
                body.value
            );
            return Err(Rejected::new(Code::InvalidValue, reason));
        }
        let called = self.device.called();
        let called = called.strip_prefix(rule.device_prefix.as_str()).unwrap_or(called);
        let template = Template::parse(&rule.device).ok().filter(|_| !rule.device.is_empty());
        let mut captures = Captures::default();
        let captured: Vec<(&str, &str)> = match &template {
            Some(template) if template.matches(called, &mut captures) => template
                .captures()
                .iter()
                .map(String::as_str)
                .zip(captures.values().iter().copied())
                .collect(),
            _ => Vec::new(),
        };
        let reply = rule.reply.as_ref().map(|reply| self.source.reply_topic(reply)).unwrap_or_default();
        let fill_in = Fill {
            device: called,
            attribute: &declared.attribute,
            star: &declared.star,
            value: word,
            json: &body.value,
            id: asking.seq.0,
            reply: &reply,
            client_id: &self.source.client_id,
            captures: &captured,
        };
        let target = match rule.reaches.as_str() {
            "" => value.clone(),
            reaches => Value::Text(reaches.into()),
        };
        Ok((fill(&rule.topic, &fill_in), fill(&rule.payload, &fill_in).into_bytes(), target))
    }

    /// A value that is never kept must not be recorded as a command either.
    fn check_secret(&self, declared: &Declared<'_>) -> Result<(), Rejected> {
        let rules = self.source.rules.iter().flat_map(|rule| &rule.redact);
        let patterns: Vec<&String> = rules.chain(&self.source.redact).collect();
        if declared.attribute.is_empty()
            || !Patterns::parse(&patterns).is_ok_and(|secrets| secrets.matches(&declared.attribute))
        {
            return Ok(());
        }
        let reason = format!(
            "`attribute`: values of `{}` are redacted in the configuration, and a command would record one",
            declared.attribute
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

fn evidence(declared: &Declared<'_>, target: Value, source: &SourceConfig) -> Evidence {
    let rule = declared.rule;
    let attribute = match rule.reports.as_str() {
        "" => declared.attribute.clone(),
        text => text.replace("{attribute}", &declared.attribute).replace("{*}", &declared.star),
    };
    let tolerance = rule.tolerance;
    let reply =
        rule.reply.as_ref().map(|reply| (source.reply_topic(reply), reply.id.clone(), reply.error.clone()));
    match (rule.evidence, reply) {
        (EvidenceKind::Reported, None) => Evidence::Reported { attribute, target, tolerance },
        (EvidenceKind::Reported, Some((topic, id, error))) => {
            Evidence::Both { attribute, target, tolerance, topic, id, error }
        }
        (EvidenceKind::Reply, Some((topic, id, error))) => Evidence::Reply { topic, id, error },
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
