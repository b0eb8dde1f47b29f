//! Checks of the log's contents: values for the whole epoch, and after a clean close sums of all tables.
//!
//! redb checks its pages after an unclean shutdown and trusts them after a clean one. So the sums are written when the
//! log is closed and deleted by the first commit after that, which costs nothing extra. While they exist, they must
//! match.

use fieldlog_projections::{ChainHash, Epoch, Seq};
use redb::{ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::checked::{unwrap, wrap};
use super::clock::CORRECTIONS;
use super::error::Fault;
use super::existing::existing;
use super::rollups::ROLLUPS;
use super::{CHUNKS, CURSORS, Log, LogError, META, QUARANTINE, cursors};

const SUMS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sums");
/// Values for the whole epoch.
const EPOCH: &str = "epoch";
/// Sums at the last close.
const CLOSED: &str = "closed";
/// First byte of a row.
const VERSION: u8 = 1;

/// Values for the whole epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OfEpoch {
    pub(super) epoch: u64,
    /// From this position on, every payload in the quarantine has a checksum.
    pub(super) checked_from: u64,
}

/// Rows of a table, with the first and the last key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Extent {
    rows: u64,
    first: u64,
    last: u64,
}

/// Sums at the last close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Closed {
    head: u64,
    link: [u8; 32],
    chunks: Extent,
    quarantine: Extent,
    rollups: Extent,
    corrections: Extent,
    cursors: u64,
    /// CRC-32 of all rows of `meta` and `corrections`.
    small: u32,
}

/// The rows of `sums`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub(super) of_epoch: Option<OfEpoch>,
    pub(super) closed: Option<Closed>,
}

const OP: &str = "read the log's head";

pub(super) fn damaged(why: impl Into<String>) -> LogError {
    LogError::Damaged { op: OP, why: why.into() }
}

/// The rows of `sums`; none in a log of a version without them.
pub(super) fn read(txn: &ReadTransaction) -> Result<Sums, Fault> {
    let Some(rows) = existing(txn, SUMS)? else { return Ok(Sums::default()) };
    let sums = Sums { of_epoch: row(&rows, EPOCH)?, closed: row(&rows, CLOSED)? };
    // Either both rows exist or only the first; a row with another name is a damaged one of these.
    let known = u64::from(sums.of_epoch.is_some()) + u64::from(sums.closed.is_some());
    match sums.of_epoch {
        Some(_) if rows.len()? == known => Ok(sums),
        _ => Err(damaged("the rows of the table \"sums\" are not what they must be").into()),
    }
}

fn row<T: DeserializeOwned>(
    rows: &redb::ReadOnlyTable<&'static str, &'static [u8]>,
    name: &str,
) -> Result<Option<T>, Fault> {
    let Some(stored) = rows.get(name)? else { return Ok(None) };
    let value = unwrap(VERSION, name.as_bytes(), stored.value());
    let value = value.and_then(|value| postcard::from_bytes(value).ok());
    Ok(Some(value.ok_or_else(|| damaged(format!("the row \"{name}\" of the table \"sums\" is damaged")))?))
}

/// Number of rows and first and last key of a table, without reading the rows between.
fn extent<K: redb::Key + 'static>(
    txn: &ReadTransaction,
    of: TableDefinition<'_, K, impl redb::Value + 'static>,
    position: impl Fn(K::SelfType<'_>) -> u64,
) -> Result<Extent, Fault> {
    let Some(table) = existing(txn, of)? else { return Ok(Extent::default()) };
    let first = table.first()?.map_or(0, |(key, _)| position(key.value()));
    let last = table.last()?.map_or(0, |(key, _)| position(key.value()));
    Ok(Extent { rows: table.len()?, first, last })
}

/// CRC-32 of the rows of small tables that have no other check.
fn small(txn: &ReadTransaction) -> Result<u32, Fault> {
    let mut hasher = crc32fast::Hasher::new();
    if let Some(meta) = existing(txn, META)? {
        for entry in meta.iter()? {
            let (key, value) = entry?;
            hasher.update(key.value().as_bytes());
            hasher.update(&value.value().to_le_bytes());
        }
    }
    if let Some(corrections) = existing(txn, CORRECTIONS)? {
        for entry in corrections.iter()? {
            let (key, value) = entry?;
            hasher.update(&key.value().to_le_bytes());
            hasher.update(&value.value().to_le_bytes());
        }
    }
    Ok(hasher.finalize())
}

