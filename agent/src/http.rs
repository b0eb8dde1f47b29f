//! The read side over HTTP: current state, history, events and metrics, each with its position.
//!
//! Nothing in here changes the log: what is to be changed is asked of the writer. What reads the log runs on blocking threads, two long and two short reads at a time; the
//! view is locked only while an answer is made from it. Whoever connects, and whatever they ask for, health and metrics are
//! answered, and memory is bounded (`body`, `seats`).

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use futures_util::FutureExt;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::net::failure::causes;
use crate::net::secret::SecretError;
use crate::net::tls::{ServerTls, TlsError};
use crate::read_side::ReadSide;
use body::Budget;
use gate::{Actor, Client};
use patience::Patient;
use reads::Reads;
use seats::{RESERVE_MAX, Seats};

mod administer;
mod aggregates;
mod alerts;
mod answer;
mod attempts;
mod backup;
mod body;
mod commands;
mod credentials;
mod devices;
mod diff;
pub(crate) mod event;
mod events;
mod gate;
mod health;
mod history;
mod host;
mod listen;
mod login;
mod min_seq;
mod named;
mod nearest;
pub mod offline;
mod page;
mod params;
mod past;
mod patience;
mod position;
mod problem;
mod quarantine;
mod reads;
mod routes;
mod seats;
mod session;
mod sinks;
mod snapshot;
mod status;
mod stream;
mod token;
mod why;

pub use credentials::Credentials;
pub use listen::{Listeners, bind};

/// Maximum requests being answered; further ones get 503.
const REQUESTS_MAX: usize = 64;
/// Maximum open event streams; further ones get 503.
const STREAMS_MAX: usize = 32;
/// Maximum requests waiting for a position; further ones get 503.
const WAITS_MAX: usize = 32;
/// Time limit for the head of a request, including the next one on a persistent connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// The same for connections beyond the limit.
const RESERVE_HEAD_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum buffer of a connection for a request head.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Time limit for the client's part of a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a stop waits for running answers.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// The state shared by all requests.
#[derive(Debug)]
struct App {
    side: Arc<ReadSide>,
    reads: Reads,
    requests: Semaphore,
    waits: Semaphore,
    asking: commands::Asking,
    budget: Budget,
    streams: Arc<Semaphore>,
    credentials: Arc<Credentials>,
    stop: watch::Receiver<bool>,
}

/// How a request arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    /// Anyone who can reach the port: `Host` is checked, and the token if one is set.
    Tcp,
    /// Anyone whom the socket's mode admits.
    Unix,
}

/// The permitted requests of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// Everything.
    All,
    /// Health and metrics only: the connection is beyond the limit.
    Health,
}

/// Serves until `shutdown` becomes true. When it returns, no request reads the log any more, unless a read ignored its
/// cancellation for the whole grace time.
pub async fn serve(listeners: Listeners, side: Arc<ReadSide>, shutdown: watch::Receiver<bool>) {
    let Listeners { tcp, unix, credentials } = listeners;
    let app = Arc::new(App {
        side,
        reads: Reads::new(),
        requests: Semaphore::new(REQUESTS_MAX),
        waits: Semaphore::new(WAITS_MAX),
        asking: commands::Asking::new(commands::ASKING_MAX),
        budget: Budget::new(),
        streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        credentials,
        stop: shutdown.clone(),
    });
    let on_tcp = async {
        if let Some(listener) = tcp {
            let address = |from: &SocketAddr| Some(from.ip());
            accept(listener, address, |_| None, &app, Transport::Tcp, shutdown.clone()).await;
        }
    };
    let on_unix = async {
        if let Some((listener, _file)) = unix {
            accept(listener, |_| None, peer, &app, Transport::Unix, shutdown.clone()).await;
        }
    };
    tokio::join!(on_tcp, on_unix);
    if tokio::time::timeout(STOP_GRACE, app.reads.finished()).await.is_err() {
        tracing::warn!("a read of the log for HTTP is still going on; the log closes when it ends");
    }
}

/// Accepts connections until `stop`, then lets open ones finish.
async fn accept<L: Listener<Io: Socket>>(
    mut listener: L,
    address: fn(&L::Addr) -> Option<IpAddr>,
    actor: fn(&L::Io) -> Option<Actor>,
    app: &Arc<App>,
    transport: Transport,
    mut stop: watch::Receiver<bool>,
) {
    let (seats, mut open) = (Seats::default(), JoinSet::new());
    let seated = routes::router(app.clone(), transport, Scope::All);
    let beyond = routes::router(app.clone(), transport, Scope::Health);
    let mut reserve: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let (io, from) = tokio::select! {
            () = stopped(&mut stop) => break,
            Some(_) = open.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let tls = (transport == Transport::Tcp).then(|| app.credentials.tls()).flatten();
        let client = Client(address(&from));
        if let Some(seat) = seats.acquire(client.0) {
            let router = seated.clone().layer(axum::Extension(client));
            let router = match actor(&io) {
                Some(actor) => router.layer(axum::Extension(actor)),
                None => router,
            };
            let connection = admitted(io, tls, router, Scope::All, stop.clone());
            let seated = async move {
                connection.await;
                drop(seat);
            };
            open.spawn(seated.boxed());
            continue;
        }
        reserve.retain(|connection| !connection.is_finished());
        if reserve.len() >= RESERVE_MAX
            && let Some(oldest) = reserve.pop_front()
        {
            oldest.abort();
        }
        let router = beyond.clone().layer(axum::Extension(client));
        let connection = admitted(io, tls, router, Scope::Health, stop.clone());
        reserve.push_back(open.spawn(connection.boxed()));
    }
    drop(listener);
    let ended = async { while open.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_GRACE, ended).await.is_err() {
        open.shutdown().await;
    }
}

