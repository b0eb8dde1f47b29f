//! What PostgreSQL can hold of texts, values and times. Pure.

use std::borrow::Cow;

use fieldlog_projections::Time;
use jiff::Timestamp;
use serde_json::Value;

/// The first and the last second of the years 1 to 9999, which both PostgreSQL and RFC 3339 can write.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_207_200;

/// A text without the character that PostgreSQL has no place for; U+FFFD stands for it.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// A time; one outside of the years 1 to 9999 becomes the nearest inside.
pub(crate) fn time(time: Time) -> Timestamp {
    let micros = time.0.clamp(SECONDS.start() * 1_000_000, SECONDS.end() * 1_000_000);
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// JSON text whose parts PostgreSQL can take out: of one with U+0000 or half of a surrogate pair it cannot. It is otherwise
/// left as it is.
pub(crate) fn document(json: &str) -> Cow<'_, str> {
    let escapes = json.match_indices("\\u").map(|(at, _)| json.as_bytes().get(at + 2..at + 6));
    let is_bad =
        |escape: &[u8]| escape == b"0000" || matches!(escape, [b'd' | b'D', second, ..] if *second >= b'8');
    let mut escapes = escapes.map(|escape| escape.is_some_and(is_bad));
    if escapes.any(|bad| bad) { Cow::Owned(plain(json)) } else { Cow::Borrowed(json) }
}

/// JSON text as `jsonb` takes it, and the number that it is, if it is one.
///
/// `jsonb` refuses U+0000, half of a surrogate pair, and numbers beyond its range. U+FFFD stands for the first; text that
/// has one of the others becomes a JSON string with it.
pub(crate) fn value(json: &str) -> (Cow<'_, str>, Option<f64>) {
    match json.as_bytes().first() {
        Some(b'-' | b'0'..=b'9') => match json.parse::<f64>() {
            Ok(number) if number.is_finite() => (Cow::Borrowed(json), Some(number)),
            _ => (Cow::Owned(quoted(json)), None),
        },
        Some(b't' | b'f' | b'n') => (Cow::Borrowed(json), None),
        Some(b'"') if !json.contains("\\u") => (Cow::Borrowed(json), None),
        _ => (Cow::Owned(plain(json)), None),
    }
}

fn plain(json: &str) -> String {
    match serde_json::from_str::<Value>(json) {
        Ok(mut value) => {
            without_nul(&mut value);
            value.to_string()
        }
        Err(_) => quoted(json),
    }
}

fn quoted(text: &str) -> String {
    Value::String(text.replace('\0', "\u{fffd}")).to_string()
}

fn without_nul(value: &mut Value) {
    match value {
        Value::String(string) => {
            if let Cow::Owned(replaced) = text(string) {
                *string = replaced;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(without_nul),
        Value::Object(fields) => {
            if fields.keys().any(|name| name.contains('\0')) {
                let named = std::mem::take(fields).into_iter();
                *fields = named.map(|(name, value)| (text(&name).into_owned(), value)).collect();
            }
            fields.values_mut().for_each(without_nul);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kept_as_far_as_jsonb_can() {
        let check = |json: &str, kept: &str, number: Option<f64>| {
            assert_eq!(value(json), (Cow::Borrowed(kept), number), "{json}");
        };
        check("21.50", "21.50", Some(21.5));
        check("-3", "-3", Some(-3.0));
        check("18446744073709551615", "18446744073709551615", Some(18_446_744_073_709_551_615.0));
        check("1e999", r#""1e999""#, None);
        check("null", "null", None);
        check("true", "true", None);
        check(r#""on""#, r#""on""#, None);
        check(r#""a\u0000b""#, "\"a\u{fffd}b\"", None);
        check(r#""\\u0000""#, r#""\\u0000""#, None);
        check(r#""\ud800""#, r#""\"\\ud800\"""#, None);
        check(r#"[1, {"\u0000": "x\u0000"}]"#, "[1,{\"\u{fffd}\":\"x\u{fffd}\"}]", None);
        check("[1e999999]", r#""[1e999999]""#, None);
    }

    #[test]
    fn documents_are_left_as_they_are_if_they_can_be() {
        let check = |json: &str, kept: &str| assert_eq!(document(json), kept, "{json}");
        check(r#"{"a": 1.00, "b": "\u001b\u00e4"}"#, r#"{"a": 1.00, "b": "\u001b\u00e4"}"#);
        check(r#"{"a": "\u0000"}"#, "{\"a\":\"\u{fffd}\"}");
        check(r#"{"a": "\ud83d\ude00"}"#, "{\"a\":\"\u{1f600}\"}");
        check(r#"{"a": "\uD83D"}"#, r#""{\"a\": \"\\uD83D\"}""#);
        check(r#"{"a": "\\u0000"}"#, r#"{"a":"\\u0000"}"#);
    }

    #[test]
    fn times_stay_within_what_can_be_written() {
        assert_eq!(time(Time(i64::MIN)).to_string(), "0001-01-01T00:00:00Z");
        assert_eq!(time(Time(i64::MAX)).to_string(), "9999-12-30T22:00:00Z");
        assert_eq!(time(Time(1)).to_string(), "1970-01-01T00:00:00.000001Z");
    }
}
