//! The status of a source, for metrics, HTTP and `fieldlog status` to read at any time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fieldlog_projections::Time;

use crate::message::Outbox;

/// A number that only its source changes.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub(super) fn set(&self, to: u64) {
        self.0.store(to, Ordering::Relaxed);
    }
}

/// Counters and state of one source. Counters start with the process.
#[derive(Debug, Default)]
pub struct SourceStatus {
    /// Messages received with QoS 0, which the broker does not send again.
    pub received_qos0: Count,
    /// Messages received with QoS 1.
    pub received_qos1: Count,
    /// Bytes read from the broker.
    pub received_bytes: Count,
    /// Retained messages that the broker sent on subscription.
    pub retained: Count,
    /// Messages with the DUP flag.
    pub dup: Count,
    /// PUBACKs written.
    pub pubacks: Count,
    /// Packets larger than `packet_bytes_max`.
    pub too_large: Count,
    /// PUBLISH packets that could not be read.
    pub malformed: Count,
    /// Connections accepted by the broker.
    pub connections: Count,
    /// QoS 1 messages of the current connection that are not acknowledged yet.
    pub unacked: Count,
    /// Messages published for other parts of the agent.
    pub published: Count,
    /// The publications to send.
    pub outbox: Arc<Outbox>,
    details: Mutex<Details>,
}

impl SourceStatus {
    /// Of a source that publishes from `outbox`.
    pub fn with_outbox(outbox: Arc<Outbox>) -> SourceStatus {
        SourceStatus { outbox, ..SourceStatus::default() }
    }

    /// A copy of everything except the counters.
    pub fn details(&self) -> Details {
        self.lock().clone()
    }

    /// Whether the broker has accepted the current connection.
    pub fn is_connected(&self) -> bool {
        matches!(self.lock().state, State::Connected { .. })
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Details)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Details> {
        self.details.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The texts and states of [`SourceStatus`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// The state of the connection.
    pub state: State,
    /// The broker had kept the session when the current connection was made.
    pub session_present: bool,
    /// Identifier of the session; the broker may have assigned it.
    pub client_id: String,
    /// Failed connections and attempts, by the label of the reason.
    pub failures: BTreeMap<&'static str, u64>,
    /// The last failure; stays after the source has recovered.
    pub last_error: Option<String>,
    /// What to do about a recurring failure; cleared once a connection holds.
    pub advice: Option<String>,
    /// Filters the broker granted, with the QoS it granted.
    pub granted: Vec<(String, u8)>,
    /// Filters the broker refused, with its reason.
    pub refused: Vec<(String, &'static str)>,
    /// Features that the broker lacks and the source does without.
    pub warnings: Vec<String>,
}

/// The state of a source's connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Between the start of an attempt and the broker's CONNACK.
    #[default]
    Connecting,
    /// The broker has accepted the connection.
    Connected {
        /// When it did.
        since: Time,
    },
    /// Waiting before the next attempt.
    BackingOff {
        /// When the wait ends.
        until: Time,
        /// Why the last attempt or connection failed.
        why: String,
    },
    /// The source has been shut down.
    Stopped,
}

impl State {
    /// One word, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            State::Connecting => "connecting",
            State::Connected { .. } => "connected",
            State::BackingOff { .. } => "backing_off",
            State::Stopped => "stopped",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Connecting => f.write_str("connecting"),
            State::Connected { .. } => f.write_str("connected"),
            State::BackingOff { why, .. } => write!(f, "waiting to try again: {why}"),
            State::Stopped => f.write_str("stopped"),
        }
    }
}
