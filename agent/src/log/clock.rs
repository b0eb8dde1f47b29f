//! Clock data of the log beside its records: where log time was set back, and how much of a forward jump is doubted.

use std::sync::Arc;

use fieldlog_projections::{Seq, Time};
use redb::{ReadableTable, TableDefinition};

use super::META;
use super::error::Fault;
use super::existing::existing;

/// By the position of a `clock_corrected` record: the log time from which it continues. Created with the first of them.
pub(super) const CORRECTIONS: TableDefinition<'_, u64, i64> = TableDefinition::new("corrections");
/// In `meta`: microseconds by which the wall clock has jumped forward and is not believed yet.
pub(super) const DOUBTED: &str = "clock_doubted";

/// Corrections, oldest first: position, and the earliest log time that was set back to from there on.
pub(super) type Corrections = Arc<[(Seq, Time)]>;

/// The moment of a record, for searches by time: its log time, but no later than the log time of any later correction.
/// Unlike log time, it never goes back from one record to the next.
pub(super) fn moment(corrections: &[(Seq, Time)], seq: Seq, time: Time) -> Time {
    let next = corrections.partition_point(|(at, _)| *at <= seq);
    corrections.get(next).map_or(time, |(_, after)| time.min(*after))
}

/// Where log time was set back, and to what, oldest first.
pub(super) fn stored_corrections(txn: &redb::ReadTransaction) -> Result<Vec<(Seq, Time)>, Fault> {
    let Some(table) = existing(txn, CORRECTIONS)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in table.iter()? {
        let (at, after) = entry?;
        found.push((Seq(at.value()), Time(after.value())));
    }
    Ok(found)
}

pub(super) fn corrections(txn: &redb::ReadTransaction) -> Result<Corrections, Fault> {
    let mut found = stored_corrections(txn)?;
    let mut least = Time(i64::MAX);
    for (_, after) in found.iter_mut().rev() {
        least = least.min(*after);
        *after = least;
    }
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
