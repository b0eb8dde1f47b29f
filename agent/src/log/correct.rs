//! Setting log time back, and when a record happened where that was done.

use fieldlog_projections::chunk::RecordBuffer;
use fieldlog_projections::{Seq, Time};

use super::clock::{self, DOUBTED};
use super::{Commit, Committed, Log, LogError, LogReader, META};

impl Log {
    /// Sets log time back to `wall` with a `clock_corrected` record; `None`, and nothing is done, if log time is not ahead.
    ///
    /// # Errors
    /// As [`Log::commit`].
    pub fn correct_clock(&mut self, wall: Time) -> Result<Option<Committed>, LogError> {
        if self.head() == Seq(0) || wall >= self.last_time() {
            return Ok(None);
        }
        let mut body = RecordBuffer::after(self.last_time());
        body.push_correction(wall);
        let commit = Commit { corrected: Some(wall), doubted: Some(0), ..Commit::of(&body) };
        let committed = self.commit(&commit)?;
        let limited = self.corrections.iter().map(|(at, after)| (*at, wall.min(*after)));
        self.corrections = limited.chain([(committed.last, wall)]).collect();
        Ok(Some(committed))
    }
}

impl LogReader {
    /// When a record happened, for whoever looks for times: its log time, but no later than what log time was set back to
    /// after it. It never goes back from one record to the next, as log time does where the clock was corrected.
    pub fn moment(&self, seq: Seq, time: Time) -> Time {
        clock::moment(&self.corrections, seq, time)
    }

    /// The moment of the record before the one at `first`, from its log time.
    pub fn moment_before(&self, first: Seq, base_time: Time) -> Time {
        self.moment(Seq(first.0.saturating_sub(1)), base_time)
    }

    /// The wall clock as the newest record has it; `None` in an empty log.
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

    /// By how many microseconds the wall clock had jumped forward without being believed when that was last stored.
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
