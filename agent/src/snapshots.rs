//! Snapshot files, which can be deleted at any time while their records exist.

use std::fs::{self, File};
use std::io::{self, BufWriter, IntoInnerError};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use fieldlog_projections::snapshot::{self, Header, ReadError, SnapshotError};
use fieldlog_projections::{Epoch, Seq, View, Window};

pub mod past;

/// Directory of the snapshots in the data directory.
pub const DIR_NAME: &str = "snapshots";
const EXTENSION: &str = "snap";
const EXTENSION_UNFINISHED: &str = "tmp";
const EXTENSION_AHEAD: &str = "ahead";
const EXTENSION_OLD: &str = "old-epoch";
/// Buffer for writing a snapshot.
const BUFFER_BYTES: usize = 64 * 1024;

/// The snapshot directory.
#[derive(Clone, Debug)]
pub struct SnapshotStore {
    dir: PathBuf,
    /// Nothing in it may be changed.
    untouched: bool,
}

/// A snapshot file with its header, or why it is unusable.
#[derive(Debug)]
pub struct Candidate {
    /// The file.
    pub path: PathBuf,
    /// Its header, or the fault.
    pub header: Result<Header, SnapshotFault>,
}

impl Candidate {
    /// Its position; 0 if it is not known.
    fn seq(&self) -> Seq {
        self.header.as_ref().map(|header| header.seq).unwrap_or_default()
    }
}

/// The snapshots that prove that a log existed, including those that were set aside, newest position first; none if the
/// directory is missing. Changes nothing.
///
/// # Errors
/// Of the file system, for the directory itself.
pub fn traces(dir: &Path) -> io::Result<Vec<Candidate>> {
    absent_is_empty(list(dir, &[EXTENSION, EXTENSION_AHEAD]))
}

fn absent_is_empty<T>(found: io::Result<Vec<T>>) -> io::Result<Vec<T>> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        found => found,
    }
}

/// Renames the snapshots of a log that was given up.
///
/// # Errors
/// Of the file system.
pub fn keep_as_old(dir: &Path, snapshots: &[Candidate]) -> io::Result<()> {
    for Candidate { path, .. } in snapshots {
        let mut name = path.clone().into_os_string();
        name.push(format!(".{EXTENSION_OLD}"));
        fs::rename(path, name)?;
    }
    if snapshots.is_empty() { Ok(()) } else { File::open(dir)?.sync_all() }
}

fn list(dir: &Path, extensions: &[&str]) -> io::Result<Vec<Candidate>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| extensions.iter().any(|wanted| e == *wanted)) {
            let header = read_header(&path);
            let candidate = Candidate { path, header };
            // There are few, and the newest is to be first.
            let place = found.partition_point(|other: &Candidate| other.seq() >= candidate.seq());
            found.insert(place, candidate);
        }
    }
    Ok(found)
}

impl Candidate {
    /// Whether it was set aside because it was ahead of the log, which was then recorded.
    pub fn is_aside(&self) -> bool {
        self.path.extension().is_some_and(|e| e == EXTENSION_AHEAD)
    }
}

impl SnapshotStore {
    /// The snapshots of a data directory, which is created if necessary.
    ///
    /// # Errors
    /// Of the file system.
    pub fn open(data_dir: &Path) -> io::Result<SnapshotStore> {
        let dir = data_dir.join(DIR_NAME);
        fs::create_dir_all(&dir)?;
        Ok(SnapshotStore { dir, untouched: false })
    }

    /// The snapshots of a data directory, to be read and left as they are; the directory may be missing.
    pub fn of(data_dir: &Path) -> SnapshotStore {
        SnapshotStore { dir: data_dir.join(DIR_NAME), untouched: true }
    }

    /// None: a state is folded from the first record.
    pub fn none() -> SnapshotStore {
        SnapshotStore { dir: PathBuf::new(), untouched: true }
    }

    /// Whether nothing in it may be changed.
    pub fn is_untouched(&self) -> bool {
        self.untouched
    }

    /// Where they are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All snapshot files, newest position first; those without a readable header last.
    ///
    /// # Errors
    /// Of the file system, for the directory itself.
    pub fn candidates(&self) -> io::Result<Vec<Candidate>> {
        absent_is_empty(list(&self.dir, &[EXTENSION]))
    }

    /// Reads a snapshot.
    ///
    /// # Errors
    /// [`SnapshotFault`]
    pub fn load(&self, path: &Path, windows: &[Window]) -> Result<View, SnapshotFault> {
        Ok(snapshot::read(File::open(path)?, windows)?)
    }

