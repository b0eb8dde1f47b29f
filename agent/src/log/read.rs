//! Reads the log: scans over the chunks, and searches for their start.

use std::ops::ControlFlow;
use std::sync::{Arc, Weak};

use fieldlog_projections::chunk::{self, Chunk};
use fieldlog_projections::{Seq, Time};
use redb::{Database, ReadableDatabase, ReadableTable};

use super::error::Fault;
use super::guard::{guarded, outside};
use super::suspects::Suspects;
use super::tail::Tail;
use super::{CHUNKS, LogError, clock};

/// Maximum chunks read in one read transaction; a longer one would pin freed pages and make the file grow.
const CHUNKS_PER_READ: usize = 256;

/// The log, open for reading; cheap to clone.
#[derive(Clone, Debug)]
pub struct LogReader {
    /// Weak, so that the writer can close the store while readers still hold this: only a closed store opens again
    /// without a full read.
    pub(super) db: Weak<Database>,
    pub(super) tail: Arc<Tail>,
    /// Loaded once: corrections are only made while the agent is stopped.
    pub(super) corrections: clock::Corrections,
    pub(super) checked_from: Seq,
    pub(super) suspects: Suspects,
    /// The state of the store that is read; `None`: the newest.
    pub(super) pinned: Option<Arc<redb::ReadTransaction>>,
}

/// Whether a chunk matches its key.
pub(super) fn in_place(key: Seq, header: &chunk::Header) -> Result<(), LogError> {
    let first = header.first;
    match first == key {
        true => Ok(()),
        false => Err(LogError::Damaged {
            op: "read the log",
            why: format!("the chunk of sequence {first} is stored as {key}"),
        }),
    }
}

impl LogReader {
    fn db(&self) -> Result<Arc<Database>, LogError> {
        self.db.upgrade().ok_or(LogError::Closed)
    }

    /// Reads one consistent state of the store.
    pub(super) fn read<T>(
        &self,
        op: &'static str,
        look: impl FnOnce(&redb::ReadTransaction) -> Result<T, Fault>,
    ) -> Result<T, LogError> {
        guarded(op, || {
            if let Some(pinned) = &self.pinned {
                return look(pinned);
            }
            let db = self.db()?;
            let txn = db.begin_read()?;
            look(&txn)
        })
    }

    /// A handle that goes on reading the store as it is now. Until it is dropped, the store keeps the pages that it
    /// frees meanwhile, so the file grows with each commit.
    ///
    /// # Errors
    /// As [`LogReader::scan`].
    pub fn pinned(&self) -> Result<LogReader, LogError> {
        let txn = guarded("read the log", || Ok(self.db()?.begin_read()?))?;
        Ok(LogReader { pinned: Some(Arc::new(txn)), ..self.clone() })
    }

    /// Stored bytes of the existing chunks.
    ///
    /// # Errors
    /// As [`LogReader::scan`].
    pub fn stored_bytes(&self) -> Result<u64, LogError> {
        self.read("read the log's size", |txn| {
            let chunks = txn.open_table(CHUNKS)?;
            let edge = |entry: Option<(redb::AccessGuard<'_, u64>, redb::AccessGuard<'_, &[u8]>)>| {
                let Some((at, value)) = entry else { return Ok(None) };
                let damaged = |source| LogError::Chunk { at: Seq(at.value()), source };
                let header = chunk::Header::parse(value.value()).map_err(damaged)?;
                Ok::<_, Fault>(Some((header.place.stored_before, value.value().len() as u64)))
            };
            let first = edge(chunks.first()?)?;
            let last = edge(chunks.last()?)?;
            Ok(match (first, last) {
                (Some((begin, _)), Some((end, size))) => end + size - begin,
                _ => 0,
            })
        })
    }

