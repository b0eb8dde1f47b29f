//! Commands that come from upstream, through real brokers, to a device and back.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fieldlog::config::Config;
use fieldlog_tests::actuator::{Actuator, Received};
use fieldlog_tests::agent::Agent;
use fieldlog_tests::mosquitto::Mosquitto;
use fieldlog_tests::proxy::{Fault, Proxy};
use fieldlog_tests::publisher::{Post, Publisher};
use fieldlog_tests::wait::{until, until_some};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PublishProperties};
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// An application upstream: it publishes commands, and gets the answers.
struct Application {
    client: AsyncClient,
    answers: Arc<Mutex<Vec<(Bytes, Json)>>>,
    task: JoinHandle<()>,
}

impl Application {
    async fn start(port: u16) -> Application {
        let mut options = MqttOptions::new("application", "127.0.0.1", port);
        options.set_max_packet_size(Some(1 << 24)).set_keep_alive(Duration::from_secs(5));
        let (client, mut events) = AsyncClient::new(options, 1_000);
        client.subscribe("app/answers", QoS::AtLeastOnce).await.unwrap();
        let answers: Arc<Mutex<Vec<(Bytes, Json)>>> = Arc::default();
        let ready = Arc::new(Mutex::new(false));
        let (heard, subscribed) = (answers.clone(), ready.clone());
        let task = tokio::spawn(async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::SubAck(_))) => *subscribed.lock().unwrap() = true,
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        let properties = publish.properties.unwrap();
                        assert_eq!(properties.content_type.as_deref(), Some("application/json"));
                        let body = serde_json::from_slice(&publish.payload).unwrap();
                        heard.lock().unwrap().push((properties.correlation_data.unwrap_or_default(), body));
                    }
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
        until("the application's subscription", || *ready.lock().unwrap()).await;
        Application { client, answers, task }
    }

    /// Publishes a command for `device`, to be answered with `correlation`.
    async fn ask(&self, device: &str, correlation: &str, expiry_s: Option<u32>, body: impl Into<Bytes>) {
        self.publish(device, correlation, expiry_s.or(Some(60)), false, body).await;
    }

    async fn publish(
        &self,
        device: &str,
        correlation: &str,
        expiry_s: Option<u32>,
        retain: bool,
        body: impl Into<Bytes>,
    ) {
        let properties = PublishProperties {
            message_expiry_interval: expiry_s,
            response_topic: Some("app/answers".to_owned()),
            correlation_data: Some(Bytes::copy_from_slice(correlation.as_bytes())),
            ..PublishProperties::default()
        };
        let topic = format!("fieldlog/test/commands/{device}");
        let body: Bytes = body.into();
        self.client.publish_with_properties(topic, QoS::AtLeastOnce, retain, body, properties).await.unwrap();
    }

    fn answers(&self, correlation: &str) -> Vec<Json> {
        let answers = self.answers.lock().unwrap();
        answers.iter().filter(|(found, _)| found == correlation).map(|(_, answer)| answer.clone()).collect()
    }

    /// The answers with `correlation`, when there are so many.
    async fn answered(&self, correlation: &str, count: usize) -> Vec<Json> {
        let what = format!("{count} answers to {correlation}");
        until_some(&what, || Some(self.answers(correlation)).filter(|answers| answers.len() >= count)).await
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub struct Scene {
    pub config: Config,
    pub lamp: Actuator,
    _dir: TempDir,
    pub mosquitto: Mosquitto,
}

fn config(dir: &TempDir, port: u16, sink: &str) -> Config {
    let text = format!(
        "gateway_id = \"test\"\ndata_dir = {:?}\n[log]\ncommit_delay_ms = 20\n[http]\nlisten = \"127.0.0.1:0\"\n\
         [[source]]\nname = \"home\"\naddress = \"mqtt://127.0.0.1:{port}\"\nbackoff_max_s = 1\n\
         [[source.subscription]]\npreset = \"zigbee2mqtt\"\n\
         [[sink]]\nname = \"cloud\"\nbackoff_max_s = 1\n{sink}",
        dir.path(),
    );
    Config::from_toml(&text, "test").unwrap_or_else(|error| panic!("{error}"))
}

fn mqtt_sink(port: u16, more: &str) -> String {
    format!("address = \"mqtt://127.0.0.1:{port}\"\n{more}\n[sink.commands]\n")
}

/// A lamp of Zigbee2MQTT, as its documentation shows `bridge/devices` and `exposes`
/// (<https://www.zigbee2mqtt.io/guide/usage/exposes.html>).
fn lamp() -> Json {
    json!([{
        "ieee_address": "0x0017880104292f0a", "type": "Router", "friendly_name": "lamp", "interview_completed": true,
        "definition": {"model": "8718696449691", "vendor": "Philips", "description": "Hue White", "exposes": [
            {"type": "light", "features": [
                {"type": "binary", "name": "state", "property": "state", "access": 7, "value_on": "ON", "value_off": "OFF"}
            ]}
        ]}
    }])
}

/// What Zigbee2MQTT does: it publishes the state that was asked for.
fn obey(received: &Received) -> Vec<Post> {
    vec![Post::new(received.topic.strip_suffix("/set").unwrap(), received.payload.clone())]
}

pub fn on(key: &str) -> String {
    json!({"attribute": "state", "value": "ON", "ttl_s": 30, "idempotency_key": key}).to_string()
}

impl Scene {
    async fn start(more: &str) -> Option<(Scene, Agent)> {
        let mosquitto = Mosquitto::start("")?;
        let port = mosquitto.port;
        Scene::at(mosquitto, &mqtt_sink(port, more)).await
    }

    pub async fn at(mosquitto: Mosquitto, sink: &str) -> Option<(Scene, Agent)> {
        let dir = tempfile::tempdir().unwrap();
        let config = config(&dir, mosquitto.port, sink);
        let lamp_set = Actuator::start(mosquitto.port, "zigbee2mqtt/+/set", obey).await;
        let publisher = Publisher::start(mosquitto.port);
        publisher.post([
            Post::retained("zigbee2mqtt/bridge/devices", lamp().to_string()),
            Post::retained("zigbee2mqtt/lamp", r#"{"state":"OFF"}"#),
        ]);
        publisher.idle().await;
        let scene = Scene { config, lamp: lamp_set, _dir: dir, mosquitto };
        let agent = scene.agent().await;
        until("the lamp", || agent.value("lamp", "state").is_some()).await;
        Some((scene, agent))
    }

    /// An agent whose source and sink are connected.
    pub async fn agent(&self) -> Agent {
        let agent = Agent::start(self.config.clone()).await;
        agent.subscribed().await;
        let connected =
            |agent: &Agent| agent.handle.sinks.views()[0].status.details().state.connected_since().is_some();
        until("the sink's connection", || connected(&agent)).await;
        agent
    }
}

#[tokio::test]
async fn a_command_is_answered_when_it_is_accepted_and_when_it_is_closed() {
    let Some((scene, agent)) = Scene::start("").await else { return };
    let application = Application::start(scene.mosquitto.port).await;
    application.ask("lamp", "c1", None, on("k1")).await;
    let answers = application.answered("c1", 2).await;
    let epoch = agent.handle.shared.epoch.to_string();
    let (first, last) = (&answers[0], &answers[1]);
    let command = first["command"].as_u64().unwrap();
    let expected = |state: &str, closed: bool| {
        json!({"gateway": "test", "epoch": epoch, "device": "lamp", "idempotency_key": "k1", "command": command,
            "state": state, "closed": closed})
    };
    // The lamp may be quicker than the answer.
    let states = ["requested", "dispatched", "acknowledged"];
    let state = first["state"].as_str().unwrap();
    assert!(states.contains(&state), "{first}");
    assert_eq!((first, last), (&expected(state, false), &expected("applied", true)));
    let shown = agent.json(&format!("/api/v1/commands/{command}")).await;
    assert_eq!((&shown["command"]["actor"], &shown["command"]["ttl_s"]), (&json!("sink:cloud"), &json!(30)));
    assert_eq!(scene.lamp.received().len(), 1);

    // The same once more is the same command, also after a restart.
    application.ask("lamp", "c2", None, on("k1")).await;
    let again = &application.answered("c2", 1).await[0];
    let mut repeated = expected("applied", true);
    repeated["repeated"] = json!(true);
    assert_eq!(again, &repeated);
    agent.stop().await;
    let agent = scene.agent().await;
    application.ask("lamp", "c3", None, on("k1")).await;
    assert_eq!(application.answered("c3", 1).await, [repeated]);
    assert_eq!((scene.lamp.received().len(), application.answers("c1").len()), (1, 2));
    agent.stop().await;
}

/// The command is recorded, and its PUBACK is lost: the broker sends it again, and it is carried out once.
#[tokio::test]
async fn a_command_that_the_broker_sends_again_is_carried_out_once() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], mosquitto.port)), Fault::Pass).await;
    let sink = mqtt_sink(proxy.address.port(), "");
    let Some((scene, agent)) = Scene::at(mosquitto, &sink).await else { return };
    let application = Application::start(scene.mosquitto.port).await;
    let connections = |agent: &Agent| {
        agent.handle.sinks.views()[0].status.connections.load(std::sync::atomic::Ordering::Relaxed)
    };
    let (mut times, mut again) = (0, 0);
    while again < 3 {
        assert!(times < 12, "the broker has sent {again} of {times} commands again");
        let (before, key) = (connections(&agent), format!("again-{times}"));
        // Everything, also the PUBACK, takes as long as the command. The reset outlasts what is being delayed.
        proxy.set(Fault::Delay(Duration::from_millis(300)));
        application.ask("lamp", &key, None, on(&key)).await;
        until("the command", || scene.lamp.received().len() > times).await;
        proxy.set(Fault::Reset);
        tokio::time::sleep(Duration::from_millis(800)).await;
        proxy.set(Fault::Pass);
        times += 1;
        until("the next connection", || connections(&agent) > before).await;
        application.answered(&key, 1).await;
        // The PUBACK may have been quicker than the reset.
        let deadline = Instant::now() + Duration::from_secs(2);
        let repeated = || application.answers(&key).iter().any(|answer| answer["repeated"] == true);
        while !repeated() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        again += usize::from(repeated());
        let answers = application.answers(&key);
        assert!(answers.iter().all(|answer| answer["command"] == answers[0]["command"]), "{answers:?}");
    }
    let page = agent.json("/api/v1/commands").await;
    assert_eq!(page["commands"].as_array().unwrap().len(), times, "{page}");
    assert_eq!(scene.lamp.received().len(), times);
    agent.stop().await;
}

