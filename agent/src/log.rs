#![doc = include_str!("../../FORMAT.md")]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use fieldlog_projections::archive::ArchiveError;
use fieldlog_projections::chunk::{self, Body, Chunk, ChunkError, Cut, Fill, Place};
use fieldlog_projections::{Epoch, Link, Seq, Time};
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

mod absent;
pub mod acked;
mod archive;
mod clock;
mod cursors;
mod damage;
mod disk;
mod extent;
mod guard;
mod overlay;
mod place;
mod quarantine;
mod sums;
mod unborn;

use guard::{Hold, Seal, Sealed, guarded, outside};

pub use absent::Absence;
pub use archive::{ArchiveEnd, ArchiveSize, Archived, ROW_BYTES_MAX};
pub use disk::{DiskStats, MeteredDisk};

const CHUNKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("chunks");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const CURSORS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("cursors");
const QUARANTINE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("quarantine");

/// Version of the tables and keys that this program writes.
pub const FORMAT_VERSION: u64 = 1;
/// Name of the log in the data directory.
pub const FILE_NAME: &str = "log.redb";

/// What fills one page, and four, of the store beside its own 16 bytes.
const FILL: Fill = Fill { large: 4 * 4096 - 16, small: 4096 - 16 };
/// Chunks read under one read transaction; a longer one would pin freed pages and make the file grow.
const CHUNKS_PER_READ: usize = 256;
/// Chunks deleted by one commit.
const CHUNKS_PER_TRIM: usize = 64;
/// How often, and how long, closing waits for a read that is under way; then the store closes behind the last of them.
const CLOSE_TRIES: u32 = 100;
const CLOSE_WAIT: Duration = Duration::from_millis(20);

/// How to open a log.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// Page cache, in bytes.
    pub cache_bytes: usize,
    /// Write the allocator state with every commit: no scan of the file after a crash, more bytes per commit.
    pub quick_repair: bool,
    /// Undecodable payloads kept; the oldest give way.
    pub quarantine_records_max: u64,
}

/// The log, open for appending. There is one, and one thread has it: positions are assigned in its commits.
#[derive(Debug)]
pub struct Log {
    hold: Hold,
    /// Closed when there is damage: then nothing is written any more.
    seal: Seal,
    options: LogOptions,
    epoch: Epoch,
    next: Seq,
    /// The records of the last chunk while it does not fill a page. Every commit rewrites that page anyway, so keeping
    /// the chunk open costs no flash and makes the log of a quiet gateway as dense as that of a busy one.
    open: Body,
    /// Where the open records stand.
    place: Place,
    /// The chain after the last record.
    link: Link,
    ratio: u32,
    disk: Arc<DiskStats>,
    corrections: clock::Corrections,
    /// From here on the payloads in the quarantine have checksums.
    checked_from: Seq,
    /// It is as it was when it was closed, and has a record of that.
    as_closed: bool,
    /// Nothing has been committed since it was opened.
    unchanged: bool,
    /// It is of a version that did not write checksums, and gains them with the next commit.
    gains: bool,
    /// A commit has failed, and may be there all the same.
    failed: bool,
    /// Where the file is; `None` for a disk of a test.
    file: Option<place::FilePlace>,
}

/// The log, open for reading; cheap to clone.
#[derive(Clone, Debug)]
pub struct LogReader {
    /// Weak, so that the writer can close the store while readers still hold on to it: only a closed store opens again
    /// without being read through.
    db: Weak<Database>,
    /// Made while no reader is there: the agent must be stopped for it.
    corrections: clock::Corrections,
    checked_from: Seq,
}

/// What a commit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Position of the first record of the commit.
    pub first: Seq,
    /// Position of its last record; before `first` if it had none.
    pub last: Seq,
    /// The records that were trimmed, first and last.
    pub trimmed: Option<(Seq, Seq)>,
}

