//! Committing, which is the only way to change the log.

use std::sync::atomic::Ordering;

use fieldlog_projections::Seq;
use fieldlog_projections::chunk::{Cut, Place, RecordBuffer};

use super::error::{Fault, during};
use super::guard::guarded;
use super::index::Closed;
use super::trim::trim;
use super::{CHUNKS, Commit, Committed, FILL, Log, LogError, clock, cursors, quarantine, rollups};

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
        let committed = guarded("commit to the log", || match self.goes_to_journal(commit) {
            true => self.commit_to_journal(commit),
            false => self.commit_to_store(commit),
        });
        if let Err(error) = &committed {
            self.failed = true;
            if error.is_lasting() {
                self.seal.close();
            }
        }
        committed
    }

    /// Commits to redb, together with everything that only the journal has.
    pub(super) fn commit_to_store(&mut self, commit: &Commit<'_>) -> Result<Committed, Fault> {
        let first = self.next;
        let last = Seq(first.0 + commit.records.len() as u64 - 1);
        let mut txn = self.hold.get()?.begin_write()?;
        txn.set_quick_repair(self.options.quick_repair);
        let tail = self.tail.clone();
        let held = tail.held();
        let added = [&held.records, commit.records];
        let cut =
            if added.iter().all(|records| records.is_empty()) { None } else { Some(self.put(&txn, added)?) };
        let quarantined = commit.quarantine.iter().map(|(at, payload)| (Seq(first.0 + *at as u64), payload));
        let quarantined = held.quarantine.iter().map(|(seq, payload)| (*seq, payload)).chain(quarantined);
        during(
            "write to the quarantine",
            quarantine::put(&txn, quarantined, self.options.quarantine_records_max),
        )?;
        let resolved = held.resolved.iter().chain(commit.resolved);
        during("delete from the quarantine", quarantine::remove(&txn, resolved))?;
        let moved = commit.cursors.iter().map(|(name, cursor)| (name, cursor));
        cursors::put(&txn, held.cursors.iter().chain(moved))?;
        if !commit.rollups.is_empty() {
            during("write to the archive", rollups::put(&txn, commit.rollups))?;
        }
        if let Some(before) = commit.trim_rollups_before {
            during("trim the archive", rollups::trim(&txn, before))?;
        }
        if let Some(after) = commit.corrected {
            clock::put_correction(&txn, last, after)?;
        }
        if let Some(micros) = commit.doubted.or(held.doubted) {
            clock::put_doubted(&txn, micros)?;
        }
        let trimmed = match commit.trim_before {
            Some(before) => during("trim the log", trim(&txn, before))?,
            None => None,
        };
        drop(held);
        if let Some(journal) = self.journal.as_ref().filter(|journal| !journal.is_empty()) {
            journal.end().store(&txn)?;
        }
        self.finish_change(txn)?;
        (self.next, self.stored) = (last.next(), last.next());
        if let Some(cut) = cut {
            self.last_time = self.open.last_time();
            self.stored_bytes = cut.last_place.stored_before + cut.last_stored as u64;
            self.keep_last_open(&cut);
        }
        self.forget_moved();
        Ok(Committed { first, last, trimmed })
    }

    /// Ends a write transaction that changes the log: the sums of the last close are no longer valid.
    pub(super) fn finish_change(&mut self, txn: redb::WriteTransaction) -> Result<(), Fault> {
        if self.unchanged {
            self.go_on(&txn)?;
        }
        self.finish(txn)?;
        (self.unchanged, self.as_closed, self.gains) = (false, false, false);
        Ok(())
    }

    /// Ends every write transaction: makes it durable and counts it.
    pub(super) fn finish(&self, txn: redb::WriteTransaction) -> Result<(), Fault> {
        txn.commit()?;
        self.disk.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn put(&mut self, txn: &redb::WriteTransaction, added: [&RecordBuffer; 2]) -> Result<Cut, Fault> {
        let open_first = Seq(self.stored.0 - self.open.len() as u64);
        for records in added {
            if !records.is_empty() {
                self.open.append(records);
            }
        }
        let mut stored = Vec::new();
        let cut = {
            let mut chunks = txn.open_table(CHUNKS)?;
            self.open.chunks(open_first, self.place, FILL, &mut self.ratio, |seq, bytes| {
                stored.push((seq, bytes.len()));
                chunks.insert(seq.0, bytes).map(drop)
            })?
        };
        let mut end = Seq(open_first.0 + self.open.len() as u64);
        if !is_closed(&cut)
            && let Some((last, _)) = stored.pop()
        {
            end = last;
        }
        let closed = Closed { records: &self.open, chunks: &stored, end };
        during("write to the log's index", self.index.advance(self.hold.get()?, txn, &closed))?;
        Ok(cut)
    }

    /// Keeps the last chunk open while it does not fill a page.
    fn keep_last_open(&mut self, cut: &Cut) {
        self.link = cut.link;
        if is_closed(cut) {
            self.open.clear();
            let stored_before = cut.last_place.stored_before + cut.last_stored as u64;
            self.place = Place { stored_before, link: cut.link };
        } else {
            self.open.drop_front(cut.last_from);
            self.place = cut.last_place;
        }
    }
}

/// Whether the last chunk nearly fills a page, so that it is not stored again.
fn is_closed(cut: &Cut) -> bool {
    cut.last_stored > FILL.small * 7 / 8
}
