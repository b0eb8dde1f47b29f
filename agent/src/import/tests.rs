use fieldlog_projections::Value;
use fieldlog_projections::fact::{Availability, AvailabilityCause};

use super::event::{Imported, Said};
use super::*;

fn line(kind: &str, data: &str) -> String {
    format!(
        r#"{{"id":"a/b/00000000000000ff/7","seq":7,"type":"{kind}","time":"2025-11-23T10:00:00.000000Z","device":"lamp","data":{data}}}"#
    )
}

fn parsed(kind: &str, data: &str) -> Result<Imported, String> {
    Imported::parse(line(kind, data).as_bytes())
}

#[test]
fn values_are_those_that_were_recorded() {
    let data = r#"{"changes":{"a":1,"b":-1.0,"c":18446744073709551615,"d":"1","e":[1, 2],"f":null,"g":true},"described":{}}"#;
    let event = parsed("state_changed", data).unwrap();
    assert_eq!((event.gateway.as_str(), event.epoch, event.seq), ("a/b", Epoch(255), Seq(7)));
    assert_eq!((event.time, event.wall), (Time::from_secs(1_763_892_000), event.time));
    let expected = [
        ("a", Value::Int(1)),
        ("b", Value::Float(-1.0)),
        ("c", Value::Uint(u64::MAX)),
        ("d", Value::Text("1".into())),
        ("e", Value::Json("[1, 2]".into())),
        ("f", Value::Null),
        ("g", Value::Bool(true)),
    ];
    assert_eq!(event.said, Said::Changed(expected.map(|(name, value)| (name.to_owned(), value)).to_vec()));
    let event = parsed("action_fired", r#"{"attribute":"button","value":"double"}"#).unwrap();
    assert_eq!(event.said, Said::Fired([("button".into(), Value::Text("double".into()))]));
    let event = parsed("availability_changed", r#"{"availability":"offline","cause":"silence"}"#).unwrap();
    assert_eq!(event.said, Said::Available(Availability::Offline, AvailabilityCause::Silence));
}

#[test]
fn what_cannot_be_imported_is_refused_with_the_reason() {
    let check = |event: Result<Imported, String>, words: &str| {
        let why = event.unwrap_err();
        assert!(why.contains(words), "{words:?} is not in: {why}");
    };
    check(
        parsed("booted", "{}"),
        "`booted` is about its own log or gateway and cannot be imported; export with --type",
    );
    check(parsed("state_changed", "{}"), "not the content of `state_changed`: missing field `changes`");
    check(parsed("state_changed", r#"{"changes":{"a":18446744073709551616}}"#), "larger than any");
    check(parsed("availability_changed", r#"{"availability":"on","cause":"topic"}"#), "no availability `on`");
    check(Imported::parse(b"not JSON"), "no event of an export");
    let other = line("state_changed", r#"{"changes":{}}"#).replace("\"seq\":7", "\"seq\":8");
    check(Imported::parse(other.as_bytes()), "contradict each other");
    let other = line("state_changed", r#"{"changes":{}}"#).replace("a/b/00000000000000ff/7", "seven");
    check(Imported::parse(other.as_bytes()), "is not GATEWAY/EPOCH/SEQUENCE");
    let other = line("state_changed", r#"{"changes":{}}"#).replace("\"device\":\"lamp\",", "");
    check(Imported::parse(other.as_bytes()), "has no device");
}

#[test]
fn positions_are_written_as_ranges() {
    assert_eq!(ranges([3, 4, 5, 9, 11, 12].map(Seq).into_iter()), "3-5,9,11-12");
    assert_eq!(ranges([7].map(Seq).into_iter()), "7");
}
