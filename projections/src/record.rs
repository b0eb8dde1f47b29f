//! The record: a fact with its position, as stored in the log. `FORMAT.md` has the bytes.

use crate::stored::{self, Changes, StoredError, type_id};
use crate::{DeviceId, Fact, Kind, Seq, Time, varint};

const HAS_DEVICE_TIME: u8 = 1;
const HAS_WALL: u8 = 2;
const HAS_CAUSE: u8 = 4;
const FLAGS_KNOWN: u8 = HAS_DEVICE_TIME | HAS_WALL | HAS_CAUSE;

/// A fact with its position, as stored in the log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record<'a> {
    /// Position.
    pub seq: Seq,
    /// Log time: never earlier than that of the previous record, except in a [`Fact::ClockCorrected`].
    pub time: Time,
    /// The wall clock reading; differs from `time` only after the clock went back.
    pub wall: Time,
    /// The device's own time, if its payload had one. It does not affect the order.
    pub device_time: Option<Time>,
    /// The record that caused this one.
    pub cause: Option<Seq>,
    /// The kind of the payload.
    pub kind: Kind,
    /// The stored bytes.
    pub payload: &'a [u8],
    /// The whole stored record, envelope and payload; the chain hashes these bytes.
    pub raw: &'a [u8],
}

impl<'a> Record<'a> {
    /// The device that the record is about. Reads only the start of the frequent kinds; all others go through
    /// [`Fact::device`], which knows every kind.
    ///
    /// # Errors
    /// [`StoredError`] if the record cannot be read; [`StoredError::Newer`] if a newer version wrote it.
    pub fn subject(&self) -> Result<Option<DeviceId>, StoredError> {
        match self.kind.type_id {
            type_id::STATE_CHANGED => {
                Changes::parse(self.kind, self.payload).map(|changes| Some(changes.device))
            }
            type_id::ATTRIBUTE_NAMED | type_id::INPUT_QUARANTINED => Ok(None),
            _ => self.fact().map(|fact| fact.device()),
        }
    }

    /// Splits a record off the front of `bytes`, with position and log time known from elsewhere; `None` if there is
    /// none. This is for records that were taken out of a log: their own bytes give log time relative to a record that
    /// may be absent.
    #[inline]
    pub fn read_at(bytes: &mut &'a [u8], seq: Seq, time: Time) -> Option<Record<'a>> {
        Record::read(bytes, seq, |_| time)
    }

    /// Splits a record off the front of `bytes`; `time` turns the stored time difference into log time.
    #[inline]
    fn read(bytes: &mut &'a [u8], seq: Seq, time: impl FnOnce(i64) -> Time) -> Option<Record<'a>> {
        let mut rest = *bytes;
        let kind = varint::read(&mut rest)?;
        let (&flags, mut rest) = rest.split_first()?;
        if flags & !FLAGS_KNOWN != 0 {
            return None;
        }
        let time = time(varint::read(&mut rest)? as i64);
        let offset = |flag: u8, rest: &mut &'a [u8]| {
            if flags & flag == 0 {
                return Some(None);
            }
            varint::read_signed(rest).map(|by| Some(Time(time.0.wrapping_add(by))))
        };
        let device_time = offset(HAS_DEVICE_TIME, &mut rest)?;
        let wall = offset(HAS_WALL, &mut rest)?.unwrap_or(time);
        let cause = if flags & HAS_CAUSE == 0 { None } else { Some(Seq(varint::read(&mut rest)?)) };
        let size = usize::try_from(varint::read(&mut rest)?).ok()?;
        let (payload, rest) = rest.split_at_checked(size)?;
        let kind = Kind { type_id: u16::try_from(kind >> 4).ok()?, version: (kind & 15) as u8 };
        let raw = &bytes[..bytes.len() - rest.len()];
        *bytes = rest;
        Some(Record { seq, time, wall, device_time, cause, kind, payload, raw })
    }

    /// The fact, lifted to its newest version.
    ///
    /// # Errors
    /// See [`stored::decode`].
    pub fn fact(&self) -> Result<Fact, StoredError> {
        stored::decode(self.kind, self.payload)
    }
}

/// The envelope of a payload, without the position.
#[derive(Clone, Copy, Debug, Default)]
pub struct Envelope {
    /// The wall clock at reception; log time is derived from it.
    pub wall: Time,
    /// The device's own time.
    pub device_time: Option<Time>,
    /// The record that caused it.
    pub cause: Option<Seq>,
}

/// Appends a record: the envelope, and the payload of `kind`. `last` is the log time of the previous record.
// Always: this is the hot path, and the compiler would otherwise make it a call, at 20 instructions each.
#[inline(always)]
pub(crate) fn put(out: &mut Vec<u8>, last: Time, time: Time, envelope: Envelope, kind: Kind, payload: &[u8]) {
    let flags = (u8::from(envelope.device_time.is_some()) * HAS_DEVICE_TIME)
        | (u8::from(envelope.wall != time) * HAS_WALL)
        | (u8::from(envelope.cause.is_some()) * HAS_CAUSE);
    varint::put(out, u64::from(kind.type_id) << 4 | u64::from(kind.version));
    out.push(flags);
    varint::put(out, time.0.wrapping_sub(last.0) as u64);
    if let Some(device_time) = envelope.device_time {
        varint::put_signed(out, device_time.0.wrapping_sub(time.0));
    }
    if envelope.wall != time {
        varint::put_signed(out, envelope.wall.0.wrapping_sub(time.0));
    }
    if let Some(cause) = envelope.cause {
        varint::put(out, cause.0);
    }
    varint::put(out, payload.len() as u64);
    out.extend_from_slice(payload);
}

/// Iterates over adjacent records.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    pub(crate) rest: &'a [u8],
    pub(crate) next: Seq,
    pub(crate) left: u32,
    /// Log time of the previous record.
    pub(crate) time: Time,
}

impl<'a> Records<'a> {
    /// The next record; `None` after the last.
    ///
    /// # Errors
    /// [`RecordsError`] if the bytes hold fewer or more records than stated.
    #[inline]
    pub fn next_record(&mut self) -> Result<Option<Record<'a>>, RecordsError> {
        if self.left == 0 {
            return if self.rest.is_empty() { Ok(None) } else { Err(RecordsError::Length) };
        }
        let seq = self.next;
        let record = self.read_one(seq).ok_or(RecordsError::Record(seq))?;
        self.left -= 1;
        self.next = seq.next();
        Ok(Some(record))
    }

    #[inline]
    fn read_one(&mut self, seq: Seq) -> Option<Record<'a>> {
        let before = self.time;
        let record = Record::read(&mut self.rest, seq, |by| Time(before.0.wrapping_add(by)))?;
        self.time = record.time;
        Some(record)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordsError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let item = self.next_record().transpose();
        if matches!(item, Some(Err(_))) {
            (self.left, self.rest) = (0, &[]);
        }
        item
    }
}

/// Why bytes are not the expected records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordsError {
    /// More bytes than records.
    #[error("its body has another length than its header says")]
    Length,
    /// A record cannot be read.
    #[error("the record at sequence {0} cannot be read")]
    Record(Seq),
}
