//! States at past moments, and what is different between two of them.

use fieldlog_projections::Kind;
use fieldlog_wire::api::commands::{CommandAnswer, CommandPage, TwinAnswer};
use fieldlog_wire::api::devices::Inexact;
use fieldlog_wire::api::diff::{DeviceChange, DiffAnswer, DiffPage};

use super::commands::house_with_commands;
use super::wire::get;
use super::*;

const LAMP: &str = "/api/v1/devices/kitchen%2Flamp";

/// The house at 1 to 9, and records 10 to 16 in which something happens to each device.
async fn house_that_changes() -> Agent {
    let agent = Agent::start().await;
    agent.commit_house();
    agent.commit([
        (100, changed(1, vec![(0, Value::Int(5)), (1, Value::Null)])),
        (101, available(0, Availability::Offline)),
        (102, discovered(2, "attic", None)),
        (103, changed(2, vec![(1, Value::Bool(false))])),
        (104, discovered(3, "cellar", None)),
        (105, Fact::DeviceRenamed { device: DeviceId(1), name: "hall".into(), called: "hall".into() }),
        (106, Fact::DeviceForgotten { device: DeviceId(3) }),
    ]);
    agent
}

#[tokio::test]
async fn a_sparse_snapshot_is_the_base_of_each_answer() {
    let agent = house_with_commands().await;
    let shared = &agent.side.shared;
    shared.snapshots.save_past(&shared.view.read().unwrap(), EPOCH).unwrap();
    agent.commit([(110, changed(1, vec![(0, Value::Int(5))])), (120, changed(1, vec![(0, Value::Int(6))]))]);
    for path in [
        format!("{LAMP}?at=16"),
        "/api/v1/devices?at=16".into(),
        "/api/v1/commands?at=16".into(),
        "/api/v1/commands/11?at=16".into(),
        format!("{LAMP}/commands?at=16"),
        format!("{LAMP}/twin?at=16"),
    ] {
        let as_of = &agent.json(&path).await["as_of"];
        assert_eq!(
            (&as_of["seq"], &as_of["base"], &as_of["replayed"], &as_of["exact"]),
            (&16.into(), &15.into(), &1.into(), &true.into()),
            "{path}"
        );
    }
    let diff = agent.json(&format!("{LAMP}/diff?from=15&to=16")).await;
    assert_eq!((&diff["from"]["base"], &diff["to"]["base"]), (&15.into(), &15.into()));
    assert_eq!(diff["device"]["attributes"]["temperature"]["to"], 5);
    agent.stop().await;
}

#[tokio::test]
async fn what_is_different_is_said_for_one_device() {
    let agent = house_that_changes().await;
    let hall: DiffAnswer<'_> = get(&agent, "/api/v1/devices/hall/diff?from=9&to=15").await;
    assert_eq!((hall.from.seq, hall.to.seq, hall.to.exact), (Seq(9), Seq(15), true));
    let expected = serde_json::json!({
        "id": "hall",
        "change": "changed",
        "events": 2,
        "fields": {
            "id": {"from": "kitchen/lamp", "to": "hall"},
            "availability": {"from": "online", "to": "offline"},
            "offline_because": {"from": null, "to": "bridge"},
        },
        "attributes": {
            "temperature": {"from": 22, "to": 5, "seq": 10, "at": "2025-11-23T10:01:40.000000Z"},
            "on": {"from": true, "to": null, "seq": 10, "at": "2025-11-23T10:01:40.000000Z"},
        },
    });
    assert_eq!(serde_json::to_value(&hall.device).unwrap(), expected);
    // Its former id stands for it, a time is a moment, and without `to` the later one is now.
    let same = agent.json(&format!("{LAMP}/diff?from=2025-11-23T10:01:30Z&to=15")).await;
    assert_eq!(same["device"], expected);
    let now = agent.json(&format!("{LAMP}/diff?from=14")).await;
    assert_eq!((&now["to"]["seq"], &now["device"]["events"]), (&16.into(), &1.into()));
    let attic: DiffAnswer<'_> = get(&agent, "/api/v1/devices/attic/diff?from=9&to=16").await;
    assert_eq!((attic.device.change, attic.device.events), (DeviceChange::Discovered, 2));
    let quiet: DiffAnswer<'_> = get(&agent, "/api/v1/devices/attic/diff?from=13&to=16").await;
    assert_eq!(quiet.device.change, DeviceChange::None);
    assert!(quiet.device.fields.is_empty() && quiet.device.attributes.is_empty());

    let unknown = agent.problem("/api/v1/devices/attic/diff?from=3&to=9", 404, "no-such-device").await;
    assert!(unknown["detail"].as_str().unwrap().contains("was not known at that time"), "{unknown}");
    for (query, words) in [
        ("to=9", "`from` is required here"),
        ("from=10&to=9", "`from` must not be later than `to`"),
        ("from=noon", "`from=noon` must be a time with an offset"),
        ("from=1&to=17", "sequence 17 has not happened yet, the view is at 16"),
        ("from=1&at=3", "this resource has no parameter `at`"),
    ] {
        let problem = agent.problem(&format!("{LAMP}/diff?{query}"), 400, "bad-parameter").await;
        assert!(problem["detail"].as_str().unwrap().contains(words), "{problem}");
    }
    agent.stop().await;
}

