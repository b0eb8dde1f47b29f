//! The only place that writes to the log, and counts its commits; records are then folded and published, and only after
//! that are their messages acknowledged.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use fieldlog_projections::chunk::RecordBuffer;

use super::{HELD_PATIENCE, Writer, WriterError};
use crate::clock::Clock;
use crate::config::LogConfig;
use crate::log::{Commit, Committed, JournalBounds, Log, LogError};
use crate::shared::Shared;
use crate::window::{Budget, Due, Waiting};

/// The log, with counters for every commit. Nothing else in the writer can write to the log.
pub(super) struct Committer {
    log: Log,
    shared: Arc<Shared>,
    clock: Clock,
    /// Since when the journal has something that the log's file does not.
    waiting_since: Option<Instant>,
}

/// When the contents of the journal are moved, apart from their age.
pub(crate) fn journal_bounds(config: &LogConfig) -> JournalBounds {
    JournalBounds { move_bytes: config.journal_move_bytes }
}

impl Committer {
    pub(super) fn new(log: Log, shared: Arc<Shared>, clock: Clock) -> Committer {
        Committer { log, shared, clock, waiting_since: None }
    }

    /// The log, to look at.
    pub(super) fn log(&self) -> &Log {
        &self.log
    }

    /// See [`Log::keep_quarantined`].
    pub(super) fn keep_quarantined(&mut self, records_max: u64) {
        self.log.keep_quarantined(records_max);
    }

    /// Applies changed bounds of the journal.
    pub(super) fn bound_journal(&mut self, bounds: JournalBounds) {
        self.log.bound_journal(bounds);
    }

    /// Moves the contents of the journal into the log's file if they are this old.
    ///
    /// # Errors
    /// As [`Committer::commit`].
    pub(super) fn move_journal(&mut self, age: Duration) -> Result<(), LogError> {
        let begin = self.clock.now();
        if self.waiting_since.is_some_and(|since| begin.saturating_duration_since(since) >= age) {
            if self.log.move_journal()? {
                self.count(None, &RecordBuffer::default(), self.clock.since(begin));
            }
            self.waiting_since = None;
        }
        Ok(())
    }

    /// Commits and counts; `due` is the reason, `None` for the agent's own purposes. An empty commit is skipped.
    ///
    /// # Errors
    /// [`LogError`]; also if the file was moved away, together with this commit.
    pub(super) fn commit(&mut self, commit: &Commit<'_>, due: Option<Due>) -> Result<Committed, LogError> {
        if commit.is_empty() {
            return self.log.commit(commit);
        }
        let begin = self.clock.now();
        let committed = self.log.commit(commit)?;
        self.count(due, commit.records, self.clock.since(begin));
        match self.log.is_journal_empty() {
            true => self.waiting_since = None,
            false => drop(self.waiting_since.get_or_insert(begin)),
        }
        // Before anything in it is acknowledged.
        self.log.still_there()?;
        Ok(committed)
    }

    /// Closes the log; storing its sums is a commit too.
    ///
    /// # Errors
    /// As [`Log::close`].
    pub(super) fn close(mut self) -> Result<(), LogError> {
        let begin = self.clock.now();
        let noted = self.log.note_end();
        if let Ok(true) = noted {
            self.count(None, &RecordBuffer::default(), self.clock.since(begin));
        }
        let closed = self.log.close();
        noted.map(drop).and(closed)
    }

    fn count(&self, due: Option<Due>, body: &RecordBuffer, took: Duration) {
        let stats = &self.shared.stats;
        let commits = match due {
            Some(Due::Delay) => &stats.commits_delay,
            Some(Due::Bytes) => &stats.commits_bytes,
            Some(Due::Window) => &stats.commits_window,
            None => &stats.commits_internal,
        };
        commits.fetch_add(1, Ordering::Relaxed);
        let micros = took.as_micros() as u64;
        stats.commit_micros.fetch_add(micros, Ordering::Relaxed);
        stats.commit_micros_max.fetch_max(micros, Ordering::Relaxed);
        stats.commit_duration.observe(took);
        stats.events.fetch_add(body.len() as u64, Ordering::Relaxed);
        stats.event_bytes.fetch_add(body.bytes() as u64, Ordering::Relaxed);
    }
}

impl Writer {
    /// Commits if one is due.
    pub(super) fn commit_if_due(&mut self) -> Result<(), WriterError> {
        let held = self.observer.awaits_commit();
        if self.batch.records.is_empty() && !held {
            // There is nothing to store, and everything before is stored: the messages are acknowledged at once.
            self.release();
            return Ok(());
        }
        let now = self.clock.now();
        let age = now.saturating_duration_since(*self.oldest.get_or_insert(now));
        let bytes =
            self.batch.records.bytes() + self.batch.quarantine.iter().map(|(_, p)| p.len()).sum::<usize>();
        let window_full = self.pending.iter().any(|pending| {
            let window = self.windows.get(usize::from(pending.source.0));
            // Unacknowledged messages also fill the source's own window, and may wait longer here.
            let waiting = if held { pending.messages } else { pending.in_flight() };
            window.is_some_and(|window| waiting >= window.size())
        });
        let budget = Budget { delay: self.commit_delay(), bytes: self.config.log.commit_bytes_max };
        match budget.decide(Waiting { age, bytes, window_full }) {
            Ok(due) => self.commit(Some(due)),
            Err(_) => Ok(()),
        }
    }

