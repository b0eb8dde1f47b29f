//! Values of metrics by data type (section 6.4.16), as attribute values.
//!
//! Arrays, and tables as arrays of rows, become JSON. Times become RFC 3339 text, bytes hexadecimal text. NaN and
//! infinity become null.

use std::fmt::Write;

use bytes::Bytes;
use fieldlog_projections::Value;
use fieldlog_wire::json::base16;
use prost::Message;
use serde_json::{Map, Number, Value as Json};

use super::payload::{Cell, DataSet, Raw, Row};

/// Data type Boolean.
pub const BOOLEAN: u32 = 11;
pub(super) const FLOAT: u32 = 9;
pub(super) const DOUBLE: u32 = 10;
pub(super) const STRING: u32 = 12;
pub(super) const DATE_TIME: u32 = 13;
pub(super) const TEXT: u32 = 14;
pub(super) const UUID: u32 = 15;
const DATA_SET: u32 = 16;
const BYTES: u32 = 17;
const FILE: u32 = 18;
const TEMPLATE: u32 = 19;
const ARRAYS: std::ops::RangeInclusive<u32> = 22..=34;

/// Maximum columns times rows of a table.
const CELLS_MAX: usize = 65_536;

/// Why a value is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueFault {
    /// Templates.
    #[error("it is a template; templates are not recorded. Let the edge node publish its members as metrics")]
    Template,
    /// Extensions, property sets, and types of later specifications.
    #[error("data type {0} is not one that a metric can have")]
    Datatype(u32),
    /// The value on the wire is not of the data type.
    #[error("it has data type {0} and another kind of value")]
    Mismatch(u32),
    /// The bytes of an array or a table are invalid.
    #[error("the bytes of its value are not those of data type {0}")]
    Malformed(u32),
    /// Neither null nor a value.
    #[error("it has no value and is not null")]
    Missing,
    /// Longer than is kept.
    #[error("its value takes {bytes} bytes; limits.text_bytes_max is {max}")]
    TooLong {
        /// Bytes of text or JSON.
        bytes: usize,
        /// The limit.
        max: usize,
    },
}

/// The value of a metric of a data type; text and JSON of at most `text_bytes_max` bytes.
///
/// # Errors
/// [`ValueFault`]
pub fn value(datatype: u32, raw: &Raw, text_bytes_max: usize) -> Result<Value, ValueFault> {
    let value = match (datatype, raw) {
        (TEMPLATE, _) | (_, Raw::Template(_)) => return Err(ValueFault::Template),
        (1..=8, Raw::Int(number)) => integer(datatype, u64::from(*number), 32)?,
        // Some writers send all 32-bit numbers as long ones.
        (1..=8, Raw::Long(number)) => integer(datatype, *number, 64)?,
        (FLOAT, Raw::Float(number)) => float(shortest(*number)),
        (DOUBLE, Raw::Double(number)) => float(*number),
        (BOOLEAN, Raw::Bool(flag)) => Value::Bool(*flag),
        (STRING | TEXT | UUID, Raw::Text(text)) => {
            check_length(text.len(), text_bytes_max)?;
            Value::Text(text.as_str().into())
        }
        (DATE_TIME, Raw::Long(millis)) => Value::Text(date_time(*millis, datatype)?.into()),
        (BYTES | FILE, Raw::Bytes(bytes)) => {
            check_length(bytes.len().saturating_mul(2), text_bytes_max)?;
            Value::Text(base16(bytes).into())
        }
        (DATA_SET, Raw::DataSet(bytes)) => {
            // Names and braces are repeated in each row, so the text is longer than the bytes.
            check_length(bytes.len(), text_bytes_max)?;
            json(table(bytes)?, text_bytes_max)?
        }
        (_, Raw::Bytes(bytes)) if ARRAYS.contains(&datatype) => {
            check_length(text_bytes_min(datatype, bytes), text_bytes_max)?;
            json(array(datatype, bytes)?, text_bytes_max)?
        }
        (1..=18 | 22..=34, _) => return Err(ValueFault::Mismatch(datatype)),
        _ => return Err(ValueFault::Datatype(datatype)),
    };
    Ok(value)
}

fn check_length(bytes: usize, max: usize) -> Result<(), ValueFault> {
    if bytes > max { Err(ValueFault::TooLong { bytes, max }) } else { Ok(()) }
}

/// Only the data type shows the sign. A small signed number may or may not have been sign-extended to the `width` of
/// the wire.
fn integer(datatype: u32, number: u64, width: u32) -> Result<Value, ValueFault> {
    let mismatch = ValueFault::Mismatch(datatype);
    if datatype > 4 {
        let max = [u64::from(u8::MAX), u64::from(u16::MAX), u64::from(u32::MAX), u64::MAX];
        return if number > max[datatype as usize - 5] { Err(mismatch) } else { Ok(unsigned(number)) };
    }
    let bits = [8, 16, 32, 64][datatype as usize - 1];
    if bits >= width {
        // Int64 in 32 bits: too short to have a sign.
        let extended = if bits > width { number as i64 } else { sign_extend(number, bits) };
        return Ok(Value::Int(extended));
    }
    let signed = sign_extend(number, bits);
    let as_wide = |wide: u32| (signed as u64) & (u64::MAX >> (64 - wide));
    let fits = [bits, 32, width].iter().any(|wide| number == as_wide(*wide));
    if fits { Ok(Value::Int(signed)) } else { Err(mismatch) }
}

