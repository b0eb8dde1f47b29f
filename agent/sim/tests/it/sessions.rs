//! Connecting, disconnecting and reconnecting.

use fieldlog_sim::broker::{Acked, Broker, Credentials, Options, Qos, fault::Script};
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, DisconnectReasonCode as Reason};

use crate::raw::{Hello, Raw, broker, until, until_detached};

fn publish(broker: &Broker, payloads: &[&str]) {
    for payload in payloads {
        broker.publish("a", payload.to_string(), false, Qos::AtLeastOnce).unwrap();
    }
}

fn expected(publishes: &[(u16, bool, &str)]) -> Vec<(u16, bool, String)> {
    publishes.iter().map(|(pkid, dup, payload)| (*pkid, *dup, payload.to_string())).collect()
}

#[tokio::test]
async fn what_was_not_acknowledged_is_sent_again_first_and_as_it_was() {
    let broker = broker(Options::scripted(Script::default())).await;
    let (mut sub, present) = Raw::connect_present(&broker, Hello::lasting("sub")).await;
    assert!(!present);
    sub.subscribe("a").await;
    publish(&broker, &["0", "1", "2", "3"]);
    assert_eq!(sub.payloads(4).await, ["0", "1", "2", "3"]);
    sub.ack(1).await;
    sub.ack(3).await;
    until(&broker, |stats| stats.pubacks_in == 2).await;
    drop(sub);
    until_detached(&broker, "sub").await;
    publish(&broker, &["4"]);
    let (mut sub, present) = Raw::connect_present(&broker, Hello::lasting("sub")).await;
    assert!(present);
    let again = expected(&[(2, true, "1"), (4, true, "3"), (5, false, "4")]);
    assert_eq!(sub.publishes(3).await, again);
    for pkid in [2, 4, 5] {
        sub.ack(pkid).await;
    }
    until(&broker, |stats| stats.pubacks_in == 5).await;
    assert_eq!(broker.session("sub").unwrap().in_flight, 0);
    let acked = |connection, pkid, payload: &'static str| Acked {
        connection,
        pkid,
        topic: "a".to_owned(),
        payload: payload.into(),
    };
    let all = [acked(0, 1, "0"), acked(0, 3, "2"), acked(1, 2, "1"), acked(1, 4, "3"), acked(1, 5, "4")];
    assert_eq!(broker.acked(), all);
    let stats = broker.stats();
    assert_eq!((stats.misordered_acks, stats.stray_acks), (1, 0));
}

#[tokio::test]
async fn redelivery_keeps_to_the_window_of_the_new_connection() {
    let broker = broker(Options::default()).await;
    let mut sub = Raw::connect(&broker, Hello::lasting("sub")).await;
    sub.subscribe("a").await;
    publish(&broker, &["0", "1", "2"]);
    sub.publishes(3).await;
    drop(sub);
    let hello = Hello::lasting("sub").with(|properties| properties.receive_maximum = Some(2));
    let mut sub = Raw::connect(&broker, hello).await;
    assert_eq!(sub.publishes(2).await, expected(&[(1, true, "0"), (2, true, "1")]));
    sub.expect_quiet().await;
    sub.ack(1).await;
    assert_eq!(sub.publishes(1).await, expected(&[(3, true, "2")]));
}

/// An acknowledgement delayed past a reconnect must not count for the new connection.
#[tokio::test]
async fn an_ack_counts_only_on_the_connection_that_carried_the_message() {
    let broker = broker(Options::scripted(Script::default())).await;
    let mut sub = Raw::connect(&broker, Hello::lasting("sub")).await;
    sub.subscribe("a").await;
    publish(&broker, &["0", "1"]);
    sub.publishes(2).await;
    drop(sub);
    let hello = Hello::lasting("sub").with(|properties| properties.receive_maximum = Some(1));
    let mut sub = Raw::connect(&broker, hello).await;
    sub.publishes(1).await;
    sub.ack(2).await;
    sub.ack(9).await;
    until(&broker, |stats| stats.stray_acks == 2).await;
    assert!(broker.acked().is_empty());
    assert_eq!(broker.session("sub").unwrap().in_flight, 2);
}

#[tokio::test]
async fn a_session_ends_when_it_was_asked_to() {
    let broker = broker(Options::default()).await;
    drop(Raw::connect(&broker, Hello::lasting("lasting")).await);
    until_detached(&broker, "lasting").await;
    assert!(broker.session("lasting").is_some());
    drop(Raw::connect(&broker, Hello::clean("clean")).await);
    until_detached(&broker, "clean").await;
    assert_eq!(broker.session("clean"), None);
    // Clean start discards the old session, and DISCONNECT may set another expiry.
    let mut again = Hello::lasting("lasting");
    again.connect.clean_start = true;
    let (mut sub, present) = Raw::connect_present(&broker, again).await;
    assert!(!present);
    sub.send_bytes(b"\xe0\x07\x00\x05\x11\x00\x00\x00\x00").await;
    assert_eq!(sub.rest().await, b"");
    until_detached(&broker, "lasting").await;
    assert_eq!(broker.session("lasting"), None);
}

