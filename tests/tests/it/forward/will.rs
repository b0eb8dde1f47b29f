//! `[sink.will]` at a real broker: shows upstream whether the gateway is connected.

use fieldlog_tests::mosquitto::Mosquitto;
use fieldlog_tests::process::Process;
use fieldlog_tests::wait::PATIENCE;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};

use super::site::{Site, sink};

/// A client that watches the gateway's topic. It must live while its events are read.
struct Watcher {
    _client: AsyncClient,
    events: EventLoop,
}

impl Watcher {
    async fn at(broker: &Mosquitto, name: &str) -> Watcher {
        let (client, mut events) = AsyncClient::new(MqttOptions::new(name, "127.0.0.1", broker.port), 10);
        client.subscribe("site/test/state", QoS::AtLeastOnce).await.unwrap();
        while !matches!(events.poll().await.unwrap(), Event::Incoming(Packet::SubAck(_))) {}
        Watcher { _client: client, events }
    }

    /// The next message, and whether it is retained.
    async fn next(&mut self) -> (String, bool) {
        let publish = async {
            loop {
                if let Event::Incoming(Packet::Publish(publish)) = self.events.poll().await.unwrap() {
                    return (String::from_utf8(publish.payload.to_vec()).unwrap(), publish.retain);
                }
            }
        };
        tokio::time::timeout(PATIENCE, publish).await.expect("nothing is told")
    }
}

#[tokio::test]
async fn upstream_is_told_when_the_gateway_comes_goes_and_dies() {
    let Some(broker) = Mosquitto::start("") else { return };
    let site = Site::new().await;
    let address = format!("mqtt://127.0.0.1:{}", broker.port);
    let more = sink(&address, "[sink.will]\ntopic = \"site/{gateway}/state\"");
    let mut upstream = Watcher::at(&broker, "watcher").await;
    let agent = site.start(&site.config(&more)).await;
    assert_eq!(upstream.next().await, ("online".to_owned(), false));
    agent.stop().await;
    assert_eq!(upstream.next().await, ("offline".to_owned(), false));

    let path = site.dir.path().join("fieldlog.toml");
    std::fs::write(&path, site.text(&more)).unwrap();
    let process = Process::run(&path, &[]);
    assert_eq!(upstream.next().await, ("online".to_owned(), false));
    let mut late = Watcher::at(&broker, "late").await;
    assert_eq!(late.next().await, ("online".to_owned(), true), "retained for newcomers");
    process.kill();
    assert_eq!(upstream.next().await, ("offline".to_owned(), false));
}
