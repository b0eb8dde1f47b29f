//! Errors of the log.

use std::fmt;
use std::path::{Path, PathBuf};

use fieldlog_projections::Seq;
use fieldlog_projections::chunk::ChunkError;
use fieldlog_projections::rollup::RollupError;

use super::FORMAT_VERSION;

/// Why there is no log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// There is no file.
    Missing,
    /// The file has no bytes.
    Empty,
    /// The file has only zeros, or what an interrupted creation leaves.
    Blank,
    /// The store never had a record.
    NoRecords,
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Absence::Missing => "is missing",
            Absence::Empty => "is empty",
            Absence::Blank => "is blank: zeroed, or never finished",
            Absence::NoRecords => "has no records",
        })
    }
}

/// Errors of the log. All of them stop the agent; the broker still holds what was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The agent is stopping.
    #[error("the log has been closed: fieldlog is stopping")]
    Closed,
    /// The file or directory.
    #[error("cannot use {}: {source}; check that the directory exists and belongs to the user that runs fieldlog", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The path leads to another file, or to none: anything written is lost when this process ends.
    #[error(
        "the log {} was deleted, moved or replaced while fieldlog had it open; nothing more is acknowledged, so the \
         broker keeps new messages. Put the file back, then start fieldlog again; to give the log up, start it with \
         --new-epoch",
        path.display()
    )]
    Gone {
        /// Where it was.
        path: PathBuf,
    },
    /// There is no log, but there was one.
    #[error(
        "the log {} {absence}, but {traces}: its records are lost. Restore \
         log.redb from a backup. To continue without them, start once with `fieldlog run --new-epoch`: this begins a \
         new log, notes that in its first record, and keeps what is left of the old one as *.old-epoch",
        path.display()
    )]
    Lost {
        /// Where it should be.
        path: PathBuf,
        /// What was found instead.
        absence: Absence,
        /// What shows that there was a log.
        traces: String,
    },
    /// There is no log to read.
    #[error("there is nothing to read: the log {} {absence}; name the data_dir of an agent that has run", path.display())]
    Absent {
        /// Where it should be.
        path: PathBuf,
        /// What was found instead.
        absence: Absence,
    },
    /// A log exists, so a new one cannot begin.
    #[error(
        "--new-epoch is refused: the log {} exists and ends at sequence {head}. To continue it, start without \
         --new-epoch; to give it up, move it away first",
        path.display()
    )]
    NotLost {
        /// Where it is.
        path: PathBuf,
        /// Its last record.
        head: Seq,
    },
    /// Another process has it open.
    #[error("the log {} is in use by another process; stop the fieldlog that runs there, or give this one its own data_dir", path.display())]
    InUse {
        /// Which file.
        path: PathBuf,
    },
    /// The store refuses the file.
    #[error(
        "cannot open the log {}: {source}; if it is damaged, restore it from a backup (`fieldlog restore`), or save what is \
         intact in a new epoch with `fieldlog repair`; if nothing is, move it away and start with --new-epoch",
        path.display()
    )]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
    /// An operation on the store failed.
    #[error(
        "cannot {op}: {source}; the broker keeps every unacknowledged message. Check the disk and its free space, then \
         start fieldlog again"
    )]
    Store {
        /// The operation.
        op: &'static str,
        /// Why it failed.
        source: Box<redb::Error>,
    },
    /// There is something where a new log is to be.
    #[error("the directory {} is not empty; name one that is empty or does not exist yet", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// It is a backup.
    #[error(
        "the log (log.redb in the data directory) is a backup, and is not continued: receivers may have other events at the \
         positions after it. Make a data directory of it with `fieldlog restore`, which begins a new epoch"
    )]
    Backup,
    /// The store holds another format.
    #[error(
        "the log has format {found}, but this version of fieldlog reads formats 1 and {FORMAT_VERSION}; install the version \
         that wrote the log, or a later one"
    )]
    Format {
        /// The version found.
        found: u64,
    },
    /// The store holds no log.
    #[error(
        "the file is a redb store, but not a fieldlog log; move it out of the way or choose another data_dir"
    )]
    NoFormat,
    /// The store found an impossible page.
    #[error(
        "the log (log.redb in the data directory) is damaged: cannot {op}: {why}. Run `fieldlog verify` to see how \
         much of it is intact, then restore it from a backup (`fieldlog restore`), or save what is intact in a new epoch \
         with `fieldlog repair`"
    )]
    Damaged {
        /// The operation.
        op: &'static str,
        /// The damage.
        why: String,
    },
    /// The journal is damaged, or missing.
    #[error(
        "the journal (the file \"journal\" beside log.redb) is damaged: {why}. It holds the newest records, which the log \
         may not have. Run `fieldlog verify` to see what is intact, then restore a backup with `fieldlog restore`, or \
         save what is intact in a new epoch with `fieldlog repair`"
    )]
    Journal {
        /// The damage.
        why: String,
    },
    /// It differs from what it was when it was closed.
    #[error(
        "the log (log.redb in the data directory) is damaged: it has changed since it was closed: {what}. Run \
         `fieldlog verify` to see what is intact, then restore it from a backup (`fieldlog restore`), or save what is \
         intact in a new epoch with `fieldlog repair`"
    )]
    Changed {
        /// The difference.
        what: String,
    },
    /// Records are missing in the middle.
    #[error(
        "the log (log.redb in the data directory) is damaged: records before sequence {before} are missing. Run `fieldlog \
         verify`, then restore it from a backup (`fieldlog restore`), or save what is intact in a new epoch with `fieldlog \
         repair`"
    )]
    Missing {
        /// The first record after them.
        before: Seq,
    },
    /// A stored cursor is damaged.
    #[error(
        "the cursor of the sink \"{name}\" in the log is damaged, so fieldlog does not know what the sink has \
         acknowledged and sends it everything in the log again, with the same identity. There may be more damage: stop \
         fieldlog and run `fieldlog verify`"
    )]
    Cursor {
        /// The sink.
        name: String,
    },
    /// A row of the archive is damaged.
    #[error(
        "the archive in the log is damaged at the row of sequence {at}: {source}; restore it from a backup (`fieldlog restore`), \
         save what is intact in a new epoch with `fieldlog repair`, or set retention.thin_to_s = 0 to go on without adding to \
         the archive"
    )]
    Rollup {
        /// First record of the row's period.
        at: Seq,
        /// The fault.
        source: RollupError,
    },
    /// A chunk is damaged.
    #[error(
        "the log is damaged at sequence {at}: {source}; restore it from a backup (`fieldlog restore`), or save what is intact in a new \
         epoch with `fieldlog repair`"
    )]
    Chunk {
        /// First position of the chunk.
        at: Seq,
        /// The fault.
        source: ChunkError,
    },
}

