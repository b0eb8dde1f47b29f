//! Folds: state that is derived only from the records, in order.
//!
//! A new fold is a file in `folds/` and a line in `view.rs`: a type that implements [`Fold`], [`Section`], [`Default`]
//! and [`PartialEq`], is cheap to clone, and has a constant `ID` that names it. It has its own section in a snapshot,
//! so it can be added or changed without touching the others. If a snapshot lacks the section, the fold is stale and is
//! rebuilt in the background from the oldest record.

use std::io::Write;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::record::{Record, RecordsError};
use crate::stored::StoredError;
use crate::{AttrId, DeviceId, Seq, Time, ValueRef};

/// Which fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoldId {
    /// Number of its section in a snapshot. Never reused.
    pub number: u8,
    /// Its name, in the plural, to be followed by "… are being rebuilt".
    pub name: &'static str,
}

/// One change of a state change, with the device's context.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The device.
    pub device: DeviceId,
    /// Index of the attribute among those of the device.
    pub at: usize,
    /// The attribute.
    pub attr: AttrId,
    /// The names of all attributes, by number.
    pub names: &'a [Arc<str>],
    /// Log time of the record.
    pub time: Time,
    /// The new value.
    pub value: ValueRef<'a>,
}

/// A fold beside the devices. It gets each record once, in order: a state change as its individual changes, any other
/// record as a whole.
///
/// If the front of the log was trimmed and no snapshot has the fold, it begins in the middle. So a record that refers
/// to something introduced in a deleted record is not an error.
pub trait Fold {
    /// Applies one change of a state change. This is the hot path: every event passes through here.
    fn change(&mut self, change: &Change<'_>);

    /// All changes of a state change of a device, recorded at `time`, have been applied.
    fn changed(&mut self, _device: DeviceId, _time: Time) {}

    /// Applies a record that is not a state change.
    ///
    /// # Errors
    /// [`FoldError`] if it cannot be read or does not follow.
    fn other(&mut self, record: &Record<'_>) -> Result<(), FoldError>;

    /// Notes that records up to this log time are deleted and will not be applied.
    fn miss(&mut self, until: Time);

    /// Takes over from an earlier fold that has the same records, except those that were deleted before this one was
    /// rebuilt, and may have other settings.
    fn replace(&mut self, _earlier: Self)
    where
        Self: Sized,
    {
    }
}

/// A fold as a section of a snapshot.
pub trait Section: State {
    /// Which fold it is.
    fn id(&self) -> FoldId;

    /// The version in which its bytes are written. It is raised whenever the same records would give another state, or
    /// the state is stored differently.
    fn version(&self) -> u16;

    /// Whether bytes with this first byte could be restored; otherwise they are not read into memory.
    fn wants(&self, _first: u8) -> bool {
        true
    }

    /// Whether a snapshot without this fold has all that there is of it, so that it is left out.
    fn is_optional(&self) -> bool {
        false
    }

    /// Restores the state from bytes. Returns `false` and changes nothing if they are of another version or other
    /// settings.
    ///
    /// # Errors
    /// [`Unreadable`] if the bytes do not match their version.
    fn restore(&mut self, version: u16, bytes: &[u8]) -> Result<bool, Unreadable>;
}

/// A fold as bytes.
pub trait State {
    /// The number of bytes.
    ///
    /// # Errors
    /// Of postcard.
    fn size(&self) -> postcard::Result<usize>;

    /// Writes them.
    ///
    /// # Errors
    /// From postcard, which does not pass on the error of `out`.
    fn write(&self, out: &mut dyn Write) -> postcard::Result<()>;
}

impl<T: Serialize> State for T {
    fn size(&self) -> postcard::Result<usize> {
        postcard::experimental::serialized_size(self)
    }

    fn write(&self, out: &mut dyn Write) -> postcard::Result<()> {
        postcard::to_io(self, out).map(|_| ())
    }
}

/// Reads a value that must use all of the bytes.
pub(crate) fn whole<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Unreadable> {
    match postcard::take_from_bytes::<T>(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(Unreadable),
    }
}

/// The bytes of a fold do not match their version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its content cannot be read")]
pub struct Unreadable;

/// Why a record cannot be folded. The agent then stops: an unreadable log is never skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// A gap in the log.
    #[error("records are missing: after sequence {have} comes {found}")]
    Missing {
        /// Position of the view.
        have: Seq,
        /// Position of the record.
        found: Seq,
    },
    /// A record about a device that no record introduced.
    #[error("the record at sequence {seq} is about device number {}, which no record introduces", device.0)]
    UnknownDevice {
        /// Position of the record.
        seq: Seq,
        /// The device.
        device: DeviceId,
    },
    /// A device or attribute was introduced out of order.
    #[error("the record at sequence {seq} introduces a name out of order")]
    Numbering {
        /// Position of the record.
        seq: Seq,
    },
    /// A payload cannot be read.
    #[error(transparent)]
    Stored(#[from] StoredError),
    /// Records cannot be read from their chunk.
    #[error(transparent)]
    Records(#[from] RecordsError),
}
