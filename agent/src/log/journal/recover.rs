//! Finds the commits that the journal has and redb does not.

use std::sync::Arc;

use fieldlog_projections::{ChainHash, Epoch, Seq};
use redb::StorageBackend;

use super::block::{BLOCK, Block};
use super::{Entry, Journal, Pointer};
use crate::log::LogError;

/// What the journal has that redb does not.
pub(in crate::log) struct Recovered {
    /// The commits, oldest first.
    pub(in crate::log) entries: Vec<Entry>,
    /// The journal, behind the last of them.
    pub(in crate::log) journal: Journal,
}

/// Reads the commits from `pointer` on; the first of them has the record at `next`.
///
/// The blocks of the ring that follow the last valid commit hold older commits, or parts of one that was being written when
/// power failed, and was therefore not acknowledged. A part of a *later* commit there is proof of damage: each commit is
/// synced before the next one is written.
///
/// # Errors
/// [`LogError::Journal`] for damage; [`LogError::Store`] if it cannot be read.
pub(in crate::log) fn recover(
    disk: Arc<dyn StorageBackend>,
    epoch: Epoch,
    pointer: Pointer,
    mut next: Seq,
) -> Result<Recovered, LogError> {
    let failed = |error| LogError::store("read the journal", redb::Error::Io(error));
    // Blocks that a killed process wrote and did not sync can be read, and yet be lost with the power.
    disk.sync_data().map_err(failed)?;
    let expected = u64::from(pointer.blocks) * BLOCK as u64;
    let len = disk.len().map_err(failed)?;
    if len != expected {
        return Err(damaged(format!("it has {len} bytes, and must have {expected}")));
    }
    let mut ring = Reader { disk, blocks: pointer.blocks, bytes: [0; BLOCK] };
    let (mut entries, mut end, mut at) = (Vec::new(), pointer, pointer);
    let mut commit = Vec::new();
    let stop = pointer.next + u64::from(pointer.blocks);
    while at.next < stop {
        let Some(block) = ring.block(at.next, epoch).map_err(failed)? else { break };
        if block.link.0 != at.link || block.begin() != end.next {
            break;
        }
        commit.extend_from_slice(block.part);
        let (last, first) = (block.last, block.first);
        at.link = ChainHash(at.link).after(&ring.bytes).0;
        at.next += 1;
        if last {
            let entry = Entry::read(&commit, first).filter(|_| first == next);
            let entry = entry.ok_or_else(|| {
                damaged(format!(
                    "the commit in block {} does not continue the log at sequence {next}",
                    end.next
                ))
            })?;
            next = Seq(next.0 + entry.records.len() as u64);
            entries.push(entry);
            commit.clear();
            end = at;
        }
    }
    for number in end.next + 1..stop {
        if let Some(block) = ring.block(number, epoch).map_err(failed)?
            && block.begin() > end.next
        {
            return Err(damaged(format!(
                "block {} cannot be read, but block {number}, which was written after it, can",
                at.next
            )));
        }
    }
    Ok(Recovered { entries, journal: Journal::on(ring.disk, epoch, pointer, end) })
}

fn damaged(why: String) -> LogError {
    LogError::Journal { why }
}

struct Reader {
    disk: Arc<dyn StorageBackend>,
    blocks: u32,
    bytes: [u8; BLOCK],
}

impl Reader {
    /// The block of a number; `None` if its place holds anything else.
    fn block(&mut self, number: u64, epoch: Epoch) -> std::io::Result<Option<Block<'_>>> {
        let slot = number % u64::from(self.blocks);
        self.disk.read(slot * BLOCK as u64, &mut self.bytes)?;
        Ok(Block::read(&self.bytes).filter(|block| block.epoch == epoch && block.number == number))
    }
}
