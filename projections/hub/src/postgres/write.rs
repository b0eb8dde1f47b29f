//! One transaction: the events of a batch, what they change, and the positions that are now there.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;

use fieldlog_wire::ledger::LogReport;
use jiff::Timestamp;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Statement, Transaction};

use super::connect::chain;
use super::hold::Held;
use super::rows;
use crate::changes::Changes;
use crate::parcel::Event;
use crate::text;

/// What is written together.
pub(crate) struct Batch<'a> {
    /// The process that writes.
    pub(crate) hub: &'a str,
    /// Its logs, each once.
    pub(crate) entries: Vec<Entry<'a>>,
    /// New events, with the numbers of their logs.
    pub(crate) events: Vec<(i32, &'a Event)>,
}

/// What is written of one log.
pub(crate) struct Entry<'a> {
    pub(crate) gateway: &'a Arc<str>,
    pub(crate) held: &'a Held,
    pub(crate) changes: Changes,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// These gateways are no longer this process's.
    #[error("another hub writes for {}", .0.iter().map(|gateway| &**gateway).collect::<Vec<_>>().join(", "))]
    Lost(BTreeSet<Arc<str>>),
    #[error("{}", chain(.0))]
    Sql(#[from] Error),
    #[error("the account of a log cannot be written: {0}")]
    Account(#[from] serde_json::Error),
}

/// Locks the gateways that this process still holds with this number, in one order for all processes.
const LOCK: &str = "
    SELECT g.gateway FROM gateways g JOIN unnest($1::text[], $2::int8[]) AS u (gateway, fence) USING (gateway)
    WHERE g.holder = $3 AND g.fence = u.fence
        AND EXISTS (SELECT FROM hubs h WHERE h.hub = $3 AND h.expires > clock_timestamp())
    ORDER BY g.gateway FOR NO KEY UPDATE OF g";

const MOVE: &str = "
    UPDATE logs AS l SET version = l.version + 1, account = u.account::json, position = u.position, chain = u.chain,
        newest = u.newest, head = u.head, missing = u.missing::jsonb, events = u.events, duplicates = u.duplicates,
        faults = u.faults::jsonb, forked = u.forked, last_seen = clock_timestamp(),
        newest_time = CASE WHEN u.time_seq >= l.newest THEN u.time ELSE l.newest_time END,
        agent_version = CASE WHEN u.booted > l.booted THEN u.agent_version ELSE l.agent_version END,
        booted = greatest(u.booted, l.booted)
    FROM unnest($1::int4[], $2::int8[], $3::text[], $4::int8[], $5::text[], $6::int8[], $7::int8[], $8::text[],
        $9::int8[], $10::int8[], $11::text[], $12::text[], $13::int8[], $14::timestamptz[],
        $15::int8[], $16::text[])
        AS u (log, version, account, position, chain, newest, head, missing, events, duplicates, faults, forked, time_seq,
        time, booted, agent_version)
    WHERE l.log = u.log AND l.version = u.version
    RETURNING l.log";

const COPY: &str = "COPY events (log, seq, recorded, time, type, device, data, arrival) FROM STDIN BINARY";

/// The statements of a connection.
pub(crate) struct Statements {
    lock: Statement,
    positions: Statement,
    rows: rows::Statements,
}

impl Statements {
    /// Prepares them.
    pub(crate) async fn prepare(client: &Client) -> Result<Statements, Error> {
        Ok(Statements {
            lock: client.prepare(LOCK).await?,
            positions: client.prepare(MOVE).await?,
            rows: rows::Statements::prepare(client).await?,
        })
    }
}

/// Writes a batch, or nothing of it.
pub(crate) async fn write(
    client: &mut Client,
    statements: &Statements,
    batch: &Batch<'_>,
) -> Result<(), WriteError> {
    let transaction = client.transaction().await?;
    lock(&transaction, statements, batch).await?;
    let report = |entry: &Entry<'_>| LogReport::of(entry.gateway, &entry.held.account, false);
    let reports: Vec<LogReport> = batch.entries.iter().map(report).collect();
    let changes: Vec<(i32, &Changes)> =
        batch.entries.iter().map(|entry| (entry.held.log, &entry.changes)).collect();
    // All is sent before the first answer: with small batches, waiting for each would take most of the time.
    tokio::try_join!(
        move_positions(&transaction, statements, batch, &reports),
        async { Ok(copy(&transaction, batch, &reports).await?) },
        async { Ok(rows::merge(&transaction, &statements.rows, &changes).await?) },
    )?;
    transaction.commit().await?;
    Ok(())
}

async fn lock(
    transaction: &Transaction<'_>,
    statements: &Statements,
    batch: &Batch<'_>,
) -> Result<(), WriteError> {
    // Of one gateway there may be two logs.
    let wanted: BTreeMap<&Arc<str>, i64> =
        batch.entries.iter().map(|entry| (entry.gateway, entry.held.fence)).collect();
    let gateways: Vec<&str> = wanted.keys().map(|gateway| &***gateway).collect();
    let fences: Vec<i64> = wanted.values().copied().collect();
    let rows = transaction.query(&statements.lock, &[&gateways, &fences, &batch.hub]).await?;
    let locked: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let lost: BTreeSet<Arc<str>> =
        wanted.into_keys().filter(|gateway| !locked.contains(&***gateway)).cloned().collect();
    if lost.is_empty() { Ok(()) } else { Err(WriteError::Lost(lost)) }
}

async fn move_positions(
    transaction: &Transaction<'_>,
    statements: &Statements,
    batch: &Batch<'_>,
    reports: &[LogReport],
) -> Result<(), WriteError> {
    let (mut logs, mut versions, mut accounts) = (Vec::new(), Vec::new(), Vec::new());
    let (mut positions, mut chains, mut newest, mut heads) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut missing, mut events, mut duplicates) = (Vec::new(), Vec::new(), Vec::new());
    let (mut faults, mut forked) = (Vec::new(), Vec::new());
    let (mut time_seqs, mut times) = (Vec::new(), Vec::new());
    let (mut booted, mut agents) = (Vec::new(), Vec::new());
    for (Entry { held, changes, .. }, report) in batch.entries.iter().zip(reports) {
        logs.push(held.log);
        versions.push(held.version);
        accounts.push(serde_json::to_string(&held.account)?);
        positions.push(report.contiguous.0 as i64);
        chains.push(report.anchor.as_ref().map(|anchor| anchor.link.to_string()));
        newest.push(report.newest.0 as i64);
        heads.push(report.counts.head.0 as i64);
        missing.push(serde_json::to_string(&report.missing)?);
        events.push(report.counts.events as i64);
        duplicates.push(report.counts.duplicate_events as i64);
        faults.push(serde_json::to_string(&report.faults)?);
        forked.push(held.forked.as_deref());
        // Without an event, position -1 changes no time.
        time_seqs.push(changes.newest.map_or(-1, |(seq, _)| seq.0 as i64));
        times.push(changes.newest.map_or(Timestamp::UNIX_EPOCH, |(_, time)| text::time(time)));
        booted.push(changes.booted.as_ref().map_or(0, |(seq, _)| seq.0 as i64));
        agents.push(changes.booted.as_ref().map(|(_, version)| text::text(version)));
    }
    let rows = transaction
        .query(
            &statements.positions,
            &[
                &logs,
                &versions,
                &accounts,
                &positions,
                &chains,
                &newest,
                &heads,
                &missing,
                &events,
                &duplicates,
                &faults,
                &forked,
                &time_seqs,
                &times,
                &booted,
                &agents,
            ],
        )
        .await?;
    let moved: BTreeSet<i32> = rows.iter().map(|row| row.get(0)).collect();
    let lost: BTreeSet<Arc<str>> = batch
        .entries
        .iter()
        .filter(|entry| !moved.contains(&entry.held.log))
        .map(|entry| entry.gateway.clone())
        .collect();
    if lost.is_empty() { Ok(()) } else { Err(WriteError::Lost(lost)) }
}

