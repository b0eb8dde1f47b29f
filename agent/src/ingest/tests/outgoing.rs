//! Publications for commands, and what becomes of them.

use std::sync::Mutex;

use fieldlog_projections::{Seq, Time, TraceParent};

use super::*;
use crate::message::{Fate, Manner, Publication, Published, Receipt, Tracked, Unpublished};

/// A source with a peer that has granted its subscription; what is published is reported into a list.
struct Scene {
    source: Running,
    peer: Peer,
    listener: TcpListener,
    ended: Arc<Mutex<Vec<Published>>>,
}

/// A CONNACK of MQTT 5 with these properties.
fn connack(properties: &[u8]) -> Vec<u8> {
    let len = u8::try_from(properties.len()).unwrap();
    [&[0x20, len + 3, 0, 0, len], properties].concat()
}

impl Scene {
    async fn start(properties: &[u8]) -> Scene {
        let (listener, config) = listen().await;
        let source = Running::start(config);
        let ended = Arc::<Mutex<Vec<Published>>>::default();
        let list = ended.clone();
        source.status.outbox.on_published(move |published| list.lock().unwrap().push(published));
        let mut peer = Peer::accept(&listener, &connack(properties)).await;
        assert_eq!(peer.frame().await.0, 0x82);
        peer.send(&[0x90, 4, 0, 1, 0, 1]).await;
        source.until("the outbox", |status| status.outbox.connection().is_some()).await;
        Scene { source, peer, listener, ended }
    }

    fn publish(&self, command: u64, payload: &[u8], ttl: Duration) {
        self.publish_in(None, command, payload, ttl);
    }

    /// The same, in a trace.
    fn publish_in(&self, traceparent: Option<TraceParent>, command: u64, payload: &[u8], ttl: Duration) {
        let (now, wall) = (Clock::system().now(), Clock::system().wall());
        let tracked = Tracked {
            command: Seq(command),
            attempt: 1,
            qos: 1,
            deadline: now + ttl,
            expires: Time(wall.0 + ttl.as_micros() as i64),
            traceparent,
        };
        let manner = Manner::Command(tracked);
        let publication = Publication { topic: "cmnd".into(), payload: payload.to_vec().into(), manner };
        self.source.status.outbox.publish(publication).unwrap();
    }

    /// Waits until so many fates are reported, and returns all of them.
    async fn fates(&self, count: usize) -> Vec<(u64, Fate)> {
        self.source.until("fates", |_| self.ended.lock().unwrap().len() >= count).await;
        self.ended.lock().unwrap().iter().map(|p| (p.command.0, p.fate.clone())).collect()
    }

    /// The next PUBLISH: packet identifier, message expiry and payload.
    async fn published(&mut self) -> (u16, u32, Vec<u8>) {
        let (first, body) = self.peer.frame().await;
        assert_eq!((first, &body[..6]), (0x32, &b"\0\x04cmnd"[..]), "{body:?}");
        let pkid = u16::from_be_bytes([body[6], body[7]]);
        // Only the expiry: its identifier is 2.
        assert_eq!(body[8..10], [5, 2], "{body:?}");
        (pkid, u32::from_be_bytes(body[10..14].try_into().unwrap()), body[14..].to_vec())
    }

