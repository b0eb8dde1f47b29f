//! Messages to facts: which device, which attributes, and whether anything has changed.
//!
//! The observer is ahead of the view by the batch that is being built. It is never rolled back: a commit that fails ends
//! the process.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use fieldlog_projections::chunk::{Body, Envelope};
use fieldlog_projections::fact::{Availability, AvailabilityCause, Fact};
use fieldlog_projections::{AttrId, DeviceId, Seq, Time, Value, ValueRef, View, stored};

use crate::config::{Config, Decoder, Policy, RecordMode, Rule, SourceConfig, Update};
use crate::decode::{self, Json, JsonRule, Values, Zone};
use crate::memory;
use crate::message::{Message, SourceId, WireFault};
use crate::pattern::{PatternError, Patterns};
use crate::rebuild;
use crate::rules::{Found, RuleError, Rules};

/// Longer topics are not remembered: what is known of them is found out again with each message.
const TOPIC_BYTES_REMEMBERED: usize = 1_024;
/// Longest reason kept with a quarantined message, in bytes. A parser may quote what it has found, of any length.
const REASON_BYTES_MAX: usize = 1_024;

mod budget;
mod room;
mod roster;
#[cfg(test)]
mod tests;

use budget::Budget;
pub use budget::StateUse;
use roster::Roster;

/// What became of the messages of a source. All counters since the start.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// Messages taken.
    pub messages: AtomicU64,
    /// Records made of them.
    pub events: AtomicU64,
    /// Messages that changed nothing: equal values.
    pub unchanged: AtomicU64,
    /// Of these, retained ones, sent because we subscribed.
    pub retained_repeats: AtomicU64,
    /// Values held back by a deadband, an interval or `record = "never"`.
    pub suppressed: AtomicU64,
    /// Messages put into quarantine.
    pub quarantined: AtomicU64,
    /// Messages on topics that no rule takes, or that a rule ignores.
    pub ignored: AtomicU64,
}

/// When each device was last heard, changed or not; not durable.
#[derive(Debug, Default)]
pub struct Heard(RwLock<Vec<AtomicI64>>);

impl Heard {
    /// When a device was last heard since the agent started.
    pub fn get(&self, device: DeviceId) -> Option<Time> {
        let times = self.0.read().unwrap_or_else(PoisonError::into_inner);
        times.get(device.0 as usize).map(|t| Time(t.load(Ordering::Relaxed))).filter(|t| t.0 != 0)
    }

    fn resize(&self, devices: usize) {
        let mut times = self.0.write().unwrap_or_else(PoisonError::into_inner);
        times.resize_with(devices, AtomicI64::default);
    }

    fn set(&self, device: DeviceId, time: Time) {
        let times = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = times.get(device.0 as usize) {
            slot.store(time.0, Ordering::Relaxed);
        }
    }
}

/// Records and quarantined payloads that wait for a commit.
#[derive(Debug, Default)]
pub struct Batch {
    /// The records.
    pub body: Body,
    /// Payloads for the quarantine, by the index of their record.
    pub quarantine: Vec<(usize, Vec<u8>)>,
}

/// Turns messages into facts.
#[derive(Debug)]
pub struct Observer {
    sources: Vec<Source>,
    devices: Roster,
    device_ids: HashMap<Arc<str>, DeviceId>,
    attributes: Vec<Arc<str>>,
    attribute_ids: HashMap<Arc<str>, AttrId>,
    /// Retired devices, by the position of the record that says so: the first is the first to be forgotten.
    retired: BTreeSet<(Seq, DeviceId)>,
    budget: Budget,
    /// So many bytes more would be needed for the value that was just refused.
    short: Option<usize>,
    /// The last durable record.
    head: Seq,
    /// Whoever must have the records has them up to here.
    acked: Seq,
    heard: Arc<Heard>,
    values: Values,
    changes: Vec<(u32, u32)>,
    stamp: u32,
    /// The message at hand is new, not retained: a sign of life.
    alive: bool,
    topics: usize,
    limits: Limits,
    /// Values held back by an interval, by when it ends.
    deferred: BTreeMap<(Time, DeviceId, u32), ()>,
}

#[derive(Debug)]
struct Limits {
    devices: usize,
    attributes: usize,
    topics: usize,
    text_bytes: usize,
    name_bytes: usize,
    quarantine_payload_bytes: usize,
}

#[derive(Debug)]
struct Source {
    name: Box<str>,
    rules: Rules,
    compiled: Vec<CompiledRule>,
    policies: Vec<CompiledPolicy>,
    silence: Option<i64>,
    topics: HashMap<Box<[u8]>, Topic>,
    outcomes: Arc<Outcomes>,
}

/// A rule with all that can be prepared once.
#[derive(Debug)]
struct CompiledRule {
    rule: Rule,
    json: JsonRule,
    actions: Patterns,
    ignore: Patterns,
}

/// A policy and the names it holds for.
#[derive(Debug)]
struct CompiledPolicy {
    policy: Policy,
    devices: Patterns,
    attributes: Patterns,
}

