//! The sink with mosquitto, and with a broker that misbehaves on demand.

use bytes::BytesMut;
use fieldlog_sim::broker::fault::{Action, Behaviour, Point, PubAckReason, Script};
use fieldlog_sim::broker::{Broker, Options};
use fieldlog_sim::servers::mosquitto::Mosquitto;
#[cfg(feature = "tls")]
use fieldlog_sim::servers::tls::Certificates;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::{AsyncClient, Event, EventLoop, Incoming, MqttOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

use std::time::Duration;

use super::*;
use crate::config::{Address, Protocol, TlsConfig, WillConfig};
use crate::forward::SLOW;
use crate::forward::envelope::tests::parcel;
use crate::ingest::tests::{PATIENCE, refusing_port};
use fieldlog_wire::Manifest;

fn target(port: u16) -> MqttTarget {
    Target {
        sink: MqttSink {
            address: Address { host: "127.0.0.1".into(), port, tls: false },
            tls: TlsConfig::default(),
            protocol: Protocol::V5,
            client_id: "fieldlog-test-sink".into(),
            username: None,
            password_file: None,
            topic: "fieldlog/{gateway}/{lane}".into(),
            keep_alive: Duration::from_secs(30),
            packet_bytes_max: 1024 * 1024,
            will: None,
            commands: None,
        },
        connect_timeout: Duration::from_secs(20),
        answer_timeout: Duration::from_secs(20),
        in_flight_max: 16,
    }
}

fn with_protocol(port: u16, protocol: Protocol) -> MqttTarget {
    let mut target = target(port);
    target.sink.protocol = protocol;
    target
}

async fn opened(target: &MqttTarget) -> Mqtt {
    target.open(None).await.unwrap()
}

/// Sends parcels at once and returns their outcomes, in order of sending.
async fn send(sink: &mut Mqtt, parcels: Vec<Parcel>) -> Vec<Outcome> {
    let under_way: Vec<_> =
        parcels.into_iter().map(|parcel| tokio::spawn(sink.send(Arc::new(parcel)))).collect();
    let mut outcomes = Vec::new();
    for one in under_way {
        outcomes.push(timeout(PATIENCE, one).await.expect("no outcome").unwrap());
    }
    outcomes
}

fn words(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Acked => "acked",
        Outcome::Busy { why, .. }
        | Outcome::TooLarge { why }
        | Outcome::Refused { why }
        | Outcome::Forked { why }
        | Outcome::Lost { why } => why,
    }
}

/// A client that is subscribed to everything.
struct Subscriber(EventLoop);

impl Subscriber {
    async fn at(port: u16) -> Subscriber {
        let mut options = MqttOptions::new("subscriber", "127.0.0.1", port);
        options.set_max_packet_size(Some(4 * 1024 * 1024));
        let (client, events) = AsyncClient::new(options, 10);
        client.subscribe("#", QoS::AtLeastOnce).await.unwrap();
        let mut subscriber = Subscriber(events);
        while !matches!(subscriber.next().await, Incoming::SubAck(_)) {}
        subscriber
    }

    async fn next(&mut self) -> Incoming {
        let next = async {
            loop {
                if let Event::Incoming(packet) = self.0.poll().await.unwrap() {
                    return packet;
                }
            }
        };
        timeout(PATIENCE, next).await.expect("nothing comes")
    }

    async fn publish(&mut self) -> rumqttc::v5::mqttbytes::v5::Publish {
        loop {
            if let Incoming::Publish(publish) = self.next().await {
                return publish;
            }
        }
    }
}

#[tokio::test]
async fn a_parcel_arrives_as_it_was_sent() {
    let Some(broker) = Mosquitto::start("") else { return };
    let mut subscriber = Subscriber::at(broker.port).await;
    for protocol in [Protocol::V5, Protocol::V4] {
        let mut sink = opened(&with_protocol(broker.port, protocol)).await;
        assert_eq!(sink.window(), 16);
        assert_eq!(send(&mut sink, vec![parcel(1, 3)]).await, [Outcome::Acked]);
        let publish = subscriber.publish().await;
        assert_eq!(publish.topic, "fieldlog/gw-1/live");
        let json: serde_json::Value = serde_json::from_slice(&publish.payload).unwrap();
        match protocol {
            Protocol::V5 => {
                assert_eq!(json.as_array().unwrap().len(), 3);
                let properties = publish.properties.unwrap().user_properties;
                let field = |name: &str| {
                    let name = format!("fieldlog-{name}");
                    properties.iter().find(|(key, _)| *key == name).map(|(_, value)| &value[..])
                };
                assert_eq!(Manifest::read(field).ok(), Some(parcel(1, 3).manifest));
            }
            Protocol::V4 => {
                assert_eq!(json["events"].as_array().unwrap().len(), 3);
                assert_eq!(json["fieldlog"]["first"], 1);
            }
        }
        assert_eq!(sink.warning(), None);
        sink.close().await;
    }
}

