//! Messages to facts: which device, which attributes, and whether anything has changed.
//!
//! The observer is ahead of the view by the batch that is being built. It is never rolled back, since a failed commit
//! ends the process.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::{AttrId, DeviceId, Seq, Time, View};

use crate::config::Config;
use crate::config::rules::RuleError;
use crate::memory;
use crate::message::{MALFORMED, Message, SourceId, WireFault};
use fieldlog_rules::decode::{Values, Zone};

/// Maximum length of a quarantine reason, in bytes. A parser may quote input of any length.
const REASON_BYTES_MAX: usize = 1_024;

mod administer;
mod again;
mod apply;
mod brake;
mod budget;
mod clock;
mod describe;
mod device;
mod identity;
mod keep_alive;
mod namespaces;
mod order;
mod outcomes;
mod policy;
mod redact;
mod registry;
mod removed;
mod room;
mod roster;
mod source;
mod sparkplug;
#[cfg(test)]
mod tests;
mod topics;
mod values;
mod watch;

pub use administer::Declined;
pub use again::Kept;
use budget::Budget;
pub use budget::StateUse;
use describe::Announcers;
use identity::Ids;
use namespaces::Namespaces;
pub use outcomes::{Heard, Outcomes, SparkplugCounts};
use outcomes::{Refusal, Verdict};
use roster::Roster;
use source::Source;
pub use watch::Report;

/// Records and quarantined payloads waiting for a commit.
#[derive(Debug, Default)]
pub struct RecordBatch {
    /// The records.
    pub records: RecordBuffer,
    /// Payloads for the quarantine, by the index of their record.
    pub quarantine: Vec<(usize, Vec<u8>)>,
    /// Positions of quarantined inputs that are dealt with by these records.
    pub resolved: Vec<Seq>,
}

/// Turns messages into facts.
#[derive(Debug)]
pub struct Observer {
    sources: Vec<Source>,
    devices: Roster,
    ids: Ids,
    namespaces: Namespaces,
    attributes: Vec<Arc<str>>,
    attribute_ids: HashMap<Arc<str>, AttrId>,
    /// Retired devices, by the position of their retirement: the first is forgotten first.
    retired: BTreeSet<(Seq, DeviceId)>,
    budget: Budget,
    /// Bytes that were missing for the value that was just refused.
    missing_bytes: Option<usize>,
    /// The last durable record.
    head: Seq,
    /// All required sinks have acknowledged everything up to here.
    acked: Seq,
    heard: Arc<Heard>,
    values: Values,
    orders: order::Orders,
    blind: redact::Blind,
    brake: brake::Brake,
    changes: Vec<(u32, u32)>,
    stamp: u32,
    /// The current message is new, not retained: a sign of life.
    alive: bool,
    /// The actions of the current message were already recorded.
    repeated: bool,
    topics: usize,
    limits: Limits,
    /// The Sparkplug edge nodes of each source that is a host application.
    hosts: Vec<Option<sparkplug::Host>>,
    announcers: Announcers,
    /// Devices whose configured descriptions must be looked up, because something about them is new.
    undescribed: Vec<DeviceId>,
    /// Values that watched devices have reported.
    reports: Vec<Report>,
    /// Values held back by an interval, by its end.
    deferred: BTreeMap<(Time, DeviceId, u32), ()>,
    /// Those of them whose messages wait for a commit that records them; some may not be held back any more.
    unrecorded: BTreeSet<(DeviceId, u32)>,
}

#[derive(Debug)]
struct Limits {
    devices: usize,
    attributes: usize,
    topics: usize,
    text_bytes: usize,
    name_bytes: usize,
    quarantine_payload_bytes: usize,
    quarantine_per_topic: usize,
}

