//! What ingest hands to the writer: [`Message`]s, and the way back for their acknowledgements.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use fieldlog_projections::Time;
use tokio::sync::Notify;

/// Index of a source in the configuration, stable while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub u16);

/// One PUBLISH as it came off the wire.
#[derive(Clone, Debug)]
pub struct Message {
    /// Topic name; not yet known to be UTF-8.
    pub topic: Bytes,
    /// Payload; cut to its first bytes when `fault` is [`WireFault::TooLarge`], the whole frame when malformed.
    pub payload: Bytes,
    /// The broker sent it because it is retained, not because it is new.
    pub retain: bool,
    /// The broker says that it may have sent it before.
    pub dup: bool,
    /// Packet identifier to acknowledge; `None` for QoS 0.
    pub pkid: Option<u16>,
    /// Why the packet could not be taken as it was sent.
    pub fault: Option<WireFault>,
}

/// A PUBLISH that ingest could frame but not accept. It is quarantined and acknowledged like any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireFault {
    /// Larger than `packet_bytes_max`; the size of the whole packet is given, in bytes.
    TooLarge {
        /// Size the packet had, in bytes.
        size: u64,
    },
    /// The frame was complete, its content was not an MQTT PUBLISH.
    Malformed(&'static str),
}

/// The messages of one read from one connection, in the order they arrived.
#[derive(Debug)]
pub struct Delivery {
    /// Where they came from.
    pub source: SourceId,
    /// Wall clock when the read returned.
    pub received: Time,
    /// Where their acknowledgements go.
    pub acks: Arc<Acks>,
    /// At least one message.
    pub messages: Vec<Message>,
}

impl Delivery {
    /// How many of its messages want a PUBACK.
    pub fn pubacks(&self) -> usize {
        self.messages.iter().filter(|message| message.pkid.is_some()).count()
    }
}

/// The way back to one connection. It dies with the connection: what is released through it afterwards goes nowhere,
/// because packet identifiers mean nothing on another connection.
#[derive(Debug, Default)]
pub struct Acks {
    released: Mutex<Vec<u16>>,
    closed: AtomicBool,
    /// Tells the connection that [`Acks::take`] has something, or that `outstanding` has shrunk.
    pub wake: Notify,
    outstanding: Arc<AtomicUsize>,
    parked: AtomicUsize,
}

impl Acks {
    /// A handle for a new connection of a source; `outstanding` counts the messages of the whole source, so that
    /// reconnecting does not widen the bound.
    pub fn new(outstanding: Arc<AtomicUsize>) -> Arc<Acks> {
        Arc::new(Acks { outstanding, ..Acks::default() })
    }

    /// Counts messages handed to the writer.
    pub fn begin(&self, messages: usize) {
        self.outstanding.fetch_add(messages, Ordering::Relaxed);
    }

    /// Messages of the source that the writer holds and has not committed.
    pub fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Relaxed)
    }

    /// Called by the writer after the durable commit: `messages` of this connection are stored, `pkids` of them want a
    /// PUBACK, in order of arrival.
    pub fn release(&self, messages: usize, pkids: &[u16]) {
        self.outstanding.fetch_sub(messages, Ordering::Relaxed);
        if !self.closed.load(Ordering::Acquire) && !pkids.is_empty() {
            self.released.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(pkids);
        }
        self.wake.notify_one();
    }

    /// Called by the writer while it takes no messages: so many more that want a PUBACK are not going to get it soon. A
    /// connection that is to end need not wait for them: nothing of them is recorded.
    pub fn park(&self, pubacks: usize) {
        self.parked.fetch_add(pubacks, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Called by the writer when it takes them up.
    pub fn unpark(&self, pubacks: usize) {
        self.parked.fetch_sub(pubacks, Ordering::Relaxed);
    }

    /// How many want a PUBACK that is not in sight.
    pub fn parked(&self) -> usize {
        self.parked.load(Ordering::Relaxed)
    }

    /// Moves what has been released since the last call into `into`.
    pub fn take(&self, into: &mut Vec<u16>) {
        into.append(&mut self.released.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The connection is gone.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }
}
