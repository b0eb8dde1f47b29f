//! A snapshot: the bytes of a [`View`], after a header that is checked first.
//!
//! Each fold is a section with its own version, so that changing one leaves the others valid. Layout 1 has two sections
//! without numbers, the devices and the aggregates; it is still read but no longer written. In layout 2 each section
//! begins with its number, and a reader skips unknown ones. Layout 3 is the same, compressed; it is for states of the past.

use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::fact::ClockQuality;
use crate::fold::{FoldId, Section, Unreadable};
use crate::folds::devices;
use crate::{Devices, Epoch, Seq, Time, View, Window};

pub use compressed::{read_part, write_compressed};

mod compressed;

const MAGIC: [u8; 4] = *b"FLSN";
/// Layout version with the sections of the devices and the aggregates only.
pub const VERSION_UNNUMBERED: u16 = 1;
/// Layout version with numbered sections.
pub const VERSION_NUMBERED: u16 = 2;
/// Layout version with numbered sections, of which the aggregates are left out, in an LZ4 frame.
pub const VERSION_COMPRESSED: u16 = 3;
/// Number of sections in layout 1: those numbered 1 and 2, in this order.
const UNNUMBERED: u8 = 2;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 48;

/// The header of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The incarnation of the log it was folded from.
    pub epoch: Epoch,
    /// The last record that it includes.
    pub seq: Seq,
    /// Log time of that record.
    pub time: Time,
    /// Bytes that follow the header.
    pub payload_bytes: u64,
    payload_crc: u32,
    layout: u16,
}

/// Streams a snapshot to `out`, without a copy of it in memory. The header, which holds length and checksum, is written
/// last. Returns the total length in bytes.
///
/// # Errors
/// Errors of `out`; the snapshot is then unusable.
pub fn write<W: Write + Seek>(view: &View, epoch: Epoch, out: W) -> io::Result<u64> {
    write_folds(view, &view.sections(), epoch, out)
}

fn write_folds<W: Write + Seek>(
    view: &View,
    folds: &[&dyn Section],
    epoch: Epoch,
    mut out: W,
) -> io::Result<u64> {
    let numbered = !folds.iter().map(|fold| fold.id().number).eq(1..=UNNUMBERED);
    let layout = if numbered { VERSION_NUMBERED } else { VERSION_UNNUMBERED };
    out.write_all(&[0; HEADER_BYTES])?;
    let (payload_bytes, payload_crc) = write_payload(view, folds, numbered, &mut out)?;
    let header = Header { epoch, seq: view.seq, time: view.time, payload_bytes, payload_crc, layout };
    finish(out, &header)
}

/// Returns length and checksum of what was written.
fn write_payload<W: Write>(
    view: &View,
    folds: &[&dyn Section],
    numbered: bool,
    out: W,
) -> io::Result<(u64, u32)> {
    let mut payload = Checked { out, crc: crc32fast::Hasher::new(), bytes: 0, failed: None };
    payload.put(&(view.boot_id, view.clock))?;
    for fold in folds {
        if numbered {
            payload.put(&fold.id().number)?;
        }
        payload.section(*fold)?;
    }
    Ok((payload.bytes, payload.crc.finalize()))
}

/// Writes the header into its place, and returns the total length.
fn finish<W: Write + Seek>(mut out: W, header: &Header) -> io::Result<u64> {
    out.seek(SeekFrom::Start(0))?;
    out.write_all(&header.sealed())?;
    let length = out.seek(SeekFrom::End(0))?;
    out.flush()?;
    Ok(length)
}

/// A snapshot in memory.
///
/// # Errors
/// [`SnapshotError::Payload`] if a fold cannot be serialised.
pub fn encode(view: &View, epoch: Epoch) -> Result<Vec<u8>, SnapshotError> {
    let mut out = Cursor::new(Vec::new());
    write(view, epoch, &mut out).map_err(|_| SnapshotError::Payload)?;
    Ok(out.into_inner())
}

impl Header {
    fn sealed(&self) -> [u8; HEADER_BYTES] {
        let mut head = [0; HEADER_BYTES];
        head[..4].copy_from_slice(&MAGIC);
        head[4..6].copy_from_slice(&self.layout.to_le_bytes());
        head[8..16].copy_from_slice(&self.epoch.0.to_le_bytes());
        head[16..24].copy_from_slice(&self.seq.0.to_le_bytes());
        head[24..32].copy_from_slice(&self.time.0.to_le_bytes());
        head[32..40].copy_from_slice(&self.payload_bytes.to_le_bytes());
        head[40..44].copy_from_slice(&self.payload_crc.to_le_bytes());
        let header_crc = crc32fast::hash(&head[..44]);
        head[44..48].copy_from_slice(&header_crc.to_le_bytes());
        head
    }
}

