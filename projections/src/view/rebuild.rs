//! Rebuilding some of the folds, beside a view that is served meanwhile.

use super::{Anew, View};
use crate::chunk::Chunk;
use crate::fold::{Fold, FoldError, FoldId};
use crate::{Devices, Records, Seq, Window};

/// Folds that are rebuilt from the oldest record, until they can take their places in a view.
#[derive(Debug)]
pub struct Rebuild {
    seq: Seq,
    missed: bool,
    folds: Anew,
}

impl Rebuild {
    /// Begins with nothing. Aggregates get these windows. The devices cannot be rebuilt by themselves.
    pub fn new(folds: &[FoldId], windows: &[Window]) -> Rebuild {
        Rebuild { seq: Seq(0), missed: false, folds: Anew::new(folds, windows) }
    }

    /// The last record that is in them.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// Whether records before the first one it got are deleted.
    pub fn missed(&self) -> bool {
        self.missed
    }

    /// Applies the records of a chunk that they do not have yet, up to and including `until`. `devices` are those of the
    /// view, at `until` or later.
    ///
    /// # Errors
    /// [`FoldError`] if a record cannot be applied; what was rebuilt is not to be used then.
    pub fn apply_chunk_until(
        &mut self,
        devices: &Devices,
        chunk: &Chunk<'_>,
        until: Seq,
    ) -> Result<(), FoldError> {
        if chunk.header.first > self.seq.next() {
            self.missed = true;
            self.folds.miss(chunk.header.base_time);
        }
        self.apply_records(devices, chunk.records(), until)
    }

    /// Applies those of some records, none of which are missing, that they do not have yet, up to and including `until`.
    ///
    /// # Errors
    /// As [`Rebuild::apply_chunk_until`].
    pub fn apply_records(
        &mut self,
        devices: &Devices,
        mut records: Records<'_>,
        until: Seq,
    ) -> Result<(), FoldError> {
        while let Some(record) = records.next_record()? {
            if record.seq > self.seq && record.seq <= until {
                devices.apply_to(&mut self.folds, &record)?;
                self.seq = record.seq;
            }
        }
        Ok(())
    }

    /// Puts them into the view, whose position they must have reached.
    ///
    /// # Errors
    /// [`FoldError::Missing`] if they have not; the view stays as it is.
    pub fn replace_in(self, view: &mut View) -> Result<(), FoldError> {
        if self.seq != view.seq {
            return Err(FoldError::Missing { have: self.seq, found: view.seq });
        }
        self.folds.replace_in(view);
        Ok(())
    }
}
