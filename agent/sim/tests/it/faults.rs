//! Every fault of a script, as seen by a client.

use std::time::Duration;

use bytes::Bytes;
use fieldlog_sim::broker::fault::{Action, Behaviour, PacketIds, Point, Script};
use fieldlog_sim::broker::{Broker, Options, Qos};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnectReturnCode, DisconnectReasonCode as Reason, Filter, Packet, PubAckReason, Publish,
    SubscribeReasonCode,
};

use crate::raw::{Hello, QUIET, Raw, broker, until, until_detached};

async fn scripted(connections: impl IntoIterator<Item = Behaviour>) -> Broker {
    broker(Options::scripted(Script::new(connections))).await
}

fn publish(broker: &Broker, messages: usize) {
    for n in 0..messages {
        broker.publish("a", n.to_string(), false, Qos::AtLeastOnce).unwrap();
    }
}

async fn subscribed(broker: &Broker) -> Raw {
    let mut sub = Raw::connect(broker, Hello::lasting("sub")).await;
    sub.subscribe("a").await;
    sub
}

fn pkids(publishes: &[(u16, bool, String)]) -> Vec<u16> {
    publishes.iter().map(|(pkid, _, _)| *pkid).collect()
}

#[tokio::test]
async fn closes_after_publishes_without_heeding_pubacks() {
    let broker = scripted([Behaviour::close_after_publishes(5)]).await;
    let mut sub = subscribed(&broker).await;
    publish(&broker, 3);
    sub.publishes(3).await;
    sub.ack(1).await;
    until(&broker, |stats| stats.pubacks_in == 1).await;
    publish(&broker, 4);
    assert_eq!(sub.payloads(2).await, ["0", "1"]);
    assert_eq!(sub.rest().await, b"");
    assert_eq!(broker.acked().len(), 1);
    let mut sub = Raw::connect(&broker, Hello::lasting("sub")).await;
    let again = sub.publishes(7).await;
    assert_eq!(pkids(&again), [1, 2, 3, 4, 5, 6, 7]);
    assert!(again.iter().enumerate().all(|(n, (_, dup, _))| *dup == (n < 5)));
}

#[tokio::test]
async fn closes_on_the_last_ignored_puback() {
    let broker = scripted([Behaviour::close_after_ignored_pubacks(2)]).await;
    let mut sub = subscribed(&broker).await;
    publish(&broker, 3);
    sub.publishes(3).await;
    sub.ack(1).await;
    sub.ack(2).await;
    assert_eq!(sub.rest().await, b"");
    assert_eq!(broker.session("sub").unwrap().in_flight, 3);
    assert_eq!(broker.acked().len(), 2);
    let mut sub = Raw::connect(&broker, Hello::lasting("sub")).await;
    assert_eq!(pkids(&sub.publishes(3).await), [1, 2, 3]);
}

#[tokio::test]
async fn sends_every_publish_twice_and_expects_both_acks() {
    let broker = scripted([Behaviour { duplicate_publishes: true, ..Behaviour::default() }]).await;
    let mut sub = subscribed(&broker).await;
    publish(&broker, 2);
    let twice = sub.publishes(4).await;
    assert_eq!(pkids(&twice), [1, 1, 2, 2]);
    assert_eq!(twice.iter().map(|(_, dup, _)| *dup).collect::<Vec<_>>(), [false, true, false, true]);
    for pkid in pkids(&twice) {
        sub.ack(pkid).await;
    }
    until(&broker, |stats| stats.pubacks_in == 4).await;
    let stats = broker.stats();
    assert_eq!((stats.stray_acks, stats.misordered_acks, broker.acked().len()), (0, 0, 4));
    assert_eq!(broker.session("sub").unwrap().in_flight, 0);
}

