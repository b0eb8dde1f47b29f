//! Routing of messages to subscribers.

use std::time::Duration;

use fieldlog_sim::broker::{Options, PublishError, Qos};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    DisconnectReasonCode as Reason, Filter, LastWill, LastWillProperties, Packet, Publish, PublishProperties,
    RetainForwardRule, SubscribeReasonCode, UnsubAckReason, Unsubscribe,
};

use crate::raw::{Hello, Raw, broker, until, until_detached};

#[tokio::test]
async fn a_message_reaches_its_subscribers_at_the_lower_qos() {
    let broker = broker(Options::default()).await;
    let mut sub = Raw::connect(&broker, Hello::clean("sub")).await;
    let filters = vec![Filter::new("a/+", QoS::AtMostOnce), Filter::new("b", QoS::ExactlyOnce)];
    let codes = sub.subscribe_all(filters, None).await;
    let granted = [QoS::AtMostOnce, QoS::AtLeastOnce].map(SubscribeReasonCode::Success);
    assert_eq!(codes, granted);
    let mut publisher = Raw::connect(&broker, Hello::clean("pub")).await;
    publisher.publish_with("a/1", "one", None).await;
    publisher.publish_with("b", "two", None).await;
    publisher.publish_with("c", "three", None).await;
    let first = sub.publish().await;
    assert_eq!((first.qos, &first.payload[..], first.retain), (QoS::AtMostOnce, &b"one"[..], false));
    let second = sub.publish().await;
    assert_eq!((second.qos, &second.payload[..], second.pkid), (QoS::AtLeastOnce, &b"two"[..], 1));
    sub.expect_quiet().await;
    let stats = broker.stats();
    assert_eq!((stats.messages_in, stats.messages_out, stats.connections), (3, 2, 2));
}

#[tokio::test]
async fn overlapping_subscriptions_give_one_copy_at_the_highest_qos() {
    let broker = broker(Options::default()).await;
    let mut sub = Raw::connect(&broker, Hello::clean("sub")).await;
    sub.subscribe_all(vec![Filter::new("a/#", QoS::AtMostOnce)], Some(1)).await;
    sub.subscribe_all(vec![Filter::new("a/+", QoS::AtLeastOnce)], Some(300)).await;
    sub.subscribe_all(vec![Filter::new("b", QoS::AtLeastOnce)], Some(4)).await;
    broker.publish("a/b", "x", false, Qos::AtLeastOnce).unwrap();
    let publish = sub.publish().await;
    assert_eq!(publish.qos, QoS::AtLeastOnce);
    assert_eq!(publish.properties.unwrap().subscription_identifiers, [1, 300]);
    sub.expect_quiet().await;
}

#[tokio::test]
async fn unsubscribing_ends_delivery() {
    let broker = broker(Options::default()).await;
    let mut sub = Raw::connect(&broker, Hello::clean("sub")).await;
    sub.subscribe("a").await;
    let mut unsubscribe = Unsubscribe::new("a", None);
    unsubscribe.filters.push("never".to_owned());
    unsubscribe.pkid = 3;
    sub.send(Packet::Unsubscribe(unsubscribe)).await;
    match sub.receive().await {
        Some(Packet::UnsubAck(ack)) => {
            assert_eq!(ack.reasons, [UnsubAckReason::Success, UnsubAckReason::NoSubscriptionExisted]);
        }
        other => panic!("{other:?}"),
    }
    broker.publish("a", "x", false, Qos::AtLeastOnce).unwrap();
    sub.expect_quiet().await;
}

#[tokio::test]
async fn filters_that_cannot_be_served_are_refused_one_by_one() {
    let broker = broker(Options::default()).await;
    let mut sub = Raw::connect(&broker, Hello::clean("sub")).await;
    let filters = ["$share/g/a", "a/#/b", "ok"].map(|path| Filter::new(path, QoS::AtLeastOnce));
    let codes = sub.subscribe_all(filters.to_vec(), None).await;
    assert_eq!(codes[0], SubscribeReasonCode::SharedSubscriptionsNotSupported);
    assert_eq!(codes[1], SubscribeReasonCode::TopicFilterInvalid);
    assert_eq!(codes[2], SubscribeReasonCode::Success(QoS::AtLeastOnce));
}

