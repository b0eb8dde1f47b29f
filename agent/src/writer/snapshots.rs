//! Decides when a snapshot is due, and writes it in the background.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use fieldlog_projections::{Seq, Time, View};

use crate::clock::Clock;
use crate::config::SnapshotConfig;
use crate::shared::{Shared, WriterStats};
use crate::snapshots::past::{PastSnapshot, spacing};

/// Most bytes per record that snapshots write because of the time alone: a third of what an event takes in the log. Replaying
/// these records at a start costs less than reading the snapshot.
const BYTES_PER_RECORD: u64 = 16;

/// Decides when snapshots are due, and writes them in the background.
#[derive(Debug)]
pub struct SnapshotWriter {
    shared: Arc<Shared>,
    clock: Clock,
    config: SnapshotConfig,
    last: (Seq, Instant),
    /// The last snapshot of the past.
    past: Seq,
    /// Size of a snapshot of the past that did not fit into the budget.
    past_too_large: Arc<AtomicU64>,
    short_of_space: bool,
    /// The oldest snapshot holds records that should be deleted by now.
    outlived: bool,
    writing: Option<JoinHandle<()>>,
}

/// What a background thread does.
#[derive(Debug)]
struct Job {
    shared: Arc<Shared>,
    now: Time,
    /// A snapshot, and how many to keep of them.
    snapshot: Option<usize>,
    /// A snapshot of the past.
    past: bool,
    past_bytes_max: u64,
    past_too_large: Arc<AtomicU64>,
}

impl SnapshotWriter {
    /// Counts from the newest snapshots and from now.
    pub fn new(shared: Arc<Shared>, config: &SnapshotConfig, clock: Clock) -> SnapshotWriter {
        let last = (Seq(shared.stats.snapshot_seq.load(Ordering::Relaxed)), clock.now());
        let past = shared.snapshots.past(shared.epoch).unwrap_or_default();
        note_past(&shared.stats, &past);
        SnapshotWriter {
            past: past.last().map_or(Seq(0), |past| past.seq),
            past_too_large: Arc::default(),
            short_of_space: false,
            outlived: false,
            config: config.clone(),
            shared,
            clock,
            last,
            writing: None,
        }
    }

    /// Whether a snapshot is due, and can begin.
    pub fn is_due(&mut self, head: Seq, now: Instant, config: &SnapshotConfig) -> bool {
        if self.config != *config {
            self.config = config.clone();
        }
        let events = head.0.saturating_sub(self.last.0.0);
        let elapsed = now.saturating_duration_since(self.last.1);
        let bytes = self.shared.stats.snapshot_bytes.load(Ordering::Relaxed);
        let worth = events > bytes / BYTES_PER_RECORD || (self.outlived && events > 0);
        let due = events >= config.events || (worth && elapsed >= config.interval);
        due && self.is_free()
    }

    /// Starts a snapshot of the past if one is due.
    pub fn past_if_due(&mut self, head: Seq) {
        if self.past_is_due(head) {
            self.start(None);
        }
    }

    /// Starts a snapshot of the current view, unless one is being written or folds are being rebuilt: with it, records
    /// that these need could be deleted.
    pub fn begin(&mut self) {
        self.start(Some(self.config.keep));
    }

    /// The same; with `only`, deletes all older ones.
    pub fn begin_for(&mut self, only: bool) {
        self.start(Some(if only { 1 } else { self.config.keep }));
    }

    /// Notes whether the oldest snapshot holds records that are too old: newer ones must take its place.
    pub fn outlived(&mut self, outlived: bool) {
        self.outlived = outlived;
    }

    /// Notes whether the disk is full. Then it has no room for snapshots of the past.
    pub fn short_of_space(&mut self, short: bool) {
        self.short_of_space = short;
        if short && self.shared.stats.past.load(Ordering::Relaxed) > 0 && !self.is_writing() {
            tracing::warn!(
                "the disk is short of space: deleting the snapshots of the past, so that states at past \
                 moments take longer to answer or cannot be answered"
            );
            self.spawn(None, None);
        }
    }

