//! Reads a quarantined input again, after its source's rules were corrected.
//!
//! What it says was so when it arrived, and something newer may have come since, changed or not. So its values are recorded
//! as reported late, with the document's own time or else that of the arrival: they become history, and change neither
//! state nor availability nor aggregates. The input is read as a whole before anything is recorded of it: if any part of it
//! is refused, all of it is.

use fieldlog_projections::chunk::Envelope;
use fieldlog_projections::{DeviceId, Fact, Time, Value, ValueRef};

use super::outcomes::{Refusal, topic_text};
use super::redact::REDACTED;
use super::topics::RuleMatch;
use super::values::is_version;
use super::{Observer, RecordBatch, at};
use crate::config::{Decoder, RecordMode};
use fieldlog_rules::decode::{self, Built, DecodeError, Document, Documents, Json, Scalar};

/// An input as the quarantine has it.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// Name of its source.
    pub source: &'a str,
    /// Its topic.
    pub topic: &'a str,
    /// The whole payload.
    pub payload: &'a [u8],
    /// When it arrived, by the gateway's clock.
    pub arrived: Time,
}

/// What a document says of a device.
struct Past {
    target: RuleMatch,
    time: Option<Time>,
    values: Vec<(String, Value)>,
}

/// What one rule makes of the input.
enum Read {
    These(Vec<Past>),
    Ignored,
    /// The next rule is tried; the error is set if it was no document.
    NotThis(Option<DecodeError>),
}

impl Observer {
    /// Reads an input again and appends what it says; returns the number of records of its values.
    ///
    /// # Errors
    /// Why it is refused, in words. Then no value is recorded; devices that it names may have been.
    pub fn read_again(
        &mut self,
        kept: &Kept<'_>,
        now: Time,
        batch: &mut RecordBatch,
    ) -> Result<usize, String> {
        let all = self.read_kept(kept).map_err(|Refusal(reason)| reason)?;
        let recorded = self.record_past_of(kept, all, now, batch).map_err(|Refusal(reason)| reason);
        if !self.undescribed.is_empty() {
            self.describe_undescribed(now, batch);
        }
        recorded
    }

    fn read_kept(&mut self, kept: &Kept<'_>) -> Result<(usize, Vec<Past>), Refusal> {
        let source =
            self.sources.iter().position(|source| *source.name == *kept.source).ok_or_else(|| {
                Refusal(format!("source `{}`, which it came from, is not in the configuration", kept.source))
            })?;
        if self.is_for_host(source, kept.topic.as_bytes()) {
            return Err(Refusal(
                "a Sparkplug message can only be read within its session, which is over; the edge node's next birth has its \
                 current values"
                    .into(),
            ));
        }
        topic_text(kept.topic.as_bytes())?;
        let found = self.sources[source].rules.find(kept.topic).collect::<Vec<_>>();
        let matches = self.topic(source, found).matches;
        let (mut all, mut taken, mut foreign) = (Vec::new(), false, None);
        for matched in matches {
            let also = self.sources[source].compiled[matched.rule].rule.also;
            match self.read_by(source, matched, kept)? {
                Read::NotThis(Some(why))
                    if matches!(kept.payload.trim_ascii_start().first(), Some(b'{' | b'[')) =>
                {
                    return Err(why.into());
                }
                Read::NotThis(why) => {
                    foreign = foreign.or(why);
                    continue;
                }
                Read::Ignored => {}
                Read::These(past) => {
                    (taken, foreign) = (true, None);
                    all.extend(past);
                }
            }
            if !also {
                break;
            }
        }
        match (taken, foreign) {
            (true, _) => Ok((source, all)),
            (false, Some(why)) => Err(why.into()),
            (false, None) => Err(Refusal(format!(
                "no rule of source `{}` takes messages on this topic; if it is not wanted, purge it",
                kept.source
            ))),
        }
    }

