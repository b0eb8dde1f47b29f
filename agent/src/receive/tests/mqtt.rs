//! Over MQTT, with the broker of the demo.

use std::path::Path;
use std::time::Duration;

use fieldlog_sim::broker::fault::{Behaviour, Script};
use fieldlog_sim::broker::{Broker, Options, Qos};

use super::serving::{Running, expected, ids};
use super::*;
use crate::forward::envelope::Payload;
use crate::receive::{MqttOptions, Out, ReceiveOptions};

async fn until(what: impl Fn() -> bool) {
    let waiting = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap();
}

fn send(broker: &Broker, parcel: &Parcel) {
    let body = Payload::with_manifest(parcel).to_bytes();
    broker.publish("fieldlog/plant-7/events", body, false, Qos::AtLeastOnce).unwrap();
}

fn options(broker: &Broker, dir: &Path) -> ReceiveOptions {
    let address = format!("mqtt://{}", broker.local_addr());
    ReceiveOptions {
        mqtt: Some(MqttOptions::parse(&address, vec!["fieldlog/+/events".into()], "receiver").unwrap()),
        out: Out::File(dir.join("events.ndjson")),
        state: Some(dir.join("state")),
        ..ReceiveOptions::default()
    }
}

/// A delivery shows that the broker has the subscription.
async fn subscribed(running: &Running, broker: &Broker) {
    let warm_up = async {
        while running.handle.report().malformed == 0 {
            broker.publish("fieldlog/x/events", "no parcel", false, Qos::AtLeastOnce).unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), warm_up).await.unwrap();
}

#[tokio::test]
async fn parcels_are_acknowledged_after_they_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(3_000);
    let parcels = [
        &fixture.parcels(Filter::default(), Format::Json, Seq(1), 100)[..10],
        &fixture.parcels(Filter::default(), Format::Compact, Seq(1_001), 50),
    ]
    .concat();
    let broker =
        Broker::bind("127.0.0.1:0", Options { record_acks: true, ..Options::default() }).await.unwrap();
    let running = Running::start(options(&broker, dir.path())).await;
    subscribed(&running, &broker).await;
    let (some, rest) = parcels.split_at(20);
    some.iter().for_each(|parcel| send(&broker, parcel));
    let sent: u64 = some.iter().map(|p| p.items.len() as u64).sum();
    until(|| running.handle.events() == sent).await;
    running.stop().await;
    // The broker keeps its session while it is away.
    rest.iter().for_each(|parcel| send(&broker, parcel));
    send(&broker, &parcels[0]);
    let running = Running::start(options(&broker, dir.path())).await;
    until(|| running.handle.events() == fixture.log.head().0).await;
    until(|| running.handle.report().logs[0].counts.duplicate_parcels == 1).await;
    let report = running.stop().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(ids(&dir.path().join("events.ndjson")), expected(1..=fixture.log.head().0));
    assert_eq!(broker.stats().stray_acks, 0);
    until(|| broker.session("receiver").is_some_and(|s| s.queued == 0 && s.in_flight == 0)).await;
    broker.shutdown().await;
}

/// mosquitto 2.0.11 does so.
#[tokio::test]
async fn a_broker_that_sends_more_than_it_may_gets_every_acknowledgement() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(3_000);
    let parcels = fixture.parcels(Filter::default(), Format::Compact, Seq(1), 2);
    let script = Script::new([Behaviour { ignore_receive_max: true, ..Behaviour::default() }]).repeat_last();
    let broker = Broker::bind("127.0.0.1:0", Options { inflight_max: 0, ..Options::scripted(script) }).await;
    let broker = broker.unwrap();
    // The session must exist before it is away.
    let running = Running::start(options(&broker, dir.path())).await;
    subscribed(&running, &broker).await;
    running.stop().await;
    parcels.iter().for_each(|parcel| send(&broker, parcel));
    let running = Running::start(options(&broker, dir.path())).await;
    until(|| running.handle.events() == fixture.log.head().0).await;
    until(|| broker.session("receiver").is_some_and(|s| s.queued == 0 && s.in_flight == 0)).await;
    assert!(running.stop().await.is_clean());
    assert_eq!(broker.stats().connections, 2, "it had no reason to connect again");
    broker.shutdown().await;
}
