//! `fieldlog import`: an export makes a log in which each event says where it comes from.

use std::ops::ControlFlow;

use fieldlog::stopped::Stopped;
use fieldlog::verify::verify;
use fieldlog_projections::{Fact, Seq};
use serde_json::Value as Json;

use super::history::{EPOCH, Kind, make};
use super::*;

const TYPES: &str = "state_changed,action_fired,history_reported,availability_changed";

/// What was said, without the identity: device, type, times, content.
fn content(line: &str) -> (Option<String>, String, Vec<Json>) {
    let event: Json = serde_json::from_str(line).unwrap();
    let times = ["time", "wall_time", "device_time"].map(|name| event[name].clone());
    let kind = event["type"].as_str().unwrap().to_owned();
    (event["device"].as_str().map(str::to_owned), kind, [times.as_slice(), &[event["data"].clone()]].concat())
}

fn export(data_dir: &Path, types: &str) -> String {
    let (code, out, err) = call(&["export", "--data-dir", text(data_dir), "--type", types]);
    assert_eq!((code, err.as_str()), (0, ""));
    out
}

#[test]
fn an_import_has_the_events_of_the_export_and_where_they_come_from() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file, new) =
        (dir.path().join("data"), dir.path().join("events.ndjson"), dir.path().join("new"));
    make(&data, Kind::default());
    let exported = export(&data, TYPES);
    std::fs::write(&file, &exported).unwrap();
    let (code, out, err) = call(&["import", text(&file), "--data-dir", text(&new)]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert_says(&out, &["events  7500 of 38 devices, from ", &format!("/{EPOCH}"), "imported"]);
    assert_eq!(verify(&new).unwrap().fault, None);

    let imported = export(&new, TYPES);
    let (was, is): (Vec<_>, Vec<_>) =
        (exported.lines().map(content).collect(), imported.lines().map(content).collect());
    assert!(was == is, "the events differ");
    // The causes name the positions of all events, in their order.
    let mut listed: Vec<u64> = Vec::new();
    let mut caused = 0;
    let log = Stopped::open(&new).unwrap();
    let epoch = log.epoch();
    assert_ne!(epoch, EPOCH);
    let scanned = log.reader().scan(Seq(1), |chunk| {
        for record in chunk.records().map(Result::unwrap) {
            match record.fact().unwrap() {
                Fact::Administered { call, target, reason, .. }
                    if call == "import" && target.ends_with(&EPOCH.to_string()) =>
                {
                    assert_eq!(listed.len(), caused);
                    for range in reason.split(',') {
                        let (first, last) = range.split_once('-').unwrap_or((range, range));
                        listed.extend(first.parse::<u64>().unwrap()..=last.parse::<u64>().unwrap());
                    }
                }
                Fact::StateChanged { .. } => {
                    assert!(record.cause.is_some());
                    caused += 1;
                }
                _ => {}
            }
        }
        ControlFlow::<()>::Continue(())
    });
    scanned.unwrap();
    let of = |line: &str| serde_json::from_str::<Json>(line).unwrap()["seq"].as_u64().unwrap();
    assert_eq!(listed, exported.lines().map(of).collect::<Vec<_>>());
}

#[test]
fn one_event_that_cannot_be_imported_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file, new) =
        (dir.path().join("data"), dir.path().join("events.ndjson"), dir.path().join("new"));
    make(&data, Kind::default());
    let lines = export(&data, TYPES);
    let first: Vec<&str> = lines.lines().take(5).collect();
    let check = |content: String, code: i32, parts: &[&str]| {
        std::fs::write(&file, content).unwrap();
        let (found, out, err) = call(&["import", text(&file), "--data-dir", text(&new)]);
        assert_eq!((found, out.as_str()), (code, ""), "{err}");
        assert_says(&err, parts);
        assert!(std::fs::read_dir(&new).map_or(0, Iterator::count) == 0, "something was left");
    };
    let all = export(&data, "state_changed,config_changed,clock_corrected");
    let line = format!("line {}:", all.lines().position(|line| line.contains("config_changed")).unwrap() + 1);
    check(all, 65, &[&line, "`config_changed`", "cannot be imported", TYPES, "Nothing was imported"]);
    check([first[0], first[2], first[1]].join("\n"), 65, &["line 3:", "each event once, in order"]);
    let other = first[1].replace(&EPOCH.to_string(), "00000000000000ff");
    check([first[0], &other].join("\n"), 65, &["line 2:", "00000000000000ff", "a directory of its own"]);
    check(format!("{}\n{}", first[0], &first[1][..40]), 65, &["line 2:", "no event of an export"]);
    check(String::new(), 65, &["has no events"]);
    std::fs::write(new.join("file"), "").unwrap();
    let (code, _, err) = call(&["import", text(&file), "--data-dir", text(&new)]);
    assert_eq!(code, 64, "{err}");
    assert_says(&err, &["not empty"]);
}
