//! Priority events overtake the queue.

use std::net::SocketAddr;
use std::time::Duration;

use fieldlog_tests::mosquitto::Mosquitto;
use fieldlog_tests::proxy::{Fault, Proxy};
use fieldlog_tests::receiver::Receiver;
use fieldlog_tests::wait::until;
use fieldlog_wire::ledger::LogReport;

use super::site::{Site, complete, http, sink};

const BACKLOG: usize = 3_000;

/// A device appears while a backlog is sent over a slow link; the receiver gets this before the end of the backlog, and
/// has everything once at the end. A restart in between changes nothing.
async fn check(receiver: Receiver, server: SocketAddr, sink: impl Fn(SocketAddr) -> String) {
    let proxy = Proxy::start(server, Fault::Refuse).await;
    let mut site = Site::new().await;
    let config = site.config(&sink(proxy.address));
    let agent = site.start(&config).await;
    site.post(BACKLOG);
    site.recorded().await;
    proxy.set(Fault::Pass);
    let priority = |log: &LogReport| log.counts.priority_events;
    let log = || receiver.log().filter(|log| log.newest.0 > 0);
    until("a part of the backlog", || log().is_some_and(|log| log.counts.parcels > 4)).await;
    let before = priority(&log().unwrap());
    // The devices of the backlog are among its first events, and all were copied.
    assert!(before > 0);
    site.publish("t/d-new/state", r#"{"value":0.5}"#.into());
    until("the new device", || priority(&log().unwrap()) > before).await;
    let found = log().unwrap();
    println!("{found}");
    assert!((found.contiguous.0 as usize) < BACKLOG, "the backlog was through before it");
    agent.stop().await;
    let agent = site.start(&config).await;
    let (log, _) = complete(agent, receiver).await;
    assert_eq!(log.uncovered, 0);
}

/// Slow enough that the backlog takes some seconds: 3,000 events are 1 MB of JSON, and a tenth of that compact.
fn more(bandwidth: u32) -> String {
    format!(
        "parcel_events_max = 50\nbandwidth_bytes_per_s = {bandwidth}\npriority = [\"device_discovered\", \"gap\"]"
    )
}

#[tokio::test]
async fn over_http() {
    let receiver = Receiver::http().await;
    let server = receiver.address();
    check(receiver, server, |proxy| http(proxy, &more(200_000))).await;
}

#[tokio::test]
async fn over_http_compact() {
    let receiver = Receiver::http().await;
    let server = receiver.address();
    check(receiver, server, |proxy| http(proxy, &(more(15_000) + "\nformat = \"compact\""))).await;
}

#[tokio::test]
async fn over_mqtt() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let receiver = Receiver::mqtt(mosquitto.port).await;
    let server = SocketAddr::from(([127, 0, 0, 1], mosquitto.port));
    check(receiver, server, |proxy| sink(&format!("mqtt://{proxy}"), &more(200_000))).await;
}

/// MQTT 3.1.1 has the manifest in the payload.
#[tokio::test]
async fn over_mqtt_3_with_a_slow_link() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let receiver = Receiver::mqtt(mosquitto.port).await;
    let delayed = Proxy::start(
        SocketAddr::from(([127, 0, 0, 1], mosquitto.port)),
        Fault::Delay(Duration::from_millis(50)),
    );
    let delayed = delayed.await;
    let more = "protocol = 4\nparcel_events_max = 50\npriority = [\"device_discovered\"]";
    check(receiver, delayed.address, |proxy| sink(&format!("mqtt://{proxy}"), more)).await;
}
