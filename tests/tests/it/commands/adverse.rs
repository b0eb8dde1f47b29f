//! Commands where something is in the way: repetitions, old values, clocks that are set, brokers and devices that are gone.

use std::time::Duration;

use fieldlog::clock::TestClock;
use fieldlog_projections::commands::ENDED_MAX;
use fieldlog_projections::fact::Availability;
use fieldlog_projections::{Seq, Value};
use fieldlog_tests::proxy::{Fault, Proxy};

use super::*;

const Z2M: &str = "[[source.subscription]]\npreset = \"zigbee2mqtt\"\n";
/// The same, with commands that wait while the device is away.
const HELD: &str = "[[source.command]]\nattribute = \"brightness\"\ntopic = \"zigbee2mqtt/{device}/set\"\n\
    payload = \"{document}\"\non_offline = \"hold\"\nconfirm_s = 1\n[[source.subscription]]\npreset = \"zigbee2mqtt\"\n";
const HOUR: Duration = Duration::from_secs(3_600);
const HOUR_MICROS: i64 = 3_600_000_000;

fn bright(key: &str, value: u8, ttl_s: u32) -> Json {
    json!({"attribute": "brightness", "value": value, "ttl_s": ttl_s, "idempotency_key": key})
}

async fn ask(agent: &Agent, body: &Json) -> (u16, Json) {
    agent.post("/api/v1/devices/lamp/commands", TOKEN, body).await
}

/// The state of a command, by its answer.
fn state(agent: &Agent, answer: &Json) -> &'static str {
    let id = Seq(answer["command"]["id"].as_u64().unwrap_or_else(|| panic!("{answer}")));
    agent.view(|view| view.commands.get(id).map_or("", |command| command.state.word()))
}

async fn becomes(agent: &Agent, answer: &Json, expected: &str) {
    until(&format!("the state {expected} of {answer}"), || state(agent, answer) == expected).await;
}

