//! The read side over HTTP: current state, history, events and metrics, each with its position.
//!
//! Nothing in here changes the log: what is to be changed is asked of the writer. What reads the log runs on blocking threads, two long and two short reads at a time; the
//! view is locked only while an answer is made from it. Whoever connects, and whatever they ask for, health and metrics are
//! answered, and memory is bounded (`body`, `seats`).

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::read_side::ReadSide;
use body::Budget;
use gate::Actor;
use patience::Patient;
use reads::Reads;
use seats::{RESERVE_MAX, Seats};
use token::Tokens;

mod administer;
mod aggregates;
mod answer;
mod backup;
mod body;
mod commands;
mod devices;
mod diff;
pub(crate) mod event;
mod events;
mod gate;
mod health;
mod history;
mod host;
mod listen;
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
mod sinks;
mod snapshot;
mod status;
mod stream;
mod token;
mod why;

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
    tokens: Tokens,
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
    let Listeners { tcp, unix, tokens } = listeners;
    let app = Arc::new(App {
        side,
        reads: Reads::new(),
        requests: Semaphore::new(REQUESTS_MAX),
        waits: Semaphore::new(WAITS_MAX),
        asking: commands::Asking::new(commands::ASKING_MAX),
        budget: Budget::new(),
        streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        tokens,
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
async fn accept<L: Listener>(
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
        if let Some(seat) = seats.acquire(address(&from)) {
            let router = match actor(&io) {
                Some(actor) => seated.clone().layer(axum::Extension(actor)),
                None => seated.clone(),
            };
            let connection = connection(io, router, Scope::All, stop.clone());
            open.spawn(async move {
                connection.await;
                drop(seat);
            });
            continue;
        }
        reserve.retain(|connection| !connection.is_finished());
        if reserve.len() >= RESERVE_MAX
            && let Some(oldest) = reserve.pop_front()
        {
            oldest.abort();
        }
        reserve.push_back(open.spawn(connection(io, beyond.clone(), Scope::Health, stop.clone())));
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

async fn connection<I>(io: I, router: axum::Router, scope: Scope, mut stop: watch::Receiver<bool>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
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
        .serve_connection(TokioIo::new(Patient::new(io)), service);
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
    /// The token.
    #[error(transparent)]
    Token(#[from] token::TokenError),
}

#[cfg(test)]
mod tests;
