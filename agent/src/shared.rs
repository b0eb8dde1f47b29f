//! Shared between the writer and all readers: the view and its position, the log, and counters.
//!
//! Only the writer changes it. Snapshots, rebuilds, sinks, HTTP and metrics read it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use fieldlog_projections::alert::Severity;
use fieldlog_projections::fold::FoldId;
use fieldlog_projections::{CommandState, Epoch, Seq, View};
use tokio::sync::watch;

use crate::command::declared::Code;
use crate::histogram::Histogram;
use crate::log::{DiskStats, LogReader, NoJournal};
use crate::observe::StateUse;
use crate::snapshots::SnapshotStore;

/// Positions of the log and the view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The last durable record.
    pub head: Seq,
    /// The last record in the view.
    pub applied: Seq,
}

/// Shared between the writer and the read side.
#[derive(Debug)]
pub struct Shared {
    /// The epoch of the log.
    pub epoch: Epoch,
    /// The folded state. The writer takes the write lock only to apply what it has just committed.
    pub view: RwLock<View>,
    /// Wakes waiters for a position.
    pub position: watch::Sender<Position>,
    /// The log.
    pub reader: LogReader,
    /// Counters of disk writes.
    pub disk: Arc<DiskStats>,
    /// Snapshots on disk.
    pub snapshots: SnapshotStore,
    /// Counters of the writer.
    pub stats: WriterStats,
    /// Folds that are being rebuilt.
    pub rebuild: RebuildProgress,
    /// Wakes those who tell of alerts: up to where the log has changed in them.
    pub alerts: watch::Sender<Seq>,
}

/// Counters of the writer, since the start.
#[derive(Debug, Default)]
pub struct WriterStats {
    /// Commits because the oldest message had waited long enough.
    pub commits_delay: AtomicU64,
    /// Commits because enough bytes waited.
    pub commits_bytes: AtomicU64,
    /// Commits because a broker's window was full.
    pub commits_window: AtomicU64,
    /// Commits for the agent's own records.
    pub commits_internal: AtomicU64,
    /// Time spent in commits, in microseconds.
    pub commit_micros: AtomicU64,
    /// Longest commit, in microseconds.
    pub commit_micros_max: AtomicU64,
    /// Duration of commits.
    pub commit_duration: Histogram,
    /// Records committed.
    pub events: AtomicU64,
    /// Bytes of records committed, before compression.
    pub event_bytes: AtomicU64,
    /// Messages acknowledged, or finished without a record.
    pub settled: AtomicU64,
    /// Wall clock at the last iteration of the loop, in microseconds; the watchdog's sign of life.
    pub beat: AtomicI64,
    /// Snapshots written.
    pub snapshots: AtomicU64,
    /// Failed attempts to write a snapshot.
    pub snapshot_errors: AtomicU64,
    /// Position of the last snapshot.
    pub snapshot_seq: AtomicU64,
    /// Wall clock of the last snapshot, in microseconds.
    pub snapshot_time: AtomicI64,
    /// Bytes of the last snapshot.
    pub snapshot_bytes: AtomicU64,
    /// Bytes of all snapshots written.
    pub snapshot_bytes_written: AtomicU64,
    /// Snapshots of the past that are kept.
    pub past: AtomicU64,
    /// Bytes of them.
    pub past_bytes: AtomicU64,
    /// Why ingest is blocked; `None` if it is not.
    pub blocked: Mutex<Option<String>>,
    /// Stored cursors that were ahead of the log when it was opened, by sink.
    pub cursors_cut: OnceLock<BTreeMap<String, CursorCut>>,
    /// Sinks whose stored cursor was damaged when the log was opened; nothing counts as acknowledged for them.
    pub cursors_damaged: OnceLock<BTreeSet<String>>,
    /// Why commits do not go to a journal; not set if they do.
    pub no_journal: OnceLock<NoJournal>,
    /// Memory use of the state.
    pub state: StateStats,
    /// Commands.
    pub commands: CommandStats,
    /// Alerts.
    pub alerts: AlertStats,
}

/// Alerts, since the start.
#[derive(Debug, Default)]
pub struct AlertStats {
    /// Those that were raised, by severity.
    pub raised: [AtomicU64; Severity::ALL.len()],
    /// Those that were not, because too many are open.
    pub beyond: AtomicU64,
}

/// Commands, since the start.
#[derive(Debug)]
pub struct CommandStats {
    /// By the state that they came into; a command counts in each of its states.
    states: [AtomicU64; CommandState::ALL.len()],
    /// Those that were not accepted, by the word of their code.
    rejected: Mutex<BTreeMap<&'static str, u64>>,
    /// How long commands were open that were closed, from the request on.
    pub open_duration: Histogram,
}