#[tokio::test]
async fn what_is_different_is_listed_for_all_devices_in_pages() {
    let agent = house_that_changes().await;
    let changes =
        |page: &DiffPage<'_>| page.devices.iter().map(|d| (d.id.to_string(), d.change)).collect::<Vec<_>>();
    let all: DiffPage<'_> = get(&agent, "/api/v1/diff?from=9&to=15").await;
    let named = |id: &str, change| (id.to_owned(), change);
    let (changed, discovered) = (DeviceChange::Changed, DeviceChange::Discovered);
    let expected = [
        named("attic", discovered),
        named("bridge", changed),
        named("cellar", discovered),
        named("hall", changed),
    ];
    assert_eq!((changes(&all), all.next.as_deref()), (expected.to_vec(), None));
    // One that came and went in between is in neither state; one that went is named by its last id.
    let later: DiffPage<'_> = get(&agent, "/api/v1/diff?from=9&to=16").await;
    assert!(later.devices.iter().all(|device| device.id != "cellar"));
    let forgotten: DiffPage<'_> = get(&agent, "/api/v1/diff?from=15").await;
    assert_eq!(changes(&forgotten), [named("cellar", DeviceChange::Forgotten)]);
    let none: DiffPage<'_> = get(&agent, "/api/v1/diff?from=9&to=9").await;
    assert!(none.devices.is_empty());

    let first = agent.get("/api/v1/diff?from=9&to=15&limit=3").await;
    let link = first.header("link").unwrap().to_owned();
    assert_eq!(link, "</api/v1/diff?from=9&to=15&limit=3&after=cellar>; rel=\"next\"");
    let second: DiffPage<'_> = get(&agent, "/api/v1/diff?from=9&to=15&limit=3&after=cellar").await;
    assert_eq!((changes(&second), second.next.as_deref()), (vec![named("hall", changed)], None));
    let now = agent.get("/api/v1/diff?from=9&limit=2").await;
    let link = "</api/v1/diff?from=9&limit=2&to=16&after=bridge>; rel=\"next\"";
    assert_eq!(now.header("link"), Some(link), "the next page would be about another moment");
    agent.problem("/api/v1/diff?from=9&limit=1001", 400, "bad-parameter").await;
    agent.stop().await;
}

#[tokio::test]
async fn commands_are_listed_as_they_were() {
    let agent = house_with_commands().await;
    let states = |page: &CommandPage<'_>| {
        page.commands.iter().map(|c| (c.id.0, c.state.to_string())).collect::<Vec<_>>()
    };
    let named = |id: u64, state: &str| (id, state.to_owned());
    for (at, expected) in [
        (9, vec![]),
        (10, vec![named(10, "requested")]),
        (13, vec![named(11, "dispatched"), named(10, "dispatched")]),
        (15, vec![named(11, "dispatched"), named(10, "applied")]),
    ] {
        let page: CommandPage<'_> = get(&agent, &format!("/api/v1/commands?at={at}")).await;
        assert_eq!((states(&page), page.as_of.unwrap().seq), (expected, Seq(at)));
    }
    let open: CommandPage<'_> = get(&agent, &format!("{LAMP}/commands?at=15&open=true")).await;
    assert_eq!(states(&open), [named(11, "dispatched")]);
    assert!(agent.json("/api/v1/commands").await.get("as_of").is_none());
    let one: CommandAnswer<'_> = get(&agent, "/api/v1/commands/10?at=2025-11-23T10:01:40Z").await;
    assert_eq!((one.command.state.as_ref(), one.as_of.unwrap().seq), ("requested", Seq(11)));
    let early = agent.problem("/api/v1/commands/11?at=10", 404, "no-such-command").await;
    assert!(early["detail"].as_str().unwrap().contains("was not asked for by then"), "{early}");
    let twin: TwinAnswer<'_> = get(&agent, &format!("{LAMP}/twin?at=13")).await;
    assert_eq!((&twin.reported["on"].value, &twin.delta["on"]), (&true.into(), &"ON".into()));
    agent.stop().await;
}

