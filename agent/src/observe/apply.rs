//! Applies the rules of a topic to a message.

use std::sync::atomic::Ordering;

use fieldlog_projections::fact::{Availability, AvailabilityCause};
use fieldlog_projections::{Time, Value, ValueRef};

use super::outcomes::{Refusal, Verdict};
use super::redact::REDACTED;
use super::topics::{Names, RuleMatch, Said, Topic};
use super::{Observer, RecordBatch, cut};
use crate::config::Decoder;
use crate::message::Message;
use fieldlog_rules::decode::{self, Built, DecodeError, Document, Documents, Json};

/// Reasons that are kept of one message.
const REASONS_MAX: usize = 4;

/// The result of applying a rule to a message.
enum Applied {
    /// The rule took it.
    Took(Verdict),
    /// The next rule is tried. The error is set if the payload was not a document, which this rule needs.
    NotThis(Option<DecodeError>),
}

/// Why rules refuse a message. Each refuses it for itself: what another one reads of it is no less right.
#[derive(Default)]
struct Refusals(Vec<String>);

impl Refusals {
    fn add(&mut self, Refusal(reason): Refusal) {
        if self.0.len() < REASONS_MAX && !self.0.contains(&reason) {
            self.0.push(reason);
        }
    }

    /// All reasons, and whether something else of the message was taken.
    fn into_one(mut self, taken: bool) -> Option<Refusal> {
        if self.0.is_empty() {
            return None;
        }
        if taken {
            self.0.push("what other rules take of it was recorded".to_owned());
        }
        Some(Refusal(self.0.join("; ")))
    }
}

/// A message being matched against rules.
#[derive(Clone, Copy)]
struct Arrival<'m> {
    source: usize,
    message: &'m Message,
    received: Time,
}

impl Observer {
    pub(super) fn apply_rules(
        &mut self,
        source: usize,
        topic: &mut Topic,
        message: &Message,
        received: Time,
        batch: &mut RecordBatch,
    ) -> Result<Verdict, Refusal> {
        let arrival = Arrival { source, message, received };
        let (mut taken, mut refusals, mut foreign) = (None, Refusals::default(), None);
        for matched in &mut topic.matches {
            match self.apply(arrival, matched, &mut topic.said, batch) {
                // A payload that begins like a document is a broken one, for every rule.
                Ok(Applied::NotThis(Some(why))) if begins_document(&message.payload) => {
                    refusals.add(why.into());
                }
                Ok(Applied::NotThis(why)) => {
                    foreign = foreign.or(why);
                    continue;
                }
                // A rule that ignores the message does not clear the fault.
                Ok(Applied::Took(Verdict::Ignored)) if foreign.is_some() => {}
                Ok(Applied::Took(verdict)) => {
                    foreign = None;
                    taken = Some(verdict.or_before(taken));
                }
                Err(reason) => refusals.add(reason),
            }
            if !self.sources[source].compiled[matched.rule].rule.also {
                break;
            }
        }
        let recorded = matches!(taken, Some(Verdict::Recorded | Verdict::Unchanged));
        match (refusals.into_one(recorded), taken, foreign) {
            (Some(reason), ..) => Err(reason),
            (None, Some(verdict), _) => Ok(verdict),
            (None, None, Some(why)) => Err(why.into()),
            (None, None, None) => Ok(Verdict::Ignored),
        }
    }