/// What is known about one topic: the rules that take it, in order.
#[derive(Debug, Default)]
struct Topic {
    takers: Vec<Taker>,
    complained_too_long: bool,
}

#[derive(Debug)]
struct Taker {
    rule: usize,
    device_name: Box<str>,
    device: Option<DeviceId>,
    attribute: Box<str>,
    /// Attribute paths in the order this topic last sent them, and their slots in the device.
    shape: Vec<(Box<str>, Option<u32>)>,
}

#[derive(Debug)]
struct Device {
    name: Arc<str>,
    source: SourceId,
    parent: Option<DeviceId>,
    /// Devices that have this one as their parent.
    children: u32,
    /// Position of the record that says so.
    retired: Option<Seq>,
    availability: Availability,
    cause: AvailabilityCause,
    heard: Time,
    slots: Vec<Slot>,
    /// Its actions since the start: their names are attributes, too.
    actions: Vec<AttrId>,
}

#[derive(Debug)]
struct Slot {
    attr: AttrId,
    value: Value,
    recorded: Time,
    stamp: u32,
    policy: Option<u16>,
    deferred: Option<(Time, Value)>,
    /// It was a number, so there are aggregates of it.
    series: bool,
}

/// What a message came to.
enum Outcome {
    Recorded,
    Unchanged,
    Ignored,
    Quarantined,
}

/// Why a message cannot be taken; becomes the reason in the quarantine.
struct Refusal(String);

impl<E: std::error::Error> From<E> for Refusal {
    fn from(error: E) -> Refusal {
        Refusal(error.to_string())
    }
}

impl Observer {
    /// Continues from a view. `outcomes` are the counters of each source; `now` starts the silence timeouts anew.
    ///
    /// # Errors
    /// [`RuleError`] for rules that a checked configuration does not have.
    pub fn new(
        config: &Config,
        view: &View,
        heard: Arc<Heard>,
        outcomes: &[Arc<Outcomes>],
        now: Time,
    ) -> Result<Observer, RuleError> {
        let mut observer = Observer {
            sources: Vec::new(),
            devices: Roster::default(),
            device_ids: HashMap::new(),
            attributes: Vec::new(),
            attribute_ids: HashMap::new(),
            retired: BTreeSet::new(),
            budget: Budget::default(),
            short: None,
            head: view.seq,
            acked: view.seq,
            heard,
            values: Values::new(config.limits.text_bytes_max, config.limits.name_bytes_max),
            changes: Vec::new(),
            stamp: 0,
            alive: false,
            topics: 0,
            limits: Limits::new(config),
            deferred: BTreeMap::new(),
        };
        observer.configure(config, outcomes)?;
        for (name, id) in view.devices.attribute_names().iter().zip(0..) {
            observer.attributes.push(name.clone());
            observer.attribute_ids.insert(name.clone(), AttrId(id));
        }
        for (id, device) in view.devices.iter() {
            observer.restore(id, device, view, now);
        }
        while observer.devices.len() < view.devices.len() {
            observer.devices.push_forgotten();
        }
        observer.adopt();
        observer.heard.resize(observer.devices.len());
        observer.count();
        Ok(observer)
    }

    fn restore(&mut self, id: DeviceId, device: &fieldlog_projections::Device, view: &View, now: Time) {
        while self.devices.len() < id.0 as usize {
            self.devices.push_forgotten();
        }
        let source =
            self.sources.iter().position(|s| *s.name == *device.source).unwrap_or(usize::from(u16::MAX));
        self.device_ids.insert(device.name.clone(), id);
        let slots = device
            .attributes
            .iter()
            .map(|a| Slot {
                attr: a.id,
                value: a.value.clone(),
                // Log time may be ahead of a clock that has been set back.
                recorded: a.time.min(now),
                stamp: 0,
                policy: self.policy(source, &device.name, a.id),
                deferred: None,
                series: view.aggregates.has(id, a.id),
            })
            .collect();
        // Nothing is recorded of a retired device, so its newest record is the one that says so.
        let retired = device.retired.then_some(device.changed.0);
        self.retired.extend(retired.map(|seq| (seq, id)));
        self.devices.push(Device {
            name: device.name.clone(),
            source: SourceId(source as u16),
            parent: device.parent,
            children: 0,
            retired,
            availability: device.availability,
            cause: device.availability_cause,
            heard: now,
            slots,
            actions: Vec::new(),
        });
    }