    fn read_by(&mut self, source: usize, target: RuleMatch, kept: &Kept<'_>) -> Result<Read, Refusal> {
        let compiled = &self.sources[source].compiled[target.rule];
        let (decoder, payload) = (compiled.rule.decoder, kept.payload);
        // Retained messages repeat what is kept at the broker, and are sent again.
        if compiled.retained == Some(true) {
            return Ok(Read::NotThis(None));
        }
        if compiled.json.has_conditions() && !decoder.is_document() {
            match decode::takes(payload, &compiled.json) {
                Ok(true) => {}
                Ok(false) => return Ok(Read::NotThis(None)),
                Err(why) => return Ok(Read::NotThis(Some(why))),
            }
        }
        let refused = |what: &str| Err(Refusal(what.to_owned()));
        match decoder {
            Decoder::Ignore => Ok(Read::Ignored),
            Decoder::Announcement(_) => refused(
                "an announcement says what the devices were like when it was sent, and a newer one may have been taken \
                 since; have it published again",
            ),
            Decoder::Availability => refused(
                "it says whether a device could be reached when it was sent, which is of no use now; purge it, the device \
                 reports it again",
            ),
            _ if payload.is_empty() && decoder.is_document() => refused(
                "an empty payload removes the device, and it may have come back since; retire the device, if it is gone",
            ),
            Decoder::Scalar => {
                let scalar = decode::scalar(payload, self.limits.text_bytes)?;
                let value = self.scalar_value(source, &target, scalar);
                let name = target.attribute.to_string();
                let value = self.without_secret(source, &target, value);
                Ok(Read::These(vec![Past { target, time: None, values: vec![(name, value)] }]))
            }
            Decoder::Action => {
                let scalar = decode::scalar(payload, self.limits.text_bytes)?;
                let value = if scalar.exact { scalar.value } else { ValueRef::Text(scalar.text) };
                let (name, value) = (target.attribute.to_string(), value.to_owned());
                let value = self.without_secret(source, &target, value);
                let values = if value == Value::Null { Vec::new() } else { vec![(name, value)] };
                Ok(Read::These(vec![Past { target, time: None, values }]))
            }
            Decoder::Json if !compiled.json.needs_tree() && target.names.is_none() => {
                match decode::json(payload, &compiled.json, &mut self.values)? {
                    Json::Values(time) => Ok(Read::These(vec![self.past(source, target, time, None)?])),
                    Json::NotThis(why) => Ok(Read::NotThis(why)),
                }
            }
            Decoder::Json
            | Decoder::Cbor
            | Decoder::Msgpack
            | Decoder::Senml
            | Decoder::SenmlCbor
            | Decoder::Influx => self.read_tree(source, &target, payload),
        }
    }

    fn read_tree(&mut self, source: usize, target: &RuleMatch, payload: &[u8]) -> Result<Read, Refusal> {
        let compiled = &self.sources[source].compiled[target.rule];
        let also = compiled.rule.also;
        let Built { document: whole, .. } = match decode::build(compiled.rule.decoder, payload) {
            Ok(whole) => whole,
            Err(why @ (DecodeError::Json(_) | DecodeError::Format { .. }))
                if compiled.json.has_conditions() =>
            {
                return Ok(Read::NotThis(Some(why)));
            }
            Err(why) => return Err(why.into()),
        };
        let documents = match decode::documents(&compiled.json, &whole)? {
            Documents::These(_, Some(place)) if !also => {
                return Err(Refusal(format!(
                    "{place} is not a document of a device and would be left out; `ignore` can name it"
                )));
            }
            Documents::These(documents, _) => documents,
            Documents::NotThis => return Ok(Read::NotThis(None)),
        };
        let mut all = Vec::new();
        for document in documents {
            all.push(self.read_document(source, target, document)?);
        }
        Ok(Read::These(all))
    }

    fn read_document(
        &mut self,
        source: usize,
        target: &RuleMatch,
        document: Document<'_>,
    ) -> Result<Past, Refusal> {
        let named = match &target.names {
            Some(names) => self.named(source, target.rule, names, document)?,
            None => self.rule_match(
                source,
                target.rule,
                target.device_name.to_string(),
                target.attribute.to_string(),
            ),
        };
        let named = RuleMatch { parent: target.parent.clone(), ..named };
        let rule = &self.sources[source].compiled[target.rule].json;
        let time = document.take(rule, &mut self.values)?;
        let together = document.together(rule);
        self.past(source, named, time, together)
    }

