//! Folds records into the archive before they are deleted.
//!
//! The archive runs ahead of the trims: a closed window is folded completely, although its last records may stay for a
//! while. So each period is written once, and trimming does not wait for windows to end. Only the open window is
//! archived in part, and is written again, longer, when more of it must be deleted.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use fieldlog_projections::aggregates::start_s;
use fieldlog_projections::rollup::Rollup;
use fieldlog_projections::rollup::{self, Period};
use fieldlog_projections::view::FoldError;
use fieldlog_projections::{Chunk, Record, Seq, Time};

use crate::log::{LogError, LogReader, ROW_BYTES_MAX, RolledUp};

/// A job ends after the period with which it reaches this size; its rows are one commit. A single period may be larger:
/// a dozen bytes for each attribute of each device.
const JOB_BYTES_MAX: usize = 256 * 1024;

/// A folding job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Length of the windows, in seconds.
    pub length_s: u32,
    /// Records before this position will be deleted.
    pub before: Seq,
    /// The last record of the log, and its log time. No later record will be in an earlier window.
    pub head: (Seq, Time),
}

/// Folds the records that follow the archive: those before `job.before` at least, unless they exceed one job. Returns
/// the periods to store; none if the archive has them all.
///
/// # Errors
/// [`JobError`]
pub fn roll_up(reader: &LogReader, job: Job, stop: &AtomicBool) -> Result<Vec<RolledUp>, JobError> {
    let Some((first, _)) = reader.range()? else { return Ok(Vec::new()) };
    let mut work = Work::new(reader, job, first);
    work.go_on_with_last()?;
    if work.from >= job.before {
        return Ok(Vec::new());
    }
    let failed = reader.scan(work.from, |chunk| match work.chunk(chunk) {
        Err(error) => ControlFlow::Break(Some(error)),
        Ok(ControlFlow::Break(())) => ControlFlow::Break(None),
        Ok(ControlFlow::Continue(())) if stop.load(Ordering::Relaxed) => ControlFlow::Break(None),
        Ok(ControlFlow::Continue(())) => ControlFlow::Continue(()),
    })?;
    if let Some(error) = failed.flatten() {
        return Err(error.into());
    }
    work.close();
    Ok(work.done)
}

struct Work<'a> {
    reader: &'a LogReader,
    job: Job,
    /// The first record that is not in the archive.
    from: Seq,
    /// Records of the open window are folded up to this one.
    partly_until: Seq,
    fold: Rollup,
    open: Option<Period>,
    /// The open period has records that are not stored yet.
    changed: bool,
    stored_before: u64,
    bytes: usize,
    done: Vec<RolledUp>,
}

