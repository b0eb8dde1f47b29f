//! How far the topics of Kafka are stored, and whether a part of a log is.

use fieldlog_projections::{Epoch, Seq};
use fieldlog_wire::account::Account;
use tokio_postgres::{Client, Error};

/// A partition that this process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) partition: i32,
    /// The partition's fencing number at that time.
    pub(crate) fence: i64,
    /// Everything before this offset is stored.
    pub(crate) next: i64,
}

/// Takes partitions for the process `hub`; they may have been another's, which cannot note anything about them any more.
pub(crate) async fn take_partitions(
    client: &Client,
    hub: &str,
    topic: &str,
    partitions: &[i32],
) -> Result<Vec<Place>, Error> {
    let rows = client
        .query(
            "INSERT INTO kafka_partitions AS k (topic, partition, holder, fence)
             SELECT $1, p, $2, 1 FROM unnest($3::int4[]) p ORDER BY p
             ON CONFLICT (topic, partition) DO UPDATE SET holder = excluded.holder,
             fence = k.fence + (k.holder IS DISTINCT FROM excluded.holder)::integer
             RETURNING partition, fence, next",
            &[&topic, &hub, &partitions],
        )
        .await?;
    let place =
        |row: &tokio_postgres::Row| Place { partition: row.get(0), fence: row.get(1), next: row.get(2) };
    Ok(rows.iter().map(place).collect())
}

/// Notes how far the partitions are stored; `false` if one of them is no longer this process's.
pub(crate) async fn note_offsets(
    client: &Client,
    hub: &str,
    topic: &str,
    places: &[Place],
) -> Result<bool, Error> {
    let partitions: Vec<i32> = places.iter().map(|place| place.partition).collect();
    let fences: Vec<i64> = places.iter().map(|place| place.fence).collect();
    let next: Vec<i64> = places.iter().map(|place| place.next).collect();
    let noted = client
        .execute(
            "UPDATE kafka_partitions AS k SET next = u.next
             FROM unnest($3::int4[], $4::int8[], $5::int8[]) AS u (partition, fence, next)
             WHERE k.topic = $2 AND k.partition = u.partition AND k.holder = $1 AND k.fence = u.fence
                 AND EXISTS (SELECT FROM hubs h WHERE h.hub = $1 AND h.expires > clock_timestamp())",
            &[&hub, &topic, &partitions, &fences, &next],
        )
        .await?;
    Ok(noted == places.len() as u64)
}

/// Whether all positions of a range are stored.
pub(crate) async fn is_stored(
    client: &Client,
    gateway: &str,
    epoch: Epoch,
    (first, last): (Seq, Seq),
) -> Result<bool, Error> {
    let row = client
        .query_opt(
            "SELECT account::text FROM logs WHERE gateway = $1 AND epoch = $2",
            &[&gateway, &epoch.to_string()],
        )
        .await?;
    // An account that cannot be read stops its log elsewhere, with the reason.
    let account = row.and_then(|row| serde_json::from_str::<Account>(row.get(0)).ok());
    Ok(account.is_some_and(|account| account.holes(first, last).is_empty()))
}
