//! Writes a consistent copy of a log into a directory of its own, while the agent goes on recording.
//!
//! The store is read as it was at one moment, in slices, and each slice is a commit of the copy. A file that is being
//! written is never copied.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use fieldlog_projections::chunk::RecordBuffer;
use fieldlog_projections::{Epoch, Seq};

use crate::log::{FILE_NAME, Log, LogError, LogReader, Rows, directory};
use crate::snapshots::{self, SnapshotStore};
use crate::stopped::{self, COMMIT_BYTES};

/// Where a copy is made, in the directory where it is to be.
const UNFINISHED: &str = "backup.unfinished";

/// A finished copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The epoch of the log.
    pub epoch: Epoch,
    /// First and last position; `None` if it is empty.
    pub range: Option<(Seq, Seq)>,
    /// Size of the file.
    pub bytes: u64,
}

/// Copies the log that `reader` shows, and the snapshots that it needs, into a directory that is missing or empty.
/// Returns `None` if `give_up`, which is called between chunks, returns `true`.
///
/// # Errors
/// [`LogError`]; nothing is left in the directory then.
pub fn copy(
    reader: &LogReader,
    epoch: Epoch,
    from: &SnapshotStore,
    to: &Path,
    give_up: &dyn Fn() -> bool,
) -> Result<Option<Copied>, LogError> {
    let unfinished = prepare(to, UNFINISHED)?;
    let copied = copy_into(reader, epoch, from, &unfinished, give_up);
    if let Ok(Some(_)) = copied {
        settle(&unfinished, to)?;
    } else {
        let _ = fs::remove_dir_all(&unfinished);
    }
    copied
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> LogError + '_ {
    move |source| LogError::File { path: path.to_owned(), source }
}

/// Makes a directory, which must be missing or empty.
///
/// # Errors
/// [`LogError::File`]; [`LogError::NotEmpty`]
pub fn make_empty(dir: &Path) -> Result<(), LogError> {
    directory::make_dir(dir).map_err(failed(dir))?;
    match fs::read_dir(dir).map_err(failed(dir))?.next() {
        Some(_) => Err(LogError::NotEmpty { path: dir.to_owned() }),
        None => Ok(()),
    }
}

/// Makes a directory, which must be missing or empty, and in it one for what is not finished.
///
/// # Errors
/// [`LogError::File`]; [`LogError::NotEmpty`]
pub fn prepare(dir: &Path, unfinished: &str) -> Result<PathBuf, LogError> {
    make_empty(dir)?;
    let unfinished = dir.join(unfinished);
    fs::create_dir(&unfinished).map_err(failed(&unfinished))?;
    Ok(unfinished)
}

/// Moves a finished log and its snapshots from the directory where they were made into a data directory. The log comes
/// last, and takes the place of the one that is there.
///
/// # Errors
/// [`LogError::File`]
pub fn settle(made: &Path, data_dir: &Path) -> Result<(), LogError> {
    let (from, into) = (made.join(snapshots::DIR_NAME), data_dir.join(snapshots::DIR_NAME));
    fs::create_dir_all(&into).map_err(failed(&into))?;
    for entry in fs::read_dir(&from).map_err(failed(&from))? {
        let entry = entry.map_err(failed(&from))?;
        fs::rename(entry.path(), into.join(entry.file_name())).map_err(failed(&into))?;
    }
    let synced = |dir: &Path| File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed(dir));
    synced(&into)?;
    let log = data_dir.join(FILE_NAME);
    fs::rename(made.join(FILE_NAME), &log).map_err(failed(&log))?;
    synced(data_dir)?;
    fs::remove_dir_all(made).map_err(failed(made))
}