/// What one commit does. All of it or nothing.
#[derive(Clone, Copy, Debug)]
pub struct Commit<'a> {
    /// Records to append.
    pub body: &'a Body,
    /// Payloads for the quarantine, by the index of their record in `body`.
    pub quarantine: &'a [(usize, Vec<u8>)],
    /// Cursors to store, by name.
    pub cursors: &'a [(String, Vec<u8>)],
    /// Trim records before this position: a bounded slice of them, so that the commit stays short.
    pub trim_before: Option<Seq>,
    /// Periods for the archive.
    pub archive: &'a [Archived],
    /// Delete what the archive has before this position.
    pub trim_archive_before: Option<Seq>,
    /// The first record sets log time back to this.
    pub corrected: Option<Time>,
    /// By how many microseconds the wall clock has jumped forward without being believed, if that has changed.
    pub doubted: Option<u64>,
}

impl<'a> Commit<'a> {
    /// A commit of records alone.
    pub fn of(body: &'a Body) -> Commit<'a> {
        Commit {
            body,
            quarantine: &[],
            cursors: &[],
            trim_before: None,
            archive: &[],
            trim_archive_before: None,
            corrected: None,
            doubted: None,
        }
    }

    fn is_empty(&self) -> bool {
        self.body.is_empty()
            && self.cursors.is_empty()
            && self.trim_before.is_none()
            && self.archive.is_empty()
            && self.trim_archive_before.is_none()
    }
}

impl Log {
    /// Opens the log in a data directory, or creates it with a new epoch.
    ///
    /// # Errors
    /// [`LogError`]; nothing is created or repaired in place of a log that cannot be read.
    pub fn open(data_dir: &Path, options: LogOptions, new_epoch: Epoch) -> Result<Log, LogError> {
        let path = data_dir.join(FILE_NAME);
        let created = !path.exists();
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|source| LogError::File { path: path.clone(), source })?;
        // After a failed fsync the page cache can hold what the disk does not, and pass for it until the next power cut:
        // what is read from here on must come from the disk. Advice may be refused; then it is as it was.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        let place = place::FilePlace::of(&path, &file)
            .map_err(|source| LogError::File { path: path.clone(), source })?;
        let backend = redb::backends::FileBackend::new(file)
            .map_err(|source| LogError::refused(&path, Box::new(source.into())))?;
        let disk = Arc::new(DiskStats::default());
        let mut log = Log::open_on(MeteredDisk::new(backend, disk.clone()), disk, options, new_epoch)
            .map_err(|error| match error {
                LogError::Store { source, .. } => LogError::refused(&path, source),
                other => other,
            })?;
        log.file = Some(place);
        if created {
            // redb syncs the file, not the directory entry that leads to it.
            std::fs::File::open(data_dir)
                .and_then(|dir| dir.sync_all())
                .map_err(|source| LogError::File { path: data_dir.to_owned(), source })?;
        }
        Ok(log)
    }

