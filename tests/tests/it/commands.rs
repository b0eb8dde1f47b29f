//! Commands, from the request over HTTP through a real broker to a device and back.

use std::os::unix::fs::PermissionsExt;

use fieldlog::config::Config;
use fieldlog_tests::actuator::{Actuator, Received};
use fieldlog_tests::agent::Agent;
use fieldlog_tests::mosquitto::Mosquitto;
use fieldlog_tests::publisher::{Post, Publisher};
use fieldlog_tests::wait::until;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

mod adverse;
mod model;
mod through_writer;

const TOKEN: &str = "0123456789abcdef0123";

struct Scene {
    agent: Agent,
    publisher: Publisher,
    port: u16,
    config: Config,
    _dir: TempDir,
    _mosquitto: Mosquitto,
}

fn config(dir: &TempDir, port: u16, more: &str) -> Config {
    let token = dir.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!(
        "gateway_id = \"test\"\ndata_dir = {:?}\n[log]\ncommit_delay_ms = 20\n\
         [http]\nlisten = \"127.0.0.1:0\"\nadmin_token_file = {token:?}\n\
         [[source]]\nname = \"home\"\naddress = \"mqtt://127.0.0.1:{port}\"\nbackoff_max_s = 1\n{more}",
        dir.path(),
    );
    Config::from_toml(&text, "test").unwrap_or_else(|error| panic!("{error}"))
}

/// A lamp of Zigbee2MQTT, as its documentation shows `bridge/devices` and `exposes`
/// (<https://www.zigbee2mqtt.io/guide/usage/exposes.html>).
fn lamp() -> Json {
    json!([{
        "ieee_address": "0x0017880104292f0a", "type": "Router", "friendly_name": "lamp", "interview_completed": true,
        "definition": {"model": "8718696449691", "vendor": "Philips", "description": "Hue White", "exposes": [
            {"type": "light", "features": [
                {"type": "binary", "name": "state", "property": "state", "access": 7, "value_on": "ON", "value_off": "OFF",
                 "value_toggle": "TOGGLE"},
                {"type": "numeric", "name": "brightness", "property": "brightness", "access": 7, "value_min": 0,
                 "value_max": 254}
            ]},
            {"type": "numeric", "name": "linkquality", "property": "linkquality", "access": 1, "value_min": 0, "value_max": 255}
        ]}
    }])
}

impl Scene {
    async fn start(more: &str) -> Option<Scene> {
        let mosquitto = Mosquitto::start("")?;
        let dir = tempfile::tempdir().unwrap();
        let config = config(&dir, mosquitto.port, more);
        let agent = Agent::start(config.clone()).await;
        agent.subscribed().await;
        let publisher = Publisher::start(mosquitto.port);
        Some(Scene { agent, publisher, port: mosquitto.port, config, _dir: dir, _mosquitto: mosquitto })
    }

