//! Payloads that are not JSON, as the documents that rules take apart: each function reads one format into the JSON tree
//! that says the same. Pure.
//!
//! A tree takes up to a hundred times the bytes of what it is made from, so [`PAYLOAD_BYTES_MAX`] bounds what is read.

use serde_json::{Number, Value};

use super::DecodeError;

pub mod cbor;
pub mod influx;
pub mod msgpack;
pub mod senml;

/// Longest payload that is read into a tree, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 10;
/// Lists and maps nested deeper than this are refused.
const DEPTH_MAX: usize = 16;

fn check_size(payload: &[u8], format: &'static str) -> Result<(), DecodeError> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        let why = format!("{} bytes; {PAYLOAD_BYTES_MAX} are the most that is taken", payload.len());
        return Err(fault(format, why));
    }
    Ok(())
}

fn fault(format: &'static str, why: impl Into<String>) -> DecodeError {
    DecodeError::Format { format, why: why.into() }
}

/// A number that JSON can say. NaN is no value. An infinite number is neither a value nor the absence of one.
fn float(value: f64, format: &'static str) -> Result<Value, DecodeError> {
    if value.is_nan() {
        return Ok(Value::Null);
    }
    Number::from_f64(value).map(Value::Number).ok_or_else(|| fault(format, "an infinite number"))
}

/// A single-precision number as its shortest decimal: 0.1, and not 0.10000000149011612.
fn single(value: f32, format: &'static str) -> Result<Value, DecodeError> {
    float(value.to_string().parse().unwrap_or(f64::from(value)), format)
}

/// Bytes as lower-case hexadecimal digits, as sensors' keys and addresses are written.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing into a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Enters a member. A name that is there twice would lose one of its values.
fn insert(
    object: &mut serde_json::Map<String, Value>,
    name: String,
    value: Value,
    format: &'static str,
) -> Result<(), DecodeError> {
    if object.contains_key(&name) {
        return Err(fault(format, format!("the name {name:?} is there twice")));
    }
    object.insert(name, value);
    Ok(())
}
