//! CBOR (RFC 8949).

use ciborium::Value as Cbor;
use serde_json::{Map, Value};

use super::{DEPTH_MAX, DecodeError, fault, float, hex, insert, single};

const FORMAT: &str = "CBOR";
/// Tags whose content can be read without them: times as text or seconds (0, 1), URI and the like (32 to 36), and the
/// tag for CBOR itself (55799).
const TRANSPARENT: [u64; 8] = [0, 1, 32, 33, 34, 35, 36, 55_799];

/// Reads one data item. Byte strings become hexadecimal text, integer keys decimal text, `undefined` null, and
/// single-precision numbers their shortest decimal.
///
/// # Errors
/// [`DecodeError::Format`] for anything except one well-formed data item, a number that JSON cannot represent, a tag
/// that changes the meaning of its content, a key that is neither text nor integer, or a duplicate key.
pub(super) fn read(payload: &[u8]) -> Result<Value, DecodeError> {
    let mut rest = payload;
    let item: Cbor = ciborium::de::from_reader_with_recursion_limit(&mut rest, DEPTH_MAX + 1)
        .map_err(|error| fault(FORMAT, reason(&error)))?;
    if !rest.is_empty() {
        return Err(fault(FORMAT, format!("{} bytes after the data item", rest.len())));
    }
    value(item)
}

fn reason(error: &ciborium::de::Error<std::io::Error>) -> String {
    match error {
        ciborium::de::Error::Io(_) => "it ends in the middle of a data item".into(),
        ciborium::de::Error::Syntax(at) => format!("not well-formed at byte {at}"),
        ciborium::de::Error::Semantic(_, why) => why.clone(),
        ciborium::de::Error::RecursionLimitExceeded => format!("nested deeper than {DEPTH_MAX}"),
    }
}

fn value(item: Cbor) -> Result<Value, DecodeError> {
    Ok(match item {
        Cbor::Null => Value::Null,
        Cbor::Bool(v) => v.into(),
        Cbor::Integer(v) => integer(v)?,
        Cbor::Float(v) => number(v)?,
        Cbor::Text(v) => v.into(),
        Cbor::Bytes(v) => hex(&v).into(),
        Cbor::Array(items) => Value::Array(items.into_iter().map(value).collect::<Result<_, _>>()?),
        Cbor::Map(entries) => {
            let mut object = Map::new();
            for (key, item) in entries {
                insert(&mut object, name(key)?, value(item)?, FORMAT)?;
            }
            Value::Object(object)
        }
        Cbor::Tag(tag, content) if TRANSPARENT.contains(&tag) => value(*content)?,
        Cbor::Tag(tag, _) => return Err(fault(FORMAT, format!("tag {tag}, which is not known here"))),
        _ => return Err(fault(FORMAT, "a simple value that is not known here")),
    })
}

fn integer(value: ciborium::value::Integer) -> Result<Value, DecodeError> {
    let wide = i128::from(value);
    if let Ok(v) = i64::try_from(wide) {
        return Ok(v.into());
    }
    u64::try_from(wide).map(Value::from).map_err(|_| fault(FORMAT, format!("{wide} has more than 64 bits")))
}

/// The width of a number is lost here; one that fits single precision is taken to have been sent so.
fn number(value: f64) -> Result<Value, DecodeError> {
    let narrow = value as f32;
    if f64::from(narrow) == value { single(narrow, FORMAT) } else { float(value, FORMAT) }
}

fn name(key: Cbor) -> Result<String, DecodeError> {
    match key {
        Cbor::Text(name) => Ok(name),
        Cbor::Integer(label) => Ok(i128::from(label).to_string()),
        _ => Err(fault(FORMAT, "a key that is neither text nor an integer")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn unhex(text: &str) -> Vec<u8> {
        let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
    }

    /// RFC 8949, appendix A.
    #[test]
    fn the_examples_of_the_rfc() {
        for (bytes, expected) in [
            ("00", json!(0)),
            ("1903e8", json!(1000)),
            ("1bffffffffffffffff", json!(18_446_744_073_709_551_615_u64)),
            ("3903e7", json!(-1000)),
            ("fb3ff199999999999a", json!(1.1)),
            ("f93e00", json!(1.5)),
            ("fa47c35000", json!(100_000.0)),
            ("f97e00", json!(null)),
            ("f4", json!(false)),
            ("f6", json!(null)),
            ("c074323031332d30332d32315432303a30343a30305a", json!("2013-03-21T20:04:00Z")),
            ("c11a514b67b0", json!(1_363_896_240)),
            ("4401020304", json!("01020304")),
            ("6449455446", json!("IETF")),
            ("62c3bc", json!("ü")),
            ("8301820203820405", json!([1, [2, 3], [4, 5]])),
            ("a201020304", json!({"1": 2, "3": 4})),
            ("a26161016162820203", json!({"a": 1, "b": [2, 3]})),
            ("bf6346756ef563416d7421ff", json!({"Fun": true, "Amt": -2})),
            ("9f018202039f0405ffff", json!([1, [2, 3], [4, 5]])),
        ] {
            assert_eq!(read(&unhex(bytes)), Ok(expected), "{bytes}");
        }
    }

    #[test]
    fn a_single_precision_number_is_its_shortest_decimal() {
        assert_eq!(read(&unhex("fa3dcccccd")), Ok(json!(0.1)));
        assert_eq!(read(&unhex("fb3fb999999999999a")), Ok(json!(0.1)));
        assert_eq!(read(&unhex("fa41ac0000")), Ok(json!(21.5)));
    }

    #[test]
    fn what_would_be_a_wrong_value_is_refused_with_a_reason() {
        for (bytes, why) in [
            ("", "it ends in the middle of a data item"),
            ("a1", "it ends in the middle of a data item"),
            ("0000", "1 bytes after the data item"),
            ("f97c00", "an infinite number"),
            ("3bffffffffffffffff", "-18446744073709551616 has more than 64 bits"),
            ("a2616101616102", "the name \"a\" is there twice"),
            ("a1f401", "a key that is neither text nor an integer"),
            ("c482211907", "it ends in the middle of a data item"),
            ("c48221196ab3", "tag 4, which is not known here"),
        ] {
            let error = read(&unhex(bytes)).expect_err(bytes).to_string();
            assert!(error.contains(why), "{bytes}: {error}");
        }
        let deep = [vec![0x81; 100], vec![0]].concat();
        assert!(read(&deep).unwrap_err().to_string().contains("nested deeper than 16"));
        // An array that claims 2^63 items, and one that claims 2^32.
        assert!(read(&unhex("9b7fffffffffffffff00")).is_err());
        assert!(read(&unhex("9affffffff00")).is_err());
    }
}
