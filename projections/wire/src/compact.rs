//! The compact format: the stored records, compressed, with the names that a receiver needs to read them.
//!
//! `FORMAT.md` has every field and bound, and the tests have parcels of each kind (`tests/golden.rs`). In short:
//! `FLC1`, then one zstd frame of a postcard struct with the manifest, the log time of the first record, the device and
//! attribute names in use, by number, and the records. Before each record are the differences in position and in
//! microseconds of log time from the previous record; for the first, from `first` and the base time. The records' bytes
//! are those of the log, so the receiver can recompute the chain.

use std::cell::RefCell;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use fieldlog_projections::stored::{Changes, StoredError, type_id};
use fieldlog_projections::{AttrId, ChainHash, DeviceId, Epoch, Record, Seq, Time, varint};
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};
use ruzstd::encoding::{CompressionLevel, compress};
use serde::{Deserialize, Serialize};

use crate::event::{Data, Naming};
use crate::manifest::{Lane, Manifest, ManifestError};

/// Content type of a compact parcel.
pub const CONTENT_TYPE: &str = "application/vnd.fieldlog.compact";
/// The magic number of a compact parcel.
pub const MAGIC: &[u8; 4] = b"FLC1";

/// A parcel that is larger than this uncompressed is refused.
pub(crate) const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The maximum window, which the decoder allocates at once; the encoder needs a fraction of it.
const WINDOW_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Everything before the records. The records follow as a byte string, so that the whole is one postcard struct.
#[derive(Serialize, Deserialize)]
struct Head<'a> {
    gateway: &'a str,
    epoch: u64,
    first: u64,
    last: u64,
    lane: u8,
    before: [u8; 32],
    after: [u8; 32],
    head: u64,
    events: u32,
    base_time: i64,
    #[serde(borrow)]
    devices: Vec<(u32, &'a str)>,
    #[serde(borrow)]
    attributes: Vec<(u32, &'a str)>,
}

/// Collects the records of a parcel; buffers are reused.
#[derive(Debug, Default)]
pub struct Encoder {
    records: Vec<u8>,
    plain: Vec<u8>,
    /// Position and log time of the previous record, and of the first.
    last: Option<(Seq, Time)>,
    base_time: Time,
    devices: Used,
    attributes: Used,
}

impl Encoder {
    /// Begins a parcel.
    pub fn begin(&mut self) {
        self.records.clear();
        self.last = None;
        self.base_time = Time(0);
        self.devices.clear();
        self.attributes.clear();
    }

    /// Uncompressed bytes so far, without the names.
    pub fn bytes(&self) -> usize {
        self.records.len()
    }

    /// Appends a record of a parcel that begins at `first`.
    pub fn push(&mut self, record: &Record<'_>, first: Seq) -> Result<(), StoredError> {
        let (devices, attributes) = (&mut self.devices, &mut self.attributes);
        numbers(record, |number| match number {
            Number::Device(id) => devices.mark(id.0),
            Number::Attribute(id) => attributes.mark(id.0),
        })?;
        if self.last.is_none() {
            self.base_time = record.time;
        }
        let (seq, time) = self.last.unwrap_or((first, record.time));
        varint::put(&mut self.records, record.seq.0 - seq.0);
        varint::put(&mut self.records, record.time.0.wrapping_sub(time.0) as u64);
        self.records.extend_from_slice(record.raw);
        self.last = Some((record.seq, record.time));
        Ok(())
    }

    /// The parcel.
    pub fn finish(&mut self, manifest: &Manifest, names: &dyn Naming) -> Bytes {
        let head = Head {
            gateway: &manifest.gateway,
            epoch: manifest.epoch.0,
            first: manifest.first.0,
            last: manifest.last.0,
            lane: manifest.lane as u8,
            before: manifest.before.0,
            after: manifest.after.0,
            head: manifest.head.0,
            events: manifest.events,
            base_time: self.base_time.0,
            devices: self.devices.sorted().iter().map(|id| (*id, names.device(DeviceId(*id)))).collect(),
            attributes: self
                .attributes
                .sorted()
                .iter()
                .map(|id| (*id, names.attribute(AttrId(*id))))
                .collect(),
        };
        self.plain.clear();
        // Writing to memory cannot fail, and every receiver would refuse a parcel without a head.
        if let Ok(plain) = postcard::to_extend(&head, std::mem::take(&mut self.plain)) {
            self.plain = plain;
        }
        varint::put(&mut self.plain, self.records.len() as u64);
        self.plain.extend_from_slice(&self.records);
        let mut out = Vec::with_capacity(self.plain.len() / 2 + 64);
        out.extend_from_slice(MAGIC);
        compress(&self.plain[..], &mut out, CompressionLevel::Fastest);
        Bytes::from(out)
    }
}

/// Numbers in use: a mark for each, and a list.
#[derive(Debug, Default)]
struct Used {
    marks: Vec<u32>,
    /// A mark counts only if it equals this, so that clearing costs nothing.
    round: u32,
    list: Vec<u32>,
}

impl Used {
    fn clear(&mut self) {
        self.list.clear();
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            self.marks.clear();
            self.round = 1;
        }
    }

    #[inline]
    fn mark(&mut self, id: u32) {
        let at = id as usize;
        if at >= self.marks.len() {
            self.marks.resize(at + 1, 0);
        }
        if self.marks[at] != self.round {
            self.marks[at] = self.round;
            self.list.push(id);
        }
    }

    fn sorted(&mut self) -> &[u32] {
        self.list.sort_unstable();
        &self.list
    }
}