    /// Takes over a new configuration; what is known about devices stays.
    ///
    /// # Errors
    /// As [`Observer::new`]; nothing is taken over then.
    pub fn configure(&mut self, config: &Config, outcomes: &[Arc<Outcomes>]) -> Result<(), RuleError> {
        let sources = config.sources.iter().zip(outcomes).map(|(s, o)| Source::new(s, o.clone()));
        self.sources = sources.collect::<Result<_, _>>()?;
        self.limits = Limits::new(config);
        self.values = Values::new(config.limits.text_bytes_max, config.limits.name_bytes_max);
        self.topics = 0;
        let ids: Vec<DeviceId> = self.devices.iter().map(|(id, _)| id).collect();
        for id in ids {
            let device = &self.devices[id];
            let policies: Vec<Option<u16>> = device
                .slots
                .iter()
                .map(|slot| self.policy(usize::from(device.source.0), &device.name, slot.attr))
                .collect();
            for (slot, policy) in self.devices[id].slots.iter_mut().zip(policies) {
                slot.policy = policy;
            }
        }
        let max = config.limits.state_bytes_max.unwrap_or_else(memory::state_bytes_max);
        self.budget.configure(max, &rebuild::windows(&config.aggregates));
        self.count();
        Ok(())
    }

    fn policy(&self, source: usize, device: &str, attr: AttrId) -> Option<u16> {
        let attribute = self.attributes.get(attr.0 as usize)?;
        let policies = &self.sources.get(source)?.policies;
        let wanted = |p: &CompiledPolicy| p.devices.matches(device) && p.attributes.matches(attribute);
        policies.iter().position(wanted).map(|at| at as u16)
    }

    /// Takes one message: appends what it says to the batch, and counts it.
    pub fn observe(&mut self, source: SourceId, message: &Message, received: Time, batch: &mut Batch) {
        let index = usize::from(source.0);
        let Some(outcomes) = self.sources.get(index).map(|s| s.outcomes.clone()) else { return };
        let before = batch.body.len();
        let outcome = match self.take(index, message, received, batch) {
            Ok(outcome) => outcome,
            Err(Refusal(reason)) => {
                self.quarantine(index, message, &reason, received, batch);
                Outcome::Quarantined
            }
        };
        // Relaxed adds on counters that only this thread writes: plain stores would do, these cost the same.
        let add = |counter: &AtomicU64, n: usize| {
            counter.fetch_add(n as u64, Ordering::Relaxed);
        };
        add(&outcomes.messages, 1);
        match outcome {
            Outcome::Recorded => add(&outcomes.events, batch.body.len() - before),
            Outcome::Ignored => add(&outcomes.ignored, 1),
            Outcome::Quarantined => add(&outcomes.quarantined, 1),
            Outcome::Unchanged => {
                add(&outcomes.unchanged, 1);
                if message.retain {
                    add(&outcomes.retained_repeats, 1);
                }
            }
        }
    }

    /// Puts a message into quarantine without looking into it.
    pub fn refuse(
        &mut self,
        source: SourceId,
        message: &Message,
        reason: &str,
        received: Time,
        batch: &mut Batch,
    ) {
        let index = usize::from(source.0);
        let Some(outcomes) = self.sources.get(index).map(|s| s.outcomes.clone()) else { return };
        self.quarantine(index, message, reason, received, batch);
        outcomes.messages.fetch_add(1, Ordering::Relaxed);
        outcomes.quarantined.fetch_add(1, Ordering::Relaxed);
    }

    fn take(
        &mut self,
        source: usize,
        message: &Message,
        received: Time,
        batch: &mut Batch,
    ) -> Result<Outcome, Refusal> {
        match message.fault {
            Some(WireFault::TooLarge { size }) => {
                return Err(Refusal(format!(
                    "a packet of {size} bytes; packet_bytes_max of the source is smaller"
                )));
            }
            Some(WireFault::Malformed(why)) => return Err(Refusal(format!("not a valid PUBLISH: {why}"))),
            None => {}
        }
        self.alive = !message.retain;
        // The topic is taken out and put back, so that `self` is free meanwhile.
        let known = self.sources[source].topics.get_mut(&message.topic[..]).map(std::mem::take);
        let mut topic = match known {
            Some(topic) => topic,
            None => self.learn_topic(source, message)?,
        };
        let result = self.take_on(source, &mut topic, message, received, batch);
        if let Some(slot) = self.sources[source].topics.get_mut(&message.topic[..]) {
            *slot = topic;
        }
        if !self.budget.topics_fit(0) {
            self.forget_topics();
        }
        result
    }

    fn learn_topic(&mut self, source: usize, message: &Message) -> Result<Topic, Refusal> {
        let name =
            std::str::from_utf8(&message.topic).map_err(|_| Refusal("the topic is not UTF-8".into()))?;
        let takers = self.sources[source].rules.find(name).collect::<Vec<_>>();
        for found in &takers {
            decode::check_name(&found.device, self.limits.name_bytes)?;
            decode::check_name(&found.attribute, self.limits.name_bytes)?;
        }
        let topic = self.topic(takers);
        if message.topic.len() > TOPIC_BYTES_REMEMBERED {
            return Ok(topic);
        }
        let bytes = budget::topic_bytes(&message.topic, &topic);
        if self.topics >= self.limits.topics || !self.budget.topics_fit(bytes) {
            self.forget_topics();
        }
        self.topics += 1;
        self.budget.topics += bytes;
        self.sources[source].topics.insert(Box::from(&message.topic[..]), Topic::default());
        Ok(topic)
    }

