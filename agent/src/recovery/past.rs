//! The state at a past moment: the nearest snapshot before it, and a replay of what is asked for from there.

use std::ops::ControlFlow;
use std::path::PathBuf;

use fieldlog_projections::fold::FoldId;
use fieldlog_projections::view::{FoldError, ValuesOf};
use fieldlog_projections::{Epoch, Seq, View};

use super::{LogState, RecoveryError, Verdict, judge};
use crate::log::LogReader;
use crate::snapshots::past::SPACING;
use crate::snapshots::{SnapshotFault, SnapshotStore};

/// Attempts, if the front of the log is deleted during a replay.
const TRIES: usize = 3;

/// What is asked of a past state, beside the devices.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// These folds.
    pub folds: &'a [FoldId],
    /// These values.
    pub values: ValuesOf,
}

/// A past state, and how it was obtained.
#[derive(Debug)]
pub struct PastState {
    /// The state; it has what was wanted.
    pub view: View,
    /// The snapshot it was made from; 0 if it was made from the first record on.
    pub base: Seq,
    /// Records read on top.
    pub replayed: u64,
}

/// Where a replay can begin.
#[derive(Debug)]
struct Base {
    seq: Seq,
    /// The file; none for the state before the first record.
    snapshot: Option<PathBuf>,
    /// It is a snapshot of the past, without which the agent can do.
    past: bool,
}

/// The state at `until`, or at the end of the log if that is earlier, unless `give_up`, which is called between chunks,
/// returns `true`.
///
/// # Errors
/// [`RecoveryError`]; [`RecoveryError::NoPast`] if no snapshot before that moment has what is wanted and the first records
/// are deleted.
pub fn state_at(
    store: &SnapshotStore,
    reader: &LogReader,
    epoch: Epoch,
    until: Seq,
    wanted: Wanted<'_>,
    give_up: &dyn Fn() -> bool,
) -> Result<PastState, RecoveryError> {
    let mut tries = 1;
    loop {
        let log = LogState { epoch, range: reader.range()? };
        let base = load(store, log, until, wanted)?;
        match replay(base, reader, until, wanted.values, give_up) {
            // The records after the snapshot were deleted between the choice and the replay.
            Err(RecoveryError::Fold { source: FoldError::Missing { .. }, .. }) if tries < TRIES => tries += 1,
            result => return result,
        }
    }
}

/// The earliest moment whose state can be replayed: the state at a snapshot, or before the first record.
///
/// # Errors
/// [`RecoveryError`] if log or directory cannot be read.
pub fn earliest(
    store: &SnapshotStore,
    reader: &LogReader,
    epoch: Epoch,
) -> Result<Option<Seq>, RecoveryError> {
    let log = LogState { epoch, range: reader.range()? };
    Ok(bases(store, log, Seq(u64::MAX))?.iter().map(|base| base.seq).min())
}

fn replay(
    mut view: View,
    reader: &LogReader,
    until: Seq,
    values: ValuesOf,
    give_up: &dyn Fn() -> bool,
) -> Result<PastState, RecoveryError> {
    let base = view.seq;
    let failed = reader.scan(base.next(), |chunk| {
        if chunk.header.first > until {
            return ControlFlow::Break(None);
        }
        if give_up() {
            return ControlFlow::Break(Some(RecoveryError::GivenUp));
        }
        match view.apply_part(chunk.records(), until, values) {
            Ok(()) if view.seq >= until => ControlFlow::Break(None),
            Ok(()) => ControlFlow::Continue(()),
            Err(source) => ControlFlow::Break(Some(RecoveryError::Fold { from: base, source })),
        }
    })?;
    match failed.flatten() {
        Some(error) => Err(error),
        None => Ok(PastState { base, replayed: view.seq.0 - base.0, view }),
    }
}

/// The newest base before `until` that has what is wanted.
fn load(store: &SnapshotStore, log: LogState, until: Seq, wanted: Wanted<'_>) -> Result<View, RecoveryError> {
    for base in bases(store, log, until)? {
        let Some(path) = base.snapshot else { return Ok(View::part(wanted.folds)) };
        match store.load_part(&path, wanted.folds) {
            Ok(view) if wanted.folds.iter().all(|fold| !view.is_stale(*fold)) => return Ok(view),
            // Written while a fold was rebuilt, or by a version that lacks it.
            Ok(_) => {}
            Err(SnapshotFault::Content(fault)) if base.past && !store.is_untouched() => {
                tracing::warn!(
                    "deleting {}: {fault}; states at moments after it are replayed from an older snapshot",
                    path.display()
                );
                let _ = std::fs::remove_file(&path);
            }
            Err(fault) => tracing::debug!("snapshot {} passed over: {fault}", path.display()),
        }
    }
    let first = log.range.map_or(Seq(1), |(first, _)| first);
    Err(RecoveryError::NoPast { first })
}

/// The bases at or before `until` that the log continues, newest first.
fn bases(store: &SnapshotStore, log: LogState, until: Seq) -> Result<Vec<Base>, RecoveryError> {
    let unusable = |source| RecoveryError::Snapshots { dir: store.dir().to_owned(), source };
    let (first, head) = log.range.unwrap_or((Seq(1), Seq(0)));
    let past = store.past(log.epoch).map_err(unusable)?;
    let mut bases: Vec<Base> = past
        .into_iter()
        .filter(|past| past.seq <= until.min(head) && past.seq.next() >= first)
        .map(|past| Base { seq: past.seq, snapshot: Some(past.path), past: true })
        .collect();
    for candidate in store.candidates().map_err(unusable)? {
        let Ok(header) = &candidate.header else { continue };
        let usable = judge(Some(header), log) == Verdict::Use && header.seq <= until;
        // It is read as a whole, to be checked: one of the past is cheaper unless it is much older.
        let spared = |base: &Base| base.past && header.seq.0.saturating_sub(base.seq.0) <= SPACING;
        if usable && !bases.iter().any(|base| base.seq <= header.seq && spared(base)) {
            bases.push(Base { seq: header.seq, snapshot: Some(candidate.path), past: false });
        }
    }
    if first == Seq(1) {
        bases.push(Base { seq: Seq(0), snapshot: None, past: false });
    }
    bases.sort_by_key(|base| std::cmp::Reverse(base.seq));
    Ok(bases)
}
