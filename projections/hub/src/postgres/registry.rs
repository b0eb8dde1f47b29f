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

/// The epoch of a gateway's newest log, if that has events after `ends` and is not the log of this epoch, which is not there yet.
pub(crate) async fn later_log(
    client: &Client,
    gateway: &str,
    epoch: &str,
    ends: Timestamp,
) -> Result<Option<String>, Error> {
    let select =
        "SELECT l.epoch FROM gateways g JOIN logs l USING (log) WHERE g.gateway = $1 AND l.newest_time > $3
        AND NOT EXISTS (SELECT FROM logs o WHERE o.gateway = $1 AND o.epoch = $2)";
    let row = client.query_opt(select, &[&gateway, &epoch, &ends]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// The id of this database, which no other has unless it is a copy of this one.
pub(crate) async fn identity(client: &Client) -> Result<String, Error> {
    Ok(client.query_one("SELECT id::text FROM identity", &[]).await?.get(0))
}

/// Takes a process out, at its end, so that others need not wait for its lease.
pub(crate) async fn forget(client: &Client, hub: &str) -> Result<(), Error> {
    client.execute("DELETE FROM hubs WHERE hub = $1", &[&hub]).await.map(|_| ())
}