    fn topic(&self, takers: Vec<Found>) -> Topic {
        let takers = takers
            .into_iter()
            .map(|found| Taker {
                rule: found.rule,
                device: self.device_ids.get(found.device.as_str()).copied(),
                device_name: found.device.into(),
                attribute: found.attribute.into(),
                shape: Vec::new(),
            })
            .collect();
        Topic { takers, complained_too_long: false }
    }

    /// Forgetting all is crude but bounded; the known ones are back after one message each.
    fn forget_topics(&mut self) {
        self.sources.iter_mut().for_each(|s| s.topics = HashMap::new());
        (self.topics, self.budget.topics) = (0, 0);
    }

    fn take_on(
        &mut self,
        source: usize,
        topic: &mut Topic,
        message: &Message,
        received: Time,
        batch: &mut Batch,
    ) -> Result<Outcome, Refusal> {
        let payload = &message.payload[..];
        for taker in &mut topic.takers {
            let decoder = self.sources[source].compiled[taker.rule].rule.decoder;
            let empty = payload.is_empty();
            match decoder {
                Decoder::Ignore => return Ok(Outcome::Ignored),
                Decoder::Json | Decoder::Availability if empty => {
                    return Ok(self.retire(taker, received, batch));
                }
                Decoder::Json => {
                    let rule = &self.sources[source].compiled[taker.rule].json;
                    let Json::Values(device_time) = decode::json(payload, rule, &mut self.values)? else {
                        continue;
                    };
                    let outcome = self.record(source, taker, received, device_time, batch)?;
                    if let Some(attribute) = self.values.too_long()
                        && !topic.complained_too_long
                    {
                        topic.complained_too_long = true;
                        let reason = format!(
                            "attribute {attribute} is longer than limits.text_bytes_max and was left out; \
                             the others were taken (said once for this topic)"
                        );
                        self.quarantine(source, message, &reason, received, batch);
                    }
                    return Ok(outcome);
                }
                Decoder::Scalar => {
                    let value = decode::scalar(payload, self.limits.text_bytes)?;
                    return self.record_one(source, taker, value, received, batch);
                }
                Decoder::Availability => {
                    let rule = &self.sources[source].compiled[taker.rule].rule;
                    let online = decode::availability(payload, &rule.online, &rule.offline)?;
                    let device = self.device(source, taker, received, batch)?;
                    let now = if online { Availability::Online } else { Availability::Offline };
                    return Ok(self.set_availability(device, now, AvailabilityCause::Topic, received, batch));
                }
                Decoder::Action => {
                    let value = decode::scalar(payload, self.limits.text_bytes)?.to_owned();
                    if value == Value::Null || message.retain {
                        return Ok(Outcome::Unchanged);
                    }
                    let device = self.device(source, taker, received, batch)?;
                    let name = taker.attribute.clone();
                    return self.fire(device, &name, value, received, batch);
                }
            }
        }
        Ok(Outcome::Ignored)
    }

    /// The taker's device, discovered if need be.
    fn device(
        &mut self,
        source: usize,
        taker: &mut Taker,
        received: Time,
        batch: &mut Batch,
    ) -> Result<DeviceId, Refusal> {
        self.check_device(taker);
        let id = match taker.device {
            Some(id) => id,
            None => {
                let parent = self.sources[source].compiled[taker.rule].rule.parent.clone();
                let parent = match parent {
                    Some(name) if *name != *taker.device_name => {
                        Some(self.discover(source, &name, None, received, batch)?)
                    }
                    _ => None,
                };
                let name = taker.device_name.clone();
                let id = self.discover(source, &name, parent, received, batch)?;
                taker.device = Some(id);
                id
            }
        };
        if self.devices[id].retired.is_some() {
            self.rediscover(source, taker, id, received, batch);
        }
        if !self.alive {
            return Ok(id);
        }
        let device = &mut self.devices[id];
        device.heard = received;
        self.heard.set(id, received);
        if device.availability == Availability::Offline && device.cause == AvailabilityCause::Silence {
            self.set_availability(id, Availability::Online, AvailabilityCause::Silence, received, batch);
        }
        Ok(id)
    }

    fn discover(
        &mut self,
        source: usize,
        name: &str,
        parent: Option<DeviceId>,
        received: Time,
        batch: &mut Batch,
    ) -> Result<DeviceId, Refusal> {
        if let Some(id) = self.device_ids.get(name) {
            return Ok(*id);
        }
        // A parent must not be forgotten to make room for its child.
        self.claim(parent);
        if let Err(refusal) = self.room_for_device(name, received, batch) {
            self.release(parent);
            return Err(refusal);
        }
        let text: Arc<str> = name.into();
        let id = self.devices.push(Device {
            name: text.clone(),
            source: SourceId(source as u16),
            parent,
            children: 0,
            retired: None,
            availability: Availability::Unknown,
            cause: AvailabilityCause::Topic,
            heard: received,
            slots: Vec::new(),
            actions: Vec::new(),
        });
        self.device_ids.insert(text, id);
        self.heard.resize(self.devices.len());
        let source = self.sources[source].name.to_string();
        let fact = Fact::DeviceDiscovered { device: id, name: name.into(), source, parent };
        batch.body.push_fact(at(received), &fact);
        Ok(id)
    }

