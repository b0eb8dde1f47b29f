//! Values that somebody gives, as values of metrics (section 6.4.16). Data sets, templates, arrays and bytes cannot be
//! given.

use serde_json::Value as Json;

use super::payload::Raw;
use super::value::{BOOLEAN, DATE_TIME, DOUBLE, FLOAT, STRING, TEXT, UUID};

/// What values of a data type can be given as.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    /// A whole number in this range.
    Integer(i128, i128),
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A text.
    Text,
    /// A time, as RFC 3339.
    Time,
}

/// What values of a data type can be given as; `None` if they cannot be given.
pub fn form(datatype: u32) -> Option<Form> {
    let signed = |bits: u32| Form::Integer(-(1 << (bits - 1)), (1 << (bits - 1)) - 1);
    let unsigned = |bits: u32| Form::Integer(0, (1 << bits) - 1);
    Some(match datatype {
        1..=4 => signed(4 << datatype),
        5..=8 => unsigned(4 << (datatype - 4)),
        FLOAT | DOUBLE => Form::Number,
        BOOLEAN => Form::Boolean,
        STRING | TEXT | UUID => Form::Text,
        DATE_TIME => Form::Time,
        _ => return None,
    })
}

/// A given value on the wire; `None` if it is not one of the data type.
pub fn raw(datatype: u32, given: &Json) -> Option<Raw> {
    Some(match form(datatype)? {
        Form::Integer(min, max) => {
            let number = whole(given).filter(|number| (min..=max).contains(number))?;
            // Two's complement, as wide as the field: so do the reference implementation and most that follow it. Edge
            // nodes on PyPI pysparkplug 0.6.1 cannot read a negative number of 8 or 16 bits written like this.
            if matches!(datatype, 4 | 8) { Raw::Long(number as u64) } else { Raw::Int(number as u32) }
        }
        Form::Number if datatype == FLOAT => {
            Raw::Float(Some(given.as_f64()? as f32).filter(|number| number.is_finite())?)
        }
        Form::Number => Raw::Double(given.as_f64()?),
        Form::Boolean => Raw::Bool(given.as_bool()?),
        Form::Text => Raw::Text(given.as_str()?.to_owned()),
        Form::Time => {
            let time: jiff::Timestamp = given.as_str()?.parse().ok()?;
            Raw::Long(u64::try_from(time.as_millisecond()).ok()?)
        }
    })
}

fn whole(given: &Json) -> Option<i128> {
    let exact = given.as_i64().map(i128::from).or(given.as_u64().map(i128::from));
    exact.or_else(|| given.as_f64().filter(|number| number.fract() == 0.0).map(|number| number as i128))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::value::value;
    use super::*;

    #[test]
    fn what_is_given_is_what_is_reported() {
        for (datatype, given) in [
            (1, json!(-128)),
            (2, json!(-32_768)),
            (3, json!(i32::MIN)),
            (4, json!(i64::MIN)),
            (5, json!(255)),
            (6, json!(65_535)),
            (7, json!(u32::MAX)),
            (8, json!(u64::MAX)),
            (9, json!(12.1)),
            (10, json!(12.100_000_000_000_001)),
            (11, json!(true)),
            (12, json!("a")),
            (13, json!("2026-11-28T12:00:00.500Z")),
            (14, json!("a")),
            (15, json!("00000000-0000-0000-0000-000000000000")),
        ] {
            let raw = raw(datatype, &given).unwrap_or_else(|| panic!("{datatype} {given}"));
            let reported = value(datatype, &raw, 100).unwrap();
            let reported = serde_json::to_value(fieldlog_wire::json::Val(reported.borrow())).unwrap();
            assert_eq!(reported, given, "{datatype}");
        }
        // A whole number may be written as one with a fraction of zero.
        assert_eq!(raw(5, &json!(7.0)), Some(Raw::Int(7)));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (datatype, given) in [
            (1, json!(128)),
            (3, json!(2_147_483_648_i64)),
            (4, json!(u64::MAX)),
            (5, json!(-1)),
            (8, json!(18_446_744_073_709_551_616.0)),
            (5, json!(1.5)),
            (5, json!("1")),
            (9, json!(1e300)),
            (11, json!(1)),
            (12, json!(1)),
            (13, json!("yesterday")),
            (13, json!("1969-12-31T23:59:59Z")),
            (10, json!(null)),
            (16, json!([])),
            (17, json!("00")),
            (22, json!([1])),
        ] {
            assert_eq!(raw(datatype, &given), None, "{datatype} {given}");
        }
    }
}
