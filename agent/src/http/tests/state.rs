use super::*;

#[tokio::test]
async fn devices_are_listed_with_their_state() {
    let agent = Agent::start().await;
    agent.commit_house();
    let list = agent.json("/api/v1/devices").await;
    let expected = serde_json::json!({"epoch": "000000000000feed", "applied": 9, "head": 9, "lag": 0});
    assert_eq!(list["position"], expected);
    let lamp = serde_json::json!({
        "id": "kitchen/lamp", "namespace": null, "called": "kitchen/lamp", "former_ids": [],
        "source": "z2m", "parent": "bridge",
        "availability": "online", "availability_cause": "topic", "availability_at": "2025-11-23T10:01:20.000000Z",
        "offline_because": null, "retired": false,
        "discovered_at": "2025-11-23T10:00:00.000000Z",
        "changed_seq": 8, "changed_at": "2025-11-23T10:01:20.000000Z",
        "device_time": null, "heard_at": null, "data_age_s": 5320.0, "events": 5,
        "attributes": {"temperature": 22, "on": true},
    });
    assert_eq!(list["devices"][1], lamp);
    assert_eq!(list["next"], Json::Null);
    agent.stop().await;
}

#[tokio::test]
async fn a_renamed_device_answers_to_both_ids_and_one_of_another_namespace_has_its_own() {
    let agent = Agent::start().await;
    agent.commit_house();
    let identity = |namespace: &str, name: &str| {
        Some(fieldlog_projections::fact::Identity { namespace: namespace.into(), name: name.into() })
    };
    let claimed = Fact::DeviceDiscovered {
        device: DeviceId(1),
        name: "kitchen/lamp".into(),
        source: "z2m".into(),
        parent: None,
        identity: identity("z2m", "kitchen/lamp"),
    };
    let other = Fact::DeviceDiscovered {
        device: DeviceId(2),
        name: "kitchen/lamp@tasmota".into(),
        source: "t".into(),
        parent: None,
        identity: identity("tasmota", "kitchen/lamp"),
    };
    let renamed = Fact::DeviceRenamed { device: DeviceId(1), name: "hall".into(), called: "hall".into() };
    agent.commit([
        (100, claimed),
        (110, other),
        (120, renamed),
        (130, changed(1, vec![(0, Value::Int(25))])),
    ]);
    for path in ["/api/v1/devices/hall", "/api/v1/devices/kitchen%2Flamp"] {
        let device = &agent.json(path).await["device"];
        assert_eq!((&device["id"], &device["called"]), (&"hall".into(), &"hall".into()), "{path}");
        assert_eq!(
            (&device["namespace"], &device["former_ids"]),
            (&"z2m".into(), &["kitchen/lamp"][..].into())
        );
        assert_eq!(device["attributes"]["temperature"]["value"], 25, "{path}");
        // The history is that of one device, for each of its ids.
        let history = &agent.json(&format!("{path}/history")).await["history"];
        assert_eq!(history.as_array().unwrap().len(), 8, "{history}");
    }
    // At a time before it was renamed.
    let then = &agent.json("/api/v1/devices/hall?at=11").await["device"];
    assert_eq!((&then["id"], &then["former_ids"]), (&"kitchen/lamp".into(), &Json::Array(Vec::new())));
    let other = &agent.json("/api/v1/devices/kitchen%2Flamp@tasmota").await["device"];
    assert_eq!((&other["namespace"], &other["called"]), (&"tasmota".into(), &"kitchen/lamp".into()));
    let list = agent.json("/api/v1/devices").await;
    let ids: Vec<_> = list["devices"].as_array().unwrap().iter().map(|device| device["id"].clone()).collect();
    assert_eq!(ids, ["bridge", "hall", "kitchen/lamp@tasmota"]);
    agent.stop().await;
}

#[tokio::test]
async fn a_device_behind_a_dead_bridge_is_offline_because_of_it() {
    let agent = Agent::start().await;
    agent.commit_house();
    agent.commit([(100, available(0, Availability::Offline))]);
    let list = agent.json("/api/v1/devices?availability=offline").await;
    assert_eq!(list["devices"].as_array().unwrap().len(), 2);
    assert_eq!(list["devices"][1]["offline_because"], "bridge");
    let status = agent.json("/status").await;
    let counts = serde_json::json!({"total": 2, "online": 0, "offline": 2, "unknown": 0, "retired": 0});
    assert_eq!(status["devices"], counts);
    agent.stop().await;
}

