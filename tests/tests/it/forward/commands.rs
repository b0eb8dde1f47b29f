//! Commands that come from upstream, through real brokers, to a device and back.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fieldlog::config::Config;
use fieldlog_tests::actuator::{Actuator, Received};
use fieldlog_tests::agent::Agent;
use fieldlog_tests::mosquitto::Mosquitto;
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
        self.publish(device, correlation, expiry_s, false, body).await;
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

struct Scene {
    config: Config,
    publisher: Publisher,
    lamp: Actuator,
    _dir: TempDir,
    mosquitto: Mosquitto,
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

fn on(key: &str) -> String {
    json!({"attribute": "state", "value": "ON", "ttl_s": 30, "idempotency_key": key}).to_string()
}

impl Scene {
    async fn start(more: &str) -> Option<(Scene, Agent)> {
        let mosquitto = Mosquitto::start("")?;
        let port = mosquitto.port;
        Scene::at(mosquitto, &mqtt_sink(port, more)).await
    }

    async fn at(mosquitto: Mosquitto, sink: &str) -> Option<(Scene, Agent)> {
        let dir = tempfile::tempdir().unwrap();
        let config = config(&dir, mosquitto.port, sink);
        let lamp_set = Actuator::start(mosquitto.port, "zigbee2mqtt/+/set", obey).await;
        let publisher = Publisher::start(mosquitto.port);
        publisher.post([
            Post::retained("zigbee2mqtt/bridge/devices", lamp().to_string()),
            Post::retained("zigbee2mqtt/lamp", r#"{"state":"OFF"}"#),
        ]);
        publisher.idle().await;
        let scene = Scene { config, publisher, lamp: lamp_set, _dir: dir, mosquitto };
        let agent = scene.agent().await;
        until("the lamp", || agent.value("lamp", "state").is_some()).await;
        Some((scene, agent))
    }

    /// An agent whose source and sink are connected.
    async fn agent(&self) -> Agent {
        let agent = Agent::start(self.config.clone()).await;
        agent.subscribed().await;
        let connected = |agent: &Agent| {
            agent.handle.sinks.views()[0].status.details().state.connected_since().is_some()
        };
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