/// What is sent while the gateway is away waits at the broker, for as long as the message allows.
#[tokio::test]
async fn commands_wait_for_the_gateway_but_not_longer_than_they_may() {
    let Some((scene, agent)) = Scene::start("").await else { return };
    let application = Application::start(scene.mosquitto.port).await;
    agent.stop().await;
    let long =
        json!({"attribute": "state", "value": "ON", "ttl_s": 3600, "idempotency_key": "late"}).to_string();
    application.ask("lamp", "expired", Some(1), on("expired")).await;
    application.ask("lamp", "late", Some(60), long).await;
    application.publish("lamp", "unlimited", None, false, on("unlimited")).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let agent = scene.agent().await;
    let late = application.answered("late", 2).await;
    assert_eq!(late[1]["state"], "applied", "{late:?}");
    let unlimited = application.answered("unlimited", 1).await;
    assert!(unlimited[0]["detail"].as_str().unwrap().contains("no Message Expiry Interval"), "{unlimited:?}");
    assert!(application.answers("expired").is_empty());
    let command = agent.json(&format!("/api/v1/commands/{}", late[0]["command"])).await;
    let ttl_s = command["command"]["ttl_s"].as_u64().unwrap();
    assert!((50..=59).contains(&ttl_s), "of 60 s it has waited two: {command}");
    assert_eq!(scene.lamp.received().len(), 1);
    agent.stop().await;
}