impl Default for CommandStats {
    fn default() -> CommandStats {
        let open_duration = Histogram::of_commands();
        let rejected = Mutex::new(Code::ALL.iter().map(|code| (code.word(), 0)).collect());
        CommandStats { states: Default::default(), rejected, open_duration }
    }
}

impl CommandStats {
    /// How many commands came into each state.
    pub fn by_state(&self) -> impl Iterator<Item = (CommandState, u64)> {
        CommandState::ALL.into_iter().zip(self.states.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    /// How many commands were not accepted, by the word of each code there is.
    pub fn by_rejection(&self) -> BTreeMap<&'static str, u64> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn requested(&self) {
        self.stepped(CommandState::Requested, None);
    }

    pub(crate) fn stepped(&self, state: CommandState, open_for: Option<Duration>) {
        self.states[state as usize].fetch_add(1, Ordering::Relaxed);
        if let Some(duration) = open_for {
            self.open_duration.observe(duration);
        }
    }

    pub(crate) fn rejected(&self, code: Code) {
        *self.rejected.lock().unwrap_or_else(PoisonError::into_inner).entry(code.word()).or_default() += 1;
    }
}

/// A stored cursor that was ahead of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorCut {
    /// The last position that it had as acknowledged.
    pub newest: Seq,
    /// The last position of the log, up to which the cursor is kept.
    pub head: Seq,
}

/// A [`StateUse`] that others can read.
#[derive(Debug, Default)]
pub struct StateStats {
    bytes_max: AtomicU64,
    bytes: AtomicU64,
    refused: AtomicU64,
    forgotten: AtomicU64,
}

impl StateStats {
    /// The last noted values.
    pub fn get(&self) -> StateUse {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        StateUse {
            bytes_max: get(&self.bytes_max),
            bytes: get(&self.bytes),
            refused: get(&self.refused),
            forgotten: get(&self.forgotten),
        }
    }

    pub(crate) fn note(&self, state: StateUse) {
        self.bytes_max.store(state.bytes_max, Ordering::Relaxed);
        self.bytes.store(state.bytes, Ordering::Relaxed);
        self.refused.store(state.refused, Ordering::Relaxed);
        self.forgotten.store(state.forgotten, Ordering::Relaxed);
    }
}

impl WriterStats {
    /// Why ingest is blocked; `None` if it is not.
    pub fn blocked(&self) -> Option<String> {
        self.blocked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Number of commits, for all reasons.
    pub fn commits(&self) -> u64 {
        [&self.commits_delay, &self.commits_bytes, &self.commits_window, &self.commits_internal]
            .into_iter()
            .map(|c| c.load(Ordering::Relaxed))
            .sum()
    }
}

/// The folds that are being rebuilt, and the progress.
#[derive(Debug, Default)]
pub struct RebuildProgress {
    under_way: Mutex<UnderWay>,
    /// The last record folded so far.
    pub applied: AtomicU64,
}

#[derive(Debug, Default)]
struct UnderWay {
    /// Number of the newest rebuild; older ones give up.
    number: u64,
    folds: Vec<FoldId>,
    /// Folds that could not be rebuilt.
    failed: Vec<FoldId>,
}

impl RebuildProgress {
    /// Whether a rebuild is running.
    pub fn running(&self) -> bool {
        !self.under_way().folds.is_empty()
    }

    /// The folds that are being rebuilt.
    pub fn folds(&self) -> Vec<FoldId> {
        self.under_way().folds.clone()
    }

    /// The folds whose last rebuild failed.
    pub fn failed(&self) -> Vec<FoldId> {
        self.under_way().failed.clone()
    }

    /// Starts a new rebuild, which takes over the folds of a running one. Returns its number and all of its folds.
    pub(crate) fn begin(&self, folds: &[FoldId]) -> (u64, Vec<FoldId>) {
        let mut under_way = self.under_way();
        under_way.number += 1;
        under_way.failed.retain(|failed| !folds.contains(failed));
        for fold in folds {
            if !under_way.folds.contains(fold) {
                under_way.folds.push(*fold);
            }
        }
        self.applied.store(0, Ordering::Relaxed);
        (under_way.number, under_way.folds.clone())
    }

    /// Whether no newer rebuild was started.
    pub(crate) fn is_newest(&self, number: u64) -> bool {
        self.under_way().number == number
    }

    /// A rebuild has ended, successfully or not, unless a newer one has taken over.
    pub(crate) fn end(&self, number: u64, rebuilt: bool) {
        let mut under_way = self.under_way();
        if under_way.number == number {
            let folds = std::mem::take(&mut under_way.folds);
            if !rebuilt {
                under_way.failed.extend(folds);
            }
        }
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
