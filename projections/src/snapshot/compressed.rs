//! Layout 3: a past state, without the aggregates, as an LZ4 frame.

use std::io::{self, Read, Seek, Write};

use lz4_flex::frame::{FrameDecoder, FrameEncoder};

use super::{
    HEADER_BYTES, Header, ReadError, SnapshotError, VERSION_COMPRESSED, finish, read_folds, write_payload,
};
use crate::fold::FoldId;
use crate::{Aggregates, Devices, Epoch, View};

/// Streams the view without its aggregates to `out`, compressed: what a state at a past time is replayed from. The
/// aggregates are most of a view, and log and archive have them. Returns the total length in bytes.
///
/// # Errors
/// As [`super::write`].
pub fn write_compressed<W: Write + Seek>(view: &View, epoch: Epoch, mut out: W) -> io::Result<u64> {
    out.write_all(&[0; HEADER_BYTES])?;
    let mut folds = view.sections();
    folds.retain(|fold| fold.id() != Aggregates::ID);
    let mut frame = FrameEncoder::new(&mut out);
    let (payload_bytes, payload_crc) = write_payload(view, &folds, true, &mut frame)?;
    frame.finish().map_err(io::Error::other)?;
    let layout = VERSION_COMPRESSED;
    finish(out, &Header { epoch, seq: view.seq, time: view.time, payload_bytes, payload_crc, layout })
}

/// Restores the devices and the given other folds of a snapshot of any layout; the others are stale.
///
/// # Errors
/// As [`super::read`].
pub fn read_part<R: Read + Seek>(input: R, folds: &[FoldId]) -> Result<View, ReadError> {
    let mut view = View::part(folds);
    let mut sections = view.sections_mut();
    sections.retain(|fold| fold.id() == Devices::ID || folds.contains(&fold.id()));
    let found = read_folds(input, &mut sections)?;
    view.stale.extend(found.stale);
    (view.seq, view.time) = (found.header.seq, found.header.time);
    (view.boot_id, view.clock) = found.boot;
    Ok(view)
}

/// The checked payload. It is as large as a header with a correct checksum says, or the snapshot is refused.
pub(super) fn unpack<R: Read>(input: R, header: &Header) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    FrameDecoder::new(input).take(header.payload_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(
        |error| match error.get_ref() {
            _ if error.kind() == io::ErrorKind::UnexpectedEof => SnapshotError::Cut.into(),
            Some(inner) if inner.is::<lz4_flex::frame::Error>() => SnapshotError::Checksum.into(),
            _ => ReadError::File(error),
        },
    )?;
    if bytes.len() as u64 != header.payload_bytes {
        return Err(SnapshotError::Cut.into());
    }
    if crc32fast::hash(&bytes) != header.payload_crc {
        return Err(SnapshotError::Checksum.into());
    }
    Ok(bytes)
}
