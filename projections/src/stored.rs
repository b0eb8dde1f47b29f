//! The stored form of facts: `(type, version)` selects a frozen postcard struct; older versions are lifted on read.
//!
//! A struct in here never changes once a release has written it. A new layout is a new version with a `From` from the
//! one before, its golden bytes go into the tests, and `FORMAT.md` gets a line.

use serde::{Deserialize, Serialize};

use crate::chunk::Kind;
use crate::fact::{Availability, AvailabilityCause, ClockQuality, Fact};
use crate::{AttrId, DeviceId, Epoch, Seq, Time, Value, ValueRef, varint};

/// Type ids. Never reused.
pub mod type_id {
    /// [`crate::Fact::StateChanged`]
    pub const STATE_CHANGED: u16 = 1;
    /// [`crate::Fact::AvailabilityChanged`]
    pub const AVAILABILITY_CHANGED: u16 = 2;
    /// [`crate::Fact::DeviceDiscovered`]
    pub const DEVICE_DISCOVERED: u16 = 3;
    /// [`crate::Fact::AttributeNamed`]
    pub const ATTRIBUTE_NAMED: u16 = 4;
    /// [`crate::Fact::DeviceRetired`]
    pub const DEVICE_RETIRED: u16 = 5;
    /// [`crate::Fact::ActionFired`]
    pub const ACTION_FIRED: u16 = 6;
    /// [`crate::Fact::InputQuarantined`]
    pub const INPUT_QUARANTINED: u16 = 7;
    /// [`crate::Fact::Booted`]
    pub const BOOTED: u16 = 8;
    /// [`crate::Fact::ClockStepped`]
    pub const CLOCK_STEPPED: u16 = 9;
    /// [`crate::Fact::ClockCorrected`]
    pub const CLOCK_CORRECTED: u16 = 16;
    /// [`crate::Fact::ConfigChanged`]
    pub const CONFIG_CHANGED: u16 = 10;
    /// [`crate::Fact::DeadLettered`]
    pub const DEAD_LETTERED: u16 = 11;
    /// [`crate::Fact::Trimmed`]
    pub const TRIMMED: u16 = 12;
    /// [`crate::Fact::Gap`]
    pub const GAP: u16 = 13;
    /// [`crate::Fact::EpochBegun`]
    pub const EPOCH_BEGUN: u16 = 14;
    /// [`crate::Fact::RecordsLost`]
    pub const RECORDS_LOST: u16 = 15;
    /// [`crate::Fact::DeviceForgotten`]
    pub const DEVICE_FORGOTTEN: u16 = 18;
}

/// `(type, version, name)` of everything this version writes or reads, the newest version of a type last.
pub const KINDS: &[(u16, u8, &str)] = &[
    (type_id::STATE_CHANGED, 1, "state_changed"),
    (type_id::STATE_CHANGED, 2, "state_changed"),
    (type_id::AVAILABILITY_CHANGED, 1, "availability_changed"),
    (type_id::DEVICE_DISCOVERED, 1, "device_discovered"),
    (type_id::ATTRIBUTE_NAMED, 1, "attribute_named"),
    (type_id::DEVICE_RETIRED, 1, "device_retired"),
    (type_id::ACTION_FIRED, 1, "action_fired"),
    (type_id::INPUT_QUARANTINED, 1, "input_quarantined"),
    (type_id::BOOTED, 1, "booted"),
    (type_id::CLOCK_STEPPED, 1, "clock_stepped"),
    (type_id::CONFIG_CHANGED, 1, "config_changed"),
    (type_id::DEAD_LETTERED, 1, "dead_lettered"),
    (type_id::TRIMMED, 1, "trimmed"),
    (type_id::GAP, 1, "gap"),
    (type_id::EPOCH_BEGUN, 1, "epoch_begun"),
    (type_id::RECORDS_LOST, 1, "records_lost"),
    (type_id::CLOCK_CORRECTED, 1, "clock_corrected"),
    (type_id::DEVICE_FORGOTTEN, 1, "device_forgotten"),
];

