//! Commands, device administration and the quarantine from the command line: over the Unix socket, through a real broker,
//! across restarts, and at a receiver.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fieldlog::config::Config;
use fieldlog::verify::verify;
use fieldlog_projections::Fact;
use fieldlog_tests::actuator::{Actuator, Received};
use fieldlog_tests::agent::Agent;
use fieldlog_tests::logbook::Logbook;
use fieldlog_tests::mosquitto::Mosquitto;
use fieldlog_tests::process;
use fieldlog_tests::publisher::{Post, Publisher};
use fieldlog_tests::receiver::Receiver;
use fieldlog_tests::wait::until;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

/// The rules, the second of which is wrong until it is corrected.
const WRONG: &str = "[[source.subscription]]\ntopic = \"plant/+device/level\"\ndecoder = \"json\"\n";
const CORRECTED: &str =
    "[[source.subscription]]\ntopic = \"plant/+device/level\"\ndecoder = \"scalar\"\nattribute = \"level\"\n";
const RULES: &str = "[[source.subscription]]\ntopic = \"plant/+device/state\"\ndecoder = \"json\"\n\
                     [[source.subscription]]\ntopic = \"plant/+device/online\"\ndecoder = \"availability\"\n";
const COMMANDS: &str = "[[source.command]]\nattribute = \"power\"\ntype = \"enum\"\nvalues = [\"on\", \"off\"]\n\
                        topic = \"plant/{device}/set\"\npayload = \"{document}\"\nconfirm_s = 60\n\
                        [[source.command]]\nattribute = \"program\"\ntype = \"text\"\ntopic = \"plant/{device}/set\"\n\
                        payload = \"{document}\"\non_offline = \"hold\"\n";

struct Scene {
    agent: Agent,
    publisher: Publisher,
    receiver: Receiver,
    mosquitto: Mosquitto,
    dir: TempDir,
}

/// How a call ended: exit code, stdout, stderr.
type Called = (i32, String, String);

impl Scene {
    async fn start() -> Option<Scene> {
        let mosquitto = Mosquitto::start("")?;
        let (dir, receiver) = (tempfile::tempdir().unwrap(), Receiver::http().await);
        let config = config(dir.path(), mosquitto.port, &receiver, WRONG);
        let agent = Agent::start(config).await;
        agent.subscribed().await;
        let publisher = Publisher::start(mosquitto.port);
        Some(Scene { agent, publisher, receiver, mosquitto, dir })
    }

    fn config(&self, rule: &str) -> Config {
        config(self.dir.path(), self.mosquitto.port, &self.receiver, rule)
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("http.sock")
    }

    /// `fieldlog` with these arguments, at the Unix socket.
    async fn call(&self, arguments: &[&str]) -> Called {
        let mut all: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        all.extend(["--socket".to_owned(), self.socket().display().to_string()]);
        let called = tokio::task::spawn_blocking(move || {
            process::call(&all.iter().map(String::as_str).collect::<Vec<_>>())
        });
        called.await.unwrap()
    }

    async fn good(&self, arguments: &[&str]) -> String {
        let (code, out, err) = self.call(arguments).await;
        assert_eq!((code, err.as_str()), (0, ""), "{arguments:?}: {out}");
        out
    }

    async fn refused(&self, arguments: &[&str], code: i32, words: &str) {
        let (found, out, err) = self.call(arguments).await;
        assert_eq!(found, code, "{arguments:?}: {out}{err}");
        assert!(err.contains(words) || out.contains(words), "{arguments:?}: {words:?} is not in: {out}{err}");
    }

    async fn events(&self, query: &str) -> Vec<Json> {
        let page = self.agent.json(&format!("/api/v1/events?limit=1000&{query}")).await;
        page["events"].as_array().unwrap().clone()
    }

    async fn restart(self, rule: &str) -> Scene {
        let config = self.config(rule);
        let Scene { agent, publisher, receiver, mosquitto, dir } = self;
        let data_dir = agent.stop().await;
        assert_eq!(verify(&data_dir).unwrap().fault, None);
        let agent = Agent::start(config).await;
        agent.subscribed().await;
        Scene { agent, publisher, receiver, mosquitto, dir }
    }

    /// Stops everything; the receiver must have all that the log has.
    async fn end(self) -> Logbook {
        let head = self.agent.head();
        until("everything at the receiver", || self.receiver.contiguous() == head).await;
        let data_dir = self.agent.stop().await;
        assert_eq!(verify(&data_dir).unwrap().fault, None);
        let (received, _) = self.receiver.stop().await;
        assert!(received.missing.is_empty() && received.counts.faults == 0, "{received}");
        assert_eq!(
            (received.first.0, received.contiguous.0, received.chained.0),
            (1, head, head),
            "{received}"
        );
        Logbook::read(&data_dir)
    }
}

