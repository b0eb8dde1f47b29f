//! Opens, creates and closes the log.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fieldlog_projections::chunk::{Chunk, Place, RecordBuffer};
use fieldlog_projections::{ChainHash, Epoch, Seq, Time};
use redb::{ReadableDatabase, ReadableTable, StorageBackend};

use super::adopt::BACKUP;
use super::disk::{Disk, DiskStats, Seal};
use super::error::{Fault, during};
use super::guard::{self, Hold, guarded};
use super::index::Index;
use super::journal::{self, Journal, Pointer, recover};
use super::read::in_place;
use super::{
    CHUNKS, FILE_NAME, FILL, FORMAT_PLAIN, FORMAT_VERSION, Log, LogError, LogOptions, META, QUARANTINE,
    clock, incomplete, place, sums,
};

/// How often, and how long, closing waits for a running read; after that the store closes when the last of them ends.
const CLOSE_TRIES: u32 = 100;
const CLOSE_WAIT: Duration = Duration::from_millis(20);

impl Log {
    /// Opens the log in a data directory, or creates it with a new epoch.
    ///
    /// # Errors
    /// [`LogError`]; an unreadable log is never replaced or repaired.
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
        // After a failed fsync the page cache can hold data that is not on the disk, until the next power cut: from
        // here on, reads must come from the disk. The advice may be refused; then nothing changes.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        let place = place::FilePlace::of(&path, &file)
            .map_err(|source| LogError::File { path: path.clone(), source })?;
        let backend = redb::backends::FileBackend::new(file)
            .map_err(|source| LogError::refused(&path, Box::new(source.into())))?;
        let mut log =
            Log::open_beside(backend, || journal::open(data_dir, false), Arc::default(), options, new_epoch)
                .map_err(|error| match error {
                    LogError::Store { source, .. } => LogError::refused(&path, source),
                    other => other,
                })?;
        log.files.push(place);
        if created {
            // redb syncs the file but not its directory entry.
            std::fs::File::open(data_dir)
                .and_then(|dir| dir.sync_all())
                .map_err(|source| LogError::File { path: data_dir.to_owned(), source })?;
        }
        Ok(log)
    }

    /// Opens the log on any disk and counts writes; the tests use one that fails.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open_on(
        backend: impl StorageBackend,
        disk: Arc<DiskStats>,
        options: LogOptions,
        new_epoch: Epoch,
    ) -> Result<Log, LogError> {
        Log::open_beside(backend, || Ok(None), disk, options, new_epoch)
    }

    /// The same, with a journal beside it.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open_beside(
        backend: impl StorageBackend,
        journal: impl FnOnce() -> Result<Option<Arc<dyn StorageBackend>>, LogError>,
        disk: Arc<DiskStats>,
        options: LogOptions,
        new_epoch: Epoch,
    ) -> Result<Log, LogError> {
        guard::silence();
        incomplete::discard(&backend).map_err(|e| LogError::store("read the log", redb::Error::Io(e)))?;
        let backend = Arc::new(backend);
        let mut log = Log::open_store(backend.clone(), disk, options, new_epoch)?;
        let begun = guarded("read the log's head", || match log.load()? {
            true if log.is_backup => Err(LogError::Backup.into()),
            true => Ok(()),
            false
                if incomplete::has_chunks(&*backend)
                    .map_err(|e| LogError::store("read the log", redb::Error::Io(e)))? =>
            {
                Err(sums::damaged("it lists no tables, but there are records in it").into())
            }
            false => Ok(during("create the log", log.create())?),
        });
        let opened = begun.and_then(|()| log.open_journal(journal));
        match opened {
            Ok(()) => Ok(log),
            // It belongs to another program, and is left unchanged.
            Err(error @ (LogError::NoFormat | LogError::Format { .. })) => Err(error),
            Err(error) => {
                log.seal.close();
                Err(error)
            }
        }
    }

    /// Opens the store without looking at its contents.
    pub(super) fn open_store(
        backend: Arc<impl StorageBackend>,
        disk: Arc<DiskStats>,
        options: LogOptions,
        new_epoch: Epoch,
    ) -> Result<Log, LogError> {
        let seal = Seal::default();
        let gate = Disk { disk: backend, stats: disk.clone(), seal: seal.clone() };
        let db = guarded("open the log", || {
            let mut builder = redb::Builder::new();
            let opened = builder.set_cache_size(options.cache_bytes).create_with_backend(gate);
            Ok(opened?)
        })?;
        Ok(Log {
            hold: Hold::on(db),
            seal,
            options,
            epoch: new_epoch,
            next: Seq(1),
            last_time: Time::default(),
            stored: Seq(1),
            open: RecordBuffer::default(),
            place: Place::default(),
            link: ChainHash::default(),
            stored_bytes: 0,
            ratio: 1024,
            disk,
            corrections: Arc::default(),
            index: Index::default(),
            checked_from: Seq(1),
            as_closed: false,
            unchanged: true,
            gains: false,
            is_backup: false,
            failed: false,
            files: Vec::new(),
            tail: Arc::default(),
            pointer: None,
            journal: None,
            journaling: None,
        })
    }

    /// Reads epoch and head; `false` if there is no log yet.
    pub(super) fn load(&mut self) -> Result<bool, Fault> {
        let txn = self.hold.get()?.begin_read()?;
        let meta = match txn.open_table(META) {
            Ok(meta) => meta,
            Err(redb::TableError::TableDoesNotExist(_)) => {
                // Our tables are created in one commit. A store that has only others belongs to another program.
                let tables = txn.list_tables()?.count();
                return if tables == 0 { Ok(false) } else { Err(no_format(&txn).into()) };
            }
            Err(redb::TableError::TableTypeMismatch { .. } | redb::TableError::TableIsMultimap(_)) => {
                return Err(no_format(&txn).into());
            }
            Err(error) => return Err(error.into()),
        };
        let get = |key| meta.get(key).map(|found| found.map(|found| found.value()));
        let format = match get("format")? {
            Some(format @ (FORMAT_PLAIN | FORMAT_VERSION)) => format,
            Some(found) => return Err(LogError::Format { found }.into()),
            None => return Err(no_format(&txn).into()),
        };
        self.epoch = Epoch(get("epoch")?.ok_or_else(|| no_format(&txn))?);
        self.is_backup = get(BACKUP)?.is_some();
        self.link = ChainHash::origin(self.epoch);
        self.place = Place { stored_before: 0, link: self.link };
        self.corrections = clock::corrections(&txn)?;
        self.load_end(&txn)?;
        self.index.load(&txn)?;
        self.pointer = Pointer::stored(&txn)?;
        if self.pointer.is_some() != (format == FORMAT_VERSION) {
            return Err(sums::damaged(format!(
                "its format is {format}, which does not fit its table \"journal\""
            ))
            .into());
        }
        self.check(&txn)?;
        Ok(true)
    }

    /// Reads the last chunk.
    fn load_end(&mut self, txn: &redb::ReadTransaction) -> Result<(), Fault> {
        let chunks = txn.open_table(CHUNKS)?;
        let Some((key, value)) = chunks.last()? else {
            return Ok(());
        };
        let (key, bytes) = (Seq(key.value()), value.value());
        let mut scratch = Vec::new();
        let damaged = |source| LogError::Chunk { at: key, source };
        let last = Chunk::parse(bytes, &mut scratch).map_err(damaged)?;
        in_place(key, &last.header)?;
        self.open = RecordBuffer::after(last.header.base_time);
        self.open.join(&last).map_err(damaged)?;
        self.next = last.header.last().next();
        self.stored = self.next;
        self.last_time = self.open.last_time();
        self.place = last.header.place;
        self.stored_bytes = self.place.stored_before + bytes.len() as u64;
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

    fn create(&mut self) -> Result<(), Fault> {
        let txn = self.hold.get()?.begin_write()?;
        {
            let mut meta = txn.open_table(META)?;
            meta.insert("format", FORMAT_PLAIN)?;
            meta.insert("epoch", self.epoch.0)?;
            txn.open_table(CHUNKS)?;
            txn.open_table(QUARANTINE)?;
        }
        self.gains = true;
        self.go_on(&txn)?;
        self.finish(txn)?;
        self.gains = false;
        self.link = ChainHash::origin(self.epoch);
        self.place = Place { stored_before: 0, link: self.link };
        Ok(())
    }

    /// Opens the journal that the log counts on, and moves what only it has into redb.
    pub(super) fn open_journal(
        &mut self,
        journal: impl FnOnce() -> Result<Option<Arc<dyn StorageBackend>>, LogError>,
    ) -> Result<(), LogError> {
        self.tail.moved(self.stored_bytes);
        let Some(pointer) = self.pointer else { return Ok(()) };
        let disk = journal()?.map(|disk| self.counted(disk));
        match disk {
            // Everything was moved when the log was closed: nothing is missing, whatever is in the file.
            disk if self.as_closed => {
                self.journal = disk.and_then(|disk| Journal::after_close(disk, self.epoch, pointer));
                Ok(())
            }
            Some(disk) => self.take_over(recover(disk, self.epoch, pointer, self.next)?),
            None => Err(LogError::Journal { why: "the file is missing".into() }),
        }
    }

    /// Stores sums of the contents, so that the next open can detect changes; returns whether that took a commit.
    ///
    /// # Errors
    /// [`LogError::Store`]; committed records are safe in any case.
    pub fn note_end(&mut self) -> Result<bool, LogError> {
        let moved = if self.failed { false } else { self.move_journal()? };
        let noted = guarded("close the log", || self.note_closed()).map(|noted| noted || moved);
        match &noted {
            Ok(_) => {}
            Err(error) if error.is_lasting() => self.seal.close(),
            Err(_) => self.failed = true,
        }
        noted
    }

    /// Closes the store, so that the next open finds it clean.
    ///
    /// # Errors
    /// [`LogError::Store`]; committed records are safe in any case.
    pub fn close(mut self) -> Result<(), LogError> {
        let noted = self.note_end().map(drop);
        if noted.as_ref().is_err_and(LogError::is_lasting) {
            return noted;
        }
        for _ in 0..CLOSE_TRIES {
            if self.hold.close()? {
                break;
            }
            // A reader is using a page; it will soon finish.
            std::thread::sleep(CLOSE_WAIT);
        }
        noted
    }
}

/// Classifies a store without our format: another program's, or ours and damaged.
fn no_format(txn: &redb::ReadTransaction) -> LogError {
    match txn.open_table(CHUNKS) {
        Ok(_) => sums::damaged("the table \"meta\" is missing or damaged"),
        Err(_) => LogError::NoFormat,
    }
}
