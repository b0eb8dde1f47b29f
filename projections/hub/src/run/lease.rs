//! Keeps this process's lease. What holds gateways is not the process but one entry of it in the database; an entry that
//! was not renewed in time is never used again, because others may have taken what it held.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{RunError, database};
use crate::config::Postgres;
use crate::postgres::{Link, MigrateError, alive, chain, forget, migrate, refuse_newer, register, renew};

/// Between attempts to reach a database that does not answer.
const RETRY: Duration = Duration::from_secs(1);

/// The task that renews the lease.
pub(crate) struct Lease {
    task: JoinHandle<RunError>,
    /// The name of the entry, while there is one.
    pub(crate) hub: watch::Receiver<Option<Arc<str>>>,
    /// The names of all processes whose leases run.
    pub(super) alive: watch::Receiver<Vec<String>>,
    postgres: Postgres,
    lease: Duration,
}

struct Keeper {
    name: String,
    lease: Duration,
    postgres: Postgres,
    hub: watch::Sender<Option<Arc<str>>>,
    alive: watch::Sender<Vec<String>>,
}

/// Enters the process, as soon as the database is there, and keeps its lease.
pub(crate) fn start(name: &str, postgres: &Postgres, lease: Duration) -> Lease {
    let keeper = Keeper {
        name: name.to_owned(),
        lease,
        postgres: postgres.clone(),
        hub: watch::Sender::new(None),
        alive: watch::Sender::new(Vec::new()),
    };
    let (hub, alive) = (keeper.hub.subscribe(), keeper.alive.subscribe());
    let postgres = postgres.clone();
    let task = tokio::spawn(async move { keeper.keep().await });
    Lease { task, hub, alive, postgres, lease }
}

impl Lease {
    /// Waits until the process must end because of its lease.
    pub(crate) async fn ended(&mut self) -> RunError {
        (&mut self.task).await.unwrap_or_else(|error| RunError::Database { why: error.to_string() })
    }

    /// Gives everything back, so that others need not wait.
    pub(crate) async fn release(self) {
        self.task.abort();
        let hub = self.hub.borrow().clone();
        let Some(hub) = hub else { return };
        match Link::open(&self.postgres, self.lease).await {
            Ok(link) => {
                if let Err(error) = forget(&link.client, &hub).await {
                    tracing::warn!("the lease stays for {} s: {}", self.lease.as_secs(), chain(&error));
                }
            }
            Err(error) => tracing::warn!("the lease stays for {} s: {error}", self.lease.as_secs()),
        }
    }
}

impl Keeper {
    /// Makes a new entry.
    async fn enter(&self, link: &mut Link, first: bool) -> Result<(), RunError> {
        let mut random = [0; 8];
        getrandom::fill(&mut random)
            .map_err(|error| RunError::Database { why: format!("there are no random numbers: {error}") })?;
        let hub: Arc<str> = format!("{}-{:016x}", self.name, u64::from_le_bytes(random)).into();
        let entered = register(&mut link.client, &hub, &self.name, self.lease, first).await;
        if !entered.map_err(|error| database(&error))? {
            return Err(RunError::Name { name: self.name.clone() });
        }
        self.hub.send_replace(Some(hub));
        self.look(link).await
    }

    /// Looks who else is alive.
    async fn look(&self, link: &Link) -> Result<(), RunError> {
        self.alive.send_replace(alive(&link.client).await.map_err(|error| database(&error))?);
        Ok(())
    }

    /// Keeps the lease for ever; ends with the reason why the process must not go on.
    async fn keep(&self) -> RunError {
        let (mut link, mut is_first, mut said) = (None, true, false);
        loop {
            // Later it would be of no use. The first one may migrate, however long that takes.
            let patience = if is_first { Duration::MAX } else { self.lease };
            let round = tokio::time::timeout(patience, self.round(&mut link, &mut is_first)).await;
            let late = || RunError::Database { why: format!("no answer within {} s", self.lease.as_secs()) };
            match round.unwrap_or_else(|_| Err(late())) {
                Ok(()) => said = false,
                Err(error @ (RunError::Name { .. } | RunError::Schema { .. })) => return error,
                Err(error) => {
                    link = None;
                    // Once is enough: it is tried again every second.
                    if !std::mem::replace(&mut said, true) {
                        tracing::warn!("the lease is not renewed: {error}; trying again until it is");
                    }
                }
            }
            let pause = if said { RETRY } else { self.lease / 4 };
            tokio::time::sleep(pause).await;
        }
    }

    async fn round(&self, link: &mut Option<Link>, is_first: &mut bool) -> Result<(), RunError> {
        let open = match link {
            Some(open) if !open.client.is_closed() => open,
            _ => {
                let open = Link::open(&self.postgres, self.lease).await;
                link.insert(open.map_err(|error| RunError::Database { why: error.to_string() })?)
            }
        };
        if *is_first {
            let migrated = migrate(&mut open.client, &self.postgres.schema).await;
            migrated.map_err(|error| schema(open, &error))?;
            // Whatever had this name is what this process is the restart of.
            self.enter(open, true).await?;
            *is_first = false;
            return Ok(());
        }
        self.renew(open).await
    }

    async fn renew(&self, link: &mut Link) -> Result<(), RunError> {
        let hub = self.hub.borrow().clone();
        if let Some(hub) = hub {
            if renew(&link.client, &hub, self.lease).await.map_err(|error| database(&error))? {
                return self.look(link).await;
            }
            tracing::warn!("the lease was over: this process has stood still, or could not reach PostgreSQL");
            self.hub.send_replace(None);
        }
        // A rebuild by a newer version takes all leases away.
        let known = refuse_newer(&link.client, &self.postgres.schema).await;
        known.map_err(|error| schema(link, &error))?;
        self.enter(link, false).await
    }
}

/// Why a schema cannot be used; without a connection it is not the schema's fault.
fn schema(link: &Link, error: &MigrateError) -> RunError {
    let why = error.to_string();
    if link.client.is_closed() { RunError::Database { why } } else { RunError::Schema { why } }
}
