//! A new log that takes over what an older one has.

use fieldlog_projections::chunk::{Place, RecordBuffer};
use fieldlog_projections::rollup::Row;
use fieldlog_projections::{Seq, Time};

use super::clock;
use super::error::during;
use super::guard::guarded;
use super::rollups::{self, RollupRow};
use super::{Log, LogError, LogReader, META, cursors, quarantine};

/// Rows of the archive that are read at once.
const ROWS_AT_ONCE: usize = 256;

/// In `meta`: the log is a backup.
pub(super) const BACKUP: &str = "backup";

/// Rows of the tables beside the records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Cursors by name.
    pub cursors: Vec<(String, Vec<u8>)>,
    /// Payloads in the quarantine.
    pub quarantine: Vec<(Seq, Vec<u8>)>,
    /// Rows of the archive.
    pub rollups: Vec<RollupRow>,
    /// Positions where log time was set back, and to what.
    pub corrections: Vec<(Seq, Time)>,
    /// The amount by which a forward jump of the wall clock is doubted, in microseconds, if it is to be set.
    pub doubted: Option<u64>,
    /// Whether the log is a backup from now on, which no agent continues.
    pub backup: bool,
}

impl Log {
    /// Lets an empty log begin after a position: the next record gets the one after it, and `time` is the log time
    /// before it. `place` is what the log had there; without one, the records are the first of their epoch.
    pub fn begin_after(&mut self, seq: Seq, time: Time, place: Option<Place>) {
        debug_assert!(self.head() == Seq(0), "the log has records");
        (self.next, self.stored, self.last_time) = (seq.next(), seq.next(), time);
        self.open = RecordBuffer::after(time);
        self.place = place.unwrap_or(self.place);
        self.link = self.place.link;
    }

    /// Stores rows as they are, in one commit.
    ///
    /// # Errors
    /// [`LogError::Store`]
    pub fn adopt(&mut self, rows: &Rows) -> Result<(), LogError> {
        guarded("write to the log", || {
            let txn = self.hold.get()?.begin_write()?;
            cursors::put(&txn, rows.cursors.iter().map(|(name, cursor)| (name, cursor)))?;
            let payloads = rows.quarantine.iter().map(|(seq, payload)| (*seq, payload));
            during("write to the quarantine", quarantine::put(&txn, payloads, u64::MAX))?;
            if !rows.rollups.is_empty() {
                during("write to the archive", rollups::put_rows(&txn, &rows.rollups))?;
            }
            for (at, after) in &rows.corrections {
                clock::put_correction(&txn, *at, *after)?;
            }
            if let Some(micros) = rows.doubted {
                clock::put_doubted(&txn, micros)?;
            }
            if rows.backup {
                txn.open_table(META)?.insert(BACKUP, 1)?;
            }
            self.finish_change(txn)
        })
    }
}

impl LogReader {
    /// Rows of the archive after one of them, a bounded number; each is intact. None after the last.
    ///
    /// # Errors
    /// [`LogError`] if the store or the next row cannot be read.
    pub fn rollup_rows(&self, after: Option<&RollupRow>) -> Result<Vec<RollupRow>, LogError> {
        let from = after.map_or((0, 0), |(first, part, _)| (*first, part.saturating_add(1)));
        let rows = self.rollups("read the archive", |table| {
            let mut rows: Vec<RollupRow> = Vec::new();
            for entry in table.range(from..)?.take(ROWS_AT_ONCE) {
                let (key, value) = entry?;
                let (first, part) = key.value();
                match Row::parse(value.value()) {
                    Ok(_) => rows.push((first, part, value.value().to_vec())),
                    // Those before it are given first.
                    Err(source) if rows.is_empty() => {
                        return Err(LogError::Rollup { at: Seq(first), source }.into());
                    }
                    Err(_) => break,
                }
            }
            Ok(rows)
        })?;
        Ok(rows.unwrap_or_default())
    }

    /// Positions where log time was set back, and to what.
    ///
    /// # Errors
    /// As [`LogReader::scan`].
    pub fn clock_corrections(&self) -> Result<Vec<(Seq, Time)>, LogError> {
        self.read("read the clock's corrections", clock::stored_corrections)
    }
}
