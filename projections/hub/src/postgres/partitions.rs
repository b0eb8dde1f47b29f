//! The days of the table `events`.

use std::collections::BTreeSet;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, Transaction};

/// Days from now within which events get a partition of their own. What is outside, because of a clock that is far off,
/// goes to `events_other`.
const PAST: SignedDuration = SignedDuration::from_hours(24 * 800);
const FUTURE: SignedDuration = SignedDuration::from_hours(24 * 2);
/// One at a time creates or drops: both need locks on the whole table.
const LOCK: i64 = 0x6669_656c_6470_6172;

/// The days that are known to have their partition, or to be without.
#[derive(Debug, Default)]
pub(crate) struct Partitions {
    known: BTreeSet<Date>,
}

impl Partitions {
    /// Makes the partitions that events of these times need.
    pub(crate) async fn ensure(
        &mut self,
        client: &mut Client,
        times: impl Iterator<Item = Timestamp>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let (from, to) = (now - PAST, now + FUTURE);
        let mut before = None;
        let mut new = BTreeSet::new();
        for time in times.filter(|time| (from..to).contains(time)) {
            let day = time.as_second().div_euclid(86_400);
            if before.replace(day) != Some(day) {
                let date = date(time);
                if !self.known.contains(&date) {
                    new.insert(date);
                }
            }
        }
        self.make(client, new.into_iter()).await
    }

    /// Makes the partitions of these days.
    pub(super) async fn make(
        &mut self,
        client: &mut Client,
        days: impl Iterator<Item = Date>,
    ) -> Result<(), Error> {
        for date in days {
            match create(client, date).await {
                Ok(()) => {}
                Err(error) if error.code() == Some(&SqlState::CHECK_VIOLATION) => tracing::warn!(
                    "the events of {date} stay in events_other, which has some of that day already: a gateway's clock was \
                     ahead"
                ),
                Err(error) => return Err(error),
            }
            self.known.insert(date);
        }
        Ok(())
    }
}

/// Drops the partitions of days that were over at this time, and such events in `events_other`. While the schema is rebuilt,
/// nothing is dropped.
pub(crate) async fn drop_partitions(client: &mut Client, before: Timestamp) -> Result<(), Error> {
    let keep_from = date(before);
    let rows = client
        .query(
            "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = 'events'::regclass AND c.relname ~ '^events_[0-9]{8}$' AND c.relname < $1::text
             ORDER BY 1",
            &[&name(keep_from)],
        )
        .await?;
    for row in rows {
        let partition: String = row.get(0);
        let transaction = client.transaction().await?;
        lock(&transaction).await?;
        if is_rebuilt(&transaction).await? {
            return Ok(());
        }
        transaction.batch_execute(&format!("DROP TABLE IF EXISTS {partition}")).await?;
        transaction.commit().await?;
        tracing::info!("dropped {partition}: nothing in it is newer than {keep_from}");
    }
    let transaction = client.transaction().await?;
    lock(&transaction).await?;
    if is_rebuilt(&transaction).await? {
        return Ok(());
    }
    let deleted = transaction.execute("DELETE FROM events_other WHERE recorded < $1", &[&before]).await?;
    transaction.commit().await?;
    if deleted > 0 {
        tracing::info!("deleted {deleted} events of events_other: they are older than {before}");
    }
    Ok(())
}

/// Deletes the aggregates of minutes that ended before.
pub(crate) async fn drop_minutes(client: &Client, before: Timestamp) -> Result<(), Error> {
    client.execute("DELETE FROM aggregates WHERE length_s = 60 AND start < $1", &[&before]).await.map(|_| ())
}

async fn create(client: &mut Client, date: Date) -> Result<(), Error> {
    let next = date.tomorrow().unwrap_or(date);
    let statement = format!(
        "CREATE TABLE IF NOT EXISTS {} PARTITION OF events FOR VALUES FROM ('{date} 00:00:00+00') TO ('{next} 00:00:00+00')",
        name(date)
    );
    let transaction = client.transaction().await?;
    lock(&transaction).await?;
    transaction.batch_execute(&statement).await?;
    transaction.commit().await
}

/// Until the end of the transaction nobody else creates or drops.
pub(super) async fn lock(transaction: &Transaction<'_>) -> Result<(), Error> {
    transaction.batch_execute(&format!("SELECT pg_advisory_xact_lock({LOCK})")).await
}

async fn is_rebuilt(transaction: &Transaction<'_>) -> Result<bool, Error> {
    let select = "SELECT to_regclass(current_schema() || '_next.filled') IS NOT NULL";
    Ok(transaction.query_one(select, &[]).await?.get(0))
}

fn date(time: Timestamp) -> Date {
    time.to_zoned(TimeZone::UTC).date()
}

/// The day of a table.
pub(super) fn date_of(name: &str) -> Option<Date> {
    Date::strptime("events_%Y%m%d", name).ok()
}

/// The table of a day.
fn name(date: Date) -> String {
    format!("events_{}", date.strftime("%Y%m%d"))
}