impl LogError {
    /// Whether the cause is in the file, so that the next start will fail too.
    pub fn is_lasting(&self) -> bool {
        match self {
            LogError::Format { .. }
            | LogError::Backup
            | LogError::NoFormat
            | LogError::Lost { .. }
            | LogError::NotLost { .. }
            | LogError::Damaged { .. }
            | LogError::Journal { .. }
            | LogError::Changed { .. }
            | LogError::Missing { .. }
            | LogError::Cursor { .. }
            | LogError::Chunk { .. }
            | LogError::Rollup { .. } => true,
            LogError::Absent { absence, .. } => *absence != Absence::Missing,
            // The store cannot use the file: damaged, of another version, or not a store.
            LogError::Open { source, .. } | LogError::Store { source, .. } => LogError::is_damage(source),
            _ => false,
        }
    }

    /// Whether the store reports damage in the file.
    fn is_damage(error: &redb::Error) -> bool {
        match error {
            redb::Error::Corrupted(_) | redb::Error::UpgradeRequired(_) => true,
            redb::Error::Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
            _ => false,
        }
    }

    /// The store did not open.
    pub(super) fn refused(path: &Path, source: Box<redb::Error>) -> LogError {
        match *source {
            redb::Error::DatabaseAlreadyOpen => LogError::InUse { path: path.to_owned() },
            _ => LogError::Open { path: path.to_owned(), source },
        }
    }

    pub(super) fn store(op: &'static str, error: impl Into<redb::Error>) -> LogError {
        use redb::Error;
        match error.into() {
            Error::TableDoesNotExist(name) => {
                LogError::Damaged { op, why: format!("the table \"{name}\" is missing") }
            }
            Error::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                LogError::Damaged { op, why: "the file ends before a page that is named in it".into() }
            }
            error @ (Error::Corrupted(_)
            | Error::LockPoisoned(_)
            | Error::TableTypeMismatch { .. }
            | Error::TypeDefinitionChanged { .. }
            | Error::TableIsMultimap(_)) => LogError::Damaged { op, why: error.to_string() },
            source => LogError::Store { op, source: Box::new(source) },
        }
    }
}

/// Ends an operation inside the store; [`super::guard::guarded`] adds the name of the operation.
#[derive(Debug)]
pub(super) enum Fault {
    /// The store.
    Store(Box<redb::Error>),
    /// An error that is already worded.
    Said(LogError),
}

impl Fault {
    /// The error for the caller of the operation.
    pub(super) fn during(self, op: &'static str) -> LogError {
        match self {
            Fault::Store(error) => LogError::store(op, *error),
            Fault::Said(error) => error,
        }
    }
}

/// Names a part of an operation.
pub(super) fn during<T>(op: &'static str, result: Result<T, Fault>) -> Result<T, LogError> {
    result.map_err(|fault| fault.during(op))
}

impl From<LogError> for Fault {
    fn from(error: LogError) -> Fault {
        Fault::Said(error)
    }
}

macro_rules! of_the_store {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for Fault {
            fn from(error: redb::$error) -> Fault {
                Fault::Store(Box::new(error.into()))
            }
        })*
    };
}

of_the_store!(CommitError, DatabaseError, StorageError, TableError, TransactionError);