/// Counts and checksums the bytes written.
struct Checked<W> {
    out: W,
    crc: crc32fast::Hasher,
    bytes: u64,
    /// The cause, since postcard does not pass it on.
    failed: Option<io::Error>,
}

impl<W: Write> Checked<W> {
    fn put<T: Serialize>(&mut self, value: &T) -> io::Result<()> {
        let result = postcard::to_io(value, &mut *self).map(|_| ());
        self.cause(result)
    }

    /// Version, length and bytes of a fold. The length comes first, so the bytes are counted before they are written.
    fn section(&mut self, fold: &dyn Section) -> io::Result<()> {
        let bytes = fold.size().map_err(io::Error::other)?;
        self.put(&(fold.version(), bytes as u64))?;
        let result = fold.write(self);
        self.cause(result)
    }

    fn cause(&mut self, result: postcard::Result<()>) -> io::Result<()> {
        result.map_err(|error| self.failed.take().unwrap_or_else(|| io::Error::other(error)))
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

    /// Does nothing: postcard flushes after each value, and a compressed frame would end a block each time.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads and checks the header.
///
/// # Errors
/// [`SnapshotError`] if it is truncated, damaged, not a snapshot, or of an unknown layout.
pub fn header(bytes: &[u8]) -> Result<Header, SnapshotError> {
    let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else { return Err(SnapshotError::Cut) };
    let u32_at = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    if head[..4] != MAGIC || crc32fast::hash(&head[..44]) != u32_at(44) {
        return Err(SnapshotError::Header);
    }
    let layout = u16::from_le_bytes([head[4], head[5]]);
    if !matches!(layout, VERSION_UNNUMBERED | VERSION_NUMBERED | VERSION_COMPRESSED) {
        return Err(SnapshotError::Version(layout));
    }
    Ok(Header {
        epoch: Epoch(u64_at(8)),
        seq: Seq(u64_at(16)),
        time: Time(u64_at(24) as i64),
        payload_bytes: u64_at(32),
        payload_crc: u32_at(40),
        layout,
    })
}

/// The bytes of a header, for the same state as that of another epoch.
pub fn header_of_epoch(header: Header, epoch: Epoch) -> [u8; HEADER_BYTES] {
    Header { epoch, ..header }.sealed()
}

/// Restores a view whose aggregates have `windows`. Folds that the snapshot lacks, or that have another version or
/// other settings, are empty and [`View::stale`]; the devices never are. The snapshot is read twice, first for its
/// checksum, and one fold at a time, so that it is never whole in memory.
///
/// # Errors
/// [`ReadError`] for anything that is not exactly as written, and [`SnapshotError::Fold`] if the version of the devices
/// is unknown.
pub fn read<R: Read + Seek>(input: R, windows: &[Window]) -> Result<View, ReadError> {
    let mut view = View::new(windows.to_vec());
    let found = read_folds(input, &mut view.sections_mut())?;
    (view.seq, view.time) = (found.header.seq, found.header.time);
    (view.boot_id, view.clock) = found.boot;
    view.stale = found.stale;
    Ok(view)
}

/// The values of a snapshot beside the restored folds.
struct Restored {
    header: Header,
    boot: ([u8; 16], ClockQuality),
    stale: Vec<FoldId>,
}

fn read_folds<R: Read + Seek>(mut input: R, folds: &mut [&mut dyn Section]) -> Result<Restored, ReadError> {
    let header = read_header(&mut input)?;
    if header.layout == VERSION_COMPRESSED {
        let bytes = compressed::unpack(input, &header)?;
        return read_sections(
            Sections { input: Cursor::new(bytes), at: 0, end: header.payload_bytes },
            header,
            folds,
        );
    }
    check(&mut input, &header)?;
    let at = HEADER_BYTES as u64;
    read_sections(Sections { input, at, end: at + header.payload_bytes }, header, folds)
}

fn read_sections<R: Read + Seek>(
    mut sections: Sections<R>,
    header: Header,
    folds: &mut [&mut dyn Section],
) -> Result<Restored, ReadError> {
    let boot = sections.head()?;
    let required = folds.iter().filter(|fold| !fold.is_optional());
    let mut stale: Vec<FoldId> = required.map(|fold| fold.id()).collect();
    let mut last = 0;
    while sections.at < sections.end {
        let number = match header.layout {
            VERSION_UNNUMBERED => last + 1,
            _ => sections.head()?,
        };
        let in_order = number > last && (header.layout != VERSION_UNNUMBERED || number <= UNNUMBERED);
        if !in_order {
            return Err(SnapshotError::Payload.into());
        }
        last = number;
        if sections.restore(folds.iter_mut().find(|fold| fold.id().number == number))? {
            stale.retain(|fold| fold.number != number);
        }
    }
    let cut = header.layout == VERSION_UNNUMBERED && last != UNNUMBERED;
    // All records use the numbers of the devices, so nothing is usable without them.
    if cut || stale.contains(&Devices::ID) {
        return Err(SnapshotError::Payload.into());
    }
    Ok(Restored { header, boot, stale })
}

/// [`read`] from memory.
///
/// # Errors
/// As [`read`].
pub fn decode(bytes: &[u8], windows: &[Window]) -> Result<View, SnapshotError> {
    read(Cursor::new(bytes), windows).map_err(|error| match error {
        ReadError::Content(error) => error,
        ReadError::File(_) => SnapshotError::Payload,
    })
}

fn read_header<R: Read>(input: &mut R) -> Result<Header, ReadError> {
    let mut head = Vec::with_capacity(HEADER_BYTES);
    input.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut head)?;
    Ok(header(&head)?)
}

/// Checks length and checksum of the payload.
fn check<R: Read>(input: &mut R, header: &Header) -> Result<(), ReadError> {
    let mut checked = Checked { out: io::sink(), crc: crc32fast::Hasher::new(), bytes: 0, failed: None };
    io::copy(input, &mut checked)?;
    if checked.bytes != header.payload_bytes {
        return Err(SnapshotError::Cut.into());
    }
    if checked.crc.finalize() != header.payload_crc {
        return Err(SnapshotError::Checksum.into());
    }
    Ok(())
}

/// A payload with a verified checksum, read in pieces.
struct Sections<R> {
    input: R,
    at: u64,
    end: u64,
}

impl<R: Read + Seek> Sections<R> {
    /// Reads a short value.
    fn head<T: DeserializeOwned>(&mut self) -> Result<T, ReadError> {
        const MOST: u64 = 64;
        let mut bytes = Vec::new();
        self.input.seek(SeekFrom::Start(self.at))?;
        self.input.by_ref().take(MOST.min(self.end - self.at)).read_to_end(&mut bytes)?;
        let (value, rest) = postcard::take_from_bytes::<T>(&bytes).map_err(|_| SnapshotError::Payload)?;
        self.at += (bytes.len() - rest.len()) as u64;
        Ok(value)
    }

