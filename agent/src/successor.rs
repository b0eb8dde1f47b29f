//! A log of a new epoch that takes over the records of an older log, each at its position and with its bytes.
//!
//! Receivers know an event by gateway, epoch and position. In a new epoch no position has been taken yet, so a successor
//! cannot contradict what they have, whatever the older log went on with. Records refer to each other by position, so
//! the positions stay. Cursors are not taken over: nothing of the new epoch has been acknowledged.

use std::path::{Path, PathBuf};

use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::command::Progress;
use fieldlog_projections::{Epoch, Fact, Record, Seq, Time};

use crate::client::Failure;
use crate::log::{Log, LogError, Rows, directory};
use crate::lost;
use crate::recovery;
use crate::snapshots::SnapshotStore;
use crate::stopped::{self, COMMIT_BYTES};

/// A log of a new epoch that is being written, in a directory of its own.
#[derive(Debug)]
pub struct Successor {
    log: Log,
    dir: PathBuf,
    body: RecordBuffer,
    corrections: Vec<(Seq, Time)>,
}

/// What the last records of a successor say about it.
#[derive(Clone, Debug)]
pub struct Ending<'a> {
    /// The epoch that it takes over; `None` if it is not known.
    pub previous: Option<Epoch>,
    /// Why there is a new epoch.
    pub reason: String,
    /// Who made it.
    pub actor: &'a str,
    /// By which call, of what.
    pub call: &'a str,
    /// Of what.
    pub target: String,
    /// The wall clock.
    pub wall: Time,
    /// Ranges of positions between its records that were lost, first and last.
    pub gaps: &'a [(Seq, Seq)],
    /// Lost positions after the records that were taken over.
    pub lost_end: Option<(Seq, Seq)>,
}

/// A new epoch.
///
/// # Errors
/// [`Failure`] if the operating system gives no random numbers.
pub fn new_epoch() -> Result<Epoch, Failure> {
    lost::new_epoch().map_err(|error| Failure::internal(format!("no random numbers: {error}")))
}

/// A failure of a file or directory.
pub(crate) fn of_file(path: &Path) -> impl Fn(std::io::Error) -> Failure + '_ {
    move |source| LogError::File { path: path.to_owned(), source }.into()
}

impl Successor {
    /// Begins one in a directory, which is created. Its first record will follow position `after`, which had log time
    /// `time`.
    ///
    /// # Errors
    /// [`Failure`] if it cannot be created.
    pub fn create(dir: &Path, epoch: Epoch, after: Seq, time: Time) -> Result<Successor, Failure> {
        directory::make_dir(dir).map_err(of_file(dir))?;
        let mut log = Log::open(dir, stopped::OPTIONS, epoch)?;
        log.begin_after(after, time, None);
        let body = RecordBuffer::after(time);
        Ok(Successor { log, dir: dir.to_owned(), body, corrections: Vec::new() })
    }

    /// Its epoch.
    pub fn epoch(&self) -> Epoch {
        self.log.epoch()
    }

    /// The position of the next record.
    pub fn next(&self) -> Seq {
        Seq(self.log.head().0 + self.body.len() as u64 + 1)
    }

    /// Log time of the last record.
    pub fn last_time(&self) -> Time {
        self.body.last_time()
    }

    /// Takes over the next record.
    ///
    /// # Errors
    /// As [`Log::commit`].
    pub fn push(&mut self, record: &Record<'_>) -> Result<(), LogError> {
        if record.time < self.last_time() {
            // Only a correction of the clock can be earlier.
            self.corrections.push((record.seq, record.time));
        }
        self.body.push_record(record);
        self.flush(COMMIT_BYTES)
    }

    /// Appends a record of its own, at this log time or later.
    ///
    /// # Errors
    /// As [`Log::commit`].
    pub fn push_fact(&mut self, envelope: Envelope, fact: &Fact) -> Result<(), LogError> {
        self.body.push_fact(envelope, fact);
        self.flush(COMMIT_BYTES)
    }

    /// Appends a record of its own at this log time, whatever the wall clock was.
    ///
    /// # Errors
    /// As [`Log::commit`].
    pub fn push_fact_at(&mut self, time: Time, envelope: Envelope, fact: &Fact) -> Result<(), LogError> {
        self.body.push_fact_at(time, envelope, fact);
        self.flush(COMMIT_BYTES)
    }

    /// Sets log time back, where the record that did so was lost.
    pub fn set_back(&mut self, time: Time) {
        self.corrections.push((self.next(), time));
        self.body.push_correction(time);
    }

    fn flush(&mut self, bytes_min: usize) -> Result<(), LogError> {
        if self.body.bytes() >= bytes_min {
            self.log.append(&self.body, &[])?;
            self.body.clear();
        }
        Ok(())
    }

    /// Takes over rows of other tables.
    ///
    /// # Errors
    /// As [`Log::adopt`].
    pub fn adopt(&mut self, rows: &Rows) -> Result<(), LogError> {
        self.log.adopt(rows)
    }

    /// Its snapshots; those that it needs are put there before it ends.
    ///
    /// # Errors
    /// [`Failure`] if there is no room for them.
    pub fn snapshots(&self) -> Result<SnapshotStore, Failure> {
        SnapshotStore::open(&self.dir).map_err(of_file(&self.dir))
    }

    /// Appends the records that say what it is, and closes it. Before that, all of it is folded as an agent does at its
    /// start. Commands that were under way may have been sent or not, so nothing more is done about them. Returns the
    /// position of the record that begins the epoch.
    ///
    /// # Errors
    /// [`Failure`] if it cannot be written or folded.
    pub fn end(mut self, ending: &Ending<'_>) -> Result<Seq, Failure> {
        self.flush(1)?;
        if !self.corrections.is_empty() {
            let corrections = std::mem::take(&mut self.corrections);
            self.log.adopt(&Rows { corrections, ..Rows::default() })?;
        }
        let recovered = recovery::recover(&self.snapshots()?, &self.log.reader(), self.epoch(), &[])?;
        let begun = self.next();
        let Ending { previous, actor, call, target, wall, gaps, lost_end, .. } = ending;
        let by_itself = Envelope { wall: *wall, ..Envelope::default() };
        let reason = ending.reason.clone();
        self.push_fact(by_itself, &Fact::EpochBegun { previous: *previous, reason })?;
        let administered = Fact::Administered {
            actor: (*actor).to_owned(),
            call: (*call).to_owned(),
            target: target.clone(),
            reason: String::new(),
        };
        let caused = Envelope { cause: Some(self.next()), ..by_itself };
        self.push_fact(by_itself, &administered)?;
        for (first, last) in gaps.iter().copied() {
            self.push_fact(caused, &Fact::Gap { first, last, lost_by: Vec::new() })?;
        }
        if let Some((first, last)) = *lost_end {
            let reason = format!("{call}: the end of the previous log was lost");
            self.push_fact(caused, &Fact::RecordsLost { first, last, reason })?;
        }
        let driven = recovered.view.commands.open().filter(|command| command.state.is_driven());
        for command in driven {
            let envelope = Envelope { cause: Some(command.changed.0), ..by_itself };
            let (device, command) = (command.device, command.seq);
            self.push_fact(
                envelope,
                &Fact::CommandProgressed { device, command, progress: Progress::Unknown },
            )?;
        }
        self.flush(1)?;
        self.log.close()?;
        Ok(begun)
    }
}
