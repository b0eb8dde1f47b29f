//! Input of the writer: [`Message`]s, and the return path of their acknowledgements.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use fieldlog_projections::Time;
use tokio::sync::Notify;

/// Index of a source in the configuration, stable for the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub u16);

/// One PUBLISH as received.
#[derive(Clone, Debug)]
pub struct Message {
    /// Topic name; not yet known to be UTF-8.
    pub topic: Bytes,
    /// Payload; truncated when `fault` is [`WireFault::TooLarge`], the whole frame when malformed.
    pub payload: Bytes,
    /// Sent because it is retained, not because it is new.
    pub retain: bool,
    /// The DUP flag: it may have been sent before.
    pub dup: bool,
    /// Packet identifier to acknowledge; `None` for QoS 0.
    pub pkid: Option<u16>,
    /// Why the packet could not be accepted.
    pub fault: Option<WireFault>,
}

/// A PUBLISH that ingest could frame but not accept. It is quarantined and acknowledged like any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireFault {
    /// Larger than `packet_bytes_max`.
    TooLarge {
        /// Size of the whole packet, in bytes.
        size: u64,
    },
    /// The frame was complete, but its content was not a valid PUBLISH.
    Malformed(&'static str),
}

/// The messages of one read from one connection, in the order they arrived.
#[derive(Debug)]
pub struct Delivery {
    /// Where they came from.
    pub source: SourceId,
    /// Wall clock when the read returned.
    pub received: Time,
    /// Where to send their acknowledgements.
    pub acks: Arc<Acks>,
    /// At least one message.
    pub messages: Vec<Message>,
}

impl Delivery {
    /// Number of its messages that need a PUBACK.
    pub fn pubacks(&self) -> usize {
        self.messages.iter().filter(|message| message.pkid.is_some()).count()
    }
}

/// The return path to one connection. It ends with the connection: later releases are dropped, because packet
/// identifiers are meaningless on another connection.
#[derive(Debug, Default)]
pub struct Acks {
    released: Mutex<Vec<u16>>,
    closed: AtomicBool,
    /// Wakes the connection when [`Acks::take`] has something, or `outstanding` has shrunk.
    pub wake: Notify,
    outstanding: Arc<AtomicUsize>,
    parked: AtomicUsize,
    connection: u64,
}

impl Acks {
    /// A handle for a new connection of a source; `outstanding` counts the messages of the whole source, so that
    /// reconnecting does not widen the bound.
    pub fn new(outstanding: Arc<AtomicUsize>) -> Arc<Acks> {
        Arc::new(Acks { outstanding, ..Acks::default() })
    }

    /// The same, for the connection with this number; see [`Outbox::open`].
    pub fn numbered(outstanding: Arc<AtomicUsize>, connection: u64) -> Arc<Acks> {
        Arc::new(Acks { outstanding, connection, ..Acks::default() })
    }

    /// Number of the connection within its source; 0 if it has none.
    pub fn connection(&self) -> u64 {
        self.connection
    }

    /// Counts messages passed to the writer.
    pub fn begin(&self, messages: usize) {
        self.outstanding.fetch_add(messages, Ordering::Relaxed);
    }

    /// Messages of the source that the writer holds and has not committed.
    pub fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Relaxed)
    }

    /// Called by the writer after the durable commit: `messages` of this connection are stored, and `pkids` of them
    /// need a PUBACK, in order of arrival.
    pub fn release(&self, messages: usize, pkids: &[u16]) {
        self.outstanding.fetch_sub(messages, Ordering::Relaxed);
        if !self.closed.load(Ordering::Acquire) && !pkids.is_empty() {
            self.released.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(pkids);
        }
        self.wake.notify_one();
    }

    /// Called by the writer while it is blocked: this many more PUBACKs will be delayed. A connection that ends need
    /// not wait for them, since nothing of their messages is recorded.
    pub fn park(&self, pubacks: usize) {
        self.parked.fetch_add(pubacks, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Called by the writer when it processes them.
    pub fn unpark(&self, pubacks: usize) {
        self.parked.fetch_sub(pubacks, Ordering::Relaxed);
    }

    /// Number of delayed PUBACKs.
    pub fn parked(&self) -> usize {
        self.parked.load(Ordering::Relaxed)
    }

    /// Moves the releases since the last call into `into`.
    pub fn take(&self, into: &mut Vec<u16>) {
        into.append(&mut self.released.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The connection has ended.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }
}

/// Maximum messages waiting in an [`Outbox`].
const PUBLICATIONS_MAX: usize = 256;

/// A message for a source to publish, with QoS 0 and not retained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Bytes,
}

/// Publications for the current connection of a source. It accepts none while there is no connection, and drops those
/// that were not published before a connection ended: they were meant for that connection only.
#[derive(Debug, Default)]
pub struct Outbox {
    inner: Mutex<OutboxInner>,
    /// Wakes the connection when [`Outbox::take`] has something.
    pub wake: Notify,
}

#[derive(Debug, Default)]
struct OutboxInner {
    /// Number of the connection, and since when it is open.
    open: Option<(u64, Time)>,
    waiting: VecDeque<Publication>,
}

impl Outbox {
    fn lock(&self) -> std::sync::MutexGuard<'_, OutboxInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection is ready for publications; its number must be new.
    pub fn open(&self, connection: u64, now: Time) {
        self.lock().open = Some((connection, now));
    }

    /// The connection has ended; waiting publications are dropped.
    pub fn close(&self) {
        *self.lock() = OutboxInner::default();
    }

    /// The number of the connection, and since when it accepts publications.
    pub fn connection(&self) -> Option<(u64, Time)> {
        self.lock().open
    }

    /// Queues a publication.
    ///
    /// # Errors
    /// [`Unpublished`]
    pub fn publish(&self, publication: Publication) -> Result<(), Unpublished> {
        let mut inner = self.lock();
        if inner.open.is_none() {
            return Err(Unpublished::NotConnected);
        }
        if inner.waiting.len() >= PUBLICATIONS_MAX {
            return Err(Unpublished::Full);
        }
        inner.waiting.push_back(publication);
        drop(inner);
        self.wake.notify_one();
        Ok(())
    }

    /// The oldest waiting publication.
    pub fn take(&self) -> Option<Publication> {
        self.lock().waiting.pop_front()
    }
}

/// Why a publication was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpublished {
    /// There is no connection to a broker.
    #[error("the source is not connected")]
    NotConnected,
    /// The broker accepts less than is queued.
    #[error("{PUBLICATIONS_MAX} publications wait for the broker to take them")]
    Full,
}
