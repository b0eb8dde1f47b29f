//! The table `archive`: rollups, which are kept longer than their records.
//!
//! Created with the first row; a log without it has an empty archive.

use std::ops::ControlFlow;

use fieldlog_projections::rollup::{Period, RollupError, Row};
use fieldlog_projections::{Seq, Time};
use redb::{ReadableTable, ReadableTableMetadata, TableDefinition};

use super::error::Fault;
use super::existing::existing;
use super::guard::outside;
use super::{LogError, LogReader, RolledUp};

/// By a period's first record, and the part.
pub(super) const ROLLUPS: TableDefinition<'_, (u64, u32), &[u8]> = TableDefinition::new("archive");

/// A row of the archive: first record of its period, part, and bytes.
pub type RollupRow = (u64, u32, Vec<u8>);

/// The size that fills one page of the store beside its own 20 bytes.
pub const ROW_BYTES_MAX: usize = 4096 - 20;
/// Rows read under one read transaction.
const ROWS_PER_READ: usize = 256;
/// Periods deleted by one commit.
const PERIODS_PER_TRIM: usize = 256;

/// Key and row.
type Entry<'a> = (redb::AccessGuard<'a, (u64, u32)>, redb::AccessGuard<'a, &'static [u8]>);

/// Where the archive ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RollupsEnd {
    /// The last period.
    pub period: Period,
    /// Stored bytes before it since the archive was begun, including deleted ones.
    pub stored_before: u64,
}

/// The size of the archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RollupsSize {
    /// Rows.
    pub rows: u64,
    /// Total size.
    pub bytes: u64,
}

fn damaged(at: u64) -> impl Fn(RollupError) -> LogError {
    move |source| LogError::Rollup { at: Seq(at), source }
}

/// Stores periods.
pub(super) fn put(txn: &redb::WriteTransaction, periods: &[RolledUp]) -> Result<(), Fault> {
    let mut table = txn.open_table(ROLLUPS)?;
    for RolledUp { period, rows } in periods {
        let first = period.first.0;
        table.retain_in((first, 0)..=(first, u32::MAX), |_, _| false)?;
        for (row, part) in rows.iter().zip(0..) {
            table.insert((first, part), row.as_slice())?;
        }
    }
    Ok(())
}

/// Stores rows as they are.
pub(super) fn put_rows(txn: &redb::WriteTransaction, rows: &[RollupRow]) -> Result<(), Fault> {
    let mut table = txn.open_table(ROLLUPS)?;
    for (first, part, row) in rows {
        table.insert((*first, *part), row.as_slice())?;
    }
    Ok(())
}

/// Deletes the periods that begin before a position.
pub(super) fn trim(txn: &redb::WriteTransaction, before: Seq) -> Result<(), Fault> {
    let mut table = txn.open_table(ROLLUPS)?;
    Ok(table.retain_in(..(before.0, 0), |_, _| false)?)
}

impl LogReader {
    /// Reads the archive; `None` if there is none.
    pub(super) fn rollups<T>(
        &self,
        op: &'static str,
        look: impl FnOnce(&redb::ReadOnlyTable<(u64, u32), &'static [u8]>) -> Result<T, Fault>,
    ) -> Result<Option<T>, LogError> {
        self.read(op, |txn| existing(txn, ROLLUPS)?.map(|table| look(&table)).transpose())
    }

    /// Its last period; `None` if it is empty.
    ///
    /// # Errors
    /// [`LogError`] if the store or the row cannot be read.
    pub fn rollups_end(&self) -> Result<Option<RollupsEnd>, LogError> {
        let end = self.rollups("read the archive", |table| {
            let Some((key, _)) = table.last()? else { return Ok(None) };
            let first = key.value().0;
            let row = table.get((first, 0))?;
            let row = row.ok_or(damaged(first)(RollupError::Rows))?;
            let row = Row::parse(row.value()).map_err(damaged(first))?;
            Ok(Some(RollupsEnd { period: row.period, stored_before: row.stored_before }))
        })?;
        Ok(end.flatten())
    }

    /// Rows and their bytes.
    ///
    /// # Errors
    /// As [`LogReader::rollups_end`].
    pub fn rollups_size(&self) -> Result<RollupsSize, LogError> {
        let size = self.rollups("read the archive", |table| {
            let edge = |entry: Option<Entry<'_>>| {
                let Some((key, value)) = entry else { return Ok(None) };
                let row = Row::parse(value.value()).map_err(damaged(key.value().0))?;
                Ok::<_, Fault>(Some((row.stored_before, value.value().len() as u64)))
            };
            let first = edge(table.first()?)?;
            let last = edge(table.last()?)?;
            let bytes = match (first, last) {
                (Some((begin, _)), Some((end, size))) => (end + size).saturating_sub(begin),
                _ => 0,
            };
            Ok(RollupsSize { rows: table.len()?, bytes })
        })?;
        Ok(size.unwrap_or_default())
    }

