//! The stored cursors, each with a checksum.

use redb::{ReadableTable, ReadableTableMetadata};

use super::checked::{CHECKED, unwrap, wrap};
use super::error::Fault;
use super::existing::existing;
use super::{CURSORS, LogError, LogReader};

/// First bytes of cursors written without a checksum.
const UNCHECKED: [u8; 2] = [1, 2];

/// Stores cursors.
pub(super) fn put<'a>(
    txn: &redb::WriteTransaction,
    cursors: impl Iterator<Item = (&'a String, &'a Vec<u8>)>,
) -> Result<(), Fault> {
    let mut cursors = cursors.peekable();
    if cursors.peek().is_none() {
        return Ok(());
    }
    let mut table = txn.open_table(CURSORS)?;
    for (name, cursor) in cursors {
        let stored = wrap(CHECKED, name.as_bytes(), cursor);
        table.insert(name.as_str(), stored.as_slice())?;
    }
    Ok(())
}

/// Adds checksums to cursors written by a version without them.
pub(super) fn check_all(txn: &redb::WriteTransaction) -> Result<(), Fault> {
    let mut unchecked = Vec::new();
    {
        let table = txn.open_table(CURSORS)?;
        for entry in table.iter()? {
            let (name, stored) = entry?;
            if stored.value().first().is_some_and(|first| UNCHECKED.contains(first)) {
                unchecked.push((name.value().to_owned(), stored.value().to_vec()));
            }
        }
    }
    put(txn, unchecked.iter().map(|(name, cursor)| (name, cursor)))
}

/// The cursor in a stored value; `None` if it is damaged.
fn cursor(name: &str, stored: &[u8]) -> Option<Vec<u8>> {
    match stored.first() {
        Some(&CHECKED) => unwrap(CHECKED, name.as_bytes(), stored).map(<[u8]>::to_vec),
        Some(first) if UNCHECKED.contains(first) => Some(stored.to_vec()),
        _ => None,
    }
}

/// The name of a cursor, and the cursor unless it is damaged.
type NamedCursor = (String, Option<Vec<u8>>);

impl LogReader {
    /// The stored cursor of a name, as it was committed.
    ///
    /// # Errors
    /// [`LogError::Cursor`] if it is damaged; [`LogError`] if the store cannot be read.
    pub fn cursor(&self, name: &str) -> Result<Option<Vec<u8>>, LogError> {
        // There are few, and a look-up may miss the name if another one is damaged.
        let found = self.all_cursors()?.into_iter().find(|(found, _)| found == name);
        let damaged = || LogError::Cursor { name: name.to_owned() };
        found.map(|(_, cursor)| cursor.ok_or_else(damaged)).transpose()
    }

    /// All stored cursors with their names, as committed; damaged ones are left out.
    ///
    /// # Errors
    /// [`LogError`] if the store cannot be read.
    pub fn cursors(&self) -> Result<Vec<(String, Vec<u8>)>, LogError> {
        Ok(self.all_cursors()?.into_iter().filter_map(|(name, cursor)| Some((name, cursor?))).collect())
    }

    /// Names of the damaged cursors, as found: the damage may be in a name.
    ///
    /// # Errors
    /// As [`LogReader::cursors`].
    pub fn cursors_damaged(&self) -> Result<Vec<String>, LogError> {
        let all = self.all_cursors()?.into_iter();
        Ok(all.filter(|(_, cursor)| cursor.is_none()).map(|(name, _)| name).collect())
    }

    fn all_cursors(&self) -> Result<Vec<NamedCursor>, LogError> {
        let newer = self.tail.held().cursors.clone();
        let mut all = self.stored_cursors()?;
        all.retain(|(name, _)| !newer.contains_key(name));
        all.extend(newer.into_iter().map(|(name, cursor)| (name, Some(cursor))));
        Ok(all)
    }

    fn stored_cursors(&self) -> Result<Vec<NamedCursor>, LogError> {
        let op = "read the cursors";
        self.read(op, |txn| {
            let Some(table) = existing(txn, CURSORS)? else { return Ok(Vec::new()) };
            let mut cursors = Vec::new();
            for entry in table.iter()? {
                let (name, stored) = entry?;
                cursors.push((name.value().to_owned(), cursor(name.value(), stored.value())));
            }
            if cursors.len() as u64 != table.len()? {
                return Err(LogError::Damaged { op, why: "cursors are missing".into() }.into());
            }
            Ok(cursors)
        })
    }
}
