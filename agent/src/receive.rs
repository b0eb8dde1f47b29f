//! `fieldlog receive`: the reference receiver. It takes parcels over MQTT, HTTP or NATS, writes each event once as a
//! line of JSON, acknowledges only after that, and accounts for everything: every gap, duplicate and contradiction.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

mod cli;
mod http;
mod mqtt;
#[cfg(feature = "nats")]
mod nats;
mod store;
#[cfg(test)]
mod tests;

pub use cli::{ReceiveArgs, main};
use fieldlog_wire::ledger::{Fault, Forked, Ledger, Report, Taken};
use fieldlog_wire::received::{Malformed, Received};
pub use mqtt::MqttOptions;
#[cfg(feature = "nats")]
pub use nats::NatsOptions;
use store::Store;
pub use store::{Out, StoreError};

/// Settings of the receiver.
#[derive(Clone, Debug)]
pub struct ReceiveOptions {
    /// The broker to subscribe at.
    pub mqtt: Option<MqttOptions>,
    /// Where to serve HTTP.
    pub http: Option<SocketAddr>,
    /// The JetStream to consume.
    #[cfg(feature = "nats")]
    pub nats: Option<NatsOptions>,
    /// Where the lines go.
    pub out: Out,
    /// File for the state that survives restarts.
    pub state: Option<PathBuf>,
    /// Sync the files before acknowledging.
    pub fsync: bool,
    /// Positions before the first one that arrives do not count as missing.
    pub joined_late: bool,
    /// Maximum parcel size, as received and uncompressed; larger ones are refused.
    pub parcel_bytes_max: usize,
    /// Report so often.
    pub report_every: Option<Duration>,
}

impl Default for ReceiveOptions {
    /// Receives nothing and writes nothing.
    fn default() -> ReceiveOptions {
        ReceiveOptions {
            mqtt: None,
            http: None,
            #[cfg(feature = "nats")]
            nats: None,
            out: Out::Nowhere,
            state: None,
            fsync: false,
            joined_late: false,
            parcel_bytes_max: 32 * 1024 * 1024,
            report_every: None,
        }
    }
}

/// A receiver at work.
#[derive(Clone, Debug)]
pub struct Handle {
    /// Where HTTP is served.
    pub http: Option<SocketAddr>,
    receiver: Arc<Receiver>,
}

impl Handle {
    /// The report on everything received.
    pub fn report(&self) -> Report {
        self.receiver.report()
    }

    /// Number of distinct events that have arrived; cheaper than a report.
    pub fn events(&self) -> u64 {
        self.receiver.books().ledger.events()
    }
}

/// Receives until `shutdown` becomes true; `ready` gets a handle once everything is open.
///
/// # Errors
/// [`ReceiveError`] if something cannot be opened, or can no longer be written.
pub async fn run(
    options: ReceiveOptions,
    mut shutdown: watch::Receiver<bool>,
    ready: impl FnOnce(Handle),
) -> Result<Report, ReceiveError> {
    let mut ledger = Ledger::new(options.joined_late);
    let store = Store::open(&options.out, options.state.as_deref(), options.fsync, &mut ledger)?;
    let receiver = Arc::new(Receiver {
        books: Mutex::new(Books { ledger, store, malformed: 0 }),
        failed: watch::Sender::new(None),
    });
    let listener = match options.http {
        Some(address) => Some(http::bind(address).await?),
        None => None,
    };
    let http = listener.as_ref().and_then(|listener| listener.local_addr().ok());
    ready(Handle { http, receiver: receiver.clone() });

    // Servers end when told to, or when nothing can be written any more.
    let (stop, stopped) = watch::channel(false);
    let mut tasks = tokio::task::JoinSet::new();
    if let Some(listener) = listener {
        tasks.spawn(http::serve(listener, receiver.clone(), options.parcel_bytes_max, stopped.clone()));
    }
    if let Some(mqtt) = options.mqtt {
        tasks.spawn(mqtt::serve(mqtt, receiver.clone(), options.parcel_bytes_max, stopped.clone()));
    }
    #[cfg(feature = "nats")]
    if let Some(nats) = options.nats {
        tasks.spawn(nats::serve(nats, receiver.clone(), stopped.clone()));
    }
    let mut failed = receiver.failed.subscribe();
    tokio::select! {
        _ = shutdown.wait_for(|down| *down) => {}
        _ = failed.wait_for(Option::is_some) => {}
        () = report_every(options.report_every, &receiver) => {}
    }
    stop.send_replace(true);
    while tasks.join_next().await.is_some() {}
    let failure = receiver.failed.borrow().clone();
    match failure {
        Some(why) => Err(ReceiveError::Stopped { why }),
        None => Ok(receiver.report()),
    }
}