/// A number in a record that refers to a name.
enum Number {
    Device(DeviceId),
    Attribute(AttrId),
}

/// Passes on every number in a record whose name its event needs. A record of a newer version has none.
#[inline]
fn numbers(record: &Record<'_>, mut visit: impl FnMut(Number)) -> Result<(), StoredError> {
    if record.kind.type_id == type_id::STATE_CHANGED && matches!(record.kind.version, 1 | 2) {
        let mut changes = Changes::parse(record.kind, record.payload)?;
        visit(Number::Device(changes.device));
        while let Some((attr, _)) = changes.next()? {
            visit(Number::Attribute(attr));
        }
        return Ok(());
    }
    let fact = match record.fact() {
        Err(StoredError::Newer { .. }) => return Ok(()),
        other => other?,
    };
    if let Some(device) = fact.device() {
        visit(Number::Device(device));
    }
    // These are rare, so that they may tell themselves what they ask for.
    let asked = Asked::default();
    if serde_json::to_writer(&mut Vec::new(), &Data::of(&fact, &asked)).is_ok() {
        asked.0.into_inner().into_iter().for_each(visit);
    }
    Ok(())
}

/// Notes which names an event asks for.
#[derive(Default)]
struct Asked(RefCell<Vec<Number>>);

impl Naming for Asked {
    fn device(&self, id: DeviceId) -> &str {
        self.0.borrow_mut().push(Number::Device(id));
        ""
    }

    fn attribute(&self, id: AttrId) -> &str {
        self.0.borrow_mut().push(Number::Attribute(id));
        ""
    }
}

/// A compact parcel that has been read and checked.
#[derive(Clone, Debug)]
pub struct Compact {
    /// The manifest.
    pub manifest: Manifest,
    base_time: Time,
    devices: Table,
    attributes: Table,
    /// The whole uncompressed parcel; the records are at its end.
    plain: Vec<u8>,
    records_at: usize,
}

type Table = Vec<(u32, Box<str>)>;

impl Compact {
    /// Decodes a parcel and checks all of its records.
    ///
    /// # Errors
    /// [`CompactError`] for anything that a gateway does not write.
    pub fn decode(bytes: &[u8]) -> Result<Compact, CompactError> {
        let frame = bytes.strip_prefix(MAGIC).ok_or(CompactError::NotCompact)?;
        let plain = uncompress(frame)?;
        let (head, rest) = postcard::take_from_bytes::<Head<'_>>(&plain).map_err(|_| CompactError::Head)?;
        let mut records = rest;
        let size = varint::read(&mut records).ok_or(CompactError::Head)?;
        if size != records.len() as u64 {
            return Err(CompactError::Length);
        }
        let manifest = head.manifest()?;
        let records_at = plain.len() - records.len();
        let (devices, attributes) = (table(&head.devices)?, table(&head.attributes)?);
        let base_time = Time(head.base_time);
        let compact = Compact { manifest, base_time, devices, attributes, plain, records_at };
        compact.check()?;
        Ok(compact)
    }

    /// Its records, in order.
    pub fn records(&self) -> Records<'_> {
        Records {
            rest: &self.plain[self.records_at..],
            left: self.manifest.events,
            last: None,
            first: self.manifest.first,
            until: self.manifest.last,
            base_time: self.base_time,
        }
    }

    fn check(&self) -> Result<(), CompactError> {
        let mut records = self.records();
        while let Some(record) = records.next_record()? {
            let mut named = true;
            numbers(&record, |number| {
                named &= match number {
                    Number::Device(id) => name(&self.devices, id.0).is_some(),
                    Number::Attribute(id) => name(&self.attributes, id.0).is_some(),
                }
            })
            .map_err(|_| CompactError::Record(record.seq))?;
            if !named {
                return Err(CompactError::Unnamed(record.seq));
            }
        }
        Ok(())
    }
}

impl Naming for Compact {
    fn device(&self, id: DeviceId) -> &str {
        name(&self.devices, id.0).unwrap_or_default()
    }

