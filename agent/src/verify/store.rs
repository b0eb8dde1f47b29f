//! Checks the store itself, and compares the snapshots with the log.

use std::path::Path;

use fieldlog_projections::{Epoch, Seq};

use crate::log::{Log, LogError};
use crate::snapshots;

/// Checks every page of the store, including those without records.
pub(super) fn check(log: &mut Log) -> Result<Option<String>, LogError> {
    let wrong = "the newest commit does not match its checksums, or the account of the pages in use is wrong";
    Ok((!log.check_store()?).then(|| wrong.to_owned()))
}

/// Whether a snapshot has records that the log lacks.
pub(super) fn snapshots_ahead(data_dir: &Path, epoch: Epoch, head: Seq) -> Result<Option<String>, LogError> {
    let dir = data_dir.join(snapshots::DIR_NAME);
    let found = snapshots::traces(&dir).map_err(|source| LogError::File { path: dir, source })?;
    let in_use = found.into_iter().filter(|snapshot| !snapshot.is_aside());
    let furthest = in_use.filter_map(|s| s.header.ok()).filter(|h| h.epoch == epoch).map(|h| h.seq).max();
    Ok(furthest.filter(|seq| *seq > head).map(|seq| {
        format!("a snapshot goes up to {seq}, and the log ends at {head}: its newest records are gone")
    }))
}
