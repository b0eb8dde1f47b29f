//! Keeps this process's lease. What holds gateways is not the process but one entry of it in the database; an entry that
//! was not renewed in time is never used again, because others may have taken what it held.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{RunError, database};
use crate::config::{Config, Postgres};
use crate::postgres::{Link, alive, chain, forget, register, renew};

/// The task that renews the lease.
pub(super) struct Lease {
    task: JoinHandle<RunError>,
    /// The name of the entry, while there is one.
    pub(super) hub: watch::Receiver<Option<Arc<str>>>,
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

/// Enters the process and keeps its lease.
pub(super) async fn start(config: &Config, mut link: Link) -> Result<Lease, RunError> {
    let keeper = Keeper {
        name: config.name.clone(),
        lease: config.lease,
        postgres: config.postgres.clone(),
        hub: watch::Sender::new(None),
        alive: watch::Sender::new(Vec::new()),
    };
    // Whatever had this name is what this process is the restart of.
    keeper.enter(&mut link, true).await?;
    let (hub, alive) = (keeper.hub.subscribe(), keeper.alive.subscribe());
    let (postgres, lease) = (config.postgres.clone(), config.lease);
    let task = tokio::spawn(async move { keeper.keep(link).await });
    Ok(Lease { task, hub, alive, postgres, lease })
}

impl Lease {
    /// Waits until the process must end because of its lease.
    pub(super) async fn ended(&mut self) -> RunError {
        (&mut self.task).await.unwrap_or_else(|error| RunError::Database { why: error.to_string() })
    }

    /// Gives everything back, so that others need not wait.
    pub(super) async fn release(self) {
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

    /// Renews the lease for ever; ends with the reason why the process must not go on.
    async fn keep(&self, link: Link) -> RunError {
        let mut link = Some(link);
        loop {
            tokio::time::sleep(self.lease / 4).await;
            if link.as_ref().is_none_or(|link| link.client.is_closed()) {
                link = match Link::open(&self.postgres, self.lease).await {
                    Ok(link) => Some(link),
                    Err(error) => {
                        tracing::warn!("the lease is not renewed: {error}");
                        continue;
                    }
                };
            }
            let Some(open) = &mut link else { continue };
            match self.renew(open).await {
                Ok(()) => {}
                Err(error @ RunError::Name { .. }) => return error,
                Err(error) => {
                    tracing::warn!("the lease is not renewed: {error}");
                    link = None;
                }
            }
        }
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
        self.enter(link, false).await
    }
}
