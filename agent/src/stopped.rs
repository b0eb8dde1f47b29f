//! Reads the log of a stopped agent. Nothing in its data directory is changed: repairs after a crash are made in memory.

use std::path::{Path, PathBuf};

use fieldlog_projections::fold::FoldId;
use fieldlog_projections::view::ValuesOf;
use fieldlog_projections::{Aggregates, Epoch, Seq, Time, View};

use crate::log::{Log, LogError, LogOptions, LogReader};
use crate::lost;
use crate::recovery::RecoveryError;
use crate::recovery::past::{self, PastState, Wanted};
use crate::snapshots::SnapshotStore;

/// How the subcommands that read or make a log open it.
pub const OPTIONS: LogOptions =
    LogOptions { cache_bytes: 8 << 20, quick_repair: false, quarantine_records_max: u64::MAX };

/// Bytes of records, or of payloads, in a commit to a log that takes over another one, at least.
pub(crate) const COMMIT_BYTES: usize = 1 << 20;

/// The log of a stopped agent, open for reading. While it is open, no agent can open it.
#[derive(Debug)]
pub struct Stopped {
    log: Log,
    data_dir: PathBuf,
}

impl Stopped {
    /// Opens the log in a data directory, with its journal.
    ///
    /// # Errors
    /// As [`lost::open_untouched`].
    pub fn open(data_dir: &Path) -> Result<Stopped, LogError> {
        Ok(Stopped { log: lost::open_untouched(data_dir, OPTIONS)?, data_dir: data_dir.to_owned() })
    }

    /// The same, also with a damaged or missing journal: then the log is as its file alone has it, beside the fault.
    ///
    /// # Errors
    /// As [`lost::inspect`].
    pub fn inspect(data_dir: &Path) -> Result<(Stopped, Option<LogError>), LogError> {
        let (log, fault) = lost::inspect(data_dir, OPTIONS)?;
        Ok((Stopped { log, data_dir: data_dir.to_owned() }, fault))
    }

    /// The log. Nothing that is written to it reaches the disk.
    pub fn log(&mut self) -> &mut Log {
        &mut self.log
    }

    /// A handle for reading it.
    pub fn reader(&self) -> LogReader {
        self.log.reader()
    }

    /// Its incarnation.
    pub fn epoch(&self) -> Epoch {
        self.log.epoch()
    }

    /// The position of its last record; 0 if it has none.
    pub fn head(&self) -> Seq {
        self.log.head()
    }

    /// The state after the record at `until`, without aggregates.
    ///
    /// # Errors
    /// [`RecoveryError`]
    pub fn view(&self, until: Seq) -> Result<View, RecoveryError> {
        Ok(self.state_at(&SnapshotStore::of(&self.data_dir), until)?.view)
    }

    /// The same, folded from the first record if the log begins at 1, whatever snapshots there are.
    ///
    /// # Errors
    /// [`RecoveryError`]
    pub fn folded(&self, until: Seq) -> Result<PastState, RecoveryError> {
        let whole = self.reader().range()?.is_some_and(|(first, _)| first == Seq(1));
        let store = if whole { SnapshotStore::none() } else { SnapshotStore::of(&self.data_dir) };
        self.state_at(&store, until)
    }

    fn state_at(&self, store: &SnapshotStore, until: Seq) -> Result<PastState, RecoveryError> {
        let folds: Vec<FoldId> = View::FOLDS.iter().copied().filter(|fold| *fold != Aggregates::ID).collect();
        let wanted = Wanted { folds: &folds, values: ValuesOf::All };
        past::state_at(store, &self.reader(), self.epoch(), until, wanted, &|| false)
    }

    /// The last record at or before `time`. Records from a clock that was ahead count as no later than its correction.
    ///
    /// # Errors
    /// [`LogError`] if the log cannot be read.
    pub fn position_at(&self, time: Time) -> Result<Seq, LogError> {
        let found = self.reader().last_at(time, self.head(), &|| false)?;
        // Nothing gives up.
        Ok(found.unwrap_or_default())
    }
}
