//! Why an attribute has its value.

use fieldlog_projections::command::Progress;
use fieldlog_wire::api::why::WhyAnswer;

use super::commands::{asked, house_with_commands, step};
use super::*;

const LAMP: &str = "/api/v1/devices/kitchen%2Flamp/attributes";

#[tokio::test]
async fn the_answer_names_record_command_and_requester() {
    let agent = house_with_commands().await;
    let path = format!("{LAMP}/on/why");
    let why = agent.json(&path).await;
    let expected = serde_json::json!({
        "position": why["position"], "device": "kitchen/lamp", "attribute": "on", "value": "ON", "source": "z2m",
        "event": agent.json("/api/v1/events/14").await["event"],
        "command": {"id": 10, "applied_seq": 15, "applied_at": "2025-11-23T10:01:42.000000Z", "request": {
            "actor": "uid:1000", "reason": "", "requested_at": "2025-11-23T10:01:40.000000Z", "name": "on",
            "operation": false, "value": "ON", "source": "z2m", "topic": "t"}},
        "before": [{"seq": 5, "at": "2025-11-23T10:00:01.000000Z", "value": true}],
        "complete_from_seq": 1,
    });
    assert_eq!(why, expected);
    let read: WhyAnswer<'_> = serde_json::from_value(why).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), expected);
    // A command that the same record shows for another attribute, and a later one that another record shows.
    let of_other = [(103, asked("c", "on")), (104, changed(1, vec![(0, Value::Int(1)), (1, Value::Null)]))];
    agent.commit(of_other);
    agent.commit([(105, step(11, Progress::Applied { evidence: Some(Seq(17)) }))]);
    let why = agent.json(&path).await;
    assert_eq!(
        (&why["value"], &why["event"]["seq"], &why["command"]),
        (&Json::Null, &17.into(), &Json::Null)
    );
    assert_eq!(seqs(&why["before"]), [14, 5]);
    let temperature = agent.json(&format!("{LAMP}/temperature/why")).await;
    assert_eq!((&temperature["command"]["id"], &temperature["event"]["seq"]), (&11.into(), &17.into()));
    agent.stop().await;
}

#[tokio::test]
async fn past_values_are_explained_too_and_limits_are_kept() {
    let agent = Agent::start().await;
    agent.commit_house();
    let path = format!("{LAMP}/temperature/why");
    for (query, seq, before, complete_from) in [
        ("", 7, vec![6, 5], 1),
        ("limit=1", 7, vec![6], 6),
        ("at=6", 6, vec![5], 1),
        ("at=5", 5, vec![], 1),
        ("at=2025-11-23T10:00:30Z", 6, vec![5], 1),
    ] {
        let why = agent.json(&format!("{path}?{query}")).await;
        assert_eq!((&why["event"]["seq"], seqs(&why["before"])), (&seq.into(), before), "{query}: {why}");
        assert_eq!(why["complete_from_seq"], complete_from, "{query}");
    }
    for (query, status, code, words) in [
        ("at=4", 404, "no-such-change", "`temperature` of kitchen/lamp had no value yet at sequence 4"),
        ("at=99", 400, "bad-parameter", "sequence 99 has not happened yet"),
        ("at=noon", 400, "bad-parameter", "a time with an offset"),
        ("limit=0", 400, "bad-parameter", "from 1 to 100"),
        ("before=3", 400, "bad-parameter", "no parameter `before`"),
    ] {
        let problem = agent.problem(&format!("{path}?{query}"), status, code).await;
        assert!(problem["detail"].as_str().unwrap().contains(words), "{query}: {problem}");
    }
    agent.problem(&format!("{LAMP}/colour/why"), 404, "no-such-attribute").await;
    agent.problem("/api/v1/devices/nobody/attributes/on/why", 404, "no-such-device").await;
    agent.stop().await;
}