    fn rediscover(&mut self, source: usize, taker: &Taker, id: DeviceId, received: Time, batch: &mut Batch) {
        let parent = self.sources[source].compiled[taker.rule].rule.parent.as_ref();
        let parent = parent.and_then(|name| self.device_ids.get(name.as_str()).copied()).filter(|p| *p != id);
        self.claim(parent);
        let device = &mut self.devices[id];
        let before = std::mem::replace(&mut device.parent, parent);
        let retired = device.retired.take();
        device.source = SourceId(source as u16);
        let name = device.name.to_string();
        self.release(before);
        if let Some(seq) = retired {
            self.retired.remove(&(seq, id));
        }
        let source = self.sources[source].name.to_string();
        batch.body.push_fact(at(received), &Fact::DeviceDiscovered { device: id, name, source, parent });
    }

    /// An empty payload where a document should be: the device was removed at its source.
    fn retire(&mut self, taker: &Taker, received: Time, batch: &mut Batch) -> Outcome {
        let Some(id) = taker.device else { return Outcome::Unchanged };
        let Some(device) = self.devices.get_mut(id).filter(|device| device.retired.is_none()) else {
            return Outcome::Unchanged;
        };
        batch.body.push_fact(at(received), &Fact::DeviceRetired { device: id });
        let seq = Seq(self.head.0 + batch.body.len() as u64);
        device.retired = Some(seq);
        self.retired.insert((seq, id));
        Outcome::Recorded
    }

    fn set_availability(
        &mut self,
        id: DeviceId,
        availability: Availability,
        cause: AvailabilityCause,
        received: Time,
        batch: &mut Batch,
    ) -> Outcome {
        let device = &mut self.devices[id];
        if device.availability == availability {
            return Outcome::Unchanged;
        }
        (device.availability, device.cause) = (availability, cause);
        let fact = Fact::AvailabilityChanged { device: id, availability, cause };
        batch.body.push_fact(at(received), &fact);
        Outcome::Recorded
    }

    fn fire(
        &mut self,
        device: DeviceId,
        attribute: &str,
        value: Value,
        received: Time,
        batch: &mut Batch,
    ) -> Result<Outcome, Refusal> {
        let attribute = self.action(device, attribute, received, batch)?;
        batch.body.push_fact(at(received), &Fact::ActionFired { device, attribute, value });
        Ok(Outcome::Recorded)
    }

    /// Gives a number to an attribute name.
    fn name_attribute(&mut self, name: &str, received: Time, batch: &mut Batch) -> AttrId {
        let id = AttrId(self.attributes.len() as u32);
        let text: Arc<str> = name.into();
        self.attributes.push(text.clone());
        self.attribute_ids.insert(text, id);
        self.budget.names += budget::attribute_bytes(name);
        batch.body.push_fact(at(received), &Fact::AttributeNamed { attribute: id, name: name.into() });
        id
    }

    /// The number of a device's action, given now if need be.
    fn action(
        &mut self,
        device: DeviceId,
        name: &str,
        received: Time,
        batch: &mut Batch,
    ) -> Result<AttrId, Refusal> {
        let known = self.attribute_ids.get(name).copied();
        if let Some(attr) = known.filter(|attr| self.devices[device].actions.contains(attr)) {
            return Ok(attr);
        }
        self.room_for_attribute(device, name, known.is_none(), budget::ACTION_BYTES, received, batch)?;
        let attr = known.unwrap_or_else(|| self.name_attribute(name, received, batch));
        self.devices[device].actions.push(attr);
        Ok(attr)
    }

    /// The slot of an attribute in a device, made now if need be.
    fn slot(
        &mut self,
        device: DeviceId,
        name: &str,
        received: Time,
        batch: &mut Batch,
    ) -> Result<u32, Refusal> {
        let known = self.attribute_ids.get(name).copied();
        let slots = &self.devices[device].slots;
        if let Some(at) = known.and_then(|attr| slots.iter().position(|slot| slot.attr == attr)) {
            return Ok(at as u32);
        }
        self.room_for_attribute(device, name, known.is_none(), budget::SLOT_BYTES, received, batch)?;
        let attr = known.unwrap_or_else(|| self.name_attribute(name, received, batch));
        let owner = &self.devices[device];
        let policy = self.policy(usize::from(owner.source.0), &owner.name, attr);
        let slots = &mut self.devices[device].slots;
        slots.push(Slot {
            attr,
            value: Value::Null,
            recorded: Time(i64::MIN),
            stamp: 0,
            policy,
            deferred: None,
            series: false,
        });
        Ok(slots.len() as u32 - 1)
    }