    /// Reads the next section into its fold, or skips it if there is no such fold or it is unusable.
    fn restore(&mut self, fold: Option<&mut &mut dyn Section>) -> Result<bool, ReadError> {
        let (version, bytes): (u16, u64) = self.head()?;
        let end = self.at.checked_add(bytes).filter(|end| *end <= self.end).ok_or(SnapshotError::Payload)?;
        let Some(fold) = fold.filter(|_| bytes > 0) else {
            self.at = end;
            return Ok(false);
        };
        if !fold.wants(self.first()?) {
            self.at = end;
            return Ok(false);
        }
        let restored = fold.restore(version, &self.read_bytes(bytes)?).map_err(SnapshotError::from)?;
        if !restored && fold.id() == Devices::ID {
            return Err(SnapshotError::Fold { found: version }.into());
        }
        Ok(restored)
    }

    /// The next byte.
    fn first(&mut self) -> Result<u8, ReadError> {
        let mut first = [0];
        self.input.seek(SeekFrom::Start(self.at))?;
        self.input.read_exact(&mut first)?;
        Ok(first[0])
    }

    fn read_bytes(&mut self, count: u64) -> Result<Vec<u8>, ReadError> {
        let fits = self.at.checked_add(count).is_some_and(|end| end <= self.end);
        let count = usize::try_from(count).ok().filter(|_| fits).ok_or(SnapshotError::Payload)?;
        let mut bytes = vec![0; count];
        self.input.seek(SeekFrom::Start(self.at))?;
        self.input.read_exact(&mut bytes)?;
        self.at += count as u64;
        Ok(bytes)
    }
}

/// Why a snapshot cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The input cannot be read.
    #[error(transparent)]
    File(#[from] io::Error),
    /// The content is invalid.
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
    /// A newer layout version.
    #[error("its layout version {0} is not known; it was written by a newer fieldlog")]
    Version(u16),
    /// Damaged.
    #[error("its checksum is wrong")]
    Checksum,
    /// Intact, but not as the layout requires.
    #[error("its content cannot be read")]
    Payload,
    /// Folded by an unknown version.
    #[error("it was folded by version {found} of the device fold, this is version {}", devices::VERSION)]
    Fold {
        /// The version in it.
        found: u16,
    },
}

impl From<Unreadable> for SnapshotError {
    fn from(_: Unreadable) -> SnapshotError {
        SnapshotError::Payload
    }
}

#[cfg(test)]
mod tests;
