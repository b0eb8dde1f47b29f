//! Starts everything and stops it again.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use crate::ask::Asker;
use crate::calls::Calls;
use crate::config::Config;
use crate::follow::{self, Board};
use crate::http::{self, App};
use crate::kafka;
use crate::metrics::Counters;
use crate::mqtt;
use crate::nats;
use crate::postgres::{self, Readers};
use crate::source::{self, Standings};
use crate::writer;

pub(crate) mod lease;
mod retention;

/// Runs until `shutdown` becomes true; `ready` gets the address of HTTP once parcels can be stored.
///
/// # Errors
/// [`RunError`] if something cannot be opened, or the process must not go on.
pub async fn run(
    config: Config,
    mut shutdown: watch::Receiver<bool>,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), RunError> {
    let listener =
        http::bind(config.listen).map_err(|source| RunError::Listen { address: config.listen, source })?;
    let address = listener.local_addr().unwrap_or(config.listen);
    let mut lease = lease::start(&config.name, &config.postgres, config.lease);
    let hub = lease.hub.clone();
    let counters = Arc::new(Counters::default());
    let (intake, mut writers) = writer::start(&config.postgres, config.lease, &hub, &counters);
    let board = Arc::new(Board::default());
    let followers = follow::start(&config, &hub, &counters, &board);
    let (stop, stopped) = watch::channel(false);
    let mut sources = tokio::task::JoinSet::new();
    let standings = Arc::new(Standings::default());
    let parts = source::Parts {
        intake: intake.clone(),
        counters: counters.clone(),
        name: config.name.clone(),
        alive: lease.alive.clone(),
        hub: hub.clone(),
        lease: config.lease,
        standings: standings.clone(),
    };
    let mut calls = Calls::default();
    for nats in config.nats {
        let called = Arc::new(calls.add_nats(&nats));
        sources.spawn(nats::serve(nats, config.postgres.clone(), parts.clone(), called, stopped.clone()));
    }
    for kafka in config.kafka {
        sources.spawn(kafka::serve(kafka, config.postgres.clone(), parts.clone(), stopped.clone()));
    }
    for mqtt in config.mqtt {
        calls.add_mqtt(mqtt::Caller::start(&mqtt));
        sources.spawn(mqtt::serve(mqtt, parts.clone(), stopped.clone()));
    }
    // The last sender of parcels would otherwise be here.
    drop(parts);
    let calls = Arc::new(calls);
    let asker = Asker {
        postgres: config.postgres.clone(),
        lease: config.lease,
        patience: config.gap_patience,
        hub: hub.clone(),
        calls: calls.clone(),
        wanted: intake.wanted.clone(),
        counters: counters.clone(),
        link: None,
        logs: HashMap::new(),
    };
    let asker = tokio::spawn(asker.run());
    let readers = Arc::new(Readers::new(config.postgres.clone(), config.lease));
    let app = App {
        readers,
        intake,
        counters,
        tokens: config.tokens.into(),
        parcel_bytes_max: config.parcel_bytes_max,
        hub,
        calls,
        board,
        standings,
    };
    sources.spawn(http::serve(listener, app, stopped));
    let retention =
        tokio::spawn(retention::keep(config.postgres, config.lease, config.retention, lease.hub.clone()));
    let mut held = lease.hub.clone();
    let ended = tokio::select! {
        biased;
        _ = shutdown.wait_for(|down| *down) => Ok(()),
        error = lease.ended() => Err(error),
        never = async {
            if held.wait_for(Option::is_some).await.is_ok() {
                ready(address);
            }
            std::future::pending().await
        } => never,
    };
    retention.abort();
    asker.abort();
    drop(followers);
    stop.send_replace(true);
    // With the last source ends the last sender, and with that the writers.
    while sources.join_next().await.is_some() {}
    while writers.join_next().await.is_some() {}
    lease.release().await;
    ended
}

/// Why the hub could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The port.
    #[error("cannot listen on {address}: {source}; choose another port with `http.listen`")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The schema.
    #[error("{why}")]
    Schema {
        /// Why.
        why: String,
    },
    /// Another process has the name.
    #[error("another fieldlog-hub with the name `{name}` uses this database; give each its own `name`")]
    Name {
        /// The name.
        name: String,
    },
    /// The database, at the start.
    #[error("PostgreSQL: {why}")]
    Database {
        /// Why.
        why: String,
    },
}

impl RunError {
    /// The exit code of the process, as in `sysexits.h`.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Listen { .. } => 71,
            RunError::Schema { .. } | RunError::Name { .. } => 78,
            RunError::Database { .. } => 69,
        }
    }
}

/// The words of an error of PostgreSQL.
fn database(error: &tokio_postgres::Error) -> RunError {
    RunError::Database { why: postgres::chain(error) }
}