/// Name of a type, as answers and filters use it.
pub fn type_name(type_id: u16) -> Option<&'static str> {
    KINDS.iter().find(|(id, _, _)| *id == type_id).map(|(_, _, name)| *name)
}

/// Type id of a name.
pub fn type_named(name: &str) -> Option<u16> {
    KINDS.iter().find(|(_, _, n)| *n == name).map(|(id, _, _)| *id)
}

/// Version 1 of a value: numbers that are not integers took 9 bytes.
#[derive(Serialize, Deserialize)]
enum ValueV1<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Text(&'a str),
    Json(&'a str),
}

/// Version 2 of a value: short decimals, which is what sensors send, are scaled integers (`D2(2341)` is 23.41), and
/// booleans are one byte.
#[derive(Serialize, Deserialize)]
enum ValueV2<'a> {
    Null,
    False,
    True,
    Int(i64),
    Uint(u64),
    Float(f64),
    D1(i64),
    D2(i64),
    D3(i64),
    D4(i64),
    Text(&'a str),
    Json(&'a str),
}

impl<'a> From<ValueV1<'a>> for ValueV2<'a> {
    fn from(value: ValueV1<'a>) -> ValueV2<'a> {
        match value {
            ValueV1::Null => ValueV2::Null,
            ValueV1::Bool(false) => ValueV2::False,
            ValueV1::Bool(true) => ValueV2::True,
            ValueV1::Int(v) => ValueV2::Int(v),
            ValueV1::Uint(v) => ValueV2::Uint(v),
            ValueV1::Float(v) => ValueV2::Float(v),
            ValueV1::Text(v) => ValueV2::Text(v),
            ValueV1::Json(v) => ValueV2::Json(v),
        }
    }
}

impl<'a> From<ValueV2<'a>> for ValueRef<'a> {
    #[inline]
    fn from(value: ValueV2<'a>) -> ValueRef<'a> {
        match value {
            ValueV2::Null => ValueRef::Null,
            ValueV2::False => ValueRef::Bool(false),
            ValueV2::True => ValueRef::Bool(true),
            ValueV2::Int(v) => ValueRef::Int(v),
            ValueV2::Uint(v) => ValueRef::Uint(v),
            ValueV2::Float(v) => ValueRef::Float(v),
            ValueV2::D1(v) => ValueRef::Float(v as f64 / 10.0),
            ValueV2::D2(v) => ValueRef::Float(v as f64 / 100.0),
            ValueV2::D3(v) => ValueRef::Float(v as f64 / 1_000.0),
            ValueV2::D4(v) => ValueRef::Float(v as f64 / 10_000.0),
            ValueV2::Text(v) => ValueRef::Text(v),
            ValueV2::Json(v) => ValueRef::Json(v),
        }
    }
}

impl<'a> From<ValueRef<'a>> for ValueV2<'a> {
    #[inline]
    fn from(value: ValueRef<'a>) -> ValueV2<'a> {
        match value {
            ValueRef::Null => ValueV2::Null,
            ValueRef::Bool(false) => ValueV2::False,
            ValueRef::Bool(true) => ValueV2::True,
            ValueRef::Int(v) => ValueV2::Int(v),
            ValueRef::Uint(v) => ValueV2::Uint(v),
            ValueRef::Float(v) => scaled(v),
            ValueRef::Text(v) => ValueV2::Text(v),
            ValueRef::Json(v) => ValueV2::Json(v),
        }
    }
}

/// A float as a scaled integer where dividing gives back the very same float, else as itself.
#[inline]
fn scaled(value: f64) -> ValueV2<'static> {
    const EXACT: u64 = 1 << 53;
    let fits = |scale: f64| {
        // Compared after the way through the integer, which has no negative zero.
        let mantissa = (value * scale).round() as i64;
        let same = (mantissa as f64 / scale).to_bits() == value.to_bits();
        (same && mantissa.unsigned_abs() < EXACT).then_some(mantissa)
    };
    if let Some(v) = fits(10.0) {
        ValueV2::D1(v)
    } else if let Some(v) = fits(100.0) {
        ValueV2::D2(v)
    } else if let Some(v) = fits(1_000.0) {
        ValueV2::D3(v)
    } else if let Some(v) = fits(10_000.0) {
        ValueV2::D4(v)
    } else {
        ValueV2::Float(value)
    }
}

#[derive(Serialize, Deserialize)]
struct AvailabilityChangedV1 {
    device: u32,
    availability: Availability,
    cause: AvailabilityCause,
}

#[derive(Serialize, Deserialize)]
struct DeviceDiscoveredV1<'a> {
    device: u32,
    name: &'a str,
    source: &'a str,
    parent: Option<u32>,
}