#[tokio::test]
async fn aggregates_have_no_values_that_came_later() {
    let agent = Agent::start().await;
    agent.commit_house();
    let path = format!("{LAMP}/aggregates?attribute=temperature");
    let then = agent.json(&format!("{path}&at=5")).await;
    let bucket = serde_json::json!({
        "start": "2025-11-23T10:00:00.000000Z", "count": 1, "min": 20.5, "max": 20.5, "mean": 20.5, "last": 20.5, "open": true,
    });
    assert_eq!(then["buckets"], serde_json::json!([bucket]));
    let as_of =
        serde_json::json!({"seq": 5, "time": "2025-11-23T10:00:01.000000Z", "exact": true, "replayed": 5});
    assert_eq!((&then["as_of"], &then["source"]), (&as_of, &"log".into()));
    let later = agent.json(&format!("{path}&at=2025-11-23T10:01:10Z")).await;
    let counts: Vec<_> = later["buckets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|b| (b["count"].clone(), b["open"].clone()))
        .collect();
    assert_eq!(counts, [(2.into(), false.into()), (1.into(), true.into())]);
    // As many as memory would have held then.
    agent.commit((2..6).map(|minute| (minute * 60, changed(1, vec![(0, Value::Int(minute))]))));
    let last = agent.json(&format!("{path}&at=13")).await;
    let starts: Vec<_> = last["buckets"].as_array().unwrap().iter().map(|b| b["start"].clone()).collect();
    let minute = |minute| Json::from(format!("2025-11-23T10:0{minute}:00.000000Z"));
    assert_eq!(starts, [minute(3), minute(4), minute(5)]);
    agent.problem(&format!("{path}&at=14"), 400, "bad-parameter").await;
    agent.stop().await;
}

#[tokio::test]
async fn an_answer_says_why_it_is_not_exact() {
    let agent = Agent::start().await;
    agent.commit_house();
    let because = async |at: &str| {
        let page = agent.json(&format!("/api/v1/devices?at={at}")).await;
        let as_of: fieldlog_wire::api::devices::AsOf = serde_json::from_value(page["as_of"].clone()).unwrap();
        assert_eq!(as_of.exact, as_of.inexact_because.is_none());
        (as_of.seq.0, as_of.inexact_because)
    };
    assert_eq!(because("2025-11-23T10:00:30Z").await, (6, None));
    assert_eq!(because("2025-11-23T09:59:59Z").await, (0, Some(Inexact::BeforeLog)));
    assert_eq!(because("0").await, (0, None));
    // The clock of the test stands at 11:30.
    assert_eq!(because("2025-11-23T11:29:59Z").await, (9, Some(Inexact::Unsettled)));
    assert_eq!(because("2030-01-01T00:00:00Z").await, (9, Some(Inexact::Unsettled)));
    agent.stop().await;
}

#[tokio::test]
async fn a_moment_whose_records_are_deleted_is_gone() {
    let agent = Agent::start().await;
    agent.commit_house();
    // Incompressible data fills chunks of its own, which can be deleted.
    let noise = |n: u64| Fact::Unknown {
        kind: Kind { type_id: 999, version: 1 },
        payload: (0..6_000_u64).map(|i| ((i * i * (n + 7) * 2_654_435_761) >> 13) as u8).collect(),
    };
    let end = agent.commit((0..8).map(|n| (100 + n as i64, noise(n))));
    let kept = agent.commit([(200, changed(1, vec![(0, Value::Int(5))]))]);
    {
        let shared = &agent.side.shared;
        shared.snapshots.save_past(&shared.view.read().unwrap(), EPOCH).unwrap();
        let mut log = agent.log.lock().unwrap();
        let empty = RecordBuffer::after(log.last_time());
        log.commit(&Commit { trim_before: Some(end), ..Commit::of(&empty) }).unwrap();
        let (first, _) = shared.reader.range().unwrap().unwrap();
        assert!(first > Seq(9) && first < kept, "{first}");
    }
    assert_eq!(agent.json(&format!("{LAMP}?at={kept}")).await["as_of"]["base"], kept.0);
    for at in ["9", "2025-11-23T10:00:30Z", "2020-01-01T00:00:00Z"] {
        let problem = agent.problem(&format!("{LAMP}?at={at}"), 410, "trimmed").await;
        let detail = problem["detail"].as_str().unwrap();
        let words = format!("the earliest state that can be given is that at sequence {kept}");
        assert!(detail.contains("the log begins at sequence") && detail.contains(&words), "{at}: {detail}");
    }
    agent.stop().await;
}