    /// Opens the log on any disk; the tests have one that fails.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open_on(
        backend: impl StorageBackend,
        disk: Arc<DiskStats>,
        options: LogOptions,
        new_epoch: Epoch,
    ) -> Result<Log, LogError> {
        guard::silence();
        unborn::discard(&backend).map_err(|e| LogError::store("read the log", redb::Error::Io(e)))?;
        let backend = Arc::new(backend);
        let mut log = Log::open_store(backend.clone(), disk, options, new_epoch)?;
        let begun = guarded("read the log's head", || match log.load()? {
            true => Ok(()),
            false
                if unborn::has_chunks(&*backend)
                    .map_err(|e| LogError::store("read the log", redb::Error::Io(e)))? =>
            {
                Err(sums::damaged("it lists no tables, but there are records in it"))
            }
            false => log.create(),
        });
        match begun {
            Ok(()) => Ok(log),
            // It is someone else's, and left as it was.
            Err(error @ (LogError::NoFormat | LogError::Format { .. })) => Err(error),
            Err(error) => {
                log.seal.close();
                Err(error)
            }
        }
    }

    /// Opens the store and looks at nothing in it.
    fn open_store(
        backend: Arc<impl StorageBackend>,
        disk: Arc<DiskStats>,
        options: LogOptions,
        new_epoch: Epoch,
    ) -> Result<Log, LogError> {
        let seal = Seal::default();
        let sealed = Sealed { disk: backend, seal: seal.clone() };
        let db = guarded("open the log", || {
            let mut builder = redb::Builder::new();
            let opened = builder.set_cache_size(options.cache_bytes).create_with_backend(sealed);
            opened.map_err(|e| LogError::store("open the log", e))
        })?;
        Ok(Log {
            hold: Hold::on(db),
            seal,
            options,
            epoch: new_epoch,
            next: Seq(1),
            open: Body::default(),
            place: Place::default(),
            link: Link::default(),
            ratio: 1024,
            disk,
            corrections: Arc::default(),
            checked_from: Seq(1),
            as_closed: false,
            unchanged: true,
            gains: false,
            failed: false,
            file: None,
        })
    }

    /// Reads epoch and head; `false` if there is no log yet.
    fn load(&mut self) -> Result<bool, LogError> {
        let op = "read the log's head";
        let txn = self.hold.get()?.begin_read().map_err(|e| LogError::store(op, e))?;
        let meta = match txn.open_table(META) {
            Ok(meta) => meta,
            Err(redb::TableError::TableDoesNotExist(_)) => {
                // Ours are made in one commit. A store with others only is someone else's.
                let tables = txn.list_tables().map_err(|e| LogError::store(op, e))?.count();
                return if tables == 0 { Ok(false) } else { Err(no_format(&txn)) };
            }
            Err(redb::TableError::TableTypeMismatch { .. } | redb::TableError::TableIsMultimap(_)) => {
                return Err(no_format(&txn));
            }
            Err(e) => return Err(LogError::store(op, e)),
        };
        let get = |key| meta.get(key).map(|v| v.map(|v| v.value())).map_err(|e| LogError::store(op, e));
        match get("format")? {
            Some(FORMAT_VERSION) => {}
            Some(found) => return Err(LogError::Format { found }),
            None => return Err(no_format(&txn)),
        }
        self.epoch = Epoch(get("epoch")?.ok_or_else(|| no_format(&txn))?);
        self.link = Link::origin(self.epoch);
        self.place = Place { stored_before: 0, link: self.link };
        self.corrections = clock::corrections(&txn)?;
        self.load_end(&txn)?;
        self.check(&txn)?;
        Ok(true)
    }

    /// Reads the last chunk.
    fn load_end(&mut self, txn: &redb::ReadTransaction) -> Result<(), LogError> {
        let op = "read the log's head";
        let chunks = txn.open_table(CHUNKS).map_err(|e| LogError::store(op, e))?;
        let Some((key, value)) = chunks.last().map_err(|e| LogError::store(op, e))? else {
            return Ok(());
        };
        let (key, bytes) = (Seq(key.value()), value.value());
        let mut scratch = Vec::new();
        let damaged = |source| LogError::Chunk { at: key, source };
        let last = Chunk::parse(bytes, &mut scratch).map_err(damaged)?;
        in_place(key, &last.header)?;
        self.open = Body::after(last.header.base_time);
        self.open.join(&last).map_err(damaged)?;
        self.next = last.header.last().next();
        self.place = last.header.place;
        self.link = self.place.link;
        for record in last.records() {
            self.link = self.link.after(record.map_err(|source| damaged(source.into()))?.raw);
        }
        if bytes.len() > FILL.small * 7 / 8 {
            self.open.clear();
            self.place =
                Place { stored_before: self.place.stored_before + bytes.len() as u64, link: self.link };
        }
        Ok(())
    }

    fn create(&mut self) -> Result<(), LogError> {
        let op = "create the log";
        let txn = self.hold.get()?.begin_write().map_err(|e| LogError::store(op, e))?;
        {
            let mut meta = txn.open_table(META).map_err(|e| LogError::store(op, e))?;
            meta.insert("format", FORMAT_VERSION).map_err(|e| LogError::store(op, e))?;
            meta.insert("epoch", self.epoch.0).map_err(|e| LogError::store(op, e))?;
            txn.open_table(CHUNKS).map_err(|e| LogError::store(op, e))?;
            txn.open_table(QUARANTINE).map_err(|e| LogError::store(op, e))?;
        }
        self.gains = true;
        self.go_on(&txn)?;
        txn.commit().map_err(|e| LogError::store(op, e))?;
        self.gains = false;
        self.link = Link::origin(self.epoch);
        self.place = Place { stored_before: 0, link: self.link };
        Ok(())
    }

    /// The log's incarnation.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Position of the last record; 0 in an empty log.
    pub fn head(&self) -> Seq {
        Seq(self.next.0 - 1)
    }

    /// Log time of the last record; the next record is not earlier.
    pub fn last_time(&self) -> Time {
        self.open.last_time()
    }

    /// A handle for reading.
    pub fn reader(&self) -> LogReader {
        LogReader {
            db: self.hold.weak(),
            corrections: self.corrections.clone(),
            checked_from: self.checked_from,
        }
    }

    /// Keeps so many undecodable payloads from the next one on.
    pub fn keep_quarantined(&mut self, records_max: u64) {
        self.options.quarantine_records_max = records_max;
    }

    /// What has been written to the disk.
    pub fn disk(&self) -> &Arc<DiskStats> {
        &self.disk
    }

    /// The chain after the last record.
    pub fn link(&self) -> Link {
        self.link
    }

    /// Commits records, and payloads for the quarantine by the index of their record in `body`.
    ///
    /// # Errors
    /// As [`Log::commit`].
    pub fn append(&mut self, body: &Body, quarantine: &[(usize, Vec<u8>)]) -> Result<Committed, LogError> {
        self.commit(&Commit { quarantine, ..Commit::of(body) })
    }

    /// Does all of a commit, durably: when this returns, it survives a power loss.
    ///
    /// # Errors
    /// [`LogError::Store`]: whether the commit is in the log is then not known until it has been opened again, and this
    /// handle is of no more use.
    pub fn commit(&mut self, commit: &Commit<'_>) -> Result<Committed, LogError> {
        if commit.is_empty() {
            let first = self.next;
            return Ok(Committed { first, last: Seq(first.0 - 1), trimmed: None });
        }
        let committed = guarded("commit to the log", || self.commit_all(commit));
        if let Err(error) = &committed {
            self.failed = true;
            if error.is_lasting() {
                self.seal.close();
            }
        }
        committed
    }

    fn commit_all(&mut self, commit: &Commit<'_>) -> Result<Committed, LogError> {
        let op = "commit to the log";
        let first = self.next;
        let last = Seq(first.0 + commit.body.len() as u64 - 1);
        let mut txn = self.hold.get()?.begin_write().map_err(|e| LogError::store(op, e))?;
        txn.set_quick_repair(self.options.quick_repair);
        let cut = if commit.body.is_empty() { None } else { Some(self.put(&txn, commit.body)?) };
        quarantine::put(&txn, first, commit.quarantine, self.options.quarantine_records_max)?;
        cursors::put(&txn, commit.cursors)?;
        if !commit.archive.is_empty() {
            archive::put(&txn, commit.archive)?;
        }
        if let Some(before) = commit.trim_archive_before {
            archive::trim(&txn, before)?;
        }
        if let Some(after) = commit.corrected {
            clock::put_correction(&txn, first, after)?;
        }
        if let Some(micros) = commit.doubted {
            clock::put_doubted(&txn, micros)?;
        }
        let trimmed = match commit.trim_before {
            Some(before) => trim(&txn, before)?,
            None => None,
        };
        if self.unchanged {
            self.go_on(&txn)?;
        }
        txn.commit().map_err(|e| LogError::store(op, e))?;
        (self.unchanged, self.as_closed, self.gains) = (false, false, false);
        self.next = last.next();
        if let Some(cut) = cut {
            self.settle(&cut);
        }
        Ok(Committed { first, last, trimmed })
    }

    fn put(&mut self, txn: &redb::WriteTransaction, body: &Body) -> Result<Cut, LogError> {
        let op = "commit to the log";
        let open_first = Seq(self.next.0 - self.open.len() as u64);
        self.open.append(body);
        let mut chunks = txn.open_table(CHUNKS).map_err(|e| LogError::store(op, e))?;
        self.open
            .chunks(open_first, self.place, FILL, &mut self.ratio, |seq, bytes| {
                chunks.insert(seq.0, bytes).map(|_| ())
            })
            .map_err(|e| LogError::store(op, e))
    }

    /// Keeps the last chunk open while it does not fill a page.
    fn settle(&mut self, cut: &Cut) {
        self.link = cut.link;
        if cut.last_stored > FILL.small * 7 / 8 {
            self.open.clear();
            let stored_before = cut.last_place.stored_before + cut.last_stored as u64;
            self.place = Place { stored_before, link: cut.link };
        } else {
            self.open.drop_front(cut.last_from);
            self.place = cut.last_place;
        }
    }

    /// Closes the store, so that the next open finds it clean.
    ///
    /// # Errors
    /// [`LogError::Store`]; what was committed is safe all the same.
    pub fn close(mut self) -> Result<(), LogError> {
        let noted = guarded("close the log", || self.note_closed());
        if noted.as_ref().is_err_and(LogError::is_lasting) {
            self.seal.close();
            return noted;
        }
        for _ in 0..CLOSE_TRIES {
            if self.hold.close()? {
                break;
            }
            // A reader is in the middle of a page; it is soon done.
            std::thread::sleep(CLOSE_WAIT);
        }
        noted
    }
}

