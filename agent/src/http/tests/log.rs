use super::*;
use crate::retention::rollup::{Job, roll_up};

#[tokio::test]
async fn history_is_read_by_time_attribute_and_page() {
    let agent = Agent::start().await;
    agent.commit_house();
    let path = "/api/v1/devices/kitchen%2Flamp/history";
    let all = agent.json(path).await;
    assert_eq!(seqs(&all["history"]), [2, 5, 6, 7, 8]);
    assert_eq!((&all["next"], &all["complete"]), (&Json::Null, &true.into()));
    let first = serde_json::json!({
        "seq": 5, "at": "2025-11-23T10:00:01.000000Z", "type": "state_changed", "changes": {"temperature": 20.5, "on": true},
    });
    assert_eq!(all["history"][1], first);
    assert_eq!(all["history"][4]["data"], serde_json::json!({"availability": "online", "cause": "topic"}));

    let page = agent.json(&format!("{path}?limit=2")).await;
    assert_eq!(
        (seqs(&page["history"]), &page["next"], &page["complete"]),
        (vec![2, 5], &5.into(), &false.into())
    );
    let rest = agent.json(&format!("{path}?limit=3&after=5")).await;
    assert_eq!((seqs(&rest["history"]), &rest["next"]), (vec![6, 7, 8], &Json::Null));

    let on = agent.json(&format!("{path}?attribute=on")).await;
    assert_eq!(
        (seqs(&on["history"]), &on["history"][0]["changes"]),
        (vec![5], &serde_json::json!({"on": true}))
    );
    let span = agent.json(&format!("{path}?from=2025-11-23T10:00:10Z&to=2025-11-23T10:01:20Z")).await;
    assert_eq!(seqs(&span["history"]), [6, 7]);
    let problem = agent.problem(&format!("{path}?attribute=temprature"), 404, "no-such-attribute").await;
    assert!(problem["detail"].as_str().unwrap().contains("Did you mean temperature?"), "{problem}");
    agent.problem("/api/v1/devices/nobody/history", 404, "no-such-device").await;
    agent
        .problem(&format!("{path}?from=2025-11-23T10:00:00Z&to=2025-11-23T10:00:00Z"), 400, "bad-parameter")
        .await;
    agent.stop().await;
}

#[tokio::test]
async fn history_is_found_by_time_over_many_chunks() {
    let agent = Agent::start().await;
    agent.commit_house();
    for minute in 2..60 {
        let fact = |n: i64| {
            (minute * 60 + n / 10, changed(1, vec![(0, Value::Float((minute * 1_000 + n) as f64 / 7.0))]))
        };
        agent.commit((0..500).map(fact));
    }
    let path = "/api/v1/devices/kitchen%2Flamp/history?from=2025-11-23T10:30:00Z&to=2025-11-23T10:30:01Z";
    let found = agent.json(path).await;
    let first = 9 + 28 * 500 + 1;
    assert_eq!(seqs(&found["history"]), (first..first + 10).collect::<Vec<_>>());
    // The view and the log agree on the last minute, although memory has dropped the first.
    let aggregates = "/api/v1/devices/kitchen%2Flamp/aggregates?attribute=temperature&window_s=60";
    let minute = agent.json(&format!("{aggregates}&from=2025-11-23T10:59:00Z")).await;
    assert_eq!(minute["source"], "memory");
    let again = agent.json(&format!("{aggregates}&from=2025-11-23T10:00:00Z")).await;
    assert_eq!(again["source"], "log");
    let last = |answer: &Json| answer["buckets"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last(&minute), last(&again));
    assert_eq!((again["buckets"].as_array().unwrap().len(), &last(&again)["count"]), (60, &500.into()));
    agent.stop().await;
}

