//! Payload bytes to a document, one file per format. The document is then flattened, named and typed like JSON.

use serde_json::{Number, Value};

use super::DecodeError;
use crate::rule::Decoder;

mod cbor;
mod influx;
mod json;
mod msgpack;
mod senml;

/// Maximum payload for which a document is built, in bytes. With the bounds below, a document takes up to 20 MB of
/// memory while it is read.
pub(super) const PAYLOAD_BYTES_MAX: usize = 262_144;

/// The same for formats in which a value can be a single byte.
const DENSE_BYTES_MAX: usize = 65_536;
/// More deeply nested lists and maps are refused.
const DEPTH_MAX: usize = super::DEPTH_MAX;

/// Bounds of a document. A format checks them while it reads, before it copies anything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Maximum bytes of all names and texts together, in JSON notation.
    pub(super) text_bytes: usize,
}

/// A document that was built.
#[derive(Clone, Debug)]
pub struct Built {
    /// The document.
    pub document: Value,
    /// A name that an object of it had twice, with two values. The last one is there. In formats other than JSON there cannot
    /// be such a name.
    pub twice: Option<String>,
}

/// The document of a payload.
///
/// # Errors
/// [`DecodeError`] with the reason in words.
pub(super) fn document(decoder: Decoder, payload: &[u8]) -> Result<Built, DecodeError> {
    let max = if decoder == Decoder::Json { PAYLOAD_BYTES_MAX } else { DENSE_BYTES_MAX };
    if payload.len() > max {
        return Err(DecodeError::Document { bytes: payload.len(), max });
    }
    let bounds = Bounds { text_bytes: PAYLOAD_BYTES_MAX };
    let document = match decoder {
        Decoder::Json => return json::read(payload, bounds),
        Decoder::Cbor => cbor::read(payload),
        Decoder::Msgpack => msgpack::read(payload),
        Decoder::Senml => senml::read(payload),
        Decoder::SenmlCbor => senml::read_cbor(payload),
        Decoder::Influx => influx::read(payload),
        Decoder::Scalar
        | Decoder::Availability
        | Decoder::Action
        | Decoder::Ignore
        | Decoder::Announcement(_) => Err(DecodeError::Json("this decoder reads no documents".into())),
    };
    Ok(Built { document: document?, twice: None })
}

fn fault(format: &'static str, why: impl Into<String>) -> DecodeError {
    DecodeError::Format { format, why: why.into() }
}

/// A number that JSON can represent. NaN is null. Infinity is an error.
fn float(value: f64, format: &'static str) -> Result<Value, DecodeError> {
    if value.is_nan() {
        return Ok(Value::Null);
    }
    Number::from_f64(value).map(Value::Number).ok_or_else(|| fault(format, "an infinite number"))
}

/// A single-precision number as its shortest decimal: 0.1 instead of 0.10000000149011612.
fn single(value: f32, format: &'static str) -> Result<Value, DecodeError> {
    float(value.to_string().parse().unwrap_or(f64::from(value)), format)
}

/// Bytes as lower-case hexadecimal digits, the usual notation of keys and addresses.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing into a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Adds a member. A duplicate name is an error, since one of its values would be lost.
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
