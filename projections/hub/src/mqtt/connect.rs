//! Connects to a broker, and says why it cannot in words that an operator can act on. The packets are rumqttc's; its client is
//! not used, as its TLS is that of an old rustls.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::v5::{
    Connect, ConnectProperties, ConnectReturnCode, DisconnectReasonCode, Filter, Login as Credentials,
    Packet, PingReq, PubAck, Publish, Subscribe, SubscribeReasonCode,
};
use rumqttc::v5::mqttbytes::{Error, QoS};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::AT_ONCE;
use crate::config::{Login, Mqtt, read_secret};
use crate::postgres::chain;
use crate::source::Ended;
use crate::tls;

/// For TCP, TLS and the broker's answers to CONNECT and SUBSCRIBE together; and for any write.
const PATIENCE: Duration = Duration::from_secs(10);
const KEEP_ALIVE_S: u16 = 30;
/// The largest packet; a broker drops what is larger.
const PACKET_BYTES_MAX: u32 = 64 << 20;
const SUBSCRIPTION: u16 = 1;

/// What carries the bytes.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A connection, subscribed; closed when dropped.
pub(super) struct Session {
    wire: Box<dyn Wire>,
    input: BytesMut,
    /// What has come before the answer to SUBSCRIBE: the session has it already.
    early: VecDeque<Publish>,
    heard: Instant,
    client_id: String,
}

/// What a connection is for.
pub(super) struct Role<'a> {
    pub(super) client_id: &'a str,
    /// How long the broker keeps the session when the connection has ended, in seconds; 0: not at all, nor is an older one used.
    pub(super) session_expiry_s: u32,
    /// What is subscribed to, and where it comes from in the configuration.
    pub(super) filter: &'a str,
    pub(super) of: &'static str,
}

impl Session {
    /// The next message.
    ///
    /// Nothing is lost if this is given up.
    pub(super) async fn next(&mut self) -> Result<Publish, Ended> {
        loop {
            if let Packet::Publish(publish) = self.next_packet().await? {
                return Ok(publish);
            }
        }
    }

    /// The next packet that is no end.
    ///
    /// Nothing is lost if this is given up.
    pub(super) async fn next_packet(&mut self) -> Result<Packet, Ended> {
        if let Some(early) = self.early.pop_front() {
            return Ok(Packet::Publish(early));
        }
        match self.heard().await? {
            Packet::Disconnect(end) if end.reason_code == DisconnectReasonCode::SessionTakenOver => {
                Err(self.ended(&"the session was taken over"))
            }
            Packet::Disconnect(end) => Err(self.ended(&format!("{:?}", end.reason_code))),
            packet => Ok(packet),
        }
    }

    /// Publishes a message.
    pub(super) async fn publish(&mut self, publish: Publish) -> Result<(), Ended> {
        self.write(Packet::Publish(publish)).await
    }

    /// Acknowledges a message.
    pub(super) async fn acknowledge(&mut self, publish: &Publish) -> Result<(), Ended> {
        match publish.qos {
            QoS::AtLeastOnce => self.write(Packet::PubAck(PubAck::new(publish.pkid, None))).await,
            _ => Ok(()),
        }
    }

    /// Gives a sign of life; fails if the broker gives none.
    pub(super) async fn beat(&mut self) -> Result<(), Ended> {
        if self.heard.elapsed() > Duration::from_secs(u64::from(KEEP_ALIVE_S)) {
            return Err(
                format!("the broker has said nothing for {} s", self.heard.elapsed().as_secs()).into()
            );
        }
        self.write(Packet::PingReq(PingReq)).await
    }

    async fn heard(&mut self) -> Result<Packet, Ended> {
        loop {
            match Packet::read(&mut self.input, Some(PACKET_BYTES_MAX)) {
                Ok(packet) => {
                    self.heard = Instant::now();
                    return Ok(packet);
                }
                Err(Error::InsufficientBytes(_)) => {}
                Err(error) => return Err(format!("the broker sends what is no MQTT 5: {error}").into()),
            }
            self.input.reserve(64 * 1024);
            if self.wire.read_buf(&mut self.input).await.map_err(|error| self.ended(&error))? == 0 {
                return Err(self.ended(&"closed"));
            }
        }
    }

    async fn write(&mut self, packet: Packet) -> Result<(), Ended> {
        let mut out = BytesMut::new();
        packet.write(&mut out, None)?;
        let written = timeout(PATIENCE, async {
            self.wire.write_all(&out).await?;
            self.wire.flush().await
        });
        let written =
            written.await.map_err(|_| format!("the broker takes nothing for {} s", PATIENCE.as_secs()))?;
        written.map_err(|error| self.ended(&error))
    }

    /// The end of a connection that was good. Not every broker says that the session was taken over.
    fn ended(&self, why: &dyn std::fmt::Display) -> Ended {
        format!(
            "the broker has ended the connection ({why}); if that repeats, another client connects with the id `{}`: give each \
             database of hubs its own `mqtt.client_id`",
            self.client_id
        )
        .into()
    }
}

/// When a sign of life is due.
pub(super) fn beat() -> Interval {
    let mut beat = interval(Duration::from_secs(u64::from(KEEP_ALIVE_S / 2)));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat
}