#[tokio::test]
async fn aggregates_come_from_memory_or_from_the_log() {
    let agent = Agent::start().await;
    agent.commit_house();
    let path = "/api/v1/devices/kitchen%2Flamp/aggregates?attribute=temperature";
    let memory = agent.json(path).await;
    assert_eq!(
        (&memory["source"], &memory["window_s"], &memory["attribute"]),
        (&"memory".into(), &60.into(), &"temperature".into())
    );
    let first = serde_json::json!({
        "start": "2025-11-23T10:00:00.000000Z", "count": 2, "min": 20.5, "max": 21.5, "mean": 21.0, "last": 21.5, "open": false,
    });
    assert_eq!(memory["buckets"][0], first);
    assert_eq!(memory["buckets"][1]["open"], true);
    let ten =
        agent.json(&format!("{path}&window_s=10&from=2025-11-23T10:00:05Z&to=2025-11-23T10:01:00Z")).await;
    assert_eq!(ten["source"], "log");
    let starts: Vec<_> =
        ten["buckets"].as_array().unwrap().iter().map(|b| b["start"].as_str().unwrap()).collect();
    assert_eq!(starts, ["2025-11-23T10:00:00.000000Z", "2025-11-23T10:00:10.000000Z"]);
    agent.problem("/api/v1/devices/kitchen%2Flamp/aggregates", 400, "bad-parameter").await;
    agent.problem(&format!("{path}s"), 404, "no-such-attribute").await;
    agent.problem(&format!("{path}&window_s=0"), 400, "bad-parameter").await;
    agent.stop().await;
}

#[tokio::test]
async fn more_buckets_than_an_answer_holds_are_refused_with_advice() {
    let agent = Agent::start().await;
    agent.commit_house();
    agent.commit((0..10_001).map(|n| (100 + n, changed(1, vec![(0, Value::Int(n))]))));
    let path = "/api/v1/devices/kitchen%2Flamp/aggregates?attribute=temperature&window_s=1";
    let problem = agent.problem(path, 400, "too-many-buckets").await;
    assert!(problem["detail"].as_str().unwrap().contains("`window_s`"), "{problem}");
    agent.stop().await;
}

#[tokio::test]
async fn events_show_the_log_as_it_is() {
    let agent = Agent::start().await;
    agent.commit_house();
    let unknown = Fact::Unknown {
        kind: fieldlog_projections::Kind { type_id: 900, version: 3 },
        payload: vec![1, 255],
    };
    // The clock went back an hour: log time does not.
    agent.commit([
        (90, Fact::Booted { boot_id: [7; 16], version: "0.1.0".into(), clock: Default::default() }),
        (-3_510, unknown),
        (
            95,
            Fact::ActionFired {
                device: DeviceId(1),
                attribute: AttrId(1),
                value: Value::Text("toggle".into()),
            },
        ),
        (95, Fact::ConfigChanged { keys: vec!["log.commit_delay_ms".into()] }),
    ]);
    let all = agent.json("/api/v1/events").await;
    assert_eq!(seqs(&all["events"]), (1..=13).collect::<Vec<_>>());
    let expected = serde_json::json!({
        "id": "gw/000000000000feed/5", "seq": 5, "type": "state_changed", "time": "2025-11-23T10:00:01.000000Z",
        "device": "kitchen/lamp", "data": {"changes": {"temperature": 20.5, "on": true}},
    });
    assert_eq!(all["events"][4], expected);
    let discovered = serde_json::json!({"name": "kitchen/lamp", "source": "z2m", "parent": "bridge"});
    assert_eq!(all["events"][1]["data"], discovered);
    let unknown = &all["events"][10];
    assert_eq!(
        (&unknown["type"], &unknown["time"]),
        (&"unknown".into(), &"2025-11-23T10:01:30.000000Z".into())
    );
    assert_eq!(unknown["wall_time"], "2025-11-23T09:01:30.000000Z");
    assert_eq!(unknown["data"], serde_json::json!({"type_id": 900, "version": 3, "payload_base16": "01ff"}));
    assert_eq!(all["events"][11]["data"], serde_json::json!({"attribute": "on", "value": "toggle"}));
    assert_eq!(all["events"][9]["data"]["boot_id"], "07".repeat(16));
    assert_eq!(all["events"][12]["data"]["keys"][0], "log.commit_delay_ms");

    let types = agent.json("/api/v1/events?type=action_fired,booted").await;
    assert_eq!(seqs(&types["events"]), [10, 12]);
    let page = agent.json("/api/v1/events?device=kitchen/lamp&after=5&limit=2").await;
    assert_eq!((seqs(&page["events"]), &page["next"]), (vec![6, 7], &7.into()));
    let problem = agent.problem("/api/v1/events?type=exploded", 400, "bad-parameter").await;
    assert!(problem["detail"].as_str().unwrap().contains("state_changed"), "{problem}");
    agent.problem("/api/v1/events?device=nobody", 404, "no-such-device").await;
    agent.stop().await;
}

