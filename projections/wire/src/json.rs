//! Values, times and names in JSON.

use std::borrow::Cow;
use std::fmt;

use fieldlog_projections::fact::{Availability, AvailabilityCause, ClockQuality, Resolution};
use fieldlog_projections::{DescribedBy, Time, ValueRef};
use jiff::Timestamp;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// A time as RFC 3339 with microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rfc3339(pub Time);

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Rfc3339 {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Rfc3339".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time" })
    }
}

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rfc3339 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rfc3339, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        parse_time(&text).map(Rfc3339).ok_or_else(|| D::Error::custom("a time is RFC 3339 with an offset"))
    }
}

impl fmt::Display for Rfc3339 {
    /// A payload can contain any time; one outside the range of RFC 3339 is clamped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = if self.0.0 < 0 { Timestamp::MIN } else { Timestamp::MAX };
        let timestamp = Timestamp::from_microsecond(self.0.0).unwrap_or(bound);
        write!(f, "{timestamp:.6}")
    }
}

/// Parses RFC 3339. A `+` that a query string turned into a space is restored.
pub fn parse_time(text: &str) -> Option<Time> {
    let text = match text.rsplit_once(' ') {
        Some((head, offset)) if head.contains(['T', 't']) => Cow::Owned(format!("{head}+{offset}")),
        _ => Cow::Borrowed(text),
    };
    text.parse::<Timestamp>().ok().map(|t| Time(t.as_microsecond()))
}

/// An attribute value, with its recorded precision.
#[derive(Clone, Copy, Debug)]
pub struct Val<'a>(pub ValueRef<'a>);

impl Serialize for Val<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            ValueRef::Null => serializer.serialize_none(),
            ValueRef::Bool(v) => serializer.serialize_bool(v),
            ValueRef::Int(v) => serializer.serialize_i64(v),
            ValueRef::Uint(v) => serializer.serialize_u64(v),
            ValueRef::Float(v) => serializer.serialize_f64(v),
            ValueRef::Text(v) => serializer.serialize_str(v),
            ValueRef::Json(v) => match serde_json::from_str::<&RawValue>(&one_line(v)) {
                Ok(raw) => raw.serialize(serializer),
                Err(_) => serializer.serialize_str(v),
            },
        }
    }
}

/// JSON text without line breaks, which can only be between tokens; event streams end lines at them.
fn one_line(json: &str) -> Cow<'_, str> {
    if json.contains(['\n', '\r']) {
        Cow::Owned(json.replace(['\n', '\r'], " "))
    } else {
        Cow::Borrowed(json)
    }
}

/// In text: `unknown`, `online` or `offline`.
pub fn availability(availability: Availability) -> &'static str {
    match availability {
        Availability::Unknown => "unknown",
        Availability::Online => "online",
        Availability::Offline => "offline",
    }
}

/// In text: `topic` or `silence`.
pub fn cause(cause: AvailabilityCause) -> &'static str {
    match cause {
        AvailabilityCause::Topic => "topic",
        AvailabilityCause::Silence => "silence",
    }
}

/// In text: `announcement`, `operator` or `discovery`.
pub fn described_by(by: DescribedBy) -> &'static str {
    match by {
        DescribedBy::Announcement => "announcement",
        DescribedBy::Operator => "operator",
        DescribedBy::Discovery => "discovery",
    }
}

/// In text: `synchronised` or `unsynchronised`.
pub fn clock(clock: ClockQuality) -> &'static str {
    match clock {
        ClockQuality::Synchronised => "synchronised",
        ClockQuality::Unsynchronised => "unsynchronised",
    }
}

/// As it is written: `requeued` or `purged`.
pub fn resolution(resolution: Resolution) -> &'static str {
    match resolution {
        Resolution::Requeued => "requeued",
        Resolution::Purged => "purged",
    }
}

/// Bytes as lower-case hexadecimal digits.
pub fn base16(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Percent-encodes one path segment or query value.
pub fn percent(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_precision() {
        let check =
            |value: ValueRef<'_>, json: &str| assert_eq!(serde_json::to_string(&Val(value)).unwrap(), json);
        check(ValueRef::Int(9_007_199_254_740_993), "9007199254740993");
        check(ValueRef::Uint(u64::MAX), "18446744073709551615");
        check(ValueRef::Float(21.3), "21.3");
        check(ValueRef::Float(f64::NAN), "null");
        check(ValueRef::Text("a\"b"), r#""a\"b""#);
        check(ValueRef::Json("[1.00,\n{\"a\": null}]"), r#"[1.00, {"a": null}]"#);
        check(ValueRef::Json("[broken"), r#""[broken""#);
    }

    #[test]
    fn times_have_microseconds_and_never_fail() {
        let check =
            |time: i64, json: &str| assert_eq!(serde_json::to_string(&Rfc3339(Time(time))).unwrap(), json);
        check(1_763_892_000_123_456, r#""2025-11-23T10:00:00.123456Z""#);
        check(0, r#""1970-01-01T00:00:00.000000Z""#);
        assert!(serde_json::to_string(&Rfc3339(Time(i64::MAX))).is_ok());
        assert!(serde_json::to_string(&Rfc3339(Time(i64::MIN))).is_ok());
        assert_eq!(parse_time("2025-11-23T12:00:00.123456 02:00"), Some(Time(1_763_892_000_123_456)));
        assert_eq!(parse_time("2025-11-23T12:00:00"), None);
    }

    #[test]
    fn segments_are_encoded() {
        assert_eq!(percent("kitchen/floor_light ü"), "kitchen%2Ffloor_light%20%C3%BC");
    }
}
