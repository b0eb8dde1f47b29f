//! A snapshot: the bytes of a [`View`], behind a header that is checked before them.
//!
//! The two folds are separate sections with a version each, so that a change of one leaves the other valid.

use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

use serde::de::DeserializeOwned;
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

/// What could be taken from a snapshot.
#[derive(Debug)]
pub struct Restored {
    /// The view. Where `aggregates_stale`, its aggregates are empty and have to be rebuilt.
    pub view: View,
    /// The aggregates were folded by another version or with other windows.
    pub aggregates_stale: bool,
}

/// Writes a snapshot as it is made, without a copy of it in memory: the header, which holds length and checksum, last.
/// Tells how many bytes it has.
///
/// # Errors
/// Of `out`; the snapshot is not to be used then.
pub fn write<W: Write + Seek>(view: &View, epoch: Epoch, mut out: W) -> io::Result<u64> {
    out.write_all(&[0; HEADER_BYTES])?;
    let mut payload = Checked { out: &mut out, crc: crc32fast::Hasher::new(), bytes: 0, failed: None };
    payload.put(&(view.boot_id, view.clock))?;
    payload.section(view.devices.stored_version(), &view.devices)?;
    payload.section(aggregate::VERSION, &view.aggregates)?;
    let (bytes, crc) = (payload.bytes, payload.crc.finalize());
    out.seek(SeekFrom::Start(0))?;
    out.write_all(&sealed_header(view, epoch, bytes, crc))?;
    out.seek(SeekFrom::End(0))?;
    out.flush()?;
    Ok(HEADER_BYTES as u64 + bytes)
}

/// A snapshot in memory.
///
/// # Errors
/// [`SnapshotError::Payload`] should a fold not serialise.
pub fn encode(view: &View, epoch: Epoch) -> Result<Vec<u8>, SnapshotError> {
    let mut out = Cursor::new(Vec::new());
    write(view, epoch, &mut out).map_err(|_| SnapshotError::Payload)?;
    Ok(out.into_inner())
}

fn sealed_header(view: &View, epoch: Epoch, payload_bytes: u64, payload_crc: u32) -> [u8; HEADER_BYTES] {
    let mut head = [0; HEADER_BYTES];
    head[..4].copy_from_slice(&MAGIC);
    head[4..6].copy_from_slice(&VERSION.to_le_bytes());
    head[8..16].copy_from_slice(&epoch.0.to_le_bytes());
    head[16..24].copy_from_slice(&view.seq.0.to_le_bytes());
    head[24..32].copy_from_slice(&view.time.0.to_le_bytes());
    head[32..40].copy_from_slice(&payload_bytes.to_le_bytes());
    head[40..44].copy_from_slice(&payload_crc.to_le_bytes());
    let header_crc = crc32fast::hash(&head[..44]);
    head[44..48].copy_from_slice(&header_crc.to_le_bytes());
    head
}

/// Counts and sums what passes.
struct Checked<W> {
    out: W,
    crc: crc32fast::Hasher,
    bytes: u64,
    /// postcard does not hand on why it could not write.
    failed: Option<io::Error>,
}

impl<W: Write> Checked<W> {
    fn put<T: Serialize>(&mut self, value: &T) -> io::Result<()> {
        match postcard::to_io(value, &mut *self) {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failed.take().unwrap_or_else(|| io::Error::other(error))),
        }
    }

    /// Version, length and bytes of a fold. The length comes first, so the bytes are counted before they are written.
    fn section<T: Serialize>(&mut self, version: u16, fold: &T) -> io::Result<()> {
        let bytes = postcard::experimental::serialized_size(fold).map_err(io::Error::other)?;
        self.put(&(version, bytes as u64))?;
        self.put(fold)
    }
}