#[tokio::test]
async fn one_event_is_found_by_its_position() {
    let agent = Agent::start().await;
    agent.commit_house();
    assert_eq!(agent.json("/api/v1/events/6").await["event"]["data"]["changes"]["temperature"], 21.5);
    for path in ["/api/v1/events/0", "/api/v1/events/10", "/api/v1/events/x"] {
        agent.problem(path, 404, "no-such-event").await;
    }
    agent.stop().await;
}

#[tokio::test]
async fn the_quarantine_gives_its_bytes_only_as_a_download() {
    let agent = Agent::start().await;
    agent.commit_house();
    agent.commit_with(
        [(100, quarantined("a/b")), (101, quarantined("<img src=x>"))],
        &[(0, b"{\"a\"".to_vec()), (1, b"\xff\xfe".to_vec())],
    );
    let list = agent.json("/api/v1/quarantine").await;
    assert_eq!(seqs(&list["quarantine"]), [11, 10]);
    let oldest = serde_json::json!({
        "seq": 10, "at": "2025-11-23T10:01:40.000000Z", "source": "z2m", "topic": "a/b", "reason": "no JSON", "size": 3,
    });
    assert_eq!(list["quarantine"][1], oldest);
    assert_eq!(seqs(&agent.json("/api/v1/quarantine?limit=1").await["quarantine"]), [11]);
    let summary = Fact::QuarantineSummarised {
        source: "z2m".into(),
        topic: "a/b".into(),
        reason: "no JSON".into(),
        size: 4,
        count: 2_997,
        first: Time((BEGIN_S + 1) * 1_000_000),
        last: Time((BEGIN_S + 2) * 1_000_000),
    };
    agent.commit_with([(102, summary)], &[(0, b"newest".to_vec())]);
    let newest = &agent.json("/api/v1/quarantine").await["quarantine"][0];
    assert_eq!(
        (&newest["seq"], &newest["count"], &newest["topic"]),
        (&12.into(), &2_997.into(), &"a/b".into())
    );
    assert_eq!(newest["first_at"], "2025-11-23T10:00:01.000000Z");
    assert_eq!(newest["last_at"], "2025-11-23T10:00:02.000000Z");
    assert_eq!(agent.get("/api/v1/quarantine/12").await.body, b"newest");
    let raw = agent.get("/api/v1/quarantine/11").await;
    assert_eq!(raw.body, b"\xff\xfe");
    assert_eq!(raw.header("content-type"), Some("application/octet-stream"));
    assert_eq!(raw.header("content-disposition"), Some("attachment; filename=\"quarantine-11.bin\""));
    assert_eq!(raw.header("x-content-type-options"), Some("nosniff"));
    agent.problem("/api/v1/quarantine/9", 404, "no-such-payload").await;
    agent.stop().await;
}

#[tokio::test]
async fn a_damaged_record_is_an_error_and_not_an_empty_answer() {
    let agent = Agent::start().await;
    agent.commit_house();
    let truncated =
        Fact::Unknown { kind: fieldlog_projections::Kind { type_id: 1, version: 2 }, payload: vec![] };
    let committed = {
        let mut log = agent.log.lock().unwrap();
        let mut body = RecordBuffer::after(log.last_time());
        body.push_fact(Envelope::default(), &truncated);
        log.commit(&crate::log::Commit::of(&body)).unwrap()
    };
    // A view past it, which only a bug could cause.
    agent.side.shared.view.write().unwrap().seq = committed.last;
    agent.problem("/api/v1/events", 500, "internal").await;
    agent.stop().await;
}