#[tokio::test]
async fn pages_of_devices_follow_each_other() {
    let agent = Agent::start().await;
    agent.commit((0..5).map(|n| (0, discovered(n, &format!("d/{n}"), None))));
    agent.commit([(1, Fact::DeviceRetired { device: DeviceId(2) })]);
    let first = agent.get("/api/v1/devices?limit=2&source=z2m").await;
    let link = first.header("link").unwrap().to_owned();
    assert_eq!(link, "</api/v1/devices?limit=2&source=z2m&after=d%2F1>; rel=\"next\"");
    assert_eq!(first.json()["next"], "d/1");
    let path = link.trim_start_matches('<').split('>').next().unwrap();
    let second = agent.json(path).await;
    let ids: Vec<_> = second["devices"].as_array().unwrap().iter().map(|d| d["id"].clone()).collect();
    assert_eq!((ids, &second["next"]), (vec!["d/3".into(), "d/4".into()], &Json::Null));
    let all = agent.json("/api/v1/devices?retired=true").await;
    assert_eq!(all["devices"].as_array().unwrap().len(), 5);
    assert_eq!(agent.json("/api/v1/devices?source=other").await["devices"], serde_json::json!([]));
    agent.problem("/api/v1/devices?limit=1001", 400, "bad-parameter").await;
    agent.problem("/api/v1/devices?colour=red", 400, "bad-parameter").await;
    agent.problem("/api/v1/devices?availability=maybe", 400, "bad-parameter").await;
    agent.stop().await;
}

#[tokio::test]
async fn one_device_shows_where_each_value_comes_from() {
    let agent = Agent::start().await;
    agent.commit_house();
    agent.commit([(95, changed(1, vec![(1, Value::Null)]))]);
    let lamp = agent.json("/api/v1/devices/kitchen%2Flamp").await;
    let temperature = serde_json::json!({"value": 22, "seq": 7, "at": "2025-11-23T10:01:10.000000Z"});
    assert_eq!(lamp["device"]["attributes"], serde_json::json!({"temperature": temperature}));
    let problem = agent.problem("/api/v1/devices/kitchen%2Flanp", 404, "no-such-device").await;
    assert!(problem["detail"].as_str().unwrap().contains("Did you mean kitchen/lamp?"), "{problem}");
    agent.problem("/api/v1/devices/kitchen/lamp", 404, "no-such-path").await;
    agent.stop().await;
}

#[tokio::test]
async fn an_answer_the_client_has_is_not_sent_again() {
    let agent = Agent::start().await;
    agent.commit_house();
    for path in
        ["/api/v1/devices", "/api/v1/devices/bridge", "/api/v1/devices/bridge/history", "/api/v1/events"]
    {
        let tag = agent.get(path).await.header("etag").unwrap().to_owned();
        // Not every byte is the same as long as the state is: words are those of the moment.
        assert_eq!(tag, "W/\"000000000000feed-9\"", "{path}");
        let again = client::get(&agent.tcp, path, &[("If-None-Match", &tag)]).await;
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
        assert_eq!(again.header("etag"), Some(tag.as_str()), "{path}");
    }
    agent.commit([(100, available(0, Availability::Offline))]);
    let stale = [("If-None-Match", "\"000000000000feed-9\"")];
    assert_eq!(client::get(&agent.tcp, "/api/v1/devices", &stale).await.status, 200);
    agent.stop().await;
}

#[tokio::test]
async fn a_read_waits_for_the_write_it_wants_to_see() {
    let agent = Arc::new(Agent::start().await);
    agent.commit_house();
    let reader = agent.clone();
    let waiting = tokio::spawn(async move {
        reader.json("/api/v1/devices/bridge?min_seq=000000000000feed-10&min_seq_timeout_ms=10000").await
    });
    // Nothing else here follows the position: what does is this request, which has found that it has to wait.
    let waits = async {
        while agent.side.shared.position.receiver_count() == 0 {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), waits).await.is_ok(), "the request does not come");
    assert!(!waiting.is_finished());
    agent.commit([(100, available(0, Availability::Offline))]);
    let seen = waiting.await.unwrap();
    assert_eq!(seen["device"]["availability"], "offline");
    assert_eq!(seen["position"]["applied"], 10);
    let late =
        agent.problem("/api/v1/devices?min_seq=11&min_seq_timeout_ms=20", 504, "position-not-reached").await;
    assert_eq!(late["position"]["applied"], 10);
    let other = "/api/v1/devices?min_seq=00000000000000aa-1";
    assert_eq!(agent.problem(other, 409, "other-epoch").await["position"]["epoch"], "000000000000feed");
    agent.problem("/status?min_seq=1&epoch=00000000000000aa", 409, "other-epoch").await;
    agent.problem("/api/v1/events?min_seq=soon", 400, "bad-parameter").await;
    agent.problem("/api/v1/events?min_seq=1&min_seq_timeout_ms=10001", 400, "bad-parameter").await;
    Arc::into_inner(agent).unwrap().stop().await;
}

