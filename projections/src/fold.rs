//! What a fold is: state that comes of the records alone, in their order.
//!
//! A new fold is a file in `folds/` and a line in `view.rs`: a type that is [`Fold`] and [`Section`], [`Default`],
//! [`PartialEq`] and cheap to clone, with a constant `ID` that names it. In a snapshot it has a section of its own, so that
//! it can be added or changed without touching the others. A snapshot without that section leaves it stale; it is then
//! rebuilt beside the others from the oldest record there is.

use std::io::Write;

use serde::{Deserialize, Serialize};

use crate::record::{Record, RecordsError};
use crate::stored::StoredError;
use crate::{AttrId, DeviceId, Seq, Time, ValueRef};

/// Which fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoldId {
    /// Number of its section in a snapshot. Never reused.
    pub number: u8,
    /// Its name: plural, so that "… are being rebuilt" can follow.
    pub name: &'static str,
}

/// One change of a state change, with what the devices know of it.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The device.
    pub device: DeviceId,
    /// Place of the attribute among those of the device.
    pub at: usize,
    /// The attribute.
    pub attr: AttrId,
    /// Log time of the record.
    pub time: Time,
    /// The new value.
    pub value: ValueRef<'a>,
}

/// A fold beside the devices. It gets each record once, in order: a state change as its changes, any other as it is.
///
/// Where the front of the log is deleted and no snapshot has the fold, it begins in the middle. A record then is no fault
/// because it speaks of something that only a deleted one introduced.
pub trait Fold {
    /// Takes in one change of a state change. Every event comes by here.
    fn change(&mut self, change: &Change<'_>);

    /// Takes in a record that is no state change.
    ///
    /// # Errors
    /// [`FoldError`] if it cannot be read or does not follow.
    fn other(&mut self, record: &Record<'_>) -> Result<(), FoldError>;

    /// Notes that the records up to this log time are deleted, so that it never gets them.
    fn miss(&mut self, until: Time);
}

/// A fold as a section of a snapshot.
pub trait Section: State {
    /// Which fold it is.
    fn id(&self) -> FoldId;

    /// The version that its bytes are written in. A fold raises it whenever the same records would give another state, or
    /// the state is stored in another way.
    fn version(&self) -> u16;

    /// Whether bytes that begin with this one could be restored; others are not even read into memory.
    fn wants(&self, _first: u8) -> bool {
        true
    }

    /// Becomes what the bytes say. `false`, and it stays as it was, if another version or other settings made them.
    ///
    /// # Errors
    /// [`Unreadable`] if they are not what that version writes.
    fn restore(&mut self, version: u16, bytes: &[u8]) -> Result<bool, Unreadable>;
}

/// Bytes of a fold.
pub trait State {
    /// How many they are.
    ///
    /// # Errors
    /// Of postcard.
    fn size(&self) -> postcard::Result<usize>;

    /// Writes them.
    ///
    /// # Errors
    /// Of postcard, which does not say what `out` said.
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

/// Reads a value that takes all of the bytes.
pub(crate) fn whole<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Unreadable> {
    match postcard::take_from_bytes::<T>(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(Unreadable),
    }
}

/// The bytes of a fold are not what their version says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its content cannot be read")]
pub struct Unreadable;

/// Why a record cannot be folded. The agent stops: a log that cannot be read is never passed over.
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
