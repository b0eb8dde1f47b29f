//! The payload of `StateChanged`, encoded and decoded by hand, since nearly every record has one.

use super::payload::{Append, Parse, StoredError};
use super::type_id;
use super::value::{ValueV1, ValueV2};
use crate::{AttrId, DeviceId, Fact, Kind, Value, ValueRef, varint};

/// The changes of a `StateChanged` payload of any version, one at a time and without copying: the hot path of every
/// fold. The bytes are those of `struct { device: u32, changes: Vec<(u32, Value)> }`.
#[derive(Clone, Debug)]
pub struct Changes<'a> {
    /// The device.
    pub device: DeviceId,
    left: u32,
    version: u8,
    rest: &'a [u8],
}

/// What [`encode_changes`] writes of a fact.
pub(super) struct Changed<'a> {
    pub device: DeviceId,
    pub changes: &'a [(AttrId, Value)],
}

impl Append for Changed<'_> {
    fn append(&self, out: &mut Vec<u8>) {
        encode_changes(self.device, self.changes.iter().map(|(attr, value)| (*attr, value.borrow())), out);
    }
}

impl<'a> Parse<'a> for Changes<'a> {
    fn parse(kind: Kind, payload: &'a [u8]) -> Result<Changes<'a>, StoredError> {
        Changes::parse(kind, payload)
    }
}

impl<'a> Changes<'a> {
    /// The remaining changes as a fact.
    pub(super) fn fact(mut self) -> Result<Fact, StoredError> {
        let mut changes = Vec::new();
        while let Some((attr, value)) = self.next()? {
            changes.push((attr, value.to_owned()));
        }
        Ok(Fact::StateChanged { device: self.device, changes })
    }

    /// Reads the head of a `StateChanged` payload.
    ///
    /// # Errors
    /// [`StoredError`] if the version is unknown or the payload is truncated.
    #[inline]
    pub fn parse(kind: Kind, payload: &'a [u8]) -> Result<Changes<'a>, StoredError> {
        if kind.type_id != type_id::STATE_CHANGED || !matches!(kind.version, 1 | 2) {
            return Err(StoredError::newer(kind));
        }
        let mut rest = payload;
        let head = |rest: &mut &[u8]| {
            let device = u32::try_from(varint::read(rest)?).ok()?;
            let left = u32::try_from(varint::read(rest)?).ok()?;
            Some((device, left))
        };
        let (device, left) = head(&mut rest).ok_or(StoredError::Payload { kind })?;
        Ok(Changes { device: DeviceId(device), left, version: kind.version, rest })
    }

    /// The next change; `None` after the last.
    ///
    /// # Errors
    /// [`StoredError::Payload`] if the bytes are not a change, or if bytes are left after the last one.
    #[inline]
    #[allow(clippy::should_implement_trait)] // fallible, and an Iterator of Results would be checked per item twice
    pub fn next(&mut self) -> Result<Option<(AttrId, ValueRef<'a>)>, StoredError> {
        let kind = Kind { type_id: type_id::STATE_CHANGED, version: self.version };
        let bad = StoredError::Payload { kind };
        if self.left == 0 {
            return if self.rest.is_empty() { Ok(None) } else { Err(bad) };
        }
        self.left -= 1;
        let Some(attr) = varint::read(&mut self.rest).and_then(|a| u32::try_from(a).ok()) else {
            return Err(bad);
        };
        let value = if self.version == 2 {
            take_value(&mut self.rest)
        } else {
            postcard::take_from_bytes::<ValueV1<'a>>(self.rest).ok().map(|(value, rest)| {
                self.rest = rest;
                ValueV2::from(value).into()
            })
        };
        value.map(|value| Some((AttrId(attr), value))).ok_or(bad)
    }
}

/// Splits a `ValueV2` off the front, as postcard would read it, checking the frequent variants first.
#[inline]
fn take_value<'a>(rest: &mut &'a [u8]) -> Option<ValueRef<'a>> {
    let (&tag, mut tail) = rest.split_first()?;
    let scale = match tag {
        3 => 1.0,
        6 => 10.0,
        7 => 100.0,
        8 => 1_000.0,
        9 => 10_000.0,
        _ => {
            let (value, tail) = postcard::take_from_bytes::<ValueV2<'a>>(rest).ok()?;
            *rest = tail;
            return Some(value.into());
        }
    };
    let number = varint::read_signed(&mut tail)?;
    *rest = tail;
    Some(if tag == 3 { ValueRef::Int(number) } else { ValueRef::Float(number as f64 / scale) })
}

/// Appends the payload of a `StateChanged` without building the fact, and returns its kind.
#[inline]
pub fn encode_changes<'a>(
    device: DeviceId,
    changes: impl ExactSizeIterator<Item = (AttrId, ValueRef<'a>)>,
    out: &mut Vec<u8>,
) -> Kind {
    varint::put(out, u64::from(device.0));
    varint::put(out, changes.len() as u64);
    for (attr, value) in changes {
        varint::put(out, u64::from(attr.0));
        let (tag, number) = match ValueV2::from(value) {
            ValueV2::Int(v) => (3, v),
            ValueV2::D1(v) => (6, v),
            ValueV2::D2(v) => (7, v),
            ValueV2::D3(v) => (8, v),
            ValueV2::D4(v) => (9, v),
            other => {
                other.append(out);
                continue;
            }
        };
        out.push(tag);
        varint::put_signed(out, number);
    }
    Kind { type_id: type_id::STATE_CHANGED, version: 2 }
}

/// Writes version 1 of `StateChanged`; for tests only.
#[doc(hidden)]
pub fn encode_state_changed_v1(device: DeviceId, changes: &[(AttrId, Value)], out: &mut Vec<u8>) -> Kind {
    let values: Vec<(u32, ValueV1<'_>)> = changes
        .iter()
        .map(|(attr, value)| {
            let value = match value {
                Value::Null => ValueV1::Null,
                Value::Bool(v) => ValueV1::Bool(*v),
                Value::Int(v) => ValueV1::Int(*v),
                Value::Uint(v) => ValueV1::Uint(*v),
                Value::Float(v) => ValueV1::Float(*v),
                Value::Text(v) => ValueV1::Text(v),
                Value::Json(v) => ValueV1::Json(v),
            };
            (attr.0, value)
        })
        .collect();
    (device.0, values).append(out);
    Kind { type_id: type_id::STATE_CHANGED, version: 1 }
}
