//! Sparkplug messages to facts: the sessions of edge nodes, and their devices. [`metrics`] handles their metrics,
//! [`time`] what happens through time alone.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use fieldlog_projections::chunk::Envelope;
use fieldlog_projections::fact::{Availability, AvailabilityCause, Fact};
use fieldlog_projections::{DeviceId, Time, View};

use super::outcomes::{Refusal, Verdict, topic_text};
use super::{Observer, RecordBatch, at, budget};
use crate::config::SparkplugConfig;
use crate::message::Message;
use crate::sparkplug::payload::Certificate;
use crate::sparkplug::session::{NodeSession, Reason, Taken, This, Trust};
use crate::sparkplug::topic::{SparkplugTopic, Verb, is_sparkplug};
use fieldlog_rules::decode;
use table::Table;

mod metrics;
mod properties;
mod table;
mod time;

/// The edge nodes of a source.
#[derive(Debug, Default)]
pub(super) struct Host {
    groups: Vec<String>,
    /// In microseconds.
    reorder_timeout: i64,
    /// By `group/node`.
    nodes: HashMap<Box<str>, EdgeNode>,
    /// The connection of the last message.
    connection: u64,
    /// When the first reorder timeout ends.
    due: Option<Time>,
}

#[derive(Debug, Default)]
pub(super) struct EdgeNode {
    session: NodeSession<Message>,
    table: Table,
    /// The birth that is recorded in the log.
    noted: Option<u64>,
    /// Bytes counted in the budget.
    bytes: usize,
}

impl Host {
    fn configure(&mut self, config: &SparkplugConfig) {
        self.groups.clone_from(&config.groups);
        self.reorder_timeout = i64::try_from(config.reorder_timeout.as_micros()).unwrap_or(i64::MAX);
    }

    fn takes(&self, group: &str) -> bool {
        self.groups.iter().any(|wanted| wanted == "+" || wanted == group)
    }

    fn wait_until(&mut self, due: Option<Time>) {
        self.due = self.due.into_iter().chain(due).min();
    }

    /// Bytes counted in the budget for its edge nodes.
    pub(super) fn bytes(&self) -> usize {
        self.nodes.values().map(|node| node.bytes).sum()
    }
}

/// A Sparkplug edge node without metrics.
fn edge_node_bytes(name: &str) -> usize {
    budget::block(name.len()) + (16 + size_of::<EdgeNode>()) * budget::DOUBLING
}

impl EdgeNode {
    fn count(&self, name: &str) -> usize {
        edge_node_bytes(name) + self.session.held_bytes() + self.table.bytes()
    }
}

/// One message with its parsed topic.
struct Sparkplug<'a> {
    source: usize,
    topic: SparkplugTopic<'a>,
    message: &'a Message,
    received: Time,
}

impl Sparkplug<'_> {
    /// `group/node`, or `group/node/device`.
    fn name(&self) -> String {
        let SparkplugTopic { group, node, device, .. } = self.topic;
        match device {
            None => format!("{group}/{node}"),
            Some(device) => format!("{group}/{node}/{device}"),
        }
    }
}

impl Observer {
    /// Updates which sources are Sparkplug hosts; the state of edge nodes stays.
    pub(super) fn configure_hosts(&mut self, configs: &[Option<&SparkplugConfig>]) {
        let mut before = std::mem::take(&mut self.hosts).into_iter();
        for config in configs {
            let host = before.next().flatten();
            self.hosts.push(config.map(|config| {
                let mut host = host.unwrap_or_default();
                host.configure(config);
                host
            }));
        }
    }

    /// Continues the sessions of a view.
    pub(super) fn restore_sessions(&mut self, view: &View) {
        for (id, session) in view.sessions.iter() {
            let Some(device) = view.devices.get(id) else { continue };
            let node_id = device.parent.unwrap_or(id);
            let Some(node) = view.devices.get(node_id) else { continue };
            let source = self.sources.iter().position(|source| *source.name == *node.source);
            let Some(host) = source.and_then(|source| self.hosts.get_mut(source)?.as_mut()) else { continue };
            let entry = host.nodes.entry(Box::from(node.called())).or_default();
            let alive = |device: &fieldlog_projections::Device| device.availability == Availability::Online;
            if id == node_id {
                entry.session = NodeSession::restored(alive(device), session.birth, session.seq, view.time);
                entry.noted = session.birth;
            }
            entry.table.restore(id, session.metrics.clone(), alive(device));
        }
        for (name, node) in self.hosts.iter_mut().flatten().flat_map(|host| &mut host.nodes) {
            node.bytes = node.count(name);
        }
    }

    /// Whether a message is a Sparkplug message, on a source that is a host.
    pub(super) fn is_for_host(&self, source: usize, topic: &[u8]) -> bool {
        is_sparkplug(topic) && self.hosts.get(source).is_some_and(Option::is_some)
    }

