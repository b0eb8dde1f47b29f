//! MessagePack (<https://github.com/msgpack/msgpack/blob/master/spec.md>).

use rmpv::Value as Pack;
use serde_json::{Map, Value};

use super::{DEPTH_MAX, DecodeError, fault, float, hex, insert, single};

const FORMAT: &str = "MessagePack";
/// Extension type of a time.
const TIMESTAMP: i8 = -1;

/// Reads one object. Binary becomes hexadecimal text, integer keys decimal text, a timestamp its RFC 3339 form, and
/// single-precision numbers their shortest decimal.
///
/// # Errors
/// [`DecodeError::Format`] for anything except one object, a number that JSON cannot represent, text that is not UTF-8,
/// an extension type other than the timestamp, a key that is neither text nor integer, or a duplicate key.
pub(super) fn read(payload: &[u8]) -> Result<Value, DecodeError> {
    let mut rest = payload;
    // The library counts each level of nesting twice: the object, and its data.
    let object = rmpv::decode::read_value_with_max_depth(&mut rest, 2 * DEPTH_MAX + 2)
        .map_err(|error| fault(FORMAT, reason(&error)))?;
    if !rest.is_empty() {
        return Err(fault(FORMAT, format!("{} bytes after the object", rest.len())));
    }
    value(object)
}

fn reason(error: &rmpv::decode::Error) -> String {
    match error {
        rmpv::decode::Error::DepthLimitExceeded => format!("nested deeper than {DEPTH_MAX}"),
        _ => "it ends in the middle of an object".into(),
    }
}

fn value(object: Pack) -> Result<Value, DecodeError> {
    Ok(match object {
        Pack::Nil => Value::Null,
        Pack::Boolean(v) => v.into(),
        Pack::Integer(v) => match (v.as_i64(), v.as_u64()) {
            (Some(v), _) => v.into(),
            (None, Some(v)) => v.into(),
            (None, None) => return Err(fault(FORMAT, "an integer of more than 64 bits")),
        },
        Pack::F32(v) => single(v, FORMAT)?,
        Pack::F64(v) => float(v, FORMAT)?,
        Pack::String(v) => v.into_str().ok_or_else(|| fault(FORMAT, "a text that is not UTF-8"))?.into(),
        Pack::Binary(v) => hex(&v).into(),
        Pack::Array(items) => Value::Array(items.into_iter().map(value).collect::<Result<_, _>>()?),
        Pack::Map(entries) => {
            let mut members = Map::new();
            for (key, item) in entries {
                insert(&mut members, name(key)?, value(item)?, FORMAT)?;
            }
            Value::Object(members)
        }
        Pack::Ext(TIMESTAMP, bytes) => time(&bytes)?,
        Pack::Ext(kind, _) => {
            return Err(fault(FORMAT, format!("extension type {kind}, which is not known here")));
        }
    })
}

fn name(key: Pack) -> Result<String, DecodeError> {
    match key {
        Pack::String(name) => name.into_str().ok_or_else(|| fault(FORMAT, "a key that is not UTF-8")),
        Pack::Integer(label) => Ok(label.to_string()),
        _ => Err(fault(FORMAT, "a key that is neither text nor an integer")),
    }
}

/// Seconds in 32 bits; nanoseconds in 30 bits and seconds in 34; or nanoseconds in 32 and seconds in 64.
fn time(bytes: &[u8]) -> Result<Value, DecodeError> {
    let (seconds, nanos) = match bytes.len() {
        4 => (bytes.iter().fold(0, |v, byte| v << 8 | i64::from(*byte)), 0),
        8 => {
            let both = bytes.iter().fold(0_u64, |v, byte| v << 8 | u64::from(*byte));
            ((both & 0x3_ffff_ffff) as i64, (both >> 34) as i64)
        }
        12 => {
            let nanos = bytes[..4].iter().fold(0, |v, byte| v << 8 | i64::from(*byte));
            (bytes[4..].iter().fold(0, |v, byte| v << 8 | i64::from(*byte)), nanos)
        }
        other => return Err(fault(FORMAT, format!("a timestamp of {other} bytes"))),
    };
    let micros = seconds.checked_mul(1_000_000).and_then(|micros| micros.checked_add(nanos / 1_000));
    let time = micros.and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok());
    let time = time.ok_or_else(|| fault(FORMAT, "a timestamp before the year -9999 or after 9999"))?;
    Ok(time.to_string().into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_type_of_the_specification() {
        for (bytes, expected) in [
            (&b"\x82\xa7compact\xc3\xa6schema\x00"[..], json!({"compact": true, "schema": 0})),
            (b"\xc0", json!(null)),
            (b"\xff", json!(-1)),
            (b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00", json!(i64::MIN)),
            (b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", json!(u64::MAX)),
            (b"\xca\x3d\xcc\xcc\xcd", json!(0.1)),
            (b"\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a", json!(0.1)),
            (b"\xca\x7f\xc0\x00\x00", json!(null)),
            (b"\xc4\x03\x00\xab\xff", json!("00abff")),
            (b"\x93\x01\xa1a\x90", json!([1, "a", []])),
            (b"\x81\x05\x01", json!({"5": 1})),
            (b"\xd6\xff\x51\x4b\x67\xb0", json!("2013-03-21T20:04:00Z")),
            (b"\xd7\xff\x77\x35\x94\x00\x51\x4b\x67\xb0", json!("2013-03-21T20:04:00.5Z")),
            (
                b"\xc7\x0c\xff\x1d\xcd\x65\x00\x00\x00\x00\x00\x51\x4b\x67\xb0",
                json!("2013-03-21T20:04:00.5Z"),
            ),
        ] {
            assert_eq!(read(bytes), Ok(expected), "{bytes:02x?}");
        }
    }

    #[test]
    fn what_would_be_a_wrong_value_is_refused_with_a_reason() {
        for (bytes, why) in [
            (&b""[..], "it ends in the middle of an object"),
            (b"\x82\xa1a\x01", "it ends in the middle of an object"),
            (b"\x00\x00", "1 bytes after the object"),
            (b"\xca\x7f\x80\x00\x00", "an infinite number"),
            (b"\xa1\xff", "a text that is not UTF-8"),
            (b"\x82\xa1a\x01\xa1a\x02", "the name \"a\" is there twice"),
            (b"\x81\xc0\x01", "a key that is neither text nor an integer"),
            (b"\xd4\x05\x00", "extension type 5, which is not known here"),
            (b"\xd4\xff\x00", "a timestamp of 1 bytes"),
            (b"\xdd\xff\xff\xff\xff\x00", "it ends in the middle of an object"),
            (b"\xc6\xff\xff\xff\xff\x00", "it ends in the middle of an object"),
        ] {
            let error = read(bytes).expect_err("refused").to_string();
            assert!(error.contains(why), "{bytes:02x?}: {error}");
        }
        let deep = [vec![0x91; 100], vec![0]].concat();
        assert!(read(&deep).unwrap_err().to_string().contains("nested deeper than 16"));
        assert!(read(&[vec![0x91; 15], vec![0]].concat()).is_ok());
    }
}
