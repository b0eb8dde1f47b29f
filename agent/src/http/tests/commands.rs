//! Commands where they are read: in events, counts and metrics. That they are carried out is tested with a broker.

use fieldlog_projections::CommandState;
use fieldlog_projections::command::{CommandRequest, Evidence, OnOffline, Progress, Publish};
use fieldlog_projections::commands::ENDED_MAX;

use super::client::Events;
use super::*;
use crate::command::declared::Code;

pub(super) fn asked(key: &str, name: &str) -> Fact {
    let value = Value::Text("ON".into());
    let request = CommandRequest {
        actor: "uid:1000".into(),
        key: key.into(),
        digest: [7; 16],
        reason: String::new(),
        name: name.into(),
        operation: false,
        value: value.clone(),
        expires: Time::from_secs(BEGIN_S + 300),
        ttl_s: 30,
        booted_for: 5,
        remember_until: Time::from_secs(BEGIN_S + 300),
        publish: Publish { source: "z2m".into(), topic: "t".into(), payload: Vec::new(), qos: 1 },
        idempotent: true,
        on_offline: OnOffline::Reject,
        confirm_s: 30,
        evidence: Evidence::Reported { attribute: name.into(), target: value, tolerance: 0.0 },
        traceparent: None,
    };
    Fact::CommandRequested { device: DeviceId(1), request: Box::new(request) }
}

pub(super) fn step(command: u64, progress: Progress) -> Fact {
    Fact::CommandProgressed { device: DeviceId(1), command: Seq(command), progress }
}

/// The house at 1 to 9, and two commands that are interleaved: 10, 12 and 15 are one, 11 and 13 the other.
pub(super) async fn house_with_commands() -> Agent {
    let agent = Agent::start().await;
    agent.commit_house();
    agent.commit([
        (100, asked("a", "on")),
        (100, asked("b", "temperature")),
        (101, step(10, Progress::Dispatched { attempt: 1 })),
        (101, step(11, Progress::Dispatched { attempt: 1 })),
        (102, changed(1, vec![(1, Value::Text("ON".into()))])),
        (102, step(10, Progress::Applied { evidence: Some(Seq(14)) })),
    ]);
    agent
}

#[tokio::test]
async fn events_of_one_command_can_be_listed() {
    let agent = house_with_commands().await;
    for (query, expected) in [
        ("command=10", vec![10, 12, 15]),
        ("command=11", vec![11, 13]),
        ("command=10&after=10", vec![12, 15]),
        ("command=10&type=command_applied,command_failed", vec![15]),
        ("command=10&device=kitchen/lamp", vec![10, 12, 15]),
        ("command=10&device=bridge", vec![]),
        // A record that is no request, and one that is not there.
        ("command=14", vec![]),
        ("command=99", vec![]),
    ] {
        let page = agent.json(&format!("/api/v1/events?{query}")).await;
        assert_eq!(seqs(&page["events"]), expected, "{query}: {page}");
    }
    let page = agent.json("/api/v1/events?command=10&limit=1").await;
    assert_eq!((seqs(&page["events"]), &page["next"]), (vec![10], &10.into()), "{page}");
    let problem = agent.problem("/api/v1/events?command=lamp", 400, "bad-parameter").await;
    assert!(
        problem["detail"].as_str().unwrap().contains("`command=lamp` must be a whole number"),
        "{problem}"
    );
    agent.stop().await;
}

#[tokio::test]
async fn a_stream_of_one_command_has_its_whole_life_and_goes_on() {
    let agent = house_with_commands().await;
    let path = "/api/v1/events/stream?command=11";
    let mut events = Events::open(&agent.tcp, path, &[]).await;
    assert!(events.next().await.contains("id: 000000000000feed-10"), "the record before its request");
    assert!(events.next().await.contains("id: 000000000000feed-11\nevent: command_requested"));
    assert!(events.next().await.contains("id: 000000000000feed-13\nevent: command_dispatched"));
    agent.commit([(103, step(10, Progress::Expired)), (104, step(11, Progress::Unconfirmed))]);
    let event = events.next().await;
    assert!(event.contains("id: 000000000000feed-17\nevent: command_unconfirmed"), "{event}");
    // With a position of its own it goes on from there.
    let last = [("Last-Event-ID", "000000000000feed-13")];
    let mut events = Events::open(&agent.tcp, path, &last).await;
    assert!(events.next().await.contains("id: 000000000000feed-13"));
    assert!(events.next().await.contains("id: 000000000000feed-17\nevent: command_unconfirmed"));
    agent.stop().await;
}

#[tokio::test]
async fn of_a_command_that_ended_long_ago_the_log_says_what_was_asked_for() {
    let agent = Agent::start().await;
    agent.commit_house();
    let failed = Progress::Failed { reason: "the device refuses it".into() };
    let others = (0..ENDED_MAX as u64)
        .flat_map(|n| [(1, asked(&format!("k{n}"), "on")), (1, step(12 + 2 * n, Progress::Expired))]);
    agent.commit([(0, asked("first", "on")), (1, step(10, failed))].into_iter().chain(others));
    let answer = agent.json("/api/v1/commands/10").await;
    let command = &answer["command"];
    assert_eq!(
        (&command["state"], &command["failure"], &command["closed"], &command["changed_seq"]),
        (&"failed".into(), &"the device refuses it".into(), &true.into(), &11.into()),
        "{answer}"
    );
    assert_eq!(
        (&command["name"], &command["value"], &command["idempotent"], &command["evidence"]),
        (&"on".into(), &"ON".into(), &true.into(), &"reported".into())
    );
    // One whose key is forgotten, or that never was.
    agent.problem("/api/v1/commands/9", 404, "no-such-command").await;
    agent.stop().await;
}

#[tokio::test]
async fn status_and_metrics_count_commands() {
    let agent = house_with_commands().await;
    let stats = &agent.side.shared.stats.commands;
    stats.requested();
    stats.requested();
    stats.stepped(CommandState::Dispatched, None);
    stats.stepped(CommandState::Applied, Some(Duration::from_secs(3)));
    stats.rejected(Code::InvalidValue);
    let status = agent.json("/status").await;
    let expected = serde_json::json!({
        "open": 1,
        "admin_token": false,
        "by_state": {"requested": 2, "dispatched": 1, "acknowledged": 0, "applied": 1, "failed": 0, "expired": 0,
            "superseded": 0, "unconfirmed": 0, "unknown": 0},
        "rejected": {"invalid-value": 1},
    });
    assert_eq!(status["commands"], expected);
    let metrics = agent.get("/metrics").await.text();
    for line in [
        "fieldlog_commands_total{state=\"requested\"} 2",
        "fieldlog_commands_total{state=\"applied\"} 1",
        "fieldlog_commands_total{state=\"unknown\"} 0",
        "fieldlog_command_rejections_total{code=\"invalid-value\"} 1",
        // Also what has not happened yet.
        "fieldlog_command_rejections_total{code=\"bad-command\"} 0",
        "fieldlog_command_rejections_total{code=\"not-ready\"} 0",
        "fieldlog_command_open_seconds_sum 3.0",
        "fieldlog_command_open_seconds_bucket{le=\"1.0\"} 0",
        "fieldlog_command_open_seconds_bucket{le=\"5.0\"} 1",
        "fieldlog_commands_open 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    agent.stop().await;
}