    /// Processes a Sparkplug message.
    pub(super) fn take_sparkplug(
        &mut self,
        source: usize,
        message: &Message,
        received: Time,
        batch: &mut RecordBatch,
    ) -> Result<Verdict, Refusal> {
        let topic = topic_text(&message.topic)?;
        // The namespace also has commands and the STATE of other hosts, published by others.
        let Some(topic) = SparkplugTopic::parse(topic) else { return Ok(Verdict::Ignored) };
        let Some(mut host) = self.hosts[source].take() else { return Ok(Verdict::Ignored) };
        let taken = Sparkplug { source, topic, message, received };
        let result = self.take_in(&mut host, &taken, batch);
        self.hosts[source] = Some(host);
        result
    }

    fn take_in(
        &mut self,
        host: &mut Host,
        taken: &Sparkplug<'_>,
        batch: &mut RecordBatch,
    ) -> Result<Verdict, Refusal> {
        let SparkplugTopic { group, node: name, .. } = taken.topic;
        // Certificates are never retained: a retained one could be of any age.
        if !host.takes(group) || taken.message.retain {
            return Ok(Verdict::Ignored);
        }
        decode::check_name(&taken.name(), self.limits.name_bytes)?;
        let key = format!("{group}/{name}");
        if !host.nodes.contains_key(&*key) {
            self.room_for_node(host.nodes.len(), &key)?;
            let node = EdgeNode { bytes: edge_node_bytes(&key), ..EdgeNode::default() };
            self.budget.book((node.bytes, 0));
            host.nodes.insert(key.as_str().into(), node);
        }
        let Some(node) = host.nodes.get_mut(&*key) else { return Ok(Verdict::Ignored) };
        let result = self.sequence(node, taken, batch);
        self.rebook(&key, node);
        let due = node.session.due(host.reorder_timeout);
        self.ask(taken.source, &key, node, taken.received);
        host.wait_until(due);
        result
    }

    /// Passes a message to the session in order.
    fn sequence(
        &mut self,
        node: &mut EdgeNode,
        taken: &Sparkplug<'_>,
        batch: &mut RecordBatch,
    ) -> Result<Verdict, Refusal> {
        let payload = match Certificate::decode(taken.message.payload.clone()) {
            Ok(payload) => payload,
            Err(fault) => {
                node.session.doubt(Reason::InvalidPayload);
                return Err(fault.into());
            }
        };
        let (now, seq) = (taken.received, payload.seq);
        // Waiting messages belong to a session that ends with its death, or whose current values come with another
        // birth.
        let waiting = node.session.held();
        let dropped = |observer: &Observer| {
            let counts = &observer.sources[taken.source].outcomes.sparkplug;
            counts.dropped.fetch_add(waiting as u64, Ordering::Relaxed);
        };
        let steps = match (taken.topic.verb, taken.topic.device) {
            (Verb::Death, None) => {
                let verdict = self.node_died(node, taken, payload.birth(), batch);
                if !node.session.is_alive() {
                    dropped(self);
                }
                return Ok(verdict);
            }
            (Verb::Birth, None) => {
                dropped(self);
                node.session.born(payload.birth(), seq, now)
            }
            _ => node.session.take(seq, now, || hold(taken.message)),
        };
        let Taken { ended, this, then } = steps;
        if ended {
            self.devices_offline(&node.table, now, batch);
        }
        let counts = &self.sources[taken.source].outcomes.sparkplug;
        let verdict = match this {
            This::Apply(trust) => self.apply_certificate(node, taken, payload, trust, batch),
            This::Held => {
                counts.reordered.fetch_add(1, Ordering::Relaxed);
                Ok(Verdict::Recorded)
            }
            This::Drop => {
                counts.dropped.fetch_add(1, Ordering::Relaxed);
                Ok(Verdict::Ignored)
            }
        };
        self.apply_held(node, taken.source, then, now, batch);
        verdict
    }

    /// Processes messages that had waited.
    fn apply_held(
        &mut self,
        node: &mut EdgeNode,
        source: usize,
        held: Vec<(Message, Trust)>,
        now: Time,
        batch: &mut RecordBatch,
    ) {
        // They came before what they are processed after: none is evidence for a command.
        let reports = self.reports.len();
        for (message, trust) in held {
            let topic = std::str::from_utf8(&message.topic).ok().and_then(SparkplugTopic::parse);
            let payload = Certificate::decode(message.payload.clone());
            // They were parsed successfully on arrival.
            let (Some(topic), Ok(payload)) = (topic, payload) else { continue };
            let taken = Sparkplug { source, topic, message: &message, received: now };
            if let Err(Refusal(reason)) = self.apply_certificate(node, &taken, payload, trust, batch) {
                self.quarantine(source, &message, &reason, now, batch);
            }
        }
        self.reports.truncate(reports);
    }

