//! A file that takes room on the disk, to be given back when there is none left to delete with: deleting from the log, and
//! the snapshot that it may have to wait for, need free pages before they free others.
//!
//! It is there with `when_full = "drop-oldest"` alone. Whoever deletes it takes nothing but this room.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Name of the file in the data directory.
pub const FILE_NAME: &str = "reserve";
/// Its size, in bytes.
pub const BYTES: u64 = 2 << 20;
/// With less than this free it is given back: a commit may need so much at once.
const URGENT_BYTES: u64 = 1 << 20;
/// With less than this free the oldest records are dropped, whatever `retention.free_bytes_min` says. It must be more than is
/// written between two looks at the disk, one for each commit.
pub const LOW_BYTES: u64 = 4 << 20;

/// The reserve of a data directory.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
}

impl Reserve {
    /// That of this data directory; nothing is made or looked at yet.
    pub fn of(data_dir: &Path) -> Reserve {
        Reserve { path: data_dir.join(FILE_NAME) }
    }

    /// Gives it back if `free` bytes are too few to go on with. `true` if it has, so that there are more now.
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

    /// Makes it if it is not there, or not whole, and `free` bytes leave room for it.
    pub fn make_if_room(&self, free: u64) {
        if free < BYTES + LOW_BYTES || self.is_whole() {
            return;
        }
        if let Err(error) = self.make() {
            // Without it the disk must have the room.
            let _ = fs::remove_file(&self.path);
            tracing::warn!(
                "cannot create {}, which reserves space for dropping records when the disk is full: {error}",
                self.path.display()
            );
        }
    }

    fn is_whole(&self) -> bool {
        // A crash can leave a part, and a copy of the directory a file without blocks.
        fs::metadata(&self.path).is_ok_and(|file| file.len() == BYTES && file.blocks() * 512 >= BYTES)
    }

    fn make(&self) -> io::Result<()> {
        let mut file: File = OpenOptions::new().write(true).create(true).truncate(true).open(&self.path)?;
        // Some file systems keep neither zeros nor what repeats itself.
        let mut noise = vec![0; 64 << 10];
        for _ in 0..BYTES / noise.len() as u64 {
            getrandom::fill(&mut noise).map_err(|error| io::Error::other(error.to_string()))?;
            file.write_all(&noise)?;
        }
        file.sync_all()
    }
}

/// Free bytes for this process on the disk of a directory; `None` if the system does not say.
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
        // The length alone takes no room.
        File::create(&file).unwrap().set_len(BYTES).unwrap();
        assert!(!reserve.is_whole());
        reserve.make_if_room(u64::MAX);
        assert!(reserve.is_whole());
    }
}