    /// With a lamp of Zigbee2MQTT that is off.
    async fn with_lamp() -> Option<Scene> {
        let scene = Scene::start("[[source.subscription]]\npreset = \"zigbee2mqtt\"\n").await?;
        scene.publisher.post([
            Post::retained("zigbee2mqtt/bridge/devices", lamp().to_string()),
            Post::new("zigbee2mqtt/lamp", r#"{"state":"OFF","brightness":0,"linkquality":90}"#),
        ]);
        until("the lamp", || scene.agent.value("lamp", "brightness").is_some()).await;
        Some(scene)
    }

    async fn ask(&self, device: &str, wait_s: u64, body: Json) -> (u16, Json) {
        let path = format!("/api/v1/devices/{device}/commands?wait={wait_s}");
        self.agent.post(&path, TOKEN, &body).await
    }

    async fn types_of(&self, command: &Json) -> Vec<String> {
        let page = self.agent.json("/api/v1/events?after=0&limit=1000").await;
        let events = page["events"].as_array().unwrap().clone();
        let ours = |event: &&Json| event["seq"] == command["id"] || event["data"]["command"] == command["id"];
        events.iter().filter(ours).map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    }
}

/// What Zigbee2MQTT does: it publishes the state that was asked for.
fn obey(received: &Received) -> Vec<Post> {
    vec![Post::new(received.topic.strip_suffix("/set").unwrap(), received.payload.clone())]
}

fn on(key: &str) -> Json {
    json!({"attribute": "state", "value": "ON", "ttl_s": 30, "idempotency_key": key, "reason": "test"})
}

#[tokio::test]
async fn a_command_is_recorded_sent_and_closed_by_what_the_device_reports() {
    let Some(scene) = Scene::with_lamp().await else { return };
    let lamp = Actuator::start(scene.port, "zigbee2mqtt/+/set", obey).await;
    let set = scene.agent.json("/api/v1/devices/lamp/command-set").await;
    let names: Vec<&str> =
        set["commands"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["brightness", "state", "state/toggle", "brightness_step"], "{set}");

    let (status, answer) = scene.ask("lamp", 10, on("k1")).await;
    let command = &answer["command"];
    assert_eq!(
        (status, &command["state"], &command["closed"]),
        (200, &json!("applied"), &json!(true)),
        "{answer}"
    );
    assert_eq!((&command["actor"], &command["attempts"]), (&json!("token:admin"), &json!(1)));
    let sent =
        Received { topic: "zigbee2mqtt/lamp/set".into(), payload: r#"{"state":"ON"}"#.into(), retain: false };
    assert_eq!(lamp.received(), [sent]);
    let types = scene.types_of(command).await;
    assert_eq!(types, ["command_requested", "command_dispatched", "command_acknowledged", "command_applied"]);
    let why = scene.agent.json("/api/v1/devices/lamp/attributes/state/why").await;
    let request = &why["command"]["request"];
    assert_eq!((&why["value"], &why["command"]["id"]), (&json!("ON"), &command["id"]), "{why}");
    assert_eq!((&request["actor"], &request["reason"]), (&json!("token:admin"), &json!("test")), "{why}");
    assert_eq!((&why["before"][0]["value"], &why["source"]), (&json!("OFF"), &json!("home")), "{why}");

    // The same again is the same command; another body under its key is a conflict; a new key is a new command, also
    // where the device is already what it is asked to be.
    let (status, again) = scene.ask("lamp", 0, on("k1")).await;
    assert_eq!((status, &again["command"]["id"]), (200, &command["id"]));
    let (status, other) = scene
        .ask("lamp", 0, json!({"attribute": "state", "value": "OFF", "ttl_s": 30, "idempotency_key": "k1"}))
        .await;
    assert_eq!((status, &other["code"]), (409, &json!("key-conflict")), "{other}");
    assert_eq!(lamp.received().len(), 1);
    let (status, second) = scene.ask("lamp", 10, on("k2")).await;
    assert_eq!((status, &second["command"]["state"]), (200, &json!("applied")), "{second}");
    assert_eq!(lamp.received().len(), 2);

    let twin = scene.agent.json("/api/v1/devices/lamp/twin").await;
    assert_eq!((&twin["desired"]["state"]["value"], &twin["delta"]), (&json!("ON"), &json!({})), "{twin}");

    // After a restart the keys are still known, and nothing is sent again.
    let Scene { agent, config, .. } = scene;
    agent.stop().await;
    let agent = Agent::start(config).await;
    agent.subscribed().await;
    let (status, again) = agent.post("/api/v1/devices/lamp/commands", TOKEN, &on("k1")).await;
    assert_eq!((status, &again["command"]["id"]), (200, &command["id"]), "{again}");
    assert_eq!(lamp.received().len(), 2);
    agent.stop().await;
}

#[tokio::test]
async fn what_shows_that_a_command_was_carried_out_is_the_record_of_its_device() {
    let rules = "[[source.subscription]]\ntopic = \"house/all\"\ndecoder = \"json\"\neach = \"members\"\ndevice = \"{key}\"\n\
        [[source.command]]\nattribute = \"on\"\ntype = \"boolean\"\ntopic = \"house/set/{device}\"\npayload = \"{json}\"\n";
    let Some(scene) = Scene::start(rules).await else { return };
    scene.publisher.post([Post::new("house/all", r#"{"lamp":{"on":false},"door":{"open":false}}"#)]);
    until("the door", || scene.agent.value("door", "open").is_some()).await;
    let obey = |_: &Received| vec![Post::new("house/all", r#"{"lamp":{"on":true},"door":{"open":true}}"#)];
    let _house = Actuator::start(scene.port, "house/set/+", obey).await;
    let body =
        json!({"attribute": "on", "value": true, "ttl_s": 30, "idempotency_key": "k", "reason": "dark"});
    let (status, answer) = scene.ask("lamp", 10, body).await;
    assert_eq!((status, &answer["command"]["state"]), (200, &json!("applied")), "{answer}");
    let why = scene.agent.json("/api/v1/devices/lamp/attributes/on/why").await;
    assert_eq!(why["event"]["seq"], answer["command"]["evidence_seq"], "{why} {answer}");
    assert_eq!(
        (&why["command"]["request"]["reason"], &why["value"]),
        (&json!("dark"), &json!(true)),
        "{why}"
    );
    let why = scene.agent.json("/api/v1/devices/door/attributes/open/why").await;
    assert_eq!((&why["value"], &why["command"]), (&json!(true), &Json::Null), "{why}");
    scene.agent.stop().await;
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_with_what_is() {
    let Some(scene) = Scene::with_lamp().await else { return };
    let refused = async |device: &str, status: u16, body: Json, words: &str| {
        let (found, answer) = scene.ask(device, 0, body.clone()).await;
        assert_eq!(found, status, "{body}: {answer}");
        assert!(answer["detail"].as_str().unwrap().contains(words), "{body}: {answer}");
        answer
    };
    let ask = |attribute: &str, value: Json| json!({"attribute": attribute, "value": value, "ttl_s": 5, "idempotency_key": "k"});
    refused("lampe", 404, ask("state", json!("ON")), "there is no device `lampe`").await;
    refused(
        "lamp",
        422,
        ask("state", json!("HALF")),
        r#"`value` is "HALF"; `state` takes one of "ON", "OFF""#,
    )
    .await;
    refused(
        "lamp",
        422,
        ask("brightness", json!(300)),
        "`value` is 300; `brightness` takes a number from 0 to 254",
    )
    .await;
    refused(
        "lamp",
        422,
        ask("brightness", json!("bright")),
        r#"`value` is "bright"; `brightness` takes a number"#,
    )
    .await;
    refused(
        "lamp",
        422,
        ask("linkquality", json!(1)),
        "cannot be told `linkquality`; it can be told `brightness`, `state`",
    )
    .await;
    refused(
        "lamp",
        400,
        json!({"attribute": "state", "value": "ON", "idempotency_key": "k"}),
        "missing field `ttl_s`",
    )
    .await;
    refused("lamp", 400, json!({"value": 1, "ttl_s": 5, "idempotency_key": "k"}), "give either `attribute`")
        .await;
    refused(
        "lamp",
        400,
        json!({"attribute": "state", "value": "ON", "ttl_s": 0, "idempotency_key": "k"}),
        "`ttl_s` is 0",
    )
    .await;
    let expected = json!({"attribute": "state", "value": "ON", "ttl_s": 5, "idempotency_key": "k",
        "expected": {"attributes": {"state": "ON"}}});
    let answer = refused(
        "lamp",
        412,
        expected,
        r#"`expected.attributes.state` is "ON", but the device reports "OFF""#,
    )
    .await;
    let device = scene.agent.json("/api/v1/devices/lamp").await;
    assert_eq!(answer["changed_seq"], device["device"]["changed_seq"]);

    // All are counted, and recorded with who asked, as far as they are not more than ten a minute.
    let counted = scene.agent.handle.shared.stats.commands.by_rejection();
    assert_eq!(
        ["bad-command", "invalid-value", "unreachable"].map(|code| counted[code]),
        [3, 3, 0],
        "{counted:?}"
    );
    let path = "/api/v1/events?after=0&limit=1000&type=command_rejected&actor=token:admin";
    let page = scene.agent.json(path).await;
    let codes =
        page["events"].as_array().unwrap().iter().map(|event| event["data"]["code"].as_str().unwrap());
    let bad = codes.filter(|code| *code == "bad-command").count();
    assert_eq!(bad, 3, "{page}");

    let (status, answer) = scene.agent.post("/api/v1/devices/lamp/commands", "", &on("k")).await;
    assert_eq!((status, &answer["code"]), (401, &json!("unauthorized")), "{answer}");
    let (status, answer) =
        scene.agent.post("/api/v1/devices/lamp/commands", "not-the-token-at-all", &on("k")).await;
    assert_eq!((status, &answer["code"]), (403, &json!("forbidden")), "{answer}");
    scene.agent.stop().await;
}

/// What a Shelly of the second generation with a switch and a cover does: it answers on the topic of the asker
/// (<https://shelly-api-docs.shelly.cloud/gen2/General/RPCChannels>), and notifies of what has changed. There is no light.
fn answer(received: &Received) -> Vec<Post> {
    let request: Json = serde_json::from_str(&received.payload).unwrap();
    let (src, params) = (request["src"].as_str().unwrap(), &request["params"]);
    let reply = |key: &str, value: Json| {
        let frame = json!({"id": request["id"], "src": "shelly-1", "dst": src, key: value});
        Post::new(format!("{src}/rpc"), frame.to_string())
    };
    let notify = |status: Json| {
        let frame =
            json!({"src": "shelly-1", "dst": "shelly-1/events", "method": "NotifyStatus", "params": status});
        Post::new("shelly-1/events/rpc", frame.to_string())
    };
    match request["method"].as_str().unwrap() {
        "Switch.Set" => vec![
            notify(json!({"ts": 1, "switch:0": {"id": 0, "output": params["on"]}})),
            reply("result", json!({"was_on": false})),
        ],
        "Cover.GoToPosition" => vec![
            reply("result", Json::Null),
            notify(json!({"ts": 1, "cover:0": {"id": 0, "state": "opening", "current_pos": 10}})),
            notify(json!({"ts": 2, "cover:0": {"id": 0, "state": "stopped", "current_pos": params["pos"]}})),
        ],
        method => vec![reply("error", json!({"code": 404, "message": format!("No handler for {method}")}))],
    }
}

#[tokio::test]
async fn a_device_that_answers_acknowledges_refuses_and_reports() {
    let Some(scene) = Scene::start("[[source.subscription]]\npreset = \"shelly-gen2\"\n").await else {
        return;
    };
    scene.publisher.post([
        Post::new("shelly-1/status/switch:0", r#"{"id":0,"output":false}"#),
        Post::new("shelly-1/status/cover:0", r#"{"id":0,"state":"closed","current_pos":0}"#),
        Post::new("shelly-1/status/light:0", r#"{"id":0,"output":false,"brightness":10}"#),
    ]);
    until("the light", || scene.agent.value("shelly-1", "light:0.brightness").is_some()).await;
    let shelly = Actuator::start(scene.port, "shelly-1/rpc", answer).await;
    let ask = |attribute: &str, value: Json| json!({"attribute": attribute, "value": value, "ttl_s": 30, "idempotency_key": attribute});

    let (status, switched) = scene.ask("shelly-1", 10, ask("switch:0.output", json!(true))).await;
    assert_eq!((status, &switched["command"]["state"]), (200, &json!("applied")), "{switched}");
    let (status, moved) = scene.ask("shelly-1", 10, ask("cover:0.current_pos", json!(50))).await;
    assert_eq!((status, &moved["command"]["state"]), (200, &json!("applied")), "{moved}");
    assert!(moved["command"]["evidence_seq"].is_u64(), "{moved}");
    let (status, refused) = scene.ask("shelly-1", 10, ask("light:0.brightness", json!(50))).await;
    assert_eq!((status, &refused["command"]["state"]), (200, &json!("failed")), "{refused}");
    assert_eq!(refused["command"]["failure"], "the device refuses it: No handler for Light.Set");
    assert_eq!(shelly.received().len(), 3);
    let quarantined = scene.agent.source().outcomes.quarantined.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(quarantined, 0, "answers are no state");
    scene.agent.stop().await;
}