#[tokio::test]
async fn what_is_no_command_is_refused_with_an_answer_and_the_sink_goes_on() {
    let Some((scene, agent)) = Scene::start("").await else { return };
    let application = Application::start(scene.mosquitto.port).await;
    let refused = async |correlation: &str, code: &str, words: &str| {
        let answer = application.answered(correlation, 1).await.remove(0);
        assert_eq!((&answer["code"], &answer["closed"]), (&json!(code), &json!(true)), "{answer}");
        assert!(answer["detail"].as_str().unwrap().contains(words), "{answer}");
        assert!(answer.get("command").is_none() && answer.get("state").is_none(), "{answer}");
    };
    application.ask("lamp", "json", None, "{\"attribute\"").await;
    refused("json", "bad-command", "a command looks like").await;
    application.ask("lamp", "large", None, vec![b' '; 70_000]).await;
    refused("large", "too-large", "70000 bytes; a command may have 65536").await;
    application.ask("lamp", "larger", None, vec![b' '; 300_000]).await;
    refused("larger", "too-large", "a command may have 65536").await;
    application.ask("lampe", "device", None, on("k")).await;
    refused("device", "no-such-device", "there is no device `lampe`").await;
    application.ask("lamp", "value", None, on("k").replace("ON", "HALF")).await;
    refused("value", "invalid-value", "takes one of").await;
    let expected = json!({"attribute": "state", "value": "ON", "ttl_s": 5, "idempotency_key": "k",
        "expected": {"changed_seq": 1}});
    application.ask("lamp", "expected", None, expected.to_string()).await;
    refused("expected", "not-as-expected", "`expected.changed_seq` is 1").await;
    let device = agent.json("/api/v1/devices/lamp").await;
    assert_eq!(application.answers("expected")[0]["changed_seq"], device["device"]["changed_seq"]);

    // A retained one is refused when it is published, and when the broker brings it to a new session.
    application.publish("lamp", "retained", None, true, on("retained")).await;
    refused("retained", "retained", "publish it without the retain flag").await;
    let mut other = scene.config.clone();
    other.sinks[0].name = "other".to_owned();
    if let fieldlog::config::SinkTarget::Mqtt(mqtt) = &mut other.sinks[0].target {
        mqtt.client_id = "fieldlog-other".to_owned();
    }
    agent.reload(other).await;
    let again = application.answered("retained", 2).await;
    assert_eq!(again[1]["code"], "retained", "{again:?}");
    // Its removal is no command.
    application.publish("lamp", "removed", None, true, "").await;
    application.ask("lamp", "good", None, on("good")).await;
    application.answered("good", 2).await;
    assert!(application.answers("removed").is_empty());

    let counted = agent.handle.shared.stats.commands.by_rejection();
    let count = |code: &str| counted.get(code).copied();
    let found = ["bad-command", "too-large", "retained", "no-such-device"].map(count);
    assert_eq!(found, [Some(1), Some(2), Some(2), Some(1)], "{counted:?}");
    // Each is recorded with who asked, also what is no command for whoever reads it.
    let page = agent.json("/api/v1/events?after=0&limit=1000&type=command_rejected&actor=sink:cloud").await;
    let rejected = page["events"].as_array().unwrap();
    let codes: Vec<&str> = rejected.iter().map(|event| event["data"]["code"].as_str().unwrap()).collect();
    let expected = [
        "bad-command",
        "too-large",
        "too-large",
        "no-such-device",
        "invalid-value",
        "not-as-expected",
        "retained",
    ];
    assert_eq!(codes, expected, "{page}");
    assert_eq!(rejected[0]["device"], "lamp", "{page}");
    assert_eq!(scene.lamp.received().len(), 1);
    agent.stop().await;
}

