//! The table `index`: which parts of the log have records of a device or a type.
//!
//! A row covers about 1 MiB of chunks and is written once, in the commit that stores the last of them. Only chunks that
//! will not change are indexed; the rest of the log, up to that size, is read as a whole. Rows can be made from the
//! chunks at any time: a log without them gets one with each commit, and a damaged row is replaced by the next commit.

use std::ops::ControlFlow;

use fieldlog_projections::Seq;
use fieldlog_projections::chunk::{Chunk, RecordBuffer};
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use super::error::Fault;
use super::existing::existing;
use super::guard::guarded;
use super::suspects::Suspects;
use super::{CHUNKS, LogError, LogReader};

mod row;

pub use row::Wanted;
use row::{Group, Row};

/// By the first position that a row covers.
const INDEX: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("index");

/// Rows read under one read transaction.
const ROWS_PER_READ: usize = 256;

/// Records that are read at a time where there is no index.
const PART_RECORDS: u64 = 20_000;

/// The index is not written any more.
const GIVEN_UP: Seq = Seq(u64::MAX);

/// The size of the index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexSize {
    /// Rows.
    pub rows: u64,
    /// Bytes of the pages that hold them, including unused space in these pages.
    pub bytes: u64,
}

/// What the writer knows of the index.
#[derive(Debug)]
pub(super) struct Index {
    /// The first position that is neither in a row nor in `group`.
    next: Seq,
    /// The row in the making.
    group: Group,
    pub(super) suspects: Suspects,
}

impl Default for Index {
    fn default() -> Index {
        Index { next: Seq(1), group: Group::default(), suspects: Suspects::default() }
    }
}

/// The chunks that a commit has stored and will not change: first position and stored size.
pub(super) struct Closed<'a> {
    pub(super) records: &'a RecordBuffer,
    pub(super) chunks: &'a [(Seq, usize)],
    /// The position after them.
    pub(super) end: Seq,
}

impl Index {
    /// Finds where the rows end.
    pub(super) fn load(&mut self, txn: &redb::ReadTransaction) -> Result<(), Fault> {
        let Some(table) = existing(txn, INDEX)? else { return Ok(()) };
        if let Some((key, value)) = table.last()? {
            let first = Seq(key.value());
            // A damaged one is replaced when its group is full again.
            self.next = Row::parse(first, value.value()).map_or(first, |row| row.end());
        }
        Ok(())
    }

    /// Adds the chunks of a commit, after those of earlier ones that are missing; of these, up to one row at a time. A
    /// damaged row is made anew. What is read for this is read like by any reader: damage there does not end the commit.
    pub(super) fn advance(
        &mut self,
        db: &Database,
        txn: &redb::WriteTransaction,
        closed: &Closed<'_>,
    ) -> Result<(), Fault> {
        if self.next == GIVEN_UP {
            return Ok(());
        }
        let begin = closed.chunks.first().map_or(closed.end, |(first, _)| *first);
        if let Some(row) = self.suspects.take() {
            self.replace(db, txn, row)?;
        }
        if self.next < begin {
            match gather(db, std::mem::take(&mut self.group), self.next, begin) {
                Ok((group, next)) => (self.group, self.next) = (group, next),
                Err(error) => self.give_up(self.next, &error),
            }
            self.put_if_full(txn)?;
        }
        if self.next == begin { self.add(txn, closed) } else { Ok(()) }
    }

    fn add(&mut self, txn: &redb::WriteTransaction, closed: &Closed<'_>) -> Result<(), Fault> {
        let mut records = closed.records.records(self.next);
        let ends = closed.chunks.iter().skip(1).map(|(first, _)| *first).chain([closed.end]);
        for (&(first, bytes), end) in closed.chunks.iter().zip(ends) {
            let count = end.0 - first.0;
            self.group.chunk(first, count, bytes);
            for record in records.by_ref().take(count as usize) {
                let record = record.map_err(|error| LogError::Chunk { at: first, source: error.into() })?;
                self.group.record(&record);
            }
            self.next = end;
            self.put_if_full(txn)?;
        }
        Ok(())
    }

    fn put_if_full(&mut self, txn: &redb::WriteTransaction) -> Result<(), Fault> {
        if self.group.is_full() { put(txn, &std::mem::take(&mut self.group)) } else { Ok(()) }
    }

    /// Makes a damaged row anew.
    fn replace(&mut self, db: &Database, txn: &redb::WriteTransaction, row: Seq) -> Result<(), Fault> {
        let mut table = txn.open_table(INDEX)?;
        let following = table.range(row.next().0..)?.next().transpose()?;
        let following = following.map(|(key, _)| Seq(key.value()));
        let end = following.or(self.group.first()).unwrap_or(self.next);
        let (group, next) = match gather(db, Group::default(), row, end) {
            Ok(gathered) => gathered,
            Err(error) => {
                self.suspects.add(row);
                self.give_up(row, &error);
                return Ok(());
            }
        };
        table.remove(row.0)?;
        drop(table);
        put(txn, &group)?;
        if next < end {
            // The rows after it were lost too.
            self.suspects.add(next);
        }
        Ok(())
    }

