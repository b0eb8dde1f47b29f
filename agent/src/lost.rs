//! Prevents a lost log from being replaced by an empty one.
//!
//! A file without content may be a log whose creation never finished, or one that was emptied by a failing medium or by
//! hand. What is beside it tells: no snapshot is written before the log has records, and no journal before the log exists.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::{Epoch, Fact, Seq, Time};

use crate::log::{Absence, FILE_NAME, JOURNAL_FILE_NAME, Log, LogError, LogOptions};
use crate::snapshots;

/// New name of an empty log that is replaced.
const OLD_FILE_NAME: &str = "log.redb.old-epoch";
/// New name of the journal of a lost log.
const OLD_JOURNAL_FILE_NAME: &str = "journal.old-epoch";

/// A new epoch, at random.
///
/// # Errors
/// If the operating system gives no random numbers.
pub fn new_epoch() -> Result<Epoch, getrandom::Error> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)?;
    Ok(Epoch(u64::from_le_bytes(bytes)))
}

/// Opens the log in a data directory, or creates it with a new epoch if there never was one.
///
/// # Errors
/// [`LogError::Lost`] if it is missing or has no records, but snapshots exist; otherwise as [`Log::open`].
pub fn open(data_dir: &Path, options: LogOptions, new_epoch: Epoch) -> Result<Log, LogError> {
    if let Some(absence) = Log::absence(data_dir)? {
        refuse(data_dir, absence)?;
    }
    let log = Log::open(data_dir, options, new_epoch)?;
    if log.head() == Seq(0) {
        refuse(data_dir, Absence::NoRecords)?;
    }
    Ok(log)
}

/// Opens the log in a data directory without changing anything there.
///
/// # Errors
/// [`LogError::Lost`] as for [`open`]; otherwise as [`Log::open_untouched`].
pub fn open_untouched(data_dir: &Path, options: LogOptions) -> Result<Log, LogError> {
    match inspect(data_dir, options)? {
        (log, None) => Ok(log),
        (_, Some(fault)) => Err(fault),
    }
}

/// The same, also with a damaged or missing journal: then the log is as redb alone has it, beside the fault.
///
/// # Errors
/// As [`open_untouched`].
pub fn inspect(data_dir: &Path, options: LogOptions) -> Result<(Log, Option<LogError>), LogError> {
    let inspected = match Log::inspect(data_dir, options) {
        Err(LogError::Absent { absence, path }) => {
            refuse(data_dir, absence)?;
            return Err(LogError::Absent { absence, path });
        }
        other => other?,
    };
    if inspected.0.head() == Seq(0) {
        refuse(data_dir, Absence::NoRecords)?;
    }
    Ok(inspected)
}

fn refuse(data_dir: &Path, absence: Absence) -> Result<(), LogError> {
    let dir = data_dir.join(snapshots::DIR_NAME);
    let traces = match traces(&dir)?.len() {
        // A journal is created after its log.
        0 if absence != Absence::NoRecords && data_dir.join(JOURNAL_FILE_NAME).exists() => {
            "the journal of an earlier log is beside it".into()
        }
        0 => return Ok(()),
        snapshots => format!("{snapshots} snapshots of an earlier log are in {}", dir.display()),
    };
    Err(LogError::Lost { path: data_dir.join(FILE_NAME), absence, traces })
}

fn traces(dir: &Path) -> Result<Vec<snapshots::Candidate>, LogError> {
    snapshots::traces(dir).map_err(|source| LogError::File { path: dir.to_owned(), source })
}

/// The result of beginning a new log in place of a lost one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Epoch of the new log.
    pub epoch: Epoch,
    /// Epoch of the lost log, if a snapshot has it.
    pub previous: Option<Epoch>,
    /// What was found in its place.
    pub absence: Absence,
    /// Number of snapshots that were renamed to `*.old-epoch`.
    pub snapshots: usize,
}

/// Begins a new log in place of a lost one, with a record of it and one of `actor`, who does it, and renames the snapshots
/// of the old one. If this is interrupted before the records are stored, the log still counts as lost.
///
/// # Errors
/// [`LogError::NotLost`] if a log has records; otherwise as [`Log::open`].
pub fn begin_anew(
    data_dir: &Path,
    options: LogOptions,
    epoch: Epoch,
    wall: Time,
    actor: &str,
) -> Result<Begun, LogError> {
    let dir = data_dir.join(snapshots::DIR_NAME);
    let old = traces(&dir)?;
    let previous = old.iter().find_map(|trace| Some(trace.header.as_ref().ok()?.epoch));
    let absence = clear(data_dir, options)?;
    keep_journal_as_old(data_dir)?;
    let mut log = Log::open(data_dir, options, epoch)?;
    let reason = format!("fieldlog run --new-epoch: the log {absence}");
    let mut body = RecordBuffer::after(log.last_time());
    let envelope = Envelope { wall, ..Envelope::default() };
    // The first record of a new log is the one that says so.
    body.push_fact(envelope, &Fact::EpochBegun { previous, reason });
    let administered = Fact::Administered {
        actor: actor.to_owned(),
        call: "new-epoch".into(),
        target: String::new(),
        reason: String::new(),
    };
    body.push_fact(envelope, &administered);
    log.append(&body, &[])?;
    log.close()?;
    snapshots::keep_as_old(&dir, &old).map_err(|source| LogError::File { path: dir, source })?;
    Ok(Begun { epoch, previous, absence, snapshots: old.len() })
}

/// The journal of the old log is no part of the new one.
fn keep_journal_as_old(data_dir: &Path) -> Result<(), LogError> {
    let path = data_dir.join(JOURNAL_FILE_NAME);
    match fs::rename(&path, data_dir.join(OLD_JOURNAL_FILE_NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(LogError::File { path, source: error }),
        _ => Ok(()),
    }
}

/// Makes sure that there is no log, and moves away what is in its place; returns what it was.
fn clear(data_dir: &Path, options: LogOptions) -> Result<Absence, LogError> {
    let path = data_dir.join(FILE_NAME);
    let failed = |source: io::Error| LogError::File { path: path.clone(), source };
    match Log::absence(data_dir)? {
        Some(Absence::Blank) => {
            Log::refuse_if_in_use(data_dir)?;
            // More zeros than an interrupted creation leaves; opening would refuse them.
            OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(0)).map_err(failed)?;
            Ok(Absence::Blank)
        }
        Some(absence) => Ok(absence),
        None => {
            match Log::open_untouched(data_dir, options) {
                Ok(log) if log.head() > Seq(0) => return Err(LogError::NotLost { path, head: log.head() }),
                Ok(_) | Err(LogError::Absent { .. }) => {}
                Err(error) => return Err(error),
            }
            // It has an epoch, perhaps that of the snapshots, and cursors of sinks that had more.
            fs::rename(&path, data_dir.join(OLD_FILE_NAME)).map_err(failed)?;
            Ok(Absence::NoRecords)
        }
    }
}