    fn apply_certificate(
        &mut self,
        node: &mut EdgeNode,
        taken: &Sparkplug<'_>,
        payload: Certificate,
        trust: Trust,
        batch: &mut RecordBatch,
    ) -> Result<Verdict, Refusal> {
        let excluded = std::str::from_utf8(&taken.message.topic)
            .is_ok_and(|topic| self.sources[taken.source].rules.excluded(topic));
        if excluded {
            return Ok(Verdict::Ignored);
        }
        let name = taken.name();
        let known = self.own_device(taken.source, &name);
        match (taken.topic.verb, known) {
            (Verb::Birth, _) => self.certified(node, taken, &name, payload, batch),
            (Verb::Data, Some(device))
                if node.table.is_born(device) && self.devices[device].retired.is_none() =>
            {
                self.sign_of_life(device, taken.received, batch);
                self.reported(node, taken, device, payload, trust, batch)
            }
            (Verb::Data, _) => {
                node.session.miss(Reason::NoBirth);
                self.sources[taken.source].outcomes.sparkplug.dropped.fetch_add(1, Ordering::Relaxed);
                Ok(Verdict::Ignored)
            }
            (Verb::Death, Some(device)) if node.table.member(device).is_some() => {
                self.sources[taken.source].outcomes.sparkplug.deaths.fetch_add(1, Ordering::Relaxed);
                node.table.died(device);
                let told = node.table.told(device);
                let died = self.own_time(taken.source, device, payload.timestamp, told);
                Ok(self.offline(device, taken.received, died, batch))
            }
            (Verb::Death, _) => Ok(Verdict::Ignored),
        }
    }

    fn node_died(
        &mut self,
        node: &mut EdgeNode,
        taken: &Sparkplug<'_>,
        birth: Option<u64>,
        batch: &mut RecordBatch,
    ) -> Verdict {
        let counts = &self.sources[taken.source].outcomes.sparkplug;
        if !node.session.died(birth) {
            counts.stale_deaths.fetch_add(1, Ordering::Relaxed);
            return Verdict::Ignored;
        }
        counts.deaths.fetch_add(1, Ordering::Relaxed);
        let before = batch.records.len();
        if let Some(device) = self.own_device(taken.source, &taken.name()) {
            self.offline(device, taken.received, None, batch);
        }
        self.devices_offline(&node.table, taken.received, batch);
        node.table.all_died();
        if batch.records.len() > before { Verdict::Recorded } else { Verdict::Unchanged }
    }

    /// All devices of an edge node go offline, at the time of this host.
    fn devices_offline(&mut self, table: &Table, received: Time, batch: &mut RecordBatch) {
        for device in table.devices() {
            if self.devices.get_mut(device).is_some_and(|device| device.parent.is_some()) {
                self.offline(device, received, None, batch);
            }
        }
    }

    fn offline(
        &mut self,
        id: DeviceId,
        received: Time,
        device_time: Option<Time>,
        batch: &mut RecordBatch,
    ) -> Verdict {
        let device = &mut self.devices[id];
        let known = device.availability == Availability::Offline && device.cause == AvailabilityCause::Topic;
        if known || device.retired.is_some() {
            return Verdict::Unchanged;
        }
        (device.availability, device.cause) = (Availability::Offline, AvailabilityCause::Topic);
        let fact = Fact::AvailabilityChanged {
            device: id,
            availability: Availability::Offline,
            cause: AvailabilityCause::Topic,
        };
        batch.records.push_fact(Envelope { device_time, ..at(received) }, &fact);
        Verdict::Recorded
    }

    fn rebook(&mut self, name: &str, node: &mut EdgeNode) {
        let bytes = node.count(name);
        if bytes != node.bytes {
            self.budget.book((bytes, node.bytes));
            node.bytes = bytes;
        }
    }

    fn room_for_node(&mut self, nodes: usize, name: &str) -> Result<(), Refusal> {
        if nodes >= self.limits.devices {
            return Err(Refusal(format!(
                "edge node {name} would be number {}; limits.devices_max is {}",
                nodes + 1,
                self.limits.devices
            )));
        }
        self.room_for_metrics(edge_node_bytes(name), name)
    }

    /// The member of a table was heard.
    fn sign_of_life(&mut self, id: DeviceId, received: Time, batch: &mut RecordBatch) {
        let device = &mut self.devices[id];
        device.heard = received;
        self.heard.set(id, received);
        if device.availability == Availability::Offline && device.cause == AvailabilityCause::Silence {
            self.set_availability(id, Availability::Online, AvailabilityCause::Silence, received, batch);
        }
    }
}

/// The copy of a message that waits, so that it does not keep its whole read buffer alive.
fn hold(message: &Message) -> Option<(Message, usize)> {
    if message.pkid.is_some() {
        return None;
    }
    let (topic, payload) = (Bytes::copy_from_slice(&message.topic), Bytes::copy_from_slice(&message.payload));
    let bytes = topic.len() + payload.len() + size_of::<Message>();
    Some((Message { topic, payload, ..message.clone() }, bytes))
}