    async fn puback(&mut self, pkid: u16, reason: &[u8]) {
        let len = 2 + u8::try_from(reason.len()).unwrap();
        let [high, low] = pkid.to_be_bytes();
        self.peer.send(&[&[0x40, len, high, low], reason].concat()).await;
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_publication_is_written_with_its_expiry_and_acknowledged() {
    let mut scene = Scene::start(&[]).await;
    scene.publish(7, b"on", MINUTE);
    let (pkid, expiry, payload) = scene.published().await;
    assert!((58..=60).contains(&expiry) && pkid >= 0x8000, "{expiry} {pkid}");
    assert_eq!(payload, b"on");
    assert_eq!(scene.fates(1).await, [(7, Fate::Written)]);
    // That of something else says nothing.
    scene.puback(pkid - 1, &[]).await;
    scene.puback(pkid, &[]).await;
    assert_eq!(scene.fates(2).await, [(7, Fate::Written), (7, Fate::Acknowledged)]);
    // "No matching subscribers" is a success, too.
    scene.publish(8, b"on", MINUTE);
    let (pkid, ..) = scene.published().await;
    scene.puback(pkid, &[0x10]).await;
    assert_eq!(scene.fates(4).await[3], (8, Fate::Acknowledged));
    scene.source.stop().await;
}

#[tokio::test]
async fn a_trace_context_is_a_user_property_unless_it_makes_the_packet_too_large() {
    let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut scene = Scene::start(&[]).await;
    scene.publish_in(TraceParent::parse(text), 7, b"on", MINUTE);
    let (_, body) = scene.peer.frame().await;
    let (properties, payload) = body[8..].split_at(1 + 5 + 71);
    assert_eq!((properties[0], properties[1], payload), (76, 2, &b"on"[..]), "{body:?}");
    let property = [&b"\x26\0\x0btraceparent\0\x37"[..], text.as_bytes()].concat();
    assert_eq!(properties[6..], property);
    assert_eq!(scene.fates(1).await, [(7, Fate::Written)]);
    scene.source.stop().await;

    // Maximum packet size: 40 bytes.
    let mut scene = Scene::start(&[0x27, 0, 0, 0, 40]).await;
    scene.publish_in(TraceParent::parse(text), 8, b"on", MINUTE);
    assert_eq!(scene.published().await.2, b"on");
    assert_eq!(scene.fates(1).await, [(8, Fate::Written)]);
    scene.source.stop().await;
}

#[tokio::test]
async fn a_puback_with_a_reason_from_0x80_on_refuses() {
    let mut scene = Scene::start(&[]).await;
    scene.publish(7, b"on", MINUTE);
    let (pkid, ..) = scene.published().await;
    scene.puback(pkid, &[0x87, 6, 0x1f, 0, 3, b'n', b'o', b'!']).await;
    let (_, fate) = scene.fates(2).await.remove(1);
    let Fate::Refused(why) = fate else { panic!("{fate:?}") };
    assert!(
        why.contains("the broker refuses it: ") && why.contains("authori") && why.contains("no!"),
        "{why}"
    );
    assert!(scene.source.status.is_connected());
}

#[tokio::test]
async fn the_receive_maximum_of_the_broker_bounds_what_is_in_flight() {
    // Receive maximum: 2.
    let mut scene = Scene::start(&[0x21, 0, 2]).await;
    (1..=4).for_each(|command| scene.publish(command, b"x", MINUTE));
    let (first, ..) = scene.published().await;
    let (second, ..) = scene.published().await;
    assert_ne!(first, second);
    assert_eq!(scene.fates(2).await, [(1, Fate::Written), (2, Fate::Written)]);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(scene.fates(2).await.len(), 2, "the third waits");
    scene.puback(second, &[]).await;
    let (third, ..) = scene.published().await;
    assert_eq!(scene.fates(4).await[2..], [(2, Fate::Acknowledged), (3, Fate::Written)]);
    // The connection ends: what was written is lost, what waits was not sent.
    let Scene { source, peer, listener, ended } = scene;
    drop(peer);
    let peer = Peer::welcome(&listener).await;
    let scene = Scene { source, peer, listener, ended };
    let mut rest = scene.fates(7).await.split_off(4);
    rest.sort_by_key(|(command, _)| *command);
    assert_eq!(rest, [(1, Fate::Lost), (3, Fate::Lost), (4, Fate::NotSent)]);
    assert_ne!(first, third);
}

#[tokio::test]
async fn nothing_is_taken_without_a_connection_and_nothing_published_too_late() {
    let mut scene = Scene::start(&[]).await;
    scene.publish(1, b"x", Duration::ZERO);
    scene.publish(2, b"x", MINUTE);
    assert_eq!(scene.published().await.2, b"x");
    assert_eq!(scene.fates(2).await, [(1, Fate::TooLate), (2, Fate::Written)]);
    drop((scene.peer, scene.listener));
    scene.source.until("the end", |status| status.outbox.connection().is_none()).await;
    let publication = Publication::untracked("t", "x");
    assert_eq!(scene.source.status.outbox.publish(publication), Err(Unpublished::NotConnected));
}

#[tokio::test]
async fn one_that_is_too_large_for_the_broker_fails_and_the_connection_stays() {
    // Maximum packet size: 200.
    let mut scene = Scene::start(&[0x27, 0, 0, 0, 200]).await;
    // 3 bytes of fixed header, 2 + 4 of topic, 2 of identifier, 6 of properties.
    scene.publish(1, &[b'x'; 184], MINUTE);
    scene.publish(2, &[b'x'; 183], MINUTE);
    let (_, _, payload) = scene.published().await;
    assert_eq!(payload.len(), 183);
    let fates = scene.fates(2).await;
    let (1, Fate::Refused(why)) = &fates[0] else { panic!("{fates:?}") };
    assert!(why.starts_with("its packet has 201 bytes, and the broker takes at most 200;"), "{why}");
    assert_eq!(fates[1], (2, Fate::Written));
    assert_eq!(scene.source.status.details().failures.len(), 0);
}

#[tokio::test]
async fn a_broker_without_qos_1_gets_qos_0() {
    // Maximum QoS: 0.
    let mut scene = Scene::start(&[0x24, 0]).await;
    scene.publish(1, b"x", MINUTE);
    assert_eq!(scene.peer.frame().await.0, 0x30);
    assert_eq!(scene.fates(1).await, [(1, Fate::Written)]);
}

#[tokio::test]
async fn what_is_retained_has_a_receipt() {
    let mut scene = Scene::start(&[]).await;
    let publish = |scene: &Scene| {
        let receipt = Receipt::default();
        let manner = Manner::Retained(receipt.clone());
        let publication = Publication { topic: "alerts".into(), payload: b"x"[..].into(), manner };
        scene.source.status.outbox.publish(publication).unwrap();
        receipt
    };
    let receipt = publish(&scene);
    let (first, body) = scene.peer.frame().await;
    assert_eq!(first, 0x33, "QoS 1, retained");
    let pkid = u16::from_be_bytes([body[8], body[9]]);
    scene.puback(pkid, &[]).await;
    assert_eq!(receipt.fate().await, Fate::Acknowledged);

    let receipt = publish(&scene);
    scene.peer.frame().await;
    drop((scene.peer, scene.listener));
    assert_eq!(receipt.fate().await, Fate::Lost);
    assert!(scene.ended.lock().unwrap().is_empty(), "no command is told of it");
}

#[tokio::test]
async fn messages_that_were_read_before_a_publication_are_delivered_before_it_is_reported() {
    // Receive maximum: 1.
    let mut scene = Scene::start(&[0x21, 0, 1]).await;
    scene.publish(1, b"x", MINUTE);
    scene.publish(2, b"x", MINUTE);
    let (pkid, ..) = scene.published().await;
    scene.fates(1).await;
    // One report on the way, with the acknowledgement that lets the second go: it says nothing of the second.
    let [high, low] = pkid.to_be_bytes();
    scene.peer.send(&[publish(None, b"ON"), vec![0x40, 2, high, low]].concat()).await;
    scene.fates(3).await;
    assert!(scene.source.inbox.try_recv().is_ok(), "the message is delivered before the second is written");
}