    fn record_one(
        &mut self,
        source: usize,
        taker: &mut Taker,
        value: ValueRef<'_>,
        received: Time,
        batch: &mut Batch,
    ) -> Result<Outcome, Refusal> {
        let device = self.device(source, taker, received, batch)?;
        let name = taker.attribute.clone();
        let slot = self.slot(device, &name, received, batch)?;
        self.stamp += 1;
        self.changes.clear();
        if self.takes(device, slot, value, received, batch)? {
            self.changes.push((slot, 0));
        }
        Ok(self.append(device, received, None, batch))
    }

    /// Records what is new in `self.values`.
    fn record(
        &mut self,
        source: usize,
        taker: &mut Taker,
        received: Time,
        device_time: Option<Time>,
        batch: &mut Batch,
    ) -> Result<Outcome, Refusal> {
        let device = self.device(source, taker, received, batch)?;
        let values = std::mem::take(&mut self.values);
        let result = self.record_values(source, taker, &values, device, received, device_time, batch);
        self.values = values;
        result
    }

    #[allow(clippy::too_many_arguments)]
    fn record_values(
        &mut self,
        source: usize,
        taker: &mut Taker,
        values: &Values,
        device: DeviceId,
        received: Time,
        device_time: Option<Time>,
        batch: &mut Batch,
    ) -> Result<Outcome, Refusal> {
        let before = batch.body.len();
        self.stamp += 1;
        self.changes.clear();
        let mut refusal = None;
        for (index, (path, value)) in values.iter().enumerate() {
            let slot = match taker.shape.get(index) {
                Some((known, slot)) if **known == *path => *slot,
                _ => match self.learn_attribute(source, taker, index, device, path, received, batch) {
                    Ok(slot) => slot,
                    Err(reason) => {
                        refusal.get_or_insert(reason);
                        continue;
                    }
                },
            };
            let Some(slot) = slot else {
                let fired = self.maybe_fire(source, taker, device, path, value, received, device_time, batch);
                refusal = refusal.or(fired.err());
                continue;
            };
            match self.takes(device, slot, value, received, batch) {
                Ok(true) => self.changes.push((slot, index as u32)),
                Ok(false) => {}
                Err(reason) => refusal = refusal.or(Some(reason)),
            }
        }
        if self.sources[source].compiled[taker.rule].rule.update == Update::Replace {
            self.remove_unmentioned(device, &taker.attribute, received);
        }
        self.append(device, received, device_time, batch);
        match refusal {
            Some(reason) => Err(reason),
            None if batch.body.len() > before => Ok(Outcome::Recorded),
            None => Ok(Outcome::Unchanged),
        }
    }

    /// A path at a place where this topic has not sent it yet: its slot, or `None` if the rule does not keep it as state.
    #[allow(clippy::too_many_arguments)]
    fn learn_attribute(
        &mut self,
        source: usize,
        taker: &mut Taker,
        index: usize,
        device: DeviceId,
        path: &str,
        received: Time,
        batch: &mut Batch,
    ) -> Result<Option<u32>, Refusal> {
        let rule = &self.sources[source].compiled[taker.rule];
        let state = !rule.actions.matches(path) && !rule.ignore.matches(path);
        let slot = match (state, &*taker.attribute) {
            (false, _) => None,
            (true, "") => Some(self.slot(device, path, received, batch)?),
            (true, prefix) => {
                let name = format!("{prefix}.{path}");
                decode::check_name(&name, self.limits.name_bytes)?;
                Some(self.slot(device, &name, received, batch)?)
            }
        };
        // Documents of changing shape would otherwise make this list grow without end.
        self.cut_shape(taker, index.min(self.limits.attributes));
        if taker.shape.len() == index {
            self.budget.topics += budget::shape_bytes(path);
            taker.shape.push((path.into(), slot));
        }
        Ok(slot)
    }

    #[allow(clippy::too_many_arguments)]
    fn maybe_fire(
        &mut self,
        source: usize,
        taker: &Taker,
        device: DeviceId,
        path: &str,
        value: ValueRef<'_>,
        received: Time,
        device_time: Option<Time>,
        batch: &mut Batch,
    ) -> Result<(), Refusal> {
        let is_action = self.sources[source].compiled[taker.rule].actions.matches(path);
        if is_action && !matches!(value, ValueRef::Null | ValueRef::Text("")) {
            let attribute = self.action(device, path, received, batch)?;
            let fact = Fact::ActionFired { device, attribute, value: value.to_owned() };
            batch.body.push_fact(Envelope { device_time, ..at(received) }, &fact);
        }
        Ok(())
    }

    /// [`Observer::differs`], with room made for the value if need be.
    #[inline]
    fn takes(
        &mut self,
        device: DeviceId,
        slot: u32,
        value: ValueRef<'_>,
        received: Time,
        batch: &mut Batch,
    ) -> Result<bool, Refusal> {
        let differs = self.differs(device, slot, value, received);
        match self.short.take() {
            None => Ok(differs),
            Some(more) => {
                self.room_for_value(device, slot, more, received, batch)?;
                Ok(self.differs(device, slot, value, received))
            }
        }
    }

