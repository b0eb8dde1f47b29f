//! Forwarding: every event upstream, exactly accountable.
//!
//! One task per sink reads the log behind a durable cursor, so a backlog costs no memory. What is sent is a [`Parcel`]: a
//! range of the log without holes, with the chain before and after it, so that the receiver can prove by itself that it has
//! no gap and no duplicate. The cursor moves only when the sink itself has acknowledged a parcel.

pub mod backlog;
pub mod driver;
pub(crate) mod envelope;
pub mod filter;
#[cfg(test)]
pub(crate) mod fixture;
mod meter;
mod names;
mod pace;
pub mod parcel;
pub mod plan;
mod queue;
pub mod refusals;
pub mod sinks;
pub mod size;
pub mod status;
#[cfg(test)]
pub(crate) mod tests;
pub mod transport;

pub use crate::net::backoff::Pace;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fieldlog_projections::{Seq, Time};
use fieldlog_wire::Manifest;

/// One event of a parcel.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its position.
    pub seq: Seq,
    /// The device it is about.
    pub device: Option<Arc<str>>,
    /// Its type name.
    pub kind: &'static str,
    /// It as a CloudEvent, JSON; empty in a compact parcel.
    pub json: Bytes,
}

/// A range of the log as it is sent.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// What it covers.
    pub manifest: Manifest,
    /// Its events, in order.
    pub items: Vec<Item>,
    /// All of it in the compact format; empty unless the sink wants that.
    pub compact: Bytes,
    /// Log time of the oldest event in it.
    pub oldest: Time,
    /// Bytes of its events as [`parcel::Limits`] counts them: before the compact format compresses them.
    pub size: usize,
}

impl Parcel {
    /// Payload bytes, before transport compression.
    pub fn bytes(&self) -> usize {
        self.compact.len() + self.items.iter().map(|item| item.json.len()).sum::<usize>()
    }
}

/// What came of sending a parcel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The sink has it, by its own word.
    Acked,
    /// Not now: throttled, quota, unavailable. The same parcel again, not before `after`.
    Busy {
        /// What the sink asked for; `None`: back off as usual.
        after: Option<Duration>,
        /// In words.
        why: String,
    },
    /// Too large; in smaller pieces it may go.
    TooLarge {
        /// In words.
        why: String,
    },
    /// The sink does not take this for what is in it. It is cut down to the culprit, which becomes a dead letter.
    Refused {
        /// In words.
        why: String,
    },
    /// The sink has other records of this log at these positions. Only an operator can tell which of them are right.
    Forked {
        /// In words.
        why: String,
    },
    /// The connection is gone; whether the sink has it is not known.
    Lost {
        /// In words.
        why: String,
    },
}

/// What [`Outcome::Busy`] asks for when only an operator can help.
pub(crate) const SLOW: Duration = Duration::from_secs(60);

/// A connection to a sink. Dropped at the first [`Outcome::Lost`]; a new one is opened for each attempt.
pub trait Transport: Send + 'static {
    /// Sends a parcel; the future ends when the sink has answered. Several are under way at once and may end in any order;
    /// they are started in the order in which they should arrive.
    fn send(&mut self, parcel: Arc<Parcel>) -> impl Future<Output = Outcome> + Send + 'static;

    /// Ends when the connection is lost while nothing is under way, with the reason in words.
    fn lost(&mut self) -> impl Future<Output = String> + Send;

    /// How many parcels may be under way at once. The driver keeps to it: nothing else bounds what waits here.
    fn window(&self) -> usize {
        1
    }

    /// The last parcel that the sink has stored of this gateway, if the sink can be asked, as it was at the opening.
    fn stored(&self) -> Option<&Manifest> {
        None
    }

    /// What an operator should know although parcels are acknowledged, in words.
    fn warning(&self) -> Option<String> {
        None
    }

    /// Says good-bye. What is under way is not waited for.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// Why a sink cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Unreachable {
    /// In words: what, where, what to do.
    pub why: String,
    /// When to try again; slowly for what does not pass by itself: bad credentials, not authorised, no such stream.
    pub pace: Pace,
}
