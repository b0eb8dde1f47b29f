//! The processes that share a database.

use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::{Client, Error};

/// Enters a process. `first`: whatever had its name before has ended. Otherwise `false` says that another process has the
/// name.
pub(crate) async fn register(
    client: &mut Client,
    hub: &str,
    name: &str,
    lease: Duration,
    first: bool,
) -> Result<bool, Error> {
    let transaction = client.transaction().await?;
    let of_name = "DELETE FROM hubs WHERE name = $1 AND ($2 OR expires <= clock_timestamp())";
    transaction.execute(of_name, &[&name, &first]).await?;
    transaction.execute("DELETE FROM hubs WHERE expires < clock_timestamp() - interval '1 day'", &[]).await?;
    let entered = transaction
        .execute(
            "INSERT INTO hubs (hub, name, expires)
             SELECT $1, $2, clock_timestamp() + $3 * interval '1 second'
             WHERE NOT EXISTS (SELECT FROM hubs WHERE name = $2)",
            &[&hub, &name, &lease.as_secs_f64()],
        )
        .await?;
    transaction.commit().await?;
    Ok(entered == 1)
}

/// Prolongs the lease; `false` if it is over. What is over stays over: others may have taken what it held.
pub(crate) async fn renew(client: &Client, hub: &str, lease: Duration) -> Result<bool, Error> {
    let renewed = client
        .execute(
            "UPDATE hubs SET expires = clock_timestamp() + $2 * interval '1 second'
             WHERE hub = $1 AND expires > clock_timestamp()",
            &[&hub, &lease.as_secs_f64()],
        )
        .await?;
    Ok(renewed == 1)
}

/// The names of the processes whose leases run, in order, without those that only load files and have no share of what the
/// others divide among themselves: a name with a blank is never configured.
pub(crate) async fn alive(client: &Client) -> Result<Vec<String>, Error> {
    let select =
        "SELECT name FROM hubs WHERE expires > clock_timestamp() AND strpos(name, ' ') = 0 ORDER BY name";
    let rows = client.query(select, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The current log of a gateway, in view of another one that is not there yet.
pub(crate) struct Current {
    pub(crate) epoch: String,
    /// Whether it has events after the end of the other one.
    pub(crate) ends_later: bool,
    /// Whether it, or a log that it comes from, says that it was begun after the other one.
    pub(crate) is_successor: bool,
}

/// A gateway's current log in view of one of another epoch that ends at `ends`; `None` if there is no log, or if the other one is
/// there already.
pub(crate) async fn current_log(
    client: &Client,
    gateway: &str,
    epoch: &str,
    ends: Timestamp,
) -> Result<Option<Current>, Error> {
    // What is said of no device is found by the index that begins with log and device.
    let select = "WITH RECURSIVE before (epoch) AS (
            SELECT l.epoch FROM gateways g JOIN logs l USING (log) WHERE g.gateway = $1
            UNION SELECT e.data ->> 'previous_epoch' FROM before b JOIN logs l ON l.gateway = $1 AND l.epoch = b.epoch
                JOIN events e ON e.log = l.log AND e.device IS NULL AND e.type = 'epoch_begun')
        SELECT l.epoch, coalesce(l.newest_time > $3, false), $2 IN (SELECT b.epoch FROM before b WHERE b.epoch IS NOT NULL)
        FROM gateways g JOIN logs l USING (log) WHERE g.gateway = $1
        AND NOT EXISTS (SELECT FROM logs o WHERE o.gateway = $1 AND o.epoch = $2)";
    let row = client.query_opt(select, &[&gateway, &epoch, &ends]).await?;
    let current = |row: tokio_postgres::Row| Current {
        epoch: row.get(0),
        ends_later: row.get(1),
        is_successor: row.get(2),
    };
    Ok(row.map(current))
}

/// The id of this database, which no other has unless it is a copy of this one.
pub(crate) async fn identity(client: &Client) -> Result<String, Error> {
    Ok(client.query_one("SELECT id::text FROM identity", &[]).await?.get(0))
}

/// Takes a process out, at its end, so that others need not wait for its lease.
pub(crate) async fn forget(client: &Client, hub: &str) -> Result<(), Error> {
    client.execute("DELETE FROM hubs WHERE hub = $1", &[&hub]).await.map(|_| ())
}
