//! Committing, which is the only way to change the log.

use std::sync::atomic::Ordering;

use fieldlog_projections::chunk::{Cut, Place, RecordBuffer};
use fieldlog_projections::{Seq, Time};

use super::error::{Fault, during};
use super::guard::guarded;
use super::trim::trim;
use super::{CHUNKS, FILL, Log, LogError, RolledUp, clock, cursors, quarantine, rollups};

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

impl Log {
    /// Commits records, and payloads for the quarantine by the index of their record in `records`.
    ///
    /// # Errors
    /// As [`Log::commit`].
    pub fn append(
        &mut self,
        records: &RecordBuffer,
        quarantine: &[(usize, Vec<u8>)],
    ) -> Result<Committed, LogError> {
        self.commit(&Commit { quarantine, ..Commit::of(records) })
    }

    /// Commits everything durably: when this returns, it survives a power loss.
    ///
    /// # Errors
    /// [`LogError::Store`]: whether the commit is in the log is unknown until it is opened again, and this handle must
    /// not be used any more.
    pub fn commit(&mut self, commit: &Commit<'_>) -> Result<Committed, LogError> {
        if commit.is_empty() {
            let first = self.next;
            return Ok(Committed { first, last: Seq(first.0 - 1), trimmed: None });
        }
        let committed = guarded("commit to the log", || self.commit_all(commit));
        if let Err(error) = &committed {
            self.failed = true;
            if error.is_lasting() {
                self.seal.close();
            }
        }
        committed
    }

    fn commit_all(&mut self, commit: &Commit<'_>) -> Result<Committed, Fault> {
        let first = self.next;
        let last = Seq(first.0 + commit.records.len() as u64 - 1);
        let mut txn = self.hold.get()?.begin_write()?;
        txn.set_quick_repair(self.options.quick_repair);
        let cut = if commit.records.is_empty() { None } else { Some(self.put(&txn, commit.records)?) };
        during(
            "write to the quarantine",
            quarantine::put(&txn, first, commit.quarantine, self.options.quarantine_records_max),
        )?;
        during("delete from the quarantine", quarantine::remove(&txn, commit.resolved))?;
        cursors::put(&txn, commit.cursors)?;
        if !commit.rollups.is_empty() {
            during("write to the archive", rollups::put(&txn, commit.rollups))?;
        }
        if let Some(before) = commit.trim_rollups_before {
            during("trim the archive", rollups::trim(&txn, before))?;
        }
        if let Some(after) = commit.corrected {
            clock::put_correction(&txn, last, after)?;
        }
        if let Some(micros) = commit.doubted {
            clock::put_doubted(&txn, micros)?;
        }
        let trimmed = match commit.trim_before {
            Some(before) => during("trim the log", trim(&txn, before))?,
            None => None,
        };
        if self.unchanged {
            self.go_on(&txn)?;
        }
        self.finish(txn)?;
        (self.unchanged, self.as_closed, self.gains) = (false, false, false);
        self.next = last.next();
        if let Some(cut) = cut {
            self.keep_last_open(&cut);
        }
        Ok(Committed { first, last, trimmed })
    }

    /// Ends every write transaction: makes it durable and counts it.
    pub(super) fn finish(&self, txn: redb::WriteTransaction) -> Result<(), Fault> {
        txn.commit()?;
        self.disk.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn put(&mut self, txn: &redb::WriteTransaction, records: &RecordBuffer) -> Result<Cut, Fault> {
        let open_first = Seq(self.next.0 - self.open.len() as u64);
        self.open.append(records);
        let mut chunks = txn.open_table(CHUNKS)?;
        Ok(self.open.chunks(open_first, self.place, FILL, &mut self.ratio, |seq, bytes| {
            chunks.insert(seq.0, bytes).map(drop)
        })?)
    }

    /// Keeps the last chunk open while it does not fill a page.
    fn keep_last_open(&mut self, cut: &Cut) {
        self.link = cut.link;
        if cut.last_stored > FILL.small * 7 / 8 {
            self.open.clear();
            let stored_before = cut.last_place.stored_before + cut.last_stored as u64;
            self.place = Place { stored_before, link: cut.link };
        } else {
            self.open.drop_front(cut.last_from);
            self.place = cut.last_place;
        }
    }
}
