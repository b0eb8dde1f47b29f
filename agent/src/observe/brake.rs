//! A brake on the quarantine: the first few undecodable inputs of a topic in an hour are recorded individually, further
//! ones in one summary per interval.
//!
//! Summarised inputs are acknowledged and are only in memory until their summary is recorded. A clean stop records it;
//! a crash loses at most the count and the newest payload of one interval.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use fieldlog_projections::{Fact, Time};

use super::redact::{REDACTED, without_quotes};
use super::{Observer, REASON_BYTES_MAX, RecordBatch, at, cut};
use crate::message::{Message, WireFault};

/// The period, in microseconds, for which individually recorded inputs of a topic are limited.
const PERIOD: i64 = 3_600_000_000;
/// Minimum time between two summaries of a topic, in microseconds.
const INTERVAL: i64 = 600_000_000;
/// Topics that are counted separately; further ones are counted together, per source.
const TOPICS_MAX: usize = 1_000;
/// Maximum length of a topic that is counted separately.
const TOPIC_BYTES_MAX: usize = 1_024;
/// Bytes kept of the newest payload until its summary is recorded.
const PAYLOAD_BYTES_MAX: usize = 4_096;

/// Recent undecodable inputs.
#[derive(Debug, Default)]
pub(super) struct Brake {
    topics: HashMap<(usize, Box<[u8]>), Lately>,
}

/// Faults of one topic.
#[derive(Debug)]
struct Lately {
    /// When the period began.
    begun: Time,
    /// Number recorded individually since.
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
    /// The counter for inputs of this topic.
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
    /// Quarantines a message, or counts it for a summary.
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

    /// Quarantines a message individually, without counting.
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

    /// The stored part of a payload and of the reason: without redacted values, and within the limits.
    fn kept(&self, source: usize, message: &Message, reason: &str, bytes_max: usize) -> (Vec<u8>, String) {
        let (source, payload) = (&self.sources[source], &message.payload[..]);
        // A payload that is a single value contains no names.
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

    /// Records the summaries that are due (all of them at a stop), and forgets topics without recent faults.
    pub(super) fn summarise(&mut self, all: bool, now: Time, batch: &mut RecordBatch) {
        // In an order that is the same in every process.
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

    /// The wall clock was stepped: periods are shifted with it. A summary that is then outside its interval is recorded
    /// at the next tick.
    pub(super) fn brake_stepped(&mut self, by: i64) {
        for lately in self.brake.topics.values_mut() {
            lately.begun.0 = lately.begun.0.saturating_add(by);
        }
    }
}

/// If the clock was set back, any amount of time may have passed.
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
