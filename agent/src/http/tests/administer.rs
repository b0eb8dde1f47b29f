//! Calls that change something: who may make them, and what is wrong with them. What they do is tested end to end.

use fieldlog_projections::command::CommandRejection;

use super::*;

fn administered(actor: &str, call: &str) -> Fact {
    Fact::Administered {
        actor: actor.into(),
        call: call.into(),
        target: "lamp".into(),
        reason: "test".into(),
    }
}

#[tokio::test]
async fn only_who_may_change_something_may_administer() {
    let agent = Agent::start().await;
    for (method, path) in [
        ("POST", "/api/v1/devices/lamp/retire"),
        ("POST", "/api/v1/devices/lamp/forget"),
        ("POST", "/api/v1/devices/lamp/rename"),
        ("POST", "/api/v1/quarantine/requeue"),
        ("POST", "/api/v1/quarantine/purge"),
        ("POST", "/api/v1/quarantine/5/requeue"),
        ("DELETE", "/api/v1/quarantine/5"),
        ("POST", "/api/v1/sinks/cloud/retry"),
    ] {
        let refused = client::request(&agent.tcp, method, path, &[]).await;
        check_problem(&refused, path, 403, "no-admin-token");
    }
    let path = "/api/v1/devices/lamp/retire";
    let refused = client::get(&agent.unix, path, &[]).await;
    check_problem(&refused, path, 405, "method-not-allowed");
    assert_eq!(refused.header("allow"), Some("POST"));
    assert!(refused.json()["detail"].as_str().unwrap().contains("no method GET"));
    // The methods of a resource are all named.
    let both = client::request(&agent.unix, "PUT", "/api/v1/devices/lamp/commands", &[]).await;
    assert_eq!(both.header("allow"), Some("GET,HEAD,POST"));
    agent.stop().await;
}

#[tokio::test]
async fn calls_that_cannot_be_read_say_why() {
    let agent = Agent::start().await;
    for (method, path, status, code, words) in [
        ("POST", "/api/v1/devices/lamp/rename", 400, "bad-call", "missing field `id`"),
        ("POST", "/api/v1/quarantine/requeue", 400, "bad-call", "give `source` or `topic`"),
        ("POST", "/api/v1/quarantine/purge", 400, "bad-call", "{\"topic\": \"*\"} means all"),
        ("DELETE", "/api/v1/quarantine/x", 404, "no-such-payload", "`x` is not a sequence number"),
        ("POST", "/api/v1/devices/lamp/retire?reason=x", 400, "bad-parameter", "no parameter `reason`"),
    ] {
        let refused = client::request(&agent.unix, method, path, &[]).await;
        check_problem(&refused, path.split('?').next().unwrap(), status, code);
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(words), "{path}: {detail}");
    }
    agent.stop().await;
}

#[tokio::test]
async fn what_somebody_asked_for_is_found_by_the_actor() {
    let agent = Agent::start().await;
    agent.commit_house();
    let rejection = Box::new(CommandRejection {
        actor: "uid:1000".into(),
        key: "k".into(),
        device: "lamp".into(),
        name: "on".into(),
        code: "no-such-command".into(),
        reason: "no".into(),
        unrecorded: 0,
    });
    agent.commit([
        (95, administered("uid:1000", "retire-device")),
        (96, administered("token:admin", "purge")),
        (97, Fact::CommandRejected { device: Some(DeviceId(1)), rejection }),
        (98, administered("uid:10", "reload")),
    ]);
    for (query, expected) in [
        ("actor=uid:1000", vec![10, 12]),
        ("actor=uid:*", vec![10, 12, 13]),
        ("actor=*", vec![10, 11, 12, 13]),
        ("actor=uid:1", vec![]),
        ("actor=uid:1000&type=administered", vec![10]),
        ("actor=uid:*&device=kitchen%2Flamp", vec![12]),
    ] {
        let found = agent.json(&format!("/api/v1/events?{query}")).await;
        assert_eq!(seqs(&found["events"]), expected, "{query}");
    }
    let found = agent.json("/api/v1/events?actor=token:admin").await;
    let data =
        serde_json::json!({"actor": "token:admin", "call": "purge", "target": "lamp", "reason": "test"});
    assert_eq!(found["events"][0]["data"], data);
    agent.stop().await;
}
