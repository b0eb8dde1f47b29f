//! A snapshot: the bytes of a [`View`], behind a header that is checked before them.
//!
//! The two folds are separate sections with a version each, so that a change of one leaves the other valid.

use serde::{Deserialize, Serialize};

use crate::aggregate::{self, Aggregates, Window};
use crate::devices::{self, Devices};
use crate::fact::ClockQuality;
use crate::{Epoch, Seq, Time, View};

const MAGIC: [u8; 4] = *b"FLSN";
/// Version of the snapshot layout that is written.
pub const VERSION: u16 = 1;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 48;

/// What a snapshot says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The incarnation of the log it was folded from.
    pub epoch: Epoch,
    /// The last record that is in it.
    pub seq: Seq,
    /// Log time of that record.
    pub time: Time,
    /// Bytes that follow the header.
    pub payload_bytes: u64,
    payload_crc: u32,
}

#[derive(Serialize, Deserialize)]
struct PayloadV1<'a> {
    boot_id: [u8; 16],
    clock: ClockQuality,
    devices_version: u16,
    devices: &'a [u8],
    aggregates_version: u16,
    aggregates: &'a [u8],
}

/// What could be taken from a snapshot.
#[derive(Debug)]
pub struct Restored {
    /// The view. Where `aggregates_stale`, its aggregates are empty and have to be rebuilt.
    pub view: View,
    /// The aggregates were folded by another version or with other windows.
    pub aggregates_stale: bool,
}

/// Writes a snapshot.
///
/// # Errors
/// [`SnapshotError::Payload`] should a fold not serialise.
pub fn encode(view: &View, epoch: Epoch) -> Result<Vec<u8>, SnapshotError> {
    let devices = postcard::to_stdvec(&view.devices).map_err(|_| SnapshotError::Payload)?;
    let aggregates = postcard::to_stdvec(&view.aggregates).map_err(|_| SnapshotError::Payload)?;
    let payload = PayloadV1 {
        boot_id: view.boot_id,
        clock: view.clock,
        devices_version: devices::VERSION,
        devices: &devices,
        aggregates_version: aggregate::VERSION,
        aggregates: &aggregates,
    };
    let mut out = vec![0; HEADER_BYTES];
    out = postcard::to_extend(&payload, out).map_err(|_| SnapshotError::Payload)?;
    let payload_crc = crc32fast::hash(&out[HEADER_BYTES..]);
    let payload_bytes = (out.len() - HEADER_BYTES) as u64;
    out[..4].copy_from_slice(&MAGIC);
    out[4..6].copy_from_slice(&VERSION.to_le_bytes());
    out[8..16].copy_from_slice(&epoch.0.to_le_bytes());
    out[16..24].copy_from_slice(&view.seq.0.to_le_bytes());
    out[24..32].copy_from_slice(&view.time.0.to_le_bytes());
    out[32..40].copy_from_slice(&payload_bytes.to_le_bytes());
    out[40..44].copy_from_slice(&payload_crc.to_le_bytes());
    let header_crc = crc32fast::hash(&out[..44]);
    out[44..48].copy_from_slice(&header_crc.to_le_bytes());
    Ok(out)
}

/// Reads and checks the header.
///
/// # Errors
/// [`SnapshotError`] if it is cut, damaged, no snapshot, or of a layout not known here.
pub fn header(bytes: &[u8]) -> Result<Header, SnapshotError> {
    let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else { return Err(SnapshotError::Cut) };
    let u32_at = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    if head[..4] != MAGIC || crc32fast::hash(&head[..44]) != u32_at(44) {
        return Err(SnapshotError::Header);
    }
    let version = u16::from_le_bytes([head[4], head[5]]);
    if version != VERSION {
        return Err(SnapshotError::Version(version));
    }
    Ok(Header {
        epoch: Epoch(u64_at(8)),
        seq: Seq(u64_at(16)),
        time: Time(u64_at(24) as i64),
        payload_bytes: u64_at(32),
        payload_crc: u32_at(40),
    })
}

/// Restores a view whose aggregates have `windows`.
///
/// # Errors
/// [`SnapshotError`] for anything that is not exactly what was written, and [`SnapshotError::Fold`] where the devices
/// were folded by another version.
pub fn decode(bytes: &[u8], windows: &[Window]) -> Result<Restored, SnapshotError> {
    let header = header(bytes)?;
    let payload = &bytes[HEADER_BYTES..];
    if payload.len() as u64 != header.payload_bytes {
        return Err(SnapshotError::Cut);
    }
    if crc32fast::hash(payload) != header.payload_crc {
        return Err(SnapshotError::Checksum);
    }
    let payload: PayloadV1<'_> = whole(payload)?;
    if payload.devices_version != devices::VERSION {
        return Err(SnapshotError::Fold { found: payload.devices_version });
    }
    let mut devices: Devices = whole(payload.devices)?;
    devices.index();
    let stored = Aggregates::restore(payload.aggregates_version, payload.aggregates)?
        .filter(|aggregates| aggregates.windows() == windows);
    let aggregates_stale = stored.is_none();
    let aggregates = stored.unwrap_or_else(|| Aggregates::new(windows.to_vec()));
    let view = View {
        seq: header.seq,
        time: header.time,
        boot_id: payload.boot_id,
        clock: payload.clock,
        devices,
        aggregates,
    };
    Ok(Restored { view, aggregates_stale })
}

pub(crate) fn whole<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, SnapshotError> {
    match postcard::take_from_bytes::<T>(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(SnapshotError::Payload),
    }
}

/// Why a snapshot cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Shorter than it says.
    #[error("it is cut short")]
    Cut,
    /// No snapshot, or a damaged header.
    #[error("its header is damaged")]
    Header,
    /// A layout from the future.
    #[error("its layout version {0} is not known; it was written by a newer fieldlog")]
    Version(u16),
    /// Damaged.
    #[error("its checksum is wrong")]
    Checksum,
    /// Whole, but not what the layout says.
    #[error("its content cannot be read")]
    Payload,
    /// Folded by another version.
    #[error("it was folded by version {found} of the device fold, this is version {}", devices::VERSION)]
    Fold {
        /// The version in it.
        found: u16,
    },
}