#[derive(Serialize, Deserialize)]
struct AttributeNamedV1<'a> {
    attribute: u32,
    name: &'a str,
}

#[derive(Serialize, Deserialize)]
struct DeviceRetiredV1 {
    device: u32,
}

#[derive(Serialize, Deserialize)]
struct DeviceForgottenV1 {
    device: u32,
}

#[derive(Serialize, Deserialize)]
struct ActionFiredV1<'a> {
    device: u32,
    attribute: u32,
    #[serde(borrow)]
    value: ValueV2<'a>,
}

#[derive(Serialize, Deserialize)]
struct InputQuarantinedV1<'a> {
    source: &'a str,
    topic: &'a str,
    reason: &'a str,
    size: u64,
}

#[derive(Serialize, Deserialize)]
struct BootedV1<'a> {
    boot_id: [u8; 16],
    version: &'a str,
    clock: ClockQuality,
}

#[derive(Serialize, Deserialize)]
struct ClockSteppedV1 {
    expected: i64,
    found: i64,
}

#[derive(Serialize, Deserialize)]
struct ClockCorrectedV1 {
    before: i64,
    after: i64,
}

#[derive(Serialize, Deserialize)]
struct ConfigChangedV1<'a> {
    #[serde(borrow)]
    keys: Vec<&'a str>,
}

#[derive(Serialize, Deserialize)]
struct DeadLetteredV1<'a> {
    sink: &'a str,
    first: u64,
    last: u64,
    reason: &'a str,
}

#[derive(Serialize, Deserialize)]
struct TrimmedV1 {
    first: u64,
    last: u64,
}

#[derive(Serialize, Deserialize)]
struct GapV1<'a> {
    first: u64,
    last: u64,
    #[serde(borrow)]
    lost_by: Vec<&'a str>,
}

#[derive(Serialize, Deserialize)]
struct EpochBegunV1<'a> {
    previous: Option<u64>,
    reason: &'a str,
}

#[derive(Serialize, Deserialize)]
struct RecordsLostV1<'a> {
    first: u64,
    last: u64,
    reason: &'a str,
}

/// The changes of a `StateChanged` payload of any version, one at a time and without a copy: this is the hot path of
/// every fold. The bytes are those of `struct { device: u32, changes: Vec<(u32, Value)> }`.
#[derive(Clone, Debug)]
pub struct Changes<'a> {
    /// The device.
    pub device: DeviceId,
    left: u32,
    version: u8,
    rest: &'a [u8],
}

