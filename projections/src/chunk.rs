//! The chunk: the records of one or more commits, stored as one value.
//!
//! `FORMAT.md` has the bytes. A chunk's base time is the log time of the record *before* its first. So a chunk can be
//! split at any record, and adjacent bodies joined, without changing the bytes of a record.

use crate::record::{self, Record, Records, RecordsError};
use crate::stored;
use crate::{ChainHash, Fact, Kind, Seq, Time};

pub use crate::record::Envelope;

/// Length of the header.
pub const HEADER_BYTES: usize = 72;
const MAGIC: [u8; 2] = *b"FL";
/// Version of the chunk layout that is written.
pub const VERSION: u8 = 1;
/// A larger body is refused before anything is allocated for it. The limit exceeds a record with the largest MQTT
/// packet (256 MiB): what was acknowledged must be readable.
pub const BODY_BYTES_MAX: usize = 512 * 1024 * 1024;

const CODEC_NONE: u8 = 0;
const CODEC_LZ4: u8 = 1;

/// Records waiting for their commit, in stored form.
#[derive(Clone, Debug, Default)]
pub struct RecordBuffer {
    bytes: Vec<u8>,
    /// End of each record in `bytes`, and its log time.
    marks: Vec<(u32, Time)>,
    payload: Vec<u8>,
    base_time: Time,
    /// What caused the records that are appended now and name no cause of their own.
    cause: Option<Seq>,
}

