//! What is in the journal and not yet in redb, for the writer and all readers.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use fieldlog_projections::chunk::{Chunk, Header, Place, RecordBuffer};
use fieldlog_projections::{ChainHash, Seq, Time};

use super::Commit;

/// Most bytes that a reader copies at once, plus the rest of a commit.
const PIECE_BYTES: usize = 64 * 1024;

/// Shared by the writer, which adds commits and takes them out once redb has them, and readers.
///
/// A reader looks here *before* it begins a transaction of redb, or again after one that ended at the last chunk: so it may
/// see a record in both, and never misses one.
#[derive(Debug, Default)]
pub(super) struct Tail(RwLock<Held>);

/// The contents of the tail.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// The records that follow redb's last one.
    pub(super) records: RecordBuffer,
    /// Position of the first of them.
    first: Seq,
    /// Stored bytes of the log before them.
    stored_before: u64,
    begins: Vec<Begin>,
    /// Payloads for the quarantine, by the position of their record.
    pub(super) quarantine: BTreeMap<Seq, Vec<u8>>,
    /// Payloads to delete from it.
    pub(super) resolved: Vec<Seq>,
    /// Cursors to store.
    pub(super) cursors: BTreeMap<String, Vec<u8>>,
    /// As in [`Commit`].
    pub(super) doubted: Option<u64>,
}

/// Where the records of a commit begin.
#[derive(Clone, Copy, Debug)]
struct Begin {
    first: Seq,
    records: u32,
    /// Offset in the body.
    at: usize,
    base_time: Time,
    link: ChainHash,
}

impl Begin {
    /// The header that the commit would have as a chunk.
    fn header(&self, stored_before: u64) -> Header {
        let place = Place { stored_before, link: self.link };
        Chunk::of_body(self.first, self.records, self.base_time, place, &[]).header
    }
}

/// Records that were copied from the tail.
#[derive(Debug)]
pub(super) struct Piece {
    header: Header,
    body: Vec<u8>,
}

impl Piece {
    pub(super) fn chunk(&self) -> Chunk<'_> {
        let header = &self.header;
        Chunk::of_body(header.first, header.count, header.base_time, header.place, &self.body)
    }
}

impl Held {
    /// Bytes of all of it, approximately.
    pub(super) fn bytes(&self) -> usize {
        let quarantine = self.quarantine.values().map(Vec::len).sum::<usize>();
        let cursors = self.cursors.iter().map(|(name, cursor)| name.len() + cursor.len()).sum::<usize>();
        self.records.bytes() + quarantine + cursors + self.resolved.len() * 8
    }

    /// Position after the last record.
    fn end(&self) -> Seq {
        Seq(self.first.0 + self.records.len() as u64)
    }

    /// Index of the commit with a position.
    fn holding(&self, seq: Seq) -> Option<usize> {
        if seq >= self.end() {
            return None;
        }
        Some(self.begins.partition_point(|begin| begin.first <= seq).saturating_sub(1))
    }

    fn add(&mut self, first: Seq, link: ChainHash, records: &RecordBuffer) {
        if records.is_empty() {
            return;
        }
        if self.records.is_empty() {
            (self.first, self.records) = (first, RecordBuffer::after(records.base_time()));
        }
        let (at, base_time) = (self.records.bytes(), records.base_time());
        self.begins.push(Begin { first, records: records.len() as u32, at, base_time, link });
        self.records.append(records);
    }
}

impl Tail {
    pub(super) fn held(&self) -> RwLockReadGuard<'_, Held> {
        // Each change is complete.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn held_mut(&self) -> RwLockWriteGuard<'_, Held> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a commit that is durable in the journal. `link` is the chain before its first record.
    pub(super) fn add(&self, first: Seq, link: ChainHash, commit: &Commit<'_>) {
        let mut held = self.held_mut();
        held.add(first, link, commit.records);
        for (index, payload) in commit.quarantine {
            held.quarantine.insert(Seq(first.0 + *index as u64), payload.clone());
        }
        held.resolved.extend_from_slice(commit.resolved);
        for (name, cursor) in commit.cursors {
            held.cursors.insert(name.clone(), cursor.clone());
        }
        held.doubted = commit.doubted.or(held.doubted);
    }

    /// Empties it: redb has everything, and its chunks have `stored` bytes.
    pub(super) fn moved(&self, stored: u64) {
        let mut held = self.held_mut();
        let Held { mut records, mut begins, .. } = std::mem::take(&mut *held);
        records.clear();
        begins.clear();
        *held = Held { records, begins, stored_before: stored, ..Held::default() };
    }

    /// First and last position; `None` if there are no records.
    pub(super) fn range(&self) -> Option<(Seq, Seq)> {
        let held = self.held();
        (!held.records.is_empty()).then(|| (held.first, Seq(held.end().0 - 1)))
    }

    /// The records from the commit with `from` on, up to some number of bytes; `None` if `from` is before or after them.
    pub(super) fn piece(&self, from: Seq) -> Option<Piece> {
        let held = self.held();
        let begin = held.holding(from)?;
        let begins = held.begins.get(begin..).filter(|_| from >= held.first)?;
        let start = begins.first()?;
        let fitting = begins.partition_point(|begin| begin.at < start.at + PIECE_BYTES);
        let (until, last) = match begins.get(fitting) {
            Some(behind) => (behind.at, behind.first),
            None => (held.records.bytes(), held.end()),
        };
        let body = held.records.body().get(start.at..until)?.to_vec();
        let mut header = start.header(held.stored_before);
        header.count = (last.0 - start.first.0) as u32;
        Some(Piece { header, body })
    }

    /// The first position of the last commit for which `before` holds; it must hold for a prefix of the log.
    pub(super) fn seek(&self, before: impl Fn(&Header) -> bool) -> Option<Seq> {
        let held = self.held();
        let found = held.begins.partition_point(|begin| before(&begin.header(held.stored_before)));
        Some(held.begins.get(found.checked_sub(1)?)?.first)
    }
}