impl<'a> Work<'a> {
    fn new(reader: &'a LogReader, job: Job, first: Seq) -> Work<'a> {
        // Half of the rest: so a log with less than one window does not rewrite the period at every trim.
        let half = job.before.0 + (job.head.0.0.saturating_sub(job.before.0)) / 2;
        Work {
            reader,
            job,
            from: first,
            partly_until: Seq(half.max(job.before.0.saturating_sub(1))),
            fold: Rollup::default(),
            open: None,
            changed: false,
            stored_before: 0,
            bytes: 0,
            done: Vec::new(),
        }
    }

    /// Starts after the archive, with the stored part of its last window.
    fn go_on_with_last(&mut self) -> Result<(), LogError> {
        let reader = self.reader;
        let Some(end) = reader.rollups_end()? else { return Ok(()) };
        let follows = end.period.last.next() >= self.from;
        self.from = self.from.max(end.period.last.next());
        let resume = follows && end.period.length_s == self.job.length_s;
        if resume {
            (self.open, self.stored_before) = (Some(end.period), end.stored_before);
        }
        let (fold, size) = (&mut self.fold, &mut 0);
        reader.scan_rollups(end.period.first, |row| {
            if resume {
                row.series()?.into_iter().for_each(|series| fold.put(series));
            }
            *size = row.stored_before + row.bytes;
            Ok(ControlFlow::<()>::Continue(()))
        })?;
        if !resume {
            self.stored_before = *size;
        }
        Ok(())
    }

    fn chunk(&mut self, chunk: &Chunk<'_>) -> Result<ControlFlow<()>, FoldError> {
        let mut records = chunk.records();
        let mut before = self.reader.moment_before(chunk.header.first, chunk.header.base_time);
        while let Some(record) = records.next_record()? {
            let moment = self.reader.moment(record.seq, record.time);
            if record.seq >= self.from && self.record(&record, moment, before)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            before = moment;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn record(
        &mut self,
        record: &Record<'_>,
        moment: Time,
        base_time: Time,
    ) -> Result<ControlFlow<()>, FoldError> {
        let (head, head_time) = self.job.head;
        let start = start_s(moment, self.job.length_s);
        let ended = start < start_s(head_time, self.job.length_s);
        if record.seq > head || (!ended && record.seq > self.partly_until) {
            return Ok(ControlFlow::Break(()));
        }
        if self.open.is_none_or(|period| period.start_s != start) {
            let upto = self.close();
            let enough = upto.is_some_and(|upto| upto.next() >= self.job.before);
            if enough || self.bytes >= JOB_BYTES_MAX {
                return Ok(ControlFlow::Break(()));
            }
            self.open = Some(Period {
                first: record.seq,
                last: record.seq,
                base_time,
                last_time: moment,
                length_s: self.job.length_s,
                start_s: start,
            });
        }
        self.fold.add(record, start)?;
        if let Some(open) = &mut self.open {
            (open.last, open.last_time) = (record.seq, moment);
        }
        self.changed = true;
        Ok(ControlFlow::Continue(()))
    }

    /// Closes the open period and returns its last position; `None` if none is open.
    fn close(&mut self) -> Option<Seq> {
        let period = self.open.take()?;
        let series = self.fold.drain();
        let rows = rollup::encode(&period, series, self.stored_before, ROW_BYTES_MAX);
        let bytes = rows.iter().map(Vec::len).sum::<usize>();
        self.stored_before += bytes as u64;
        if std::mem::take(&mut self.changed) {
            self.bytes += bytes;
            self.done.push(RolledUp { period, rows });
        }
        Some(period.last)
    }
}

/// Folds in a thread beside the writer, one job at a time.
#[derive(Debug, Default)]
pub struct RollupThread {
    running: Option<JoinHandle<Result<Vec<RolledUp>, JobError>>>,
    stop: Arc<AtomicBool>,
}

impl RollupThread {
    /// Starts a job, unless one is running.
    pub fn start(&mut self, reader: LogReader, job: Job) {
        if self.running.is_some() {
            return;
        }
        let stop = self.stop.clone();
        let work = move || roll_up(&reader, job, &stop);
        match std::thread::Builder::new().name("rollup".into()).spawn(work) {
            Ok(thread) => self.running = Some(thread),
            Err(error) => tracing::error!(
                "cannot start the thread that thins the log: {error}; nothing is deleted until it starts, and fieldlog \
                 tries again"
            ),
        }
    }

    /// The result of a finished job.
    ///
    /// # Errors
    /// [`JobError`]
    pub fn finished(&mut self) -> Result<Option<Vec<RolledUp>>, JobError> {
        match self.running.take_if(|thread| thread.is_finished()) {
            Some(thread) => thread.join().unwrap_or(Err(JobError::Panicked)).map(Some),
            None => Ok(None),
        }
    }

    /// Stops a running job; the log is unchanged.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.running.take() {
            let _ = thread.join();
        }
    }
}

/// Why the log could not be thinned.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Log or archive cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A record cannot be read.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// A bug.
    #[error("the thread that thins the log panicked")]
    Panicked,
}
