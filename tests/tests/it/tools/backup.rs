//! `fieldlog backup` of a running and of a stopped agent, and `fieldlog restore`.

use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fieldlog::log::{Log, LogReader};
use fieldlog::snapshots::SnapshotStore;
use fieldlog::stopped::Stopped;
use fieldlog::verify::verify;
use fieldlog::writer::Input;
use fieldlog_projections::command::CommandState;
use fieldlog_projections::{Epoch, Fact, Seq, stored};
use fieldlog_tests::process::Process;
use fieldlog_tests::receiver::Receiver;
use fieldlog_tests::wait::until;

use super::history::{EPOCH, Kind, make};
use super::*;
use crate::corruption::Outcome;
use crate::corruption::content::Content;
use crate::crash::records::{Kept, kept};
use crate::rig::OPTIONS;

fn records(reader: &LogReader) -> Vec<Kept> {
    let mut found = Vec::new();
    let scanned = reader.scan(Seq(1), |chunk| {
        found.extend(kept(chunk.records()));
        ControlFlow::<()>::Continue(())
    });
    scanned.unwrap();
    found
}

fn fact(record: &Kept) -> Fact {
    stored::decode(record.kind, &record.payload).unwrap()
}

/// Intact but for what is so in the log that [`original`] makes: nothing in it says that its front was deleted.
fn assert_intact(dir: &Path) {
    let fault = verify(dir).unwrap().fault.unwrap_or_default();
    assert!(
        fault.is_empty() || fault.contains("no record in it says that those before were deleted"),
        "{fault}"
    );
}

