//! What became of messages: counted for each source, and the reason if they were refused.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use fieldlog_projections::{DeviceId, Time};

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
    /// Devices that could not get their name as their id, because another device has or had it.
    pub clashes: AtomicU64,
    /// Messages on topics that no rule takes, or that a rule ignores.
    pub ignored: AtomicU64,
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
            Verdict::Quarantined => add(&self.quarantined, 1),
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

/// Why a message cannot be taken; becomes the reason in the quarantine.
pub(super) struct Refusal(pub(super) String);

impl<E: std::error::Error> From<E> for Refusal {
    fn from(error: E) -> Refusal {
        Refusal(error.to_string())
    }
}
