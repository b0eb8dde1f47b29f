//! `fieldlog export` writes what the API shows, whether the agent runs or not.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use fieldlog_tests::binary;
use serde_json::value::RawValue;

use super::*;

/// All events of a query, as the API writes them.
async fn from_api(agent: &Agent, query: &str) -> Vec<String> {
    let (mut events, mut after) = (Vec::new(), 0);
    loop {
        let body = agent.get(&format!("/api/v1/events?limit=1000&after={after}&{query}")).await;
        let page: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&body).unwrap();
        let found: Vec<Box<RawValue>> = serde_json::from_str(page["events"].get()).unwrap();
        events.extend(found.iter().map(|event| event.get().to_owned()));
        match serde_json::from_str(page["next"].get()).unwrap() {
            Some(next) => after = next,
            None => return events,
        }
    }
}

fn lines((code, out, err): &Called) -> Vec<String> {
    assert_eq!((*code, err.as_str()), (0, ""));
    out.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn an_export_is_what_the_api_shows_whether_the_agent_runs_or_not() {
    let place = Place::of(&original());
    let agent = place.agent().await;
    let all = from_api(&agent, "").await;
    assert!(all.len() > 1_000, "{}", all.len());
    let head = serde_json::from_str::<serde_json::Value>(&all[all.len() / 2]).unwrap();
    let middle = head["time"].as_str().unwrap().to_owned();
    let from = format!("from={}", middle.replace('+', "%2B"));
    let queries: [(&str, Vec<&str>); 5] = [
        ("", vec![]),
        ("device=device/3", vec!["--device", "device/3"]),
        ("type=action_fired,clock_corrected", vec!["--type", "action_fired,clock_corrected"]),
        (&from, vec!["--from", &middle]),
        (&from.replace("from", "to"), vec!["--to", &middle]),
    ];
    let mut found = Vec::new();
    for (query, arguments) in &queries {
        let expected = from_api(&agent, query).await;
        assert!(!expected.is_empty() && (query.is_empty() || expected.len() < all.len()), "{query}");
        let socket = place.socket();
        let arguments = [&["export", "--socket", text(&socket)], arguments.as_slice()].concat();
        assert_eq!(lines(&call_beside(&arguments).await), expected, "{query}");
        found.push(expected);
    }
    agent.stop().await;
    let before = std::fs::read(place.log()).unwrap();
    for ((query, arguments), expected) in queries.iter().zip(found) {
        let (data, config) = (place.data(), place.config());
        let place = ["export", "--data-dir", text(&data), "--config", text(&config)];
        assert_eq!(lines(&call(&[&place, arguments.as_slice()].concat())), expected, "{query}");
    }
    assert!(std::fs::read(place.log()).unwrap() == before, "the log was written to");
}

#[test]
fn csv_has_the_same_events() {
    let place = Place::of(&original());
    let data = place.data();
    let called = call(&["export", "--data-dir", text(&data), "--format", "csv"]);
    let events = lines(&call(&["export", "--data-dir", text(&data)]));
    assert_eq!((called.0, called.2.as_str()), (0, ""));
    let mut seqs: Vec<u64> =
        called.1.split("\r\n").skip(1).filter_map(|row| row.split(',').nth(1)?.parse().ok()).collect();
    seqs.dedup();
    let of =
        |event: &String| serde_json::from_str::<serde_json::Value>(event).unwrap()["seq"].as_u64().unwrap();
    assert_eq!(seqs, events.iter().map(of).collect::<Vec<_>>());
}

#[test]
fn a_reader_that_has_enough_ends_it_quietly() {
    let place = Place::of(&original());
    let mut export = Command::new(binary::fieldlog())
        .args(["export", "--data-dir"])
        .arg(place.data())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::with_capacity(100, export.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("{\"id\":\""), "{first}");
    let mut words = String::new();
    export.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    assert_eq!((export.wait().unwrap().code(), words.as_str()), (Some(0), ""));
}

#[test]
fn what_cannot_be_exported_is_said() {
    let place = Place::of(&original());
    let data = place.data();
    let check = |arguments: &[&str], code: i32, parts: &[&str]| {
        let (found, out, err) = call(&[&["export", "--data-dir", text(&data)], arguments].concat());
        assert_eq!((found, out.as_str()), (code, ""), "{err}");
        assert_says(&err, parts);
    };
    check(&["--device", "devce/3"], 65, &["no device `devce/3`", "device/3"]);
    check(&["--type", "state_change"], 65, &["no event type is called `state_change`", "state_changed"]);
    let late = "2026-11-23T10:00:00Z";
    check(&["--from", late, "--to", late], 64, &["--from must be earlier than --to"]);
    let (code, _, err) = call(&["export", "--data-dir", text(&data), "--from", "yesterday"]);
    assert_eq!(code, 64);
    assert_says(&err, &["with an offset"]);
    let (code, _, err) = call(&["export", "--data-dir", text(&data.join("none"))]);
    assert_eq!(code, 74);
    assert_says(&err, &["nothing to read", "is missing"]);
}