    /// Passes every chunk from the one with `from` on to `visit`, until it breaks or the log ends. The first chunk is
    /// passed as a whole. The last one may grow meanwhile; its new records are then passed as a chunk that begins after
    /// those already passed, so no record is passed twice.
    ///
    /// # Errors
    /// [`LogError`] if the store or a chunk cannot be read.
    pub fn scan<B>(
        &self,
        from: Seq,
        mut visit: impl FnMut(&Chunk<'_>) -> ControlFlow<B>,
    ) -> Result<Option<B>, LogError> {
        let mut scratch = Vec::new();
        let mut at = from;
        loop {
            let before = at;
            // Taken before the store is read: what is moved into the store between is then in both.
            let piece = self.tail.piece(at);
            if let Some(value) = self.scan_some(&mut at, before != from, &mut scratch, &mut visit)? {
                return Ok(Some(value));
            }
            if at != before {
                continue;
            }
            let Some(piece) = piece else { return Ok(None) };
            let mut chunk = piece.chunk();
            if before != from && chunk.header.first < at {
                chunk = chunk.from_seq(at).map_err(|source| LogError::Chunk { at, source })?;
            }
            at = chunk.header.last().next();
            if let ControlFlow::Break(value) = visit(&chunk) {
                return Ok(Some(value));
            }
        }
    }

    /// One read transaction of [`LogReader::scan`]; moves `at` past the visited records. With `on`, this continues a
    /// scan, and everything before `at` was visited.
    fn scan_some<B>(
        &self,
        at: &mut Seq,
        on: bool,
        scratch: &mut Vec<u8>,
        visit: &mut impl FnMut(&Chunk<'_>) -> ControlFlow<B>,
    ) -> Result<Option<B>, LogError> {
        self.read("read the log", |txn| {
            let chunks = txn.open_table(CHUNKS)?;
            let holding = chunks.range(..=at.0)?.next_back();
            let start = match holding.transpose()? {
                Some((key, _)) => key.value(),
                None => at.0,
            };
            let mut expected = None;
            for entry in chunks.range(start..)?.take(CHUNKS_PER_READ) {
                let (key, value) = entry?;
                let damaged = |source| LogError::Chunk { at: Seq(key.value()), source };
                let mut chunk = Chunk::parse(value.value(), scratch).map_err(damaged)?;
                in_place(Seq(key.value()), &chunk.header)?;
                let found = chunk.header.first;
                if expected.replace(chunk.header.last().next()).is_some_and(|expected| expected != found) {
                    return Err(LogError::Missing { before: found }.into());
                }
                if chunk.header.last() < *at {
                    continue;
                }
                if on && chunk.header.first < *at {
                    chunk = chunk.from_seq(*at).map_err(damaged)?;
                }
                *at = chunk.header.last().next();
                if let ControlFlow::Break(value) = outside(|| visit(&chunk)) {
                    return Ok(Some(value));
                }
            }
            Ok(None)
        })
    }

    /// Positions of the oldest and the newest record; `None` in an empty log.
    ///
    /// # Errors
    /// As [`LogReader::scan`].
    pub fn range(&self) -> Result<Option<(Seq, Seq)>, LogError> {
        let tail = self.tail.range();
        let stored = self.stored_range()?;
        Ok(stored.map(|(first, last)| (first, tail.map_or(last, |(_, newest)| last.max(newest)))))
    }

    fn stored_range(&self) -> Result<Option<(Seq, Seq)>, LogError> {
        self.read("read the log's range", |txn| {
            let chunks = txn.open_table(CHUNKS)?;
            let first = chunks.first()?;
            let last = chunks.last()?;
            let (Some((first, _)), Some((at, last))) = (first, last) else { return Ok(None) };
            let header = chunk::Header::parse(last.value())
                .map_err(|source| LogError::Chunk { at: Seq(at.value()), source })?;
            Ok(Some((Seq(first.value()), header.last())))
        })
    }

    /// The first position of the last chunk that begins before `time` (or of the first chunk): a scan from there finds
    /// every record whose [`LogReader::moment`] is `time` or later.
    ///
    /// # Errors
    /// As [`LogReader::scan`].
    pub fn seek_time(&self, time: Time) -> Result<Seq, LogError> {
        self.seek(|header| self.moment_before(header.first, header.base_time) < time)
    }

    /// The first position of the last chunk (or of the first) that exceeds the newest `bytes` stored bytes.
    ///
    /// # Errors
    /// As [`LogReader::scan`].
    pub fn seek_newest_bytes(&self, bytes: u64) -> Result<Seq, LogError> {
        let Some((first, _)) = self.range()? else { return Ok(Seq(1)) };
        let begin = self.stored_begin(first)?;
        let limit = (begin + self.stored_bytes()?).saturating_sub(bytes);
        self.seek_stored(|header| header.place.stored_before < limit)
    }

    fn stored_begin(&self, first: Seq) -> Result<u64, LogError> {
        self.read("read the log's size", |txn| {
            let chunks = txn.open_table(CHUNKS)?;
            let Some(value) = chunks.get(first.0)? else { return Ok(0) };
            let header = chunk::Header::parse(value.value())
                .map_err(|source| LogError::Chunk { at: first, source })?;
            Ok(header.place.stored_before)
        })
    }

    /// The first position of the last chunk, or commit in the journal, for which `before` holds, or of the first chunk;
    /// `before` must hold for a prefix of the log.
    fn seek(&self, before: impl Fn(&chunk::Header) -> bool) -> Result<Seq, LogError> {
        match self.tail.seek(&before) {
            Some(found) => Ok(found),
            None => self.seek_stored(before),
        }
    }

    /// The same, in the store alone.
    pub(super) fn seek_stored(&self, before: impl Fn(&chunk::Header) -> bool) -> Result<Seq, LogError> {
        let Some((first, last)) = self.stored_range()? else { return Ok(Seq(1)) };
        self.read("search the log", |txn| {
            let chunks = txn.open_table(CHUNKS)?;
            let (mut low, mut high) = (first.0, last.0 + 1);
            let mut found = first;
            // Chunks that begin before `low` satisfy it; those that begin at `high` or later do not.
            while low < high {
                let middle = low + (high - low) / 2;
                let entry = chunks.range(..=middle)?.next_back();
                let Some((key, value)) = entry.transpose()? else {
                    break;
                };
                let header = chunk::Header::parse(value.value())
                    .map_err(|source| LogError::Chunk { at: Seq(key.value()), source })?;
                if before(&header) {
                    found = found.max(header.first);
                    low = header.last().0 + 1;
                } else {
                    high = key.value();
                }
            }
            Ok(found)
        })
    }
}