#[tokio::test]
async fn many_parcels_go_out_in_order_and_large_ones_whole() {
    let Some(broker) = Mosquitto::start("") else { return };
    let mut subscriber = Subscriber::at(broker.port).await;
    let mut sink = opened(&target(broker.port)).await;
    let mut parcels: Vec<_> = (1..=500).map(|n| parcel(n, n)).collect();
    parcels.push(parcel(501, 8000));
    let sending = tokio::spawn(async move { send(&mut sink, parcels).await });
    for n in 1..=501 {
        let publish = subscriber.publish().await;
        let events: Vec<serde_json::Value> = serde_json::from_slice(&publish.payload).unwrap();
        assert_eq!(events[0]["data"]["n"], n);
        assert_eq!(events.len(), if n == 501 { 7500 } else { 1 });
    }
    assert!(sending.await.unwrap().iter().all(|outcome| *outcome == Outcome::Acked));
}

#[tokio::test]
async fn a_will_tells_whether_the_gateway_is_there() {
    let Some(broker) = Mosquitto::start("") else { return };
    for protocol in [Protocol::V5, Protocol::V4] {
        let (topic, offline, online) = ("gw-1/state".into(), "gone".into(), "here".into());
        let will = Some(WillConfig { topic, offline, online });
        let mut target = with_protocol(broker.port, protocol);
        target.sink.will = will;
        let mut witness = Subscriber::at(broker.port).await;
        // Of the protocol before, for a newcomer.
        if protocol == Protocol::V4 {
            assert_eq!(said(&mut witness).await, ("gone".to_owned(), true));
        }
        let sink = opened(&target).await;
        assert_eq!(said(&mut witness).await, ("here".to_owned(), false));
        sink.close().await;
        assert_eq!(said(&mut witness).await, ("gone".to_owned(), false));

        // A process that dies does not disconnect, so the broker publishes the will.
        let (up, is_up) = std::sync::mpsc::channel();
        let dying = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let mut sink = runtime.block_on(opened(&target));
            assert_eq!(runtime.block_on(send(&mut sink, vec![parcel(1, 1)])), [Outcome::Acked]);
            up.send(()).unwrap();
            drop(runtime);
        });
        assert_eq!(said(&mut witness).await, ("here".to_owned(), false));
        assert_eq!(witness.publish().await.topic, "fieldlog/gw-1/live");
        assert_eq!(said(&mut witness).await, ("gone".to_owned(), false));
        is_up.recv().unwrap();
        dying.join().unwrap();
    }
}

/// The next message on the will's topic, and whether it is retained.
async fn said(witness: &mut Subscriber) -> (String, bool) {
    let publish = witness.publish().await;
    assert_eq!(publish.topic, "gw-1/state");
    (String::from_utf8(publish.payload.to_vec()).unwrap(), publish.retain)
}

/// MQTT 3.1.1 brokers announce no limit.
#[tokio::test]
async fn the_operators_limit_counts_where_the_broker_names_none() {
    let Some(broker) = Mosquitto::start("") else { return };
    for protocol in [Protocol::V5, Protocol::V4] {
        let mut target = with_protocol(broker.port, protocol);
        target.sink.packet_bytes_max = 2_000;
        let mut sink = opened(&target).await;
        let outcomes = send(&mut sink, vec![parcel(1, 100), parcel(1, 2)]).await;
        let Outcome::TooLarge { why } = &outcomes[0] else { panic!("{outcomes:?}") };
        assert!(why.contains("`packet_bytes_max` is 2000"), "{why}");
        assert_eq!(outcomes[1], Outcome::Acked);
        sink.close().await;
    }
}

