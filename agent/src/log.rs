#![doc = include_str!("../../FORMAT.md")]

use std::sync::Arc;

use fieldlog_projections::chunk::{Fill, Place, RecordBuffer};
use fieldlog_projections::{ChainHash, Epoch, Seq, Time};
use redb::TableDefinition;

mod absent;
pub mod acked;
mod adopt;
mod append;
mod checked;
mod clock;
mod commit;
mod correct;
mod cursors;
mod damage;
pub mod directory;
mod disk;
mod error;
mod existing;
mod extent;
mod guard;
mod incomplete;
mod index;
mod inspect;
mod journal;
mod journaling;
mod open;
mod overlay;
mod place;
mod quarantine;
mod read;
mod rollups;
mod salvage;
mod sums;
mod suspects;
mod tail;
mod trim;

use disk::Seal;
use guard::Hold;
use index::Index;
use journal::{Journal, Pointer};
use tail::Tail;

pub use adopt::Rows;
pub use commit::{Commit, Committed, RolledUp};
pub use disk::DiskStats;
pub use error::{Absence, LogError};
pub use index::{IndexSize, Wanted};
pub use journal::{JOURNAL_FILE_NAME, NoJournal};
pub use journaling::JournalBounds;
pub use read::LogReader;
pub use rollups::{ROW_BYTES_MAX, RollupRow, RollupsEnd, RollupsSize};
pub use salvage::{Piece, Salvage};

const CHUNKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("chunks");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const CURSORS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("cursors");
const QUARANTINE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("quarantine");
const JOURNAL: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("journal");

/// Version of the tables and keys that this program writes without a journal.
const FORMAT_PLAIN: u64 = 1;
/// Version of a log that is complete only with its journal; a program that knows no journal must not open it.
pub const FORMAT_VERSION: u64 = 2;
/// Name of the log in the data directory.
pub const FILE_NAME: &str = "log.redb";

/// Chunk sizes that fill one page, and four, of the store beside its own 16 bytes.
const FILL: Fill = Fill { large: 4 * 4096 - 16, small: 4096 - 16 };

/// How to open a log.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// Page cache, in bytes.
    pub cache_bytes: usize,
    /// Write the allocator state with every commit: no scan of the file after a crash, but more bytes per commit.
    pub quick_repair: bool,
    /// Maximum undecodable payloads kept; the oldest are deleted.
    pub quarantine_records_max: u64,
}

/// The log, open for appending. There is only one, owned by one thread: positions are assigned in its commits.
#[derive(Debug)]
pub struct Log {
    hold: Hold,
    /// Closed when damage is found: then nothing is written any more.
    seal: Seal,
    options: LogOptions,
    epoch: Epoch,
    next: Seq,
    /// Log time of the last record.
    last_time: Time,
    /// Position after the last record that is in redb.
    stored: Seq,
    /// The records of the last chunk while it does not fill a page. Every commit rewrites that page anyway, so keeping
    /// the chunk open costs no flash and makes the log of a quiet gateway as dense as that of a busy one.
    open: RecordBuffer,
    /// The place of the open records.
    place: Place,
    /// The chain after the last record.
    link: ChainHash,
    /// Stored bytes of all chunks, including trimmed ones.
    stored_bytes: u64,
    ratio: u32,
    disk: Arc<DiskStats>,
    corrections: clock::Corrections,
    index: Index,
    /// From here on, payloads in the quarantine have checksums.
    checked_from: Seq,
    /// The log is as it was closed, and has the `closed` row.
    as_closed: bool,
    /// Nothing has been committed since it was opened.
    unchanged: bool,
    /// An earlier version wrote it without checksums, which the next commit adds.
    gains: bool,
    /// It is a copy, which must not be continued.
    is_backup: bool,
    /// A commit has failed, but may be in the log.
    failed: bool,
    /// The files of log and journal; none for a test disk.
    files: Vec<place::FilePlace>,
    /// What the journal has and redb does not.
    tail: Arc<Tail>,
    /// Where the journal that the log counts on continues, as redb had it when it was opened.
    pointer: Option<Pointer>,
    /// The journal of this log, if it has one.
    journal: Option<Journal>,
    /// When the journal is used; `None`: every commit goes to redb.
    journaling: Option<JournalBounds>,
}

impl Log {
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
        self.last_time
    }

    /// A handle for reading.
    pub fn reader(&self) -> LogReader {
        LogReader {
            db: self.hold.weak(),
            tail: self.tail.clone(),
            corrections: self.corrections.clone(),
            checked_from: self.checked_from,
            suspects: self.index.suspects.clone(),
            pinned: None,
        }
    }

    /// Sets the number of undecodable payloads to keep, from the next one on.
    pub fn keep_quarantined(&mut self, records_max: u64) {
        self.options.quarantine_records_max = records_max;
    }

    /// Counters of disk writes.
    pub fn disk(&self) -> &Arc<DiskStats> {
        &self.disk
    }

    /// The chain after the last record.
    pub fn link(&self) -> ChainHash {
        self.link
    }
}
