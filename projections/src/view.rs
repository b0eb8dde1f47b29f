//! The view: folded state at a position. There is no state without its position.

use crate::chunk::Chunk;
use crate::declared::Declared;
use crate::fact::{ClockQuality, Fact};
use crate::fold::{Change, Fold, FoldId, Section};
use crate::folds::aggregates::{Aggregates, Window};
use crate::folds::alerts::Alerts;
use crate::folds::commands::Commands;
use crate::folds::descriptions::Descriptions;
use crate::folds::devices::Devices;
use crate::folds::named::Named;
use crate::folds::sessions::Sessions;
use crate::record::{Record, Records};
use crate::stored::type_id;
use crate::{DeviceId, Seq, Time};

pub use crate::fold::FoldError;
pub use part::ValuesOf;
pub use rebuild::Rebuild;

mod part;
mod rebuild;

/// Settings of the folds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// The windows of the aggregates, shortest first.
    pub windows: Vec<Window>,
    /// Named aggregates and derived attributes.
    pub declared: Declared,
}

/// Generates the view and its rebuild from a list of folds: for each its name, its type, and how to make an empty one
/// with given settings.
macro_rules! view {
    ($($(#[$doc:meta])* $name:ident: $fold:ty = $new:expr,)*) => {
        /// All state folded from the log, at one position.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct View {
            /// The last record that it includes.
            pub seq: Seq,
            /// Log time of that record.
            pub time: Time,
            /// Kernel boot id of the newest `Booted` record.
            pub boot_id: [u8; 16],
            /// Clock quality of the newest `Booted` record.
            pub clock: ClockQuality,
            /// Folds that the snapshot lacked.
            pub(crate) stale: Vec<FoldId>,
            /// Current state and availability. The other folds use its numbers.
            pub devices: Devices,
            $($(#[$doc])* pub $name: $fold,)*
        }

        impl View {
            /// The folds other than the devices.
            pub const FOLDS: &'static [FoldId] = &[$(<$fold>::ID),*];

            /// The state before the first record.
            pub fn with(settings: &Settings) -> View {
                View { $($name: $new(settings),)* ..View::default() }
            }

            /// A cheap copy for a snapshot: devices and series are shared, and each is copied when this view first
            /// changes it. The copy has no name indexes.
            pub fn share(&self) -> View {
                View {
                    seq: self.seq,
                    time: self.time,
                    boot_id: self.boot_id,
                    clock: self.clock,
                    stale: self.stale.clone(),
                    devices: self.devices.share(),
                    $($name: self.$name.clone(),)*
                }
            }

            /// The folds of a snapshot: all that are not stale, by number.
            pub(crate) fn sections(&self) -> Vec<&dyn Section> {
                let mut sections: Vec<&dyn Section> = vec![&self.devices, $(&self.$name),*];
                sections.retain(|fold| !self.is_stale(fold.id()) && !fold.is_optional());
                sections
            }

            /// All folds, by number, for restoring.
            pub(crate) fn sections_mut(&mut self) -> Vec<&mut dyn Section> {
                vec![&mut self.devices, $(&mut self.$name),*]
            }

            /// Decodes a state change once, for all folds.
            #[inline]
            fn apply_changes(&mut self, record: &Record<'_>) -> Result<(), FoldError> {
                let View { devices, stale, $($name,)* .. } = self;
                let whole = stale.is_empty();
                let device = devices.apply_changes(record, |change| {
                    $(if whole || !stale.contains(&<$fold>::ID) {
                        $name.change(change);
                    })*
                })?;
                if let Some(device) = device {
                    $($name.changed(device, record.time);)*
                }
                Ok(())
            }

            fn apply_other(&mut self, record: &Record<'_>) -> Result<(), FoldError> {
                if record.kind.type_id == type_id::BOOTED
                    && let Fact::Booted { boot_id, clock, .. } = record.fact()?
                {
                    (self.boot_id, self.clock) = (boot_id, clock);
                }
                self.devices.apply(record)?;
                $(if !self.is_stale(<$fold>::ID) {
                    self.$name.other(record)?;
                })*
                Ok(())
            }
        }

        /// The folds that are being rebuilt.
        #[derive(Debug)]
        struct Anew {
            $($name: Option<$fold>,)*
        }

        impl Anew {
            fn new(folds: &[FoldId], settings: &Settings) -> Anew {
                Anew { $($name: folds.contains(&<$fold>::ID).then(|| $new(settings)),)* }
            }

            fn replace_in(self, view: &mut View) {
                $(if let Some(mut fold) = self.$name {
                    fold.replace(std::mem::take(&mut view.$name));
                    view.$name = fold;
                    view.stale.retain(|stale| *stale != <$fold>::ID);
                })*
            }
        }

        impl Fold for Anew {
            #[inline]
            fn change(&mut self, change: &Change<'_>) {
                $(if let Some(fold) = &mut self.$name {
                    fold.change(change);
                })*
            }

            #[inline]
            fn changed(&mut self, device: DeviceId, time: Time) {
                $(if let Some(fold) = &mut self.$name {
                    fold.changed(device, time);
                })*
            }

            fn other(&mut self, record: &Record<'_>) -> Result<(), FoldError> {
                $(if let Some(fold) = &mut self.$name {
                    fold.other(record)?;
                })*
                Ok(())
            }

            fn miss(&mut self, until: Time) {
                $(if let Some(fold) = &mut self.$name {
                    fold.miss(until);
                })*
            }
        }
    };
}

view! {
    /// Windowed aggregates.
    aggregates: Aggregates = |settings: &Settings| Aggregates::new(settings.windows.clone()),
    /// Descriptions of devices and attributes.
    descriptions: Descriptions = |_| Descriptions::default(),
    /// Sessions of Sparkplug edge nodes.
    sessions: Sessions = |_| Sessions::default(),
    /// Commands to devices.
    commands: Commands = |_| Commands::default(),
    /// Named aggregates, as declared when they were folded.
    named: Named = |settings: &Settings| Named::new(settings.declared.clone()),
    /// Alerts that are open.
    alerts: Alerts = |_| Alerts::default(),
}

impl View {
    /// The state before the first record, with these windows and without named aggregates.
    pub fn new(windows: Vec<Window>) -> View {
        View::with(&Settings { windows, ..Settings::default() })
    }

    /// The folds that have to be rebuilt with these settings: the stale ones, and named aggregates that are declared
    /// otherwise. Until then the earlier ones go on.
    pub fn outdated(&self, settings: &Settings) -> Vec<FoldId> {
        let named = (*self.named.declared() != settings.declared).then_some(Named::ID);
        self.stale.iter().copied().chain(named).collect()
    }

    /// The empty folds: the snapshot lacked them, or had them in another version or with other settings. They get no
    /// records until they are rebuilt, see [`Rebuild`], and are left out of snapshots.
    pub fn stale(&self) -> &[FoldId] {
        &self.stale
    }

    /// Whether a fold is in [`View::stale`], and so has no data yet.
    pub fn is_stale(&self, fold: FoldId) -> bool {
        self.stale.contains(&fold)
    }

    /// Applies the records of a chunk that the view does not have yet.
    ///
    /// # Errors
    /// [`FoldError`] if records before the chunk are missing or a record cannot be applied. The view is then in the
    /// middle of the chunk and must not be used.
    pub fn apply_chunk(&mut self, chunk: &Chunk<'_>) -> Result<(), FoldError> {
        self.apply_chunk_until(chunk, Seq(u64::MAX))
    }

    /// Applies the records of a chunk that the view does not have yet, up to and including `until`.
    ///
    /// # Errors
    /// As [`View::apply_chunk`].
    pub fn apply_chunk_until(&mut self, chunk: &Chunk<'_>, until: Seq) -> Result<(), FoldError> {
        self.apply_records(chunk.records(), until)
    }

    /// Applies the given records that the view does not have yet, up to and including `until`.
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

    /// Applies the next record.
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
