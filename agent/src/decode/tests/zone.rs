//! Times of devices that say no offset.

use jiff::Timestamp;

use super::*;

const PARIS: Zone = Zone(|| TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap());
const NEPAL: Zone = Zone(|| TimeZone::posix("<+0545>-5:45").unwrap());

fn payload_time(format: TimeFormat, zone: Zone, text: &str) -> Option<String> {
    let rule = JsonRule { time_path: "at".into(), time_format: Some(format), zone, ..JsonRule::default() };
    let payload = format!("{{\"at\":\"{text}\"}}");
    match json(payload.as_bytes(), &rule, &mut Values::new(100, 256)).unwrap() {
        Json::Values(time) => time.map(|t| Timestamp::from_microsecond(t.0).unwrap().to_string()),
        Json::NotThis => panic!("{payload}"),
    }
}

#[test]
fn a_time_without_offset_is_one_of_the_zone_that_was_handed_in() {
    for (zone, text, expected) in [
        (PARIS, "2026-01-15T12:00:00", Some("2026-01-15T11:00:00Z")),
        (PARIS, "2026-07-15T12:00:00", Some("2026-07-15T10:00:00Z")),
        (NEPAL, "2026-07-15T12:00:00", Some("2026-07-15T06:15:00Z")),
        (Zone::default(), "2026-07-15T12:00:00", Some("2026-07-15T12:00:00Z")),
        // There twice: the first one is meant. Not there at all: the clock has gone on by an hour.
        (PARIS, "2026-10-25T02:30:00", Some("2026-10-25T00:30:00Z")),
        (PARIS, "2026-03-29T02:30:00", Some("2026-03-29T01:30:00Z")),
        (PARIS, "yesterday", None),
    ] {
        assert_eq!(payload_time(TimeFormat::Local, zone, text).as_deref(), expected, "{text}");
    }
}

#[test]
fn a_time_with_its_offset_asks_for_no_zone() {
    let none = Zone(|| panic!("asked for the zone"));
    let found = payload_time(TimeFormat::Rfc3339, none, "2026-07-15T12:00:00+02:00");
    assert_eq!(found.as_deref(), Some("2026-07-15T10:00:00Z"));
    assert_eq!(payload_time(TimeFormat::Rfc3339, none, "2026-07-15T12:00:00"), None);
}