impl RecordBuffer {
    /// An empty buffer that follows a record of log time `last_time`.
    pub fn after(last_time: Time) -> RecordBuffer {
        RecordBuffer { base_time: last_time, ..RecordBuffer::default() }
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// Bytes of all records, uncompressed.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// All records as they are stored.
    pub fn body(&self) -> &[u8] {
        &self.bytes
    }

    /// Log time of the record before the first.
    pub fn base_time(&self) -> Time {
        self.base_time
    }

    /// Log time of the last record, or of the one before the first.
    pub fn last_time(&self) -> Time {
        self.marks.last().map_or(self.base_time, |(_, time)| *time)
    }

    /// Removes the records; later records follow the last of them.
    pub fn clear(&mut self) {
        self.base_time = self.last_time();
        self.bytes.clear();
        self.marks.clear();
    }

    /// Gives the records that are appended from now on this cause, unless they name one of their own.
    pub fn caused_by(&mut self, cause: Option<Seq>) {
        self.cause = cause;
    }

    /// Appends a record. `write` appends the payload and returns its kind. Log time is the later of the wall clock and
    /// the previous record's log time.
    #[inline]
    pub fn push(&mut self, envelope: Envelope, write: impl FnOnce(&mut Vec<u8>) -> Kind) {
        let time = self.last_time().max(envelope.wall);
        self.push_at(time, envelope, write);
    }

    #[inline]
    fn push_at(&mut self, time: Time, envelope: Envelope, write: impl FnOnce(&mut Vec<u8>) -> Kind) {
        self.payload.clear();
        let kind = write(&mut self.payload);
        let last = self.last_time();
        let envelope = Envelope { cause: envelope.cause.or(self.cause), ..envelope };
        record::put(&mut self.bytes, last, time, envelope, kind, &self.payload);
        self.marks.push((self.bytes.len() as u32, time));
    }

    /// Appends a fact.
    pub fn push_fact(&mut self, envelope: Envelope, fact: &Fact) {
        self.push(envelope, |out| stored::encode(fact, out));
    }

    /// Appends a fact at a log time that is not before the last record's, whatever the wall clock was.
    pub fn push_fact_at(&mut self, time: Time, envelope: Envelope, fact: &Fact) {
        self.push_at(self.last_time().max(time), envelope, |out| stored::encode(fact, out));
    }

    /// Appends the record that sets log time back to `wall`.
    pub fn push_correction(&mut self, wall: Time) {
        let fact = Fact::ClockCorrected { before: self.last_time(), after: wall };
        // The difference from the previous record is stored modulo 2^64.
        self.push_at(wall, Envelope { wall, ..Envelope::default() }, |out| stored::encode(&fact, out));
    }

    /// Appends a record as it is stored. It must follow the last one: its bytes state its log time relative to that.
    pub fn push_record(&mut self, record: &Record<'_>) {
        self.bytes.extend_from_slice(record.raw);
        self.marks.push((self.bytes.len() as u32, record.time));
    }

    /// Joins the body of the stored chunk that follows this one.
    ///
    /// # Errors
    /// [`ChunkError`] if its records cannot be read.
    pub fn join(&mut self, chunk: &Chunk<'_>) -> Result<(), ChunkError> {
        let start = self.bytes.len();
        let mut records = chunk.records();
        while let Some(record) = records.next_record()? {
            let end = start + (chunk.body.len() - records.rest.len());
            self.marks.push((end as u32, record.time));
        }
        self.bytes.extend_from_slice(chunk.body);
        Ok(())
    }

    /// The end of a range of records that starts at `from`, has at most `raw_max` bytes and at least one record.
    fn cut(&self, from: usize, raw_max: usize) -> usize {
        let start = if from == 0 { 0 } else { self.marks[from - 1].0 as usize };
        let fitting = self.marks[from..].partition_point(|(end, _)| *end as usize - start <= raw_max);
        from + fitting.max(1)
    }

    /// The chain after records `from..to`, given the link before them.
    fn chain(&self, from: usize, to: usize, mut link: ChainHash) -> ChainHash {
        let mut start = if from == 0 { 0 } else { self.marks[from - 1].0 as usize };
        for (end, _) in &self.marks[from..to] {
            link = link.after(&self.bytes[start..*end as usize]);
            start = *end as usize;
        }
        link
    }

    /// Encodes records `from..to` as a chunk into `out`; `first_seq` is the position of record 0.
    fn encode(&self, from: usize, to: usize, first_seq: Seq, place: Place, out: &mut Vec<u8>) {
        let (start, base) = match from.checked_sub(1) {
            Some(before) => (self.marks[before].0 as usize, self.marks[before].1),
            None => (0, self.base_time),
        };
        let raw = &self.bytes[start..self.marks[to - 1].0 as usize];
        out.clear();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, CODEC_NONE, 0, 0, 0, 0]);
        out.extend_from_slice(&((to - from) as u32).to_le_bytes());
        out.extend_from_slice(&(raw.len() as u32).to_le_bytes());
        out.extend_from_slice(&(first_seq.0 + from as u64).to_le_bytes());
        out.extend_from_slice(&base.0.to_le_bytes());
        out.extend_from_slice(&place.stored_before.to_le_bytes());
        out.extend_from_slice(&place.link.0);
        debug_assert_eq!(out.len(), HEADER_BYTES);
        out.resize(HEADER_BYTES + lz4_flex::block::get_maximum_output_size(raw.len()), 0);
        match lz4_flex::block::compress_into(raw, &mut out[HEADER_BYTES..]) {
            Ok(size) if size < raw.len() => {
                out.truncate(HEADER_BYTES + size);
                out[3] = CODEC_LZ4;
            }
            _ => {
                out.truncate(HEADER_BYTES);
                out.extend_from_slice(raw);
            }
        }
        let crc = checksum(out);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    /// The records, the first at position `first_seq`.
    pub fn records(&self, first_seq: Seq) -> Records<'_> {
        Records { rest: &self.bytes, next: first_seq, left: self.marks.len() as u32, time: self.base_time }
    }

    /// The chain after the last record, given the link before the first.
    pub fn link_after(&self, link: ChainHash) -> ChainHash {
        self.chain(0, self.len(), link)
    }

    /// Appends the records of a buffer that follows this one.
    pub fn append(&mut self, later: &RecordBuffer) {
        debug_assert_eq!(self.last_time(), later.base_time);
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(&later.bytes);
        self.marks.extend(later.marks.iter().map(|(end, time)| (start + end, *time)));
    }

    /// Removes the first `records` records.
    pub fn drop_front(&mut self, records: usize) {
        let Some(last) = records.checked_sub(1) else { return };
        let (end, time) = self.marks[last];
        self.base_time = time;
        self.bytes.drain(..end as usize);
        self.marks.drain(..records);
        for mark in &mut self.marks {
            mark.0 -= end;
        }
    }

    /// Splits the records into chunks and passes each to `sink` with its first position. Stored sizes are close below
    /// `fill.large` bytes while there is enough for one, then close below `fill.small` (unless a single record is
    /// larger); the last chunk takes the rest. `ratio` is the compression of earlier chunks, in stored bytes per 1,024
    /// raw bytes; it is updated. `place` is the place of the first record.
    ///
    /// # Errors
    /// What `sink` returns.
    pub fn chunks<E>(
        &self,
        first_seq: Seq,
        mut place: Place,
        fill: Fill,
        ratio: &mut u32,
        mut sink: impl FnMut(Seq, &[u8]) -> Result<(), E>,
    ) -> Result<Cut, E> {
        let mut out = Vec::new();
        let mut from = 0;
        loop {
            let start = if from == 0 { 0 } else { self.marks[from - 1].0 as usize };
            let raw_max = |stored: usize, ratio: u32| {
                stored.saturating_sub(HEADER_BYTES) * 1024 / ratio.max(64) as usize
            };
            let large = self.bytes.len() - start >= raw_max(fill.large, *ratio);
            let stored_max = if large { fill.large } else { fill.small };
            let mut cut_at = raw_max(stored_max, *ratio);
            let mut to = self.cut(from, cut_at);
            self.encode(from, to, first_seq, place, &mut out);
            while out.len() > stored_max && to - from > 1 {
                cut_at = cut_at * 15 / 16;
                to = self.cut(from, cut_at);
                self.encode(from, to, first_seq, place, &mut out);
            }
            sink(Seq(first_seq.0 + from as u64), &out)?;
            let link = self.chain(from, to, place.link);
            if to == self.len() {
                return Ok(Cut { last_from: from, last_stored: out.len(), last_place: place, link });
            }
            let raw = self.marks[to - 1].0 - start as u32;
            // 1 % slack: overshooting costs a second compression.
            *ratio = ((out.len() - HEADER_BYTES) as u32).saturating_mul(1034) / raw.max(1);
            place = Place { stored_before: place.stored_before + out.len() as u64, link };
            from = to;
        }
    }
}

