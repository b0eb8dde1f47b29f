//! `fieldlog probe` at a real broker: its report, and that it takes no message from other clients.

use std::net::TcpListener;

use fieldlog_tests::mosquitto::Mosquitto;
use fieldlog_tests::process::call;
use fieldlog_tests::publisher::{Post, Publisher};

async fn probe(arguments: &[&str]) -> (i32, String, String) {
    let arguments: Vec<String> = ["probe"].iter().chain(arguments).map(|&a| a.to_owned()).collect();
    let called =
        tokio::task::spawn_blocking(move || call(&arguments.iter().map(String::as_str).collect::<Vec<_>>()));
    called.await.unwrap()
}

#[tokio::test]
async fn a_broker_is_listened_to_and_the_presets_that_fit_are_named() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let publisher = Publisher::start(mosquitto.port);
    let posts = [
        ("tele/plug/LWT", "Online"),
        ("tele/plug/STATE", r#"{"POWER":"ON"}"#),
        ("zigbee2mqtt/bridge/state", r#"{"state":"online"}"#),
        ("zigbee2mqtt/lamp", r#"{"state":"ON"}"#),
        ("plant/pump/data", r#"{"flow":1.5}"#),
    ];
    publisher.post(posts.map(|(topic, payload)| Post::retained(topic, payload)));
    publisher.idle().await;

    let address = format!("mqtt://127.0.0.1:{}", mosquitto.port);
    let (code, out, err) = probe(&["--address", &address, "--seconds", "1", "--json"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(err.starts_with("listening to # at "), "{err}");
    let heard: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&heard["messages"], &heard["untaken"][0]), (&5.into(), &"plant/pump/data".into()), "{heard}");
    assert_eq!(heard["presets"].as_array().unwrap().len(), 2, "{heard}");
    let (code, out, err) = probe(&["--address", &address, "--seconds", "1"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("5 messages on 5 topics\n"), "{out}");
    assert!(out.contains("preset \"zigbee2mqtt\" fits 2 topics: zigbee2mqtt/bridge/state"), "{out}");
    assert!(out.contains("preset \"tasmota\" fits 2 topics: tele/plug/LWT"), "{out}");
    assert!(out.contains("\n[[source.subscription]]\npreset = \"tasmota\"\n"), "{out}");
    assert!(out.contains("no rule and no preset takes 1 topic: plant/pump/data\n"), "{out}");
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_named_with_the_reason() {
    // A port that nobody listens on any more.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("mqtt://127.0.0.1:{port}");
    let (code, out, err) = probe(&["--address", &address, "--seconds", "1"]).await;
    assert_eq!((code, out.as_str()), (69, ""));
    assert!(err.contains(&format!("the broker at 127.0.0.1:{port} could not be listened to: ")), "{err}");
    let (code, _, err) = probe(&["--address", "http://127.0.0.1"]).await;
    assert_eq!(code, 78);
    assert!(err.contains("it must begin with mqtt:// or mqtts://"), "{err}");
}
