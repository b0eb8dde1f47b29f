//! The stored cursors.

use redb::{ReadableDatabase, ReadableTable};

use super::{CURSORS, LogError, LogReader};

impl LogReader {
    /// Every stored cursor with its name, as it was written.
    ///
    /// # Errors
    /// [`LogError::Store`]
    pub fn cursors(&self) -> Result<Vec<(String, Vec<u8>)>, LogError> {
        let op = "read the cursors";
        let db = self.db()?;
        let txn = db.begin_read().map_err(|e| LogError::store(op, e))?;
        let table = match txn.open_table(CURSORS) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(e) => return Err(LogError::store(op, e)),
        };
        let mut cursors = Vec::new();
        for entry in table.iter().map_err(|e| LogError::store(op, e))? {
            let (name, cursor) = entry.map_err(|e| LogError::store(op, e))?;
            cursors.push((name.value().to_owned(), cursor.value().to_vec()));
        }
        Ok(cursors)
    }
}
