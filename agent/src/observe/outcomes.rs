//! What became of messages: counted for each source, and the reason if they were refused.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use fieldlog_projections::{DeviceId, Time};

use crate::message::Outbox;
use crate::sparkplug::session::Reason;

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
    /// Times of payloads that could not be read, or were of a clock that was never set.
    pub times_unread: AtomicU64,
    /// Messages that came after newer ones, and were not taken.
    pub late: AtomicU64,
    /// Messages put into quarantine.
    pub quarantined: AtomicU64,
    /// Of these, the ones that are recorded in a summary.
    pub summarised: AtomicU64,
    /// Devices that could not get their name as their id, because another device has or had it.
    pub clashes: AtomicU64,
    /// Messages on topics that no rule takes, or that a rule ignores.
    pub ignored: AtomicU64,
    /// Of a Sparkplug host application.
    pub sparkplug: SparkplugCounts,
    /// What the source is to publish.
    pub outbox: Arc<Outbox>,
}

/// What a Sparkplug host application has seen, since the start.
#[derive(Debug, Default)]
pub struct SparkplugCounts {
    /// Edge nodes that have a session of which all messages are known, ...
    pub nodes_online: AtomicU64,
    /// ... that have one, but messages of it may have been missed, ...
    pub nodes_stale: AtomicU64,
    /// ... and that have none, as they were last looked at.
    pub nodes_offline: AtomicU64,
    /// Birth certificates, of edge nodes and devices.
    pub births: AtomicU64,
    /// Death certificates that ended something.
    pub deaths: AtomicU64,
    /// Death certificates of sessions that had ended before.
    pub stale_deaths: AtomicU64,
    /// Messages that came before one that they follow, and waited for it.
    pub reordered: AtomicU64,
    /// Times that messages waited for one that did not come.
    pub gaps: AtomicU64,
    /// Messages of edge nodes or devices without a birth.
    pub dropped: AtomicU64,
    /// Metrics whose alias or name stands for nothing known.
    pub unresolved: AtomicU64,
    /// Values of the past.
    pub historical: AtomicU64,
    /// Values that are not to be stored.
    pub transient: AtomicU64,
    /// Values whose quality is not good.
    pub bad_quality: AtomicU64,
    asked: [AtomicU64; Reason::ALL.len()],
}

impl SparkplugCounts {
    /// Requests for births, by reason.
    pub fn rebirths(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let asked = Reason::ALL.iter().zip(&self.asked);
        asked.map(|(reason, count)| (reason.label(), count.load(Ordering::Relaxed)))
    }

    pub(super) fn asked(&self, reason: Reason) {
        let counted = Reason::ALL.iter().zip(&self.asked).find(|(known, _)| **known == reason);
        counted.inspect(|(_, count)| {
            count.fetch_add(1, Ordering::Relaxed);
        });
    }

    pub(super) fn note_nodes(&self, online: u64, stale: u64, offline: u64) {
        self.nodes_online.store(online, Ordering::Relaxed);
        self.nodes_stale.store(stale, Ordering::Relaxed);
        self.nodes_offline.store(offline, Ordering::Relaxed);
    }
}

impl Outcomes {
    /// Counts one message that made so many records.
    pub(super) fn count(&self, verdict: Verdict, retained: bool, events: usize) {
        // Relaxed adds on counters that only this thread writes: plain stores would do, these cost the same.
        let add = |counter: &AtomicU64, n: usize| {
            counter.fetch_add(n as u64, Ordering::Relaxed);
        };
        add(&self.messages, 1);
        match verdict {
            Verdict::Recorded => add(&self.events, events),
            Verdict::Ignored => add(&self.ignored, 1),
            Verdict::Quarantined => {
                add(&self.quarantined, 1);
                add(&self.events, events);
            }
            Verdict::Unchanged => {
                add(&self.unchanged, 1);
                if retained {
                    add(&self.retained_repeats, 1);
                }
            }
        }
    }

    pub(super) fn count_clash(&self) {
        self.clashes.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a value that was held back.
    #[inline]
    pub(super) fn count_suppressed(&self) {
        self.suppressed.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a time that could not be read.
    pub(super) fn count_unread_time(&self) {
        self.times_unread.fetch_add(1, Ordering::Relaxed);
    }
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

    pub(super) fn resize(&self, devices: usize) {
        let mut times = self.0.write().unwrap_or_else(PoisonError::into_inner);
        times.resize_with(devices, AtomicI64::default);
    }

    pub(super) fn set(&self, device: DeviceId, time: Time) {
        let times = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = times.get(device.0 as usize) {
            slot.store(time.0, Ordering::Relaxed);
        }
    }
}

/// What a message came to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    Recorded,
    Unchanged,
    Ignored,
    Quarantined,
}

impl Verdict {
    /// What a message came to that came to this after it had come to `before` by another rule.
    pub(super) fn or_before(self, before: Option<Verdict>) -> Verdict {
        match (before, self) {
            (Some(Verdict::Recorded), _) | (_, Verdict::Recorded) => Verdict::Recorded,
            (Some(Verdict::Unchanged), _) => Verdict::Unchanged,
            _ => self,
        }
    }
}

/// Why a message cannot be taken; becomes the reason in the quarantine.
pub(super) struct Refusal(pub(super) String);

/// A topic as text, which MQTT wants it to be.
pub(super) fn topic_text(topic: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(topic).map_err(|_| Refusal("the topic is not UTF-8".into()))
}

impl<E: std::error::Error> From<E> for Refusal {
    fn from(error: E) -> Refusal {
        Refusal(error.to_string())
    }
}