#[tokio::test]
async fn a_sink_that_is_limited_to_devices_commands_no_others() {
    let Some((scene, agent)) = Scene::start("devices = [\"plant/*\"]").await else { return };
    let application = Application::start(scene.mosquitto.port).await;
    application.ask("lamp", "other", None, on("k")).await;
    let answer = application.answered("other", 1).await.remove(0);
    assert_eq!((&answer["code"], &answer["closed"]), (&json!("no-such-device"), &json!(true)), "{answer}");
    assert_eq!(
        answer["detail"],
        "device `lamp` is not one of those that sink:cloud may command: see `devices` of the sink"
    );
    let mut wider = scene.config.clone();
    wider.sinks[0].filter.devices.push("la*".to_owned());
    agent.reload(wider).await;
    application.ask("lamp", "ours", None, on("k")).await;
    let answers = application.answered("ours", 2).await;
    assert_eq!(answers[1]["state"], "applied", "{answers:?}");
    assert_eq!(scene.lamp.received().len(), 1);
    agent.stop().await;
}

#[tokio::test]
async fn too_many_at_once_are_refused_and_none_is_carried_out_twice() {
    const COMMANDS: usize = 400;
    let Some((scene, agent)) = Scene::start("").await else { return };
    let application = Application::start(scene.mosquitto.port).await;
    for number in 0..COMMANDS {
        let properties = PublishProperties {
            message_expiry_interval: Some(60),
            response_topic: Some("app/answers".to_owned()),
            correlation_data: Some(format!("many-{number}").into()),
            ..PublishProperties::default()
        };
        let (topic, body) = ("fieldlog/test/commands/lamp", on(&format!("many-{number}")));
        application
            .client
            .publish_with_properties(topic, QoS::AtMostOnce, false, body, properties)
            .await
            .unwrap();
    }
    let firsts = || -> Vec<Json> {
        (0..COMMANDS).filter_map(|n| application.answers(&format!("many-{n}")).into_iter().next()).collect()
    };
    until("all first answers", || firsts().len() == COMMANDS).await;
    let busy = firsts().iter().filter(|answer| answer["code"] == "busy").count();
    assert!((1..COMMANDS).contains(&busy), "{busy} refused");
    let page = agent.json("/api/v1/commands?limit=1000").await;
    assert_eq!(page["commands"].as_array().unwrap().len(), COMMANDS - busy);
    assert!(scene.lamp.received().len() <= COMMANDS - busy);
    application.ask("lamp", "after", None, on("after")).await;
    application.answered("after", 2).await;
    agent.stop().await;
}

