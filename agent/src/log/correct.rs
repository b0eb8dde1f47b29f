//! Sets log time back, and computes the moments of records.

use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::{Fact, Seq, Time};

use super::clock::{self, DOUBTED};
use super::{Commit, Committed, Log, LogError, LogReader, META};

impl Log {
    /// Sets log time back to `wall` with a `clock_corrected` record; `None`, without any change, if log time is not
    /// ahead. `by` is the record of who does it, at the log time that is set back.
    ///
    /// # Errors
    /// As [`Log::commit`].
    pub fn correct_clock(&mut self, wall: Time, by: &Fact) -> Result<Option<Committed>, LogError> {
        if self.head() == Seq(0) || wall >= self.last_time() {
            return Ok(None);
        }
        let mut body = RecordBuffer::after(self.last_time());
        body.push_fact(Envelope { wall, ..Envelope::default() }, by);
        body.caused_by(Some(self.head().next()));
        body.push_correction(wall);
        let commit = Commit { corrected: Some(wall), doubted: Some(0), ..Commit::of(&body) };
        let committed = self.commit(&commit)?;
        let limited = self.corrections.iter().map(|(at, after)| (*at, wall.min(*after)));
        self.corrections = limited.chain([(committed.last, wall)]).collect();
        Ok(Some(committed))
    }
}

impl LogReader {
    /// The moment of a record, for searches by time: its log time, but no later than the log time of any later
    /// correction. Unlike log time, it never goes back from one record to the next.
    pub fn moment(&self, seq: Seq, time: Time) -> Time {
        clock::moment(&self.corrections, seq, time)
    }

    /// The moment of the record before the one at `first`, given its log time.
    pub fn moment_before(&self, first: Seq, base_time: Time) -> Time {
        self.moment(Seq(first.0.saturating_sub(1)), base_time)
    }

    /// The wall clock in the newest record; `None` in an empty log.
    ///
    /// # Errors
    /// As [`LogReader::scan`].
    pub fn last_wall(&self) -> Result<Option<Time>, LogError> {
        let Some((_, head)) = self.range()? else { return Ok(None) };
        self.scan(head, |chunk| match chunk.records().filter_map(Result::ok).last() {
            Some(record) => std::ops::ControlFlow::Break(record.wall),
            None => std::ops::ControlFlow::Continue(()),
        })
    }

    /// The stored amount by which a forward jump of the wall clock is doubted, in microseconds.
    ///
    /// # Errors
    /// As [`LogReader::scan`].
    pub fn clock_doubted(&self) -> Result<u64, LogError> {
        self.read("read the log's head", |txn| {
            let meta = txn.open_table(META)?;
            let stored = meta.get(DOUBTED)?;
            Ok(stored.map_or(0, |micros| micros.value()))
        })
    }
}