/// What a store without our format is: someone else's, or ours and damaged.
fn no_format(txn: &redb::ReadTransaction) -> LogError {
    match txn.open_table(CHUNKS) {
        Ok(_) => sums::damaged("the table \"meta\" is missing or damaged"),
        Err(_) => LogError::NoFormat,
    }
}

/// Whether a chunk is what its key says.
fn in_place(key: Seq, header: &chunk::Header) -> Result<(), LogError> {
    let first = header.first;
    match first == key {
        true => Ok(()),
        false => Err(LogError::Damaged {
            op: "read the log",
            why: format!("the chunk of sequence {first} is stored as {key}"),
        }),
    }
}

/// Deletes chunks that lie wholly before a position, a bounded number of them, never the last one of the log.
fn trim(txn: &redb::WriteTransaction, before: Seq) -> Result<Option<(Seq, Seq)>, LogError> {
    let op = "trim the log";
    let mut chunks = txn.open_table(CHUNKS).map_err(|e| LogError::store(op, e))?;
    let mut keys = Vec::new();
    for entry in chunks.range(..before.0).map_err(|e| LogError::store(op, e))?.take(CHUNKS_PER_TRIM + 1) {
        keys.push(entry.map_err(|e| LogError::store(op, e))?.0.value());
    }
    // The chunk before the next one's first record ends there; the last key found may reach beyond `before`.
    let Some((&keep, gone)) = keys.split_last() else { return Ok(None) };
    let Some(&first) = gone.first() else { return Ok(None) };
    chunks.retain_in(..keep, |_, _| false).map_err(|e| LogError::store(op, e))?;
    Ok(Some((Seq(first), Seq(keep - 1))))
}