    fn is_writing(&self) -> bool {
        self.writing.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    fn is_free(&self) -> bool {
        !self.is_writing() && !self.shared.rebuild.running()
    }

    fn past_is_due(&self, head: Seq) -> bool {
        let stats = &self.shared.stats;
        let (count, bytes) = (stats.past.load(Ordering::Relaxed), stats.past_bytes.load(Ordering::Relaxed));
        head.0.saturating_sub(self.past.0) >= spacing(bytes / count.max(1))
            && !self.short_of_space
            && self.config.past_bytes_max > self.past_too_large.load(Ordering::Relaxed)
    }

    fn start(&mut self, snapshot: Option<usize>) {
        if !self.is_free() {
            return;
        }
        // Shared, not copied, and written without the lock: the writer copies what it changes meanwhile.
        let view = {
            let view = self.shared.view.read().unwrap_or_else(PoisonError::into_inner);
            if snapshot.is_some() { view.share() } else { view.share_without_aggregates() }
        };
        self.spawn(Some(view), snapshot);
    }

    fn spawn(&mut self, view: Option<View>, snapshot: Option<usize>) {
        let seq = view.as_ref().map(|view| view.seq);
        if let (Some(seq), Some(_)) = (seq, snapshot) {
            self.last = (seq, self.clock.now());
        }
        let past = seq.filter(|seq| self.past_is_due(*seq));
        self.past = past.unwrap_or(self.past);
        let job = Job {
            shared: self.shared.clone(),
            now: self.clock.wall(),
            snapshot,
            past: past.is_some(),
            past_bytes_max: if self.short_of_space { 0 } else { self.config.past_bytes_max },
            past_too_large: self.past_too_large.clone(),
        };
        match std::thread::Builder::new().name("snapshot".into()).spawn(move || job.run(view.as_ref())) {
            Ok(thread) => self.writing = Some(thread),
            Err(error) => tracing::error!("cannot start the snapshot thread: {error}"),
        }
    }

    /// Writes a last snapshot, if anything has happened since the previous one, and waits for it.
    pub fn finish(&mut self) {
        self.wait();
        let head = self.shared.position.borrow().applied;
        if head > self.last.0 {
            self.begin();
            self.wait();
        }
    }

    fn wait(&mut self) {
        if let Some(thread) = self.writing.take()
            && thread.join().is_err()
        {
            tracing::error!("the snapshot thread panicked");
        }
    }
}

impl Job {
    fn run(&self, view: Option<&View>) {
        if let (Some(view), Some(keep)) = (view, self.snapshot) {
            save(&self.shared, view, self.now, keep);
        }
        if let Err(error) = self.keep_past(view.filter(|_| self.past)) {
            self.shared.stats.snapshot_errors.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                "cannot write or delete snapshots of the past in {}: {error}; the log is not affected, but states at past \
                 moments take longer to answer",
                self.shared.snapshots.dir().display()
            );
        }
    }

    /// Writes a snapshot of the past, and deletes what is too much.
    fn keep_past(&self, view: Option<&View>) -> io::Result<()> {
        let shared = &self.shared;
        let written = view.map(|view| shared.snapshots.save_past(view, shared.epoch)).transpose()?;
        let range = shared.reader.range().map_err(io::Error::other)?;
        let first = range.map_or(Seq(1), |(first, _)| first);
        shared.stats.snapshot_bytes_written.fetch_add(written.unwrap_or(0), Ordering::Relaxed);
        let left = shared.snapshots.thin_past(shared.epoch, first, self.past_bytes_max)?;
        note_past(&shared.stats, &left);
        if let Some(too_large) = written.filter(|bytes| *bytes > self.past_bytes_max) {
            self.past_too_large.store(too_large, Ordering::Relaxed);
            tracing::warn!(
                "a snapshot of the past has {too_large} bytes, more than snapshots.past_bytes_max, {}: none is kept, so states at \
                 past moments take longer to answer. Raise it, or set it to 0",
                self.past_bytes_max
            );
        }
        Ok(())
    }
}

fn note_past(stats: &WriterStats, past: &[PastSnapshot]) {
    stats.past.store(past.len() as u64, Ordering::Relaxed);
    stats.past_bytes.store(past.iter().map(|past| past.bytes).sum(), Ordering::Relaxed);
}

fn save(shared: &Shared, view: &View, now: Time, keep: usize) {
    let (stats, seq) = (&shared.stats, view.seq);
    match shared.snapshots.save(view, shared.epoch, keep).map(|(_, size)| size) {
        Ok(size) => {
            stats.snapshots.fetch_add(1, Ordering::Relaxed);
            stats.snapshot_seq.store(seq.0, Ordering::Relaxed);
            stats.snapshot_time.store(now.0, Ordering::Relaxed);
            stats.snapshot_bytes.store(size, Ordering::Relaxed);
            stats.snapshot_bytes_written.fetch_add(size, Ordering::Relaxed);
            tracing::debug!("snapshot at sequence {seq}, {size} bytes");
        }
        Err(error) => {
            stats.snapshot_errors.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                "cannot write the snapshot at sequence {seq} into {}: {error}; the log is not affected, but the next \
                 start will replay more records",
                shared.snapshots.dir().display()
            );
        }
    }
}

#[cfg(test)]
mod tests;