/// Connects, and subscribes; returns whether the broker has kept the session.
pub(super) async fn open(mqtt: &Mqtt, role: &Role<'_>) -> Result<(Session, bool), Ended> {
    let late = |_| format!("no answer within {} s: {}", PATIENCE.as_secs(), address(mqtt));
    timeout(PATIENCE, connect(mqtt, role)).await.map_err(late)?
}

async fn connect(mqtt: &Mqtt, role: &Role<'_>) -> Result<(Session, bool), Ended> {
    let mut session = Session {
        wire: wire(mqtt).await?,
        input: BytesMut::new(),
        early: VecDeque::new(),
        heard: Instant::now(),
        client_id: role.client_id.to_owned(),
    };
    session.write(hello(mqtt, role)?).await.map_err(|error| unwelcome(&*error, mqtt))?;
    let has_session = match session.heard().await.map_err(|error| unwelcome(&*error, mqtt))? {
        Packet::ConnAck(answer) if answer.code == ConnectReturnCode::Success => answer.session_present,
        Packet::ConnAck(answer) => return Err(refused(answer.code, mqtt).into()),
        _ => return Err(format!("it does not answer as a broker does: {}", address(mqtt)).into()),
    };
    let filter = Filter::new(role.filter, QoS::AtLeastOnce);
    session
        .write(Packet::Subscribe(Subscribe { pkid: SUBSCRIPTION, filters: vec![filter], properties: None }))
        .await?;
    loop {
        match session.heard().await? {
            Packet::SubAck(answer) => match answer.return_codes.first() {
                Some(SubscribeReasonCode::Success(QoS::AtMostOnce)) => {
                    return Err(
                        "the broker grants QoS 0 only, with which what it sends may be lost; use another broker".into()
                    );
                }
                Some(SubscribeReasonCode::Success(_)) => return Ok((session, has_session)),
                refusal => {
                    return Err(format!(
                        "the broker refuses the subscription to `{}` ({refusal:?}): allow this user to read there, or check {}",
                        role.filter, role.of
                    )
                    .into());
                }
            },
            Packet::Publish(publish) => session.early.push_back(publish),
            Packet::Disconnect(end) => return Err(session.ended(&format!("{:?}", end.reason_code))),
            _ => {}
        }
    }
}

/// TCP, and TLS if the address asks for it.
async fn wire(mqtt: &Mqtt) -> Result<Box<dyn Wire>, Ended> {
    let failed = |error: std::io::Error| -> Ended {
        let said = chain(&error);
        let hint = if said.contains("certificate") {
            "check `mqtt.ca_file`, and that the broker's certificate is for the host in `mqtt.address`"
                .to_owned()
        } else {
            address(mqtt)
        };
        format!("{hint} ({said})").into()
    };
    let stream = TcpStream::connect((&*mqtt.host, mqtt.port)).await.map_err(failed)?;
    stream.set_nodelay(true)?;
    if !mqtt.tls {
        return Ok(Box::new(stream));
    }
    let connector = TlsConnector::from(tls::client_config(mqtt.ca_file.as_deref())?);
    let host = ServerName::try_from(mqtt.host.clone())?;
    Ok(Box::new(connector.connect(host, stream).await.map_err(failed)?))
}

fn hello(mqtt: &Mqtt, role: &Role<'_>) -> Result<Packet, Ended> {
    let login = match &mqtt.login {
        Some(Login { username, password_file }) => {
            Some(Credentials { username: username.clone(), password: read_secret(password_file)? })
        }
        None => None,
    };
    let properties = ConnectProperties {
        session_expiry_interval: Some(role.session_expiry_s),
        receive_maximum: Some(AT_ONCE),
        max_packet_size: Some(PACKET_BYTES_MAX),
        ..ConnectProperties::new()
    };
    let connect = Connect {
        keep_alive: KEEP_ALIVE_S,
        client_id: role.client_id.to_owned(),
        clean_start: role.session_expiry_s == 0,
        properties: Some(properties),
    };
    Ok(Packet::Connect(connect, None, login))
}

fn address(mqtt: &Mqtt) -> String {
    let or =
        if mqtt.tls { "; or is it a port without TLS?" } else { "; or is it a port with TLS (mqtts://)?" };
    format!("check `mqtt.address`, that the broker runs, and that the firewall allows the connection{or}")
}

/// A port with TLS answers CONNECT by hanging up, or with an alert.
fn unwelcome(error: &(dyn std::error::Error + Send + Sync + 'static), mqtt: &Mqtt) -> Ended {
    format!("{} ({error})", address(mqtt)).into()
}

/// Why a broker refuses the connection, and what to do about it.
fn refused(code: ConnectReturnCode, mqtt: &Mqtt) -> String {
    use ConnectReturnCode::{
        BadClientId, BadUserNamePassword, ClientIdentifierNotValid, NotAuthorized, RefusedProtocolVersion,
        UnsupportedProtocolVersion,
    };
    let hint = match code {
        BadUserNamePassword | NotAuthorized => {
            "the broker does not take the user: check `mqtt.username` and `password_file`, or give both"
                .to_owned()
        }
        RefusedProtocolVersion | UnsupportedProtocolVersion => {
            "the broker does not speak MQTT 5, which is needed; use another broker".to_owned()
        }
        BadClientId | ClientIdentifierNotValid => {
            format!("the broker does not take the id `{}`: choose another `mqtt.client_id`", mqtt.client_id)
        }
        _ => "the broker refuses the connection".to_owned(),
    };
    format!("{hint} ({code:?})")
}
