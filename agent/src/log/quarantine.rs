//! The table `quarantine`: payloads that could not be decoded, each with a checksum.

use fieldlog_projections::Seq;
use redb::{ReadableTable, ReadableTableMetadata};

use super::checked::{CHECKED, unwrap, wrap};
use super::error::Fault;
use super::{LogError, LogReader, QUARANTINE};

/// Stores payloads by the position of their record, and deletes the oldest beyond `records_max`.
pub(super) fn put<'a>(
    txn: &redb::WriteTransaction,
    payloads: impl Iterator<Item = (Seq, &'a Vec<u8>)>,
    records_max: u64,
) -> Result<(), Fault> {
    let mut payloads = payloads.peekable();
    if payloads.peek().is_none() {
        return Ok(());
    }
    let mut table = txn.open_table(QUARANTINE)?;
    for (seq, payload) in payloads {
        let stored = wrap(CHECKED, &seq.0.to_le_bytes(), payload);
        table.insert(seq.0, stored.as_slice())?;
    }
    while table.len()? > records_max {
        table.pop_first()?;
    }
    Ok(())
}

/// Deletes the payloads at these positions; one that is not there any more is none of the caller's concern.
pub(super) fn remove<'a>(
    txn: &redb::WriteTransaction,
    resolved: impl Iterator<Item = &'a Seq>,
) -> Result<(), Fault> {
    let mut resolved = resolved.peekable();
    if resolved.peek().is_none() {
        return Ok(());
    }
    let mut table = txn.open_table(QUARANTINE)?;
    for seq in resolved {
        table.remove(seq.0)?;
    }
    Ok(())
}

impl LogReader {
    /// The payload of the `InputQuarantined` record at `seq`, while it is kept.
    ///
    /// # Errors
    /// [`LogError`] if the store cannot be read or the payload is damaged.
    pub fn quarantined(&self, seq: Seq) -> Result<Option<Vec<u8>>, LogError> {
        let op = "read the quarantine";
        {
            let held = self.tail.held();
            if held.resolved.contains(&seq) {
                return Ok(None);
            }
            if let Some(payload) = held.quarantine.get(&seq) {
                return Ok(Some(payload.clone()));
            }
        }
        self.read(op, |txn| {
            let table = txn.open_table(QUARANTINE)?;
            let Some(stored) = table.get(seq.0)? else { return Ok(None) };
            match unwrap(CHECKED, &seq.0.to_le_bytes(), stored.value()) {
                Some(payload) => Ok(Some(payload.to_vec())),
                // Written by a version without checksums.
                None if seq < self.checked_from => Ok(Some(stored.value().to_vec())),
                None => {
                    Err(LogError::Damaged { op, why: format!("the payload of sequence {seq} is damaged") }
                        .into())
                }
            }
        })
    }

    /// Positions of the payloads in the quarantine, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`LogError`] if the store cannot be read or payloads are missing.
    pub fn quarantine(&self, limit: usize) -> Result<Vec<Seq>, LogError> {
        let op = "read the quarantine";
        let (mut newest, resolved): (Vec<Seq>, _) = {
            let held = self.tail.held();
            (held.quarantine.keys().rev().copied().collect(), held.resolved.clone())
        };
        let stored = self.quarantine_stored(limit.saturating_add(resolved.len()), op)?;
        // What was moved meanwhile is in both.
        let oldest = newest.last().copied().unwrap_or(Seq(u64::MAX));
        newest.extend(stored.into_iter().filter(|seq| *seq < oldest));
        newest.retain(|seq| !resolved.contains(seq));
        newest.truncate(limit);
        Ok(newest)
    }

    fn quarantine_stored(&self, limit: usize, op: &'static str) -> Result<Vec<Seq>, LogError> {
        self.read(op, |txn| {
            let table = txn.open_table(QUARANTINE)?;
            let mut found: Vec<Seq> = Vec::new();
            for entry in table.iter()?.rev().take(limit) {
                found.push(Seq(entry?.0.value()));
            }
            let all = table.len()?;
            if found.len() as u64 != all.min(limit as u64) || !found.is_sorted_by(|a, b| a > b) {
                return Err(LogError::Damaged { op, why: "payloads are missing".into() }.into());
            }
            Ok(found)
        })
    }
}
