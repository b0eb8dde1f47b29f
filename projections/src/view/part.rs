//! A part of a view: what one question about the past needs, so that the rest is neither loaded nor folded.

use super::View;
use crate::fold::{FoldError, FoldId};
use crate::record::Records;
use crate::stored::{Changes, type_id};
use crate::{Aggregates, DeviceId, Named, Seq};

/// Whose values a part of a view has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValuesOf {
    /// Those of all devices.
    All,
    /// Those of one device. Of the others only what state changes do not touch is right, such as id and availability.
    Device(DeviceId),
    /// Nobody's.
    None,
}

impl View {
    /// The state before the first record, of the devices and the given other folds; all others are stale.
    pub fn part(folds: &[FoldId]) -> View {
        let mut view = View::new(Vec::new());
        view.stale = View::FOLDS.iter().copied().filter(|fold| !folds.contains(fold)).collect();
        view
    }

    /// A cheap copy without the aggregates, for a past state; see [`View::share`].
    pub fn share_without_aggregates(&self) -> View {
        let mut view = self.share();
        view.aggregates = Aggregates::default();
        view.named = Named::default();
        if !view.is_stale(Aggregates::ID) {
            view.stale.push(Aggregates::ID);
        }
        view
    }

    /// Applies the given records that a part of a view does not have yet, up to and including `until`, without
    /// aggregates. Of state changes it reads only those that `values` needs.
    ///
    /// # Errors
    /// As [`View::apply_chunk`].
    pub fn apply_part(
        &mut self,
        mut records: Records<'_>,
        until: Seq,
        values: ValuesOf,
    ) -> Result<(), FoldError> {
        while let Some(record) = records.next_record()? {
            if record.seq <= self.seq {
                continue;
            }
            if record.seq > until {
                break;
            }
            if record.seq != self.seq.next() {
                return Err(FoldError::Missing { have: self.seq, found: record.seq });
            }
            if record.kind.type_id != type_id::STATE_CHANGED {
                self.apply_other(&record)?;
            } else if match values {
                ValuesOf::All => true,
                ValuesOf::Device(device) => Changes::parse(record.kind, record.payload)?.device == device,
                ValuesOf::None => false,
            } {
                let _ = self.devices.apply_changes(&record, |_| {})?;
            }
            (self.seq, self.time) = (record.seq, record.time);
        }
        Ok(())
    }
}
