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
        let op = "read the log";
        self.read(op, |txn| {
            let chunks = txn.open_table(CHUNKS).map_err(|e| LogError::store(op, e))?;
            let next = chunks.range(at.next().0..).map_err(|e| LogError::store(op, e))?.next();
            let next = next.transpose().map_err(|e| LogError::store(op, e))?;
            Ok(next.map(|(key, _)| Seq(key.value())))
        })
    }
}