impl LogReader {
    fn db(&self) -> Result<Arc<Database>, LogError> {
        self.db.upgrade().ok_or(LogError::Closed)
    }

    /// Looks at one state of the store.
    fn read<T>(
        &self,
        op: &'static str,
        look: impl FnOnce(&redb::ReadTransaction) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        guarded(op, || {
            let db = self.db()?;
            let txn = db.begin_read().map_err(|e| LogError::store(op, e))?;
            look(&txn)
        })
    }

    /// Stored bytes of the chunks that are there.
    ///
    /// # Errors
    /// As [`LogReader::scan`].
    pub fn stored_bytes(&self) -> Result<u64, LogError> {
        let op = "read the log's size";
        self.read(op, |txn| {
            let chunks = txn.open_table(CHUNKS).map_err(|e| LogError::store(op, e))?;
            let edge = |entry: Option<(redb::AccessGuard<'_, u64>, redb::AccessGuard<'_, &[u8]>)>| {
                let Some((at, value)) = entry else { return Ok(None) };
                let damaged = |source| LogError::Chunk { at: Seq(at.value()), source };
                let header = chunk::Header::parse(value.value()).map_err(damaged)?;
                Ok(Some((header.place.stored_before, value.value().len() as u64)))
            };
            let first = edge(chunks.first().map_err(|e| LogError::store(op, e))?)?;
            let last = edge(chunks.last().map_err(|e| LogError::store(op, e))?)?;
            Ok(match (first, last) {
                (Some((begin, _)), Some((end, size))) => end + size - begin,
                _ => 0,
            })
        })
    }

