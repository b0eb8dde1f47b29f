//! Whether what is asked of a device can be asked, and the request that it makes.

use fieldlog_projections::command::{CommandRequest, Evidence, Publish, digest};
use fieldlog_projections::{DeviceId, Seq, Time, TraceParent, Value};
use fieldlog_wire::api::commands::{CommandBody, Expected};
use fieldlog_wire::json::Val;

pub use super::rejected::{Code, Rejected};
pub use super::target::{Declared, Target, device};
use super::template::{Fill, fill};
use super::value;
pub use super::value::{from_json, to_json};
use crate::config::{EvidenceKind, SourceConfig};
use fieldlog_projections::pattern::Patterns;
use fieldlog_rules::topic::{self, Captures, Template};

/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 128;
/// Longest reason, in bytes.
const REASON_BYTES_MAX: usize = 512;
/// Longest time to live, in seconds.
pub const TTL_MAX_S: u32 = 604_800;
/// Names listed in an error, at most.
const NAMES_MAX: usize = 20;

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
    /// Its time to live is no longer than this, in seconds, whatever the body says.
    pub ttl_max_s: Option<u32>,
    /// The trace context that it is asked in.
    pub traceparent: Option<TraceParent>,
}

impl<'a> Target<'a> {
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
                .candidates()
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
            let mut reason = format!(
                "`{field}`: device `{}` cannot be told `{name}`; it can be told {offer}",
                self.name()
            );
            if let Some((theirs, ours)) = self.in_other_namespace(name, operation) {
                reason.push_str(&format!(
                    ". The block that is for it is for devices of namespace `{theirs}`, and this device is in `{ours}`: \
                     write a [[source.command]] block with namespace = \"{ours}\""
                ));
            }
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
        self.check_rival(&declared)?;
        self.check_secret(&declared)?;
        self.check_expected(body.expected.as_ref())?;
        let value = value::check(&declared.name, declared.takes_value(), &declared.value, &body.value)?;
        let rule = declared.rule;
        let (topic, payload, target) = match &declared.metric {
            Some(metric) => metric.command(&declared.name, &body.value, asking.wall)?,
            None => self.filled(&declared, body, &value, asking)?,
        };
        let name = &declared.name;
        if let Err(error) = topic::check_name(&topic) {
            let reason =
                format!("the topic {topic:?} that `{name}` would be published to cannot be used: {error}");
            return Err(Rejected::new(Code::NoSuchCommand, reason));
        }
        let seconds = |s: u64| i64::try_from(s).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        let ttl_s = asking.ttl_max_s.map_or(body.ttl_s, |max| body.ttl_s.min(max));
        let ttl = seconds(ttl_s.into());
        Ok(CommandRequest {
            actor: asking.actor.to_owned(),
            key: body.idempotency_key.clone(),
            digest: body_digest(self.id, body),
            reason: body.reason.clone(),
            name: name.clone(),
            operation: rule.is_operation(),
            expires: Time(asking.wall.0.saturating_add(ttl)),
            ttl_s,
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
            traceparent: asking.traceparent,
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

    /// What is meant for a device must not go to another one that is called the same.
    fn check_rival(&self, declared: &Declared<'_>) -> Result<(), Rejected> {
        let Some(rival) = declared.rival else { return Ok(()) };
        let reason = format!(
            "`{}` of device `{}` could be published to {} or to {rival}: two subscriptions of source `{}` have the same \
             preset; give their devices different ids with `device_prefix`, or set `commands = false` in one of them",
            declared.name,
            self.name(),
            declared.rule.topic,
            self.source.name
        );
        Err(Rejected::new(Code::NoSuchCommand, reason))
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