#[tokio::test]
async fn with_mqtt_3_1_1_commands_work_without_answers() {
    let Some((scene, agent)) = Scene::start("protocol = 4").await else { return };
    let application = Application::start(scene.mosquitto.port).await;
    agent.stop().await;
    application.ask("lamp", "old", None, on("old")).await;
    let agent = scene.agent().await;
    // Nobody could say how old it is, so the broker keeps none.
    application.ask("lamp", "bad", None, "no").await;
    application.ask("lamp", "old", None, on("new")).await;
    until("the command", || !scene.lamp.received().is_empty()).await;
    let page = agent.json("/api/v1/commands").await;
    let keys: Vec<&Json> =
        page["commands"].as_array().unwrap().iter().map(|command| &command["idempotency_key"]).collect();
    assert_eq!(keys, ["new"], "{page}");
    assert!(application.answers("old").is_empty() && application.answers("bad").is_empty());
    agent.stop().await;
}

/// Commands by request and reply of NATS.
#[tokio::test]
async fn a_nats_server_brings_commands_and_takes_answers() {
    use async_nats::Client;
    use fieldlog_tests::nats::NatsServer;
    use futures_util::StreamExt;

    let (Some(mosquitto), Some(server)) = (Mosquitto::start(""), NatsServer::with_stream()) else { return };
    let sink = format!("address = \"nats://127.0.0.1:{}\"\n[sink.commands]\n", server.port);
    let Some((scene, agent)) = Scene::at(mosquitto, &sink).await else { return };
    let client = async_nats::connect(format!("127.0.0.1:{}", server.port)).await.unwrap();
    let ask = async |client: &Client, device: &str, body: String| {
        let inbox = client.new_inbox();
        let replies = client.subscribe(inbox.clone()).await.unwrap();
        let subject = format!("fieldlog.commands.test.{device}");
        client.publish_with_reply(subject, inbox, body.into()).await.unwrap();
        replies.map(|reply| serde_json::from_slice::<Json>(&reply.payload).unwrap())
    };
    let mut replies = ask(&client, "lamp", on("n1")).await;
    let (first, last) = (replies.next().await.unwrap(), replies.next().await.unwrap());
    assert_eq!((&first["closed"], &last["closed"]), (&json!(false), &json!(true)), "{first} {last}");
    assert_eq!((&last["state"], &last["command"]), (&json!("applied"), &first["command"]));
    let shown = agent.json(&format!("/api/v1/commands/{}", first["command"])).await;
    assert_eq!(shown["command"]["actor"], "sink:cloud");
    let again = ask(&client, "lamp", on("n1")).await.next().await.unwrap();
    assert_eq!((&again["repeated"], &again["command"]), (&json!(true), &first["command"]));
    let refused = ask(&client, "lamp.x", on("n2")).await.next().await.unwrap();
    assert_eq!(refused["code"], "no-such-device", "{refused}");
    let bad = ask(&client, "lamp", "no".into()).await.next().await.unwrap();
    assert_eq!(bad["code"], "bad-command", "{bad}");
    assert_eq!(scene.lamp.received().len(), 1);
    agent.stop().await;
    // Nobody is there, and the server says so.
    let nobody = client.request("fieldlog.commands.test.lamp", on("n3").into()).await.unwrap_err();
    assert_eq!(nobody.kind(), async_nats::RequestErrorKind::NoResponders);
}
