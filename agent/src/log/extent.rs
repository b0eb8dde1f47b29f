//! Size and age of parts of the log.

use std::ops::ControlFlow;

use fieldlog_projections::chunk;
use fieldlog_projections::{Seq, Time};

use super::error::Fault;
use super::{CHUNKS, LogError, LogReader};

impl LogReader {
    /// Stored bytes of ranges of positions, inclusive; a record counts as its share of its chunk, and trimmed records
    /// count as nothing.
    ///
    /// # Errors
    /// As [`LogReader::scan`].
    pub fn stored_bytes_of(&self, ranges: impl IntoIterator<Item = (Seq, Seq)>) -> Result<u64, LogError> {
        self.read("read the log's size", |txn| {
            let chunks = txn.open_table(CHUNKS)?;
            // Bytes of the epoch before a position.
            let before = |seq: Seq| {
                let holding = chunks.range(..=seq.0)?.next_back();
                let first = || chunks.range(seq.0..).map(|mut later| later.next());
                let entry = match holding {
                    Some(entry) => Some(entry),
                    None => first()?,
                };
                let Some((key, value)) = entry.transpose()? else {
                    return Ok(0);
                };
                let header = chunk::Header::parse(value.value())
                    .map_err(|source| LogError::Chunk { at: Seq(key.value()), source })?;
                let (count, size) = (u64::from(header.count), value.value().len() as u64);
                let into = seq.0.saturating_sub(header.first.0).min(count);
                Ok::<_, Fault>(header.place.stored_before + size * into / count.max(1))
            };
            let mut sum = 0;
            for (first, last) in ranges {
                sum += before(last.next())? - before(first)?;
            }
            Ok(sum)
        })
    }

    /// The first position of the chunk that has a position, or of the log's first chunk: where a trim before that
    /// position ends, since chunks are deleted as a whole. Commits in the journal are not chunks yet.
    ///
    /// # Errors
    /// As [`LogReader::scan`].
    pub fn begin_of_chunk(&self, seq: Seq) -> Result<Seq, LogError> {
        self.seek_stored(|header| header.first <= seq)
    }

    /// Log time of the record at a position, or of the next existing one; `None` after the end.
    ///
    /// # Errors
    /// As [`LogReader::scan`].
    pub fn time_of(&self, seq: Seq) -> Result<Option<Time>, LogError> {
        self.scan(seq, |chunk| {
            let at = chunk.records().filter_map(Result::ok).find(|record| record.seq >= seq);
            at.map_or(ControlFlow::Continue(()), |record| ControlFlow::Break(record.time))
        })
    }

    /// The last record up to `until` at or before `time`; the position before the first record if all are later. Records
    /// from a clock that was ahead count as no later than its correction. `None` if `give_up`, which is called between
    /// chunks, returns `true`.
    ///
    /// # Errors
    /// As [`LogReader::scan`].
    pub fn last_at(
        &self,
        time: Time,
        until: Seq,
        give_up: &dyn Fn() -> bool,
    ) -> Result<Option<Seq>, LogError> {
        let from = self.seek_time(time)?;
        let mut last = Seq(from.0.saturating_sub(1));
        if from > until {
            return Ok(Some(last));
        }
        let ended = self.scan(from, |chunk| {
            if give_up() {
                return ControlFlow::Break(Ok(None));
            }
            for record in chunk.records() {
                let at = chunk.header.first;
                let record = match record {
                    Ok(record) => record,
                    Err(source) => {
                        return ControlFlow::Break(Err(LogError::Chunk { at, source: source.into() }));
                    }
                };
                if record.seq > until || self.moment(record.seq, record.time) > time {
                    return ControlFlow::Break(Ok(Some(last)));
                }
                // The first chunk may begin before it.
                last = last.max(record.seq);
            }
            ControlFlow::Continue(())
        })?;
        ended.unwrap_or(Ok(Some(last)))
    }
}
