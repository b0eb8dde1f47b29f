//! What time alone does to edge nodes: reorder timeouts, requests for births, changes of connection.

use std::sync::atomic::Ordering;

use fieldlog_projections::Time;
use fieldlog_projections::fact::Fact;

use super::EdgeNode;
use crate::message::Publication;
use crate::observe::{Observer, RecordBatch, at};
use crate::sparkplug::command;

/// Maximum edge nodes that are asked for their births in one tick, because of time alone.
const ASKED_PER_TICK: usize = 20;
/// A connection without any message for this long, in microseconds, is still noticed.
const QUIET: i64 = 10_000_000;

impl Observer {
    /// Asks an edge node for its births if that is due; returns whether it did.
    pub(super) fn ask(&mut self, source: usize, name: &str, node: &mut EdgeNode, now: Time) -> bool {
        let outcomes = &self.sources[source].outcomes;
        if outcomes.outbox.connection().is_none() {
            return false;
        }
        let Some(reason) = node.session.ask(now) else { return false };
        let Some((group, node)) = name.split_once('/') else { return false };
        let (topic, payload) = command::rebirth(group, node, now);
        match outcomes.outbox.publish(Publication::untracked(topic, payload)) {
            Ok(()) => {
                outcomes.sparkplug.asked(reason);
                tracing::debug!("edge node {name} is asked for its births: {}", reason.label());
            }
            Err(error) => tracing::debug!("edge node {name} cannot be asked for its births: {error}"),
        }
        true
    }

    /// A message has arrived on this connection of a source.
    pub(in crate::observe) fn came_by(
        &mut self,
        source: usize,
        connection: u64,
        now: Time,
        batch: &mut RecordBatch,
    ) {
        let Some(Some(host)) = self.hosts.get_mut(source) else { return };
        if host.connection == connection {
            return;
        }
        host.connection = connection;
        self.each_node(source, |observer, _, node| {
            let held = node.session.reconnected(now);
            observer.apply_held(node, source, held, now, batch);
        });
    }

    /// Does what is due for edge nodes.
    pub(in crate::observe) fn tick_hosts(&mut self, now: Time, batch: &mut RecordBatch) {
        for source in 0..self.hosts.len() {
            let Some(Some(host)) = self.hosts.get_mut(source) else { continue };
            let timeout = host.reorder_timeout;
            host.due = None;
            let open = self.sources[source].outcomes.outbox.connection();
            if let Some((connection, since)) = open
                && now.micros_since(since) >= QUIET
            {
                self.came_by(source, connection, now, batch);
            }
            let before = batch.records.len();
            let (mut asked, mut due) = (0, None);
            let [mut online, mut stale, mut offline] = [0, 0, 0];
            self.each_node(source, |observer, name, node| {
                let held = node.session.elapse(now, timeout);
                if !held.is_empty() {
                    observer.sources[source].outcomes.sparkplug.gaps.fetch_add(1, Ordering::Relaxed);
                    observer.apply_held(node, source, held, now, batch);
                }
                due = due.into_iter().chain(node.session.due(timeout)).min();
                if asked < ASKED_PER_TICK && observer.ask(source, name, node, now) {
                    asked += 1;
                }
                *match (node.session.is_stale(), node.session.is_alive()) {
                    (true, _) => &mut stale,
                    (false, true) => &mut online,
                    (false, false) => &mut offline,
                } += 1;
            });
            if let Some(Some(host)) = self.hosts.get_mut(source) {
                host.wait_until(due);
            }
            let outcomes = &self.sources[source].outcomes;
            outcomes.events.fetch_add((batch.records.len() - before) as u64, Ordering::Relaxed);
            outcomes.sparkplug.note_nodes(online, stale, offline);
        }
    }

    /// The agent is about to stop: waiting messages are processed as they are, and the state of each session is
    /// recorded.
    pub fn pause(&mut self, now: Time, batch: &mut RecordBatch) {
        for source in 0..self.hosts.len() {
            self.each_node(source, |observer, name, node| {
                let held = node.session.give_up();
                observer.apply_held(node, source, held, now, batch);
                let device = observer.own_device(source, name);
                if let (Some(device), Some((birth, seq))) = (device, node.session.noted()) {
                    let fact = Fact::SessionNoted { device, birth, seq: Some(seq) };
                    batch.records.push_fact(at(now), &fact);
                }
            });
        }
    }

    /// The wall clock was stepped.
    pub(in crate::observe) fn hosts_clock_stepped(&mut self, now: Time) {
        for host in self.hosts.iter_mut().flatten() {
            host.nodes.values_mut().for_each(|node| node.session.clock_stepped(now));
            host.due = host.due.map(|_| now);
        }
    }

    /// When a reorder timeout ends.
    pub(in crate::observe) fn hosts_due(&self) -> Option<Time> {
        self.hosts.iter().flatten().filter_map(|host| host.due).min()
    }

    fn each_node(&mut self, source: usize, mut act: impl FnMut(&mut Observer, &str, &mut EdgeNode)) {
        let Some(mut host) = self.hosts.get_mut(source).and_then(Option::take) else { return };
        for (name, node) in &mut host.nodes {
            act(self, name, node);
            self.rebook(name, node);
        }
        self.hosts[source] = Some(host);
    }
}
