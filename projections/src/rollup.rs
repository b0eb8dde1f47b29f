//! Rollups: aggregates in the archive, which outlive the records they were folded from.
//!
//! A [`Period`] is the range of the log that falls into one window. Its buckets are stored as one or more rows, each
//! with a checksum; `FORMAT.md` has the bytes. A period names the records it was folded from, so a reader can tell what
//! is covered, what is missing, and what would be counted twice.

use crate::{AttrId, Bucket, DeviceId, Seq, Time, varint};

mod fold;
mod numbers;

pub use fold::Rollup;

const MAGIC: [u8; 2] = *b"FA";
/// Version of the row layout that is written.
pub const VERSION: u8 = 1;
/// Magic, version and checksum.
const FRAME_BYTES: usize = 7;
/// Upper bound for the frame and the head of a row.
const HEAD_BYTES_MAX: usize = 96;

/// The records of one window, or those archived so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// The first record.
    pub first: Seq,
    /// The last record; the period includes all records between.
    pub last: Seq,
    /// Log time of the record before the first, archived or not; 0 if there is none.
    pub base_time: Time,
    /// Log time of the last record.
    pub last_time: Time,
    /// Length of the window, in seconds.
    pub length_s: u32,
    /// Start of the window, in seconds since 1970.
    pub start_s: i64,
}

/// The bucket of one attribute in a period.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Series {
    /// The device.
    pub device: DeviceId,
    /// The attribute.
    pub attr: AttrId,
    /// Its values; `start_s` is that of the period's window.
    pub bucket: Bucket,
}

/// One stored row: some of a period's series, in the order of device and attribute.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Its period.
    pub period: Period,
    /// Index of the row in its period, from 0.
    pub part: u32,
    /// Rows of the period.
    pub parts: u32,
    /// Bytes of all rows before this one since the archive was begun, including deleted ones.
    pub stored_before: u64,
    /// Its own bytes.
    pub bytes: u64,
    count: u32,
    body: &'a [u8],
}

/// Writes a period as rows of at most `row_bytes_max` bytes, which must be 256 or more. `series` must be in the order
/// of device and attribute. A period without series still has one row, which records that there was nothing.
pub fn encode(
    period: &Period,
    series: impl IntoIterator<Item = Series>,
    mut stored_before: u64,
    row_bytes_max: usize,
) -> Vec<Vec<u8>> {
    let bodies = bodies(series, row_bytes_max.saturating_sub(HEAD_BYTES_MAX));
    let parts = bodies.len() as u64;
    let row = |(part, (count, body)): (usize, &(u64, Vec<u8>))| {
        let mut out = Vec::with_capacity(HEAD_BYTES_MAX + body.len());
        out.extend_from_slice(&MAGIC);
        out.push(VERSION);
        out.extend_from_slice(&[0; 4]);
        varint::put(&mut out, period.first.0);
        varint::put(&mut out, period.last.0 - period.first.0);
        varint::put_signed(&mut out, period.base_time.0);
        varint::put_signed(&mut out, period.last_time.0.wrapping_sub(period.base_time.0));
        varint::put(&mut out, u64::from(period.length_s));
        varint::put_signed(&mut out, period.start_s.div_euclid(i64::from(period.length_s)));
        varint::put(&mut out, stored_before);
        varint::put(&mut out, part as u64);
        varint::put(&mut out, parts);
        varint::put(&mut out, *count);
        out.extend_from_slice(body);
        let crc = checksum(&out);
        out[3..FRAME_BYTES].copy_from_slice(&crc.to_le_bytes());
        stored_before += out.len() as u64;
        out
    };
    bodies.iter().enumerate().map(row).collect()
}

/// The bodies of the rows with their numbers of series; one empty row if there are no series.
fn bodies(series: impl IntoIterator<Item = Series>, bytes_max: usize) -> Vec<(u64, Vec<u8>)> {
    let mut bodies = vec![(0, Vec::new())];
    let (mut before, mut entry) = (None, Vec::new());
    for one in series {
        entry.clear();
        put(&mut entry, before, &one);
        let full = bodies.last().is_some_and(|(_, body)| body.len() + entry.len() > bytes_max);
        if full {
            entry.clear();
            put(&mut entry, None, &one);
            bodies.push((0, Vec::new()));
        }
        if let Some((count, body)) = bodies.last_mut() {
            *count += 1;
            body.extend_from_slice(&entry);
        }
        before = Some((one.device, one.attr));
    }
    bodies
}

/// Appends one series, with numbers relative to the previous one in its row.
fn put(out: &mut Vec<u8>, before: Option<(DeviceId, AttrId)>, series: &Series) {
    let (device, attr) = before.unwrap_or_default();
    let step = series.device.0.wrapping_sub(device.0);
    varint::put(out, u64::from(step));
    // Attributes ascend within a device and start again with the next one.
    let base = if step == 0 { attr.0 } else { 0 };
    varint::put(out, u64::from(series.attr.0.wrapping_sub(base)));
    numbers::put(out, &series.bucket);
}