#[tokio::test]
async fn nobody_listening_is_acknowledged_and_said() {
    let Some(broker) = Mosquitto::start("") else { return };
    let mut sink = opened(&target(broker.port)).await;
    assert_eq!(send(&mut sink, vec![parcel(1, 1), parcel(2, 2)]).await, [Outcome::Acked, Outcome::Acked]);
    let warning = sink.warning().unwrap();
    assert!(warning.contains("no client is subscribed to `fieldlog/{gateway}/{lane}`"), "{warning}");
    assert!(warning.contains("2 acknowledged parcels"), "{warning}");
}

#[tokio::test]
async fn what_is_too_large_for_the_broker_is_not_sent() {
    let Some(broker) = Mosquitto::start("max_packet_size 2000") else { return };
    let mut sink = opened(&target(broker.port)).await;
    let outcomes = send(&mut sink, vec![parcel(1, 100), parcel(1, 2)]).await;
    let Outcome::TooLarge { why } = &outcomes[0] else { panic!("{outcomes:?}") };
    assert!(why.contains("100 events") && why.ends_with("is 2000"), "{why}");
    assert_eq!(outcomes[1], Outcome::Acked);
}

#[tokio::test]
async fn access_rules_and_passwords_are_for_an_operator() {
    let Some(broker) = Mosquitto::start("acl_file DIR/nobody") else { return };
    let mut sink = opened(&target(broker.port)).await;
    let outcomes = send(&mut sink, vec![parcel(1, 1)]).await;
    assert!(matches!(outcomes[0], Outcome::Busy { after: Some(SLOW), .. }), "{outcomes:?}");
    assert!(words(&outcomes[0]).contains("not authorized"), "{outcomes:?}");

    let Some(broker) = Mosquitto::start("password_file DIR/nobody\nallow_anonymous false") else {
        return;
    };
    for protocol in [Protocol::V4, Protocol::V5] {
        let target = with_protocol(broker.port, protocol);
        let unreachable = target.open(None).await.err().unwrap();
        let address = format!("127.0.0.1:{}: ", broker.port);
        assert!(unreachable.pace == Pace::Slow && unreachable.why.starts_with(&address), "{unreachable}");
    }
}

#[tokio::test]
async fn nobody_at_the_address_is_no_reason_to_be_slow() {
    let (_taken, port) = refusing_port();
    let unreachable = target(port).open(None).await.err().unwrap();
    assert_eq!(unreachable.pace, Pace::Soon);
    assert!(unreachable.why.starts_with(&format!("cannot connect to 127.0.0.1:{port}")), "{unreachable}");
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn tls_is_checked_against_the_ca_file() {
    let Some(certificates) = Certificates::make() else { return };
    let Some(broker) = Mosquitto::start(&certificates.mosquitto()) else { return };
    let mut target = target(broker.port);
    target.sink.address.tls = true;
    target.sink.tls.ca_file = Some(certificates.ca_file());
    let mut sink = opened(&target).await;
    // Larger than any TLS record and socket buffer.
    assert_eq!(
        send(&mut sink, vec![parcel(1, 7000), parcel(7001, 7001)]).await,
        [Outcome::Acked, Outcome::Acked]
    );
    target.sink.tls.server_name = Some("elsewhere".into());
    let unreachable = target.open(None).await.err().unwrap();
    assert!(unreachable.why.contains("`elsewhere`"), "{unreachable}");
}

async fn scripted(behaviour: Behaviour) -> (Broker, MqttTarget) {
    let broker = Broker::bind("127.0.0.1:0", Options::scripted(Script::new([behaviour]))).await.unwrap();
    let target = target(broker.local_addr().port());
    (broker, target)
}

#[tokio::test]
async fn a_broker_that_acknowledges_nothing_is_lost() {
    let (_broker, mut target) = scripted(Behaviour { withhold_pubacks: true, ..Behaviour::default() }).await;
    target.answer_timeout = Duration::from_millis(300);
    let mut sink = opened(&target).await;
    let outcomes = send(&mut sink, vec![parcel(1, 1), parcel(2, 2)]).await;
    for outcome in &outcomes {
        assert!(
            matches!(outcome, Outcome::Lost { .. }) && words(outcome).contains("acknowledged nothing"),
            "{outcome:?}"
        );
    }
    // And so is everything after it.
    assert!(matches!(send(&mut sink, vec![parcel(3, 3)]).await[0], Outcome::Lost { .. }));
    assert!(timeout(PATIENCE, sink.lost()).await.unwrap().contains("acknowledged nothing"));
}

#[tokio::test]
async fn reasons_decide_what_becomes_of_a_parcel() {
    for (reason, slow) in [(PubAckReason::QuotaExceeded, None), (PubAckReason::NotAuthorized, Some(SLOW))] {
        let (_broker, target) =
            scripted(Behaviour { refuse_publish: Some(reason), ..Behaviour::default() }).await;
        let mut sink = opened(&target).await;
        let outcomes = send(&mut sink, vec![parcel(1, 1)]).await;
        assert!(matches!(&outcomes[0], Outcome::Busy { after, .. } if *after == slow), "{outcomes:?}");
    }
    let reason = Some(PubAckReason::PayloadFormatInvalid);
    let (_broker, target) = scripted(Behaviour { refuse_publish: reason, ..Behaviour::default() }).await;
    let mut sink = opened(&target).await;
    let outcomes = send(&mut sink, vec![parcel(1, 1)]).await;
    assert!(matches!(outcomes[0], Outcome::Refused { .. }), "{outcomes:?}");
    assert!(words(&outcomes[0]).starts_with("127.0.0.1:"), "{outcomes:?}");
}

#[tokio::test]
async fn a_broken_connection_loses_what_is_under_way() {
    let behaviour = Behaviour { withhold_pubacks: true, ..Behaviour::default() };
    for action in [Action::Close, Action::Reset, Action::Disconnect(0x8b)] {
        let (_broker, target) = scripted(behaviour.clone().then(Point::Received(3), action)).await;
        let mut sink = opened(&target).await;
        let outcomes = send(&mut sink, (1..=5).map(|n| parcel(n, n)).collect()).await;
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Lost { .. })), "{outcomes:?}");
    }
}