#[tokio::test]
async fn an_old_retained_value_is_not_evidence() {
    // MQTT 3.1.1 gets retained messages anew with every SUBSCRIBE.
    let Some(scene) = Scene::start(&format!("protocol = 4\n{Z2M}")).await else { return };
    let nobody = Actuator::start(scene.port, "zigbee2mqtt/+/set", |_| Vec::new()).await;
    scene.publisher.post([
        Post::retained("zigbee2mqtt/bridge/devices", lamp().to_string()),
        Post::retained("zigbee2mqtt/lamp", r#"{"state":"ON","brightness":0}"#),
    ]);
    until("the lamp", || scene.agent.value("lamp", "brightness").is_some()).await;
    let (status, answer) = ask(&scene.agent, &on("k")).await;
    assert_eq!(status, 202, "{answer}");
    becomes(&scene.agent, &answer, "acknowledged").await;
    let Scene { agent, publisher, config, _mosquitto, .. } = scene;
    agent.stop().await;
    let agent = Agent::start(config).await;
    agent.subscribed().await;
    until("the retained messages", || agent.source().status.retained.get() >= 2).await;
    publisher.post([Post::new("zigbee2mqtt/lamp", r#"{"brightness":1}"#)]);
    until("a message after them", || agent.value("lamp", "brightness") == Some(Value::Int(1))).await;
    assert_eq!(state(&agent, &answer), "acknowledged");
    publisher.post([Post::new("zigbee2mqtt/lamp", r#"{"state":"ON"}"#)]);
    becomes(&agent, &answer, "applied").await;
    assert_eq!(nobody.received().len(), 1);
    agent.stop().await;
}

#[tokio::test]
async fn two_writers_with_one_key_at_once_make_one_command() {
    let Some(scene) = Scene::with_lamp().await else { return };
    let lamp = Actuator::start(scene.port, "zigbee2mqtt/+/set", obey).await;
    for round in 0..10 {
        let body = bright(&format!("k{round}"), round, 30);
        let other = bright(&format!("k{round}"), 200, 30);
        let (first, second, conflict) =
            tokio::join!(ask(&scene.agent, &body), ask(&scene.agent, &body), ask(&scene.agent, &other));
        let answers = [first, second, conflict];
        let (taken, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|(status, _)| *status < 300);
        // Whichever came first; the other body is refused, or both of the same.
        assert!(matches!((taken.len(), refused.len()), (2, 1) | (1, 2)), "{answers:?}");
        assert!(taken.iter().all(|(_, answer)| answer["command"]["id"] == taken[0].1["command"]["id"]));
        assert!(
            refused
                .iter()
                .all(|(status, answer)| (*status, &answer["code"]) == (409, &json!("key-conflict")))
        );
        becomes(&scene.agent, &taken[0].1, "applied").await;
    }
    assert_eq!(lamp.received().len(), 10);
    scene.agent.stop().await;
}

#[tokio::test]
async fn a_command_repeated_for_a_day_is_carried_out_once() {
    let Some(mut scene) = Scene::with_lamp().await else { return };
    let lamp = Actuator::start(scene.port, "zigbee2mqtt/+/set", obey).await;
    let clock = TestClock::running();
    let (_, first) = scene.ask("lamp", 10, on("k")).await;
    assert_eq!(first["command"]["state"], "applied");
    for round in 0..8 {
        scene.agent.stop().await;
        clock.advance(3 * HOUR);
        scene.agent = Agent::start_at(scene.config.clone(), clock.clock()).await;
        scene.agent.subscribed().await;
        for _ in 0..2 {
            let (status, again) = ask(&scene.agent, &on("k")).await;
            assert_eq!((status, &again["command"]["id"]), (200, &first["command"]["id"]), "{round}: {again}");
        }
    }
    assert_eq!(lamp.received().len(), 1);
    // The clock is set ahead by a year: no time has passed by that, and another command forgets no key.
    clock.step(365 * 86_400_000_000);
    let (_, other) = scene.ask("lamp", 10, bright("other", 9, 30)).await;
    assert_eq!(other["command"]["state"], "applied");
    let (status, again) = ask(&scene.agent, &on("k")).await;
    assert_eq!((status, &again["command"]["id"]), (200, &first["command"]["id"]), "{again}");
    assert_eq!(lamp.received().len(), 2);
    scene.agent.stop().await;
}

#[tokio::test]
async fn a_key_gets_its_answer_also_when_a_thousand_other_commands_have_ended_since() {
    let Some(mut scene) = Scene::with_lamp().await else { return };
    let lamp = Actuator::start(scene.port, "zigbee2mqtt/+/set", obey).await;
    let (_, first) = scene.ask("lamp", 10, on("k")).await;
    assert_eq!(first["command"]["state"], "applied", "{first}");
    drop(lamp);
    // Nobody answers: the first is under way, and each of the others takes the place of the one before.
    for n in 0..=ENDED_MAX + 1 {
        let (status, answer) = ask(&scene.agent, &bright(&format!("b{n}"), 1, 600)).await;
        assert_eq!(status, 202, "{n}: {answer}");
    }
    let id = Seq(first["command"]["id"].as_u64().unwrap());
    assert!(scene.agent.view(|view| view.commands.get(id).is_none()), "it is still kept whole");
    for _ in 0..2 {
        let (status, again) = scene.ask("lamp", 0, on("k")).await;
        assert_eq!(status, 200, "{again}");
        // All of it, because the log still has the request.
        assert_eq!(again["command"], first["command"]);
        let read = scene.agent.json(&format!("/api/v1/commands/{id}")).await;
        assert_eq!(read["command"], first["command"]);
        scene.agent.stop().await;
        scene.agent = Agent::start(scene.config.clone()).await;
        scene.agent.subscribed().await;
    }
    let (status, other) = ask(&scene.agent, &bright("k", 9, 600)).await;
    assert_eq!((status, &other["code"]), (409, &json!("key-conflict")), "{other}");
    scene.agent.stop().await;
}

/// A lamp that is known, behind a proxy through which its broker can be cut off.
async fn behind_proxy(clock: &TestClock, more: &str) -> Option<(Scene, Proxy)> {
    let mut scene = Scene::with_lamp().await?;
    let proxy = Proxy::start(([127, 0, 0, 1], scene.port).into(), Fault::Pass).await;
    scene.agent.stop().await;
    scene.config = config(&scene._dir, proxy.address.port(), more);
    scene.agent = Agent::start_at(scene.config.clone(), clock.clock()).await;
    scene.agent.subscribed().await;
    Some((scene, proxy))
}

#[tokio::test]
async fn without_a_connection_commands_are_refused_or_wait_and_no_clock_makes_them_late() {
    let clock = TestClock::running();
    let Some((scene, proxy)) = behind_proxy(&clock, HELD).await else { return };
    let lamp = Actuator::start(scene.port, "zigbee2mqtt/+/set", obey).await;
    proxy.set(Fault::Refuse);
    until("the end of the connection", || !scene.agent.source().status.is_connected()).await;
    let (status, refused) = ask(&scene.agent, &on("k")).await;
    assert_eq!((status, &refused["code"]), (409, &json!("unreachable")), "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("source `home`"), "{refused}");

    // A clock set back does not give it more time, one set ahead takes the rest.
    let (status, by_time) = ask(&scene.agent, &bright("a", 1, 60)).await;
    assert_eq!(status, 202, "{by_time}");
    clock.step(-HOUR_MICROS);
    clock.advance(Duration::from_secs(61));
    becomes(&scene.agent, &by_time, "expired").await;
    let (_, by_clock) = ask(&scene.agent, &bright("b", 2, 60)).await;
    clock.step(HOUR_MICROS);
    becomes(&scene.agent, &by_clock, "expired").await;

    let (_, waits) = ask(&scene.agent, &bright("c", 3, 600)).await;
    assert_eq!(state(&scene.agent, &waits), "requested");
    assert_eq!(lamp.received(), []);
    proxy.set(Fault::Pass);
    // Attempts at connecting wait on the agent's clock.
    clock.advance(Duration::from_secs(5));
    becomes(&scene.agent, &waits, "applied").await;
    let payloads: Vec<String> = lamp.received().into_iter().map(|received| received.payload).collect();
    assert_eq!(payloads, [r#"{"brightness":3}"#]);
    scene.agent.stop().await;
}

#[tokio::test]
async fn commands_for_a_device_that_is_removed_fail_and_are_still_known() {
    let clock = TestClock::running();
    let Some((scene, proxy)) = behind_proxy(&clock, HELD).await else { return };
    let lamp = Actuator::start(scene.port, "zigbee2mqtt/+/set", obey).await;
    scene.publisher.post([Post::new("zigbee2mqtt/lamp/availability", r#"{"state":"offline"}"#)]);
    until("that the lamp is offline", || {
        scene.agent.view(|view| {
            let (_, device) = view.devices.find("lamp").unwrap();
            view.devices.effective_availability(device).0 == Availability::Offline
        })
    })
    .await;
    let body = bright("k", 5, 600);
    let waits = ask(&scene.agent, &body).await.1;
    let (status, refused) = ask(&scene.agent, &on("r")).await;
    assert_eq!((status, &refused["code"]), (409, &json!("unreachable")), "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("device `lamp` is offline"), "{refused}");
    scene.publisher.post([Post::retained("zigbee2mqtt/bridge/devices", "[]")]);
    becomes(&scene.agent, &waits, "failed").await;
    let known = scene.agent.json(waits["command"]["url"].as_str().unwrap()).await;
    assert_eq!(known["command"]["failure"], "the device is no longer there", "{known}");
    // Its keys still stand for what was asked; anything else is refused.
    let (status, again) = ask(&scene.agent, &body).await;
    assert_eq!(status, 200, "{again}");
    let (status, refused) = ask(&scene.agent, &on("new")).await;
    assert_eq!((status, &refused["code"]), (404, &json!("no-such-device")), "{refused}");
    assert_eq!(lamp.received(), []);
    drop(proxy);
    scene.agent.stop().await;
}

#[tokio::test]
async fn a_reload_that_removes_the_block_or_the_source_leaves_no_command_open_for_ever() {
    let Some(scene) = Scene::start(HELD).await else { return };
    let nobody = Actuator::start(scene.port, "zigbee2mqtt/+/set", |_| Vec::new()).await;
    scene.publisher.post([
        Post::retained("zigbee2mqtt/bridge/devices", lamp().to_string()),
        Post::new("zigbee2mqtt/lamp", r#"{"state":"OFF","brightness":0}"#),
    ]);
    until("the lamp", || scene.agent.value("lamp", "brightness").is_some()).await;
    let (_, first) = ask(&scene.agent, &bright("a", 1, 600)).await;
    becomes(&scene.agent, &first, "unconfirmed").await;
    // Without the block, what was asked for can still be seen to have been done.
    scene.agent.reload(config(&scene._dir, scene.port, &format!("{Z2M}commands = false\n"))).await;
    declares(&scene.agent, 0).await;
    let (status, refused) = ask(&scene.agent, &bright("b", 2, 600)).await;
    assert_eq!((status, &refused["code"]), (422, &json!("no-such-command")), "{refused}");
    scene.publisher.post([Post::new("zigbee2mqtt/lamp", r#"{"brightness":1}"#)]);
    becomes(&scene.agent, &first, "applied").await;

    // Without the source, one that is on its way is given up in time, one that waits expires.
    scene.agent.reload(config(&scene._dir, scene.port, HELD)).await;
    declares(&scene.agent, 2).await;
    let (_, sent) = ask(&scene.agent, &bright("c", 3, 600)).await;
    // One that was not sent yet would wait for the source.
    until("the publication", || ["acknowledged", "unconfirmed"].contains(&state(&scene.agent, &sent))).await;
    let (_, waits) = ask(&scene.agent, &bright("d", 4, 3)).await;
    // Nobody listens on port 1.
    let mut gone = config(&scene._dir, 1, Z2M);
    gone.sources[0].name = "elsewhere".into();
    scene.agent.reload(gone).await;
    becomes(&scene.agent, &sent, "unconfirmed").await;
    until("the end of the other", || {
        // It may have been sent between the end of the first and that of the source.
        ["expired", "unconfirmed"].contains(&state(&scene.agent, &waits))
    })
    .await;
    let (status, refused) = ask(&scene.agent, &bright("e", 5, 600)).await;
    assert_eq!((status, &refused["code"]), (409, &json!("unreachable")), "{refused}");
    let (status, again) = ask(&scene.agent, &bright("c", 3, 600)).await;
    assert_eq!((status, &again["command"]["id"]), (202, &sent["command"]["id"]), "{again}");
    assert!(nobody.received().len() >= 2);
    scene.agent.stop().await;
}

/// Waits until so many attributes of the lamp can be set.
async fn declares(agent: &Agent, count: usize) {
    for _ in 0..500 {
        let set = agent.json("/api/v1/devices/lamp/command-set").await;
        let attributes = set["commands"].as_array().unwrap().iter().filter(|told| told["operation"] == false);
        if attributes.count() == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the lamp cannot be told {count} things");
}