#[tokio::test]
async fn the_past_is_replayed() {
    let agent = Agent::start().await;
    agent.commit_house();
    let lamp = "/api/v1/devices/kitchen%2Flamp";
    let past = agent.json(&format!("{lamp}?at=2025-11-23T10:00:30Z")).await;
    let as_of = serde_json::json!({
        "seq": 6, "time": "2025-11-23T10:00:30.000000Z", "exact": true, "base": 0, "replayed": 6,
    });
    assert_eq!(past["as_of"], as_of);
    assert_eq!(past["device"]["attributes"]["temperature"]["value"], 21.5);
    assert_eq!(past["device"]["availability"], "unknown");
    assert_eq!(past["position"]["applied"], 9);
    assert_eq!(
        agent.json(&format!("{lamp}?at=5")).await["device"]["attributes"]["temperature"]["value"],
        20.5
    );

    // The clock of the test stands at 11:30.
    let now = agent.json(&format!("{lamp}?at=2025-11-23T11:30:00Z")).await;
    assert_eq!((&now["as_of"]["seq"], &now["as_of"]["exact"]), (&9.into(), &false.into()));
    let early = agent.problem(&format!("{lamp}?at=1"), 404, "no-such-device").await;
    assert!(
        early["detail"].as_str().unwrap().contains("first seen at 2025-11-23T10:00:00.000000Z"),
        "{early}"
    );
    agent.problem(&format!("{lamp}?at=10"), 400, "bad-parameter").await;
    agent.problem(&format!("{lamp}?at=noon"), 400, "bad-parameter").await;
    agent.problem("/api/v1/devices/nobody?at=5", 404, "no-such-device").await;

    // All devices at once: at the same moment, and in pages.
    let then = agent.json("/api/v1/devices?at=2025-11-23T10:00:30Z").await;
    assert_eq!((&then["as_of"], &then["position"]["applied"]), (&as_of, &9.into()));
    let of = |page: &Json, id: &str| {
        let devices = page["devices"].as_array().unwrap().clone();
        devices.into_iter().find(|device| device["id"] == id)
    };
    let (found, one) = (of(&then, "kitchen/lamp").unwrap(), &past["device"]);
    for member in ["availability", "changed_seq", "data_age_s", "heard_at", "events"] {
        assert_eq!(found[member], one[member], "{member}");
    }
    assert_eq!(found["attributes"]["temperature"], 21.5);
    assert_eq!(of(&agent.json("/api/v1/devices?at=1").await, "kitchen/lamp"), None);
    let page = agent.json("/api/v1/devices?at=6&limit=1").await;
    let next = page["next"].as_str().unwrap().replace('/', "%2F");
    let second = agent.json(&format!("/api/v1/devices?at=6&limit=1&after={next}")).await;
    assert_ne!(page["devices"][0]["id"], second["devices"][0]["id"]);
    agent.problem("/api/v1/devices?at=10", 400, "bad-parameter").await;
    agent.stop().await;
}

#[tokio::test]
async fn a_snapshot_shortens_the_way_to_the_past() {
    let agent = Agent::start().await;
    agent.commit_house();
    let shared = &agent.side.shared;
    shared.snapshots.save(&shared.view.read().unwrap(), EPOCH, 3).unwrap();
    agent.commit([(100, changed(1, vec![(0, Value::Int(5))])), (110, changed(1, vec![(0, Value::Int(6))]))]);
    let past = agent.json("/api/v1/devices/kitchen%2Flamp?at=10").await;
    assert_eq!((&past["as_of"]["seq"], &past["as_of"]["replayed"]), (&10.into(), &1.into()));
    assert_eq!(past["device"]["attributes"]["temperature"]["value"], 5);
    agent.stop().await;
}