impl<W: Write> Write for Checked<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.out.write(bytes) {
            Ok(written) => {
                self.crc.update(&bytes[..written]);
                self.bytes += written as u64;
                Ok(written)
            }
            Err(error) => {
                let kind = error.kind();
                if kind != io::ErrorKind::Interrupted {
                    self.failed = Some(error);
                }
                Err(kind.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
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

/// Restores a view whose aggregates have `windows`. The snapshot is read twice, first for its checksum, and one fold
/// at a time, so that it is never whole in memory beside the view. Aggregates with other windows are not read.
///
/// # Errors
/// [`ReadError`] for anything that is not exactly what was written, and with [`SnapshotError::Fold`] where the devices
/// were folded by a version not known here.
pub fn read<R: Read + Seek>(mut input: R, windows: &[Window]) -> Result<Restored, ReadError> {
    let header = check(&mut input)?;
    let end = HEADER_BYTES as u64 + header.payload_bytes;
    let mut sections = Sections { input, at: HEADER_BYTES as u64, end };
    let (boot_id, clock): ([u8; 16], ClockQuality) = sections.head()?;
    let (version, bytes): (u16, u64) = sections.head()?;
    let devices = Devices::restore(version, &sections.take(bytes)?)?;
    let (version, bytes): (u16, u64) = sections.head()?;
    if sections.at.checked_add(bytes) != Some(end) {
        return Err(SnapshotError::Payload.into());
    }
    // What is stored begins with the list of windows.
    let stored = if windows.is_empty() && !sections.begins_with(0)? {
        None
    } else {
        Aggregates::restore(version, &sections.take(bytes)?)?
    };
    let stored = stored.filter(|aggregates| aggregates.windows() == windows);
    let aggregates_stale = stored.is_none();
    let aggregates = stored.unwrap_or_else(|| Aggregates::new(windows.to_vec()));
    let view = View { seq: header.seq, time: header.time, boot_id, clock, devices, aggregates };
    Ok(Restored { view, aggregates_stale })
}

/// [`read`] from memory.
///
/// # Errors
/// As [`read`].
pub fn decode(bytes: &[u8], windows: &[Window]) -> Result<Restored, SnapshotError> {
    read(Cursor::new(bytes), windows).map_err(|error| match error {
        ReadError::Content(error) => error,
        ReadError::File(_) => SnapshotError::Payload,
    })
}

/// Checks header, length and checksum.
fn check<R: Read>(input: &mut R) -> Result<Header, ReadError> {
    let mut head = Vec::with_capacity(HEADER_BYTES);
    input.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut head)?;
    let header = header(&head)?;
    let mut checked = Checked { out: io::sink(), crc: crc32fast::Hasher::new(), bytes: 0, failed: None };
    io::copy(input, &mut checked)?;
    if checked.bytes != header.payload_bytes {
        return Err(SnapshotError::Cut.into());
    }
    if checked.crc.finalize() != header.payload_crc {
        return Err(SnapshotError::Checksum.into());
    }
    Ok(header)
}

/// A payload whose checksum is right, read piece by piece.
struct Sections<R> {
    input: R,
    at: u64,
    end: u64,
}

impl<R: Read + Seek> Sections<R> {
    /// Something short.
    fn head<T: DeserializeOwned>(&mut self) -> Result<T, ReadError> {
        const MOST: u64 = 64;
        let mut bytes = Vec::new();
        self.input.seek(SeekFrom::Start(self.at))?;
        self.input.by_ref().take(MOST.min(self.end - self.at)).read_to_end(&mut bytes)?;
        let (value, rest) = postcard::take_from_bytes::<T>(&bytes).map_err(|_| SnapshotError::Payload)?;
        self.at += (bytes.len() - rest.len()) as u64;
        Ok(value)
    }

    fn begins_with(&mut self, byte: u8) -> Result<bool, ReadError> {
        let mut first = [!byte];
        self.input.seek(SeekFrom::Start(self.at))?;
        let found = self.at < self.end && self.input.read(&mut first)? == 1;
        Ok(found && first[0] == byte)
    }

    fn take(&mut self, count: u64) -> Result<Vec<u8>, ReadError> {
        let fits = self.at.checked_add(count).is_some_and(|end| end <= self.end);
        let count = usize::try_from(count).ok().filter(|_| fits).ok_or(SnapshotError::Payload)?;
        let mut bytes = vec![0; count];
        self.input.seek(SeekFrom::Start(self.at))?;
        self.input.read_exact(&mut bytes)?;
        self.at += count as u64;
        Ok(bytes)
    }
}

pub(crate) fn whole<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, SnapshotError> {
    match postcard::take_from_bytes::<T>(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(SnapshotError::Payload),
    }
}

/// Why a snapshot cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// What it is read from.
    #[error(transparent)]
    File(#[from] io::Error),
    /// What it holds.
    #[error(transparent)]
    Content(#[from] SnapshotError),
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