#[tokio::test]
async fn retained_messages_come_with_the_subscription_and_can_be_cleared() {
    let broker = broker(Options::default()).await;
    broker.publish("r/1", "old", true, Qos::AtLeastOnce).unwrap();
    broker.publish("r/1", "new", true, Qos::AtLeastOnce).unwrap();
    broker.publish("r/2", "gone", true, Qos::AtLeastOnce).unwrap();
    broker.publish("r/2", "", true, Qos::AtLeastOnce).unwrap();
    assert_eq!(broker.retained(), 1);
    let mut sub = Raw::connect(&broker, Hello::clean("sub")).await;
    sub.subscribe("r/#").await;
    let retained = sub.publish().await;
    assert_eq!((&retained.payload[..], retained.retain), (&b"new"[..], true));
    broker.publish("r/1", "live", true, Qos::AtLeastOnce).unwrap();
    let live = sub.publish().await;
    assert_eq!((&live.payload[..], live.retain), (&b"live"[..], false));
    sub.expect_quiet().await;
}

#[tokio::test]
async fn subscription_options_of_mqtt_5_are_honoured() {
    let broker = broker(Options::default()).await;
    broker.publish("r", "kept", true, Qos::AtLeastOnce).unwrap();
    let mut sub = Raw::connect(&broker, Hello::clean("sub")).await;
    let mut filter = Filter::new("r", QoS::AtLeastOnce);
    filter.retain_forward_rule = RetainForwardRule::OnNewSubscribe;
    filter.preserve_retain = true;
    filter.nolocal = true;
    sub.subscribe_all(vec![filter.clone()], None).await;
    assert_eq!(sub.payloads(1).await, ["kept"]);
    sub.subscribe_all(vec![filter.clone()], None).await;
    sub.publish_with("r", "own", None).await;
    sub.expect_quiet().await;
    broker.publish("r", "live", true, Qos::AtLeastOnce).unwrap();
    assert!(sub.publish().await.retain);
    filter.retain_forward_rule = RetainForwardRule::Never;
    filter.path = "#".to_owned();
    sub.subscribe_all(vec![filter], None).await;
    sub.expect_quiet().await;
}

#[tokio::test]
async fn no_more_is_in_flight_than_client_and_broker_allow() {
    for (receive_max, inflight_max, window) in [(3, 20, 3), (100, 5, 5), (7, 0, 7)] {
        let broker = broker(Options { inflight_max, ..Options::default() }).await;
        let hello = Hello::clean("sub").with(|properties| properties.receive_maximum = Some(receive_max));
        let mut sub = Raw::connect(&broker, hello).await;
        sub.subscribe("a").await;
        for n in 0..12 {
            broker.publish("a", n.to_string(), false, Qos::AtLeastOnce).unwrap();
        }
        let sent = sub.publishes(window).await;
        sub.expect_quiet().await;
        sub.ack(sent[0].0).await;
        assert_eq!(sub.payloads(1).await, [window.to_string()]);
        sub.expect_quiet().await;
    }
}

#[tokio::test]
async fn what_is_too_large_for_a_client_is_not_sent_to_it() {
    let broker = broker(Options::default()).await;
    let hello = Hello::clean("sub").with(|properties| properties.max_packet_size = Some(100));
    let mut sub = Raw::connect(&broker, hello).await;
    sub.subscribe("a").await;
    // Fixed header 2, topic 3, packet identifier 2, properties 1: 92 bytes of payload just fit.
    for bytes in [93, 92, 1000] {
        broker.publish("a", vec![b'x'; bytes], false, Qos::AtLeastOnce).unwrap();
    }
    broker.publish("a", "last", false, Qos::AtMostOnce).unwrap();
    assert_eq!(sub.publish().await.payload.len(), 92);
    assert_eq!(sub.payloads(1).await, ["last"]);
    assert_eq!(broker.stats().dropped, 2);
    assert_eq!(broker.session("sub").unwrap().in_flight, 1);
}