#[tokio::test]
async fn uses_the_packet_ids_it_is_told_and_others_for_redelivery() {
    let first = Behaviour { packet_ids: Some(PacketIds::Sequence(vec![7, 3, 9])), ..Behaviour::default() };
    let second =
        Behaviour { packet_ids: Some(PacketIds::Descending), renumber: true, ..Behaviour::default() };
    let broker = scripted([first, second]).await;
    let mut sub = subscribed(&broker).await;
    publish(&broker, 3);
    assert_eq!(pkids(&sub.publishes(3).await), [7, 3, 9]);
    sub.ack(7).await;
    until(&broker, |stats| stats.pubacks_in == 1).await;
    drop(sub);
    let mut sub = Raw::connect(&broker, Hello::lasting("sub")).await;
    let again = sub.publishes(2).await;
    let expected = [(65535, true, "1".to_owned()), (65534, true, "2".to_owned())];
    assert_eq!(again, expected);
    sub.ack(3).await;
    sub.ack(65535).await;
    until(&broker, |stats| stats.pubacks_in == 3).await;
    assert_eq!(broker.stats().stray_acks, 1);
    assert_eq!(broker.session("sub").unwrap().in_flight, 1);
}

#[tokio::test]
async fn loses_the_session() {
    let forget = Behaviour { forget_session: true, ..Behaviour::default() };
    let broker = scripted([Behaviour::default(), forget]).await;
    let mut sub = subscribed(&broker).await;
    publish(&broker, 1);
    sub.publishes(1).await;
    drop(sub);
    let (mut sub, present) = Raw::connect_present(&broker, Hello::lasting("sub")).await;
    assert!(!present);
    publish(&broker, 1);
    sub.expect_quiet().await;
    drop(sub);
    until_detached(&broker, "sub").await;
    let (_sub, present) = Raw::connect_present(&broker, Hello::lasting("sub")).await;
    assert!(present);
}

#[tokio::test]
async fn sets_the_keep_alive() {
    let broker = scripted([
        Behaviour { server_keep_alive: Some(0), ..Behaviour::default() },
        Behaviour { server_keep_alive: Some(1), ..Behaviour::default() },
    ])
    .await;
    let mut hello = Hello::clean("a");
    hello.connect.keep_alive = 1;
    let (mut never, ack) = Raw::hello(broker.local_addr(), hello).await;
    assert_eq!(ack.properties.unwrap().server_keep_alive, Some(0));
    let (mut soon, ack) = Raw::hello(broker.local_addr(), Hello::clean("b")).await;
    assert_eq!(ack.properties.unwrap().server_keep_alive, Some(1));
    assert_eq!(soon.disconnected().await, Reason::KeepAliveTimeout);
    never.expect_quiet().await;
}

#[tokio::test]
async fn refuses_connect_with_any_code() {
    let broker = broker(Options::scripted(Script::new([Behaviour::refuse(0x97)]).repeat_last())).await;
    for _ in 0..2 {
        let (mut raw, ack) = Raw::hello(broker.local_addr(), Hello::clean("a")).await;
        assert_eq!(ack.code, ConnectReturnCode::QuotaExceeded);
        assert_eq!(raw.rest().await, b"");
    }
    assert_eq!(broker.session("a"), None);
}