/// Everything is in it: records, moments, cursors, quarantine, archive, the doubted clock, and the state.
#[test]
fn a_backup_of_a_stopped_agent_has_everything_and_is_not_continued() {
    let original = original();
    let place = Place::of(&original);
    let (data, to) = (place.data(), place.dir.path().join("backup"));
    let (code, out, err) = call(&["backup", "--data-dir", text(&data), "--to", text(&to)]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert_says(&out, &[text(&to), &format!("to {}", original.content.head), "`fieldlog restore`"]);
    assert_intact(&to);
    let log = Log::open_untouched(&to, OPTIONS).unwrap();
    let content = Content::of(&log, &SnapshotStore::of(&to)).unwrap();
    assert_eq!(original.content.held_against(&content), Outcome::Same);
    assert_eq!(content.cursors, original.content.cursors);
    drop(log);
    assert!(std::fs::read(place.log()).unwrap() == original.bytes, "the log was written to");

    let (code, _, err) = call(&["backup", "--data-dir", text(&data), "--to", text(&to)]);
    assert_eq!(code, 64, "{err}");
    assert_says(&err, &[text(&to), "not empty"]);
    let refused = Log::open(&to, OPTIONS, Epoch(0)).unwrap_err();
    assert!(refused.is_lasting());
    assert_says(&refused.to_string(), &["is a backup", "`fieldlog restore`", "new epoch"]);
    assert_intact(&to);
}

#[tokio::test]
async fn a_backup_of_a_running_agent_is_of_one_moment() {
    let place = Place::of(&original());
    let agent = place.agent().await;
    let writing = Arc::new(AtomicBool::new(true));
    let writer = tokio::task::spawn_blocking({
        let (inputs, writing) = (agent.handle.inputs.clone(), writing.clone());
        move || {
            for n in 0.. {
                let reason = format!("{n} {}", "x".repeat(n % 3_000));
                let fact = Input::DeadLetter { sink: "cloud".into(), first: Seq(1), last: Seq(1), reason };
                inputs.send(fact).unwrap();
                if !writing.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        }
    });
    let (socket, to) = (place.socket(), place.dir.path().join("backup"));
    let before = agent.head();
    let arguments = ["backup", "--socket", text(&socket), "--to", text(&to), "--reason", "before the move"];
    let (code, out, err) = call_beside(&arguments).await;
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    until("more records", || agent.head() > before + 200).await;
    writing.store(false, Ordering::Relaxed);
    writer.await.unwrap();

    let (code, _, err) = call_beside(&arguments).await;
    assert_eq!(code, 65);
    assert_says(&err, &["not empty"]);
    let file = place.dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (code, _, err) = call_beside(&["backup", "--socket", text(&socket), "--to", text(&file)]).await;
    assert_eq!(code, 65);
    assert_says(&err, &[text(&file), "ReadWritePaths"]);
    let body = serde_json::json!({ "to": place.dir.path().join("other") });
    let (status, answer) = agent.post("/api/v1/backup", "", &body).await;
    assert!(matches!(status, 401 | 403), "{answer}");
    agent.stop().await;

    assert_intact(&to);
    let (copy, whole) = (Stopped::open(&to).unwrap(), Stopped::open(&place.data()).unwrap());
    assert_eq!(copy.epoch(), whole.epoch());
    let (copied, all) = (records(&copy.reader()), records(&whole.reader()));
    assert!(copied.len() as u64 > before - copied[0].seq.0 && copied.len() < all.len());
    assert!(all.starts_with(&copied));
    let is_call = |fact: &Fact| matches!(fact, Fact::Administered { .. });
    assert_eq!(all.iter().map(fact).filter(is_call).count(), 1, "what was refused is not recorded as done");
    let user = std::fs::metadata(place.log()).unwrap().uid();
    let said = copied.iter().map(fact).filter(|fact| matches!(fact, Fact::Administered { .. }));
    let expected = Fact::Administered {
        actor: format!("uid:{user}"),
        call: "backup".into(),
        target: to.display().to_string(),
        reason: "before the move".into(),
    };
    assert_eq!(said.collect::<Vec<_>>(), [expected]);
    // The state is that of the copy's end, from its own snapshot.
    let head = copy.head();
    assert_eq!(copy.view(head).unwrap(), whole.view(head).unwrap());
}

#[tokio::test]
async fn a_backup_is_not_run() {
    let place = Place::of(&original());
    let to = place.dir.path().join("backup");
    let data = place.data();
    assert_eq!(call(&["backup", "--data-dir", text(&data), "--to", text(&to)]).0, 0);
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&to, &data).unwrap();
    let source = "[[source]]\nname = \"plant\"\naddress = \"mqtt://127.0.0.1:1\"\n[[source.subscription]]\npreset = \"tasmota\"\n";
    let ended = Process::run(&place.config_with(source), &[]).ended().await;
    assert_eq!(ended.code, 65, "{}", ended.words);
    assert_says(&ended.words, &["is a backup", "`fieldlog restore`"]);
    assert_intact(&data);
}

#[test]
fn a_restored_log_has_the_records_in_a_new_epoch() {
    for kind in [Kind::default(), Kind { snapshot: Some(200), trim: Some(210) }] {
        let dir = tempfile::tempdir().unwrap();
        let (data, backup, new) =
            (dir.path().join("data"), dir.path().join("backup"), dir.path().join("new"));
        let history = make(&data, kind);
        assert_eq!(call(&["backup", "--data-dir", text(&data), "--to", text(&backup)]).0, 0);
        let (code, out, err) = call(&["restore", "--from", text(&backup), "--data-dir", text(&new)]);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        assert_says(&out, &[&format!("after {EPOCH}"), "at the same positions", "new epoch"]);
        assert_intact(&new);
        let (old, restored) = (Stopped::open(&backup).unwrap(), Stopped::open(&new).unwrap());
        assert_ne!(restored.epoch(), EPOCH);
        let (was, is) = (records(&old.reader()), records(&restored.reader()));
        assert!(is.starts_with(&was));
        assert_eq!(was[0].seq == Seq(1), kind.trim.is_none());
        let added: Vec<Fact> = is[was.len()..].iter().map(fact).collect();
        assert!(
            matches!(&added[0], Fact::EpochBegun { previous: Some(EPOCH), reason } if reason.contains("fieldlog restore")),
            "{added:?}"
        );
        assert!(
            matches!(&added[1], Fact::Administered { call, target, .. } if call == "restore" && *target == text(&backup))
        );
        // What follows is that of a command that was under way: nobody knows whether the gateway sent it.
        assert_eq!(added.len(), 3, "{added:?}");
        let view = restored.view(restored.head()).unwrap();
        assert_eq!(view.commands.get(history.command).unwrap().state, CommandState::Unknown);
        assert_eq!(view.devices, history.view.devices);
        let payloads = |log: &Stopped| {
            let seqs = log.reader().quarantine(usize::MAX).unwrap();
            seqs.into_iter().map(|seq| (seq, log.reader().quarantined(seq).unwrap())).collect::<Vec<_>>()
        };
        assert_eq!(payloads(&restored), payloads(&old));
        assert_eq!(restored.reader().clock_corrections().unwrap(), old.reader().clock_corrections().unwrap());
        assert!(restored.reader().cursors().unwrap().is_empty());
        assert_eq!(std::fs::read_dir(&new).unwrap().count(), 2);
    }
}

#[test]
fn what_cannot_be_restored_is_said_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (data, new) = (dir.path().join("data"), dir.path().join("new"));
    make(&data, Kind::default());
    let (code, _, err) = call(&["restore", "--from", text(&data), "--data-dir", text(&data)]);
    assert_eq!(code, 64, "{err}");
    assert_says(&err, &[text(&data), "not empty"]);
    let log = data.join(FILE_NAME);
    let mut bytes = std::fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 9_000].fill(7);
    std::fs::write(&log, bytes).unwrap();
    let (code, _, err) = call(&["restore", "--from", text(&data), "--data-dir", text(&new)]);
    assert_eq!(code, 65, "{err}");
    assert_says(&err, &["damaged", "`fieldlog repair`"]);
    assert!(!new.exists());
    let (code, _, err) = call(&["restore", "--from", text(&new), "--data-dir", text(&new)]);
    assert_eq!(code, 74, "{err}");
    assert_says(&err, &["nothing to read"]);
}

