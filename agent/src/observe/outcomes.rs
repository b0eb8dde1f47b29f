//! The outcomes of messages, counted per source, and the reasons of refusals.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use fieldlog_projections::{DeviceId, Time};

use crate::message::Outbox;
use crate::sparkplug::session::Reason;

/// The outcomes of a source's messages, counted since the start.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// Messages taken.
    pub messages: AtomicU64,
    /// Records made of them.
    pub events: AtomicU64,
    /// Messages that changed nothing: equal values.
    pub unchanged: AtomicU64,
    /// Retained messages among these, sent on subscription.
    pub retained_repeats: AtomicU64,
    /// Values held back by a deadband, an interval or `record = "never"`.
    pub suppressed: AtomicU64,
    /// Times in payloads that could not be read, or came from a clock that was never set.
    pub times_unread: AtomicU64,
    /// Messages that came after newer ones, and were not taken.
    pub late: AtomicU64,
    /// Messages put into quarantine.
    pub quarantined: AtomicU64,
    /// Messages among these that are recorded only in a summary.
    pub summarised: AtomicU64,
    /// Devices that could not get their name as their id, because another device has or had it.
    pub clashes: AtomicU64,
    /// Messages on topics that no rule takes, or that a rule ignores.
    pub ignored: AtomicU64,
    /// Counters of a Sparkplug host application.
    pub sparkplug: SparkplugCounts,
    /// The source's publications.
    pub outbox: Arc<Outbox>,
}

/// Counters of a Sparkplug host application, since the start.
#[derive(Debug, Default)]
pub struct SparkplugCounts {
    /// Edge nodes with a session of which all messages are known,
    pub nodes_online: AtomicU64,
    /// with a session of which messages may have been missed,
    pub nodes_stale: AtomicU64,
    /// and without a session, at the last count.
    pub nodes_offline: AtomicU64,
    /// Birth certificates, of edge nodes and devices.
    pub births: AtomicU64,
    /// Death certificates that ended a session.
    pub deaths: AtomicU64,
    /// Death certificates of sessions that had already ended.
    pub stale_deaths: AtomicU64,
    /// Messages that arrived before their turn and waited.
    pub reordered: AtomicU64,
    /// Gaps in the message order that were not filled in time.
    pub gaps: AtomicU64,
    /// Messages of edge nodes or devices without a birth.
    pub dropped: AtomicU64,
    /// Metrics with an unknown alias or name.
    pub unresolved: AtomicU64,
    /// Values of the past.
    pub historical: AtomicU64,
    /// Values that must not be stored.
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
    /// Counts one message with its number of records.
    pub(super) fn count(&self, verdict: Verdict, retained: bool, events: usize) {
        // Only this thread writes these counters: plain stores would do, but relaxed adds cost the same.
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

    /// Counts a held-back value.
    #[inline]
    pub(super) fn count_suppressed(&self) {
        self.suppressed.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an unreadable time.
    pub(super) fn count_unread_time(&self) {
        self.times_unread.fetch_add(1, Ordering::Relaxed);
    }
}

/// When each device was last heard, whether or not anything changed; not durable.
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

/// The outcome of a message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    Recorded,
    Unchanged,
    Ignored,
    Quarantined,
}

impl Verdict {
    /// Combines this outcome with the one of an earlier rule, `before`.
    pub(super) fn or_before(self, before: Option<Verdict>) -> Verdict {
        match (before, self) {
            (Some(Verdict::Recorded), _) | (_, Verdict::Recorded) => Verdict::Recorded,
            (Some(Verdict::Unchanged), _) => Verdict::Unchanged,
            _ => self,
        }
    }
}

/// Why a message is refused; becomes the reason in the quarantine.
pub(super) struct Refusal(pub(super) String);

/// A topic as text; MQTT requires UTF-8.
pub(super) fn topic_text(topic: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(topic).map_err(|_| Refusal("the topic is not UTF-8".into()))
}

impl<E: std::error::Error> From<E> for Refusal {
    fn from(error: E) -> Refusal {
        Refusal(error.to_string())
    }
}
