//! Decides when a snapshot is due, and writes it in the background.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use fieldlog_projections::{Seq, Time, View};

use crate::clock::Clock;
use crate::config::SnapshotConfig;
use crate::shared::Shared;

/// Decides when snapshots are due, and writes them in the background.
#[derive(Debug)]
pub struct SnapshotWriter {
    shared: Arc<Shared>,
    clock: Clock,
    keep: usize,
    last: (Seq, Instant),
    writing: Option<JoinHandle<()>>,
}

impl SnapshotWriter {
    /// Counts from the newest snapshot and from now.
    pub fn new(shared: Arc<Shared>, config: &SnapshotConfig, clock: Clock) -> SnapshotWriter {
        let last = (Seq(shared.stats.snapshot_seq.load(Ordering::Relaxed)), clock.now());
        SnapshotWriter { shared, clock, keep: config.keep, last, writing: None }
    }

    /// Whether a snapshot is due, and can begin.
    pub fn is_due(&mut self, head: Seq, now: Instant, config: &SnapshotConfig) -> bool {
        self.keep = config.keep;
        let events = head.0.saturating_sub(self.last.0.0);
        let elapsed = now.saturating_duration_since(self.last.1);
        let due = events >= config.events || (events > 0 && elapsed >= config.interval);
        due && self.is_free()
    }

    /// Starts a snapshot of the current view, unless one is being written or folds are being rebuilt: with it, records
    /// that these need could be deleted.
    pub fn begin(&mut self) {
        self.begin_for(false);
    }

    /// The same; with `only`, deletes all older ones.
    pub fn begin_for(&mut self, only: bool) {
        if !self.is_free() {
            return;
        }
        // Shared, not copied, and written without the lock: the writer copies what it changes meanwhile.
        let view = self.shared.view.read().unwrap_or_else(PoisonError::into_inner).share();
        self.last = (view.seq, self.clock.now());
        let now = self.clock.wall();
        let (shared, keep) = (self.shared.clone(), if only { 1 } else { self.keep });
        let work = move || save(&shared, &view, now, keep);
        match std::thread::Builder::new().name("snapshot".into()).spawn(work) {
            Ok(thread) => self.writing = Some(thread),
            Err(error) => tracing::error!("cannot start the snapshot thread: {error}"),
        }
    }

    fn is_free(&self) -> bool {
        self.writing.as_ref().is_none_or(JoinHandle::is_finished) && !self.shared.rebuild.running()
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
