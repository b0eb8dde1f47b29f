//! Forwards every event upstream, with exact accounting.
//!
//! One task per sink reads the log behind a durable cursor, so a backlog needs no memory. It sends a [`Parcel`]: a
//! range of the log without holes, with the chain before and after, from which the receiver can prove that it has no
//! gap and no duplicate. The cursor moves only when the sink has acknowledged a parcel.

mod again;
pub mod backlog;
pub mod commands;
pub mod driver;
pub(crate) mod envelope;
pub mod filter;
#[cfg(test)]
pub(crate) mod fixture;
mod meter;
pub(crate) mod names;
mod pace;
pub mod parcel;
pub mod plan;
mod queue;
pub mod refusals;
pub mod resend;
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

/// A range of the log, ready to be sent.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// The manifest.
    pub manifest: Manifest,
    /// Its events, in order.
    pub items: Vec<Item>,
    /// The whole parcel in the compact format; empty unless the sink uses that.
    pub compact: Bytes,
    /// Log time of the oldest event in it.
    pub oldest: Time,
    /// Size of its events as [`parcel::Limits`] counts them: before the compact format compresses them.
    pub size: usize,
    /// If it is sent again because the receiver has asked for it.
    pub resent: Option<Resent>,
}

/// What marks a parcel that answers a request of the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resent {
    /// The position from which it was asked for. The log begins later if the parcel does.
    pub asked: Seq,
    /// Tells it from the same parcel sent at another time, so that nobody drops it for a duplicate.
    pub at: Time,
}

impl Parcel {
    /// Payload bytes, before transport compression.
    pub fn bytes(&self) -> usize {
        self.compact.len() + self.items.iter().map(|item| item.json.len()).sum::<usize>()
    }

    /// Its header fields.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'static str, String)> {
        let resent = self.resent.map(|resent| (fieldlog_wire::resend::FIELD, resent.asked.to_string()));
        self.manifest.fields().into_iter().chain(resent)
    }

    /// Its identity, the same each time it is sent, unless the receiver has asked for it again.
    pub(crate) fn identity(&self) -> String {
        let identity = self.manifest.identity();
        match self.resent {
            Some(resent) => format!("{identity}/resend/{}", resent.at.0),
            None => identity,
        }
    }
}

/// The result of sending a parcel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The sink has acknowledged it.
    Acked,
    /// The sink is throttling, over quota or unavailable. Send the same parcel again, not before `after`.
    Busy {
        /// The wait that the sink asked for; `None`: the usual back-off.
        after: Option<Duration>,
        /// In words.
        why: String,
    },
    /// Too large; smaller pieces may be accepted.
    TooLarge {
        /// In words.
        why: String,
    },
    /// The sink refuses its content. It is divided until the refused event is alone, which becomes a dead letter.
    Refused {
        /// In words.
        why: String,
    },
    /// The sink has other records of this log at these positions. An operator must find out which are right.
    Forked {
        /// In words.
        why: String,
    },
    /// The connection was lost; whether the sink has the parcel is unknown.
    Lost {
        /// In words.
        why: String,
    },
}

/// The wait for [`Outcome::Busy`] if only an operator can help.
pub(crate) const SLOW: Duration = Duration::from_secs(60);

/// A connection to a sink. Dropped at the first [`Outcome::Lost`]; each attempt opens a new one.
pub trait Transport: Send + 'static {
    /// Sends a parcel; the future ends when the sink has answered. Several may be in flight and end in any order; they
    /// are started in the order of arrival.
    fn send(&mut self, parcel: Arc<Parcel>) -> impl Future<Output = Outcome> + Send + 'static;

    /// Ends when the connection is lost with nothing in flight, and returns the reason.
    fn lost(&mut self) -> impl Future<Output = String> + Send;

    /// Maximum parcels in flight. The driver must respect it: nothing else bounds this queue.
    fn window(&self) -> usize {
        1
    }

    /// The last parcel of this gateway that the sink had stored when the connection was opened, if the sink can be
    /// asked.
    fn stored(&self) -> Option<&Manifest> {
        None
    }

    /// A warning for the operator although parcels are acknowledged.
    fn warning(&self) -> Option<String> {
        None
    }

    /// Disconnects. Does not wait for parcels in flight.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// Why a sink cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Unreachable {
    /// In words: the problem, where, and what to do.
    pub why: String,
    /// When to try again; slowly for persistent problems: bad credentials, not authorised, no such stream.
    pub pace: Pace,
}
