//! Checks whether the log's path still leads to the open file.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use redb::StorageBackend;

use super::{FILE_NAME, Log, LogError};

/// A file, and the path it was opened by.
#[derive(Clone, Debug)]
pub(super) struct FilePlace {
    path: PathBuf,
    identity: (u64, u64),
}

impl FilePlace {
    /// Of a file that was just opened by its path.
    pub(super) fn at(path: PathBuf) -> io::Result<FilePlace> {
        let metadata = std::fs::metadata(&path)?;
        Ok(FilePlace { path, identity: (metadata.dev(), metadata.ino()) })
    }

    pub(super) fn of(path: &Path, file: &File) -> io::Result<FilePlace> {
        let metadata = file.metadata()?;
        Ok(FilePlace { path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) })
    }

    fn is_there(&self) -> bool {
        match std::fs::metadata(&self.path) {
            Ok(metadata) => (metadata.dev(), metadata.ino()) == self.identity,
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
