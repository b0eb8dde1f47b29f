//! A small MQTT broker for the demo and the fault tests of fieldlog.
//!
//! It speaks MQTT 3.1.1 and 5 on one port, QoS 0 and 1, and keeps everything in memory: sessions and retained messages
//! live as long as the [`Broker`]. Two things distinguish it from a production broker: it misbehaves on demand (see
//! [`fault`]), and it remembers which message each PUBACK was for ([`Broker::acked`]).
//!
//! ```no_run
//! # async fn demo() -> Result<(), Box<dyn std::error::Error>> {
//! use fieldlog_sim::broker::{Broker, Options, Qos};
//!
//! let broker = Broker::bind("127.0.0.1:0", Options::default()).await?;
//! broker.publish("plant/pump", "on", true, Qos::AtLeastOnce)?;
//! println!("listening on {}", broker.local_addr());
//! broker.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod connection;
pub mod fault;
mod message;
mod outbox;
mod router;
mod session;
mod socket;
mod topic;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::{Duration, Instant, sleep, sleep_until};

use crate::broker::fault::Script;
use crate::broker::message::Message;
pub use crate::broker::message::Qos;
use crate::broker::router::Router;

/// Settings of the broker.
#[derive(Clone, Debug)]
pub struct Options {
    /// Maximum unacknowledged QoS 1 messages per client, unless its Receive Maximum is lower; 0: no limit.
    pub inflight_max: u16,
    /// Maximum messages waiting per client. When full, a QoS 1 message displaces the oldest; a QoS 0 message is
    /// dropped.
    pub queue_max: usize,
    /// Maximum packet from a client, in bytes after the fixed header.
    pub packet_bytes_max: u32,
    /// Credentials that clients must send.
    pub credentials: Option<Credentials>,
    /// Remember acknowledgements for [`Broker::acked`]. They are never forgotten, so this is for tests only.
    pub record_acks: bool,
    /// Misbehaviour, per connection.
    pub script: Script,
}

impl Options {
    /// Records acknowledgements and follows `script`.
    pub fn scripted(script: Script) -> Options {
        Options { record_acks: true, script, ..Options::default() }
    }

    fn admits(&self, username: &str, password: &str) -> bool {
        self.credentials
            .as_ref()
            .is_none_or(|wanted| wanted.username == username && wanted.password == password)
    }
}

impl Default for Options {
    /// A window of 20 messages, like mosquitto, 100 000 waiting messages per client, packets up to 1 MiB.
    fn default() -> Options {
        Options {
            inflight_max: 20,
            queue_max: 100_000,
            packet_bytes_max: 1024 * 1024,
            credentials: None,
            record_acks: false,
            script: Script::default(),
        }
    }
}

/// A user name and a password.
#[derive(Clone)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Counters since the broker started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections accepted.
    pub connections: u64,
    /// PUBLISHes received from clients.
    pub messages_in: u64,
    /// PUBLISHes sent to clients, including redeliveries.
    pub messages_out: u64,
    /// PUBACKs received, of any kind.
    pub pubacks_in: u64,
    /// Messages that did not reach a subscriber: its queue was full, they had expired, or were too large for it.
    pub dropped: u64,
    /// PUBACKs whose packet identifier was not waiting for one on that connection.
    pub stray_acks: u64,
    /// PUBACKs that arrived before that of an earlier PUBLISH on their connection.
    pub misordered_acks: u64,
}

/// A PUBACK, and the message it was for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acked {
    /// Number of its connection, from 0 in order of acceptance.
    pub connection: usize,
    /// Packet identifier.
    pub pkid: u16,
    /// Topic of the message.
    pub topic: String,
    /// Payload of the message.
    pub payload: Bytes,
}

/// The state of a client's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// The client is connected.
    pub connected: bool,
    /// Messages waiting to be sent.
    pub queued: usize,
    /// QoS 1 messages sent and not acknowledged.
    pub in_flight: usize,
}

/// State shared by the broker's tasks.
#[derive(Debug)]
pub(crate) struct Shared {
    router: Mutex<Router>,
    options: Options,
    stop: watch::Receiver<bool>,
    /// A session or a will may now end earlier than the accepting task expects.
    deadline_changed: Notify,
}

impl Shared {
    fn router(&self) -> MutexGuard<'_, Router> {
        self.router.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running broker. It stops when dropped.
#[derive(Debug)]
pub struct Broker {
    shared: Arc<Shared>,
    local_addr: SocketAddr,
    stop: watch::Sender<bool>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

impl Broker {
    /// Listens on `addr` and serves, on the caller's runtime.
    pub async fn bind(addr: impl ToSocketAddrs, options: Options) -> io::Result<Broker> {
        let listener = TcpListener::bind(addr).await?;
        let local_addr = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared {
            router: Mutex::new(Router::new(options.queue_max, options.record_acks)),
            options,
            stop: stopped,
            deadline_changed: Notify::new(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Broker { shared, local_addr, stop, accepting: Mutex::new(Some(accepting)) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Publishes a message as if a client had.
    pub fn publish(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
        retain: bool,
        qos: Qos,
    ) -> Result<(), PublishError> {
        if !topic::is_valid_name(topic) {
            return Err(PublishError::InvalidTopic { topic: topic.to_owned() });
        }
        let (topic, payload) = (topic.to_owned(), payload.into());
        let message = Message { topic, payload, qos, retain, properties: None, expires: None };
        self.shared.router().publish(message, None);
        Ok(())
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        self.shared.router().stats
    }

    /// Every PUBACK for a PUBLISH of its own connection, in order of arrival, including those ignored by the script.
    /// Empty unless [`Options::record_acks`] is set.
    pub fn acked(&self) -> Vec<Acked> {
        self.shared.router().acked.clone().unwrap_or_default()
    }

    /// The session of a client, if there is one.
    pub fn session(&self, client_id: &str) -> Option<SessionInfo> {
        self.shared.router().session_info(client_id)
    }

    /// Number of topics with a retained message.
    pub fn retained(&self) -> usize {
        self.shared.router().retained_count()
    }

    /// Ends all connections and tasks, and waits for them. The port is free afterwards.
    pub async fn shutdown(&self) {
        self.stop.send_replace(true);
        let accepting = self.accepting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(accepting) = accepting {
            report(accepting.await);
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// Accepts connections; ends sessions and publishes wills when they are due.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let mut stop = shared.stop.clone();
    let mut number = 0;
    loop {
        let deadline = shared.router().next_deadline();
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    start(&mut connections, &shared, stream, number);
                    number += 1;
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    // Probably out of file descriptors: an immediate retry would only spin.
                    sleep(Duration::from_millis(100)).await;
                }
            },
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                shared.router().expire(Instant::now());
            }
            () = shared.deadline_changed.notified() => {}
            Some(ended) = connections.join_next() => report(ended),
            () = stopped(&mut stop) => break,
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        report(ended);
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a task of the broker failed; this is a defect of the broker");
    }
}

/// Waits until the broker shuts down or is dropped.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The guard in the result must not live on in the caller's `select!`.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn start(connections: &mut JoinSet<()>, shared: &Arc<Shared>, stream: TcpStream, number: usize) {
    shared.router().stats.connections += 1;
    connections.spawn(connection::serve(Arc::clone(shared), stream, number));
}

/// Why a message was not published.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The topic is empty, or holds a wildcard or a NUL.
    #[error("cannot publish to {topic:?}: a topic is not empty and holds no '+', '#' or NUL")]
    InvalidTopic {
        /// The requested topic.
        topic: String,
    },
}