#[tokio::test]
async fn the_largest_is_blamed_for_being_too_large() {
    let behaviour = Behaviour { withhold_pubacks: true, ..Behaviour::default() };
    let (_broker, target) = scripted(behaviour.then(Point::Received(3), Action::Disconnect(0x95))).await;
    let mut sink = opened(&target).await;
    let outcomes = send(&mut sink, vec![parcel(1, 1), parcel(2, 30), parcel(31, 31)]).await;
    assert!(matches!(outcomes[0], Outcome::Lost { .. }), "{outcomes:?}");
    assert!(matches!(outcomes[1], Outcome::TooLarge { .. }), "{outcomes:?}");
    assert!(matches!(outcomes[2], Outcome::Lost { .. }), "{outcomes:?}");
}

#[tokio::test]
async fn a_silent_broker_is_noticed_while_nothing_is_under_way() {
    let (_broker, mut target) = scripted(Behaviour::default().then(Point::ConnAck, Action::HalfOpen)).await;
    target.sink.keep_alive = Duration::from_millis(200);
    let mut sink = opened(&target).await;
    let why = timeout(PATIENCE, sink.lost()).await.unwrap();
    assert!(why.contains("no answer"), "{why}");
}

#[tokio::test]
async fn a_receive_maximum_is_kept_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = target(listener.local_addr().unwrap().port());
    let peer = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = vec![0; 4096];
        assert_ne!(stream.read(&mut buffer).await.unwrap(), 0);
        // Receive Maximum 2.
        stream.write_all(&[0x20, 6, 0, 0, 3, 0x21, 0, 2]).await.unwrap();
        let mut input = BytesMut::new();
        let mut pkids = Vec::new();
        while pkids.len() < 5 {
            assert_ne!(stream.read_buf(&mut input).await.unwrap(), 0);
            let mut batch = Vec::new();
            while let Ok(rumqttc::v5::mqttbytes::v5::Packet::Publish(publish)) =
                rumqttc::v5::mqttbytes::v5::Packet::read(&mut input, None)
            {
                batch.push(publish.pkid);
            }
            assert!(batch.len() <= 2);
            pkids.extend_from_slice(&batch);
            for pkid in batch.iter().rev() {
                stream.write_all(&[0x40, 2, 0, u8::try_from(*pkid).unwrap()]).await.unwrap();
            }
        }
        pkids
    });
    let mut sink = opened(&target).await;
    assert_eq!(sink.window(), 2);
    let outcomes = send(&mut sink, (1..=5).map(|n| parcel(n, n)).collect()).await;
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Acked), "{outcomes:?}");
    assert_eq!(peer.await.unwrap(), [1, 2, 3, 4, 5]);
}