/// What the gateway recorded after the backup has reached the receiver. The restored log goes on otherwise, and is no
/// fork.
#[tokio::test]
async fn receivers_see_a_restored_log_as_a_new_epoch() {
    let place = Place::of(&original());
    std::fs::remove_dir_all(place.data()).unwrap();
    make(&place.data(), Kind { snapshot: Some(250), trim: None });
    let receiver = Receiver::http().await;
    let sink = format!("[[sink]]\nname = \"cloud\"\naddress = \"http://{}/\"\n", receiver.address());
    let config = || Config::load(&place.config_with(&sink)).unwrap().config;
    let agent = Agent::start(config()).await;
    let old = agent.handle.shared.epoch;
    let (socket, backup) = (place.socket(), place.dir.path().join("backup"));
    assert_eq!(call_beside(&["backup", "--socket", text(&socket), "--to", text(&backup)]).await.0, 0);
    for _ in 0..3 {
        let (sink, reason) = ("cloud".into(), "after the backup".into());
        agent.handle.inputs.send(Input::DeadLetter { sink, first: Seq(1), last: Seq(1), reason }).unwrap();
    }
    let at = agent.head();
    until("what comes after the backup", || {
        receiver.handle.report().log("site", old).is_some_and(|log| log.contiguous.0 >= at.max(7_000))
    })
    .await;
    agent.stop().await;

    std::fs::remove_dir_all(place.data()).unwrap();
    let data = place.data();
    assert_eq!(call_beside(&["restore", "--from", text(&backup), "--data-dir", text(&data)]).await.0, 0);
    let agent = Agent::start(config()).await;
    let (epoch, head) = (agent.handle.shared.epoch, agent.head());
    let arrived = || receiver.handle.report().log("site", epoch).is_some_and(|log| log.contiguous.0 >= head);
    until("the new epoch at the receiver", arrived).await;
    agent.stop().await;
    let report = receiver.handle.report();
    assert!(epoch != old && report.is_clean() && report.logs.len() == 2, "{report}");
}
