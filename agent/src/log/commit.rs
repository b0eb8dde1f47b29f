//! What one commit has.

use fieldlog_projections::chunk::RecordBuffer;
use fieldlog_projections::rollup::Period;
use fieldlog_projections::{Seq, Time};

/// The result of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Position of the first record of the commit.
    pub first: Seq,
    /// Position of its last record; before `first` if it had none.
    pub last: Seq,
    /// The trimmed records, first and last.
    pub trimmed: Option<(Seq, Seq)>,
}

/// The contents of one commit, which is atomic.
#[derive(Clone, Copy, Debug)]
pub struct Commit<'a> {
    /// Records to append.
    pub records: &'a RecordBuffer,
    /// Payloads for the quarantine, by the index of their record in `records`.
    pub quarantine: &'a [(usize, Vec<u8>)],
    /// Positions of quarantined inputs that were dealt with; their payloads are deleted.
    pub resolved: &'a [Seq],
    /// Cursors to store, by name.
    pub cursors: &'a [(String, Vec<u8>)],
    /// Trim records before this position, a bounded slice at a time, so that the commit stays short.
    pub trim_before: Option<Seq>,
    /// Rollups for the archive.
    pub rollups: &'a [RolledUp],
    /// Delete archived periods before this position.
    pub trim_rollups_before: Option<Seq>,
    /// The last record sets log time back to this.
    pub corrected: Option<Time>,
    /// The new amount by which a forward jump of the wall clock is doubted, in microseconds, if it has changed.
    pub doubted: Option<u64>,
}

impl<'a> Commit<'a> {
    /// A commit that has only records.
    pub fn of(records: &'a RecordBuffer) -> Commit<'a> {
        Commit {
            records,
            quarantine: &[],
            resolved: &[],
            cursors: &[],
            trim_before: None,
            rollups: &[],
            trim_rollups_before: None,
            corrected: None,
            doubted: None,
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
            && self.resolved.is_empty()
            && self.cursors.is_empty()
            && self.trim_before.is_none()
            && self.rollups.is_empty()
            && self.trim_rollups_before.is_none()
    }
}

/// A period to be stored, replacing its previous version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolledUp {
    /// The period.
    pub period: Period,
    /// Its rows, in their order.
    pub rows: Vec<Vec<u8>>,
}