fn read_series(rest: &mut &[u8], before: (DeviceId, AttrId), start_s: i64) -> Option<Series> {
    let (device, attr) = before;
    let step = u32::try_from(varint::read(rest)?).ok()?;
    let base = if step == 0 { attr.0 } else { 0 };
    let attr = u32::try_from(varint::read(rest)?).ok()?.checked_add(base)?;
    let device = device.0.checked_add(step)?;
    Some(Series {
        device: DeviceId(device),
        attr: AttrId(attr),
        bucket: numbers::read_bucket(rest, start_s)?,
    })
}

/// CRC-32 of a row except the checksum.
fn checksum(row: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&row[..3]);
    hasher.update(&row[FRAME_BYTES..]);
    hasher.finalize()
}

impl<'a> Row<'a> {
    /// Reads a row's head and verifies the whole row.
    ///
    /// # Errors
    /// [`RollupError`] for anything that [`encode`] does not write.
    pub fn parse(bytes: &'a [u8]) -> Result<Row<'a>, RollupError> {
        if bytes.len() < FRAME_BYTES || bytes[..2] != MAGIC {
            return Err(RollupError::NoRow);
        }
        if bytes[2] != VERSION {
            return Err(RollupError::Version(bytes[2]));
        }
        if bytes[3..FRAME_BYTES] != checksum(bytes).to_le_bytes() {
            return Err(RollupError::Checksum);
        }
        let row = Row::head(&bytes[FRAME_BYTES..]).ok_or(RollupError::Content)?;
        Ok(Row { bytes: bytes.len() as u64, ..row })
    }

    fn head(mut rest: &'a [u8]) -> Option<Row<'a>> {
        let rest = &mut rest;
        let small = |rest: &mut &[u8]| u32::try_from(varint::read(rest)?).ok();
        let first = varint::read(rest)?;
        let last = first.checked_add(varint::read(rest)?)?;
        let base_time = varint::read_signed(rest)?;
        let last_time = base_time.wrapping_add(varint::read_signed(rest)?);
        let length_s = small(rest).filter(|length_s| *length_s > 0)?;
        let start_s = varint::read_signed(rest)?.checked_mul(i64::from(length_s))?;
        let stored_before = varint::read(rest)?;
        let (part, parts, count) = (small(rest)?, small(rest)?, small(rest)?);
        let period = Period {
            first: Seq(first),
            last: Seq(last),
            base_time: Time(base_time),
            last_time: Time(last_time),
            length_s,
            start_s,
        };
        (part < parts).then_some(Row { period, part, parts, stored_before, bytes: 0, count, body: rest })
    }

    /// All its series, in order.
    ///
    /// # Errors
    /// [`RollupError::Content`] for anything that [`encode`] does not write.
    pub fn series(&self) -> Result<Vec<Series>, RollupError> {
        let mut all = Vec::new();
        self.walk(|series| {
            all.push(series);
            true
        })?;
        Ok(all)
    }

    /// The bucket of one attribute, if it is in this row.
    ///
    /// # Errors
    /// As [`Row::series`], for the series up to it.
    pub fn bucket(&self, device: DeviceId, attr: AttrId) -> Result<Option<Bucket>, RollupError> {
        let mut found = None;
        self.walk(|series| {
            if (series.device, series.attr) == (device, attr) {
                found = Some(series.bucket);
            }
            (series.device, series.attr) < (device, attr)
        })?;
        Ok(found)
    }

    /// Visits series until `visit` returns `false`.
    fn walk(&self, mut visit: impl FnMut(Series) -> bool) -> Result<(), RollupError> {
        let (mut rest, mut before) = (self.body, (DeviceId(0), AttrId(0)));
        for _ in 0..self.count {
            let series = read_series(&mut rest, before, self.period.start_s).ok_or(RollupError::Content)?;
            before = (series.device, series.attr);
            if !visit(series) {
                return Ok(());
            }
        }
        if rest.is_empty() { Ok(()) } else { Err(RollupError::Content) }
    }
}

/// Why a row of the archive cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RollupError {
    /// Not a row.
    #[error("it is no row of the archive")]
    NoRow,
    /// A newer layout version.
    #[error("its layout version {0} is not known; it was written by a newer fieldlog")]
    Version(u8),
    /// Damaged.
    #[error("its checksum is wrong")]
    Checksum,
    /// Intact, but not as the layout requires.
    #[error("its content cannot be read")]
    Content,
    /// The period has missing rows.
    #[error("rows of it are missing")]
    Rows,
    /// Earlier rows are missing.
    #[error("rows before it are missing")]
    Before,
}