fn copy_into(
    reader: &LogReader,
    epoch: Epoch,
    from: &SnapshotStore,
    to: &Path,
    give_up: &dyn Fn() -> bool,
) -> Result<Option<Copied>, LogError> {
    let range = reader.range()?;
    // Before the records: the agent deletes old snapshots, and the newest ones are needed.
    let snapshots = SnapshotStore::open(to).map_err(failed(to))?;
    copy_snapshots(from, epoch, range, &snapshots)?;
    let mut log = Log::open(to, stopped::OPTIONS, epoch)?;
    if let Some((first, head)) = range
        && !copy_records(reader, &mut log, first, head, give_up)?
    {
        return Ok(None);
    }
    each_rows(reader, true, &mut |rows| log.adopt(rows))?;
    log.adopt(&Rows { backup: true, ..Rows::default() })?;
    log.close()?;
    let bytes = fs::metadata(to.join(FILE_NAME)).map_err(failed(to))?.len();
    Ok(Some(Copied { epoch, range, bytes }))
}

/// Copies the snapshots from which the records of a range can be folded.
fn copy_snapshots(
    from: &SnapshotStore,
    epoch: Epoch,
    range: Option<(Seq, Seq)>,
    to: &SnapshotStore,
) -> Result<(), LogError> {
    let (first, head) = range.unwrap_or((Seq(1), Seq(0)));
    for candidate in from.candidates().map_err(failed(from.dir()))? {
        let Ok(header) = &candidate.header else { continue };
        if header.epoch != epoch || header.seq > head || header.seq.next() < first {
            continue;
        }
        // One that the agent has deleted meanwhile is not needed.
        let _ = to.adopt(&candidate.path);
    }
    Ok(())
}

/// Copies records; `false` if it was given up.
fn copy_records(
    reader: &LogReader,
    log: &mut Log,
    first: Seq,
    head: Seq,
    give_up: &dyn Fn() -> bool,
) -> Result<bool, LogError> {
    let mut body = RecordBuffer::default();
    let mut next = None;
    let stopped = reader.scan(first, |chunk| {
        if give_up() {
            return ControlFlow::Break(Ok(false));
        }
        if next.is_none() {
            let header = &chunk.header;
            log.begin_after(Seq(header.first.0 - 1), header.base_time, Some(header.place));
            body = RecordBuffer::after(header.base_time);
            next = Some(header.first);
        }
        for record in chunk.records() {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    return ControlFlow::Break(Err(LogError::Chunk {
                        at: chunk.header.first,
                        source: error.into(),
                    }));
                }
            };
            if record.seq <= head {
                body.push_record(&record);
            }
        }
        if body.bytes() >= COMMIT_BYTES {
            if let Err(error) = log.append(&body, &[]) {
                return ControlFlow::Break(Err(error));
            }
            body.clear();
        }
        match chunk.header.last() >= head {
            true => ControlFlow::Break(Ok(true)),
            false => ControlFlow::Continue(()),
        }
    })?;
    let whole = stopped.unwrap_or(Ok(true))?;
    log.append(&body, &[])?;
    Ok(whole)
}

/// Passes the rows of the other tables to `put`, a bounded number at a time.
///
/// # Errors
/// [`LogError`] of reading them, or of `put`.
pub fn each_rows(
    reader: &LogReader,
    with_cursors: bool,
    put: &mut dyn FnMut(&Rows) -> Result<(), LogError>,
) -> Result<(), LogError> {
    let cursors = if with_cursors { reader.cursors()? } else { Vec::new() };
    let (corrections, doubted) = (reader.clock_corrections()?, Some(reader.clock_doubted()?));
    put(&Rows { cursors, corrections, doubted: doubted.filter(|micros| *micros > 0), ..Rows::default() })?;
    let (mut rows, mut bytes) = (Rows::default(), 0);
    for seq in reader.quarantine(usize::MAX)?.into_iter().rev() {
        let Some(payload) = reader.quarantined(seq)? else { continue };
        bytes += payload.len();
        rows.quarantine.push((seq, payload));
        if bytes >= COMMIT_BYTES {
            put(&std::mem::take(&mut rows))?;
            bytes = 0;
        }
    }
    put(&rows)?;
    let mut last = None;
    loop {
        let rollups = reader.rollup_rows(last.as_ref())?;
        let Some(newest) = rollups.last() else { return Ok(()) };
        last = Some(newest.clone());
        put(&Rows { rollups, ..Rows::default() })?;
    }
}