async fn report_every(every: Option<Duration>, receiver: &Receiver) {
    let Some(every) = every else { return std::future::pending().await };
    loop {
        tokio::time::sleep(every).await;
        tracing::info!("so far:\n{}", receiver.report());
    }
}

/// Receives the messages of all transports.
#[derive(Debug)]
pub(crate) struct Receiver {
    books: Mutex<Books>,
    /// Why nothing can be written any more, once that is so.
    failed: watch::Sender<Option<String>>,
}

#[derive(Debug)]
struct Books {
    ledger: Ledger,
    store: Store,
    malformed: u64,
}

impl Receiver {
    /// Takes a message from a broker; on success, its new events are written. The gateway already has the broker's
    /// acknowledgement, so a parcel with a different history is reported here but not refused, since its new events
    /// would be lost. Blocking.
    fn accept<'a>(&self, body: &[u8], field: impl Fn(&str) -> Option<&'a str>) -> Result<(), AcceptError> {
        let received = self.read(body, field)?;
        let mut books = self.books();
        let taken = books.ledger.record(&received.arrival());
        let written = books.store.write(&received, &taken);
        drop(books);
        log(&received, &taken);
        self.written(written)
    }

    /// Takes a message from a gateway that gets the answer itself: a parcel with a different history is refused.
    /// Blocking.
    fn take_unless_forked<'a>(
        &self,
        body: &[u8],
        field: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<(), AcceptError> {
        let received = self.read(body, field)?;
        let mut books = self.books();
        match books.ledger.take_unless_forked(&received.arrival()) {
            Ok(taken) => {
                let written = books.store.write(&received, &taken);
                drop(books);
                log(&received, &taken);
                self.written(written)
            }
            Err(Forked { fault, is_new }) => {
                let written = if is_new { books.store.write_refused(&received, fault) } else { Ok(()) };
                drop(books);
                if is_new {
                    let manifest = &received.manifest;
                    tracing::error!("{} epoch {} is refused: {fault}", manifest.gateway, manifest.epoch);
                }
                self.written(written)?;
                Err(AcceptError::Forked { gateway: received.manifest.gateway, fault })
            }
        }
    }

    fn read<'a>(
        &self,
        body: &[u8],
        field: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<Received, AcceptError> {
        if self.failed.borrow().is_some() {
            return Err(AcceptError::Store);
        }
        Ok(Received::read(body, field).inspect_err(|_| self.books().malformed += 1)?)
    }

    fn written(&self, written: Result<(), StoreError>) -> Result<(), AcceptError> {
        written.map_err(|error| {
            tracing::error!("{error}");
            self.failed.send_replace(Some(error.to_string()));
            AcceptError::Store
        })
    }

    fn report(&self) -> Report {
        let books = self.books();
        Report { malformed: books.malformed, ..books.ledger.report() }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log(received: &Received, taken: &Taken) {
    let manifest = &received.manifest;
    for fault in &taken.faults {
        tracing::error!("{} epoch {}: {fault}", manifest.gateway, manifest.epoch);
    }
    tracing::debug!("{}: {} events, {} known", manifest.identity(), manifest.events, taken.duplicates);
}

/// Why a message was refused.
#[derive(Debug, thiserror::Error)]
enum AcceptError {
    /// It is not a parcel, and sending it again will not help.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It belongs to a different history, until someone finds out which one is right.
    #[error("gateway {gateway}: {fault}")]
    Forked {
        /// The sender.
        gateway: Arc<str>,
        /// Where they part.
        fault: Fault,
    },
    /// Nothing can be written.
    #[error("cannot write the received events; the receiver stops")]
    Store,
}

/// Why the receiver could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The files.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The port.
    #[error("cannot listen on {address}: {source}; choose another port with --http, 0 for any free one")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Something could not be written while receiving.
    #[error("{why}")]
    Stopped {
        /// The store's words.
        why: String,
    },
}