    /// Gives every chunk from the one that holds `from` on to `visit`, until it breaks or the log ends. The first chunk is
    /// given whole. The last one may grow while it is visited; what it has gained is then given as a chunk that begins
    /// behind the records already given, so no record is given twice.
    ///
    /// # Errors
    /// [`LogError`] if the store or a chunk cannot be read.
    pub fn scan<B>(
        &self,
        from: Seq,
        mut visit: impl FnMut(&Chunk<'_>) -> ControlFlow<B>,
    ) -> Result<Option<B>, LogError> {
        let mut scratch = Vec::new();
        let mut at = from;
        loop {
            let before = at;
            if let Some(value) = self.scan_some(&mut at, before != from, &mut scratch, &mut visit)? {
                return Ok(Some(value));
            }
            if at == before {
                return Ok(None);
            }
        }
    }

    /// One read transaction's worth of [`LogReader::scan`]; moves `at` behind what was given. If this goes `on` with a scan,
    /// everything before `at` has been given.
    fn scan_some<B>(
        &self,
        at: &mut Seq,
        on: bool,
        scratch: &mut Vec<u8>,
        visit: &mut impl FnMut(&Chunk<'_>) -> ControlFlow<B>,
    ) -> Result<Option<B>, LogError> {
        let op = "read the log";
        self.read(op, |txn| {
            let chunks = txn.open_table(CHUNKS).map_err(|e| LogError::store(op, e))?;
            let holding = chunks.range(..=at.0).map_err(|e| LogError::store(op, e))?.next_back();
            let start = match holding.transpose().map_err(|e| LogError::store(op, e))? {
                Some((key, _)) => key.value(),
                None => at.0,
            };
            let mut expected = None;
            for entry in chunks.range(start..).map_err(|e| LogError::store(op, e))?.take(CHUNKS_PER_READ) {
                let (key, value) = entry.map_err(|e| LogError::store(op, e))?;
                let damaged = |source| LogError::Chunk { at: Seq(key.value()), source };
                let mut chunk = Chunk::parse(value.value(), scratch).map_err(damaged)?;
                in_place(Seq(key.value()), &chunk.header)?;
                let found = chunk.header.first;
                if expected.replace(chunk.header.last().next()).is_some_and(|expected| expected != found) {
                    return Err(LogError::Missing { before: found });
                }
                if chunk.header.last() < *at {
                    continue;
                }
                if on && chunk.header.first < *at {
                    chunk = chunk.from_seq(*at).map_err(damaged)?;
                }
                *at = chunk.header.last().next();
                if let ControlFlow::Break(value) = outside(|| visit(&chunk)) {
                    return Ok(Some(value));
                }
            }
            Ok(None)
        })
    }

    /// Positions of the oldest and the newest record; `None` in an empty log.
    ///
    /// # Errors
    /// As [`LogReader::scan`].
    pub fn range(&self) -> Result<Option<(Seq, Seq)>, LogError> {
        let op = "read the log's range";
        self.read(op, |txn| {
            let chunks = txn.open_table(CHUNKS).map_err(|e| LogError::store(op, e))?;
            let first = chunks.first().map_err(|e| LogError::store(op, e))?;
            let last = chunks.last().map_err(|e| LogError::store(op, e))?;
            let (Some((first, _)), Some((at, last))) = (first, last) else { return Ok(None) };
            let header = chunk::Header::parse(last.value())
                .map_err(|source| LogError::Chunk { at: Seq(at.value()), source })?;
            Ok(Some((Seq(first.value()), header.last())))
        })
    }

    /// The first position of the last chunk that begins before `time` (or of the first chunk): scanning from there finds
    /// every record from `time` on, by its [`LogReader::moment`].
    ///
    /// # Errors
    /// As [`LogReader::scan`].
    pub fn seek_time(&self, time: Time) -> Result<Seq, LogError> {
        self.seek(|header| self.moment_before(header.first, header.base_time) < time)
    }

    /// The first position of the last chunk (or of the first) that must stay out of the newest `bytes` stored bytes.
    ///
    /// # Errors
    /// As [`LogReader::scan`].
    pub fn seek_newest_bytes(&self, bytes: u64) -> Result<Seq, LogError> {
        let Some((first, _)) = self.range()? else { return Ok(Seq(1)) };
        let begin = self.stored_begin(first)?;
        let limit = (begin + self.stored_bytes()?).saturating_sub(bytes);
        self.seek(|header| header.place.stored_before < limit)
    }

    fn stored_begin(&self, first: Seq) -> Result<u64, LogError> {
        let op = "read the log's size";
        self.read(op, |txn| {
            let chunks = txn.open_table(CHUNKS).map_err(|e| LogError::store(op, e))?;
            let Some(value) = chunks.get(first.0).map_err(|e| LogError::store(op, e))? else { return Ok(0) };
            let header = chunk::Header::parse(value.value())
                .map_err(|source| LogError::Chunk { at: first, source })?;
            Ok(header.place.stored_before)
        })
    }

    /// The first position of the last chunk for which `before` holds, or of the first chunk; `before` must hold for a
    /// prefix of the log.
    fn seek(&self, before: impl Fn(&chunk::Header) -> bool) -> Result<Seq, LogError> {
        let op = "search the log";
        let Some((first, last)) = self.range()? else { return Ok(Seq(1)) };
        self.read(op, |txn| {
            let chunks = txn.open_table(CHUNKS).map_err(|e| LogError::store(op, e))?;
            let (mut low, mut high) = (first.0, last.0 + 1);
            let mut found = first;
            // Chunks that begin before `low` are before; those that begin at `high` or later are not.
            while low < high {
                let middle = low + (high - low) / 2;
                let entry = chunks.range(..=middle).map_err(|e| LogError::store(op, e))?.next_back();
                let Some((key, value)) = entry.transpose().map_err(|e| LogError::store(op, e))? else {
                    break;
                };
                let header = chunk::Header::parse(value.value())
                    .map_err(|source| LogError::Chunk { at: Seq(key.value()), source })?;
                if before(&header) {
                    found = found.max(header.first);
                    low = header.last().0 + 1;
                } else {
                    high = key.value();
                }
            }
            Ok(found)
        })
    }
}

/// What can go wrong with the log. All of it stops the agent; the broker still holds what was not acknowledged.
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
    /// Its name leads elsewhere, or nowhere: what is written is lost when this process ends.
    #[error(
        "the log {} was deleted, moved or replaced while fieldlog had it open; nothing more is acknowledged, and the broker \
         keeps it. Put the file back, then start fieldlog again; with --new-epoch if the log is to be given up",
        path.display()
    )]
    Gone {
        /// Where it was.
        path: PathBuf,
    },
    /// There is none, but there was one.
    #[error(
        "the log {} {absence}, and {snapshots} snapshots of a log that was there are in {}: its records are lost. Restore \
         log.redb from a backup. Or, to go on without them, start once with `fieldlog run --new-epoch`: it begins a new log, \
         says so in its first record, and keeps the snapshots as *.old-epoch",
        path.display(), dir.display()
    )]
    Lost {
        /// Where it should be.
        path: PathBuf,
        /// What is there.
        absence: Absence,
        /// The snapshot directory.
        dir: PathBuf,
        /// How many there are.
        snapshots: usize,
    },
    /// There is none, for who wants to read it.
    #[error("there is nothing to read: the log {} {absence}; name the data_dir of an agent that has run", path.display())]
    Absent {
        /// Where it should be.
        path: PathBuf,
        /// What is there.
        absence: Absence,
    },
    /// There is one, for who wants to begin anew.
    #[error(
        "--new-epoch is refused: the log {} is there and goes up to sequence {head}. Start without --new-epoch to go on with \
         it; to give it up, move it away first",
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
        "cannot open the log {}: {source}; if it is damaged, restore it from a backup, or move it away and start with \
         --new-epoch",
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
        "cannot {op}: {source}; the broker keeps what was not acknowledged. Check disk and free space, then start fieldlog again"
    )]
    Store {
        /// What was tried.
        op: &'static str,
        /// Why it failed.
        source: Box<redb::Error>,
    },
    /// The store holds another format.
    #[error(
        "the log has format {found}, this fieldlog knows format {FORMAT_VERSION}; install the version that wrote it, or a later one"
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
    /// The store has met a page that cannot be right.
    #[error(
        "the log (log.redb in the data directory) is damaged: cannot {op}: {why}. Run `fieldlog verify` to see how far it is \
         intact, then restore the file from a backup, or move it away to begin a new epoch"
    )]
    Damaged {
        /// What was tried.
        op: &'static str,
        /// What was found.
        why: String,
    },
    /// It is not what it was when it was closed.
    #[error(
        "the log (log.redb in the data directory) is damaged: since it was closed something in it has changed: {what}. Run \
         `fieldlog verify` to see what is intact, then restore the file from a backup, or move it away to begin a new epoch"
    )]
    Changed {
        /// What has changed.
        what: String,
    },
    /// Records are missing between others.
    #[error(
        "the log (log.redb in the data directory) is damaged: records before sequence {before} are missing. Run `fieldlog \
         verify`, then restore the file from a backup, or move it away to begin a new epoch"
    )]
    Missing {
        /// The first record after them.
        before: Seq,
    },
    /// A stored cursor is damaged.
    #[error(
        "the cursor of the sink \"{name}\" in the log is damaged: what it has acknowledged is not known, and everything that \
         is in the log is sent to it again, with the same identity. There may be more damage: stop fieldlog and run \
         `fieldlog verify`"
    )]
    Cursor {
        /// Of which sink.
        name: String,
    },
    /// A row of the archive is damaged.
    #[error(
        "the archive in the log is damaged at the row of sequence {at}: {source}; restore the file from a backup, or set \
         retention.thin_to_s = 0 to go on without adding to the archive"
    )]
    Archive {
        /// First record of the row's period.
        at: Seq,
        /// What is wrong with it.
        source: ArchiveError,
    },
    /// A chunk is damaged.
    #[error(
        "the log is damaged at sequence {at}: {source}; restore the file from a backup, or move it away and start with \
         --new-epoch"
    )]
    Chunk {
        /// First position of the chunk.
        at: Seq,
        /// What is wrong with it.
        source: ChunkError,
    },
}

