//! The status of a sink, for HTTP, metrics and systemd to read at any time.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use fieldlog_projections::Time;
use jiff::Timestamp;
use tokio::sync::Notify;

use super::Parcel;
use super::meter::Meter;
use crate::clock::Clock;
use crate::log::acked::AckedRanges;
use fieldlog_wire::Lane;

/// Counters and state of one sink. Counters start with the process.
#[derive(Debug)]
pub struct SinkStatus {
    /// Events that the sink has acknowledged.
    pub events_acked: AtomicU64,
    /// Priority copies that the sink has acknowledged; each event also counts above when its covering parcel is
    /// acknowledged.
    pub priority_acked: AtomicU64,
    /// Parcels that the sink has acknowledged.
    pub parcels_acked: AtomicU64,
    /// Payload bytes of these, as sent.
    pub bytes_acked: AtomicU64,
    /// Parcels that had to be sent again.
    pub parcels_retried: AtomicU64,
    /// Refused events that were skipped.
    pub dead_letters: AtomicU64,
    /// Requests of the receiver to send something again.
    pub resend_requests: AtomicU64,
    /// Events that the sink has acknowledged after such a request.
    pub events_resent: AtomicU64,
    /// Connections made.
    pub connections: AtomicU64,
    /// Wakes a driver that waits; see [`SinkStatus::retry_now`].
    pub(super) retry: Notify,
    details: Mutex<SinkDetails>,
    clock: Clock,
    began: Instant,
    meter: Mutex<Meter>,
}

/// The part of [`SinkStatus`] that is not a counter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkDetails {
    /// Its state.
    pub state: SinkState,
    /// What the sink has acknowledged.
    pub acked: AckedRanges,
    /// Positions that the receiver has asked for again and that are still to be sent.
    pub resend_events: u64,
    /// A warning for the operator although the sink acknowledges.
    pub warning: Option<String>,
    /// The last failure; stays after the sink has recovered.
    pub last_error: Option<Failure>,
}

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When, by the gateway's clock.
    pub at: Time,
    /// The failure in words.
    pub why: String,
}

/// The state of a sink.
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
    /// Connected, but the sink has said "not now".
    Held {
        /// Connected since.
        since: Time,
        /// When it is asked again.
        until: Time,
        /// Its words.
        why: String,
    },
    /// Connected, but the sink has another history of this log.
    Forked {
        /// Connected since.
        since: Time,
        /// When it is asked again.
        until: Time,
        /// The sink's words, and what to do.
        why: String,
    },
    /// Waiting before the next attempt to connect.
    BackingOff {
        /// When the wait ends.
        until: Time,
        /// Why.
        why: String,
    },
    /// Ended with the agent.
    Stopped,
}

impl SinkState {
    /// Its label, from [`SinkState::LABELS`].
    pub fn label(&self) -> &'static str {
        match self {
            SinkState::Connecting => "connecting",
            SinkState::Connected { .. } => "connected",
            SinkState::Held { .. } => "held",
            SinkState::Forked { .. } => "forked",
            SinkState::BackingOff { .. } => "backing_off",
            SinkState::Stopped => "stopped",
        }
    }

    /// Every label that there is.
    pub const LABELS: [&'static str; 6] =
        ["connecting", "connected", "held", "forked", "backing_off", "stopped"];

    /// Since when it is connected; `None` if it is not.
    pub fn connected_since(&self) -> Option<Time> {
        match self {
            SinkState::Connected { since }
            | SinkState::Held { since, .. }
            | SinkState::Forked { since, .. } => Some(*since),
            _ => None,
        }
    }

    /// Until when it waits, and why; `None` if it does not.
    pub fn waiting(&self) -> Option<(Time, &str)> {
        match self {
            SinkState::Held { until, why, .. }
            | SinkState::Forked { until, why, .. }
            | SinkState::BackingOff { until, why } => Some((*until, why)),
            _ => None,
        }
    }
}

impl fmt::Display for SinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SinkState::Held { until, why, .. } => {
                write!(f, "connected, but told to wait until {}: {why}", moment(*until))
            }
            SinkState::Forked { until, why, .. } => {
                write!(
                    f,
                    "forked: the receiver has another history, asked again at {}: {why}",
                    moment(*until)
                )
            }
            SinkState::BackingOff { until, why } => write!(f, "backing off until {}: {why}", moment(*until)),
            other => f.write_str(other.label()),
        }
    }
}

/// A time to the second, as RFC 3339.
pub(crate) fn moment(time: Time) -> String {
    Timestamp::from_microsecond(time.0).map_or_else(|error| error.to_string(), |at| format!("{at:.0}"))
}

impl SinkStatus {
    /// The initial status.
    pub fn new(clock: Clock) -> SinkStatus {
        SinkStatus {
            events_acked: AtomicU64::default(),
            priority_acked: AtomicU64::default(),
            parcels_acked: AtomicU64::default(),
            bytes_acked: AtomicU64::default(),
            parcels_retried: AtomicU64::default(),
            dead_letters: AtomicU64::default(),
            resend_requests: AtomicU64::default(),
            events_resent: AtomicU64::default(),
            connections: AtomicU64::default(),
            retry: Notify::new(),
            details: Mutex::default(),
            began: clock.now(),
            clock,
            meter: Mutex::default(),
        }
    }

    /// Has the sink try again now what it waits with: to connect, to send what the receiver did not want yet, to offer refused
    /// events again.
    pub fn retry_now(&self) {
        self.retry.notify_one();
    }

    /// A copy of everything except the counters.
    pub fn details(&self) -> SinkDetails {
        self.lock().clone()
    }

    /// Events acknowledged per second, over the last ten seconds.
    pub fn events_per_s(&self) -> f64 {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner).rate(self.clock.since(self.began).as_secs())
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut SinkDetails)) {
        change(&mut self.lock());
    }

    pub(super) fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }

    /// Counts a parcel that the sink has acknowledged.
    pub(super) fn acked(&self, parcel: &Parcel) {
        let events = u64::from(parcel.manifest.events);
        let counter = match parcel.manifest.lane {
            Lane::Priority => &self.priority_acked,
            _ if parcel.resent.is_some() => &self.events_resent,
            _ => &self.events_acked,
        };
        SinkStatus::add(counter, events);
        SinkStatus::add(&self.parcels_acked, 1);
        SinkStatus::add(&self.bytes_acked, parcel.bytes() as u64);
        let second = self.clock.since(self.began).as_secs();
        self.meter.lock().unwrap_or_else(PoisonError::into_inner).add(second, events);
        self.update(|details| {
            if let SinkState::Held { since, .. } | SinkState::Forked { since, .. } = details.state {
                details.state = SinkState::Connected { since };
            }
        });
    }

    /// The sink is connected and has said "not now".
    pub(super) fn held(&self, at: Time, until: Time, why: String) {
        self.update(|details| {
            details.last_error = Some(Failure { at, why: why.clone() });
            let since = details.state.connected_since().unwrap_or(at);
            details.state = SinkState::Held { since, until, why };
        });
    }

    /// The sink is connected and has another history.
    pub(super) fn forked(&self, at: Time, until: Time, why: String) {
        self.update(|details| {
            details.last_error = Some(Failure { at, why: why.clone() });
            let since = details.state.connected_since().unwrap_or(at);
            details.state = SinkState::Forked { since, until, why };
        });
    }

    fn lock(&self) -> MutexGuard<'_, SinkDetails> {
        self.details.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
