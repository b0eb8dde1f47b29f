//! Counters of this process.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::histogram::Histogram;

/// Counted since the start.
#[derive(Debug)]
pub(crate) struct Counters {
    /// Parcels that were stored, including those that had nothing new.
    pub(crate) stored: AtomicU64,
    /// Parcels of stopped logs.
    pub(crate) forked: AtomicU64,
    /// Parcels that could not be stored at that moment.
    pub(crate) busy: AtomicU64,
    /// Messages that were no parcels.
    pub(crate) malformed: AtomicU64,
    /// New events.
    pub(crate) events: AtomicU64,
    /// Requests to gateways to send something again.
    pub(crate) resends: Answers,
    /// Commands to devices of gateways.
    pub(crate) commands: Answers,
    /// Seconds from a batch's first statement to its commit.
    pub(crate) batch_seconds: Histogram,
}

/// By what came of them.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// The gateway does it.
    pub(crate) taken: AtomicU64,
    /// It does not.
    pub(crate) refused: AtomicU64,
    /// Nobody has answered.
    pub(crate) unanswered: AtomicU64,
}

impl Default for Counters {
    fn default() -> Counters {
        let none = AtomicU64::default;
        let buckets = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
        Counters {
            stored: none(),
            forked: none(),
            busy: none(),
            malformed: none(),
            events: none(),
            resends: Answers::default(),
            commands: Answers::default(),
            batch_seconds: Histogram::new(buckets),
        }
    }
}
