//! The daemon's client library, with both protocol versions at once.

use std::time::Duration;

use fieldlog_sim::broker::fault::{Behaviour, Script};
use fieldlog_sim::broker::{Broker, Options, Qos};
use rumqttc::v5;

use crate::raw::{PATIENCE, broker, until};

const MESSAGES: usize = 200;

fn five(broker: &Broker, id: &str) -> (v5::AsyncClient, v5::EventLoop) {
    let addr = broker.local_addr();
    let mut options = v5::MqttOptions::new(id, addr.ip().to_string(), addr.port());
    options.set_manual_acks(true).set_clean_start(false).set_session_expiry_interval(Some(3600));
    options.set_keep_alive(Duration::from_secs(5));
    v5::AsyncClient::new(options, 64)
}

fn four(broker: &Broker, id: &str) -> (rumqttc::AsyncClient, rumqttc::EventLoop) {
    let addr = broker.local_addr();
    let mut options = rumqttc::MqttOptions::new(id, addr.ip().to_string(), addr.port());
    options.set_manual_acks(true).set_clean_session(false).set_keep_alive(Duration::from_secs(5));
    rumqttc::AsyncClient::new(options, 64)
}

/// Polls until `n` messages are in and their PUBACKs out; returns the payloads and whether a session was present.
async fn receive_five(client: &v5::AsyncClient, events: &mut v5::EventLoop, n: usize) -> (Vec<String>, bool) {
    let (mut payloads, mut acks, mut present) = (Vec::new(), 0, false);
    while acks < n {
        match tokio::time::timeout(PATIENCE, events.poll()).await.unwrap().unwrap() {
            v5::Event::Incoming(v5::Incoming::ConnAck(ack)) => present = ack.session_present,
            v5::Event::Incoming(v5::Incoming::Publish(publish)) => {
                payloads.push(String::from_utf8(publish.payload.to_vec()).unwrap());
                client.ack(&publish).await.unwrap();
            }
            v5::Event::Outgoing(rumqttc::Outgoing::PubAck(_)) => acks += 1,
            _ => {}
        }
    }
    (payloads, present)
}

async fn receive_four(
    client: &rumqttc::AsyncClient,
    events: &mut rumqttc::EventLoop,
    n: usize,
) -> (Vec<String>, bool) {
    let (mut payloads, mut acks, mut present) = (Vec::new(), 0, false);
    while acks < n {
        match tokio::time::timeout(PATIENCE, events.poll()).await.unwrap().unwrap() {
            rumqttc::Event::Incoming(rumqttc::Incoming::ConnAck(ack)) => present = ack.session_present,
            rumqttc::Event::Incoming(rumqttc::Incoming::Publish(publish)) => {
                payloads.push(String::from_utf8(publish.payload.to_vec()).unwrap());
                client.ack(&publish).await.unwrap();
            }
            rumqttc::Event::Outgoing(rumqttc::Outgoing::PubAck(_)) => acks += 1,
            _ => {}
        }
    }
    (payloads, present)
}

fn numbers(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| n.to_string()).collect()
}

fn publish(broker: &Broker, from: usize, to: usize) {
    for payload in numbers(from, to) {
        broker.publish("plant/pump", payload, false, Qos::AtLeastOnce).unwrap();
    }
}

#[tokio::test]
async fn mqtt_5_client_receives_in_order_and_resumes() {
    let broker = broker(Options::scripted(Script::default())).await;
    let (client, mut events) = five(&broker, "five");
    client.subscribe("plant/#", v5::mqttbytes::QoS::AtLeastOnce).await.unwrap();
    while !matches!(events.poll().await.unwrap(), v5::Event::Incoming(v5::Incoming::SubAck(_))) {}
    publish(&broker, 0, MESSAGES);
    assert_eq!(receive_five(&client, &mut events, MESSAGES).await.0, numbers(0, MESSAGES));
    until(&broker, |stats| stats.pubacks_in == MESSAGES as u64).await;
    drop((client, events));
    publish(&broker, MESSAGES, 2 * MESSAGES);
    let (client, mut events) = five(&broker, "five");
    let (payloads, present) = receive_five(&client, &mut events, MESSAGES).await;
    assert_eq!((payloads, present), (numbers(MESSAGES, 2 * MESSAGES), true));
    until(&broker, |stats| stats.pubacks_in == 2 * MESSAGES as u64).await;
    let acked: Vec<_> = broker.acked().into_iter().map(|acked| acked.payload).collect();
    assert_eq!(acked, numbers(0, 2 * MESSAGES));
    assert_eq!((broker.stats().stray_acks, broker.stats().misordered_acks), (0, 0));
}

#[tokio::test]
async fn mqtt_3_1_1_client_receives_in_order_and_resumes() {
    let broker = broker(Options::scripted(Script::new([
        Behaviour::default(),
        Behaviour { duplicate_publishes: true, ..Behaviour::default() },
    ])))
    .await;
    let (client, mut events) = four(&broker, "four");
    client.subscribe("plant/#", rumqttc::QoS::AtLeastOnce).await.unwrap();
    while !matches!(events.poll().await.unwrap(), rumqttc::Event::Incoming(rumqttc::Incoming::SubAck(_))) {}
    publish(&broker, 0, MESSAGES);
    assert_eq!(receive_four(&client, &mut events, MESSAGES).await.0, numbers(0, MESSAGES));
    until(&broker, |stats| stats.pubacks_in == MESSAGES as u64).await;
    drop((client, events));
    publish(&broker, MESSAGES, MESSAGES + 10);
    let (client, mut events) = four(&broker, "four");
    let (payloads, present) = receive_four(&client, &mut events, 20).await;
    let twice: Vec<_> = numbers(MESSAGES, MESSAGES + 10).into_iter().flat_map(|n| [n.clone(), n]).collect();
    assert_eq!((payloads, present), (twice, true));
    until(&broker, |stats| stats.pubacks_in == MESSAGES as u64 + 20).await;
    assert_eq!((broker.stats().stray_acks, broker.stats().misordered_acks), (0, 0));
}

#[tokio::test]
async fn versions_talk_to_each_other_through_one_port() {
    let broker = broker(Options::default()).await;
    let (sub, mut sub_events) = four(&broker, "four");
    sub.subscribe("plant/#", rumqttc::QoS::AtLeastOnce).await.unwrap();
    while !matches!(sub_events.poll().await.unwrap(), rumqttc::Event::Incoming(rumqttc::Incoming::SubAck(_)))
    {
    }
    let (publisher, mut pub_events) = five(&broker, "five");
    for payload in numbers(0, 20) {
        publisher.publish("plant/x", v5::mqttbytes::QoS::AtLeastOnce, false, payload).await.unwrap();
    }
    let mut acks = 0;
    while acks < 20 {
        if let v5::Event::Incoming(v5::Incoming::PubAck(_)) = pub_events.poll().await.unwrap() {
            acks += 1;
        }
    }
    assert_eq!(receive_four(&sub, &mut sub_events, 20).await.0, numbers(0, 20));
    publisher.disconnect().await.unwrap();
}
