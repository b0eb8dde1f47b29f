//! Chooses where to start from at boot. A table of labelled cases; `ARCHITECTURE.md` has the same labels. `past` has the
//! states at past moments.

use std::ops::ControlFlow;
use std::path::PathBuf;

use fieldlog_projections::snapshot::Header;
use fieldlog_projections::view::FoldError;
use fieldlog_projections::{Epoch, Seq, View, Window};

use crate::log::{LogError, LogReader};
use crate::snapshots::SnapshotStore;

pub mod past;

/// The extent of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogState {
    /// Its incarnation.
    pub epoch: Epoch,
    /// Positions of the oldest and newest record; `None` when it is empty.
    pub range: Option<(Seq, Seq)>,
}

/// What to do about one snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// S1: of this epoch, and the log continues it. Load it; if its payload is damaged, treat it as S2.
    Use,
    /// S2: damaged, truncated, or from a newer fieldlog. Try the next older one.
    SkipDamaged,
    /// S3: of another epoch. The log was replaced, so the snapshot does not apply.
    SkipOtherEpoch,
    /// S4: ahead of the log's head. The log was restored from a backup or lost its tail. At boot the snapshot is set
    /// aside; otherwise the log would grow past it with other records and seem to continue it.
    SkipAhead,
    /// S5: the log begins after the record that should follow the snapshot. The records between are gone.
    SkipGap,
}

/// Judges one snapshot by its header.
pub fn judge(header: Option<&Header>, log: LogState) -> Verdict {
    let Some(header) = header else { return Verdict::SkipDamaged };
    let (first, head) = log.range.unwrap_or((Seq(1), Seq(0)));
    if header.epoch != log.epoch {
        Verdict::SkipOtherEpoch
    } else if header.seq > head {
        Verdict::SkipAhead
    } else if header.seq.next() < first {
        Verdict::SkipGap
    } else {
        Verdict::Use
    }
}

/// What to fold from if no snapshot is usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// B0: the log is empty. Begin with an empty state.
    Empty,
    /// B1: the log begins at sequence 1. Fold all of it.
    FoldAll,
    /// B2: the log has been trimmed and no snapshot covers the trimmed records. Refuse to start: a state folded from
    /// the middle would be wrong.
    Refuse,
}

/// Decides what to do without a snapshot.
pub fn fallback(log: LogState) -> Fallback {
    match log.range {
        None => Fallback::Empty,
        Some((Seq(1), _)) => Fallback::FoldAll,
        Some(_) => Fallback::Refuse,
    }
}

/// A view at the head of the log, and how it was obtained.
#[derive(Debug)]
pub struct Recovered {
    /// The view. Its stale folds must be rebuilt.
    pub view: View,
    /// The snapshot it was made from; 0 for none.
    pub snapshot: Seq,
    /// Records folded on top.
    pub replayed: u64,
    /// Lost records, first and last: snapshots that were set aside had them.
    pub lost: Option<(Seq, Seq)>,
    /// One line for each skipped snapshot.
    pub notes: Vec<String>,
}

/// Brings a view to the head of the log, while nothing is appended. Sets aside the snapshots that are ahead of the log.
///
/// # Errors
/// [`RecoveryError`]: the agent does not start with an unproven state.
pub fn recover(
    store: &SnapshotStore,
    reader: &LogReader,
    epoch: Epoch,
    windows: &[Window],
) -> Result<Recovered, RecoveryError> {
    let log = LogState { epoch, range: reader.range()? };
    let mut recovered = base(store, log, windows)?;
    let from = recovered.view.seq;
    let view = &mut recovered.view;
    let failed = reader.scan(from.next(), |chunk| match view.apply_chunk(chunk) {
        Ok(()) => ControlFlow::Continue(()),
        Err(source) => ControlFlow::Break(RecoveryError::Fold { from, source }),
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    recovered.replayed = view.seq.0 - from.0;
    Ok(recovered)
}

/// The newest usable snapshot, or the fallback.
fn base(store: &SnapshotStore, log: LogState, windows: &[Window]) -> Result<Recovered, RecoveryError> {
    let dir = store.dir().to_owned();
    let unusable = |source| RecoveryError::Snapshots { dir: dir.clone(), source };
    let candidates = store.candidates().map_err(unusable)?;
    let mut notes = Vec::new();
    let mut lost = None;
    let head = log.range.map_or(Seq(0), |(_, head)| head);
    store.drop_past_after(log.epoch, head).map_err(unusable)?;
    for candidate in candidates {
        let path = candidate.path.display();
        let header = match &candidate.header {
            Ok(header) => Some(header),
            Err(fault) => {
                notes.push(format!("snapshot {path} passed over: {fault}"));
                None
            }
        };
        match judge(header, log) {
            Verdict::Use => match store.load(&candidate.path, windows) {
                Ok(view) => {
                    return Ok(Recovered { snapshot: view.seq, view, replayed: 0, lost, notes });
                }
                Err(fault) => notes.push(format!("snapshot {path} passed over: {fault}")),
            },
            Verdict::SkipDamaged => {}
            Verdict::SkipOtherEpoch => {
                notes.push(format!("snapshot {path} passed over: it is of another epoch"));
            }
            Verdict::SkipAhead => {
                let aside = store.set_aside(&candidate.path).map_err(unusable)?;
                // Newest position first, so the first one was furthest ahead.
                lost = lost.or(header.map(|header| (head.next(), header.seq)));
                notes.push(format!(
                    "snapshot {path} is ahead of the log; was the log restored from a backup? It is now {}",
                    aside.display()
                ));
            }
            Verdict::SkipGap => {
                notes.push(format!("snapshot {path} passed over: the records after it are trimmed"));
            }
        }
    }
    match fallback(log) {
        Fallback::Empty | Fallback::FoldAll => {
            Ok(Recovered { view: View::new(windows.to_vec()), snapshot: Seq(0), replayed: 0, lost, notes })
        }
        Fallback::Refuse => {
            let first = log.range.map_or(Seq(0), |(first, _)| first);
            Err(RecoveryError::NoBase { dir, first, notes: notes.join("; ") })
        }
    }
}

/// Why there is no view to start from.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The snapshot directory cannot be used.
    #[error("cannot use the snapshots in {}: {source}; check who owns the directory", dir.display())]
    Snapshots {
        /// Which.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A record cannot be folded.
    #[error("cannot rebuild the state from the log, from sequence {from} on: {source}")]
    Fold {
        /// Where the fold started.
        from: Seq,
        /// Why.
        source: FoldError,
    },
    /// There is no state of that moment: the first records are deleted, and no snapshot before it is kept.
    #[error("the log begins at sequence {first}, and no snapshot before that moment is kept")]
    NoPast {
        /// The log's oldest record.
        first: Seq,
    },
    /// Nobody waits for the result any more.
    #[error("the replay was cancelled")]
    GivenUp,
    /// B2.
    #[error(
        "the log begins at sequence {first}, but no snapshot in {} covers the records before it ({notes}); restore a \
         snapshot from a backup, or move the data directory away to begin a new epoch",
        dir.display()
    )]
    NoBase {
        /// The snapshot directory.
        dir: PathBuf,
        /// The log's oldest record.
        first: Seq,
        /// Why each snapshot was skipped.
        notes: String,
    },
}
