//! Opens the log without changing anything on disk.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use fieldlog_projections::Epoch;

use super::guard::guarded;
use super::overlay::Overlay;
use super::{Absence, FILE_NAME, Log, LogError, LogOptions, journal};

impl Log {
    /// Opens the log in a data directory without creating or changing anything there. Writes to it are discarded.
    ///
    /// # Errors
    /// As [`Log::open`], and [`LogError::Absent`] if there is no log.
    pub fn open_untouched(data_dir: &Path, options: LogOptions) -> Result<Log, LogError> {
        match Log::inspect(data_dir, options)? {
            (log, None) => Ok(log),
            (_, Some(fault)) => Err(fault),
        }
    }

    /// The same, also with a damaged or missing journal: then the log is as redb alone has it, beside the fault.
    ///
    /// # Errors
    /// As [`Log::open_untouched`].
    pub fn inspect(data_dir: &Path, options: LogOptions) -> Result<(Log, Option<LogError>), LogError> {
        let path = data_dir.join(FILE_NAME);
        let absent = |absence| LogError::Absent { path: path.clone(), absence };
        if let Some(absence) = Log::absence(data_dir)? {
            return Err(absent(absence));
        }
        let mut log = Log::open_overlaid(&path, options)?;
        if !guarded("read the log's head", || log.load())? {
            return Err(absent(Absence::NoRecords));
        }
        match log.open_journal(|| journal::open(data_dir, true)) {
            Ok(()) => Ok((log, None)),
            Err(fault @ LogError::Journal { .. }) => Ok((log, Some(fault))),
            Err(error) => Err(error),
        }
    }

    /// Opens the store in a file, which is never changed, without looking at its contents.
    pub(super) fn open_overlaid(path: &Path, options: LogOptions) -> Result<Log, LogError> {
        let file = File::open(path).map_err(|source| LogError::File { path: path.to_owned(), source })?;
        let overlay =
            Overlay::new(file).map_err(|source| LogError::refused(path, Box::new(source.into())))?;
        let opened = Log::open_store(Arc::new(overlay), Arc::default(), options, Epoch(0));
        opened.map_err(|error| match error {
            LogError::Store { source, .. } => LogError::refused(path, source),
            other => other,
        })
    }

    /// Lets the store read every page in use and check its checksum, and compare the free pages with those in use;
    /// returns whether everything is correct. It repairs what it can, so use it only on a log that was opened untouched
    /// and has no readers.
    ///
    /// # Errors
    /// [`LogError::Damaged`] if a page is impossible and cannot be repaired; [`LogError::Store`] if it cannot be read.
    pub fn check_store(&mut self) -> Result<bool, LogError> {
        let op = "compare the log's pages with their checksums";
        let in_use = || LogError::store(op, redb::Error::TransactionInProgress);
        let db = self.hold.get_mut().ok_or_else(in_use)?;
        guarded(op, || Ok(db.check_integrity()?))
    }
}