/// The starts and counts of an answer's buckets, in minutes after the begin.
fn minutes(answer: &Json) -> Vec<(i64, u64)> {
    let minute = |bucket: &Json| {
        let start = fieldlog_wire::json::parse_time(bucket["start"].as_str().unwrap()).unwrap();
        ((start.0 / 1_000_000 - BEGIN_S) / 60, bucket["count"].as_u64().unwrap())
    };
    answer["buckets"].as_array().unwrap().iter().map(minute).collect()
}

#[tokio::test]
async fn the_archive_is_used_as_far_as_its_windows_divide() {
    let agent = Agent::start().await;
    agent.commit([(0, discovered(0, "meter", None)), (0, named(0, "power"))]);
    let mut ends = Vec::new();
    let mut noise = 1u64;
    for minute in 0..10 {
        let value = |n: i64| (minute * 60 + n * 10, changed(0, vec![(0, Value::Int(minute * 10 + n))]));
        // Incompressible data fills a chunk of its own, so that the trim can cut between minutes.
        let mut payload = Vec::new();
        payload.resize_with(6_000, || {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (noise >> 56) as u8
        });
        let kind = fieldlog_projections::Kind { type_id: 900, version: 3 };
        let filler = (minute * 60 + 59, Fact::Unknown { kind, payload });
        ends.push(agent.commit((0..6).map(value).chain([filler])));
    }
    let ask = async |window_s: u32| {
        let path = format!("/api/v1/devices/meter/aggregates?attribute=power&window_s={window_s}");
        agent.json(&format!("{path}&from=2025-11-23T10:00:00Z")).await
    };
    let (one, two) = (ask(60).await, ask(120).await);
    assert_eq!((&one["source"], one.get("complete_from")), (&"log".into(), None));
    assert_eq!(minutes(&one), (0..10).map(|n| (n, 6)).collect::<Vec<_>>());

    // Three minutes in windows of one minute, then to the middle of the eighth in windows of two.
    for (length_s, before) in [(60, ends[2].next()), (120, ends[6])] {
        let mut log = agent.log.lock().unwrap();
        let job = Job { length_s, before, head: (log.head(), log.last_time()) };
        let periods = roll_up(&log.reader(), job, &Default::default()).unwrap();
        let nothing = RecordBuffer::after(log.last_time());
        log.commit(&Commit { rollups: &periods, ..Commit::of(&nothing) }).unwrap();
    }
    let thinned = ask(120).await;
    assert_eq!((&thinned["source"], &thinned["buckets"]), (&"archive+log".into(), &two["buckets"]));
    // The log still has what the archive cannot divide.
    assert_eq!((&ask(60).await["buckets"], ask(60).await.get("complete_from")), (&one["buckets"], None));

    {
        let mut log = agent.log.lock().unwrap();
        let nothing = RecordBuffer::after(log.last_time());
        log.commit(&Commit { trim_before: Some(ends[5].next()), ..Commit::of(&nothing) }).unwrap();
        let (first, _) = log.reader().range().unwrap().unwrap();
        assert!(first > ends[3], "{first}");
    }
    let trimmed = ask(120).await;
    assert_eq!((&trimmed["buckets"], trimmed.get("complete_from")), (&two["buckets"], None));
    let partly = ask(60).await;
    let from = fieldlog_wire::json::parse_time(partly["complete_from"].as_str().unwrap()).unwrap();
    let from = (from.0 / 1_000_000 - BEGIN_S) / 60;
    assert!((4..=6).contains(&from), "minute {from}");
    let found = minutes(&partly);
    assert_eq!(found[..3], [(0, 6), (1, 6), (2, 6)], "{found:?}");
    let complete: Vec<_> = found.iter().copied().filter(|(minute, _)| *minute >= from).collect();
    assert_eq!(complete, (from..10).map(|n| (n, 6)).collect::<Vec<_>>());
    assert!(found.iter().all(|(minute, _)| *minute < 3 || *minute >= from - 1), "{found:?}");
    // A request within the existing range does not mention what is gone.
    let later = "/api/v1/devices/meter/aggregates?attribute=power&window_s=20&from=2025-11-23T10:07:00Z";
    let later = agent.json(later).await;
    assert_eq!((&later["source"], later.get("complete_from")), (&"log".into(), None));
    agent.stop().await;
}
