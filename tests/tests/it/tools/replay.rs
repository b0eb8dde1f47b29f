//! `fieldlog replay` gives the digest that the gateway showed at that position.

use super::history::{Kind, make};
use super::*;

fn digest(data_dir: &Path, until: Option<&str>) -> (String, String) {
    let mut arguments = vec!["replay", "--data-dir", text(data_dir)];
    arguments.extend(until.into_iter().flat_map(|until| ["--until", until]));
    let (code, out, err) = call(&arguments);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let line = out.lines().find(|line| line.starts_with("digest"));
    (line.unwrap().split_whitespace().nth(1).unwrap().to_owned(), out)
}

#[tokio::test]
async fn a_replay_gives_the_digest_that_the_gateway_showed() {
    for kind in [Kind { snapshot: Some(250), trim: None }, Kind { snapshot: Some(200), trim: Some(220) }] {
        let place = Place::of(&original());
        std::fs::remove_dir_all(place.data()).unwrap();
        make(&place.data(), kind);
        let agent = place.agent().await;
        let status = agent.json("/status?state_digest=true").await;
        let shown = status["state_digest"].as_str().unwrap().to_owned();
        assert!(
            agent.json("/status").await.get("state_digest").is_none(),
            "it costs, so it is to be asked for"
        );
        let (seq, _) = shown.split_once(':').unwrap();
        let seq: u64 = seq.parse().unwrap();
        assert!(seq > 7_000, "{shown}");
        // The agent goes on: it records a press of nobody, and its end.
        let (sink, reason) = ("cloud".into(), "later".into());
        let first = fieldlog_projections::Seq(1);
        agent
            .handle
            .inputs
            .send(fieldlog::writer::Input::DeadLetter { sink, first, last: first, reason })
            .unwrap();
        fieldlog_tests::wait::until("another record", || agent.head() > seq).await;
        let backup = place.dir.path().join("backup");
        let (socket, data) = (place.socket(), place.data());
        assert_eq!(call_beside(&["backup", "--socket", text(&socket), "--to", text(&backup)]).await.0, 0);
        agent.stop().await;
        for dir in [&data, &backup] {
            let (found, out) = digest(dir, Some(&seq.to_string()));
            assert_eq!(found, shown, "{out}");
            let from = if kind.trim.is_some() { "after the snapshot at" } else { "from the beginning" };
            assert_says(&out, &[from, &format!("at sequence {seq}")]);
            assert_ne!(digest(dir, None).0, shown);
        }
        // By time: the state is that of the last record then.
        let (_, out) = digest(&data, Some("2025-11-23T11:00:00Z"));
        assert_says(&out, &["state   at sequence", "2025-11-23T1"]);
    }
}

#[test]
fn a_position_that_the_log_does_not_have_is_said() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), Kind { snapshot: Some(200), trim: Some(220) });
    let check = |until: &str, code: i32, words: &str| {
        let (found, out, err) = call(&["replay", "--data-dir", text(dir.path()), "--until", until]);
        assert_eq!((found, out.as_str()), (code, ""), "{err}");
        assert_says(&err, &[words]);
    };
    check("999999", 64, "the log ends at sequence");
    check("10", 65, "no snapshot");
    check("soon", 64, "sequence number");
}