#[tokio::test]
async fn what_was_deleted_is_said() {
    let agent = house_with_commands().await;
    let filler = |n: i64| (110, changed(0, vec![(0, Value::Text("x".repeat(50 + n as usize % 9).into()))]));
    agent.commit([(109, changed(1, vec![(1, Value::Text("OFF".into()))]))]);
    agent.commit((0..2_000).map(filler));
    agent.commit([(111, changed(1, vec![(1, Value::Text("ON".into()))]))]);
    agent.commit((0..2_000).map(filler));
    let evidence = Seq(16 + 2_000 + 1);
    agent.commit([(112, step(10, Progress::Applied { evidence: Some(evidence) }))]);
    let trim = |before: Seq| {
        let mut log = agent.log.lock().unwrap();
        let nothing = RecordBuffer::after(log.last_time());
        let commit = Commit { trim_before: Some(before), ..Commit::of(&nothing) };
        while log.commit(&commit).unwrap().trimmed.is_some() {}
        log.reader().range().unwrap().unwrap().0
    };
    let first = trim(Seq(1_000));
    assert!(first > Seq(16), "nothing was trimmed");
    let why = agent.json(&format!("{LAMP}/on/why")).await;
    assert_eq!((&why["event"]["seq"], seqs(&why["before"])), (&evidence.0.into(), vec![]), "{why}");
    assert_eq!((&why["complete_from_seq"], &why["command"]["id"]), (&first.0.into(), &10.into()));
    let first = trim(Seq(4_000));
    assert!(first > evidence, "the record that set it was not trimmed");
    let problem = agent.problem(&format!("{LAMP}/on/why"), 404, "no-such-change").await;
    let words =
        format!("the log begins at sequence {first}, and has no change of `on` of kitchen/lamp from there");
    assert!(problem["detail"].as_str().unwrap().contains(&words), "{problem}");
    agent.stop().await;
}

/// Records of the lamp that do not compress: enough for two rows of the index.
fn commit_rows(agent: &Agent) {
    let mut state = 1_u64;
    let mut letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from((state >> 58) as u8 | 64)
    };
    for _ in 0..15 {
        let large: Vec<_> = (0..10)
            .map(|_| {
                (
                    110,
                    changed(
                        1,
                        vec![(0, Value::Text((0..16_000).map(|_| letter()).collect::<String>().into()))],
                    ),
                )
            })
            .collect();
        agent.commit(large);
    }
}

#[tokio::test]
async fn answers_by_the_index_are_those_of_a_scan() {
    let agent = house_with_commands().await;
    commit_rows(&agent);
    agent.commit([
        (111, step(11, Progress::Applied { evidence: Some(Seq(20)) })),
        (111, available(0, Availability::Offline)),
    ]);
    commit_rows(&agent);
    assert!(agent.side.shared.reader.index_size().unwrap().rows >= 3);
    let mut all = Vec::new();
    while all.len() < 317 {
        let page = agent.json(&format!("/api/v1/events?after={}", all.len())).await;
        all.extend(page["events"].as_array().unwrap().clone());
    }
    let head = all.len() as u64;
    for (query, wanted) in [
        ("device=bridge", (|e: &Json| e["device"] == "bridge") as fn(&Json) -> bool),
        ("type=command_applied,availability_changed", |e| {
            e["type"] == "command_applied" || e["type"] == "availability_changed"
        }),
        ("device=bridge&type=availability_changed", |e| {
            e["device"] == "bridge" && e["type"] == "availability_changed"
        }),
        ("command=11", |e| e["seq"] == 11 || e["data"]["command"] == 11),
        ("actor=uid:*", |e| e["type"] == "command_requested"),
        ("actor=uid:*&type=state_changed", |_| false),
        ("type=booted", |_| false),
    ] {
        let page = agent.json(&format!("/api/v1/events?{query}")).await;
        let expected: Vec<u64> =
            all.iter().filter(|e| wanted(e)).map(|e| e["seq"].as_u64().unwrap()).collect();
        assert_eq!((seqs(&page["events"]), &page["next"]), (expected, &Json::Null), "{query}");
    }
    let history = agent.json("/api/v1/devices/bridge/history").await;
    assert_eq!(seqs(&history["history"]), [1, 9, 167]);
    let why = agent.json(&format!("{LAMP}/on/why")).await;
    assert_eq!((&why["event"]["seq"], &why["command"]["id"]), (&14.into(), &10.into()));
    let why = agent.json(&format!("{LAMP}/temperature/why?at=200&limit=1")).await;
    assert_eq!((&why["event"]["seq"], seqs(&why["before"])), (&200.into(), vec![199]));
    assert_eq!(head, 317);
    agent.stop().await;
}
