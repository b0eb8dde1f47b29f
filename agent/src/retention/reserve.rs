//! A file that reserves disk space, released when there is no space left for deleting: deleting from the log, and
//! writing a snapshot before that, need free pages before they free others.
//!
//! It exists only with `when_full = "drop-oldest"`. Deleting it by hand loses nothing but this space.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Name of the file in the data directory.
pub const FILE_NAME: &str = "reserve";
/// Its size, in bytes.
pub const BYTES: u64 = 2 << 20;
/// With less free space it is released: one commit may need this much.
const URGENT_BYTES: u64 = 1 << 20;
/// With less free space the oldest records are dropped, whatever `retention.free_bytes_min` is. It must exceed the
/// bytes written until records are dropped: until the next check, one per commit, and until the snapshot that it may need
/// first.
pub const LOW_BYTES: u64 = 8 << 20;

/// The reserve of a data directory.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
}

impl Reserve {
    /// The reserve of this data directory; creates and checks nothing.
    pub fn of(data_dir: &Path) -> Reserve {
        Reserve { path: data_dir.join(FILE_NAME) }
    }

    /// Releases it if `free` bytes are too few to continue; `true` if it did.
    pub fn release_if_urgent(&self, free: u64) -> bool {
        if free >= URGENT_BYTES || fs::remove_file(&self.path).is_err() {
            return false;
        }
        tracing::warn!(
            "only {free} bytes are free on the disk of {}; this reserve file was removed to make room for dropping the \
             oldest records, and is created again when there is space",
            self.path.display()
        );
        true
    }

    /// Creates it if it is missing or incomplete, and `free` bytes leave room for it.
    pub fn make_if_room(&self, free: u64) {
        if free < BYTES + LOW_BYTES || self.is_whole() {
            return;
        }
        if let Err(error) = self.make() {
            // Without it, the disk needs the space.
            let _ = fs::remove_file(&self.path);
            tracing::warn!(
                "cannot create {}, which reserves space for dropping records when the disk is full: {error}",
                self.path.display()
            );
        }
    }

    fn is_whole(&self) -> bool {
        // A crash can leave a part of it, and a copy of the directory a sparse file.
        fs::metadata(&self.path).is_ok_and(|file| file.len() == BYTES && file.blocks() * 512 >= BYTES)
    }

    fn make(&self) -> io::Result<()> {
        let mut file: File = OpenOptions::new().write(true).create(true).truncate(true).open(&self.path)?;
        // Some file systems compress zeros and repeated data.
        let mut noise = vec![0; 64 << 10];
        for _ in 0..BYTES / noise.len() as u64 {
            getrandom::fill(&mut noise).map_err(|error| io::Error::other(error.to_string()))?;
            file.write_all(&noise)?;
        }
        file.sync_all()
    }
}

/// Free bytes for this process on the disk of a directory; `None` if unknown.
pub fn free_bytes(dir: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_where_there_is_room_and_given_back_where_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let (reserve, file) = (Reserve::of(dir.path()), dir.path().join(FILE_NAME));
        reserve.make_if_room(BYTES + LOW_BYTES - 1);
        assert!(!file.exists());
        reserve.make_if_room(BYTES + LOW_BYTES);
        assert!(reserve.is_whole());
        assert!(!reserve.release_if_urgent(URGENT_BYTES));
        assert!(reserve.is_whole());
        assert!(reserve.release_if_urgent(URGENT_BYTES - 1));
        assert!(!file.exists());
        assert!(!reserve.release_if_urgent(0), "there is nothing more to give");
    }

    #[test]
    fn a_part_of_it_is_made_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (reserve, file) = (Reserve::of(dir.path()), dir.path().join(FILE_NAME));
        fs::write(&file, [1; 100]).unwrap();
        reserve.make_if_room(u64::MAX);
        assert!(reserve.is_whole());
        // The length alone takes no space.
        File::create(&file).unwrap().set_len(BYTES).unwrap();
        assert!(!reserve.is_whole());
        reserve.make_if_room(u64::MAX);
        assert!(reserve.is_whole());
    }
}