    /// Chunks cannot be read: the index is not written any more until the next start.
    fn give_up(&mut self, from: Seq, error: &LogError) {
        tracing::warn!(
            "the chunks from sequence {from} on cannot be read to index them, so questions by device and type are answered \
             without the index there: {error}"
        );
        (self.next, self.group) = (GIVEN_UP, Group::default());
    }
}

/// Adds the stored chunks from a position on to a group, until it is full or `end` is reached; returns it with the
/// position after it. Damage is for readers to find.
fn gather(db: &Database, group: Group, from: Seq, end: Seq) -> Result<(Group, Seq), LogError> {
    guarded("read the log", || gather_some(&db.begin_read()?, group, from, end))
}

fn gather_some(
    txn: &redb::ReadTransaction,
    mut group: Group,
    from: Seq,
    end: Seq,
) -> Result<(Group, Seq), Fault> {
    let mut at = from;
    let mut scratch = Vec::new();
    let chunks = txn.open_table(CHUNKS)?;
    let mut entries = chunks.range(from.0..end.0)?.peekable();
    while let Some(entry) = entries.next() {
        let (key, value) = entry?;
        let (first, stored) = (Seq(key.value()), value.value());
        let next = match entries.peek() {
            Some(Ok((next, _))) => Seq(next.value()),
            _ => end,
        };
        if first > at {
            // The chunks between were trimmed before they were indexed.
            group = Group::default();
        }
        group.chunk(first, next.0 - first.0, stored.len());
        match Chunk::parse(stored, &mut scratch) {
            Ok(chunk) if chunk.header.first == first => {
                let read = chunk.records().try_for_each(|record| record.map(|record| group.record(&record)));
                read.unwrap_or_else(|_| group.unreadable());
            }
            _ => group.unreadable(),
        }
        at = next;
        if group.is_full() {
            return Ok((group, at));
        }
    }
    Ok((group, end))
}

fn put(txn: &redb::WriteTransaction, group: &Group) -> Result<(), Fault> {
    if let Some(first) = group.first() {
        txn.open_table(INDEX)?.insert(first.0, group.encode().as_slice())?;
    }
    Ok(())
}

/// Deletes the rows whose chunks are all before a position, except the last of them: its end is not known here.
pub(super) fn trim(txn: &redb::WriteTransaction, before: Seq) -> Result<(), Fault> {
    let mut table = txn.open_table(INDEX)?;
    let last = table.range(..=before.0)?.next_back().transpose()?.map(|(key, _)| key.value());
    Ok(table.retain_in(..last.unwrap_or(0), |_, _| false)?)
}

/// The parts of a stretch of the log that may have what is wanted.
struct Found {
    /// First position, and the one after the last.
    runs: Vec<(Seq, Seq)>,
    /// The position after the stretch.
    next: Seq,
    /// The index may go on there.
    more: bool,
}

