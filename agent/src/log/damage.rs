//! How far damage goes.

use fieldlog_projections::Seq;

use super::{CHUNKS, LogError, LogReader};

impl LogReader {
    /// The first position of the chunk after the one that begins at `at`; `None` if that is the last one. No chunk is read, so
    /// this holds for damaged ones, too.
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
