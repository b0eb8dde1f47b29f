//! Deletes records from the front.

use fieldlog_projections::Seq;
use redb::ReadableTable;

use super::error::Fault;
use super::{CHUNKS, index};

/// Maximum chunks deleted by one commit.
const CHUNKS_PER_TRIM: usize = 64;

/// Deletes chunks that are wholly before a position, a bounded number of them, never the last chunk of the log.
pub(super) fn trim(txn: &redb::WriteTransaction, before: Seq) -> Result<Option<(Seq, Seq)>, Fault> {
    let mut chunks = txn.open_table(CHUNKS)?;
    let mut keys = Vec::new();
    for entry in chunks.range(..=before.0)?.take(CHUNKS_PER_TRIM + 1) {
        keys.push(entry?.0.value());
    }
    // A chunk ends where the next one begins; the last key found may extend beyond `before`.
    let Some((&keep, gone)) = keys.split_last() else { return Ok(None) };
    let Some(&first) = gone.first() else { return Ok(None) };
    chunks.retain_in(..keep, |_, _| false)?;
    index::trim(txn, Seq(keep))?;
    Ok(Some((Seq(first), Seq(keep - 1))))
}
