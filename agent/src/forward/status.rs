//! What a sink is doing, for HTTP, metrics and systemd to read at any time.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fieldlog_projections::{Seq, Time};

/// Counters and state of one sink. Everything counts since the process started.
#[derive(Debug, Default)]
pub struct SinkStatus {
    /// Events that the sink has acknowledged.
    pub events_acked: AtomicU64,
    /// Events sent ahead of their turn that the sink has acknowledged; each counts above when its turn has come.
    pub early_acked: AtomicU64,
    /// Parcels that the sink has acknowledged.
    pub parcels_acked: AtomicU64,
    /// Payload bytes of these, as sent.
    pub bytes_acked: AtomicU64,
    /// Parcels that had to be sent again.
    pub parcels_retried: AtomicU64,
    /// Positions given up because the sink refuses them.
    pub dead_letters: AtomicU64,
    /// Connections made.
    pub connections: AtomicU64,
    details: Mutex<SinkDetails>,
}

/// The part of [`SinkStatus`] that is not a counter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkDetails {
    /// What it is doing.
    pub state: SinkState,
    /// The last position before which nothing is missing at the sink.
    pub contiguous: Seq,
    /// Positions that are missing at the sink.
    pub backlog_events: u64,
    /// Log time of the oldest missing record, once it has been read.
    pub backlog_oldest: Option<Time>,
    /// What an operator should know although the sink acknowledges, in words.
    pub warning: Option<String>,
    /// The last failure in words; it stays after the sink has recovered.
    pub last_error: Option<String>,
}

/// What a sink is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SinkState {
    /// Being connected.
    #[default]
    Connecting,
    /// Connected.
    Connected {
        /// Since when.
        since: Time,
    },
    /// Waiting before the next attempt.
    BackingOff {
        /// When the wait ends.
        until: Time,
        /// Why.
        why: String,
    },
    /// Ended with the agent.
    Stopped,
}

impl fmt::Display for SinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SinkState::Connecting => f.write_str("connecting"),
            SinkState::Connected { .. } => f.write_str("connected"),
            SinkState::BackingOff { why, .. } => write!(f, "waiting to try again: {why}"),
            SinkState::Stopped => f.write_str("stopped"),
        }
    }
}

impl SinkStatus {
    /// A copy of what is not a counter.
    pub fn details(&self) -> SinkDetails {
        self.lock().clone()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut SinkDetails)) {
        change(&mut self.lock());
    }

    pub(super) fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, SinkDetails> {
        self.details.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
