//! A store whose creation was interrupted by a power loss.

use std::io;
use std::ops::Bound;

use redb::StorageBackend;

const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";
pub(super) const PAGE: u64 = 4096;
/// Several times the initial size of a redb file.
const LEN_MAX: u64 = 1024 * 1024;

/// Empties a store whose creation never finished, so that it is created again. Returns whether it was one.
///
/// redb sets the file's length, writes the first page without the magic number, syncs, and then writes the magic
/// number. In between, redb would refuse the file for ever. Such a file is empty: everything after the first page is
/// zero, which is never so in a store with a commit.
pub(super) fn discard(disk: &impl StorageBackend) -> io::Result<bool> {
    let everything = (Bound::Unbounded, Bound::Unbounded);
    if !is_incomplete(disk)? {
        return Ok(false);
    }
    match disk.try_lock_range(everything.0, everything.1) {
        // Another process is creating it at this moment; opening will report that.
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
        // A disk without locks is used by this process only.
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

/// Whether a first page lacks the magic number or has only part of it, since bytes are written one by one.
pub(super) fn lacks_magic(first: &[u8]) -> bool {
    let magic = first.get(..MAGIC.len()).unwrap_or(first);
    let unfinished = magic.iter().zip(MAGIC).all(|(found, whole)| *found == 0 || *found == whole);
    unfinished && *magic != MAGIC
}

/// Whether a store has chunks: then its creation was not interrupted.
pub(super) fn has_chunks(disk: &impl StorageBackend) -> io::Result<bool> {
    let len = disk.len()?;
    if len > LEN_MAX {
        return Ok(true);
    }
    let mut content = vec![0; len as usize];
    disk.read(0, &mut content)?;
    Ok(content.windows(4).any(|found| matches!(found, b"FL\x01\x00" | b"FL\x01\x01")))
}
