//! The journal: a ring of blocks that takes a small commit with one write and one sync.
//!
//! redb is the log. A commit in the journal is part of the log until a commit of redb has it; [`Pointer`], which is stored in
//! that commit, says which blocks are still needed.

use std::sync::Arc;

use fieldlog_projections::{ChainHash, Epoch, Seq};
use redb::StorageBackend;
use serde::{Deserialize, Serialize};

use super::checked::{CHECKED, unwrap, wrap};
use super::error::Fault;
use super::existing::existing;
use super::{Commit, JOURNAL, LogError, sums};

mod block;
mod entry;
mod file;
mod medium;
mod recover;
#[cfg(test)]
mod tests;

use block::{BLOCK, Block, ROOM};

pub(super) use entry::Entry;
pub use file::JOURNAL_FILE_NAME;
pub(super) use file::{create, fill, open, remove};
pub use medium::NoJournal;
pub(super) use recover::{Recovered, recover};

/// Blocks of a new ring: 4 MiB.
pub(super) const BLOCKS: u32 = 1024;
/// Name of the row in redb.
const ROW: &str = "ring";
/// Message of a block chain that begins.
const ORIGIN: &[u8] = b"fieldlog 1 journal";

/// The first block of the ring that has not been moved into redb.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pointer {
    /// Number of blocks in the ring.
    blocks: u32,
    /// Number of the block.
    next: u64,
    /// The chain of blocks before it.
    link: [u8; 32],
}

impl Pointer {
    /// Of a ring without a commit.
    fn new(epoch: Epoch, blocks: u32) -> Pointer {
        Pointer { blocks, next: 0, link: ChainHash::origin(epoch).after(ORIGIN).0 }
    }

    /// The stored pointer; `None` if the log has no journal.
    pub(super) fn stored(txn: &redb::ReadTransaction) -> Result<Option<Pointer>, Fault> {
        let Some(table) = existing(txn, JOURNAL)? else { return Ok(None) };
        let Some(stored) = table.get(ROW)? else { return Ok(None) };
        let pointer = unwrap(CHECKED, ROW.as_bytes(), stored.value());
        let pointer = pointer.and_then(|value| postcard::from_bytes::<Pointer>(value).ok());
        match pointer.filter(|pointer| pointer.blocks > 0) {
            Some(pointer) => Ok(Some(pointer)),
            None => Err(sums::damaged("the row \"ring\" of the table \"journal\" is damaged").into()),
        }
    }

    /// Stores it; from this commit on, the blocks before it may be overwritten.
    pub(super) fn store(&self, txn: &redb::WriteTransaction) -> Result<(), Fault> {
        let value = postcard::to_allocvec(self).map_err(|error| sums::damaged(error.to_string()))?;
        let mut table = txn.open_table(JOURNAL)?;
        table.insert(ROW, wrap(CHECKED, ROW.as_bytes(), &value).as_slice())?;
        Ok(())
    }

    /// Removes it: the log has no journal any more.
    pub(super) fn remove(txn: &redb::WriteTransaction) -> Result<(), Fault> {
        txn.delete_table(JOURNAL)?;
        Ok(())
    }
}

/// The journal, open for appending.
#[derive(Debug)]
pub(super) struct Journal {
    disk: Arc<dyn StorageBackend>,
    epoch: Epoch,
    /// The first block that redb does not have.
    moved: Pointer,
    /// The next block to write.
    end: Pointer,
    entry: Vec<u8>,
    out: Vec<u8>,
}

impl Journal {
    /// On a ring of zeros.
    pub(super) fn new(disk: Arc<dyn StorageBackend>, epoch: Epoch, blocks: u32) -> Journal {
        let pointer = Pointer::new(epoch, blocks);
        Journal::on(disk, epoch, pointer, pointer)
    }

    /// On a ring whose commits up to `end` are valid, and are in redb up to `moved`.
    fn on(disk: Arc<dyn StorageBackend>, epoch: Epoch, moved: Pointer, end: Pointer) -> Journal {
        Journal { disk, epoch, moved, end, entry: Vec::new(), out: Vec::new() }
    }

    /// On a ring of which redb has everything; `None` if it is not such a ring.
    pub(super) fn after_close(
        disk: Arc<dyn StorageBackend>,
        epoch: Epoch,
        pointer: Pointer,
    ) -> Option<Journal> {
        let fits = disk.len().is_ok_and(|len| len == u64::from(pointer.blocks) * BLOCK as u64);
        fits.then(|| Journal::on(disk, epoch, pointer, pointer))
    }

    /// The pointer to store in the redb commit that has everything.
    pub(super) fn end(&self) -> Pointer {
        self.end
    }

    /// Whether redb has everything.
    pub(super) fn is_empty(&self) -> bool {
        self.moved == self.end
    }

    /// redb has everything, durably.
    pub(super) fn moved(&mut self) {
        self.moved = self.end;
    }

    /// Whether there is room for a commit of this size.
    pub(super) fn fits(&self, bytes: usize) -> bool {
        let used = self.end.next - self.moved.next;
        // The true size may be a little more than the estimate.
        let needed = bytes.div_ceil(ROOM) as u64 + 1;
        used + needed <= u64::from(self.end.blocks)
    }

    /// Appends a commit whose first record is at `first` and makes it durable.
    ///
    /// # Errors
    /// [`LogError`]: whether the commit is in the journal is unknown until it is opened again.
    pub(super) fn append(&mut self, first: Seq, commit: &Commit<'_>) -> Result<(), LogError> {
        let failed = |error| LogError::store("write to the journal", redb::Error::Io(error));
        self.entry.clear();
        self.out.clear();
        Entry::write(commit, &mut self.entry).map_err(|error| failed(std::io::Error::other(error)))?;
        let parts = self.entry.chunks(ROOM);
        let (count, mut end) = (parts.len(), self.end);
        for (index, part) in parts.enumerate() {
            let block = Block {
                epoch: self.epoch,
                number: end.next,
                index: index as u32,
                last: index + 1 == count,
                first,
                link: ChainHash(end.link),
                part,
            };
            let start = self.out.len();
            block.write(&mut self.out);
            end.link = ChainHash(end.link).after(&self.out[start..]).0;
            end.next += 1;
        }
        let slot = (self.end.next % u64::from(self.end.blocks)) as usize;
        let before_wrap = (self.end.blocks as usize - slot) * BLOCK;
        let (here, at_start) = self.out.split_at(self.out.len().min(before_wrap));
        self.disk.write((slot * BLOCK) as u64, here).map_err(failed)?;
        if !at_start.is_empty() {
            self.disk.write(0, at_start).map_err(failed)?;
        }
        self.disk.sync_data().map_err(failed)?;
        self.end = end;
        Ok(())
    }
}