impl LogError {
    /// Whether it is in what the file holds, and so will be there at the next start, too.
    pub fn is_lasting(&self) -> bool {
        match self {
            LogError::Format { .. }
            | LogError::NoFormat
            | LogError::Lost { .. }
            | LogError::NotLost { .. }
            | LogError::Damaged { .. }
            | LogError::Changed { .. }
            | LogError::Missing { .. }
            | LogError::Cursor { .. }
            | LogError::Chunk { .. }
            | LogError::Archive { .. } => true,
            LogError::Absent { absence, .. } => *absence != Absence::Missing,
            // The store cannot make anything of the file: damaged, of another version, or no store at all.
            LogError::Open { source, .. } | LogError::Store { source, .. } => LogError::is_damage(source),
            _ => false,
        }
    }

    /// Whether the store says that what is in the file cannot be right.
    pub(crate) fn is_damage(error: &redb::Error) -> bool {
        match error {
            redb::Error::Corrupted(_) | redb::Error::UpgradeRequired(_) => true,
            redb::Error::Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
            _ => false,
        }
    }

    /// The store did not open.
    fn refused(path: &Path, source: Box<redb::Error>) -> LogError {
        match *source {
            redb::Error::DatabaseAlreadyOpen => LogError::InUse { path: path.to_owned() },
            _ => LogError::Open { path: path.to_owned(), source },
        }
    }

    fn store(op: &'static str, error: impl Into<redb::Error>) -> LogError {
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