    /// Whether a value is worth an event; if so it is the slot's value from now on. Where there is no room for it,
    /// nothing is changed, and `short` says how much is missing.
    #[inline]
    fn differs(&mut self, device: DeviceId, slot: u32, value: ValueRef<'_>, received: Time) -> bool {
        let stamp = self.stamp;
        let slot_index = slot;
        let owner = &mut self.devices[device];
        // A device has the policies of the source it was discovered on, also when another source speaks of it.
        let source = usize::from(owner.source.0);
        let slot = &mut owner.slots[slot as usize];
        let again = slot.stamp == stamp;
        slot.stamp = stamp;
        let same = value.same(slot.value.borrow());
        let policy =
            slot.policy.and_then(|p| Some(&self.sources.get(source)?.policies.get(usize::from(p))?.policy));
        if let Some(policy) = policy {
            let since = received.micros_since(slot.recorded);
            let interval = policy.min_interval.as_micros() as i64;
            let quiet = match (value.as_number(), slot.value.borrow().as_number()) {
                (Some(new), Some(old)) => policy.deadband > 0.0 && (new - old).abs() < policy.deadband,
                _ => false,
            };
            let wanted = match policy.record {
                RecordMode::Never => false,
                RecordMode::Every => true,
                RecordMode::Change => !same && !quiet,
            };
            if wanted && slot.recorded.0 != i64::MIN && since < interval {
                let due = Time(slot.recorded.0 + interval);
                if !slot.defer(due, value, &mut self.budget) {
                    self.short = Some(budget::deferred_bytes(value));
                    return false;
                }
                self.deferred.insert((due, device, slot_index), ());
            }
            if !wanted || (slot.recorded.0 != i64::MIN && since < interval) {
                if wanted || !same {
                    self.sources[source].outcomes.suppressed.fetch_add(1, Ordering::Relaxed);
                }
                if !wanted {
                    slot.undefer(&mut self.budget);
                }
                return false;
            }
        } else if same {
            return false;
        }
        let (more, less) = self.budget.change(slot, value);
        if more > less && !self.budget.fits(more - less) {
            self.short = Some(more - less);
            return false;
        }
        slot.undefer(&mut self.budget);
        self.budget.book((more, less));
        slot.series |= value.as_number().is_some();
        value.store(&mut slot.value);
        slot.recorded = received;
        // A key that stands twice in one document: the last one counts, the change is already listed.
        !again || !self.changes.iter().any(|(s, _)| *s == slot_index)
    }

    fn remove_unmentioned(&mut self, device: DeviceId, prefix: &str, received: Time) {
        let stamp = self.stamp;
        let names = &self.attributes;
        let below = |name: &str| {
            prefix.is_empty() || name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'))
        };
        for (index, slot) in self.devices[device].slots.iter_mut().enumerate() {
            if slot.stamp != stamp && slot.value != Value::Null && below(&names[slot.attr.0 as usize]) {
                slot.undefer(&mut self.budget);
                self.budget.book(self.budget.change(slot, ValueRef::Null));
                (slot.value, slot.recorded) = (Value::Null, received);
                self.changes.push((index as u32, 0));
            }
        }
    }

    /// Appends the listed changes as one record.
    fn append(
        &mut self,
        device: DeviceId,
        received: Time,
        device_time: Option<Time>,
        batch: &mut Batch,
    ) -> Outcome {
        if self.changes.is_empty() {
            return Outcome::Unchanged;
        }
        let slots = &self.devices[device].slots;
        let changes = self.changes.iter().map(|(slot, _)| {
            let slot = &slots[*slot as usize];
            (slot.attr, slot.value.borrow())
        });
        let envelope = Envelope { device_time, ..at(received) };
        batch.body.push(envelope, |out| stored::encode_changes(device, changes, out));
        Outcome::Recorded
    }

    fn quarantine(&self, source: usize, message: &Message, reason: &str, received: Time, batch: &mut Batch) {
        let fact = Fact::InputQuarantined {
            source: self.sources[source].name.to_string(),
            topic: String::from_utf8_lossy(&message.topic).into_owned(),
            reason: cut(reason, REASON_BYTES_MAX).to_string(),
            size: match message.fault {
                Some(WireFault::TooLarge { size }) => size,
                _ => message.payload.len() as u64,
            },
        };
        batch.body.push_fact(at(received), &fact);
        let kept = message.payload.len().min(self.limits.quarantine_payload_bytes);
        batch.quarantine.push((batch.body.len() - 1, message.payload[..kept].to_vec()));
    }

