//! Input of the writer: [`Message`]s, and the return path of their acknowledgements.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use fieldlog_projections::{Seq, Time, TraceParent};
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

/// How the reason begins for which a [`WireFault::Malformed`] message is quarantined.
pub const MALFORMED: &str = "not a valid PUBLISH";

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
    /// They may have waited at the broker or here for some time, so they may be older than what was published meanwhile.
    pub may_be_old: bool,
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
    /// Wakes the connection when [`Acks::drain_into`] has something, or `outstanding` has shrunk.
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
    pub fn drain_into(&self, into: &mut Vec<u16>) {
        into.append(&mut self.released.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The connection has ended.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }
}

/// Maximum messages waiting in an [`Outbox`].
const PUBLICATIONS_MAX: usize = 256;

/// A message that a source is to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Bytes,
    /// Somebody wants to know what becomes of it.
    pub manner: Manner,
}

/// How a message is published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// With QoS 0, and forgotten.
    #[default]
    Untracked,
    /// For a command.
    Command(Tracked),
    /// With QoS 1, retained.
    Retained(Receipt),
}

/// Where whoever has something published is told what became of it.
#[derive(Clone, Debug, Default)]
pub struct Receipt(Arc<ReceiptInner>);

#[derive(Debug, Default)]
struct ReceiptInner {
    fate: Mutex<Option<Fate>>,
    news: Notify,
}

impl PartialEq for Receipt {
    fn eq(&self, other: &Receipt) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Receipt {}

impl Receipt {
    /// What finally became of it: never [`Fate::Written`].
    pub async fn fate(&self) -> Fate {
        loop {
            if let Some(fate) = self.0.fate.lock().unwrap_or_else(PoisonError::into_inner).clone() {
                return fate;
            }
            self.0.news.notified().await;
        }
    }

    fn set(&self, fate: Fate) {
        *self.0.fate.lock().unwrap_or_else(PoisonError::into_inner) = Some(fate);
        self.0.news.notify_one();
    }
}

/// A publication whose fate is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// The command it is for.
    pub command: Seq,
    /// Number of the dispatch it is for.
    pub attempt: u32,
    /// Quality of service, 0 or 1.
    pub qos: u8,
    /// It must not be published later than this, by the monotonic clock ...
    pub deadline: Instant,
    /// ... nor later than this, by the wall clock.
    pub expires: Time,
    /// The trace context that the command was asked in, for a device that reads it; MQTT 5 only.
    pub traceparent: Option<TraceParent>,
}

/// What became of a tracked publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The command it was for.
    pub command: Seq,
    /// Number of the dispatch it was for.
    pub attempt: u32,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a tracked publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is on its way to the broker. What the source delivers after this was read after that.
    Written,
    /// The broker has it.
    Acknowledged,
    /// The broker refused it, for this reason.
    Refused(String),
    /// It was not written, and will not be: the connection ended first.
    NotSent,
    /// It was not written, and will not be: its time was over.
    TooLate,
    /// It was written, and the connection ended before the broker acknowledged it.
    Lost,
}

/// What a source is to publish on the connection that it has. It takes nothing while there is none, and what it could not
/// publish before a connection ended is dropped: nobody is to get on another connection what was meant for this one.
#[derive(Default)]
pub struct Outbox {
    inner: Mutex<OutboxInner>,
    /// Wakes the connection when [`Outbox::pop`] has something.
    pub wake: Notify,
    report: OnceLock<Report>,
}

/// Is told what becomes of tracked publications.
type Report = Box<dyn Fn(Published) + Send + Sync>;

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Outbox").field(&*self.lock()).finish()
    }
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

    /// Has `report` told what becomes of tracked publications; only the first call counts.
    pub fn on_published(&self, report: impl Fn(Published) + Send + Sync + 'static) {
        let _ = self.report.set(Box::new(report));
    }

    /// Tells what became of a publication.
    pub fn report(&self, manner: &Manner, fate: Fate) {
        match manner {
            Manner::Untracked => {}
            Manner::Command(Tracked { command, attempt, .. }) => {
                if let Some(report) = self.report.get() {
                    report(Published { command: *command, attempt: *attempt, fate });
                }
            }
            Manner::Retained(_) if fate == Fate::Written => {}
            Manner::Retained(receipt) => receipt.set(fate),
        }
    }

    /// A connection is ready for publications; its number must be new.
    pub fn open(&self, connection: u64, now: Time) {
        self.lock().open = Some((connection, now));
    }

    /// The connection has ended; waiting publications are dropped.
    pub fn close(&self) {
        let inner = std::mem::take(&mut *self.lock());
        inner.waiting.iter().for_each(|publication| self.report(&publication.manner, Fate::NotSent));
    }

    /// The number of the connection, and since when it accepts publications.
    pub fn connection(&self) -> Option<(u64, Time)> {
        self.lock().open
    }

    /// How many publications it would take now.
    pub fn room(&self) -> usize {
        let inner = self.lock();
        if inner.open.is_none() { 0 } else { PUBLICATIONS_MAX - inner.waiting.len() }
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
    pub fn pop(&self) -> Option<Publication> {
        self.lock().waiting.pop_front()
    }
}

impl Publication {
    /// The command that it is for.
    pub fn tracked(&self) -> Option<Tracked> {
        match &self.manner {
            Manner::Command(tracked) => Some(*tracked),
            Manner::Untracked | Manner::Retained(_) => None,
        }
    }

    /// One with QoS 0 that nobody asks after.
    pub fn untracked(topic: impl Into<String>, payload: impl Into<Bytes>) -> Publication {
        Publication { topic: topic.into(), payload: payload.into(), manner: Manner::Untracked }
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
