//! The view: folded state at a position. There is no state without its position.

use crate::aggregate::{Aggregates, Window};
use crate::chunk::Chunk;
use crate::devices::Devices;
use crate::fact::{ClockQuality, Fact};
use crate::record::{Record, Records, RecordsError};
use crate::stored::{StoredError, type_id};
use crate::{DeviceId, Seq, Time};

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
    /// Current state and availability.
    pub devices: Devices,
    /// Windowed aggregates.
    pub aggregates: Aggregates,
}

impl View {
    /// The state before the first record.
    pub fn new(windows: Vec<Window>) -> View {
        View { aggregates: Aggregates::new(windows), ..View::default() }
    }

    /// What a snapshot holds of it, at little cost: devices and series are shared, and each is copied when this view
    /// changes it first. It cannot be asked for names.
    pub fn share(&self) -> View {
        let (devices, aggregates) = (self.devices.share(), self.aggregates.clone());
        View { devices, aggregates, ..*self }
    }

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
        match record.kind.type_id {
            type_id::STATE_CHANGED => {
                let (aggregates, time) = (&mut self.aggregates, record.time);
                self.devices.apply_changes(record, |device, at, attr, value| {
                    if let Some(number) = value.as_number() {
                        aggregates.observe(device, at, attr, time, number);
                    }
                })?;
            }
            type_id::BOOTED => {
                if let Fact::Booted { boot_id, clock, .. } = record.fact()? {
                    (self.boot_id, self.clock) = (boot_id, clock);
                }
            }
            type_id::CLOCK_CORRECTED => self.aggregates.begin_anew(record.time),
            type_id::DEVICE_FORGOTTEN => {
                if let Fact::DeviceForgotten { device } = record.fact()? {
                    self.aggregates.forget(device);
                }
                self.devices.apply(record)?;
            }
            _ => self.devices.apply(record)?,
        }
        (self.seq, self.time) = (record.seq, record.time);
        Ok(())
    }
}

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
    /// Records cannot be taken out of their chunk.
    #[error(transparent)]
    Records(#[from] RecordsError),
}
