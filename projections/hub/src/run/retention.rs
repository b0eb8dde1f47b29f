//! Deletes what is older than the configuration keeps: events by dropping the partitions of whole days.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use crate::config::{Postgres, Retention};
use crate::postgres::{Link, chain, drop_minutes, drop_partitions};

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(600);

/// Deletes for ever, if there is anything to delete, from when the tables are there: with the first lease.
pub(super) async fn keep(
    postgres: Postgres,
    lease: Duration,
    retention: Retention,
    mut hub: watch::Receiver<Option<Arc<str>>>,
) {
    if retention.events_days.or(retention.minutes_days).is_none()
        || hub.wait_for(Option::is_some).await.is_err()
    {
        return;
    }
    loop {
        if let Err(why) = round(&postgres, lease, retention).await {
            tracing::warn!("nothing is deleted at the moment: {why}");
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn round(postgres: &Postgres, lease: Duration, retention: Retention) -> Result<(), String> {
    let mut link = Link::open(postgres, lease).await.map_err(|error| error.to_string())?;
    let before = |days: u32| Timestamp::now() - SignedDuration::from_hours(24 * i64::from(days));
    if let Some(days) = retention.events_days {
        drop_partitions(&mut link.client, before(days)).await.map_err(|error| chain(&error))?;
    }
    if let Some(days) = retention.minutes_days {
        drop_minutes(&link.client, before(days)).await.map_err(|error| chain(&error))?;
    }
    Ok(())
}
