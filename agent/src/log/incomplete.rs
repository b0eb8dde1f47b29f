//! A store whose creation a power loss interrupted.

use std::io;
use std::ops::Bound;

use redb::StorageBackend;

const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";
pub(super) const PAGE: u64 = 4096;
/// Several times what redb lays out at first.
const LEN_MAX: u64 = 1024 * 1024;

/// Empties a store whose creation never finished, so that it is created again. Returns whether it was one.
///
/// redb gives the file its length, writes the first page without the magic number, syncs, and only then the magic
/// number. In between, redb refuses the file for ever. It holds nothing then: all of it beyond the first page is zero,
/// which is not so in any store that has seen a commit.
pub(super) fn discard(disk: &impl StorageBackend) -> io::Result<bool> {
    let everything = (Bound::Unbounded, Bound::Unbounded);
    if !is_incomplete(disk)? {
        return Ok(false);
    }
    match disk.try_lock_range(everything.0, everything.1) {
        // Another process is creating it at this moment; opening will say so.
        Ok(false) => return Ok(false),
        Ok(true) => {
            let incomplete = is_incomplete(disk)?;
            if incomplete {
                disk.set_len(0)?;
            }
            let unlocked = disk.unlock_range(everything.0, everything.1);
            unlocked.map_err(|error| io::Error::other(error.to_string()))?;
            return Ok(incomplete);
        }
        // A disk without locks has no other process.
        Err(_) => {}
    }
    disk.set_len(0)?;
    Ok(true)
}

fn is_incomplete(disk: &impl StorageBackend) -> io::Result<bool> {
    let len = disk.len()?;
    if len == 0 || len > LEN_MAX {
        return Ok(false);
    }
    let mut content = vec![0; len as usize];
    disk.read(0, &mut content)?;
    let (first, rest) = content.split_at(len.min(PAGE) as usize);
    Ok(lacks_magic(first) && rest.iter().all(|byte| *byte == 0))
}

/// Whether a first page has no magic number yet, or a part of it: bytes are written one by one.
pub(super) fn lacks_magic(first: &[u8]) -> bool {
    let magic = first.get(..MAGIC.len()).unwrap_or(first);
    let unfinished = magic.iter().zip(MAGIC).all(|(found, whole)| *found == 0 || *found == whole);
    unfinished && *magic != MAGIC
}

/// Whether there are chunks in a store: then it is not one whose creation was interrupted.
pub(super) fn has_chunks(disk: &impl StorageBackend) -> io::Result<bool> {
    let len = disk.len()?;
    if len > LEN_MAX {
        return Ok(true);
    }
    let mut content = vec![0; len as usize];
    disk.read(0, &mut content)?;
    Ok(content.windows(4).any(|found| matches!(found, b"FL\x01\x00" | b"FL\x01\x01")))
}
