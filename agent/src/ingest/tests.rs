//! The source with a scripted peer; with a real broker in [`mosquitto`].

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::clock::Clock;
use crate::config::{Address, Decoder, Protocol, Rule, TlsConfig, WillConfig};
use crate::message::{Message, WireFault};

mod mosquitto;
mod outgoing;
mod state;

/// Long enough for a busy machine; reached only on a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A reserved port without a listener, while the socket lives.
pub(crate) fn refusing_port() -> (tokio::net::TcpSocket, u16) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

/// A source at a broker on this port, with one rule for `t/#` and an almost immediate retry.
pub(crate) fn config(port: u16) -> SourceConfig {
    SourceConfig {
        name: "test".into(),
        address: Address { host: "127.0.0.1".into(), port, tls: false },
        protocol: Protocol::V5,
        client_id: "fieldlog-test".into(),
        username: None,
        password_file: None,
        keep_alive: Duration::from_secs(30),
        connect_timeout: Duration::from_secs(20),
        backoff_max: Duration::from_millis(100),
        session_expiry: Duration::from_secs(604_800),
        receive_window: 1000,
        packet_bytes_max: 65_536,
        tls: TlsConfig::default(),
        will: None,
        sparkplug: None,
        silence_timeout: None,
        redact: Vec::new(),
        exclude: vec![],
        rules: vec![rule("t/#")],
        policies: vec![],
        commands: vec![],
        describe: vec![],
    }
}

pub(crate) fn rule(topic: &str) -> Rule {
    Rule::new(topic, Decoder::Json)
}

/// A running source whose writer is the test.
struct Running {
    status: Arc<SourceStatus>,
    inbox: UnboundedReceiver<Delivery>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), InboxGone>>,
}

impl Running {
    fn start(config: SourceConfig) -> Running {
        let (stop, shutdown) = watch::channel(false);
        let (sender, inbox) = unbounded_channel();
        let status = Arc::new(SourceStatus::default());
        let deliver = move |delivery| sender.send(delivery).map_err(|_| InboxGone);
        let task =
            tokio::spawn(run(SourceId(3), config, deliver, Clock::system(), Arc::clone(&status), shutdown));
        Running { status, inbox, stop, task }
    }

    async fn delivery(&mut self) -> Delivery {
        timeout(PATIENCE, self.inbox.recv()).await.expect("no delivery").expect("source ended")
    }

    /// Collects this many messages without releasing them, with their acknowledgement handles.
    async fn messages(&mut self, count: usize) -> Vec<(Message, Arc<Acks>)> {
        let mut all = Vec::new();
        while all.len() < count {
            let delivery = self.delivery().await;
            assert_eq!(delivery.source, SourceId(3));
            all.extend(delivery.messages.into_iter().map(|message| (message, Arc::clone(&delivery.acks))));
        }
        all
    }

    async fn until(&self, what: &str, is: impl Fn(&SourceStatus) -> bool) {
        let wait = async {
            while !is(&self.status) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if timeout(PATIENCE, wait).await.is_err() {
            panic!("{what} never happened: {:#?}", self.status);
        }
    }

    async fn stop(self) {
        self.stop.send(true).unwrap();
        timeout(PATIENCE, self.task).await.expect("does not stop").unwrap().unwrap();
    }
}

fn release(messages: &[(Message, Arc<Acks>)]) {
    for (message, acks) in messages {
        acks.release(1, message.pkid.as_slice());
    }
}

fn payloads(messages: &[(Message, Arc<Acks>)]) -> Vec<&str> {
    messages.iter().map(|(message, _)| std::str::from_utf8(&message.payload).unwrap()).collect()
}

/// The broker's side of one connection, MQTT 5.
struct Peer(TcpStream);

const CONNACK: [u8; 5] = [0x20, 3, 0, 0, 0];

impl Peer {
    async fn accept(listener: &TcpListener, connack: &[u8]) -> Peer {
        let (stream, _) = timeout(PATIENCE, listener.accept()).await.expect("nobody connects").unwrap();
        let mut peer = Peer(stream);
        assert_eq!(peer.frame().await.0, 0x10);
        peer.send(connack).await;
        peer
    }

