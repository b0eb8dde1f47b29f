//! The view: folded state at a position. There is no state without its position.

use crate::chunk::Chunk;
use crate::fact::{ClockQuality, Fact};
use crate::fold::{Fold, Section};
use crate::folds::aggregates::{Aggregates, Window};
use crate::folds::descriptions::Descriptions;
use crate::folds::devices::Devices;
use crate::record::{Record, Records};
use crate::stored::type_id;
use crate::{Seq, Time};

pub use crate::fold::FoldError;

/// Makes the view of the folds that are in it: for each its name, its type, and what makes an empty one of the windows.
macro_rules! view {
    ($($(#[$doc:meta])* $name:ident: $fold:ty = $new:expr,)*) => {
        /// Everything that is folded from the log, at one position.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct View {
            /// The last record that is in it.
            pub seq: Seq,
            /// Log time of that record.
            pub time: Time,
            /// Kernel boot id of the newest `Booted` record.
            pub boot_id: [u8; 16],
            /// Clock quality of the newest `Booted` record.
            pub clock: ClockQuality,
            /// Current state and availability. The other folds go by its numbers.
            pub devices: Devices,
            $($(#[$doc])* pub $name: $fold,)*
        }

        impl View {
            /// The state before the first record.
            pub fn new(windows: Vec<Window>) -> View {
                View { $($name: $new(windows.clone()),)* ..View::default() }
            }

            /// What a snapshot holds of it, at little cost: devices and series are shared, and each is copied when this
            /// view changes it first. It cannot be asked for names.
            pub fn share(&self) -> View {
                View { devices: self.devices.share(), $($name: self.$name.clone(),)* ..*self }
            }

            /// All folds, by number.
            pub(crate) fn sections(&self) -> Vec<&dyn Section> {
                vec![&self.devices, $(&self.$name),*]
            }

            /// All folds, by number, to be restored.
            pub(crate) fn sections_mut(&mut self) -> Vec<&mut dyn Section> {
                vec![&mut self.devices, $(&mut self.$name),*]
            }

            /// Reads a state change once, for all folds.
            #[inline]
            fn apply_changes(&mut self, record: &Record<'_>) -> Result<(), FoldError> {
                let View { devices, $($name,)* .. } = self;
                devices.apply_changes(record, |change| {
                    $($name.change(change);)*
                })
            }

            fn apply_other(&mut self, record: &Record<'_>) -> Result<(), FoldError> {
                if record.kind.type_id == type_id::BOOTED
                    && let Fact::Booted { boot_id, clock, .. } = record.fact()?
                {
                    (self.boot_id, self.clock) = (boot_id, clock);
                }
                self.devices.apply(record)?;
                $(self.$name.other(record)?;)*
                Ok(())
            }
        }
    };
}

view! {
    /// Windowed aggregates.
    aggregates: Aggregates = Aggregates::new,
    /// Descriptions of devices and attributes.
    descriptions: Descriptions = |_| Descriptions::default(),
}

impl View {
    /// Applies the records of a chunk that it does not have yet.
    ///
    /// # Errors
    /// [`FoldError`] if a record is missing before the chunk or one of its records cannot be applied; the view is then
    /// in the middle of the chunk and is not to be used any more.
    pub fn apply_chunk(&mut self, chunk: &Chunk<'_>) -> Result<(), FoldError> {
        self.apply_chunk_until(chunk, Seq(u64::MAX))
    }

    /// Applies the records of a chunk that it does not have yet, up to and including `until`.
    ///
    /// # Errors
    /// As [`View::apply_chunk`].
    pub fn apply_chunk_until(&mut self, chunk: &Chunk<'_>, until: Seq) -> Result<(), FoldError> {
        self.apply_records(chunk.records(), until)
    }

    /// Applies those of some records that it does not have yet, up to and including `until`.
    ///
    /// # Errors
    /// As [`View::apply_chunk`].
    pub fn apply_records(&mut self, mut records: Records<'_>, until: Seq) -> Result<(), FoldError> {
        while let Some(record) = records.next_record()? {
            if record.seq > self.seq && record.seq <= until {
                self.apply(&record)?;
            }
        }
        Ok(())
    }

    /// Applies the record that follows.
    ///
    /// # Errors
    /// As [`View::apply_chunk`].
    #[inline]
    pub fn apply(&mut self, record: &Record<'_>) -> Result<(), FoldError> {
        if record.seq != self.seq.next() {
            return Err(FoldError::Missing { have: self.seq, found: record.seq });
        }
        if record.kind.type_id == type_id::STATE_CHANGED {
            self.apply_changes(record)?;
        } else {
            self.apply_other(record)?;
        }
        (self.seq, self.time) = (record.seq, record.time);
        Ok(())
    }
}
