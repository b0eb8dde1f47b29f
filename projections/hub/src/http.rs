//! HTTP: gateways post parcels here, and people read what has become of them.

mod api;
mod commands;
mod fleet;
mod ingest;
mod metrics;
mod page;
mod problem;
mod reading;
mod routes;
mod search;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;

use crate::calls::Calls;
use crate::follow::Board;
use crate::intake::Intake;
use crate::metrics::Counters;
use crate::postgres::Readers;
use crate::source::Standings;
use crate::token::Token;

/// Connections that may wait to be taken: after a restart of the hub a whole fleet comes at once.
const BACKLOG: u32 = 4096;
/// How long a stop waits for running requests.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// What requests need.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) intake: Intake,
    pub(crate) counters: Arc<Counters>,
    pub(crate) tokens: Arc<[Token]>,
    pub(crate) parcel_bytes_max: usize,
    pub(crate) readers: Arc<Readers>,
    /// Whether the lease is there, so that parcels can be stored.
    pub(crate) hub: watch::Receiver<Option<Arc<str>>>,
    /// The way to gateways that take commands.
    pub(crate) calls: Arc<Calls>,
    /// How the stores are doing that follow the tables.
    pub(crate) board: Arc<Board>,
    /// How the streams of parcels are doing.
    pub(crate) standings: Arc<Standings>,
}

/// Opens the port.
pub(crate) fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `stopped`.
pub(crate) async fn serve(listener: TcpListener, app: App, mut stopped: watch::Receiver<bool>) {
    let router = routes::router(app);
    let mut late = stopped.clone();
    let stop = async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop);
    let too_late = async move {
        let _ = late.wait_for(|stop| *stop).await;
        tokio::time::sleep(STOP_GRACE).await;
    };
    tokio::select! {
        result = serving => {
            if let Err(error) = result {
                tracing::error!("the HTTP server stopped: {error}");
            }
        }
        () = too_late => tracing::warn!("some HTTP requests were still in progress and were not answered"),
    }
}