    /// Accepts and grants the subscription.
    async fn welcome(listener: &TcpListener) -> Peer {
        let mut peer = Peer::accept(listener, &CONNACK).await;
        assert_eq!(peer.frame().await.0, 0x82);
        peer.send(&[0x90, 4, 0, 1, 0, 1]).await;
        peer
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    async fn frame(&mut self) -> (u8, Vec<u8>) {
        timeout(PATIENCE, async {
            let first = self.0.read_u8().await.unwrap();
            let (mut len, mut shift) = (0, 0);
            loop {
                let byte = usize::from(self.0.read_u8().await.unwrap());
                len |= (byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let mut body = vec![0; len];
            self.0.read_exact(&mut body).await.unwrap();
            (first, body)
        })
        .await
        .expect("no packet from the source")
    }

    async fn closed(&mut self) {
        let mut rest = Vec::new();
        // A reset is as good as a close.
        let _ = timeout(PATIENCE, self.0.read_to_end(&mut rest)).await.expect("still connected");
    }
}

/// A PUBLISH to `t/x`; QoS 1 with a packet identifier.
fn publish(pkid: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let mut body = b"\0\x03t/x".to_vec();
    body.extend(pkid.map(u16::to_be_bytes).into_iter().flatten());
    body.push(0);
    body.extend_from_slice(payload);
    let mut packet = vec![if pkid.is_some() { 0x32 } else { 0x30 }];
    let mut rest = body.len();
    while rest >= 128 {
        packet.push(u8::try_from(rest % 128).unwrap() | 0x80);
        rest /= 128;
    }
    packet.push(u8::try_from(rest).unwrap());
    [packet, body].concat()
}

async fn listen() -> (TcpListener, SourceConfig) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = config(listener.local_addr().unwrap().port());
    (listener, config)
}

#[tokio::test]
async fn a_puback_follows_the_release_and_not_the_message() {
    let (listener, mut config) = listen().await;
    config.keep_alive = Duration::from_millis(400);
    let mut source = Running::start(config);
    let mut peer = Peer::welcome(&listener).await;
    peer.send(&[publish(Some(5), b"a"), publish(None, b"b"), publish(Some(6), b"c")].concat()).await;
    let messages = source.messages(3).await;
    assert_eq!(payloads(&messages), ["a", "b", "c"]);
    source.until("counting", |status| status.unacked.get() == 2).await;

    // The next packet is a ping: nothing is acknowledged automatically.
    assert_eq!(peer.frame().await, (0xc0, vec![]));
    peer.send(&[0xd0, 0]).await;
    messages[0].1.release(3, &[5, 6]);
    assert_eq!(peer.frame().await, (0x40, vec![0, 5]));
    assert_eq!(peer.frame().await, (0x40, vec![0, 6]));
    let status = &source.status;
    assert_eq!((status.unacked.get(), status.pubacks.get()), (0, 2));
    assert_eq!((status.received_qos0.get(), status.received_qos1.get()), (1, 2));
    source.until("SUBACK", |status| status.details().granted == [("t/#".to_owned(), 1)]).await;
}

#[tokio::test]
async fn a_full_window_stops_reading_and_pings_go_on() {
    let (listener, mut config) = listen().await;
    config.keep_alive = Duration::from_millis(400);
    config.receive_window = 1;
    let mut source = Running::start(config);
    let mut peer = Peer::welcome(&listener).await;
    let payload = vec![b'x'; 1000];
    let packet = publish(None, &payload);
    // Far more than the window and both socket buffers hold.
    let total = 30_000;
    let (mut read, mut write) = peer.0.split();
    let flood = async {
        for _ in 0..total {
            write.write_all(&packet).await.unwrap();
        }
    };
    let drain = async {
        let mut held = source.messages(outstanding_max(1)).await;
        let mut pings = [0; 8];
        timeout(PATIENCE, read.read_exact(&mut pings)).await.expect("no pings").unwrap();
        assert_eq!(pings, [0xc0, 0, 0xc0, 0, 0xc0, 0, 0xc0, 0]);
        while let Ok(delivery) = source.inbox.try_recv() {
            held.extend(delivery.messages.into_iter().map(|message| (message, Arc::clone(&delivery.acks))));
        }
        assert!(held.len() < outstanding_max(1) + READ_BYTES / 1000 + 1, "{} held", held.len());
        let mut received = held.len();
        release(&held);
        while received < total {
            let delivery = source.delivery().await;
            received += delivery.messages.len();
            delivery.acks.release(delivery.messages.len(), &[]);
        }
    };
    tokio::join!(flood, drain);
    assert_eq!(source.status.details().failures.len(), 0);
}

#[tokio::test]
async fn a_release_for_a_dead_connection_goes_nowhere() {
    let (listener, config) = listen().await;
    let mut source = Running::start(config);
    let mut first = Peer::welcome(&listener).await;
    first.send(&publish(Some(1), b"old")).await;
    let old = source.messages(1).await;
    drop(first);

    let mut second = Peer::welcome(&listener).await;
    second.send(&publish(Some(1), b"new")).await;
    let new = source.messages(1).await;
    assert_eq!(new[0].1.outstanding(), 2);
    release(&old);
    assert_eq!(new[0].1.outstanding(), 1);
    second.send(&publish(Some(2), b"newer")).await;
    let newer = source.messages(1).await;
    release(&newer);
    // Had the old release come through, identifier 1 would be acknowledged here.
    assert_eq!(second.frame().await, (0x40, vec![0, 2]));
    assert_eq!(source.status.details().failures.get("closed"), Some(&1));
}

#[tokio::test]
async fn a_broker_that_falls_silent_is_left() {
    let (listener, mut config) = listen().await;
    config.keep_alive = Duration::from_millis(100);
    let source = Running::start(config);
    let mut peer = Peer::welcome(&listener).await;
    peer.closed().await;
    let _again = Peer::welcome(&listener).await;
    let details = source.status.details();
    assert_eq!(details.failures.get("no_answer"), Some(&1));
    assert!(details.last_error.unwrap().contains("no answer from the broker"));
}

#[tokio::test]
async fn server_keep_alive_0_does_not_make_pings_a_flood() {
    let (listener, mut config) = listen().await;
    config.keep_alive = Duration::from_millis(800);
    let source = Running::start(config);
    let mut peer = Peer::accept(&listener, &[0x20, 6, 0, 0, 3, 19, 0, 0]).await;
    assert_eq!(peer.frame().await.0, 0x82);
    let start = Instant::now();
    for _ in 0..2 {
        assert_eq!(peer.frame().await, (0xc0, vec![]));
        peer.send(&[0xd0, 0]).await;
    }
    assert!(start.elapsed() >= Duration::from_millis(1000), "{:?}", start.elapsed());
    source.stop().await;
}

#[tokio::test]
async fn a_broken_packet_ends_the_connection_after_what_came_before_it() {
    let (listener, config) = listen().await;
    let mut source = Running::start(config);
    let mut peer = Peer::welcome(&listener).await;
    peer.send(&[publish(None, b"good"), vec![0x90, 1, 0]].concat()).await;
    assert_eq!(payloads(&source.messages(1).await), ["good"]);
    assert_eq!(peer.frame().await, (0xe0, vec![0x81]));
    peer.closed().await;
    source.until("failure", |status| status.details().failures.get("malformed") == Some(&1)).await;
}

#[tokio::test]
async fn packets_that_cannot_be_taken_do_not_end_the_connection() {
    let (listener, config) = listen().await;
    let mut source = Running::start(config);
    let mut peer = Peer::welcome(&listener).await;
    let large = publish(Some(1), &vec![b'x'; 2_000_000]);
    let no_topic = vec![0x30, 2, 0, 9];
    let bad_properties = vec![0x32, 6, 0, 1, b't', 0, 2, 9];
    let size = large.len() as u64;
    peer.send(&[large, no_topic, bad_properties.clone(), publish(Some(3), b"good")].concat()).await;
    let messages = source.messages(3).await;
    assert_eq!(messages[0].0.fault, Some(WireFault::TooLarge { size }));
    assert_eq!((&messages[0].0.topic[..], messages[0].0.pkid), (&b"t/x"[..], Some(1)));
    assert!(matches!(messages[1].0.fault, Some(WireFault::Malformed(_))));
    assert_eq!(messages[1].0.payload, bad_properties);
    assert_eq!(&messages[2].0.payload[..], b"good");
    release(&messages);
    for pkid in 1..=3 {
        assert_eq!(peer.frame().await, (0x40, vec![0, pkid]));
    }
    assert_eq!((source.status.too_large.get(), source.status.malformed.get()), (1, 2));
    assert!(source.status.details().failures.is_empty());
}

#[tokio::test]
async fn features_never_asked_for_are_named() {
    for (packet, code, words) in [
        (&[0x34, 6, 0, 1, b't', 0, 5, 0][..], 0x9b, "QoS 2"),
        (&[0x30, 7, 0, 1, b't', 3, 35, 0, 1], 0x94, "topic alias"),
        (&[0xf0, 2, 0, 0], 0x82, "AUTH"),
    ] {
        let (listener, config) = listen().await;
        let source = Running::start(config);
        let mut peer = Peer::welcome(&listener).await;
        peer.send(packet).await;
        assert_eq!(peer.frame().await, (0xe0, vec![code]));
        source
            .until("failure", |status| status.details().last_error.is_some_and(|why| why.contains(words)))
            .await;
    }
}

#[tokio::test]
async fn a_taken_over_session_says_which_client_id() {
    let (listener, config) = listen().await;
    let source = Running::start(config);
    let mut peer = Peer::welcome(&listener).await;
    // Brokers omit the properties if there are none.
    peer.send(&[0xe0, 1, 0x8e]).await;
    source.until("take-over", |status| status.details().failures.contains_key("session_taken_over")).await;
    let details = source.status.details();
    assert!(
        details.advice.unwrap().contains("another client uses client_id `fieldlog-test`: set `client_id`")
    );
}

#[tokio::test]
async fn a_refusal_waits_the_longest_and_says_what_to_do() {
    let (listener, mut config) = listen().await;
    config.backoff_max = Duration::from_secs(3600);
    let source = Running::start(config);
    let _peer = Peer::accept(&listener, &[0x20, 3, 0, 0x86, 0]).await;
    source.until("refusal", |status| status.details().failures.contains_key("not_authorized")).await;
    let State::BackingOff { until, why } = source.status.details().state else { panic!() };
    assert!(until.0 - Clock::system().wall().0 > 3500 * 1_000_000, "retries too soon");
    assert!(why.contains("`password_file`"), "{why}");
    source.stop().await;
}

#[tokio::test]
async fn the_same_end_three_times_is_a_pattern() {
    let (listener, config) = listen().await;
    let source = Running::start(config);
    for _ in 0..3 {
        assert_eq!(source.status.details().advice, None);
        drop(Peer::welcome(&listener).await);
    }
    source
        .until("advice", |status| status.details().advice.is_some_and(|text| text.contains("broker's log")))
        .await;
}

#[tokio::test]
async fn a_refused_filter_is_shown_and_the_others_go_on() {
    let (listener, mut config) = listen().await;
    config.rules = vec![rule("t/#"), rule("secret/+device")];
    let mut source = Running::start(config);
    let mut peer = Peer::accept(&listener, &CONNACK).await;
    assert_eq!(peer.frame().await.0, 0x82);
    peer.send(&[0x90, 5, 0, 1, 0, 1, 0x87]).await;
    peer.send(&publish(None, b"x")).await;
    source.messages(1).await;
    let details = source.status.details();
    assert_eq!(details.granted, [("t/#".to_owned(), 1)]);
    assert_eq!(details.refused[0].0, "secret/+");
}

#[tokio::test]
async fn a_clean_stop_acknowledges_what_is_stored_and_says_offline() {
    let (listener, mut config) = listen().await;
    let (topic, offline, online) = ("me".to_owned(), "offline".to_owned(), "online".to_owned());
    config.will = Some(WillConfig { topic, offline, online });
    let mut source = Running::start(config);
    let mut peer = Peer::welcome(&listener).await;
    assert_eq!(peer.frame().await, (0x31, b"\0\x02me\0online".to_vec()));
    peer.send(&publish(Some(9), b"x")).await;
    let messages = source.messages(1).await;
    source.stop.send(true).unwrap();
    release(&messages);
    assert_eq!(peer.frame().await, (0x40, vec![0, 9]));
    assert_eq!(peer.frame().await, (0x31, b"\0\x02me\0offline".to_vec()));
    assert_eq!(peer.frame().await, (0xe0, vec![]));
    peer.closed().await;
    timeout(PATIENCE, source.task).await.unwrap().unwrap().unwrap();
    assert_eq!(source.status.details().state, State::Stopped);
}

#[tokio::test]
async fn a_source_ends_with_its_writer() {
    let (listener, config) = listen().await;
    let mut source = Running::start(config);
    let mut peer = Peer::welcome(&listener).await;
    source.inbox.close();
    peer.send(&publish(Some(1), b"x")).await;
    assert_eq!(timeout(PATIENCE, source.task).await.unwrap().unwrap(), Err(InboxGone));
}

#[tokio::test]
async fn nobody_there_is_retried_and_stoppable() {
    let (listener, mut config) = listen().await;
    drop(listener);
    config.backoff_max = Duration::from_secs(3600);
    let source = Running::start(config);
    source.until("failure", |status| status.details().failures.contains_key("connect")).await;
    assert!(source.status.details().last_error.unwrap().contains("refused"));
    source.stop().await;
}

#[tokio::test]
async fn a_broker_that_never_answers_is_timed_out() {
    let (_listener, mut config) = listen().await;
    config.connect_timeout = Duration::from_millis(100);
    let source = Running::start(config);
    source.until("failure", |status| status.details().failures.contains_key("timeout")).await;
    source.stop().await;
}