#[tokio::test]
async fn the_newer_connection_takes_the_session_over() {
    let broker = broker(Options::default()).await;
    let mut old = Raw::connect(&broker, Hello::lasting("sub")).await;
    old.subscribe("a").await;
    let (mut new, present) = Raw::connect_present(&broker, Hello::lasting("sub")).await;
    assert!(present);
    assert_eq!(old.disconnected().await, Reason::SessionTakenOver);
    assert_eq!(old.rest().await, b"");
    publish(&broker, &["x"]);
    assert_eq!(new.payloads(1).await, ["x"]);
}

#[tokio::test]
async fn silence_beyond_one_and_a_half_keep_alives_ends_the_connection() {
    let broker = broker(Options::default()).await;
    let mut hello = Hello::clean("sub");
    hello.connect.keep_alive = 1;
    let started = std::time::Instant::now();
    let mut sub = Raw::connect(&broker, hello).await;
    assert_eq!(sub.disconnected().await, Reason::KeepAliveTimeout);
    assert!(started.elapsed().as_millis() >= 1400);
}

#[tokio::test]
async fn pings_keep_the_connection_and_are_answered() {
    let broker = broker(Options::default()).await;
    let mut hello = Hello::clean("sub");
    hello.connect.keep_alive = 2;
    let mut sub = Raw::connect(&broker, hello).await;
    for _ in 0..5 {
        tokio::time::sleep(std::time::Duration::from_millis(800)).await;
        sub.send_bytes(b"\xc0\x00").await;
        assert!(matches!(sub.receive().await, Some(rumqttc::v5::mqttbytes::v5::Packet::PingResp(_))));
    }
}

#[tokio::test]
async fn credentials_are_checked() {
    let credentials = Some(Credentials { username: "gateway".to_owned(), password: "secret".to_owned() });
    let broker = broker(Options { credentials, ..Options::default() }).await;
    let addr = broker.local_addr();
    let (_, good) = Raw::hello(addr, Hello::clean("a").login("gateway", "secret")).await;
    assert_eq!(good.code, ConnectReturnCode::Success);
    for hello in [Hello::clean("a"), Hello::clean("a").login("gateway", "wrong")] {
        let (mut raw, refused) = Raw::hello(addr, hello).await;
        assert_eq!(refused.code, ConnectReturnCode::BadUserNamePassword);
        assert_eq!(raw.rest().await, b"");
    }
    let mut four = Raw::open(addr).await;
    four.send_bytes(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a").await;
    assert_eq!(four.rest().await, [0x20, 2, 0, 4]);
}

#[tokio::test]
async fn a_nameless_client_is_given_a_name_and_connack_tells_the_limits() {
    let broker = broker(Options::default()).await;
    let (_raw, ack) = Raw::hello(broker.local_addr(), Hello::clean("")).await;
    let properties = ack.properties.unwrap();
    let name = properties.assigned_client_identifier.unwrap();
    assert!(broker.session(&name).unwrap().connected);
    assert_eq!((properties.max_qos, properties.max_packet_size), (Some(1), Some(1024 * 1024)));
    assert_eq!(properties.shared_subscription_available, Some(0));
}

#[tokio::test]
async fn whoever_does_not_speak_mqtt_is_dropped() {
    let broker = broker(Options::default()).await;
    let mut http = Raw::open(broker.local_addr()).await;
    http.send_bytes(b"GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(http.rest().await, b"");
    let mut unknown = Raw::open(broker.local_addr()).await;
    unknown.send_bytes(b"\x10\x0d\x00\x04MQTT\x06\x02\x00\x3c\x00\x01a").await;
    assert_eq!(unknown.rest().await, [0x20, 2, 0, 1]);
}

#[tokio::test]
async fn shutdown_ends_everything_and_frees_the_port() {
    let broker = broker(Options::default()).await;
    let addr = broker.local_addr();
    let mut idle = Raw::open(addr).await;
    let mut sub = Raw::connect(&broker, Hello::clean("sub")).await;
    broker.shutdown().await;
    broker.shutdown().await;
    assert_eq!(sub.disconnected().await, Reason::ServerShuttingDown);
    assert_eq!(idle.rest().await, b"");
    let again = Broker::bind(addr, Options::default()).await.unwrap();
    let mut sub = Raw::connect(&again, Hello::clean("sub")).await;
    drop(again);
    assert_eq!(sub.disconnected().await, Reason::ServerShuttingDown);
}
