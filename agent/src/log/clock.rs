//! What the log remembers of the wall clock beside its records: where log time was set back, and how far a jump of the
//! clock is not believed.

use std::sync::Arc;

use fieldlog_projections::chunk::Body;
use fieldlog_projections::{Seq, Time};
use redb::{ReadableTable, TableDefinition};

use super::error::Fault;
use super::{Commit, Committed, Log, LogError, LogReader, META};

/// By the position of a `clock_corrected` record: the log time that goes on from there. Made with the first of them.
pub(super) const CORRECTIONS: TableDefinition<'_, u64, i64> = TableDefinition::new("corrections");
/// In `meta`: by how many microseconds the wall clock has jumped forward without being believed.
const DOUBTED: &str = "clock_doubted";

/// Where log time was set back, oldest first: position, and the earliest log time from there on that was set back to.
pub(super) type Corrections = Arc<[(Seq, Time)]>;

/// The moment of a record for whoever looks for times: its log time, but no later than what log time was set back to
/// after it. Never earlier than that of the record before, which log time itself can be.
fn moment(corrections: &[(Seq, Time)], seq: Seq, time: Time) -> Time {
    let next = corrections.partition_point(|(at, _)| *at <= seq);
    corrections.get(next).map_or(time, |(_, after)| time.min(*after))
}

pub(super) fn corrections(txn: &redb::ReadTransaction) -> Result<Corrections, Fault> {
    let table = match txn.open_table(CORRECTIONS) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Arc::default()),
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    let mut least = Time(i64::MAX);
    for entry in table.iter()?.rev() {
        let (at, after) = entry?;
        least = least.min(Time(after.value()));
        found.push((Seq(at.value()), least));
    }
    found.reverse();
    Ok(found.into())
}

pub(super) fn put_correction(txn: &redb::WriteTransaction, at: Seq, after: Time) -> Result<(), Fault> {
    let mut table = txn.open_table(CORRECTIONS)?;
    table.insert(at.0, after.0)?;
    Ok(())
}

pub(super) fn put_doubted(txn: &redb::WriteTransaction, micros: u64) -> Result<(), Fault> {
    let mut meta = txn.open_table(META)?;
    meta.insert(DOUBTED, micros)?;
    Ok(())
}

impl Log {
    /// Sets log time back to `wall` with a `clock_corrected` record; `None`, and nothing is done, if log time is not ahead.
    ///
    /// # Errors
    /// As [`Log::commit`].
    pub fn correct_clock(&mut self, wall: Time) -> Result<Option<Committed>, LogError> {
        if self.head() == Seq(0) || wall >= self.last_time() {
            return Ok(None);
        }
        let mut body = Body::after(self.last_time());
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
        moment(&self.corrections, seq, time)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_no_later_than_the_next_correction() {
        let check = |seq, time, expected| {
            let corrections = [(Seq(10), Time(50)), (Seq(20), Time(70))];
            assert_eq!(moment(&corrections, Seq(seq), Time(time)), Time(expected), "{seq} at {time}");
        };
        check(1, 40, 40);
        check(9, 900, 50);
        check(10, 50, 50);
        check(19, 900, 70);
        check(20, 70, 70);
        check(21, 900, 900);
    }
}
