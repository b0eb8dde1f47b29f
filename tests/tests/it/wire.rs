//! Malformed messages: each is quarantined with its reason and acknowledged, and the session continues.

use bytes::Bytes;
use fieldlog::config::Protocol;
use fieldlog_sim::broker::fault::{Behaviour, Script};
use fieldlog_sim::broker::{Broker, Options, Qos};

use crate::scripted::{BOTH, Scene};

/// A hand-made PUBLISH: `first` is its first byte, `rest` the bytes after the topic.
fn publish(first: u8, topic: &[u8], rest: &[u8]) -> Vec<u8> {
    let length = u8::try_from(2 + topic.len() + rest.len()).unwrap();
    assert!(length < 128);
    let mut bytes = vec![first, length, 0, u8::try_from(topic.len()).unwrap()];
    bytes.extend_from_slice(topic);
    bytes.extend_from_slice(rest);
    bytes
}

/// The bytes after the topic in a QoS 1 PUBLISH: identifier, properties, payload.
fn rest(protocol: Protocol, pkid: u16, payload: &[u8]) -> Vec<u8> {
    let mut rest = pkid.to_be_bytes().to_vec();
    if protocol == Protocol::V5 {
        rest.push(0);
    }
    rest.extend_from_slice(payload);
    rest
}

/// Writes raw bytes after the tenth message; the agent must connect `connections` times, and acknowledge `stray`
/// packets that the broker does not know.
async fn write_raw(
    protocol: Protocol,
    bytes: Vec<u8>,
    connections: u64,
    stray: u64,
) -> fieldlog_tests::logbook::Logbook {
    let mut scene = Scene::start(protocol, [Behaviour::raw_after_publishes(10, bytes)], |_| {}).await;
    scene.agent.subscribed().await;
    scene.publish_round();
    scene.settled().await;
    scene.publish_round();
    scene.settled().await;
    scene.connections(connections).await;
    assert_eq!(scene.agent.source().status.connections.get(), connections, "{protocol:?}");
    scene.finish(stray).await
}

#[tokio::test]
async fn a_topic_that_is_not_utf8() {
    for protocol in BOTH {
        let bytes = publish(0x32, b"t/\xff\xfe/state", &rest(protocol, 60_000, b"{\"n\":1}"));
        let log = write_raw(protocol, bytes, 1, 1).await;
        let quarantined = log.quarantined();
        assert_eq!(quarantined.len(), 1);
        let (topic, reason, payload) = &quarantined[0];
        assert_eq!((*topic, payload.as_slice()), ("t/\u{fffd}\u{fffd}/state", &b"{\"n\":1}"[..]));
        assert!(reason.contains("UTF-8"), "{reason}");
    }
}

#[tokio::test]
async fn properties_that_are_malformed() {
    // A property that is not allowed in a PUBLISH.
    let bytes = publish(0x32, b"t/a/state", &[0xea, 0x60, 2, 0x21, 0, b'{', b'}']);
    let log = write_raw(Protocol::V5, bytes, 1, 1).await;
    let quarantined = log.quarantined();
    assert_eq!(quarantined.len(), 1);
    assert!(quarantined[0].1.contains("property"), "{quarantined:?}");
}

#[tokio::test]
async fn packets_without_a_topic_or_an_identifier() {
    for protocol in BOTH {
        // A topic longer than the packet; no identifier; QoS 3.
        let mut bytes = vec![0x32, 4, 0, 200, b't', b'/'];
        bytes.extend(publish(0x32, b"t/a/state", &[7]));
        bytes.extend(publish(0x36, b"t/a/state", &rest(protocol, 60_000, b"{}")));
        let mut scene = Scene::start(protocol, [Behaviour::raw_after_publishes(10, bytes)], |_| {}).await;
        scene.agent.subscribed().await;
        scene.publish_round();
        scene.settled().await;
        assert_eq!(scene.agent.source().status.malformed.get(), 3);
        assert_eq!(scene.agent.source().status.connections.get(), 1);
        scene.finish(0).await;
    }
}

#[tokio::test]
async fn packets_that_make_the_rest_unreadable() {
    for protocol in BOTH {
        // A remaining length of five bytes; a packet that only clients send; QoS 2, which was not requested.
        write_raw(protocol, vec![0x30, 0xff, 0xff, 0xff, 0xff, 0xff], 2, 0).await;
        write_raw(protocol, vec![0xc0, 0], 2, 0).await;
        write_raw(protocol, publish(0x34, b"t/a/state", &rest(protocol, 60_000, b"{}")), 2, 0).await;
    }
}

#[tokio::test]
async fn payloads_that_are_not_what_the_rule_expects() {
    for protocol in BOTH {
        let mut scene = Scene::start(protocol, [], |_| {}).await;
        scene.agent.subscribed().await;
        let bad: [&[u8]; 5] = [b"\xff\xfe\x00", b"{\"n\":", b"[1]", b"{\"n\":NaN}", b"23.5"];
        for (number, payload) in bad.iter().enumerate() {
            let topic = format!("t/bad{number}/state");
            scene.broker.publish(&topic, Bytes::from_static(payload), false, Qos::AtLeastOnce).unwrap();
        }
        scene.publish_round();
        scene.settled().await;
        let log = scene.finish(0).await;
        let quarantined = log.quarantined();
        let payloads: Vec<&[u8]> = quarantined.iter().map(|(_, _, payload)| payload.as_slice()).collect();
        assert_eq!(payloads, bad);
        assert!(
            quarantined.iter().all(|(_, reason, _)| reason.contains("not the JSON object")),
            "{quarantined:?}"
        );
    }
}

/// The classic lock-out: a retained message that is too large arrives first on every connection.
#[tokio::test]
async fn an_oversized_retained_message_does_not_lock_the_agent_out() {
    for protocol in BOTH {
        let behaviour = Behaviour { ignore_packet_size_max: true, ..Behaviour::default() };
        let options = Options::scripted(Script::new([behaviour]).repeat_last());
        let broker = Broker::bind("127.0.0.1:0", options).await.unwrap();
        broker.publish("t/large/state", vec![b'x'; 300_000], true, Qos::AtLeastOnce).unwrap();
        let mut scene =
            Scene::with_broker(broker, protocol, |config| config.sources[0].packet_bytes_max = 10_000).await;
        scene.agent.subscribed().await;
        scene.publish_round();
        scene.settled().await;
        assert_eq!(scene.agent.source().status.connections.get(), 1);
        assert_eq!(scene.agent.source().status.too_large.get(), 1);
        let log = scene.finish(0).await;
        let quarantined = log.quarantined();
        assert_eq!(quarantined.len(), 1);
        let (topic, reason, payload) = &quarantined[0];
        assert_eq!((*topic, payload.as_slice()), ("t/large/state", &[b'x'; 4096][..payload.len()]));
        assert!(reason.contains("packet_bytes_max"), "{reason}");
        assert!(!payload.is_empty());
    }
}

/// An MQTT 5 broker that respects the announced limit does not send such a message.
#[tokio::test]
async fn an_mqtt_5_broker_is_told_the_largest_packet() {
    let mut scene =
        Scene::start(Protocol::V5, [], |config| config.sources[0].packet_bytes_max = 10_000).await;
    scene.agent.subscribed().await;
    scene.broker.publish("t/large/state", vec![b'x'; 300_000], false, Qos::AtLeastOnce).unwrap();
    scene.publish_round();
    scene.settled().await;
    assert_eq!(scene.broker.stats().dropped, 1);
    assert!(scene.finish(0).await.quarantined().is_empty());
}