#[tokio::test]
async fn never_answers_connect() {
    let broker = scripted([Behaviour::never_answer()]).await;
    let mut raw = Raw::open(broker.local_addr()).await;
    raw.send_bytes(b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01a").await;
    raw.expect_quiet().await;
    broker.shutdown().await;
    assert_eq!(raw.rest().await, b"");
}

#[tokio::test]
async fn half_open_sends_nothing_more_and_lets_the_session_be_taken_over() {
    let broker = scripted([Behaviour::half_open_after_publishes(2)]).await;
    let mut sub = subscribed(&broker).await;
    publish(&broker, 3);
    sub.publishes(2).await;
    sub.ack(1).await;
    sub.send_bytes(b"\xc0\x00").await;
    sub.expect_quiet().await;
    assert_eq!(broker.stats().pubacks_in, 0);
    let mut again = Raw::connect(&broker, Hello::lasting("sub")).await;
    assert_eq!(again.payloads(3).await, ["0", "1", "2"]);
    sub.expect_quiet().await;
    broker.shutdown().await;
}

#[tokio::test]
async fn sends_what_is_too_large_for_the_client() {
    let broker = scripted([Behaviour { ignore_packet_size_max: true, ..Behaviour::default() }]).await;
    let hello = Hello::clean("sub").with(|properties| properties.max_packet_size = Some(100));
    let mut sub = Raw::connect(&broker, hello).await;
    sub.subscribe("a").await;
    broker.publish("a", vec![b'x'; 5000], false, Qos::AtLeastOnce).unwrap();
    assert_eq!(sub.publish().await.payload.len(), 5000);
}

/// A PUBLISH whose properties claim to be longer than the packet, between two good ones.
#[tokio::test]
async fn writes_raw_bytes_between_packets() {
    let malformed = b"\x32\x08\x00\x01a\x00\x63\x7fxy";
    let broker =
        scripted(
            [Behaviour::raw_after_publishes(1, &malformed[..]).then(Point::Publishes(2), Action::Close)],
        )
        .await;
    let mut sub = subscribed(&broker).await;
    publish(&broker, 3);
    let rest = sub.rest().await;
    let good = |pkid, payload| [0x32, 7, 0, 1, b'a', 0, pkid, 0, payload];
    assert_eq!(rest, [&good(1, b'0')[..], malformed, &good(2, b'1')].concat());
}

#[tokio::test]
async fn refuses_subscriptions() {
    let refuse_subscribe = Some(SubscribeReasonCode::NotAuthorized);
    let broker = scripted([Behaviour { refuse_subscribe, ..Behaviour::default() }]).await;
    let mut sub = Raw::connect(&broker, Hello::clean("sub")).await;
    let codes = sub.subscribe_all(vec![Filter::new("a", QoS::AtLeastOnce)], None).await;
    assert_eq!(codes, [SubscribeReasonCode::NotAuthorized]);
    publish(&broker, 1);
    sub.expect_quiet().await;
}

#[tokio::test]
async fn delays_connack() {
    let delay = Behaviour::default().then(Point::Connect, Action::Delay(QUIET));
    let broker = scripted([delay]).await;
    let started = std::time::Instant::now();
    Raw::connect(&broker, Hello::clean("a")).await;
    assert!(started.elapsed() >= QUIET);
}

#[tokio::test]
async fn disconnects_with_a_reason_after_suback() {
    let busy = Behaviour::default().then(Point::SubAck, Action::Disconnect(0x89));
    let broker = scripted([busy]).await;
    let mut sub = subscribed(&broker).await;
    assert_eq!(sub.disconnected().await, Reason::ServerBusy);
    assert_eq!(sub.rest().await, b"");
    assert!(broker.session("sub").is_some());
}

#[tokio::test]
async fn writes_or_resets_right_after_connack() {
    let broker = scripted([
        Behaviour::default().then(Point::ConnAck, Action::Write(Bytes::from_static(b"\xd0\x00"))),
        Behaviour::default().then(Point::ConnAck, Action::Reset),
    ])
    .await;
    let mut raw = Raw::connect(&broker, Hello::clean("a")).await;
    assert!(matches!(raw.receive().await, Some(Packet::PingResp(_))));
    let mut raw = Raw::open(broker.local_addr()).await;
    raw.send_bytes(b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01b").await;
    while raw.receive().await.is_some() {}
    until_detached(&broker, "b").await;
    tokio::time::timeout(Duration::from_secs(20), broker.shutdown()).await.unwrap();
}

#[tokio::test]
async fn withholds_or_refuses_the_acks_of_the_clients_own_messages() {
    let broker = scripted([
        Behaviour { withhold_pubacks: true, ..Behaviour::default() }.then(Point::Received(2), Action::Close),
        Behaviour { refuse_publish: Some(PubAckReason::QuotaExceeded), ..Behaviour::default() },
    ])
    .await;
    let mut publish = Publish::new("a", QoS::AtLeastOnce, "x", None);
    publish.pkid = 5;
    let mut raw = Raw::connect(&broker, Hello::clean("a")).await;
    raw.send(Packet::Publish(publish.clone())).await;
    raw.expect_quiet().await;
    raw.send(Packet::Publish(publish.clone())).await;
    assert_eq!(raw.rest().await, b"");
    assert_eq!(broker.stats().messages_in, 2);
    let mut raw = Raw::connect(&broker, Hello::clean("a")).await;
    raw.send(Packet::Publish(publish)).await;
    match raw.receive().await {
        Some(Packet::PubAck(ack)) => assert_eq!((ack.pkid, ack.reason), (5, PubAckReason::QuotaExceeded)),
        other => panic!("{other:?}"),
    }
    assert_eq!(broker.stats().messages_in, 2);
}