/// The user at the other end of a Unix socket.
fn peer(io: &UnixStream) -> Option<Actor> {
    let uid = io.peer_cred().ok()?.uid();
    Some(Actor(format!("uid:{uid}").into()))
}

/// What connections arrive on.
trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Whether the client begins as one does that wants TLS.
    fn begins_tls(&self) -> impl Future<Output = bool> + Send;
}

impl Socket for TcpStream {
    async fn begins_tls(&self) -> bool {
        // The type of a record with a handshake.
        let mut first = [0];
        matches!(self.peek(&mut first).await, Ok(1) if first == [0x16])
    }
}

impl Socket for UnixStream {
    async fn begins_tls(&self) -> bool {
        false
    }
}

/// Serves a connection, after the handshake if it is to have TLS.
async fn admitted(
    io: impl Socket,
    tls: Option<ServerTls>,
    router: axum::Router,
    scope: Scope,
    stop: watch::Receiver<bool>,
) {
    let Some(tls) = tls else { return connection(Patient::new(io), router, scope, stop).await };
    let handshake = async {
        match io.begins_tls().await {
            true => Ok(tls.accept(Patient::new(io)).await?),
            false => Err(turned_away(io).await),
        }
    };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(io)) => connection(io, router, scope, stop).await,
        Ok(Err(error)) => tracing::debug!("an HTTPS connection failed: {error}"),
        Err(_) => tracing::debug!("an HTTPS connection failed: the handshake took too long"),
    }
}

/// Tells a client that speaks HTTP on the port of HTTPS what to do.
async fn turned_away(mut io: impl Socket) -> io::Error {
    let words = "This port speaks HTTPS: begin the address with https://\n";
    let head = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n";
    let answer = format!("{head}Content-Length: {}\r\n\r\n{words}", words.len());
    let mut request = [0; 4_096];
    // What is not read when a socket is closed makes the kernel reset the connection before the answer is read.
    let _ = io.read(&mut request).await;
    let _ = io.write_all(answer.as_bytes()).await;
    let _ = io.shutdown().await;
    io::Error::other("the client spoke HTTP")
}

async fn connection<I>(io: I, router: axum::Router, scope: Scope, mut stop: watch::Receiver<bool>)
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let service = TowerToHyperService::new(router);
    let (kept, head_timeout) = match scope {
        Scope::All => (true, HEAD_TIMEOUT),
        Scope::Health => (false, RESERVE_HEAD_TIMEOUT),
    };
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(kept)
        .header_read_timeout(head_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        // It panics if the clock is before 1970 or after 9999; `gate` adds the date instead.
        .auto_date_header(false)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("an HTTP connection ended: {error}");
    }
}

/// Returns once `stop` is true or its sender is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Why HTTP cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The TCP port.
    #[error(
        "cannot listen on {address}: {source}; is another fieldlog running? Change `http.listen`, or leave it empty to \
         serve the Unix socket only"
    )]
    Tcp {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Reachable from other machines, without a token.
    #[error(
        "`http.listen` {address} can be reached from other machines: set `http.token_file`, or listen on 127.0.0.1"
    )]
    TokenRequired {
        /// Where.
        address: SocketAddr,
    },
    /// The Unix socket.
    #[error(
        "cannot listen on the Unix socket {}: {source}; check that its directory exists and belongs to the user that \
         runs fieldlog", path.display()
    )]
    Unix {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another program answers on the Unix socket.
    #[error(
        "another program listens on the Unix socket {}; stop it, or change `http.unix_socket`", path.display()
    )]
    SocketInUse {
        /// Which.
        path: PathBuf,
    },
    /// The socket's path is in use by something else.
    #[error("{} is not a socket and is left alone; move it away, or change `http.unix_socket`", path.display())]
    NotASocket {
        /// Which.
        path: PathBuf,
    },
    /// A file with a token that is none.
    #[error(
        "`{setting}` {p} must hold 16 to 4,096 visible ASCII characters without spaces; to make one, run: \
         head -c 24 /dev/urandom | base64 > {p}", p = path.display()
    )]
    Token {
        /// The key that names it.
        setting: &'static str,
        /// Which.
        path: PathBuf,
    },
    /// A file with a token, the certificate, or its key.
    #[error("{0}")]
    File(String),
}

impl From<SecretError> for HttpError {
    fn from(error: SecretError) -> HttpError {
        HttpError::File(causes(&error))
    }
}

impl From<TlsError> for HttpError {
    fn from(error: TlsError) -> HttpError {
        HttpError::File(causes(&error))
    }
}

#[cfg(test)]
mod tests;
