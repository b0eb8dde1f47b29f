//! `--json` of the subcommands for the log itself: one object on stdout, with the exit code of the words.

use fieldlog::stopped::Stopped;
use serde_json::{Value as Json, json};

use super::history::{EPOCH, Kind, make};
use super::*;

/// The object that a call prints, which is all that it prints.
#[track_caller]
fn told(code: i32, arguments: &[&str]) -> Json {
    read(code, arguments, call(&[arguments, &["--json"]].concat()))
}

#[track_caller]
fn read(code: i32, arguments: &[&str], (found, out, err): Called) -> Json {
    assert_eq!((found, err.as_str()), (code, ""), "{arguments:?}: {out}");
    assert_eq!(out.lines().count(), 1, "{arguments:?}: {out}");
    serde_json::from_str(&out).unwrap()
}

#[test]
fn a_log_is_verified_copied_restored_and_folded_for_programs() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (data, backup, new) = (path("data"), path("backup"), path("new"));
    make(&data, Kind::default());
    let head = Stopped::open(&data).unwrap().head();
    let epoch = EPOCH.to_string();

    let report = told(0, &["verify", "--data-dir", text(&data)]);
    let expected = json!({
        "good": true, "fault": null, "epoch": epoch, "first": 1, "last": head, "intact": head,
        "chain": report["chain"], "chunks": report["chunks"], "journal_commits": 0, "archive": report["archive"],
        "sinks": report["sinks"], "anchors": [],
    });
    assert_eq!(report, expected);
    assert_eq!(report["chain"].as_str().unwrap().len(), 64, "{report}");
    let anchor = format!("{head}:{}", report["chain"].as_str().unwrap());
    let other = format!("{head}:{}", "0".repeat(64));
    let with = |anchor: &str| ["verify", "--data-dir", text(&data), "--anchor", anchor].map(str::to_owned);
    for (code, anchor, agreement) in [(0, &anchor, "agrees"), (1, &other, "differs")] {
        let arguments = with(anchor);
        let report = told(code, &arguments.each_ref().map(String::as_str));
        assert_eq!(report["anchors"], json!([{"anchor": anchor, "agreement": agreement}]));
        assert_eq!((&report["good"], &report["fault"]), (&json!(code == 0), &Json::Null));
    }

    let done = told(0, &["backup", "--data-dir", text(&data), "--to", text(&backup)]);
    assert!(done["bytes"].as_u64().unwrap() > 10_000, "{done}");
    assert_eq!(done, json!({"to": text(&backup), "first": 1, "last": head, "bytes": done["bytes"]}));

    let restored = told(0, &["restore", "--from", text(&backup), "--data-dir", text(&new)]);
    let log = Stopped::open(&new).unwrap();
    let expected = json!({
        "epoch": log.epoch().to_string(), "previous_epoch": epoch, "first": 1, "last": head, "begun": head.next(),
    });
    assert_eq!(restored, expected);
    drop(log);

    let (_, words, _) = call(&["replay", "--data-dir", text(&data), "--until", "400"]);
    let folded = told(0, &["replay", "--data-dir", text(&data), "--until", "400"]);
    assert!(words.contains(&format!("digest  {}\n", folded["digest"].as_str().unwrap())), "{words}");
    assert!(words.contains(&format!(": {} devices\n", folded["devices"])), "{words}");
    let expected = json!({
        "epoch": epoch, "snapshot": 0, "replayed": 400, "seq": 400, "time": folded["time"],
        "devices": folded["devices"], "digest": folded["digest"],
    });
    assert_eq!(folded, expected);

    let (code, out, err) = call(&["restore", "--from", text(&backup), "--data-dir", text(&new), "--json"]);
    assert_eq!((code, out.as_str()), (64, ""));
    assert_says(&err, &[text(&new), "not empty"]);
}

#[test]
fn damage_and_its_repair_are_told_to_programs() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), Kind { snapshot: Some(280), trim: None });
    let data = text(dir.path());
    assert_eq!(told(0, &["repair", "--data-dir", data]), json!({"repaired": false}));
    let head = told(0, &["verify", "--data-dir", data])["last"].as_u64().unwrap();
    let log = dir.path().join(FILE_NAME);
    let mut bytes = std::fs::read(&log).unwrap();
    let (at, first, last) = super::repair::chunk_of(&bytes, 3_140);
    bytes[at + 100] ^= 1;
    std::fs::write(&log, bytes).unwrap();

    let report = told(65, &["verify", "--data-dir", data]);
    assert_eq!((&report["good"], &report["last"]), (&json!(false), &json!(head)), "{report}");
    assert_eq!(report["intact"], first.0 - 1, "{report}");
    assert!(report["fault"].as_str().unwrap().contains(&format!("sequence {first}")), "{report}");

    let repaired = told(0, &["repair", "--data-dir", data]);
    assert_eq!(
        (&repaired["repaired"], &repaired["previous_epoch"]),
        (&json!(true), &json!(EPOCH.to_string()))
    );
    assert_eq!(repaired["lost"], json!([{"first": first, "last": last}]), "{repaired}");
    assert_eq!(repaired["saved"], head - (last.0 - first.0 + 1), "{repaired}");
    assert_eq!((&repaired["last"], &repaired["begun"]), (&json!(head), &json!(head + 1)), "{repaired}");
    assert!(dir.path().join(repaired["kept"].as_str().unwrap()).exists(), "{repaired}");
    assert_eq!(told(0, &["verify", "--data-dir", data])["epoch"], repaired["epoch"]);
}

#[test]
fn an_import_is_told_to_programs() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file, new) = (dir.path().join("data"), dir.path().join("events"), dir.path().join("new"));
    make(&data, Kind::default());
    let types = "state_changed,action_fired,history_reported,availability_changed";
    let (_, events, _) = call(&["export", "--data-dir", text(&data), "--type", types]);
    std::fs::write(&file, &events).unwrap();
    let done = told(0, &["import", text(&file), "--data-dir", text(&new)]);
    let log = Stopped::open(&new).unwrap();
    let first: Json = serde_json::from_str(events.lines().next().unwrap()).unwrap();
    let (gateway, _) = first["id"].as_str().unwrap().split_once('/').unwrap();
    let devices = log.view(log.head()).unwrap().devices.iter().count();
    let expected = json!({
        "epoch": log.epoch().to_string(), "events": events.lines().count(), "devices": devices,
        "gateway": gateway, "previous_epoch": EPOCH.to_string(), "begun": done["begun"],
    });
    assert_eq!(done, expected);
    assert!(done["begun"].as_u64().unwrap() > 7_500, "{done}");
}

#[tokio::test]
async fn a_backup_of_a_running_agent_is_told_to_programs() {
    let place = Place::of(&original());
    let agent = place.agent().await;
    let (socket, to) = (place.socket(), place.dir.path().join("backup"));
    let arguments = ["backup", "--socket", text(&socket), "--to", text(&to), "--json"];
    let done = read(0, &arguments, call_beside(&arguments).await);
    agent.stop().await;
    let last = Stopped::open(&to).unwrap().head();
    let expected = json!({"to": text(&to), "first": done["first"], "last": last, "bytes": done["bytes"]});
    assert_eq!(done, expected);
}