fn config(dir: &Path, port: u16, receiver: &Receiver, rule: &str) -> Config {
    let text = format!(
        "gateway_id = \"test\"\ndata_dir = {:?}\n[log]\ncommit_delay_ms = 20\n\
         [http]\nlisten = \"127.0.0.1:0\"\nunix_socket = {:?}\n[limits]\nquarantine_payload_bytes_max = 64\n\
         quarantine_per_topic_max = 3\n\
         [[source]]\nname = \"plant\"\naddress = \"mqtt://127.0.0.1:{port}\"\nbackoff_max_s = 1\n{rule}{RULES}{COMMANDS}\
         [[sink]]\nname = \"cloud\"\naddress = \"http://{}\"\nrequired = true\nbackoff_max_s = 1\n",
        dir.join("data"),
        dir.join("http.sock"),
        receiver.address(),
    );
    Config::from_toml(&text, "test").unwrap_or_else(|error| panic!("{error}"))
}

fn me() -> String {
    format!("uid:{}", std::fs::metadata("/proc/self").unwrap().uid())
}

fn obey(received: &Received) -> Vec<Post> {
    vec![Post::new(received.topic.replace("/set", "/state"), received.payload.clone())]
}

#[tokio::test]
async fn commands_are_given_and_followed_from_the_command_line() {
    let Some(scene) = Scene::start().await else { return };
    scene.publisher.post([Post::new("plant/pump/state", r#"{"power":"off","program":"eco"}"#)]);
    until("the pump", || scene.agent.value("pump", "power").is_some()).await;

    // Nobody obeys yet.
    let (code, out, err) =
        scene.call(&["command", "pump", "power=on", "--ttl", "30", "--wait", "1", "--key", "k1"]).await;
    assert_eq!((code, err.as_str()), (75, ""), "{out}");
    assert!(out.contains("(pump: power = \"on\") was sent and acknowledged"), "{out}");
    assert!(out.contains("`fieldlog commands --device pump` shows"), "{out}");
    let open = scene.good(&["commands", "--open"]).await;
    assert!(open.contains("acknowledged") && open.contains(&me()), "{open}");

    // It does after all.
    scene.publisher.post([Post::new("plant/pump/state", r#"{"power":"on"}"#)]);
    until("the state", || {
        scene.agent.value("pump", "power") == Some(fieldlog_projections::Value::Text("on".into()))
    })
    .await;
    assert_eq!(scene.good(&["commands", "--open"]).await, "No such commands.\n");
    let _pump = Actuator::start(scene.mosquitto.port, "plant/+/set", obey).await;
    let out = scene
        .good(&["command", "pump", "power=off", "--ttl", "30", "--wait", "20", "--reason", "night"])
        .await;
    assert!(out.starts_with("Key ") && out.contains("was carried out"), "{out}");
    let json = scene
        .good(&["command", "pump", "power=on", "--ttl", "30", "--wait", "20", "--key", "k2", "--json"])
        .await;
    let json: Json = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["command"]["state"], &json["command"]["actor"]), (&json!("applied"), &json!(me())));

    let ask = |what: &'static str| ["command", "pump", what, "--ttl", "30", "--key", "k3"];
    scene.refused(&ask("power=half"), 65, "`value` is \"half\"; `power` takes one of").await;
    scene.refused(&ask("nothing=1"), 65, "cannot be told `nothing`").await;
    scene.refused(&["command", "none", "power=on", "--ttl", "5"], 65, "there is no device `none`").await;
    let expect = [&ask("power=off")[..], &["--expect", "power=off"]].concat();
    scene.refused(&expect, 65, "the device reports \"on\"").await;
    scene.refused(&["commands", "--state", "done"], 65, "the states are requested, dispatched").await;
    scene.refused(&["command", "pump", "power=on", "--ttl", "5", "--expect", "x"], 64, "--expect x").await;
    let applied = scene.good(&["commands", "--state", "applied", "--device", "pump"]).await;
    assert_eq!(applied.lines().filter(|line| line.contains("applied")).count(), 3, "{applied}");
    assert!(applied.contains("night"), "{applied}");

    // Whoever is asked is named when nobody is there.
    let nobody = process::call(&["commands", "--socket", "/nonexistent/http.sock"]);
    assert_eq!(nobody.0, 69, "{nobody:?}");
    assert!(
        nobody.2.contains("/nonexistent/http.sock") && nobody.2.contains("is fieldlog running"),
        "{nobody:?}"
    );
    // Over TCP, reading is allowed without a token and changing is not.
    let url = format!("http://{}", scene.agent.handle.http.unwrap());
    let over_tcp = |arguments: Vec<&'static str>| {
        let url = url.clone();
        tokio::task::spawn_blocking(move || process::call(&[&arguments[..], &["--url", &url]].concat()))
    };
    assert_eq!(over_tcp(vec!["commands"]).await.unwrap().0, 0);
    let refused = over_tcp(vec!["device", "retire", "pump"]).await.unwrap();
    assert_eq!(refused.0, 77, "{refused:?}");
    assert!(refused.2.contains("admin_token_file"), "{refused:?}");
    scene.end().await;
}

#[tokio::test]
async fn what_was_quarantined_is_requeued_once_the_rule_is_corrected() {
    let Some(mut scene) = Scene::start().await else { return };
    let post = |device: &str, payload: &str| Post::new(format!("plant/{device}/level"), payload);
    scene.publisher.post([
        post("tank", "{12"),
        post("tank", "oops{"),
        post("basin", "7 {"),
        post("basin", &"9 ".repeat(100)),
    ]);
    scene.publisher.idle().await;
    until("the quarantine", || scene.agent.head() >= 5).await;
    let quarantined = scene.events("type=input_quarantined").await;
    assert_eq!(quarantined.len(), 4, "{quarantined:?}");
    let seq = |at: usize| quarantined[at]["seq"].to_string();
    let listed = scene.good(&["quarantine", "list"]).await;
    assert_eq!(listed.lines().count(), 5, "{listed}");
    let shown = scene.good(&["quarantine", "show", &seq(0)]).await;
    assert!(shown.contains("topic     plant/tank/level") && shown.ends_with("\n{12\n"), "{shown}");

    // The rule is as it was: all stay, and each says why.
    scene.refused(&["quarantine", "requeue", "--topic", "*"], 1, "it is refused again: not the JSON").await;
    scene
        .refused(&["quarantine", "requeue", &seq(0)], 65, "stays in the quarantine: it is refused again")
        .await;
    scene.refused(&["quarantine", "requeue", "99999"], 65, "has no input at sequence 99999").await;

    let head = scene.agent.head();
    scene.agent.reload(scene.config(CORRECTED)).await;
    until("the new rule", || scene.agent.head() >= head + 2).await;
    // Something newer than what is in the quarantine.
    let newer = async |value: &'static str| {
        scene.publisher.post([post("tank", value)]);
        until("a newer value", || scene.agent.value("tank", "level").is_some()).await;
    };
    newer("99").await;
    let (code, out, _) =
        scene.call(&["quarantine", "requeue", "--topic", "plant/*", "--reason", "rule corrected"]).await;
    assert_eq!(code, 1, "{out}");
    assert!(out.contains(&format!("{}: requeued: 1 record of its values", seq(0))), "{out}");
    assert!(out.contains(&format!("{}: stays; 64 of its 200 bytes are kept", seq(3))), "{out}");

    let history = scene.events("type=history_reported").await;
    let found: Vec<_> = history
        .iter()
        .map(|event| (event["device"].clone(), event["data"]["changes"]["level"].clone()))
        .collect();
    let expected = [("tank", "{12"), ("tank", "oops{"), ("basin", "7 {")];
    assert_eq!(found, expected.map(|(device, level)| (json!(device), json!(level))));
    for (event, original) in history.iter().zip(&quarantined) {
        assert_eq!(event["cause"], original["seq"]);
        assert_eq!(event["device_time"], *original.get("wall_time").unwrap_or(&original["time"]));
    }
    assert_eq!(scene.agent.value("tank", "level"), Some(fieldlog_projections::Value::Int(99)));
    let resolved = scene.events("type=quarantine_resolved").await;
    let calls = scene.events(&format!("actor={}&type=administered", me())).await;
    let call = calls.last().unwrap();
    assert_eq!(
        call["data"],
        json!({"actor": me(), "call": "requeue", "target": "source *, topic plant/*", "reason": "rule corrected"})
    );
    for (event, original) in resolved.iter().zip(&quarantined) {
        assert_eq!(event["cause"], call["seq"]);
        assert_eq!(event["data"], json!({"input": original["seq"], "resolution": "requeued"}));
    }
    // A new configuration has its actor, too.
    let changed = &scene.events("type=config_changed").await[0];
    let cause = &scene.events("actor=test").await[0];
    assert_eq!((&changed["cause"], &cause["data"]["call"]), (&cause["seq"], &json!("reload")));

    // What is dealt with is gone, also after a restart with a snapshot; what stayed is purged.
    scene.refused(&["quarantine", "requeue", &seq(0)], 65, "has no input at sequence").await;
    scene = scene.restart(CORRECTED).await;
    let left = scene.good(&["quarantine", "list"]).await;
    assert_eq!(left.lines().count(), 2, "{left}");
    scene.good(&["quarantine", "purge", &seq(3), "--reason", "too long"]).await;
    assert_eq!(scene.good(&["quarantine", "list"]).await, "The quarantine is empty.\n");
    assert_eq!(
        scene.good(&["quarantine", "purge", "--topic", "*"]).await,
        "The quarantine has none of these.\n"
    );
    scene = scene.restart(CORRECTED).await;
    assert_eq!(scene.good(&["quarantine", "list"]).await, "The quarantine is empty.\n");
    let log = scene.end().await;
    assert_eq!(log.count(|fact| matches!(fact, Fact::QuarantineResolved { .. })), 4);
}

#[tokio::test]
async fn what_was_only_counted_cannot_be_requeued() {
    let Some(scene) = Scene::start().await else { return };
    scene.publisher.post((0..6).map(|n| Post::new("plant/tank/level", format!("{{{n}"))));
    let summarised = || scene.agent.source().outcomes.summarised.load(std::sync::atomic::Ordering::Relaxed);
    until("all messages", || summarised() == 3).await;
    // A clean stop records the summary of those beyond the first three.
    let scene = scene.restart(CORRECTED).await;
    let summary = &scene.events("type=quarantine_summarised").await[0];
    assert_eq!(summary["data"]["count"], 3, "{summary}");
    let seq = summary["seq"].to_string();
    scene.refused(&["quarantine", "requeue", &seq], 65, "it stands for 3 messages").await;
    let out = scene.good(&["quarantine", "purge", &seq]).await;
    assert_eq!(out, format!("{seq}: purged\n"));
    scene.end().await;
}

#[tokio::test]
async fn devices_are_renamed_retired_and_forgotten() {
    let Some(mut scene) = Scene::start().await else { return };
    scene.publisher.post([
        Post::new("plant/pump/state", r#"{"power":"off","program":"eco"}"#),
        Post::new("plant/fan/state", r#"{"power":"off"}"#),
    ]);
    until("the devices", || scene.agent.value("fan", "power").is_some()).await;
    let out = scene.good(&["device", "rename", "pump", "well", "--reason", "moved"]).await;
    assert!(
        out.starts_with("Device pump is now called well.") && out.contains("former id still finds it"),
        "{out}"
    );
    scene.refused(&["device", "rename", "fan", "well"], 65, "another device has the id `well`").await;
    scene.refused(&["device", "rename", "fan", "pump"], 65, "`pump` is a former id of device `well`").await;
    for round in 0..2 {
        let value = if round == 0 { "on" } else { "off" };
        let payload = json!({"power": value}).to_string();
        scene.publisher.post([Post::new("plant/pump/state", payload)]);
        until("the device under its new id", || {
            scene.agent.value("well", "power") == Some(fieldlog_projections::Value::Text(value.into()))
        })
        .await;
        let device = scene.agent.json("/api/v1/devices/pump").await;
        assert_eq!(device["device"]["id"], "well", "{device}");
        scene = scene.restart(WRONG).await;
    }
    assert_eq!(scene.agent.view(|view| view.devices.len()), 2, "no other device came of it");

    // Commands go to where the source has the device.
    let pump = Actuator::start(scene.mosquitto.port, "plant/+/set", |_| Vec::new()).await;
    scene.good(&["command", "well", "power=on", "--ttl", "60", "--key", "sent"]).await;
    until("the command", || pump.received().len() == 1).await;
    assert_eq!(pump.received()[0].topic, "plant/pump/set");
    scene.publisher.post([Post::new("plant/pump/online", "offline")]);
    let offline = |agent: &Agent| {
        agent.view(|view| {
            let (_, device) = view.devices.find("well").unwrap();
            device.availability == fieldlog_projections::fact::Availability::Offline
        })
    };
    until("the device to be offline", || offline(&scene.agent)).await;
    scene.good(&["command", "well", "program=boost", "--ttl", "60", "--key", "held"]).await;
    let out = scene.good(&["device", "retire", "well", "--reason", "broken"]).await;
    assert!(out.contains("2 open commands of it were given up."), "{out}");
    let commands = scene.agent.json("/api/v1/commands").await;
    let states: Vec<&Json> = commands["commands"].as_array().unwrap().iter().map(|c| &c["state"]).collect();
    // What was not sent has failed; of what was sent, nobody knows.
    assert_eq!(states, [&json!("failed"), &json!("unconfirmed")], "{commands}");
    assert_eq!(commands["commands"][0]["failure"], "the device was retired by an operator");
    let retired = &scene.events("type=device_retired").await[0];
    let cause = scene.events("actor=uid:*").await;
    let cause = cause.iter().find(|event| event["seq"] == retired["cause"]).unwrap();
    assert_eq!(
        cause["data"],
        json!({"actor": me(), "call": "retire-device", "target": "well", "reason": "broken"})
    );
    scene.refused(&["device", "retire", "well"], 65, "is retired already").await;
    scene.refused(&["command", "well", "power=on", "--ttl", "5"], 65, "is retired").await;
    scene = scene.restart(WRONG).await;
    scene.refused(&["device", "retire", "well"], 65, "is retired already").await;
    scene.publisher.post([Post::new("plant/pump/state", r#"{"power":"on"}"#)]);
    let retired = |agent: &Agent| agent.view(|view| view.devices.find("well").unwrap().1.retired);
    until("the device to come back", || !retired(&scene.agent)).await;

    // Forgotten, once the receiver has its records; its history stays.
    until("everything at the receiver", || scene.receiver.contiguous() == scene.agent.head()).await;
    // That it has them is told a moment later.
    let mut called = (75, String::new(), String::new());
    for _ in 0..100 {
        called = scene.call(&["device", "forget", "well"]).await;
        if called.0 != 75 {
            break;
        }
        assert!(called.2.contains("its name could no longer be sent with them"), "{called:?}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let (code, out, err) = called;
    assert_eq!((code, err.as_str()), (0, ""));
    for part in ["Device well is forgotten.", "stay in the log until retention deletes them", "keeps them"] {
        assert!(
            out.contains(part) || out.contains(&part.replace("keeps", "keep")),
            "{part:?} is not in: {out}"
        );
    }
    for _ in 0..2 {
        scene.refused(&["device", "retire", "well"], 65, "there is no device `well`").await;
        scene.refused(&["device", "retire", "pump"], 65, "there is no device `pump`").await;
        assert!(scene.agent.view(|view| view.devices.find_ever("pump").is_none()));
        scene = scene.restart(WRONG).await;
    }
    scene.publisher.post([Post::new("plant/pump/state", r#"{"power":"off"}"#)]);
    until("a new device", || scene.agent.value("pump", "power").is_some()).await;
    assert_eq!(scene.agent.view(|view| view.devices.len()), 3, "it has a new number");
    let log = scene.end().await;
    assert_eq!(log.count(|fact| matches!(fact, Fact::DeviceForgotten { .. })), 1);
    assert_eq!(log.count(|fact| matches!(fact, Fact::DeviceRenamed { .. })), 1);
    // Of the device that was forgotten, the log still has what it reported.
    assert!(log.changes().any(|(_, device, attribute, _)| (device, attribute) == ("well", "program")));
}

#[tokio::test]
async fn a_stopped_agent_says_that_it_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("fieldlog.toml");
    let socket = dir.path().join("http.sock");
    std::fs::write(&config, format!("[http]\nunix_socket = {socket:?}\n")).unwrap();
    let config = config.to_str().unwrap();
    let (code, _, err) = process::call(&["quarantine", "list", "--config", config]);
    assert_eq!(code, 69, "{err}");
    assert!(err.contains(socket.to_str().unwrap()), "{err}");
    std::fs::write(config, "[http]\nunix_soket = \"x\"\n").unwrap();
    let (code, _, err) = process::call(&["quarantine", "list", "--config", config]);
    assert_eq!(code, 78, "{err}");
    assert!(err.contains("unix_soket") && err.contains("--socket"), "{err}");
    let token = dir.path().join("token");
    std::fs::write(&token, "secret").unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
    let token = token.to_str().unwrap();
    let (code, _, err) = process::call(&["commands", "--url", "http://127.0.0.1:1", "--token-file", token]);
    assert_eq!(code, 77, "{err}");
    assert!(err.contains("--token-file"), "{err}");
}
