//! Rows of the index that a reader has found damaged, for the writer to make anew.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fieldlog_projections::Seq;

/// By position. A clone is the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Suspects(Arc<Mutex<BTreeSet<Seq>>>);

impl Suspects {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<Seq>> {
        // Each change is complete.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A row is damaged. It is said once.
    pub(super) fn found(&self, row: Seq) {
        if self.lock().insert(row) {
            tracing::warn!(
                "the log's index (table \"index\" in log.redb) is damaged at the row of sequence {row}. No event is lost: \
                 questions by device and type read that part of the log as a whole until a later commit has made the \
                 row anew. The medium may be failing: stop fieldlog and run `fieldlog verify`"
            );
        }
    }

    /// A row is missing.
    pub(super) fn add(&self, row: Seq) {
        self.lock().insert(row);
    }

    /// One of them, which is then no longer known.
    pub(super) fn take(&self) -> Option<Seq> {
        self.lock().pop_first()
    }
}