impl Observer {
    /// Continues from a view. `outcomes` are the counters of each source; silence timeouts start again at `now`.
    ///
    /// # Errors
    /// [`RuleError`] for invalid rules, which a checked configuration does not have.
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
            ids: Ids::default(),
            namespaces: Namespaces::default(),
            attributes: Vec::new(),
            attribute_ids: HashMap::new(),
            retired: BTreeSet::new(),
            budget: Budget::default(),
            missing_bytes: None,
            head: view.seq,
            acked: view.seq,
            heard,
            values: Values::new(config.limits.text_bytes_max, config.limits.name_bytes_max),
            orders: order::Orders::default(),
            blind: redact::Blind::default(),
            brake: brake::Brake::default(),
            changes: Vec::new(),
            stamp: 0,
            alive: false,
            repeated: false,
            topics: 0,
            limits: Limits::new(config),
            hosts: Vec::new(),
            announcers: Announcers::default(),
            undescribed: Vec::new(),
            reports: Vec::new(),
            deferred: BTreeMap::new(),
            unrecorded: BTreeSet::new(),
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
        observer.count_children();
        observer.restore_sessions(view);
        observer.heard.resize(observer.devices.len());
        observer.count();
        observer.undescribed = observer.devices.iter().map(|(id, _)| id).collect();
        Ok(observer)
    }

    /// Applies a new configuration; the state of devices stays.
    ///
    /// # Errors
    /// As [`Observer::new`]; nothing is changed then.
    pub fn configure(&mut self, config: &Config, outcomes: &[Arc<Outcomes>]) -> Result<(), RuleError> {
        let namespaces = &mut self.namespaces;
        let sources = config.sources.iter().zip(outcomes).map(|(s, o)| Source::new(s, o.clone(), namespaces));
        self.sources = sources.collect::<Result<_, _>>()?;
        self.limits = Limits::new(config);
        self.values = Values::new(config.limits.text_bytes_max, config.limits.name_bytes_max);
        self.topics = 0;
        let hosts: Vec<_> = config.sources.iter().map(|source| source.sparkplug.as_ref()).collect();
        self.configure_hosts(&hosts);
        let ids: Vec<DeviceId> = self.devices.iter().map(|(id, _)| id).collect();
        for id in ids.iter().copied() {
            self.find_policies(id);
            // Rules set again what is redacted, as their topics are learnt.
            self.devices[id].slots.iter_mut().for_each(|slot| slot.redact = false);
        }
        self.undescribed = ids;
        // The rules may lead to other devices now.
        self.announcers = Announcers::default();
        let max = config.limits.state_bytes_max.unwrap_or_else(memory::state_bytes_max);
        self.budget.configure(max, config.folds());
        self.count();
        Ok(())
    }

    /// Sets the time zone of times without an offset, until the next configuration.
    pub fn set_zone(&mut self, zone: Zone) {
        self.sources
            .iter_mut()
            .flat_map(|source| &mut source.compiled)
            .for_each(|rule| rule.json.set_zone(zone));
    }

    /// Processes one message: appends its facts to the batch, and counts it.
    pub fn observe(&mut self, source: SourceId, message: &Message, received: Time, batch: &mut RecordBatch) {
        let index = usize::from(source.0);
        let Some(outcomes) = self.sources.get(index).map(|s| s.outcomes.clone()) else { return };
        let (before, quarantined) = (batch.records.len(), batch.quarantine.len());
        let verdict = match self.interpret(index, message, received, batch) {
            Ok(verdict) => verdict,
            Err(Refusal(reason)) => {
                self.quarantine(index, message, &reason, received, batch);
                Verdict::Quarantined
            }
        };
        if !self.undescribed.is_empty() {
            self.describe_undescribed(received, batch);
        }
        let mut events = batch.records.len() - before;
        if let Verdict::Quarantined = verdict {
            // What other rules, or other documents of the message, have made of it.
            events -= batch.quarantine.len() - quarantined;
        }
        outcomes.count(verdict, message.retain, events);
    }

    /// Notes the connection of a delivery: on a new one, messages may not follow the previous ones.
    pub fn connection(&mut self, source: SourceId, number: u64, now: Time, batch: &mut RecordBatch) {
        self.came_by(usize::from(source.0), number, now, batch);
    }

    /// Quarantines a message without decoding it.
    pub fn refuse(
        &mut self,
        source: SourceId,
        message: &Message,
        reason: &str,
        received: Time,
        batch: &mut RecordBatch,
    ) {
        let index = usize::from(source.0);
        let Some(outcomes) = self.sources.get(index).map(|s| s.outcomes.clone()) else { return };
        self.quarantine_alone(index, message, reason, received, batch);
        outcomes.count(Verdict::Quarantined, message.retain, 0);
    }

    fn interpret(
        &mut self,
        source: usize,
        message: &Message,
        received: Time,
        batch: &mut RecordBatch,
    ) -> Result<Verdict, Refusal> {
        match message.fault {
            Some(WireFault::TooLarge { size }) => {
                return Err(Refusal(format!(
                    "a packet of {size} bytes; packet_bytes_max of the source is smaller"
                )));
            }
            Some(WireFault::Malformed(why)) => return Err(Refusal(format!("{MALFORMED}: {why}"))),
            None => {}
        }
        self.alive = !message.retain;
        if self.is_for_host(source, &message.topic) {
            return self.take_sparkplug(source, message, received, batch);
        }
        // The topic is taken out and put back, so that `self` is free meanwhile.
        let known = self.sources[source].topics.get_mut(&message.topic[..]).map(std::mem::take);
        let mut topic = match known {
            Some(topic) => topic,
            None => self.learn_topic(source, message)?,
        };
        let result = self.apply_rules(source, &mut topic, message, received, batch);
        if let Some(slot) = self.sources[source].topics.get_mut(&message.topic[..]) {
            *slot = topic;
        }
        if !self.budget.topics_fit(0) {
            self.forget_topics();
        }
        result
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
            quarantine_per_topic: limits.quarantine_per_topic_max,
        }
    }
}

fn at(received: Time) -> Envelope {
    Envelope { wall: received, ..Envelope::default() }
}

/// The beginning of a text, in whole characters.
fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