async fn copy(transaction: &Transaction<'_>, batch: &Batch<'_>, reports: &[LogReport]) -> Result<(), Error> {
    let events = &batch.events;
    if events.is_empty() {
        return Ok(());
    }
    // How many events there are now of each log, and then the last arrival before this batch.
    let logs = batch.entries.iter().zip(reports);
    let mut arrived: BTreeMap<i32, i64> =
        logs.map(|(entry, report)| (entry.held.log, report.counts.events as i64)).collect();
    for (log, _) in events {
        arrived.entry(*log).and_modify(|arrived| *arrived -= 1);
    }
    let rows = events.iter().map(|(log, event)| {
        let arrival = arrived.entry(*log).or_default();
        *arrival += 1;
        (*log, *event, *arrival)
    });
    copy_rows(transaction, rows).await
}

/// Copies events, with the numbers of their logs and arrivals.
pub(super) async fn copy_rows<'a>(
    transaction: &Transaction<'_>,
    events: impl Iterator<Item = (i32, &'a Event, i64)>,
) -> Result<(), Error> {
    // The binary form of json is its text.
    let types = [
        Type::INT4,
        Type::INT8,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::INT8,
    ];
    let mut out = pin!(BinaryCopyInWriter::new(transaction.copy_in(COPY).await?, &types));
    for (log, event, arrival) in events {
        let row: [&(dyn ToSql + Sync); 8] = [
            &log,
            &(event.seq.0 as i64),
            &text::time(event.recorded),
            &text::time(event.time),
            &&*event.kind,
            &event.device.as_deref(),
            &&*event.data,
            &arrival,
        ];
        out.as_mut().write(&row).await?;
    }
    out.finish().await.map(|_| ())
}
