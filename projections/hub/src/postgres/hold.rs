//! Takes a gateway, and reads what is known of its log.

use std::collections::HashMap;

use fieldlog_projections::{Epoch, Seq};
use fieldlog_wire::account::Account;
use jiff::Timestamp;
use tokio_postgres::{Client, Error};

use super::connect::chain;
use crate::parcel::Parcel;
use crate::text;

/// A log that this process writes.
#[derive(Debug)]
pub(crate) struct Held {
    /// Its number in the tables.
    pub(crate) log: i32,
    /// The gateway's fencing number at that time.
    pub(crate) fence: i64,
    /// Of its row.
    pub(crate) version: i64,
    /// What has arrived of it.
    pub(crate) account: Account,
    /// Why nothing more is taken.
    pub(crate) forked: Option<String>,
}

/// Enters a log that came before a gateway's current one, which stays the current one.
pub(crate) async fn enter_older(client: &Client, gateway: &str, epoch: Epoch) -> Result<(), HoldError> {
    let account = serde_json::to_string(&Account::new(epoch))?;
    let insert =
        "INSERT INTO logs (gateway, epoch, account) VALUES ($1, $2, $3::text::json) ON CONFLICT DO NOTHING";
    client.execute(insert, &[&gateway, &epoch.to_string(), &account]).await?;
    Ok(())
}

/// Takes a gateway for the process `hub`, and reads the account of its log. The gateway may have been another process's:
/// it is taken over, because its parcels now come here. The number of that process is no longer right then, so what it
/// still tries to write fails.
pub(crate) async fn hold(client: &Client, hub: &str, gateway: &str, epoch: Epoch) -> Result<Held, HoldError> {
    let taken = client
        .query_one(
            "INSERT INTO gateways AS g (gateway, holder, fence) VALUES ($1, $2, 1)
             ON CONFLICT (gateway) DO UPDATE SET holder = excluded.holder,
             fence = g.fence + (g.holder IS DISTINCT FROM excluded.holder)::integer
             RETURNING fence",
            &[&gateway, &hub],
        )
        .await?;
    let epoch_text = epoch.to_string();
    let account = serde_json::to_string(&Account::new(epoch))?;
    client
        .execute(
            "WITH new AS (
                 INSERT INTO logs (gateway, epoch, account) SELECT $1, $2, $3::text::json
                 WHERE NOT EXISTS (SELECT FROM logs WHERE gateway = $1 AND epoch = $2)
                 ON CONFLICT DO NOTHING RETURNING log)
             UPDATE gateways SET log = new.log FROM new WHERE gateway = $1",
            &[&gateway, &epoch_text, &account],
        )
        .await?;
    let row = client
        .query_one(
            "SELECT log, version, account::text, forked FROM logs WHERE gateway = $1 AND epoch = $2",
            &[&gateway, &epoch_text],
        )
        .await?;
    Ok(Held {
        log: row.get(0),
        fence: taken.get(0),
        version: row.get(1),
        account: serde_json::from_str(row.get(2))?,
        forked: row.get(3),
    })
}

/// The first position of a parcel at which another event is stored. An event is known by its type and its log time to
/// the microsecond, which two histories do not share.
pub(crate) async fn other_event(client: &Client, log: i32, parcel: &Parcel) -> Result<Option<Seq>, Error> {
    let (Some(first), Some(last)) = (parcel.events.first(), parcel.events.last()) else { return Ok(None) };
    let rows = client
        .query(
            "SELECT seq, recorded, type FROM events WHERE log = $1 AND seq BETWEEN $2 AND $3",
            &[&log, &(first.seq.0 as i64), &(last.seq.0 as i64)],
        )
        .await?;
    let stored: HashMap<i64, (Timestamp, String)> =
        rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
    let other = parcel.events.iter().find(|event| {
        let known = stored.get(&(event.seq.0 as i64));
        known.is_some_and(|(recorded, kind)| *recorded != text::time(event.recorded) || **kind != *event.kind)
    });
    Ok(other.map(|event| event.seq))
}

/// Why a log cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HoldError {
    #[error("{}", chain(.0))]
    Sql(#[from] Error),
    #[error("the account of the log cannot be read: {0}; was it written by a newer fieldlog-hub?")]
    Account(#[from] serde_json::Error),
}