/// The place of a chunk, or a buffer, in its epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Stored bytes of all chunks before it, including trimmed ones.
    pub stored_before: u64,
    /// The chain before its first record.
    pub link: ChainHash,
}

/// The result of [`RecordBuffer::chunks`].
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Index of the first record of the last chunk.
    pub last_from: usize,
    /// Stored bytes of the last chunk.
    pub last_stored: usize,
    /// The place of the last chunk.
    pub last_place: Place,
    /// The chain after the last record.
    pub link: ChainHash,
}

/// Target sizes of stored chunks, in bytes: one page of the store, or several.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    /// While there is enough for one.
    pub large: usize,
    /// For the rest.
    pub small: usize,
}

/// CRC-32 (IEEE) of a chunk except its checksum field.
fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..4]);
    hasher.update(&bytes[8..]);
    hasher.finalize()
}

/// The header of a stored chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Position of the first record.
    pub first: Seq,
    /// Number of records, at least 1.
    pub count: u32,
    /// Uncompressed bytes of the records.
    pub raw_bytes: u32,
    /// Log time of the record before the first.
    pub base_time: Time,
    /// The place of the chunk in its epoch.
    pub place: Place,
    codec: u8,
    crc: u32,
}

impl Header {
    /// Reads a header; the checksum is not verified.
    ///
    /// # Errors
    /// [`ChunkError`] if it is not a header, or has an unknown layout version.
    pub fn parse(bytes: &[u8]) -> Result<Header, ChunkError> {
        let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else { return Err(ChunkError::Cut) };
        if head[..2] != MAGIC {
            return Err(ChunkError::NotAChunk);
        }
        if head[2] != VERSION {
            return Err(ChunkError::Version(head[2]));
        }
        let u32_at = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let mut link = [0; 32];
        link.copy_from_slice(&head[40..]);
        Ok(Header {
            codec: head[3],
            crc: u32_at(4),
            count: u32_at(8),
            raw_bytes: u32_at(12),
            first: Seq(u64_at(16)),
            base_time: Time(u64_at(24) as i64),
            place: Place { stored_before: u64_at(32), link: ChainHash(link) },
        })
    }

