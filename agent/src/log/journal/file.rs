//! The file of the journal.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;

use redb::StorageBackend;
use redb::backends::FileBackend;

use super::block::BLOCK;
use super::{BLOCKS, NoJournal};
use crate::log::LogError;
use crate::log::overlay::Overlay;

/// Name of the journal in the data directory.
pub const JOURNAL_FILE_NAME: &str = "journal";

/// Opens the file, if there is one; `untouched`: changes nothing in it.
pub(in crate::log) fn open(
    data_dir: &Path,
    untouched: bool,
) -> Result<Option<Arc<dyn StorageBackend>>, LogError> {
    let path = data_dir.join(JOURNAL_FILE_NAME);
    let failed = |source| LogError::File { path: path.clone(), source };
    let file = match OpenOptions::new().read(true).write(!untouched).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(source)),
    };
    // As for the log: reads must come from the disk.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    let refused = |error: redb::DatabaseError| LogError::refused(&path, Box::new(error.into()));
    Ok(Some(match untouched {
        true => Arc::new(Overlay::new(file).map_err(refused)?),
        false => Arc::new(FileBackend::new(file).map_err(refused)?),
    }))
}

/// Creates the file, in place of one that the log does not count on.
pub(in crate::log) fn create(data_dir: &Path) -> Result<Arc<dyn StorageBackend>, NoJournal> {
    if let Some(refusal) = NoJournal::on(data_dir) {
        return Err(refusal);
    }
    let path = data_dir.join(JOURNAL_FILE_NAME);
    let failed = |why: &dyn std::fmt::Display| {
        // Half a ring only takes room.
        let _ = fs::remove_file(&path);
        NoJournal::Failed(why.to_string())
    };
    let created = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path);
    let backend =
        FileBackend::new(created.map_err(|error| failed(&error))?).map_err(|error| failed(&error))?;
    fill(&backend, BLOCKS).map_err(|error| failed(&error))?;
    File::open(data_dir).and_then(|dir| dir.sync_all()).map_err(|error| failed(&error))?;
    Ok(Arc::new(backend))
}

/// Fills a new file with zeros, so that later writes change no metadata of the file system.
pub(in crate::log) fn fill(disk: &impl StorageBackend, blocks: u32) -> io::Result<()> {
    disk.set_len(u64::from(blocks) * BLOCK as u64)?;
    for number in 0..u64::from(blocks) {
        // One block at a time: after larger writes, the page cache holds the file in larger pieces, and syncing one block
        // writes a whole piece.
        disk.write(number * BLOCK as u64, &[0; BLOCK])?;
    }
    disk.sync_data()
}

/// Deletes the file.
pub(in crate::log) fn remove(data_dir: &Path) -> Result<(), LogError> {
    let path = data_dir.join(JOURNAL_FILE_NAME);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(LogError::File { path, source: error }),
        _ => Ok(()),
    }
}