fn sign_extend(number: u64, bits: u32) -> i64 {
    let unused = 64 - bits;
    ((number << unused) as i64) >> unused
}

fn unsigned(number: u64) -> Value {
    i64::try_from(number).map_or(Value::Uint(number), Value::Int)
}

fn float(number: f64) -> Value {
    if number.is_finite() { Value::Float(number) } else { Value::Null }
}

/// The shortest decimal of these 32 bits: 12.1 instead of 12.100000381469727.
fn shortest(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(f64::from(number))
}

fn date_time(millis: u64, datatype: u32) -> Result<String, ValueFault> {
    let millis = i64::try_from(millis).map_err(|_| ValueFault::Mismatch(datatype))?;
    let time = jiff::Timestamp::from_millisecond(millis).map_err(|_| ValueFault::Mismatch(datatype))?;
    let mut text = String::new();
    let _ = write!(text, "{time:.3}");
    Ok(text)
}

fn json(items: Vec<Json>, text_bytes_max: usize) -> Result<Value, ValueFault> {
    let text = Json::Array(items).to_string();
    check_length(text.len(), text_bytes_max)?;
    Ok(Value::Json(text.into()))
}

fn to_json(value: Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(v) => Json::Bool(v),
        Value::Int(v) => v.into(),
        Value::Uint(v) => v.into(),
        Value::Float(v) => Number::from_f64(v).map_or(Json::Null, Json::Number),
        Value::Text(v) | Value::Json(v) => Json::String(v.into()),
    }
}

/// Minimum text size of an array's elements, known before there is a list of them.
fn text_bytes_min(datatype: u32, bytes: &[u8]) -> usize {
    match (datatype, bytes.first_chunk::<4>()) {
        (32, Some(count)) => (u32::from_le_bytes(*count) as usize).saturating_mul("true,".len()),
        (22 | 26, _) => bytes.len() * "0,".len(),
        // At least two bytes per element, or text.
        _ => bytes.len(),
    }
}

/// Elements of a packed array, little endian.
fn array(datatype: u32, bytes: &[u8]) -> Result<Vec<Json>, ValueFault> {
    let malformed = ValueFault::Malformed(datatype);
    let size = match datatype {
        22 | 26 => 1,
        23 | 27 => 2,
        24 | 28 | 30 => 4,
        25 | 29 | 31 | 34 => 8,
        32 => return booleans(bytes).ok_or(malformed),
        _ => return strings(bytes).ok_or(malformed),
    };
    if !bytes.len().is_multiple_of(size) {
        return Err(malformed);
    }
    let element = |chunk: &[u8]| {
        let bits = chunk.iter().rev().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        let value = match datatype {
            22..=25 => Value::Int(sign_extend(bits, 8 * size as u32)),
            30 => float(shortest(f32::from_bits(bits as u32))),
            31 => float(f64::from_bits(bits)),
            34 => Value::Text(date_time(bits, datatype)?.into()),
            _ => unsigned(bits),
        };
        Ok(to_json(value))
    };
    bytes.chunks_exact(size).map(element).collect()
}

/// A count of 4 bytes, then a bit for each, the most significant of a byte first.
fn booleans(bytes: &[u8]) -> Option<Vec<Json>> {
    let (count, bits) = bytes.split_first_chunk::<4>()?;
    let count = u32::from_le_bytes(*count) as usize;
    if bits.len() != count.div_ceil(8) {
        return None;
    }
    let bit = |at: usize| Json::Bool(bits[at / 8] & (0x80 >> (at % 8)) != 0);
    Some((0..count).map(bit).collect())
}

/// Each ends with a zero byte.
fn strings(bytes: &[u8]) -> Option<Vec<Json>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let (last, all) = bytes.split_last()?;
    if *last != 0 {
        return None;
    }
    all.split(|byte| *byte == 0).map(|text| Some(std::str::from_utf8(text).ok()?.into())).collect()
}

/// A table as its rows, each an object.
fn table(bytes: &Bytes) -> Result<Vec<Json>, ValueFault> {
    let malformed = || ValueFault::Malformed(DATA_SET);
    let table = DataSet::decode(bytes.clone()).map_err(|_| malformed())?;
    let columns = table.columns.len();
    if table.types.len() != columns || columns.saturating_mul(table.rows.len()) > CELLS_MAX {
        return Err(malformed());
    }
    let row = |bytes: Bytes| {
        let row = Row::decode(bytes).map_err(|_| malformed())?;
        if row.elements.len() != columns {
            return Err(malformed());
        }
        let named = table.columns.iter().zip(&table.types).zip(row.elements);
        let cells = named.map(|((name, datatype), element)| {
            let cell = element.value.map_or(Ok(Json::Null), |cell| cell_value(*datatype, cell))?;
            Ok((name.clone(), cell))
        });
        Ok(Json::Object(cells.collect::<Result<Map<_, _>, ValueFault>>()?))
    };
    table.rows.iter().cloned().map(row).collect()
}

fn cell_value(datatype: u32, cell: Cell) -> Result<Json, ValueFault> {
    let raw = match cell {
        Cell::Int(v) => Raw::Int(v),
        Cell::Long(v) => Raw::Long(v),
        Cell::Float(v) => Raw::Float(v),
        Cell::Double(v) => Raw::Double(v),
        Cell::Bool(v) => Raw::Bool(v),
        Cell::Text(v) => Raw::Text(v),
    };
    // A cell is part of a text whose total length is checked.
    value(datatype, &raw, usize::MAX).map(to_json)
}
