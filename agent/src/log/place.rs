//! Whether the log's name still leads to the file that is open.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use redb::StorageBackend;

use super::{FILE_NAME, Log, LogError};

/// A file, and the name it was opened by.
#[derive(Clone, Debug)]
pub(super) struct FilePlace {
    path: PathBuf,
    identity: (u64, u64),
}

impl FilePlace {
    pub(super) fn of(path: &Path, file: &File) -> io::Result<FilePlace> {
        let metadata = file.metadata()?;
        Ok(FilePlace { path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) })
    }

    fn is_there(&self) -> bool {
        match std::fs::metadata(&self.path) {
            Ok(metadata) => (metadata.dev(), metadata.ino()) == self.identity,
            // Only a name that is gone says that the file is.
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }
}

impl Log {
    /// Looks whether the file is still where it was opened.
    ///
    /// # Errors
    /// [`LogError::Gone`] if its name leads to another file or to none: what is committed is then lost with the process.
    pub fn still_there(&self) -> Result<(), LogError> {
        match &self.file {
            Some(file) if !file.is_there() => Err(LogError::Gone { path: file.path.clone() }),
            _ => Ok(()),
        }
    }

    /// Refuses if a process has the log in a data directory open; whether there is one, and whether it is whole, is not
    /// asked.
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
        // All of it, as whoever writes to it holds a part.
        let everything = (Bound::Unbounded, Bound::Unbounded);
        let locked = redb::backends::FileBackend::new(file)
            .map(|disk| disk.try_lock_range(everything.0, everything.1));
        match locked {
            Ok(Ok(false)) | Err(redb::DatabaseError::DatabaseAlreadyOpen) => Err(LogError::InUse { path }),
            _ => Ok(()),
        }
    }
}
