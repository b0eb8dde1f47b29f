//! Rebuilding aggregates beside the ones that are being served, when their windows or their fold have changed.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use fieldlog_projections::view::FoldError;
use fieldlog_projections::{Aggregates, Chunk, Devices, Seq, Window};

use crate::shared::Shared;

/// So few records are folded under the lock at the end.
const LAST_STRETCH: u64 = 5_000;

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

/// Aggregates that are not served yet.
struct Fresh {
    /// The last record that is in them.
    seq: Seq,
    aggregates: Aggregates,
}

/// `false` if a newer rebuild was asked for meanwhile.
fn run(shared: &Shared, number: u64, windows: Vec<Window>) -> Result<bool, String> {
    let mut fresh = Fresh { seq: Seq(0), aggregates: Aggregates::new(windows) };
    loop {
        let applied = shared.position.borrow().applied;
        if applied.0.saturating_sub(fresh.seq.0) <= LAST_STRETCH {
            let mut view = shared.view.write().unwrap_or_else(PoisonError::into_inner);
            let until = view.seq;
            if !fold(shared, number, &mut fresh, until, &view.devices)? || fresh.seq != until {
                return Ok(false);
            }
            if fresh.aggregates.missing_until().is_some() {
                tracing::warn!(
                    "the front of the log is deleted, so the aggregates in memory begin with its first record; answers \
                     say from when on they are complete"
                );
            }
            view.aggregates = fresh.aggregates;
            return Ok(true);
        }
        // Which devices and attributes there are is known: only what has been deleted of their values is not.
        let devices = shared.view.read().unwrap_or_else(PoisonError::into_inner).devices.clone();
        if !fold(shared, number, &mut fresh, applied, &devices)? {
            return Ok(false);
        }
    }
}

fn fold(
    shared: &Shared,
    number: u64,
    fresh: &mut Fresh,
    until: Seq,
    devices: &Devices,
) -> Result<bool, String> {
    let stop = shared.reader.scan(fresh.seq.next(), |chunk| {
        if shared.rebuild.wanted.load(Ordering::Acquire) != number {
            return ControlFlow::Break(Ok(()));
        }
        let applied = fresh.apply(chunk, until, devices);
        shared.rebuild.applied.store(fresh.seq.0, Ordering::Relaxed);
        match applied {
            Err(error) => ControlFlow::Break(Err(error.to_string())),
            Ok(()) if fresh.seq >= until => ControlFlow::Break(Ok(())),
            Ok(()) => ControlFlow::Continue(()),
        }
    });
    match stop.map_err(|e| e.to_string())? {
        Some(Err(error)) => Err(error),
        _ => Ok(shared.rebuild.wanted.load(Ordering::Acquire) == number),
    }
}

impl Fresh {
    fn apply(&mut self, chunk: &Chunk<'_>, until: Seq, devices: &Devices) -> Result<(), FoldError> {
        if chunk.header.first > self.seq.next() {
            self.aggregates.miss(chunk.header.base_time);
        }
        let mut records = chunk.records();
        while let Some(record) = records.next_record()? {
            if record.seq > self.seq && record.seq <= until {
                devices.apply_to(&mut self.aggregates, &record)?;
                self.seq = record.seq;
            }
        }
        Ok(())
    }
}
