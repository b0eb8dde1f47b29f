//! Rebuilds some folds in the background while a view is served.

use super::{Anew, Settings, View};
use crate::chunk::Chunk;
use crate::fold::{Fold, FoldError, FoldId};
use crate::{Devices, Records, Seq};

/// Folds that are rebuilt from the oldest record until they can replace those in a view.
#[derive(Debug)]
pub struct Rebuild {
    seq: Seq,
    missed: bool,
    folds: Anew,
}

impl Rebuild {
    /// Starts empty, with these settings. The devices cannot be rebuilt separately.
    pub fn new(folds: &[FoldId], settings: &Settings) -> Rebuild {
        Rebuild { seq: Seq(0), missed: false, folds: Anew::new(folds, settings) }
    }

    /// The last record applied.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// Whether records before the first applied one are deleted.
    pub fn missed(&self) -> bool {
        self.missed
    }

    /// Applies the records of a chunk that are not applied yet, up to and including `until`. `devices` are those of the
    /// view, at `until` or later.
    ///
    /// # Errors
    /// [`FoldError`] if a record cannot be applied; the rebuild must then be discarded.
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

    /// Applies the given records that are not applied yet, up to and including `until`. None may be missing.
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

    /// Moves the folds into the view. They must have reached its position.
    ///
    /// # Errors
    /// [`FoldError::Missing`] if they have not; the view is unchanged.
    pub fn replace_in(self, view: &mut View) -> Result<(), FoldError> {
        if self.seq != view.seq {
            return Err(FoldError::Missing { have: self.seq, found: view.seq });
        }
        self.folds.replace_in(view);
        Ok(())
    }
}
