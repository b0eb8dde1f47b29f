//! The messages heard: each topic with its first payloads, within bounds.

use std::collections::HashMap;

use bytes::Bytes;

use crate::message::Message;

/// Maximum distinct topics.
const TOPICS_MAX: usize = 50_000;
/// Maximum payloads kept per topic: enough to see that a value changes and that a button is pressed twice.
const PAYLOADS_PER_TOPIC_MAX: usize = 3;
/// Maximum bytes of kept payloads.
const BYTES_MAX: usize = 64 << 20;

/// The messages heard at a broker.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Messages, kept or not.
    pub(super) messages: u64,
    /// Messages that were not kept because a bound was reached.
    pub(super) beyond: u64,
    /// In order of arrival.
    pub(super) kept: Vec<Kept>,
    topics: HashMap<String, usize>,
    bytes: usize,
}

/// A kept message.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) retain: bool,
}

impl Heard {
    /// Adds a message.
    pub(super) fn add(&mut self, message: &Message) {
        self.messages += 1;
        let Ok(topic) = std::str::from_utf8(&message.topic) else {
            self.beyond += 1;
            return;
        };
        let known = self.topics.len();
        let count = match self.topics.get_mut(topic) {
            Some(count) => count,
            None if known < TOPICS_MAX => self.topics.entry(topic.to_owned()).or_default(),
            None => {
                self.beyond += 1;
                return;
            }
        };
        *count += 1;
        if *count > PAYLOADS_PER_TOPIC_MAX {
            return;
        }
        if self.bytes + message.payload.len() > BYTES_MAX || message.fault.is_some() {
            self.beyond += 1;
            return;
        }
        self.bytes += message.payload.len();
        // A copy: the payload is a slice of a buffer that would otherwise stay in memory.
        let payload = Bytes::copy_from_slice(&message.payload);
        self.kept.push(Kept { topic: topic.to_owned(), payload, retain: message.retain });
    }

    /// Number of distinct topics.
    pub(super) fn topics(&self) -> usize {
        self.topics.len()
    }
}
