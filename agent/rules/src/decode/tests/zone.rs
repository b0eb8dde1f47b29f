//! Device times without an offset.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::*;
use crate::rule::PayloadTime;

const PARIS: Zone = Zone(|| TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap());
const NEPAL: Zone = Zone(|| TimeZone::posix("<+0545>-5:45").unwrap());

fn payload_time(format: TimeFormat, zone: Zone, text: &str) -> Option<String> {
    let time = Some(PayloadTime { pointer: "/at".into(), format });
    let rule = JsonRule::new(&Rule { time, ..Rule::new("a", Decoder::Json) }, zone).unwrap();
    let payload = format!("{{\"at\":{text}}}");
    match json(payload.as_bytes(), &rule, &mut Values::new(100, 256)).unwrap() {
        Json::Values(time) => time.map(|t| Timestamp::from_microsecond(t.0).unwrap().to_string()),
        Json::NotThis(_) => panic!("{payload}"),
    }
}

#[test]
fn a_time_without_offset_is_one_of_the_zone_that_was_handed_in() {
    for (zone, text, expected) in [
        (PARIS, r#""2026-01-15T12:00:00""#, Some("2026-01-15T11:00:00Z")),
        (PARIS, r#""2026-07-15T12:00:00""#, Some("2026-07-15T10:00:00Z")),
        (NEPAL, r#""2026-07-15T12:00:00""#, Some("2026-07-15T06:15:00Z")),
        (Zone::default(), r#""2026-07-15T12:00:00""#, Some("2026-07-15T12:00:00Z")),
        // An ambiguous time means the first one. A nonexistent one is shifted by an hour.
        (PARIS, r#""2026-10-25T02:30:00""#, Some("2026-10-25T00:30:00Z")),
        (PARIS, r#""2026-03-29T02:30:00""#, Some("2026-03-29T01:30:00Z")),
        (PARIS, r#""yesterday""#, None),
    ] {
        assert_eq!(payload_time(TimeFormat::Local, zone, text).as_deref(), expected, "{text}");
    }
}

#[test]
fn a_time_with_its_offset_asks_for_no_zone() {
    let none = Zone(|| panic!("asked for the zone"));
    use TimeFormat::{Auto, Local, Rfc3339, UnixMs, UnixS};
    for format in [Auto, Local, Rfc3339, UnixS, UnixMs] {
        for (text, expected) in [
            ("2021-06-27T15:03:44+02:00", "2021-06-27T13:03:44Z"),
            ("2021-06-27 15:03:44.5-0130", "2021-06-27T16:33:44.5Z"),
            ("2021-06-27T15:03:44Z", "2021-06-27T15:03:44Z"),
        ] {
            assert_eq!(
                payload_time(format, none, &format!("{text:?}")).as_deref(),
                Some(expected),
                "{format:?}"
            );
        }
    }
    assert_eq!(payload_time(Rfc3339, none, "\"2026-07-15T12:00:00\""), None);
    // An unreadable offset is not ignored.
    assert_eq!(payload_time(Local, none, "\"2026-07-15T12:00:00+99:00\""), None);
}

#[test]
fn numbers_tell_their_unit_by_their_size() {
    use TimeFormat::{Auto, Local, Rfc3339, UnixMs, UnixS};
    for (format, text, expected) in [
        (Auto, "1700000000", Some("2023-11-14T22:13:20Z")),
        (Auto, "1700000000.25", Some("2023-11-14T22:13:20.25Z")),
        (Auto, "1700000000250", Some("2023-11-14T22:13:20.25Z")),
        (Auto, "1700000000250000", Some("2023-11-14T22:13:20.25Z")),
        (Auto, "1700000000250000000", Some("2023-11-14T22:13:20.25Z")),
        (Auto, r#""1700000000""#, Some("2023-11-14T22:13:20Z")),
        (Auto, r#""1700000000250""#, Some("2023-11-14T22:13:20.25Z")),
        (UnixMs, r#""1700000000250""#, Some("2023-11-14T22:13:20.25Z")),
        (UnixS, "1700000000250", None),
        (Rfc3339, "1700000000", None),
        (Local, "1700000000", None),
        // A clock that was never set, a date, and no time at all.
        (Auto, "12", None),
        (Auto, r#""1970-01-01T00:00:12""#, None),
        (Auto, r#""1970-01-01T00:00:12Z""#, None),
        (Auto, r#""2023-11-14""#, None),
        (Auto, r#""20231114""#, None),
        (Auto, r#""yesterday at 12:00""#, None),
        (Auto, "true", None),
        (Auto, "null", None),
    ] {
        assert_eq!(payload_time(format, Zone::default(), text).as_deref(), expected, "{format:?} {text}");
    }
}

/// An unreadable time stays an attribute and is counted; `null` is not a time, and is not counted.
#[test]
fn a_time_that_cannot_be_read_keeps_its_attribute() {
    let time = Some(PayloadTime { pointer: "/s/at".into(), format: TimeFormat::Auto });
    let of = |root: &str| {
        let rule = Rule { time: time.clone(), root: root.into(), ..Rule::new("a", Decoder::Json) };
        JsonRule::new(&rule, Zone::default()).unwrap()
    };
    for (root, payload, names, unread) in [
        ("", r#"{"s":{"at":"soon","x":1}}"#, &["s.x", "s.at"][..], true),
        ("/s", r#"{"s":{"at":"soon","x":1}}"#, &["x", "at"], true),
        ("", r#"{"s":{"at":null,"x":1}}"#, &["s.x"], false),
        ("", r#"{"s":{"at":1700000000,"x":1}}"#, &["s.x"], false),
        ("", r#"{"s":{"x":1}}"#, &["s.x"], false),
        // Not among the attributes.
        ("/t", r#"{"s":{"at":"soon"},"t":{"x":1}}"#, &["x"], true),
        ("/t", r#"{"s":{"at":{"a":1}},"t":{"x":1}}"#, &["x"], false),
    ] {
        let mut values = Values::new(100, 256);
        json(payload.as_bytes(), &of(root), &mut values).unwrap();
        let found: Vec<&str> = values.iter().map(|(path, _)| path).collect();
        assert_eq!((found.as_slice(), values.time_unread()), (names, unread), "{root} {payload}");
    }
}

/// `/statex` is not below `/state`.
#[test]
fn a_name_that_only_begins_like_the_root_is_not_below_it() {
    let time = Some(PayloadTime { pointer: "/statex".into(), format: TimeFormat::Auto });
    let rule = Rule { time, root: "/state".into(), ..Rule::new("a", Decoder::Json) };
    let rule = JsonRule::new(&rule, Zone::default()).unwrap();
    let mut values = Values::new(100, 256);
    json(br#"{"statex":1700000000,"state":{"x":5}}"#, &rule, &mut values).unwrap();
    assert_eq!(values.iter().next().unwrap().0, "x");
}