    /// Records the values held back by an interval that ends before `until`.
    pub fn flush_deferred(&mut self, until: Time, now: Time, batch: &mut Batch) {
        while let Some((&(due, device, slot_index), ())) = self.deferred.first_key_value() {
            if due > until {
                break;
            }
            self.deferred.pop_first();
            self.changes.clear();
            // A device that was forgotten meanwhile has nothing to be recorded.
            let owner = self.devices.get_mut(device);
            let Some(slot) = owner.and_then(|owner| owner.slots.get_mut(slot_index as usize)) else {
                continue;
            };
            let Some((_, value)) = slot.deferred.take_if(|(at, _)| *at == due) else { continue };
            self.budget.book((0, budget::deferred_bytes(value.borrow())));
            self.budget.book(self.budget.change(slot, value.borrow()));
            slot.series |= value.borrow().as_number().is_some();
            (slot.value, slot.recorded) = (value, now);
            self.changes.push((slot_index, 0));
            self.append(device, now, None, batch);
        }
    }

    /// Does what is due by time alone: values held back by an interval, and devices that have gone silent.
    pub fn tick(&mut self, now: Time, batch: &mut Batch) {
        self.flush_deferred(now, now, batch);
        for index in 0..self.devices.len() {
            let id = DeviceId(index as u32);
            let Some(device) = self.devices.get_mut(id) else { continue };
            let silence = self.sources.get(usize::from(device.source.0)).and_then(|s| s.silence);
            let silent = silence.is_some_and(|limit| now.micros_since(device.heard) > limit);
            if silent && device.retired.is_none() && device.availability != Availability::Offline {
                self.set_availability(id, Availability::Offline, AvailabilityCause::Silence, now, batch);
            }
        }
    }

    /// The wall clock was set from `expected` to `now`: intervals and silences that began before go on as if it had not
    /// been. What is later than the new time, or not later than the old one if that was earlier, was before.
    pub fn clock_stepped(&mut self, expected: Time, now: Time) {
        let by = now.0 - expected.0;
        let shift = |time: &mut Time| {
            let before = if by > 0 { *time <= expected } else { *time > now };
            if before {
                time.0 = time.0.saturating_add(by);
            }
            before
        };
        self.deferred.clear();
        for (id, device) in self.devices.iter_mut() {
            shift(&mut device.heard);
            for (index, slot) in device.slots.iter_mut().enumerate() {
                let shifted = slot.recorded.0 != i64::MIN && shift(&mut slot.recorded);
                if let Some((due, _)) = &mut slot.deferred {
                    due.0 += if shifted { by } else { 0 };
                    self.deferred.insert((*due, id, index as u32), ());
                }
            }
        }
    }

    /// When [`Observer::tick`] has something to do for a value held back.
    pub fn deferred_until(&self) -> Option<Time> {
        self.deferred.first_key_value().map(|((due, _, _), ())| *due)
    }
}

impl Limits {
    fn new(config: &Config) -> Limits {
        let limits = &config.limits;
        Limits {
            devices: limits.devices_max,
            attributes: limits.attributes_per_device_max,
            topics: limits.topics_max,
            text_bytes: limits.text_bytes_max,
            name_bytes: limits.name_bytes_max,
            quarantine_payload_bytes: limits.quarantine_payload_bytes_max,
        }
    }
}

impl Source {
    fn new(config: &SourceConfig, outcomes: Arc<Outcomes>) -> Result<Source, RuleError> {
        Ok(Source {
            name: config.name.as_str().into(),
            rules: Rules::compile(config)?,
            compiled: compile(&config.rules, CompiledRule::new)?,
            policies: compile(&config.policies, CompiledPolicy::new)?,
            silence: config.silence_timeout.map(|t| t.as_micros() as i64),
            topics: HashMap::new(),
            outcomes,
        })
    }
}

impl CompiledRule {
    fn new(index: usize, rule: &Rule) -> Result<CompiledRule, RuleError> {
        Ok(CompiledRule {
            json: JsonRule::new(rule, Zone::system()),
            actions: patterns(index, "actions", &rule.actions)?,
            ignore: patterns(index, "ignore", &rule.ignore)?,
            rule: rule.clone(),
        })
    }
}

impl CompiledPolicy {
    fn new(index: usize, policy: &Policy) -> Result<CompiledPolicy, RuleError> {
        Ok(CompiledPolicy {
            devices: patterns(index, "devices", &policy.devices)?,
            attributes: patterns(index, "attributes", &policy.attributes)?,
            policy: policy.clone(),
        })
    }
}

fn compile<T, C>(
    items: &[T],
    compile: impl Fn(usize, &T) -> Result<C, RuleError>,
) -> Result<Vec<C>, RuleError> {
    items.iter().enumerate().map(|(index, item)| compile(index, item)).collect()
}

fn patterns(index: usize, field: &'static str, texts: &[String]) -> Result<Patterns, RuleError> {
    let fault =
        |cause: PatternError| RuleError { index, field, text: cause.text.clone(), cause: cause.into() };
    Patterns::parse(texts).map_err(fault)
}

fn at(received: Time) -> Envelope {
    Envelope { wall: received, ..Envelope::default() }
}

/// The first bytes of a text, as whole characters.
fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