    /// How long the oldest message may wait for its commit.
    pub(super) fn commit_delay(&self) -> Duration {
        let delay = self.config.log.commit_delay;
        match (self.draining, self.batch.records.is_empty()) {
            (true, _) => Duration::ZERO,
            (false, false) => delay,
            // There is no event: the message waits because its value is held back.
            (false, true) => delay.max(HELD_PATIENCE),
        }
    }

    /// Adds the held-back values whose messages wait for the commit.
    fn record_awaited(&mut self) {
        if self.observer.awaits_commit() {
            self.observer.record_awaited(self.clock.wall(), &mut self.batch);
        }
    }

    /// Commits the batch, whether it is due or not.
    pub(super) fn commit_all(&mut self) -> Result<(), WriterError> {
        self.record_awaited();
        if self.batch.records.is_empty() {
            self.release();
            // Answers that repeat an earlier one wait for nothing.
            self.release_commands();
            return Ok(());
        }
        self.commit(None)
    }

    /// Commits, folds, publishes, acknowledges: in this order.
    pub(super) fn commit(&mut self, due: Option<Due>) -> Result<(), WriterError> {
        self.record_awaited();
        if self.keeper.is_urgent(self.clock.now()) {
            // Its own records are committed together with the batch.
            self.look()?;
            if self.batch.records.is_empty() {
                return Ok(());
            }
        }
        let begin = self.clock.now();
        let cursors = self.cursors.drain_moved();
        let doubted = self.ages.doubted(begin);
        let commit = Commit {
            doubted: (doubted != self.doubted).then_some(doubted),
            quarantine: &self.batch.quarantine,
            resolved: &self.batch.resolved,
            cursors: &cursors,
            trim_before: self.orders.trim_before,
            ..Commit::of(&self.batch.records)
        };
        let committed = self.log.commit(&commit, due)?;
        self.doubted = doubted;
        if committed.trimmed.is_none() {
            self.orders.trim_before = None;
        }
        self.shared.position.send_modify(|p| p.head = committed.last);
        {
            let mut view = self.shared.view.write().unwrap_or_else(PoisonError::into_inner);
            view.apply_records(self.batch.records.records(committed.first), committed.last)?;
        }
        self.shared.position.send_modify(|p| p.applied = committed.last);
        self.observer.committed(committed.last, self.acked_by_required());
        self.alerts_committed(committed.first);
        if let Some(due) = due {
            let idle = begin.saturating_duration_since(self.last_arrival);
            for pending in self.pending.iter() {
                if let Some(window) = self.windows.get_mut(usize::from(pending.source.0)) {
                    window.committed(due, pending.in_flight(), idle, self.config.log.commit_delay);
                }
            }
        }
        self.batch.records.clear();
        self.batch.quarantine.clear();
        self.batch.resolved.clear();
        self.release();
        self.release_commands();
        self.last_commit = self.clock.now();
        self.snapshot_if_due()
    }

    /// Starts a snapshot if one is due. The log's file has everything that is in it.
    pub(super) fn snapshot_if_due(&mut self) -> Result<(), WriterError> {
        let head = self.log.log().head();
        if self.snapshots.is_due(head, self.clock.now(), &self.config.snapshots) {
            self.log.move_journal(Duration::ZERO)?;
            self.snapshots.begin();
        } else {
            // Nothing needs one, so it may have records that are only in the journal.
            self.snapshots.past_if_due(head);
        }
        Ok(())
    }

    /// Stores cursors in a commit of their own if there was no other for a while.
    pub(super) fn store_cursors(&mut self, patience: Duration) -> Result<(), WriterError> {
        if self.cursors.waiting_for(patience, self.clock.now()) && self.batch.records.is_empty() {
            if self.observer.awaits_commit() {
                return self.commit(None);
            }
            let cursors = self.cursors.drain_moved();
            let empty = RecordBuffer::after(self.log.log().last_time());
            self.log.commit(&Commit { cursors: &cursors, ..Commit::of(&empty) }, None)?;
        }
        Ok(())
    }

    /// Releases the acknowledgements.
    fn release(&mut self) {
        self.oldest = None;
        self.in_hand.committed();
        let released = self.pending.release();
        self.shared.stats.settled.fetch_add(released as u64, Ordering::Relaxed);
    }
}