    /// Renames a snapshot that is ahead of the log. The log will reach its position again with other records, and would
    /// then seem to continue it.
    ///
    /// # Errors
    /// Of the file system.
    pub fn set_aside(&self, path: &Path) -> io::Result<PathBuf> {
        let aside = path.with_extension(EXTENSION_AHEAD);
        fs::rename(path, &aside)?;
        File::open(&self.dir)?.sync_all()?;
        Ok(aside)
    }

    /// Writes a snapshot atomically, then deletes the oldest of its epoch beyond `keep`. The content is streamed.
    /// Returns the path, and the size in bytes.
    ///
    /// # Errors
    /// Of the file system.
    pub fn save(&self, view: &View, epoch: Epoch, keep: usize) -> io::Result<(PathBuf, u64)> {
        let path = self.path(epoch, view.seq, EXTENSION);
        let size = write_as(&path, |out| snapshot::write(view, epoch, out))?;
        File::open(&self.dir)?.sync_all()?;
        self.prune(epoch, keep)?;
        self.sweep()?;
        Ok((path, size))
    }

    fn path(&self, epoch: Epoch, seq: Seq, extension: &str) -> PathBuf {
        self.dir.join(format!("{epoch}-{:020}.{extension}", seq.0))
    }

    /// Copies a snapshot as it is.
    ///
    /// # Errors
    /// Of the file system.
    pub fn adopt(&self, from: &Path) -> io::Result<()> {
        let path = self.dir.join(from.file_name().unwrap_or_default());
        fs::copy(from, &path)?;
        File::open(&path)?.sync_all()
    }

    /// Copies a snapshot of another epoch as one of `epoch`, whose records are the same up to there.
    ///
    /// # Errors
    /// [`SnapshotFault`] if it cannot be read or written.
    pub fn take_over(&self, from: &Path, epoch: Epoch) -> Result<(), SnapshotFault> {
        let header = read_header(from)?;
        let path = self.path(epoch, header.seq, EXTENSION);
        fs::copy(from, &path)?;
        let file = fs::OpenOptions::new().write(true).open(&path)?;
        file.write_all_at(&snapshot::header_of_epoch(header, epoch), 0)?;
        file.sync_all()?;
        Ok(File::open(&self.dir)?.sync_all()?)
    }

    /// Deletes unfinished snapshots left by a crash; only one is written at a time.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == EXTENSION_UNFINISHED) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Snapshots of another epoch, or without a readable header, may be all that is left of a log that somebody still
    /// looks for. They stay until an operator deletes them.
    fn prune(&self, epoch: Epoch, keep: usize) -> io::Result<()> {
        let candidates = self.candidates()?.into_iter();
        let current =
            candidates.filter(|candidate| candidate.header.as_ref().is_ok_and(|h| h.epoch == epoch));
        for candidate in current.skip(keep) {
            fs::remove_file(&candidate.path)?;
        }
        Ok(())
    }
}

fn read_header(path: &Path) -> Result<Header, SnapshotFault> {
    use std::io::Read;
    let mut head = Vec::with_capacity(snapshot::HEADER_BYTES);
    File::open(path)?.take(snapshot::HEADER_BYTES as u64).read_to_end(&mut head)?;
    Ok(snapshot::header(&head)?)
}

/// Why a snapshot file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFault {
    /// The file system.
    #[error(transparent)]
    File(#[from] io::Error),
    /// The content.
    #[error(transparent)]
    Content(#[from] SnapshotError),
}

impl From<ReadError> for SnapshotFault {
    fn from(error: ReadError) -> SnapshotFault {
        match error {
            ReadError::File(error) => SnapshotFault::File(error),
            ReadError::Content(error) => SnapshotFault::Content(error),
        }
    }
}

/// Writes a file, synced, and gives it its name once it is whole; returns its size.
fn write_as(path: &Path, content: impl FnOnce(&mut BufWriter<File>) -> io::Result<u64>) -> io::Result<u64> {
    let tmp = path.with_extension(EXTENSION_UNFINISHED);
    let write = || {
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, File::create(&tmp)?);
        let size = content(&mut out)?;
        out.into_inner().map_err(IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&tmp, path)?;
        Ok(size)
    };
    let written = write();
    if written.is_err() {
        // On a full disk, the partial file would use the remaining space.
        let _ = fs::remove_file(&tmp);
    }
    written
}
