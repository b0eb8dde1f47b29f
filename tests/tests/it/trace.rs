//! Trace contexts, from whoever asks for a command to the log, the device and upstream.

use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fieldlog::config::Config;
use fieldlog_tests::agent::Agent;
use fieldlog_tests::mosquitto::Mosquitto;
use fieldlog_tests::publisher::{Post, Publisher};
use fieldlog_tests::wait::{until, until_some};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, Publish, PublishProperties};
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

const TOKEN: &str = "0123456789abcdef0123";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const OTHER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/// A valve and an application upstream, in one client that keeps what arrives.
struct Listener {
    client: AsyncClient,
    heard: Arc<Mutex<Vec<Publish>>>,
    task: JoinHandle<()>,
}

impl Listener {
    async fn start(port: u16, filters: [&str; 2]) -> Listener {
        let mut options = MqttOptions::new("listener", "127.0.0.1", port);
        options.set_max_packet_size(Some(1 << 24)).set_keep_alive(Duration::from_secs(5));
        let (client, mut events) = AsyncClient::new(options, 100);
        for filter in filters {
            client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
        }
        let (heard, granted) = (Arc::<Mutex<Vec<Publish>>>::default(), Arc::new(Mutex::new(0)));
        let (list, ready) = (heard.clone(), granted.clone());
        let task = tokio::spawn(async move {
            loop {
                match events.poll().await.unwrap() {
                    Event::Incoming(Packet::SubAck(_)) => *ready.lock().unwrap() += 1,
                    Event::Incoming(Packet::Publish(publish)) => list.lock().unwrap().push(publish),
                    _ => {}
                }
            }
        });
        until("the subscriptions", || *granted.lock().unwrap() == 2).await;
        Listener { client, heard, task }
    }

    /// The user properties and the payload of a message whose payload has `word` in it.
    async fn of(&self, topic: &str, word: &str) -> (Vec<(String, String)>, Vec<u8>) {
        until_some(&format!("{word} on {topic}"), || {
            let heard = self.heard.lock().unwrap();
            let is_it = |publish: &&Publish| {
                publish.topic == topic && String::from_utf8_lossy(&publish.payload).contains(word)
            };
            heard.iter().find(is_it).map(|publish| {
                let properties = publish.properties.clone().unwrap_or_default();
                (properties.user_properties, publish.payload.to_vec())
            })
        })
        .await
    }

