//! Connections for those who read.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::connect::{Link, chain};
use crate::config::Postgres;

/// Queries at once; further ones wait.
const AT_ONCE: usize = 4;

/// Connections that only read, opened as they are needed.
pub(crate) struct Readers {
    postgres: Postgres,
    lease: Duration,
    idle: Mutex<Vec<Link>>,
    permits: Semaphore,
}

impl Readers {
    /// Without connections at first.
    pub(crate) fn new(postgres: Postgres, lease: Duration) -> Readers {
        Readers { postgres, lease, idle: Mutex::default(), permits: Semaphore::new(AT_ONCE) }
    }

    /// The rows of a query, or why there are none.
    pub(crate) async fn query(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, String> {
        let _permit = self.permits.acquire().await.map_err(|error| error.to_string())?;
        let idle = self.idle().pop().filter(|link| !link.client.is_closed());
        let link = match idle {
            Some(link) => link,
            None => {
                let link = Link::open(&self.postgres, self.lease).await.map_err(|error| error.to_string())?;
                link.client.batch_execute(READ_ONLY).await.map_err(|error| chain(&error))?;
                link
            }
        };
        let rows = link.client.query(sql, values).await.map_err(|error| chain(&error))?;
        self.idle().push(link);
        Ok(rows)
    }

    /// Lifts the stop of a gateway's logs; returns how many were stopped. Whoever writes for it reads their accounts
    /// again, because their versions have changed.
    pub(crate) async fn resume(&self, gateway: &str) -> Result<u64, String> {
        let link = Link::open(&self.postgres, self.lease).await.map_err(|error| error.to_string())?;
        let update =
            "UPDATE logs SET forked = NULL, version = version + 1 WHERE gateway = $1 AND forked IS NOT NULL";
        link.client.execute(update, &[&gateway]).await.map_err(|error| chain(&error))
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Link>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const READ_ONLY: &str = "SET default_transaction_read_only TO on; SET statement_timeout TO '20s'";
