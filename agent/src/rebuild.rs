//! Rebuilds folds in the background, when a snapshot lacks them or their settings have changed.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use fieldlog_projections::fold::FoldId;
use fieldlog_projections::view::Rebuild;
use fieldlog_projections::{Devices, Seq, Settings};

use crate::shared::Shared;

/// Maximum records folded under the lock at the end.
const LAST_STRETCH: u64 = 5_000;

/// Starts rebuilding folds from the log, with these settings; they replace those of the view once they have
/// caught up. A running rebuild gives up, and this one takes over its folds.
pub fn start(shared: &Arc<Shared>, folds: &[FoldId], settings: Settings) {
    let (number, folds) = shared.rebuild.begin(folds);
    let thread = {
        let shared = shared.clone();
        move || finish(&shared, number, &names(&folds), run(&shared, number, &folds, &settings))
    };
    if let Err(error) = std::thread::Builder::new().name("rebuild".into()).spawn(thread) {
        tracing::error!(
            "cannot start the rebuild thread: {error}; restart fieldlog to rebuild what is missing"
        );
        shared.rebuild.end(number, false);
    }
}

/// The names of some folds, in words.
pub fn names(folds: &[FoldId]) -> String {
    folds.iter().map(|fold| fold.name).collect::<Vec<_>>().join(", ")
}

fn finish(shared: &Shared, number: u64, names: &str, result: Result<Option<Seq>, String>) {
    let rebuilt = result.is_ok();
    match result {
        Ok(Some(seq)) => tracing::info!("rebuilt from the log up to sequence {seq}: {names}"),
        Ok(None) => {}
        Err(error) => tracing::error!(
            "cannot rebuild {names} from the log: {error}; the earlier state stays in use. Restart fieldlog to try \
             again"
        ),
    }
    shared.rebuild.end(number, rebuilt);
}

/// Returns the final position; `None` if a newer rebuild was started meanwhile.
fn run(shared: &Shared, number: u64, folds: &[FoldId], settings: &Settings) -> Result<Option<Seq>, String> {
    let mut fresh = Rebuild::new(folds, settings);
    loop {
        let applied = shared.position.borrow().applied;
        if applied.0.saturating_sub(fresh.seq().0) <= LAST_STRETCH {
            let mut view = shared.view.write().unwrap_or_else(PoisonError::into_inner);
            let until = view.seq;
            if !fold(shared, number, &mut fresh, until, &view.devices)? {
                return Ok(None);
            }
            if fresh.missed() {
                tracing::warn!(
                    "the front of the log is deleted, so these begin with its first record: {}; answers from aggregates \
                     say from when on they are complete",
                    names(folds)
                );
            }
            fresh.replace_in(&mut view).map_err(|e| e.to_string())?;
            return Ok(Some(until));
        }
        // Devices and attributes are known; only deleted values are missing.
        let devices = shared.view.read().unwrap_or_else(PoisonError::into_inner).devices.clone();
        if !fold(shared, number, &mut fresh, applied, &devices)? {
            return Ok(None);
        }
    }
}

/// `false` if a newer rebuild was started meanwhile.
fn fold(
    shared: &Shared,
    number: u64,
    fresh: &mut Rebuild,
    until: Seq,
    devices: &Devices,
) -> Result<bool, String> {
    let stop = shared.reader.scan(fresh.seq().next(), |chunk| {
        if !shared.rebuild.is_newest(number) {
            return ControlFlow::Break(Ok(()));
        }
        let applied = fresh.apply_chunk_until(devices, chunk, until);
        shared.rebuild.applied.store(fresh.seq().0, Ordering::Relaxed);
        match applied {
            Err(error) => ControlFlow::Break(Err(error.to_string())),
            Ok(()) if fresh.seq() >= until => ControlFlow::Break(Ok(())),
            Ok(()) => ControlFlow::Continue(()),
        }
    });
    match stop.map_err(|e| e.to_string())? {
        Some(Err(error)) => Err(error),
        _ => Ok(shared.rebuild.is_newest(number)),
    }
}
