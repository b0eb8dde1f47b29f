//! Which commits go to the journal, and when its contents move into redb.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fieldlog_projections::Seq;
use fieldlog_projections::chunk::RecordBuffer;
use redb::StorageBackend;

use super::disk::Disk;
use super::error::Fault;
use super::guard::guarded;
use super::journal::{self, BLOCKS, Entry, Journal, NoJournal, Pointer, Recovered};
use super::place::FilePlace;
use super::{Commit, Committed, FORMAT_PLAIN, FORMAT_VERSION, JOURNAL_FILE_NAME, Log, LogError, META};

/// A commit of this size or more goes to redb directly. There it costs a sync and some 28 KB beside its compressed records;
/// in the journal it would be written as it is, and compressed into redb later.
const DIRECT_BYTES: usize = 32 * 1024;

/// When the contents of the journal move into redb, apart from when it is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalBounds {
    /// With at least so many bytes of records, payloads and cursors.
    pub move_bytes: usize,
}

impl Log {
    /// Lets small commits go to the journal in the data directory, which is created if the log has none.
    ///
    /// # Errors
    /// [`NoJournal`] if it cannot have one: all commits then go to redb, as before.
    /// [`LogError`] if noting the new journal in redb failed.
    pub fn use_journal(
        &mut self,
        data_dir: &Path,
        bounds: JournalBounds,
    ) -> Result<Result<(), NoJournal>, LogError> {
        if self.journal.is_none() {
            match journal::create(data_dir) {
                Ok(disk) => self.begin_journal(disk, BLOCKS)?,
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
        let path = data_dir.join(JOURNAL_FILE_NAME);
        let place = FilePlace::at(path.clone()).map_err(|source| LogError::File { path, source })?;
        self.files.push(place);
        self.journaling = Some(bounds);
        Ok(Ok(()))
    }

    /// The same with a ring of `blocks` blocks of 4 KiB on any disk; the tests use one that fails.
    ///
    /// # Errors
    /// As [`Log::use_journal`].
    pub fn use_journal_on(
        &mut self,
        disk: impl StorageBackend,
        blocks: u32,
        bounds: JournalBounds,
    ) -> Result<(), LogError> {
        if self.journal.is_none() {
            let failed = |error| LogError::store("create the journal", redb::Error::Io(error));
            journal::fill(&disk, blocks).map_err(failed)?;
            self.begin_journal(Arc::new(disk), blocks)?;
        }
        self.journaling = Some(bounds);
        Ok(())
    }

    /// Notes a new journal in redb, before its first commit: from then on, the log is incomplete without it.
    fn begin_journal(&mut self, disk: Arc<dyn StorageBackend>, blocks: u32) -> Result<(), LogError> {
        let journal = Journal::new(self.counted(disk), self.epoch, blocks);
        let pointer = journal.end();
        self.change_journal(|txn| {
            pointer.store(txn)?;
            txn.open_table(META)?.insert("format", FORMAT_VERSION)?;
            Ok(())
        })?;
        self.journal = Some(journal);
        Ok(())
    }

    /// Gives up the journal, if the log has one, so that a program that knows none can open the log.
    ///
    /// # Errors
    /// [`LogError`]
    pub fn leave_journal(&mut self, data_dir: &Path) -> Result<(), LogError> {
        self.give_up_journal()?;
        // Also one that was being created when the process ended.
        journal::remove(data_dir)
    }

    /// The same without removing the file, which does not count any more.
    ///
    /// # Errors
    /// [`LogError`]
    pub fn give_up_journal(&mut self) -> Result<(), LogError> {
        if self.journal.is_some() || self.pointer.is_some() {
            self.move_journal()?;
            self.change_journal(|txn| {
                Pointer::remove(txn)?;
                txn.open_table(META)?.insert("format", FORMAT_PLAIN)?;
                Ok(())
            })?;
            (self.journal, self.journaling, self.pointer) = (None, None, None);
        }
        Ok(())
    }

    /// The journal's disk, with the counters and the seal of the log.
    pub(super) fn counted(&self, disk: Arc<dyn StorageBackend>) -> Arc<dyn StorageBackend> {
        Arc::new(Disk { disk, stats: self.disk.clone(), seal: self.seal.clone() })
    }

    /// The stored format version.
    #[cfg(test)]
    pub(super) fn format(&self) -> Result<u64, LogError> {
        use redb::ReadableDatabase;
        guarded("read the log's head", || {
            let meta = self.hold.get()?.begin_read()?.open_table(META)?;
            Ok(meta.get("format")?.map_or(0, |version| version.value()))
        })
    }

    fn change_journal(
        &mut self,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<(), Fault>,
    ) -> Result<(), LogError> {
        let changed = guarded("set up the journal", || {
            let mut txn = self.hold.get()?.begin_write()?;
            txn.set_quick_repair(self.options.quick_repair);
            change(&txn)?;
            self.finish_change(txn)
        });
        self.failed |= changed.is_err();
        changed
    }

    /// Sets when the journal is moved, if it is used.
    pub fn bound_journal(&mut self, bounds: JournalBounds) {
        if let Some(journaling) = &mut self.journaling {
            *journaling = bounds;
        }
    }

    /// Moves what only the journal has into redb; returns whether that took a commit.
    ///
    /// # Errors
    /// As [`Log::commit`].
    pub fn move_journal(&mut self) -> Result<bool, LogError> {
        if self.is_journal_empty() {
            return Ok(false);
        }
        let empty = RecordBuffer::after(self.last_time);
        let moved = guarded("move the journal into the log", || self.commit_to_store(&Commit::of(&empty)));
        self.failed |= moved.is_err();
        moved.map(|_| true)
    }

    /// Whether redb has everything that is in the journal.
    pub fn is_journal_empty(&self) -> bool {
        self.journal.as_ref().is_none_or(Journal::is_empty)
    }

    /// Whether a commit goes to the journal: it is small and has room there.
    pub(super) fn goes_to_journal(&self, commit: &Commit<'_>) -> bool {
        let (Some(journal), Some(bounds)) = (&self.journal, self.journaling) else { return false };
        let size = Entry::size(commit);
        // The first commit of a run deletes the sums of the last close; and readers find the first record in redb.
        !self.unchanged
            && self.stored > Seq(1)
            && Entry::holds(commit)
            && size < DIRECT_BYTES
            && journal.fits(size)
            && self.tail.held().bytes() + size <= bounds.move_bytes
    }

    pub(super) fn commit_to_journal(&mut self, commit: &Commit<'_>) -> Result<Committed, Fault> {
        let first = self.next;
        let last = Seq(first.0 + commit.records.len() as u64 - 1);
        let Some(journal) = &mut self.journal else { return Err(LogError::Closed.into()) };
        journal.append(first, commit)?;
        self.disk.commits.fetch_add(1, Ordering::Relaxed);
        self.disk.journal_commits.fetch_add(1, Ordering::Relaxed);
        self.add_to_tail(first, commit);
        Ok(Committed { first, last, trimmed: None })
    }

    fn add_to_tail(&mut self, first: Seq, commit: &Commit<'_>) {
        self.tail.add(first, self.link, commit);
        self.link = commit.records.link_after(self.link);
        self.next = Seq(first.0 + commit.records.len() as u64);
        self.last_time = self.last_time.max(commit.records.last_time());
    }

    /// After a commit of redb, which has everything.
    pub(super) fn forget_moved(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.moved();
        }
        self.tail.moved(self.stored_bytes);
    }

    /// Takes over what the journal has and redb does not, and moves it into redb.
    pub(super) fn take_over(&mut self, found: Recovered) -> Result<(), LogError> {
        let Recovered { entries, journal } = found;
        self.disk.journal_found.store(entries.len() as u64, Ordering::Relaxed);
        for entry in &entries {
            self.add_to_tail(self.next, &entry.commit());
        }
        self.journal = Some(journal);
        self.move_journal().map(drop)
    }
}