    /// The event upstream that tells of the request with this key.
    async fn event(&self, key: &str) -> Json {
        let (_, batch) = self.of("fieldlog/test/events", &format!("\"idempotency_key\":\"{key}\"")).await;
        let batch: Vec<Json> = serde_json::from_slice(&batch).unwrap();
        batch.into_iter().find(|event| event["data"]["idempotency_key"] == key).unwrap()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Scene {
    agent: Agent,
    listener: Listener,
    config: Config,
    _dir: TempDir,
    _mosquitto: Mosquitto,
}

impl Scene {
    /// A valve that takes a position and is known.
    async fn start(protocol: u8) -> Option<Scene> {
        let mosquitto = Mosquitto::start("")?;
        let (dir, port) = (tempfile::tempdir().unwrap(), mosquitto.port);
        let token = dir.path().join("token");
        std::fs::write(&token, TOKEN).unwrap();
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
        let text = format!(
            "gateway_id = \"test\"\ndata_dir = {:?}\n[log]\ncommit_delay_ms = 20\n\
             [http]\nlisten = \"127.0.0.1:0\"\nadmin_token_file = {token:?}\n\
             [[source]]\nname = \"plant\"\naddress = \"mqtt://127.0.0.1:{port}\"\nprotocol = {protocol}\nbackoff_max_s = 1\n\
             [[source.subscription]]\ntopic = \"t/+device/+attribute\"\ndecoder = \"scalar\"\n\
             [[source.command]]\nattribute = \"position\"\ntype = \"integer\"\ntopic = \"cmnd/{{device}}/{{attribute}}\"\n\
             evidence = \"none\"\n\
             [[sink]]\nname = \"cloud\"\naddress = \"mqtt://127.0.0.1:{port}\"\nbackoff_max_s = 1\n\
             [sink.commands]\n",
            dir.path(),
        );
        let config = Config::from_toml(&text, "test").unwrap_or_else(|error| panic!("{error}"));
        let listener = Listener::start(port, ["cmnd/#", "fieldlog/test/events"]).await;
        let agent = Agent::start(config.clone()).await;
        agent.subscribed().await;
        let publisher = Publisher::start(port);
        publisher.post([Post::retained("t/valve/position", "-1")]);
        until("the valve", || agent.value("valve", "position").is_some()).await;
        Some(Scene { agent, listener, config, _dir: dir, _mosquitto: mosquitto })
    }

    /// Asks for a position over HTTP, with these lines of the head.
    async fn ask(&self, key: &str, position: u32, lines: &str) -> Json {
        let path = "/api/v1/devices/valve/commands?wait=10";
        let (status, answer) = self.agent.post_with(path, TOKEN, lines, &body(key, position)).await;
        assert_eq!(status, 200, "{answer}");
        answer["command"].clone()
    }
}

fn body(key: &str, position: u32) -> Json {
    json!({"attribute": "position", "value": position, "ttl_s": 30, "idempotency_key": key})
}

fn property() -> Vec<(String, String)> {
    vec![("traceparent".to_owned(), PARENT.to_owned())]
}

#[tokio::test]
async fn a_trace_context_over_http_is_recorded_shown_and_handed_on() {
    let Some(scene) = Scene::start(5).await else { return };
    let command = scene.ask("k1", 41, &format!("TraceParent: {PARENT}\r\n")).await;
    assert_eq!(command["traceparent"], PARENT, "{command}");
    assert_eq!(scene.listener.of("cmnd/valve/position", "41").await, (property(), b"41".to_vec()));
    let upstream = scene.listener.event("k1").await;
    assert_eq!(
        (&upstream["traceparent"], &upstream["data"]["traceparent"]),
        (&json!(PARENT), &json!(PARENT))
    );

    // In another trace it is the same command.
    let again = scene.ask("k1", 41, &format!("traceparent: {OTHER}\r\n")).await;
    assert_eq!((&again["id"], &again["traceparent"]), (&command["id"], &json!(PARENT)));

    // After a restart it is known from the snapshot, and from the log without one.
    let id = command["id"].as_u64().unwrap();
    let mut agent = scene.agent;
    for without_snapshot in [false, true] {
        let data_dir = agent.stop().await;
        if without_snapshot {
            std::fs::remove_dir_all(data_dir.join("snapshots")).unwrap();
        }
        agent = Agent::start(scene.config.clone()).await;
        let event = agent.json(&format!("/api/v1/events/{id}")).await;
        assert_eq!(event["event"]["data"]["traceparent"], PARENT, "{event}");
        until("the commands", || agent.view(|view| view.commands.keys() > 0)).await;
        let shown = agent.json(&format!("/api/v1/commands/{id}")).await;
        assert_eq!(shown["command"]["traceparent"], PARENT, "{shown}");
    }
    agent.stop().await;
}

#[tokio::test]
async fn what_is_no_trace_context_is_ignored_and_the_command_is_taken() {
    let Some(scene) = Scene::start(5).await else { return };
    let zero = format!("00-{:032}-00f067aa0ba902b7-01", 0);
    let invalid = [
        String::new(),
        "traceparent: no\r\n".to_owned(),
        format!("traceparent: {zero}\r\n"),
        format!("traceparent: {PARENT}\r\ntraceparent: {OTHER}\r\n"),
        "traceparent: \u{e9}\r\n".to_owned(),
    ];
    for (n, lines) in (10..).zip(invalid) {
        let command = scene.ask(&format!("k{n}"), n, &lines).await;
        assert!(command.get("traceparent").is_none(), "{lines:?} {command}");
        assert_eq!(scene.listener.of("cmnd/valve/position", &n.to_string()).await.0, [], "{lines:?}");
        let upstream = scene.listener.event(&format!("k{n}")).await;
        assert!(upstream.get("traceparent").is_none() && upstream["data"].get("traceparent").is_none());
    }
    scene.agent.stop().await;
}

#[tokio::test]
async fn a_user_property_of_a_command_from_upstream_is_its_trace_context() {
    let Some(scene) = Scene::start(5).await else { return };
    let sinks = &scene.agent.handle.sinks;
    let connected = || sinks.views()[0].status.details().state.connected_since().is_some();
    until("the sink's connection", connected).await;
    let ask = async |key: &str, position, traceparents: &[&str]| {
        let named = traceparents.iter().map(|text| ("traceparent".to_owned(), (*text).to_owned()));
        let properties = PublishProperties {
            message_expiry_interval: Some(60),
            user_properties: [("n".to_owned(), "v".to_owned())].into_iter().chain(named).collect(),
            ..PublishProperties::default()
        };
        let (topic, body) = ("fieldlog/test/commands/valve", body(key, position).to_string());
        let client = &scene.listener.client;
        client.publish_with_properties(topic, QoS::AtLeastOnce, false, body, properties).await.unwrap();
        let event = scene.listener.event(key).await;
        (
            event["traceparent"].clone(),
            scene.listener.of("cmnd/valve/position", &position.to_string()).await.0,
        )
    };
    assert_eq!(ask("k1", 41, &[PARENT]).await, (json!(PARENT), property()));
    assert_eq!(ask("k2", 42, &[PARENT, OTHER]).await, (Json::Null, vec![]));
    assert_eq!(ask("k3", 43, &["00-1"]).await, (Json::Null, vec![]));
    scene.agent.stop().await;
}

#[tokio::test]
async fn a_source_of_mqtt_3_has_no_place_for_it() {
    let Some(scene) = Scene::start(4).await else { return };
    let command = scene.ask("k1", 41, &format!("traceparent: {PARENT}\r\n")).await;
    assert_eq!(command["traceparent"], PARENT, "{command}");
    assert_eq!(scene.listener.of("cmnd/valve/position", "41").await, (vec![], b"41".to_vec()));
    scene.agent.stop().await;
}
