//! Answers as sent, and that the types of the wire crate cover them completely.

use std::fmt::Write as _;

use fieldlog_projections::fact::ClockQuality;
use fieldlog_wire::api::aggregates::AggregatesAnswer;
use fieldlog_wire::api::devices::{DeviceAnswer, DevicePage};
use fieldlog_wire::api::events::{EventAnswer, EventPage, Reset};
use fieldlog_wire::api::health::{Health, Version};
use fieldlog_wire::api::history::HistoryPage;
use fieldlog_wire::api::problem;
use fieldlog_wire::api::quarantine::QuarantinePage;
use fieldlog_wire::api::status::Status;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;

const LAMP: &str = "/api/v1/devices/kitchen%2Flamp";

/// A house with records of every kind.
async fn house() -> Agent {
    let agent = Agent::start().await;
    agent.commit_house();
    let action = |value: &str| Fact::ActionFired {
        device: DeviceId(1),
        attribute: AttrId(1),
        value: Value::Text(value.into()),
    };
    let facts = [
        (100, changed(1, vec![(0, Value::Float(21.3)), (1, Value::Null)])),
        (101, changed(1, vec![(1, Value::Json("[1.00,{\"a\": null}]".into())), (0, Value::Uint(u64::MAX))])),
        (102, action("hold \"it\"")),
        (103, quarantined("zigbee2mqtt/🦆")),
        (103, Fact::Booted { boot_id: [7; 16], version: "1".into(), clock: ClockQuality::Synchronised }),
        (104, Fact::ConfigChanged { keys: vec!["a".into()] }),
        (
            105,
            Fact::Unknown { kind: fieldlog_projections::Kind { type_id: 999, version: 1 }, payload: vec![1] },
        ),
        (106, available(0, Availability::Offline)),
        (40, Fact::DeviceRetired { device: DeviceId(0) }),
    ];
    agent.commit_with(facts, &[(3, b"\xff".to_vec())]);
    agent
}

fn bodies() -> Vec<String> {
    let aggregates = format!("{LAMP}/aggregates?attribute=temperature");
    [
        "/api/v1/devices",
        "/api/v1/devices?retired=true&limit=1",
        "/api/v1/devices?source=none",
        LAMP,
        &format!("{LAMP}?at=7"),
        &format!("{LAMP}/diff?from=7&to=11"),
        "/api/v1/diff?from=7",
        "/api/v1/diff?from=2025-11-23T09:00:00Z&to=3&limit=1",
        "/api/v1/commands?at=7",
        &format!("{LAMP}/history"),
        &format!("{LAMP}/history?limit=2"),
        &aggregates,
        &format!("{aggregates}&at=6"),
        &format!("{aggregates}&from=2025-11-23T10:00:00Z&window_s=30"),
        "/api/v1/events",
        "/api/v1/events?after=99",
        "/api/v1/events?limit=2",
        "/api/v1/events/5",
        &format!("{LAMP}/attributes/temperature/why"),
        "/api/v1/quarantine",
        "/api/v1/quarantine?before=1",
        "/livez",
        "/readyz",
        "/api/v1/devices/nobody",
        "/api/v1/devices?min_seq=9999&min_seq_timeout_ms=1",
    ]
    .map(str::to_owned)
    .into()
}

#[tokio::test]
async fn bodies_are_byte_for_byte_what_they_were() {
    let agent = house().await;
    let mut found = String::new();
    for path in bodies() {
        writeln!(found, "{path}\n{}", agent.get(&path).await.text()).unwrap();
    }
    agent.stop().await;
    let golden = include_str!("bodies.golden");
    for (found, golden) in found.lines().zip(golden.lines()) {
        assert_eq!(found, golden);
    }
    assert_eq!(found.lines().count(), golden.lines().count());
}

/// Reads a body as a type of the wire crate, which must be able to write all of it.
fn whole<T: DeserializeOwned + Serialize>(body: &[u8]) -> T {
    let read: T = serde_json::from_slice(body).unwrap();
    let (before, after): (Json, Json) =
        (serde_json::from_slice(body).unwrap(), serde_json::to_value(&read).unwrap());
    assert_eq!(after, before, "something of the answer is not in the type");
    read
}

pub(super) async fn get<T: DeserializeOwned + Serialize>(agent: &Agent, path: &str) -> T {
    let answer = agent.get(path).await;
    whole(answer.text().as_bytes())
}

#[tokio::test]
async fn answers_are_read_with_the_types_that_they_are_written_with() {
    let agent = house().await;
    let devices: DevicePage<'_> = get(&agent, "/api/v1/devices?retired=true").await;
    assert_eq!((devices.devices.len(), devices.position.lag), (2, 0));
    let one: DevicePage<'_> = get(&agent, "/api/v1/devices?retired=true&limit=1").await;
    assert_eq!(one.next.as_deref(), Some("bridge"));
    let device: DeviceAnswer<'_> = get(&agent, LAMP).await;
    assert_eq!(device.device.attributes["temperature"].value, u64::MAX);
    let past: DeviceAnswer<'_> = get(&agent, &format!("{LAMP}?at=7")).await;
    assert_eq!(past.as_of.unwrap().seq, Seq(7));
    let history: HistoryPage<'_> = get(&agent, &format!("{LAMP}/history?after=9")).await;
    assert!(history.history[0].changes.as_ref().unwrap()["on"].is_null(), "removed");
    assert_eq!(history.history[2].data.as_ref().unwrap()["value"], "hold \"it\"");
    let aggregates: AggregatesAnswer<'_> =
        get(&agent, &format!("{LAMP}/aggregates?attribute=temperature")).await;
    assert!(!aggregates.buckets.is_empty());
    let events: EventPage<'_> = get(&agent, "/api/v1/events").await;
    assert_eq!((events.events.len(), events.events[17].wall_time.is_some()), (18, true));
    let event: EventAnswer<'_> = get(&agent, "/api/v1/events/5").await;
    assert_eq!(
        (event.event.kind.as_ref(), event.event.device.as_deref()),
        ("state_changed", Some("kitchen/lamp"))
    );
    let quarantine: QuarantinePage<'_> = get(&agent, "/api/v1/quarantine").await;
    assert_eq!(quarantine.quarantine[0].topic, "zigbee2mqtt/🦆");
    let status: Status = get(&agent, "/status").await;
    assert_eq!((status.devices.total, status.devices.retired, status.sources.len()), (1, 1, 1));
    let health: Health = get(&agent, "/readyz").await;
    assert!(health.checks.contains_key("source:z2m") && health.checks.contains_key("aggregates"));
    let version: Version<'_> = get(&agent, "/version").await;
    assert_eq!((version.name.as_ref(), version.version.as_ref()), ("fieldlog", env!("CARGO_PKG_VERSION")));
    let problem: problem::Problem<'_> =
        get(&agent, "/api/v1/devices?min_seq=9999&min_seq_timeout_ms=1").await;
    assert_eq!((problem.code.as_ref(), problem.position), ("position-not-reached", Some(events.position)));
    let other = [("Last-Event-ID", "x")];
    let mut stream = client::Events::open(&agent.tcp, "/api/v1/events/stream", &other).await;
    stream.next().await;
    let reset = stream.next().await;
    let data = reset.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    assert_eq!(whole::<Reset>(data.as_bytes()).position, events.position);
    drop(stream);
    agent.stop().await;
}
