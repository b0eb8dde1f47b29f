//! Checks whether the log's path still leads to the open file.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use redb::StorageBackend;
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::{FILE_NAME, Log, LogError};

/// A file, and the path it was opened by.
#[derive(Clone, Debug)]
pub(super) struct FilePlace {
    path: PathBuf,
    identity: Identity,
}

/// Device, major and minor, and inode.
type Identity = (u32, u32, u64);

/// Asks for nothing but the inode: Linux 6.13 and later store a finer time with the next write of a file whose times were
/// asked for, and that would be a second write to the disk with each sync.
fn identity(dir: impl AsFd, path: &Path, flags: AtFlags) -> io::Result<Identity> {
    let stat = statx(dir, path, flags, StatxFlags::INO)?;
    Ok((stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino))
}

impl FilePlace {
    /// Of a file that was just opened by its path.
    pub(super) fn at(path: PathBuf) -> io::Result<FilePlace> {
        let identity = identity(CWD, &path, AtFlags::empty())?;
        Ok(FilePlace { path, identity })
    }

    pub(super) fn of(path: &Path, file: &File) -> io::Result<FilePlace> {
        let identity = identity(file, Path::new(""), AtFlags::EMPTY_PATH)?;
        Ok(FilePlace { path: path.to_owned(), identity })
    }

    fn is_there(&self) -> bool {
        match identity(CWD, &self.path, AtFlags::empty()) {
            Ok(identity) => identity == self.identity,
            // Only a missing path shows that the file is gone.
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }
}

impl Log {
    /// Checks whether log and journal are still at their paths.
    ///
    /// # Errors
    /// [`LogError::Gone`] if the path leads to another file or to none: commits would then be lost with the process.
    pub fn still_there(&self) -> Result<(), LogError> {
        match self.files.iter().find(|file| !file.is_there()) {
            Some(file) => Err(LogError::Gone { path: file.path.clone() }),
            None => Ok(()),
        }
    }

    /// Fails if a process has the log in a data directory open. Does not check whether the log exists or is intact.
    ///
    /// # Errors
    /// [`LogError::InUse`]; [`LogError::File`] if the file cannot be opened.
    pub fn refuse_if_in_use(data_dir: &Path) -> Result<(), LogError> {
        let path = data_dir.join(FILE_NAME);
        let file = match std::fs::OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(LogError::File { path, source }),
        };
        // The whole file, since a writer locks a part.
        let everything = (Bound::Unbounded, Bound::Unbounded);
        let locked = redb::backends::FileBackend::new(file)
            .map(|disk| disk.try_lock_range(everything.0, everything.1));
        match locked {
            Ok(Ok(false)) | Err(redb::DatabaseError::DatabaseAlreadyOpen) => Err(LogError::InUse { path }),
            _ => Ok(()),
        }
    }
}
