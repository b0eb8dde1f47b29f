//! The extent of damage.

use fieldlog_projections::Seq;

use super::{CHUNKS, LogError, LogReader};

impl LogReader {
    /// The first position of the chunk after the one that begins at `at`; `None` if that is the last one. Reads no
    /// chunk, so it also works for damaged ones.
    ///
    /// # Errors
    /// [`LogError::Store`]
    pub fn chunk_after(&self, at: Seq) -> Result<Option<Seq>, LogError> {
        self.read("read the log", |txn| {
            let chunks = txn.open_table(CHUNKS)?;
            let next = chunks.range(at.next().0..)?.next();
            let next = next.transpose()?;
            Ok(next.map(|(key, _)| Seq(key.value())))
        })
    }
}