    fn apply(
        &mut self,
        arrival: Arrival<'_>,
        matched: &mut RuleMatch,
        said: &mut Said,
        batch: &mut RecordBatch,
    ) -> Result<Applied, Refusal> {
        let Arrival { source, message, received } = arrival;
        let payload = &message.payload[..];
        let compiled = &self.sources[source].compiled[matched.rule];
        let decoder = compiled.rule.decoder;
        if compiled.retained.is_some_and(|wanted| wanted != message.retain) {
            return Ok(Applied::NotThis(None));
        }
        // Conditions cannot test an empty payload, but it can remove a device.
        let conditional = compiled.json.has_conditions();
        let gone = payload.is_empty() && decoder == Decoder::Availability;
        if conditional && !decoder.is_document() && !gone {
            match decode::takes(payload, &compiled.json) {
                Ok(true) => {}
                Ok(false) => return Ok(Applied::NotThis(None)),
                Err(why) => return Ok(Applied::NotThis(Some(why))),
            }
        }
        let verdict = match decoder {
            Decoder::Ignore => Verdict::Ignored,
            Decoder::Announcement(announcer) => {
                self.announce(source, matched.rule, announcer, message, received, batch)?
            }
            _ if payload.is_empty() && (decoder.is_document() || decoder == Decoder::Availability) => {
                self.check_device(source, matched);
                if matched.device.is_none() && conditional {
                    return Ok(Applied::NotThis(None));
                }
                self.retire(source, matched, received, batch)
            }
            Decoder::Cbor | Decoder::Msgpack | Decoder::Senml | Decoder::SenmlCbor | Decoder::Influx => {
                return self.apply_tree(arrival, matched, said, batch);
            }
            Decoder::Json if compiled.json.needs_tree() || matched.names.is_some() => {
                return self.apply_tree(arrival, matched, said, batch);
            }
            Decoder::Json => {
                let device_time = match decode::json(payload, &compiled.json, &mut self.values)? {
                    Json::Values(device_time) => device_time,
                    Json::NotThis(why) => return Ok(Applied::NotThis(why)),
                };
                if self.is_late(source, matched, self.values.order(), received) {
                    return Ok(Applied::Took(self.passed_over(arrival, said)));
                }
                let verdict = self.record(source, matched, received, device_time, batch)?;
                self.tell(arrival, said, batch);
                verdict
            }
            Decoder::Scalar => {
                let scalar = decode::scalar(payload, self.limits.text_bytes)?;
                self.check_device(source, matched);
                let gone = |id| self.devices.get(id).is_some_and(|device| device.retired.is_some());
                if scalar.value == ValueRef::Null && matched.device.is_none_or(gone) {
                    // No value, for a device that never had one or was removed: its topics are cleared one by one.
                    Verdict::Unchanged
                } else {
                    self.record_one(source, matched, scalar, received, batch)?
                }
            }
            Decoder::Availability => {
                let online = {
                    let rule = &compiled.rule;
                    decode::availability(payload, rule.value.as_deref(), &rule.online, &rule.offline)?
                };
                let device = self.device(source, matched, received, batch)?;
                let now = if online { Availability::Online } else { Availability::Offline };
                self.set_availability(device, now, AvailabilityCause::Topic, received, batch)
            }
            Decoder::Action => {
                let scalar = decode::scalar(payload, self.limits.text_bytes)?;
                if scalar.value == ValueRef::Null || message.retain {
                    Verdict::Unchanged
                } else {
                    let value = if scalar.exact { scalar.value } else { ValueRef::Text(scalar.text) };
                    let device = self.device(source, matched, received, batch)?;
                    let name = matched.attribute.clone();
                    let secret = self.sources[source].compiled[matched.rule].secrets.has_name(&name);
                    let value = if secret { ValueRef::Text(REDACTED) } else { value };
                    self.fire(device, &name, value.to_owned(), received, None, batch)?
                }
            }
        };
        Ok(Applied::Took(verdict))
    }

    /// A rule that needs the document as a whole.
    fn apply_tree(
        &mut self,
        arrival: Arrival<'_>,
        matched: &mut RuleMatch,
        said: &mut Said,
        batch: &mut RecordBatch,
    ) -> Result<Applied, Refusal> {
        let Arrival { source, message, received } = arrival;
        let compiled = &self.sources[source].compiled[matched.rule];
        let Built { document: whole, twice } = match decode::build(compiled.rule.decoder, &message.payload) {
            Ok(whole) => whole,
            Err(why @ (DecodeError::Json(_) | DecodeError::Format { .. }))
                if compiled.json.has_conditions() =>
            {
                return Ok(Applied::NotThis(Some(why)));
            }
            Err(why) => return Err(why.into()),
        };
        let (documents, left_out) = match decode::documents(&compiled.json, &whole)? {
            Documents::These(documents, left_out) => (documents, left_out),
            Documents::NotThis => return Ok(Applied::NotThis(None)),
        };
        let (mut verdict, mut refusal) = (Verdict::Unchanged, None);
        for document in documents {
            match self.apply_document(arrival, matched, document, said, batch) {
                Ok(of_this) => verdict = of_this.or_before(Some(verdict)),
                Err(reason) => refusal = refusal.or(Some(reason)),
            }
        }
        self.tell_twice(arrival, twice.as_deref(), said, batch);
        // With `also`, a later rule may take it.
        if let Some(place) = left_out.filter(|_| !self.sources[source].compiled[matched.rule].rule.also)
            && !std::mem::replace(&mut said.left_out, true)
        {
            let reason = format!(
                "{place} is not a document of a device and was left out; the others were recorded (said once for this topic). \
                 `ignore` can name it"
            );
            self.quarantine(source, message, &reason, received, batch);
        }
        refusal.map_or(Ok(Applied::Took(verdict)), Err)
    }

    fn apply_document(
        &mut self,
        arrival: Arrival<'_>,
        matched: &mut RuleMatch,
        document: Document<'_>,
        said: &mut Said,
        batch: &mut RecordBatch,
    ) -> Result<Verdict, Refusal> {
        let Arrival { source, received, .. } = arrival;
        let mut named = match &matched.names {
            Some(names) => {
                let named = self.named(source, matched.rule, names, document)?;
                Some(RuleMatch { parent: matched.parent.clone(), ..named })
            }
            None => None,
        };
        let target = named.as_mut().unwrap_or(matched);
        let rule = &self.sources[source].compiled[target.rule].json;
        let device_time = document.take(rule, &mut self.values)?;
        let together = document.together(rule);
        if self.is_late(source, target, self.values.order(), received) {
            return Ok(self.passed_over(arrival, said));
        }
        let recorded = self.record(source, target, received, device_time, batch);
        let fired = match together {
            Some(value) if self.alive && !self.repeated => {
                self.fire_together(source, target, value, received, device_time, batch)
            }
            _ => Ok(None),
        };
        // The shape of a match that is rebuilt for each message is not kept.
        if let Some(named) = &mut named {
            self.cut_shape(named, 0);
        }
        self.tell(arrival, said, batch);
        let recorded = recorded?;
        Ok(fired?.map_or(recorded, |fired| fired.or_before(Some(recorded))))
    }