impl<'a> Changes<'a> {
    /// Reads the head of a `StateChanged` payload.
    ///
    /// # Errors
    /// [`StoredError`] if the version is unknown or the payload is cut short.
    #[inline]
    pub fn parse(kind: Kind, payload: &'a [u8]) -> Result<Changes<'a>, StoredError> {
        if kind.type_id != type_id::STATE_CHANGED || !matches!(kind.version, 1 | 2) {
            return Err(StoredError::newer(kind));
        }
        let mut rest = payload;
        let head = |rest: &mut &[u8]| {
            let device = u32::try_from(varint::take(rest)?).ok()?;
            let left = u32::try_from(varint::take(rest)?).ok()?;
            Some((device, left))
        };
        let (device, left) = head(&mut rest).ok_or(StoredError::Payload { kind })?;
        Ok(Changes { device: DeviceId(device), left, version: kind.version, rest })
    }

    /// The next change; `None` after the last.
    ///
    /// # Errors
    /// [`StoredError::Payload`] if the bytes are no change, or more of them are left after the last one.
    #[inline]
    #[allow(clippy::should_implement_trait)] // fallible, and an Iterator of Results would be checked per item twice
    pub fn next(&mut self) -> Result<Option<(AttrId, ValueRef<'a>)>, StoredError> {
        let kind = Kind { type_id: type_id::STATE_CHANGED, version: self.version };
        let bad = StoredError::Payload { kind };
        if self.left == 0 {
            return if self.rest.is_empty() { Ok(None) } else { Err(bad) };
        }
        self.left -= 1;
        let Some(attr) = varint::take(&mut self.rest).and_then(|a| u32::try_from(a).ok()) else {
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

/// A `ValueV2` off the front: what postcard would read, with the frequent variants decided first.
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
    let number = varint::take_signed(&mut tail)?;
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
                append(&other, out);
                continue;
            }
        };
        out.push(tag);
        varint::put_signed(out, number);
    }
    Kind { type_id: type_id::STATE_CHANGED, version: 2 }
}

/// Serialising these structs into memory cannot fail: no map of unknown length, no custom error.
fn append<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    let taken = std::mem::take(out);
    match postcard::to_extend(value, taken) {
        Ok(bytes) => *out = bytes,
        Err(error) => unreachable!("postcard into memory: {error}"),
    }
}

/// Appends the payload of a fact in its newest version and returns its kind.
pub fn encode(fact: &Fact, out: &mut Vec<u8>) -> Kind {
    let v1 = |type_id| Kind { type_id, version: 1 };
    match fact {
        Fact::StateChanged { device, changes } => {
            encode_changes(*device, changes.iter().map(|(a, v)| (*a, v.borrow())), out)
        }
        Fact::AvailabilityChanged { device, availability, cause } => {
            let stored =
                AvailabilityChangedV1 { device: device.0, availability: *availability, cause: *cause };
            append(&stored, out);
            v1(type_id::AVAILABILITY_CHANGED)
        }
        Fact::DeviceDiscovered { device, name, source, parent } => {
            append(&DeviceDiscoveredV1 { device: device.0, name, source, parent: parent.map(|p| p.0) }, out);
            v1(type_id::DEVICE_DISCOVERED)
        }
        Fact::AttributeNamed { attribute, name } => {
            append(&AttributeNamedV1 { attribute: attribute.0, name }, out);
            v1(type_id::ATTRIBUTE_NAMED)
        }
        Fact::DeviceRetired { device } => {
            append(&DeviceRetiredV1 { device: device.0 }, out);
            v1(type_id::DEVICE_RETIRED)
        }
        Fact::DeviceForgotten { device } => {
            append(&DeviceForgottenV1 { device: device.0 }, out);
            v1(type_id::DEVICE_FORGOTTEN)
        }
        Fact::ActionFired { device, attribute, value } => {
            let value = value.borrow().into();
            append(&ActionFiredV1 { device: device.0, attribute: attribute.0, value }, out);
            v1(type_id::ACTION_FIRED)
        }
        Fact::InputQuarantined { source, topic, reason, size } => {
            append(&InputQuarantinedV1 { source, topic, reason, size: *size }, out);
            v1(type_id::INPUT_QUARANTINED)
        }
        Fact::Booted { boot_id, version, clock } => {
            append(&BootedV1 { boot_id: *boot_id, version, clock: *clock }, out);
            v1(type_id::BOOTED)
        }
        Fact::ClockStepped { expected, found } => {
            append(&ClockSteppedV1 { expected: expected.0, found: found.0 }, out);
            v1(type_id::CLOCK_STEPPED)
        }
        Fact::ClockCorrected { before, after } => {
            append(&ClockCorrectedV1 { before: before.0, after: after.0 }, out);
            v1(type_id::CLOCK_CORRECTED)
        }
        Fact::ConfigChanged { keys } => {
            append(&ConfigChangedV1 { keys: keys.iter().map(String::as_str).collect() }, out);
            v1(type_id::CONFIG_CHANGED)
        }
        Fact::DeadLettered { sink, first, last, reason } => {
            append(&DeadLetteredV1 { sink, first: first.0, last: last.0, reason }, out);
            v1(type_id::DEAD_LETTERED)
        }
        Fact::Trimmed { first, last } => {
            append(&TrimmedV1 { first: first.0, last: last.0 }, out);
            v1(type_id::TRIMMED)
        }
        Fact::Gap { first, last, lost_by } => {
            let lost_by = lost_by.iter().map(String::as_str).collect();
            append(&GapV1 { first: first.0, last: last.0, lost_by }, out);
            v1(type_id::GAP)
        }
        Fact::EpochBegun { previous, reason } => {
            append(&EpochBegunV1 { previous: previous.map(|epoch| epoch.0), reason }, out);
            v1(type_id::EPOCH_BEGUN)
        }
        Fact::RecordsLost { first, last, reason } => {
            append(&RecordsLostV1 { first: first.0, last: last.0, reason }, out);
            v1(type_id::RECORDS_LOST)
        }
        Fact::Unknown { kind, payload } => {
            out.extend_from_slice(payload);
            *kind
        }
    }
}