#[tokio::test]
async fn a_full_queue_drops_its_oldest_message() {
    let broker = broker(Options { queue_max: 3, ..Options::default() }).await;
    let mut sub = Raw::connect(&broker, Hello::lasting("sub")).await;
    sub.subscribe("a").await;
    drop(sub);
    until_detached(&broker, "sub").await;
    broker.publish("a", "not for the absent", false, Qos::AtMostOnce).unwrap();
    for n in 0..5 {
        broker.publish("a", n.to_string(), false, Qos::AtLeastOnce).unwrap();
    }
    let mut sub = Raw::connect(&broker, Hello::lasting("sub")).await;
    assert_eq!(sub.payloads(3).await, ["2", "3", "4"]);
    assert_eq!(broker.stats().dropped, 2);
}

#[tokio::test]
async fn properties_travel_and_expiry_counts_down() {
    let broker = broker(Options::default()).await;
    let mut sub = Raw::connect(&broker, Hello::clean("sub")).await;
    sub.subscribe("a").await;
    let sent = PublishProperties {
        message_expiry_interval: Some(100),
        content_type: Some("json".to_owned()),
        user_properties: vec![("k".to_owned(), "v".to_owned())],
        ..PublishProperties::default()
    };
    sub.publish_with("other", "nobody", Some(sent.clone())).await;
    let mut publisher = Raw::connect(&broker, Hello::clean("pub")).await;
    publisher.publish_with("a", "x", Some(sent.clone())).await;
    let mut received = sub.publish().await.properties.unwrap();
    assert!(matches!(received.message_expiry_interval.take(), Some(90..=100)));
    assert_eq!(received, PublishProperties { message_expiry_interval: None, ..sent });
}

#[tokio::test]
async fn an_expired_message_is_not_delivered() {
    let broker = broker(Options::default()).await;
    let mut sub = Raw::connect(&broker, Hello::lasting("sub")).await;
    sub.subscribe("a").await;
    drop(sub);
    until_detached(&broker, "sub").await;
    let mut publisher = Raw::connect(&broker, Hello::clean("pub")).await;
    let expired = PublishProperties { message_expiry_interval: Some(0), ..PublishProperties::default() };
    publisher.publish_with("a", "late", Some(expired)).await;
    publisher.publish_with("a", "fine", None).await;
    let mut sub = Raw::connect(&broker, Hello::lasting("sub")).await;
    assert_eq!(sub.payloads(1).await, ["fine"]);
    assert_eq!(broker.stats().dropped, 1);
}

fn will(payload: &str, delay_s: Option<u32>) -> LastWill {
    let properties = LastWillProperties {
        delay_interval: delay_s,
        payload_format_indicator: None,
        message_expiry_interval: None,
        content_type: None,
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
    };
    LastWill::new("will", payload, QoS::AtLeastOnce, false, Some(properties))
}

#[tokio::test]
async fn a_will_is_published_unless_the_client_says_goodbye() {
    let broker = broker(Options::default()).await;
    let mut watcher = Raw::connect(&broker, Hello::clean("watcher")).await;
    watcher.subscribe("will").await;
    drop(Raw::connect(&broker, Hello::clean("a").will(will("lost", None))).await);
    assert_eq!(watcher.payloads(1).await, ["lost"]);
    let mut polite = Raw::connect(&broker, Hello::clean("b").will(will("polite", None))).await;
    polite.send_bytes(b"\xe0\x00").await;
    assert_eq!(polite.rest().await, b"");
    let mut asking = Raw::connect(&broker, Hello::clean("c").will(will("asked for", None))).await;
    asking.send_bytes(b"\xe0\x01\x04").await;
    assert_eq!(watcher.payloads(1).await, ["asked for"]);
    let mut wrong = Raw::connect(&broker, Hello::clean("d").will(will("broke the rules", None))).await;
    wrong.send_bytes(b"\xf0\x00").await;
    assert_eq!(watcher.payloads(1).await, ["broke the rules"]);
}