    /// A message that came after a newer one: counted, and said once for each topic.
    fn passed_over(&self, arrival: Arrival<'_>, said: &mut Said) -> Verdict {
        let source = &self.sources[arrival.source];
        source.outcomes.late.fetch_add(1, Ordering::Relaxed);
        if !std::mem::replace(&mut said.late, true) {
            let topic = String::from_utf8_lossy(&arrival.message.topic);
            tracing::warn!(
                "source {:?}: a message on {topic} has come after a newer one, by `order_by` of its rule, and is not taken (said \
                 once for this topic)",
                source.name
            );
        }
        Verdict::Ignored
    }

    fn fire_together(
        &mut self,
        source: usize,
        matched: &mut RuleMatch,
        value: String,
        received: Time,
        device_time: Option<Time>,
        batch: &mut RecordBatch,
    ) -> Result<Option<Verdict>, Refusal> {
        if value.len() > self.limits.text_bytes {
            let max = self.limits.text_bytes;
            let why = DecodeError::TooLong { bytes: value.len(), max };
            return Err(Refusal(format!("the fields of action {} together are {why}", matched.attribute)));
        }
        let value = self.sources[source].compiled[matched.rule].secrets.text(value);
        let device = self.device(source, matched, received, batch)?;
        let name = matched.attribute.clone();
        self.fire(device, &name, Value::Json(value.into()), received, device_time, batch).map(Some)
    }

    /// The match for one document that contains its own names.
    pub(super) fn named(
        &self,
        source: usize,
        rule: usize,
        names: &Names,
        document: Document<'_>,
    ) -> Result<RuleMatch, Refusal> {
        let mut missing = Vec::new();
        let mut device = None;
        for name in &names.devices {
            match document.name(name) {
                Ok(name) => {
                    device = Some(name);
                    break;
                }
                Err(part) => missing.push(part),
            }
        }
        let device = device.ok_or_else(|| {
            Refusal(format!(
                "the payload does not say which device it is about: it has no {}",
                missing.join(", ")
            ))
        })?;
        let attribute = document.name(&names.attribute).map_err(|part| {
            Refusal(format!("the name of the attributes needs {part}, which the payload has not"))
        })?;
        decode::check_name(&device, self.limits.name_bytes)?;
        decode::check_name(&attribute, self.limits.name_bytes)?;
        Ok(self.rule_match(source, rule, device, attribute))
    }

    /// Logs, once per topic, which of its values were left out.
    fn tell(&mut self, arrival: Arrival<'_>, said: &mut Said, batch: &mut RecordBatch) {
        let Arrival { source, message, received } = arrival;
        if let Some(attribute) = self.values.too_long()
            && !std::mem::replace(&mut said.too_long, true)
        {
            let reason = format!(
                "attribute {attribute} is longer than limits.text_bytes_max and was left out; \
                 the others were taken (said once for this topic)"
            );
            self.quarantine(source, message, &reason, received, batch);
        }
        if let Some(name) = self.values.twice().map(str::to_owned) {
            self.tell_twice(arrival, Some(&name), said, batch);
        }
        let left_out = self.values.left_out();
        if left_out > 0 && !std::mem::replace(&mut said.left_out, true) {
            let reason = format!(
                "the rule's root is one element of a list and leaves {left_out} more out (said once for this topic); \
                 each = \"elements\" takes them all"
            );
            self.quarantine(source, message, &reason, received, batch);
        }
        if self.values.time_unread() {
            self.sources[source].outcomes.count_unread_time();
            if !std::mem::replace(&mut said.time, true) {
                let topic = String::from_utf8_lossy(&message.topic);
                let name = &self.sources[source].name;
                tracing::warn!(
                    "source {name:?}: a message on {topic} has a time that cannot be read, or that of a clock that is not \
                     set; its values are recorded without it. Check `time` of its rule (said once for this topic)"
                );
            }
        }
    }
}

impl Observer {
    /// Says, once for each topic, that one of two values was taken.
    fn tell_twice(
        &mut self,
        arrival: Arrival<'_>,
        name: Option<&str>,
        said: &mut Said,
        batch: &mut RecordBatch,
    ) {
        let Arrival { source, message, received } = arrival;
        let Some(name) = name.filter(|_| !std::mem::replace(&mut said.twice, true)) else { return };
        let name = cut(name, 40);
        let reason = format!(
            "an object in the document has the name {name:?} twice, with two values; the last one was taken (said once for \
             this topic)"
        );
        self.quarantine(source, message, &reason, received, batch);
    }
}

fn begins_document(payload: &[u8]) -> bool {
    matches!(payload.trim_ascii_start().first(), Some(b'{' | b'['))
}