impl Closed {
    fn of(txn: &ReadTransaction, head: Seq, link: ChainHash) -> Result<Closed, Fault> {
        Ok(Closed {
            head: head.0,
            link: link.0,
            chunks: extent(txn, CHUNKS, |seq| seq)?,
            quarantine: extent(txn, QUARANTINE, |seq| seq)?,
            rollups: extent(txn, ROLLUPS, |(first, _)| first)?,
            corrections: extent(txn, CORRECTIONS, |seq| seq)?,
            cursors: existing(txn, CURSORS)?.map_or(Ok(0), |table| table.len())?,
            small: small(txn)?,
        })
    }

    /// What is missing in `found`; `None` if it is the same.
    fn lost(&self, found: &Closed) -> Option<String> {
        let tables = [
            ("records of the log (table \"chunks\")", self.chunks, found.chunks),
            ("payloads of the quarantine (table \"quarantine\")", self.quarantine, found.quarantine),
            ("rows of the archive (table \"archive\")", self.rollups, found.rollups),
            ("corrections of the clock (table \"corrections\")", self.corrections, found.corrections),
        ];
        let differ = tables.into_iter().find(|(_, was, is)| was != is);
        if let Some((name, was, is)) = differ {
            let Extent { rows, first, last } = was;
            return Some(format!(
                "the {name} had {rows} rows from sequence {first} to {last}, and have {} from {} to {}",
                is.rows, is.first, is.last
            ));
        }
        if (self.head, self.link) != (found.head, found.link) {
            return Some(format!(
                "the last record was {}, and is {} with another chain before it",
                self.head, found.head
            ));
        }
        if self.cursors != found.cursors {
            let (was, is) = (self.cursors, found.cursors);
            return Some(format!(
                "there were {was} cursors of sinks (table \"cursors\"), and there are {is}"
            ));
        }
        (self != found).then(|| "the rows of the tables \"meta\" and \"corrections\" are others".into())
    }
}

impl Log {
    /// Compares the contents with the rows of `sums`; the log's head must be known.
    pub(super) fn check(&mut self, txn: &ReadTransaction) -> Result<(), Fault> {
        let sums = read(txn)?;
        if let Some(of_epoch) = sums.of_epoch
            && of_epoch.epoch != self.epoch.0
        {
            let copy = Epoch(of_epoch.epoch);
            return Err(damaged(format!("the epoch is {}, and its copy is {copy}", self.epoch)).into());
        }
        // The rows are of this version; an older one has then written to the log without updating them.
        let outdated = sums.closed.is_some_and(|closed| closed.head < self.head().0);
        self.as_closed = sums.closed.is_some() && !outdated;
        if let Some(closed) = sums.closed
            && !outdated
            && let Some(what) = closed.lost(&Closed::of(txn, self.head(), self.link)?)
        {
            return Err(LogError::Changed { what }.into());
        }
        let known = sums.of_epoch.filter(|_| !outdated);
        self.gains = known.is_none();
        self.checked_from = known.map_or(self.next, |of_epoch| Seq(of_epoch.checked_from));
        Ok(())
    }

    /// In the first commit after opening: the sums of the last close are no longer valid.
    pub(super) fn go_on(&self, txn: &redb::WriteTransaction) -> Result<(), Fault> {
        let mut sums = txn.open_table(SUMS)?;
        sums.remove(CLOSED)?;
        if self.gains {
            put(&mut sums, EPOCH, &OfEpoch { epoch: self.epoch.0, checked_from: self.checked_from.0 })?;
            cursors::check_all(txn)?;
        }
        Ok(())
    }

    /// Stores the sums, unless they are stored already; returns whether it did.
    pub(super) fn note_closed(&mut self) -> Result<bool, Fault> {
        if self.as_closed || self.failed {
            return Ok(false);
        }
        let db = self.hold.get()?;
        let closed = Closed::of(&db.begin_read()?, self.head(), self.link)?;
        let mut txn = db.begin_write()?;
        txn.set_quick_repair(self.options.quick_repair);
        self.go_on(&txn)?;
        put(&mut txn.open_table(SUMS)?, CLOSED, &closed)?;
        self.finish(txn)?;
        // A later commit would have to delete the row again.
        (self.as_closed, self.unchanged) = (true, true);
        Ok(true)
    }
}

fn put(
    sums: &mut redb::Table<'_, &'static str, &'static [u8]>,
    name: &str,
    row: &impl Serialize,
) -> Result<(), Fault> {
    let value = postcard::to_allocvec(row).map_err(|error| damaged(error.to_string()))?;
    let row = wrap(VERSION, name.as_bytes(), &value);
    sums.insert(name, row.as_slice())?;
    Ok(())
}