    /// Position of the last record.
    pub fn last(&self) -> Seq {
        Seq(self.first.0.saturating_add(u64::from(self.count)).saturating_sub(1))
    }
}

/// A verified, uncompressed chunk.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// Its header.
    pub header: Header,
    body: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// Records that are not stored as a chunk; only reading them shows whether the body has `count` records.
    pub fn of_body(first: Seq, count: u32, base_time: Time, place: Place, body: &'a [u8]) -> Chunk<'a> {
        let raw_bytes = body.len() as u32;
        let header = Header { first, count, raw_bytes, base_time, place, codec: CODEC_NONE, crc: 0 };
        Chunk { header, body }
    }

    /// Verifies and uncompresses a stored chunk; `scratch` is reused between calls.
    ///
    /// # Errors
    /// [`ChunkError`] for anything that is not exactly as written.
    pub fn parse(bytes: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<Chunk<'a>, ChunkError> {
        let header = Header::parse(bytes)?;
        let found = checksum(bytes);
        if found != header.crc {
            return Err(ChunkError::Checksum { stored: header.crc, found });
        }
        let raw_bytes = header.raw_bytes as usize;
        let positions_fit = header.first.0.checked_add(u64::from(header.count)).is_some();
        if raw_bytes > BODY_BYTES_MAX || header.count == 0 || !positions_fit {
            return Err(ChunkError::Length);
        }
        let body = match header.codec {
            CODEC_NONE => &bytes[HEADER_BYTES..],
            CODEC_LZ4 => {
                // LZ4 compresses at most 255 to 1; a header that claims more is refused before allocating.
                if raw_bytes > bytes.len() * 256 {
                    return Err(ChunkError::Length);
                }
                scratch.resize(raw_bytes, 0);
                let size = lz4_flex::block::decompress_into(&bytes[HEADER_BYTES..], scratch)
                    .map_err(|_| ChunkError::Compression)?;
                &scratch[..size]
            }
            other => return Err(ChunkError::Codec(other)),
        };
        if body.len() != raw_bytes {
            return Err(ChunkError::Length);
        }
        Ok(Chunk { header, body })
    }

    /// The part from `seq` on, as a chunk of its own: first position, base time and chain in its header are those of
    /// the record at `seq`. `place.stored_before` stays that of the whole chunk.
    ///
    /// # Errors
    /// [`ChunkError`] if a record before `seq` cannot be read, or there is no record at or after `seq`.
    pub fn from_seq(&self, seq: Seq) -> Result<Chunk<'a>, ChunkError> {
        let (mut records, mut header) = (self.records(), self.header);
        while records.next < seq {
            let Some(record) = records.next_record()? else { return Err(ChunkError::Length) };
            header.place.link = header.place.link.after(record.raw);
        }
        (header.first, header.base_time) = (records.next, records.time);
        (header.count, header.raw_bytes) = (records.left, records.rest.len() as u32);
        if header.count == 0 { Err(ChunkError::Length) } else { Ok(Chunk { header, body: records.rest }) }
    }

    /// Its records, in order.
    pub fn records(&self) -> Records<'a> {
        Records {
            rest: self.body,
            next: self.header.first,
            left: self.header.count,
            time: self.header.base_time,
        }
    }
}

/// Why stored bytes are not a valid chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// Shorter than a header.
    #[error("it is shorter than a chunk header")]
    Cut,
    /// No magic.
    #[error("it does not begin like a chunk")]
    NotAChunk,
    /// A newer layout version.
    #[error("its layout version {0} is not known; it was written by a newer fieldlog")]
    Version(u8),
    /// An unknown compression.
    #[error("its compression {0} is not known; it was written by a newer fieldlog")]
    Codec(u8),
    /// Damage, or a torn write that the store did not notice.
    #[error("its checksum is {found:08x} and should be {stored:08x}")]
    Checksum {
        /// In the header.
        stored: u32,
        /// Computed.
        found: u32,
    },
    /// The compressed body cannot be read.
    #[error("its body cannot be uncompressed")]
    Compression,
    /// Sizes in the header do not match the body.
    #[error("its body has another length than its header says")]
    Length,
    /// The records do not match the header.
    #[error(transparent)]
    Records(#[from] RecordsError),
}
