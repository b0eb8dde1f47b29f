//! The cost of other programs on this machine, fed by the same stub.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::{AsyncClient, Event, Incoming, MqttOptions};

use crate::agent::cpu_seconds;
use crate::stub::{Feed, Stub};

/// What a program did with the messages.
pub struct Cost {
    /// Messages per second.
    pub rate: f64,
    /// CPU per message, in microseconds.
    pub cpu: f64,
}

/// `mosquitto_sub` printing topic and payload; `None` if it is not installed.
pub fn mosquitto_sub(feed: &Feed, messages: u64) -> Option<Cost> {
    let stub = Stub::start();
    let mut child = Command::new("mosquitto_sub")
        .args(["-V", "mqttv5", "-q", "1", "-v", "-t", "bench/#", "-h", "127.0.0.1", "-p"])
        .arg(stub.port().to_string())
        .stdout(Stdio::null())
        .spawn()
        .ok()?;
    let took = stub.feed(feed, messages);
    let stat = PathBuf::from(format!("/proc/{}/stat", child.id()));
    let cpu = cpu_seconds(&stat) * 1e6 / messages as f64;
    let _ = child.kill();
    let _ = child.wait();
    Some(Cost { rate: messages as f64 / took.as_secs_f64(), cpu })
}

/// CPU per message of rumqttc's own client that only acknowledges each message, in microseconds.
pub fn rumqttc_manual_acks(feed: &Feed, messages: u64) -> f64 {
    let stub = Stub::start();
    let port = stub.port();
    let client = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(drain(port, messages));
        cpu_seconds(Path::new("/proc/thread-self/stat"))
    });
    stub.feed(feed, messages);
    client.join().expect("the client") * 1e6 / messages as f64
}

async fn drain(port: u16, messages: u64) {
    let mut options = MqttOptions::new("yardstick", "127.0.0.1", port);
    options.set_manual_acks(true).set_receive_maximum(Some(1000)).set_keep_alive(Duration::from_secs(60));
    options.set_outgoing_inflight_upper_limit(100);
    let (client, mut events) = AsyncClient::new(options, 2000);
    client.subscribe("bench/#", QoS::AtLeastOnce).await.expect("a request");
    let mut acked = 0;
    while acked < messages {
        match events.poll().await.expect("a connection") {
            Event::Incoming(Incoming::Publish(publish)) => {
                client.try_ack(&publish).expect("room for an acknowledgement");
            }
            Event::Outgoing(rumqttc::Outgoing::PubAck(_)) => acked += 1,
            _ => {}
        }
    }
}