    /// Passes every row of the periods from `from` on to `visit`, until it breaks or they end. The rows of a period are
    /// read in one consistent state.
    ///
    /// # Errors
    /// [`LogError`] if the store or a row cannot be read, or rows of a period are missing.
    pub fn scan_rollups<B>(
        &self,
        from: Seq,
        mut visit: impl FnMut(&Row<'_>) -> Result<ControlFlow<B>, RollupError>,
    ) -> Result<Option<B>, LogError> {
        let mut at = from.0;
        loop {
            let before = at;
            let stopped = self.rollups("read the archive", |table| scan_some(table, &mut at, &mut visit))?;
            if let Some(Some(value)) = stopped {
                return Ok(Some(value));
            }
            if at == before {
                return Ok(None);
            }
        }
    }

    /// The first period with a record at `time` or later; the position after the archive if there is none.
    ///
    /// # Errors
    /// As [`LogReader::rollups_end`].
    pub fn seek_rollups(&self, time: Time) -> Result<Seq, LogError> {
        let found = self.rollups("search the archive", |table| {
            let edge = |entry: Option<Entry<'_>>| entry.map_or(0, |(key, _)| key.value().0);
            let (mut low, mut high) = (edge(table.first()?), edge(table.last()?) + 1);
            // Periods that begin before `low` end before `time`; those that begin at `high` or later do not.
            while low < high {
                let middle = low + (high - low) / 2;
                let entry = table.range(..=(middle, u32::MAX))?.next_back();
                let Some((key, value)) = entry.transpose()? else {
                    break;
                };
                let row = Row::parse(value.value()).map_err(damaged(key.value().0))?;
                if self.moment(row.period.last, row.period.last_time) < time {
                    low = row.period.last.0 + 1;
                } else {
                    high = key.value().0;
                }
            }
            Ok(Seq(low))
        })?;
        Ok(found.unwrap_or(Seq(1)))
    }

    /// The position before which the archive may be deleted because it is older than `time`: a bounded number of
    /// periods, and never the last one, which marks the end of the archive.
    ///
    /// # Errors
    /// As [`LogReader::rollups_end`].
    pub fn rollups_older(&self, time: Time) -> Result<Option<Seq>, LogError> {
        let Some(end) = self.rollups_end()? else { return Ok(None) };
        let (mut seen, mut before) = (0, None);
        self.scan_rollups(Seq(0), |row| {
            let Period { first, last, last_time, .. } = row.period;
            // The first one that is kept.
            before = (seen > 0).then_some(first);
            seen += usize::from(row.part == 0);
            let enough =
                self.moment(last, last_time) >= time || first == end.period.first || seen > PERIODS_PER_TRIM;
            Ok(if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(before)
    }
}

/// One read transaction of [`LogReader::scan_rollups`], which ends with a period; moves `at` past it.
fn scan_some<B>(
    table: &redb::ReadOnlyTable<(u64, u32), &'static [u8]>,
    at: &mut u64,
    visit: &mut impl FnMut(&Row<'_>) -> Result<ControlFlow<B>, RollupError>,
) -> Result<Option<B>, Fault> {
    let mut next = None;
    let mut stored_before = stored_before(table, *at)?;
    for (entry, read) in table.range((*at, 0)..)?.zip(0..) {
        if next.is_none() && read >= ROWS_PER_READ {
            break;
        }
        let (key, value) = entry?;
        let (first, part) = key.value();
        let row = Row::parse(value.value()).map_err(damaged(first))?;
        if (row.period.first.0, row.part) != (first, part) || (first, part) != next.unwrap_or((first, 0)) {
            return Err(damaged(first)(RollupError::Rows).into());
        }
        let follows = row.stored_before + value.value().len() as u64;
        if stored_before.replace(follows).is_some_and(|expected| expected != row.stored_before) {
            return Err(damaged(first)(RollupError::Before).into());
        }
        next = (part + 1 < row.parts).then_some((first, part + 1));
        *at = first + 1;
        if let ControlFlow::Break(value) = outside(|| visit(&row)).map_err(damaged(first))? {
            return Ok(Some(value));
        }
    }
    match next {
        None => Ok(None),
        Some((first, _)) => Err(damaged(first)(RollupError::Rows).into()),
    }
}

/// The *stored before* of the next row, from the last row before `at`; `None` if there is none.
fn stored_before(
    table: &redb::ReadOnlyTable<(u64, u32), &'static [u8]>,
    at: u64,
) -> Result<Option<u64>, Fault> {
    let before = table.range(..(at, 0))?.next_back();
    let Some((key, value)) = before.transpose()? else { return Ok(None) };
    let row = Row::parse(value.value()).map_err(damaged(key.value().0))?;
    Ok(Some(row.stored_before + value.value().len() as u64))
}