#[tokio::test]
async fn a_delayed_will_waits_for_the_client_or_for_the_end_of_its_session() {
    let broker = broker(Options::default()).await;
    let mut watcher = Raw::connect(&broker, Hello::clean("watcher")).await;
    watcher.subscribe("will").await;
    drop(Raw::connect(&broker, Hello::lasting("back").will(will("came back", Some(3600)))).await);
    until_detached(&broker, "back").await;
    let _back = Raw::connect(&broker, Hello::lasting("back")).await;
    watcher.expect_quiet().await;
    let short = Hello::lasting("gone").with(|properties| properties.session_expiry_interval = Some(1));
    drop(Raw::connect(&broker, short.will(will("session over", Some(3600)))).await);
    assert_eq!(watcher.payloads(1).await, ["session over"]);
    assert_eq!(broker.session("gone"), None);
}

#[tokio::test]
async fn what_the_broker_does_not_offer_ends_the_connection_with_a_reason() {
    let broker = broker(Options { packet_bytes_max: 100, ..Options::default() }).await;
    let mut exactly_once = Raw::connect(&broker, Hello::clean("a")).await;
    let mut publish = Publish::new("a", QoS::ExactlyOnce, "x", None);
    publish.pkid = 1;
    exactly_once.send(Packet::Publish(publish)).await;
    assert_eq!(exactly_once.disconnected().await, Reason::QoSNotSupported);
    let mut large = Raw::connect(&broker, Hello::clean("b")).await;
    large.send_bytes(b"\x30\xff\x7f").await;
    assert_eq!(large.disconnected().await, Reason::PacketTooLarge);
    let mut wildcard = Raw::connect(&broker, Hello::clean("c")).await;
    wildcard.send(Packet::Publish(Publish::new("a/#", QoS::AtMostOnce, "x", None))).await;
    assert_eq!(wildcard.disconnected().await, Reason::TopicNameInvalid);
    assert_eq!(wildcard.rest().await, b"");
}

#[tokio::test]
async fn only_topics_can_be_published_to() {
    let broker = broker(Options::default()).await;
    let error = broker.publish("a/#", "x", false, Qos::AtMostOnce).unwrap_err();
    assert_eq!(error, PublishError::InvalidTopic { topic: "a/#".to_owned() });
}

/// The daemon must handle 20 000 messages/s: all of a burst must arrive once, in order, within a bounded window.
#[tokio::test]
async fn a_burst_arrives_whole_and_in_order() {
    const MESSAGES: usize = 20_000;
    let broker = broker(Options::scripted(fieldlog_sim::broker::fault::Script::default())).await;
    let mut sub = Raw::connect(&broker, Hello::clean("sub")).await;
    sub.subscribe("burst/#").await;
    let started = std::time::Instant::now();
    for n in 0..MESSAGES {
        broker.publish(&format!("burst/{}", n % 50), n.to_string(), false, Qos::AtLeastOnce).unwrap();
    }
    for n in 0..MESSAGES {
        let publish = sub.publish().await;
        assert_eq!(publish.payload, n.to_string());
        sub.ack(publish.pkid).await;
    }
    until(&broker, |stats| stats.pubacks_in == MESSAGES as u64).await;
    println!("{MESSAGES} messages in {:?}", started.elapsed());
    let stats = broker.stats();
    assert_eq!((stats.dropped, stats.stray_acks, stats.misordered_acks), (0, 0, 0));
    let acked = broker.acked();
    assert!(acked.iter().enumerate().all(|(n, acked)| acked.payload == n.to_string()));
    assert_eq!(broker.session("sub").unwrap().in_flight, 0);
    tokio::time::timeout(Duration::from_secs(20), broker.shutdown()).await.unwrap();
}
