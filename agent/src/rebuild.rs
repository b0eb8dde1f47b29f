//! Rebuilding aggregates beside the ones that are being served, when their windows or their fold have changed.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use fieldlog_projections::{Seq, View, Window};

use crate::config::WindowConfig;
use crate::writer::Shared;

/// So few records are folded under the lock at the end.
const LAST_STRETCH: u64 = 5_000;

/// How far a rebuild is.
#[derive(Debug, Default)]
pub struct Progress {
    /// Number of the newest rebuild that was asked for; older ones give up.
    wanted: AtomicU64,
    done: AtomicU64,
    /// The last record folded so far.
    pub applied: AtomicU64,
}

impl Progress {
    /// Whether one is under way.
    pub fn running(&self) -> bool {
        self.wanted.load(Ordering::Acquire) != self.done.load(Ordering::Acquire)
    }
}

/// The fold's windows from the configuration's.
pub fn windows(config: &[WindowConfig]) -> Vec<Window> {
    config.iter().map(|w| Window { length_s: w.window_s, keep: w.keep }).collect()
}

/// Begins to fold the log's aggregates anew with `windows`; the view's are replaced when these have caught up.
pub fn start(shared: Arc<Shared>, windows: Vec<Window>) {
    let number = shared.rebuild.wanted.fetch_add(1, Ordering::AcqRel) + 1;
    shared.rebuild.applied.store(0, Ordering::Relaxed);
    let spawned = std::thread::Builder::new()
        .name("rebuild".into())
        .spawn(move || finish(&shared, number, &run(&shared, number, windows)));
    if let Err(error) = spawned {
        tracing::error!(
            "cannot start the rebuild thread: {error}; restart fieldlog to rebuild the aggregates"
        );
    }
}

fn finish(shared: &Shared, number: u64, result: &Result<bool, String>) {
    match result {
        Ok(true) => tracing::info!("aggregates rebuilt up to sequence {}", shared.position.borrow().applied),
        Ok(false) => {}
        Err(error) => tracing::error!("aggregates could not be rebuilt, the old ones stay: {error}"),
    }
    shared.rebuild.done.fetch_max(number, Ordering::AcqRel);
}

/// `false` if a newer rebuild was asked for meanwhile.
fn run(shared: &Shared, number: u64, windows: Vec<Window>) -> Result<bool, String> {
    match shared.reader.range().map_err(|e| e.to_string())? {
        Some((first, _)) if first > Seq(1) => {
            return Err(format!("the log begins at sequence {first}, what was before is trimmed"));
        }
        _ => {}
    }
    let mut fresh = View::new(windows);
    loop {
        let applied = shared.position.borrow().applied;
        if applied.0.saturating_sub(fresh.seq.0) <= LAST_STRETCH {
            let mut view = shared.view.write().unwrap_or_else(PoisonError::into_inner);
            let until = view.seq;
            fold(shared, number, &mut fresh, until)?;
            if fresh.seq != view.seq {
                return Ok(false);
            }
            view.aggregates = fresh.aggregates;
            return Ok(true);
        }
        if !fold(shared, number, &mut fresh, applied)? {
            return Ok(false);
        }
    }
}

fn fold(shared: &Shared, number: u64, view: &mut View, until: Seq) -> Result<bool, String> {
    let stop = shared.reader.scan(view.seq.next(), |chunk| {
        if shared.rebuild.wanted.load(Ordering::Acquire) != number {
            return ControlFlow::Break(Ok(()));
        }
        let applied = view.apply_chunk_until(chunk, until);
        shared.rebuild.applied.store(view.seq.0, Ordering::Relaxed);
        match applied {
            Err(error) => ControlFlow::Break(Err(error.to_string())),
            Ok(()) if view.seq >= until => ControlFlow::Break(Ok(())),
            Ok(()) => ControlFlow::Continue(()),
        }
    });
    match stop.map_err(|e| e.to_string())? {
        Some(Err(error)) => Err(error),
        _ => Ok(shared.rebuild.wanted.load(Ordering::Acquire) == number),
    }
}