impl LogReader {
    /// As [`LogReader::scan`], but skips chunks that have nothing of what is wanted, as far as the index knows. Chunks
    /// that are passed may have other records too.
    ///
    /// # Errors
    /// As [`LogReader::scan`].
    pub fn scan_for<B>(
        &self,
        from: Seq,
        wanted: &Wanted,
        mut visit: impl FnMut(&Chunk<'_>) -> ControlFlow<B>,
    ) -> Result<Option<B>, LogError> {
        let mut at = from;
        while *wanted != Wanted::default() {
            let found = self.find(at, wanted)?;
            for (first, end) in found.runs {
                let stopped = self.scan(first, |chunk| {
                    if chunk.header.first >= end {
                        return ControlFlow::Break(None);
                    }
                    match visit(chunk) {
                        ControlFlow::Break(value) => ControlFlow::Break(Some(value)),
                        ControlFlow::Continue(()) if chunk.header.last().next() >= end => {
                            ControlFlow::Break(None)
                        }
                        ControlFlow::Continue(()) => ControlFlow::Continue(()),
                    }
                })?;
                if let Some(Some(value)) = stopped {
                    return Ok(Some(value));
                }
            }
            at = found.next;
            if !found.more {
                break;
            }
        }
        self.scan(at, visit)
    }

    /// Looks up what is wanted from a position on, up to the first row that has it.
    fn find(&self, from: Seq, wanted: &Wanted) -> Result<Found, LogError> {
        let mut found = Found { runs: Vec::new(), next: from, more: false };
        self.index(|table| {
            let holding = table.range(..=from.0)?.next_back().transpose()?;
            let begin = holding.map_or(from.0, |(key, _)| key.value());
            for (entry, read) in table.range(begin..)?.zip(1..) {
                let (key, value) = entry?;
                let (key, value) = (Seq(key.value()), value.value());
                if key > found.next {
                    // No row, or a damaged one, says what is in there.
                    found.runs.push((found.next, key));
                    found.next = key;
                }
                if let Some((end, runs)) = self.runs_of(key, value, wanted) {
                    let runs = runs.into_iter().filter(|(_, end)| *end > found.next);
                    let from = found.next;
                    found.runs.extend(runs.map(|(first, end)| (first.max(from), end)));
                    found.next = found.next.max(end);
                }
                found.more = read == ROWS_PER_READ || !found.runs.is_empty();
                if found.more {
                    break;
                }
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// The ranges that may have what is wanted in the last part of the log before a position, newest first, each with
    /// its first position and the one after the last; then the position where that part begins. The part is what one row
    /// covers, or 20,000 records where there is none.
    ///
    /// # Errors
    /// As [`LogReader::scan`].
    pub fn runs_before(&self, before: Seq, wanted: &Wanted) -> Result<(Vec<(Seq, Seq)>, Seq), LogError> {
        let mut begin = Seq(before.0.saturating_sub(PART_RECORDS).max(1));
        let mut runs = vec![(begin, before)];
        self.index(|table| {
            let Some(holding) = table.range(..before.0)?.next_back() else { return Ok(()) };
            let (key, value) = holding?;
            let key = Seq(key.value());
            match self.runs_of(key, value.value(), wanted) {
                None => {}
                Some((end, _)) if end < before => begin = begin.max(end),
                Some((_, found)) => {
                    let found = found.into_iter().filter(|(first, _)| *first < before);
                    runs = found.map(|(first, end)| (first, end.min(before))).rev().collect();
                    begin = key;
                    return Ok(());
                }
            }
            begin = begin.max(key);
            runs = vec![(begin, before)];
            Ok(())
        })?;
        Ok((runs, begin))
    }

    /// Where a row ends, and the ranges in it that may have what is wanted, each with its first position and the one
    /// after the last; `None` if the row is damaged, which is noted.
    fn runs_of(&self, row: Seq, stored: &[u8], wanted: &Wanted) -> Option<(Seq, Vec<(Seq, Seq)>)> {
        let parsed = Row::parse(row, stored);
        let runs = parsed.as_ref().and_then(|row| Some((row.end(), row.runs(wanted)?)));
        if runs.is_none() {
            self.suspects.found(row);
        }
        runs
    }

    /// Compares every row with the chunks that it covers; returns what is wrong with the first one that differs.
    ///
    /// # Errors
    /// As [`LogReader::scan`].
    pub fn check_index(&self) -> Result<Option<String>, LogError> {
        let mut at = Seq(0);
        loop {
            let next = self.index(|table| {
                let Some(row) = table.range(at.0..)?.next() else { return Ok(None) };
                let (key, value) = row?;
                Ok(Some((Seq(key.value()), value.value().to_vec())))
            })?;
            let Some((first, stored)) = next.flatten() else { return Ok(None) };
            let Some(row) = Row::parse(first, &stored) else {
                return Ok(Some(format!(
                    "the index (table \"index\") is damaged at the row of sequence {first}; no event is lost, and a running \
                     agent makes the row anew"
                )));
            };
            let group =
                self.read("read the log", |txn| Ok(gather_some(txn, Group::default(), first, row.end())?.0))?;
            // Of trimmed chunks nothing can be said, and what an earlier version did not know is wider than needed.
            if group.first() == Some(first) && !row.has_unknown() && group.encode() != stored {
                return Ok(Some(format!(
                    "the index (table \"index\") does not have what the chunks from sequence {first} on have; no event is \
                     lost, but questions by device and type may not find those there"
                )));
            }
            at = first.next();
        }
    }

    /// Rows of the index, and the space they take.
    ///
    /// # Errors
    /// As [`LogReader::scan`].
    pub fn index_size(&self) -> Result<IndexSize, LogError> {
        let size = self.index(|table| {
            let stats = table.stats()?;
            let bytes = stats.stored_bytes() + stats.metadata_bytes() + stats.fragmented_bytes();
            Ok(IndexSize { rows: table.len()?, bytes })
        })?;
        Ok(size.unwrap_or_default())
    }

    /// Reads the index; `None` if there is none.
    fn index<T>(
        &self,
        look: impl FnOnce(&redb::ReadOnlyTable<u64, &'static [u8]>) -> Result<T, Fault>,
    ) -> Result<Option<T>, LogError> {
        self.read("read the log's index", |txn| existing(txn, INDEX)?.map(|table| look(&table)).transpose())
    }
}
