//! A client under full control of the test: it sends and receives single MQTT 5 packets.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use fieldlog_sim::broker::{Broker, Options, Stats};
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, Connect, ConnectProperties, ConnectReturnCode, DisconnectReasonCode, Filter, LastWill, Login,
    Packet, PubAck, Publish, PublishProperties, Subscribe, SubscribeProperties, SubscribeReasonCode,
};
use rumqttc::v5::mqttbytes::{Error, QoS};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Long enough for a busy machine; reached only on a failure.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How long to wait for the absence of messages.
pub const QUIET: Duration = Duration::from_millis(150);

pub async fn broker(options: Options) -> Broker {
    Broker::bind("127.0.0.1:0", options).await.unwrap()
}

/// Waits until the counters are as wanted.
pub async fn until(broker: &Broker, wanted: impl Fn(&Stats) -> bool) {
    let reached = async {
        while !wanted(&broker.stats()) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, reached).await.is_err() {
        panic!("not reached: {:?}", broker.stats());
    }
}

/// Waits until a client's connection is gone for the broker.
pub async fn until_detached(broker: &Broker, client_id: &str) {
    let gone = async {
        while broker.session(client_id).is_some_and(|session| session.connected) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}

/// The content of CONNECT.
pub struct Hello {
    pub connect: Connect,
    pub will: Option<LastWill>,
    pub login: Option<Login>,
}

impl Hello {
    /// A clean session that ends with its connection.
    pub fn clean(client_id: &str) -> Hello {
        let properties = Some(ConnectProperties::new());
        let connect =
            Connect { keep_alive: 60, client_id: client_id.to_owned(), clean_start: true, properties };
        Hello { connect, will: None, login: None }
    }

    /// A session that is resumed and outlives its connection.
    pub fn lasting(client_id: &str) -> Hello {
        let mut hello =
            Hello::clean(client_id).with(|properties| properties.session_expiry_interval = Some(3600));
        hello.connect.clean_start = false;
        hello
    }

    pub fn with(mut self, set: impl FnOnce(&mut ConnectProperties)) -> Hello {
        set(self.connect.properties.as_mut().unwrap());
        self
    }

    pub fn will(self, will: LastWill) -> Hello {
        Hello { will: Some(will), ..self }
    }

    pub fn login(self, username: &str, password: &str) -> Hello {
        Hello { login: Some(Login::new(username, password)), ..self }
    }
}

pub struct Raw {
    stream: TcpStream,
    input: BytesMut,
}

impl Raw {
    pub async fn open(addr: SocketAddr) -> Raw {
        Raw { stream: TcpStream::connect(addr).await.unwrap(), input: BytesMut::new() }
    }

    /// Sends CONNECT and returns the answer.
    pub async fn hello(addr: SocketAddr, hello: Hello) -> (Raw, ConnAck) {
        let mut raw = Raw::open(addr).await;
        raw.send(Packet::Connect(hello.connect, hello.will, hello.login)).await;
        match raw.receive().await {
            Some(Packet::ConnAck(ack)) => (raw, ack),
            other => panic!("instead of CONNACK: {other:?}"),
        }
    }

    /// Connects and is accepted.
    pub async fn connect(broker: &Broker, hello: Hello) -> Raw {
        Raw::connect_present(broker, hello).await.0
    }

    /// Connects; says whether the session was present.
    pub async fn connect_present(broker: &Broker, hello: Hello) -> (Raw, bool) {
        let (raw, ack) = Raw::hello(broker.local_addr(), hello).await;
        assert_eq!(ack.code, ConnectReturnCode::Success);
        (raw, ack.session_present)
    }

    pub async fn send(&mut self, packet: Packet) {
        let mut out = BytesMut::new();
        packet.write(&mut out, None).unwrap();
        self.send_bytes(&out).await;
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next packet; `None` at the end of the connection.
    pub async fn receive(&mut self) -> Option<Packet> {
        tokio::time::timeout(PATIENCE, self.next()).await.expect("nothing came")
    }

    async fn next(&mut self) -> Option<Packet> {
        loop {
            match Packet::read(&mut self.input, None) {
                Ok(packet) => return Some(packet),
                Err(Error::InsufficientBytes(_)) => {}
                Err(error) => panic!("{error}"),
            }
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Everything until the end of the connection, as bytes.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut rest = self.input.split().to_vec();
        let _ = tokio::time::timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await.expect("still open");
        rest
    }

    /// Checks that nothing arrives for a while.
    pub async fn expect_quiet(&mut self) {
        if let Ok(packet) = tokio::time::timeout(QUIET, self.next()).await {
            panic!("instead of silence: {packet:?}");
        }
    }

    pub async fn publish(&mut self) -> Publish {
        match self.receive().await {
            Some(Packet::Publish(publish)) => publish,
            other => panic!("instead of PUBLISH: {other:?}"),
        }
    }

    /// The next `n` PUBLISHes as (packet identifier, DUP, payload).
    pub async fn publishes(&mut self, n: usize) -> Vec<(u16, bool, String)> {
        let mut publishes = Vec::new();
        for _ in 0..n {
            let publish = self.publish().await;
            let payload = String::from_utf8(publish.payload.to_vec()).unwrap();
            publishes.push((publish.pkid, publish.dup, payload));
        }
        publishes
    }

    pub async fn payloads(&mut self, n: usize) -> Vec<String> {
        self.publishes(n).await.into_iter().map(|(_, _, payload)| payload).collect()
    }

    pub async fn ack(&mut self, pkid: u16) {
        self.send(Packet::PubAck(PubAck::new(pkid, None))).await;
    }

    pub async fn disconnected(&mut self) -> DisconnectReasonCode {
        match self.receive().await {
            Some(Packet::Disconnect(disconnect)) => disconnect.reason_code,
            other => panic!("instead of DISCONNECT: {other:?}"),
        }
    }

    pub async fn subscribe_all(
        &mut self,
        filters: Vec<Filter>,
        id: Option<usize>,
    ) -> Vec<SubscribeReasonCode> {
        let properties = Some(SubscribeProperties { id, user_properties: Vec::new() });
        let mut subscribe = Subscribe::new_many(filters, properties);
        subscribe.pkid = 9;
        self.send(Packet::Subscribe(subscribe)).await;
        match self.receive().await {
            Some(Packet::SubAck(ack)) => {
                assert_eq!(ack.pkid, 9);
                ack.return_codes
            }
            other => panic!("instead of SUBACK: {other:?}"),
        }
    }

    /// Subscribes with QoS 1.
    pub async fn subscribe(&mut self, path: &str) {
        let codes = self.subscribe_all(vec![Filter::new(path, QoS::AtLeastOnce)], None).await;
        assert_eq!(codes, [SubscribeReasonCode::Success(QoS::AtLeastOnce)]);
    }

    /// Publishes with QoS 1 and waits for the PUBACK.
    pub async fn publish_with(&mut self, topic: &str, payload: &str, properties: Option<PublishProperties>) {
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload.to_owned(), properties);
        publish.pkid = 77;
        self.send(Packet::Publish(publish)).await;
        match self.receive().await {
            Some(Packet::PubAck(ack)) => assert_eq!(ack.pkid, 77),
            other => panic!("instead of PUBACK: {other:?}"),
        }
    }
}
