//! A brake on the quarantine: of the inputs of a topic that cannot be read, the first few of an hour are recorded one by one,
//! the others as one summary for each interval.
//!
//! What is summarised is acknowledged and, until its summary is recorded, in memory only. A clean stop records it; a crash
//! loses the count and the newest payload of an interval at most.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use fieldlog_projections::{Fact, Time};

use super::redact::{REDACTED, without_quotes};
use super::{Observer, REASON_BYTES_MAX, RecordBatch, at, cut};
use crate::message::{Message, WireFault};

/// So many inputs of a topic are recorded one by one within this time, in microseconds.
const PERIOD: i64 = 3_600_000_000;
/// At least so much time is between two summaries of a topic, in microseconds.
const INTERVAL: i64 = 600_000_000;
/// Topics that are counted each by itself; those beyond are counted together, for each source.
const TOPICS_MAX: usize = 1_000;
/// Longest topic that is counted by itself.
const TOPIC_BYTES_MAX: usize = 1_024;
/// What is kept of the newest payload until its summary is recorded.
const PAYLOAD_BYTES_MAX: usize = 4_096;

/// What has come lately that could not be read.
#[derive(Debug, Default)]
pub(super) struct Brake {
    topics: HashMap<(usize, Box<[u8]>), Lately>,
}

/// Of one topic.
#[derive(Debug)]
struct Lately {
    /// When the period began.
    begun: Time,
    /// Recorded one by one since.
    recorded: usize,
    /// Not recorded yet.
    summary: Option<Summary>,
}

#[derive(Debug)]
struct Summary {
    reason: String,
    size: u64,
    count: u64,
    first: Time,
    last: Time,
    payload: Vec<u8>,
}

impl Brake {
    /// The place where inputs of this topic are counted.
    fn lately(&mut self, source: usize, topic: &[u8], now: Time) -> &mut Lately {
        let known = |brake: &Brake, topic: &[u8]| brake.topics.contains_key(&(source, Box::from(topic)));
        let alone = topic.len() <= TOPIC_BYTES_MAX && (self.topics.len() < TOPICS_MAX || known(self, topic));
        let key = (source, Box::from(if alone { topic } else { b"" }));
        let lately = self.topics.entry(key);
        let lately = lately.or_insert(Lately { begun: now, recorded: 0, summary: None });
        if !within(lately.begun, PERIOD, now) {
            (lately.begun, lately.recorded) = (now, 0);
        }
        lately
    }
}

impl Observer {
    /// Puts a message into quarantine, or counts it for a summary.
    pub(super) fn quarantine(
        &mut self,
        source: usize,
        message: &Message,
        reason: &str,
        received: Time,
        batch: &mut RecordBatch,
    ) {
        let max = self.limits.quarantine_per_topic;
        let lately = self.brake.lately(source, &message.topic, received);
        if max == 0 || lately.recorded < max {
            lately.recorded += 1;
            return self.quarantine_alone(source, message, reason, received, batch);
        }
        self.sources[source].outcomes.summarised.fetch_add(1, Ordering::Relaxed);
        let (payload, reason) = self.kept(source, message, reason, PAYLOAD_BYTES_MAX);
        let lately = self.brake.lately(source, &message.topic, received);
        let count = lately.summary.as_ref().map_or(0, |summary| summary.count);
        lately.summary = Some(Summary {
            reason,
            size: size(message),
            count: count + 1,
            first: lately.summary.as_ref().map_or(received, |summary| summary.first),
            last: received,
            payload,
        });
    }

    /// Puts a message into quarantine, however many there were before.
    pub(super) fn quarantine_alone(
        &self,
        source: usize,
        message: &Message,
        reason: &str,
        received: Time,
        batch: &mut RecordBatch,
    ) {
        let (payload, reason) = self.kept(source, message, reason, usize::MAX);
        let fact = Fact::InputQuarantined {
            source: self.sources[source].name.to_string(),
            topic: String::from_utf8_lossy(&message.topic).into_owned(),
            reason,
            size: size(message),
        };
        batch.records.push_fact(at(received), &fact);
        batch.quarantine.push((batch.records.len() - 1, payload));
    }

    /// What is kept of a payload and of the reason: nothing that a rule of its source redacts, and no more than the limits.
    fn kept(&self, source: usize, message: &Message, reason: &str, bytes_max: usize) -> (Vec<u8>, String) {
        let (source, payload) = (&self.sources[source], &message.payload[..]);
        // A payload that is one value has no names in it.
        let secret = |topic: &str| {
            let mut rules = source.rules.find(topic);
            rules.any(|found| {
                found.attribute.fixed().is_some_and(|name| source.compiled[found.rule].secrets.has_name(name))
            })
        };
        let one = !source.secrets.is_empty() && std::str::from_utf8(&message.topic).is_ok_and(secret);
        let bytes_max = self.limits.quarantine_payload_bytes.min(bytes_max);
        let (kept, hidden) =
            if one { (REDACTED.into(), true) } else { source.secrets.payload(payload, bytes_max) };
        let reason = if hidden { without_quotes(reason) } else { reason.into() };
        (kept, cut(&reason, REASON_BYTES_MAX).to_owned())
    }

    /// Records the summaries that are due, all of them at a stop, and forgets topics that have been good since.
    pub(super) fn summarise(&mut self, all: bool, now: Time, batch: &mut RecordBatch) {
        // In an order that does not depend on the process.
        let mut due: Vec<_> =
            self.brake.topics.iter().filter(|(_, lately)| lately.is_due(all, now)).collect();
        due.sort_unstable_by_key(|(key, lately)| {
            (lately.summary.as_ref().map(|of| of.first), (*key).clone())
        });
        let due: Vec<_> = due.into_iter().map(|(key, _)| key.clone()).collect();
        for key in due {
            let Some(summary) = self.brake.topics.get_mut(&key).and_then(|lately| lately.summary.take())
            else {
                continue;
            };
            let (source, topic) = key;
            let Some(source) = self.sources.get(source) else { continue };
            let fact = Fact::QuarantineSummarised {
                source: source.name.to_string(),
                topic: String::from_utf8_lossy(&topic).into_owned(),
                reason: summary.reason,
                size: summary.size,
                count: summary.count,
                first: summary.first,
                last: summary.last,
            };
            batch.records.push_fact(at(now), &fact);
            batch.quarantine.push((batch.records.len() - 1, summary.payload));
        }
        self.brake.topics.retain(|_, lately| lately.summary.is_some() || within(lately.begun, PERIOD, now));
    }

    /// The wall clock was set: periods go on as if it had not been. A summary that is not within its interval any more, by the
    /// clock, is recorded with the next look at the time.
    pub(super) fn brake_stepped(&mut self, by: i64) {
        for lately in self.brake.topics.values_mut() {
            lately.begun.0 = lately.begun.0.saturating_add(by);
        }
    }
}

/// Of a clock that was set back, any time may have passed.
fn within(begun: Time, length: i64, now: Time) -> bool {
    begun <= now && now.micros_since(begun) < length
}

fn size(message: &Message) -> u64 {
    match message.fault {
        Some(WireFault::TooLarge { size }) => size,
        _ => message.payload.len() as u64,
    }
}

impl Lately {
    fn is_due(&self, all: bool, now: Time) -> bool {
        let over = |of: &Summary| all || !within(of.first, INTERVAL, now);
        self.summary.as_ref().is_some_and(over)
    }
}