    fn attribute(&self, id: AttrId) -> &str {
        name(&self.attributes, id.0).unwrap_or_default()
    }
}

fn name(table: &[(u32, Box<str>)], id: u32) -> Option<&str> {
    // Most gateways use all their names, so a name is usually at the index of its number.
    match table.get(id as usize) {
        Some((at, name)) if *at == id => Some(name),
        _ => table.binary_search_by_key(&id, |(at, _)| *at).ok().map(|at| &*table[at].1),
    }
}

fn table(names: &[(u32, &str)]) -> Result<Table, CompactError> {
    if names.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
        return Err(CompactError::Names);
    }
    Ok(names.iter().map(|(id, name)| (*id, Box::from(*name))).collect())
}

fn uncompress(frame: &[u8]) -> Result<Vec<u8>, CompactError> {
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(WINDOW_BYTES_MAX);
    let mut rest = frame;
    let stream =
        StreamingDecoder::new_with_decoder(&mut rest, decoder).map_err(|_| CompactError::Compression)?;
    let mut plain = Vec::with_capacity(frame.len().saturating_mul(4).min(1024 * 1024));
    stream.take(BYTES_MAX + 1).read_to_end(&mut plain).map_err(|_| CompactError::Compression)?;
    if plain.len() as u64 > BYTES_MAX {
        return Err(CompactError::TooLarge);
    }
    if rest.is_empty() { Ok(plain) } else { Err(CompactError::Compression) }
}

impl Head<'_> {
    fn manifest(&self) -> Result<Manifest, CompactError> {
        let lane = match self.lane {
            0 => Lane::Live,
            1 => Lane::Backlog,
            2 => Lane::Priority,
            _ => return Err(CompactError::Head),
        };
        let manifest = Manifest {
            gateway: Arc::from(self.gateway),
            epoch: Epoch(self.epoch),
            first: Seq(self.first),
            last: Seq(self.last),
            lane,
            before: ChainHash(self.before),
            after: ChainHash(self.after),
            head: Seq(self.head),
            events: self.events,
        };
        Ok(manifest.checked()?)
    }
}

/// Iterates over the records of a [`Compact`].
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    left: u32,
    last: Option<(Seq, Time)>,
    first: Seq,
    until: Seq,
    base_time: Time,
}

impl<'a> Records<'a> {
    /// The next record; `None` after the last.
    ///
    /// # Errors
    /// [`CompactError::Record`] if a record is unreadable or out of order; [`CompactError::Length`] if bytes are left
    /// over at the end.
    #[inline]
    pub fn next_record(&mut self) -> Result<Option<Record<'a>>, CompactError> {
        if self.left == 0 {
            return if self.rest.is_empty() { Ok(None) } else { Err(CompactError::Length) };
        }
        let record =
            self.read_record().ok_or(CompactError::Record(self.last.map_or(self.first, |(seq, _)| seq)))?;
        self.left -= 1;
        Ok(Some(record))
    }

    #[inline]
    fn read_record(&mut self) -> Option<Record<'a>> {
        let mut rest = self.rest;
        let seq_delta = varint::read(&mut rest)?;
        // Modulo 2^64: log time goes back at a clock correction.
        let time_delta = varint::read(&mut rest)? as i64;
        let (seq, time) = match self.last {
            Some(_) if seq_delta == 0 => return None,
            Some(last) => last,
            None => (self.first, self.base_time),
        };
        let seq = Seq(seq.0.checked_add(seq_delta).filter(|seq| *seq <= self.until.0)?);
        let time = Time(time.0.wrapping_add(time_delta));
        let record = Record::read_at(&mut rest, seq, time)?;
        self.rest = rest;
        self.last = Some((seq, time));
        Some(record)
    }
}

/// Why bytes are not a compact parcel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompactError {
    /// Not a compact parcel, or a later version.
    #[error("it does not begin with FLC1; it is no compact parcel, or one of a newer fieldlog")]
    NotCompact,
    /// Not a zstd frame, or a damaged one.
    #[error("it cannot be uncompressed")]
    Compression,
    /// Larger than any gateway writes.
    #[error("uncompressed it is larger than {} MiB", BYTES_MAX / 1024 / 1024)]
    TooLarge,
    /// The part before the records.
    #[error("its head cannot be read")]
    Head,
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Bytes are missing or left over.
    #[error("its records have another length than it says")]
    Length,
    /// The names are not in order.
    #[error("its names are not in order")]
    Names,
    /// A record uses a number without a name.
    #[error("the record at sequence {0} is about something without a name")]
    Unnamed(Seq),
    /// A record cannot be read, or is out of order.
    #[error("the record at or after sequence {0} cannot be read")]
    Record(Seq),
}