    /// What `self.values` say.
    fn past(
        &self,
        source: usize,
        target: RuleMatch,
        time: Option<Time>,
        together: Option<String>,
    ) -> Result<Past, Refusal> {
        let rule = &self.sources[source].compiled[target.rule];
        if let Some(attribute) = self.values.too_long() {
            return Err(Refusal(format!("attribute {attribute} is longer than limits.text_bytes_max")));
        }
        if self.values.left_out() > 0 && !rule.rule.also {
            return Err(Refusal(format!(
                "the rule's root is one element of a list and leaves {} more out; each = \"elements\" takes them all",
                self.values.left_out()
            )));
        }
        let mut values = Vec::new();
        for (path, value) in self.values.iter() {
            let fires = rule.fires(path);
            if !rule.keeps(path) && (!fires || matches!(value, ValueRef::Null | ValueRef::Text(""))) {
                continue;
            }
            let name = rule.attribute(&target.attribute, path).into_owned();
            decode::check_name(&name, self.limits.name_bytes)?;
            let kind = rule.types.find(if path.is_empty() { &target.attribute } else { path });
            let mut scratch = String::new();
            let converted = match kind {
                Some(kind) => rule.types.convert(kind, value, &mut scratch),
                None => value,
            };
            let secret = value != ValueRef::Null && rule.is_secret(&target.attribute, path, value);
            let value = if secret { ValueRef::Text(REDACTED) } else { converted };
            values.push((name, value.to_owned()));
        }
        if let Some(fields) = together {
            if fields.len() > self.limits.text_bytes {
                let (bytes, max) = (fields.len(), self.limits.text_bytes);
                let why = DecodeError::TooLong { bytes, max };
                return Err(Refusal(format!("the fields of action {} together are {why}", target.attribute)));
            }
            values.push((target.attribute.to_string(), Value::Json(rule.secrets.text(fields).into())));
        }
        Ok(Past { target, time, values })
    }

    fn scalar_value(&self, source: usize, target: &RuleMatch, scalar: Scalar<'_>) -> Value {
        let types = &self.sources[source].compiled[target.rule].types;
        let mut scratch = String::new();
        let version = is_version(&target.attribute, scalar.value);
        let numbers = || {
            let attr = self.attribute_ids.get(&*target.attribute)?;
            let device = self.devices.get(target.device?)?;
            device.slots.iter().find(|slot| slot.attr == *attr).map(|slot| slot.series)
        };
        let value = match types.find(&target.attribute) {
            Some(kind) => types.convert_scalar(kind, scalar, &mut scratch),
            None if !version && (scalar.exact || numbers() == Some(true)) => scalar.value,
            None => ValueRef::Text(scalar.text),
        };
        value.to_owned()
    }

    /// The value of a message that is one value.
    fn without_secret(&self, source: usize, target: &RuleMatch, value: Value) -> Value {
        let secret = self.sources[source].compiled[target.rule].secrets.has_name(&target.attribute);
        if secret && value != Value::Null { Value::Text(REDACTED.into()) } else { value }
    }

    fn record_past_of(
        &mut self,
        kept: &Kept<'_>,
        (source, all): (usize, Vec<Past>),
        now: Time,
        batch: &mut RecordBatch,
    ) -> Result<usize, Refusal> {
        let mut facts = Vec::new();
        for Past { target, time, values } in all.into_iter().filter(|past| !past.values.is_empty()) {
            let device = self.past_device(source, &target, now, batch)?;
            let mut changes: Vec<(_, Value)> = Vec::new();
            for (name, value) in values {
                let attr = self.attribute(device, &name, now, batch)?;
                let owner = &self.devices[device];
                let policy = self.policy(source, &owner.name, &owner.called, attr);
                let policy = policy.and_then(|at| self.sources[source].policies.get(usize::from(at)));
                if policy.is_some_and(|of| of.policy.record == RecordMode::Never) {
                    continue;
                }
                // Of a name that stands in a document twice, the last one counts.
                changes.retain(|(known, _)| *known != attr);
                changes.push((attr, value));
            }
            if !changes.is_empty() {
                facts.push((time.unwrap_or(kept.arrived), Fact::HistoryReported { device, changes }));
            }
        }
        let recorded = facts.len();
        for (time, fact) in facts {
            batch.records.push_fact(Envelope { device_time: Some(time), ..at(now) }, &fact);
        }
        Ok(recorded)
    }

    /// The device of a match, discovered if necessary. It is not heard by this.
    fn past_device(
        &mut self,
        source: usize,
        target: &RuleMatch,
        now: Time,
        batch: &mut RecordBatch,
    ) -> Result<DeviceId, Refusal> {
        let namespace = self.namespace(source, target.rule);
        let parent = match &target.parent {
            Some(name) if *name != target.device_name => {
                Some(self.discover(source, namespace, name, None, now, batch)?)
            }
            _ => None,
        };
        let id = self.discover(source, namespace, &target.device_name, parent, now, batch)?;
        let device = &self.devices[id];
        if device.retired.is_some() {
            return Err(Refusal(format!(
                "device `{}` is retired, so nothing is recorded about it; requeue this after its next message",
                device.name
            )));
        }
        Ok(id)
    }
}