/// Reads a payload of any known version as the fact it is today.
///
/// # Errors
/// [`StoredError::Newer`] for a known type in a version that this program does not know, [`StoredError::Payload`] for
/// bytes that are not that struct, or that go on after it. A type that is not known at all is [`Fact::Unknown`].
pub fn decode(kind: Kind, payload: &[u8]) -> Result<Fact, StoredError> {
    let Some(newest) = KINDS.iter().rev().find(|(id, _, _)| *id == kind.type_id) else {
        return Ok(Fact::Unknown { kind, payload: payload.to_vec() });
    };
    if kind.version == 0 || kind.version > newest.1 {
        return Err(StoredError::newer(kind));
    }
    Ok(match kind.type_id {
        type_id::STATE_CHANGED => {
            let mut changes = Changes::parse(kind, payload)?;
            let mut owned = Vec::new();
            while let Some((attr, value)) = changes.next()? {
                owned.push((attr, value.to_owned()));
            }
            Fact::StateChanged { device: changes.device, changes: owned }
        }
        type_id::AVAILABILITY_CHANGED => {
            let v: AvailabilityChangedV1 = whole(kind, payload)?;
            let device = DeviceId(v.device);
            Fact::AvailabilityChanged { device, availability: v.availability, cause: v.cause }
        }
        type_id::DEVICE_DISCOVERED => {
            let v: DeviceDiscoveredV1<'_> = whole(kind, payload)?;
            Fact::DeviceDiscovered {
                device: DeviceId(v.device),
                name: v.name.into(),
                source: v.source.into(),
                parent: v.parent.map(DeviceId),
            }
        }
        type_id::ATTRIBUTE_NAMED => {
            let v: AttributeNamedV1<'_> = whole(kind, payload)?;
            Fact::AttributeNamed { attribute: AttrId(v.attribute), name: v.name.into() }
        }
        type_id::DEVICE_RETIRED => {
            let v: DeviceRetiredV1 = whole(kind, payload)?;
            Fact::DeviceRetired { device: DeviceId(v.device) }
        }
        type_id::DEVICE_FORGOTTEN => {
            let v: DeviceForgottenV1 = whole(kind, payload)?;
            Fact::DeviceForgotten { device: DeviceId(v.device) }
        }
        type_id::ACTION_FIRED => {
            let v: ActionFiredV1<'_> = whole(kind, payload)?;
            let value = ValueRef::from(v.value).to_owned();
            Fact::ActionFired { device: DeviceId(v.device), attribute: AttrId(v.attribute), value }
        }
        type_id::INPUT_QUARANTINED => {
            let v: InputQuarantinedV1<'_> = whole(kind, payload)?;
            Fact::InputQuarantined {
                source: v.source.into(),
                topic: v.topic.into(),
                reason: v.reason.into(),
                size: v.size,
            }
        }
        type_id::BOOTED => {
            let v: BootedV1<'_> = whole(kind, payload)?;
            Fact::Booted { boot_id: v.boot_id, version: v.version.into(), clock: v.clock }
        }
        type_id::CLOCK_STEPPED => {
            let v: ClockSteppedV1 = whole(kind, payload)?;
            Fact::ClockStepped { expected: Time(v.expected), found: Time(v.found) }
        }
        type_id::CLOCK_CORRECTED => {
            let v: ClockCorrectedV1 = whole(kind, payload)?;
            Fact::ClockCorrected { before: Time(v.before), after: Time(v.after) }
        }
        type_id::CONFIG_CHANGED => {
            let v: ConfigChangedV1<'_> = whole(kind, payload)?;
            Fact::ConfigChanged { keys: v.keys.into_iter().map(String::from).collect() }
        }
        type_id::DEAD_LETTERED => {
            let v: DeadLetteredV1<'_> = whole(kind, payload)?;
            let (first, last) = (Seq(v.first), Seq(v.last));
            Fact::DeadLettered { sink: v.sink.into(), first, last, reason: v.reason.into() }
        }
        type_id::TRIMMED => {
            let v: TrimmedV1 = whole(kind, payload)?;
            Fact::Trimmed { first: Seq(v.first), last: Seq(v.last) }
        }
        type_id::GAP => {
            let v: GapV1<'_> = whole(kind, payload)?;
            let lost_by = v.lost_by.into_iter().map(String::from).collect();
            Fact::Gap { first: Seq(v.first), last: Seq(v.last), lost_by }
        }
        type_id::EPOCH_BEGUN => {
            let v: EpochBegunV1<'_> = whole(kind, payload)?;
            Fact::EpochBegun { previous: v.previous.map(Epoch), reason: v.reason.into() }
        }
        type_id::RECORDS_LOST => {
            let v: RecordsLostV1<'_> = whole(kind, payload)?;
            Fact::RecordsLost { first: Seq(v.first), last: Seq(v.last), reason: v.reason.into() }
        }
        _ => return Err(StoredError::Payload { kind }),
    })
}

fn whole<'a, T: Deserialize<'a>>(kind: Kind, payload: &'a [u8]) -> Result<T, StoredError> {
    match postcard::take_from_bytes::<T>(payload) {
        Ok((value, [])) => Ok(value),
        _ => Err(StoredError::Payload { kind }),
    }
}

/// Writes `StateChanged` in its first layout; only tests have a use for it.
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
    append(&(device.0, values), out);
    Kind { type_id: type_id::STATE_CHANGED, version: 1 }
}

/// Why a stored payload cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoredError {
    /// The version is not known here.
    #[error(
        "record type {} version {} was written by a newer fieldlog; install that version or a later one",
        kind.type_id,
        kind.version
    )]
    Newer {
        /// What was found.
        kind: Kind,
    },
    /// The bytes are not what the kind says.
    #[error("the payload is not a record of type {} version {}", kind.type_id, kind.version)]
    Payload {
        /// What was expected.
        kind: Kind,
    },
}

impl StoredError {
    fn newer(kind: Kind) -> StoredError {
        StoredError::Newer { kind }
    }
}
