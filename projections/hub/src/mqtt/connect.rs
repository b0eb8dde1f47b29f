//! Connects to a broker, and says why it cannot in words that an operator can act on.

use std::collections::VecDeque;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, Packet, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, StateError};
use rumqttc::{TlsConfiguration, Transport};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::AT_ONCE;
use crate::config::{Login, Mqtt, read_secret};
use crate::postgres::chain;
use crate::source::Ended;
use crate::tls;

/// For TCP, TLS and the broker's answers to CONNECT and SUBSCRIBE together.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// The largest message; a broker drops what is larger.
const PACKET_BYTES_MAX: u32 = 64 << 20;

/// A connection, subscribed; closed when dropped.
pub(super) struct Session {
    pub(super) client: AsyncClient,
    /// What has come before the answer to SUBSCRIBE: the session has it already.
    early: VecDeque<Packet>,
    packets: mpsc::Receiver<Result<Packet, Ended>>,
    driver: AbortHandle,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Session {
    /// What the broker says next.
    pub(super) async fn next(&mut self) -> Result<Packet, Ended> {
        match self.early.pop_front() {
            Some(early) => Ok(early),
            None => self.heard().await,
        }
    }

    async fn heard(&mut self) -> Result<Packet, Ended> {
        self.packets.recv().await.unwrap_or_else(|| Err("the connection has ended".into()))
    }
}

/// Connects, and subscribes.
pub(super) async fn open(mqtt: &Mqtt, name: &str) -> Result<Session, Ended> {
    let (client, events) = AsyncClient::new(options(mqtt)?, usize::from(AT_ONCE));
    // Never full: the broker waits for acknowledgements first.
    let (to, packets) = mpsc::channel(2 * usize::from(AT_ONCE) + 8);
    let driver = tokio::spawn(drive(events, mqtt.clone(), to)).abort_handle();
    let mut session = Session { client, early: VecDeque::new(), packets, driver };
    let late = |_| format!("no answer within {} s: {}", OPEN_TIMEOUT.as_secs(), address(mqtt));
    timeout(OPEN_TIMEOUT, subscribe(&mut session, mqtt, name)).await.map_err(late)??;
    Ok(session)
}

fn options(mqtt: &Mqtt) -> Result<MqttOptions, Ended> {
    let mut options = MqttOptions::new(&mqtt.client_id, &mqtt.host, mqtt.port);
    options
        .set_keep_alive(KEEP_ALIVE)
        .set_clean_start(false)
        .set_session_expiry_interval(Some(mqtt.session_expiry_s))
        .set_receive_maximum(Some(AT_ONCE))
        .set_max_packet_size(Some(PACKET_BYTES_MAX))
        .set_manual_acks(true)
        .set_connection_timeout(OPEN_TIMEOUT.as_secs());
    if let Some(Login { username, password_file }) = &mqtt.login {
        options.set_credentials(username, read_secret(password_file)?);
    }
    if mqtt.tls {
        let config = tls::client_config(mqtt.ca_file.as_deref())?;
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(config)));
    }
    Ok(options)
}

/// Keeps the connection going in a task of its own, as none of its steps may be cut short.
async fn drive(mut events: EventLoop, mqtt: Mqtt, to: mpsc::Sender<Result<Packet, Ended>>) {
    let mut was_welcome = false;
    loop {
        let packet = match events.poll().await {
            Ok(Event::Incoming(packet)) => {
                was_welcome |= matches!(packet, Packet::ConnAck(_));
                Ok(packet)
            }
            Ok(Event::Outgoing(_)) => continue,
            Err(error) => Err(words(&error, &mqtt, was_welcome).into()),
        };
        let is_over = packet.is_err();
        if to.send(packet).await.is_err() || is_over {
            return;
        }
    }
}

async fn subscribe(session: &mut Session, mqtt: &Mqtt, name: &str) -> Result<(), Ended> {
    session.client.subscribe(&mqtt.filter, QoS::AtLeastOnce).await?;
    let mut has_session = false;
    loop {
        match session.heard().await? {
            Packet::ConnAck(answer) => has_session = answer.session_present,
            Packet::SubAck(answer) => match answer.return_codes.first() {
                Some(SubscribeReasonCode::Success(QoS::AtMostOnce)) => {
                    return Err(
                        "the broker grants QoS 0 only, with which what it sends may be lost; use another broker".into()
                    );
                }
                Some(SubscribeReasonCode::Success(_)) => break,
                refusal => {
                    return Err(format!(
                        "the broker refuses the subscription to `{}` ({refusal:?}): allow this user to read there, or check \
                         `mqtt.topic`",
                        mqtt.filter
                    )
                    .into());
                }
            },
            early @ Packet::Publish(_) => session.early.push_back(early),
            _ => {}
        }
    }
    if has_session {
        tracing::info!("{name}: this hub reads it, from where the last one was");
    } else {
        tracing::info!(
            "{name}: this hub reads it with a new session; what gateways have sent before does not come here"
        );
    }
    Ok(())
}

fn address(mqtt: &Mqtt) -> String {
    let or =
        if mqtt.tls { "; or is it a port without TLS?" } else { "; or is it a port with TLS (mqtts://)?" };
    format!("check `mqtt.address`, that the broker runs, and that the firewall allows the connection{or}")
}

/// Why there is no connection, or no longer, and what to do about it.
fn words(error: &ConnectionError, mqtt: &Mqtt, was_welcome: bool) -> String {
    use ConnectReturnCode::{
        BadClientId, BadUserNamePassword, ClientIdentifierNotValid, NotAuthorized, RefusedProtocolVersion,
        UnsupportedProtocolVersion,
    };
    let said = chain(error);
    let hint = match error {
        ConnectionError::ConnectionRefused(code)
        | ConnectionError::MqttState(StateError::ConnFail { reason: code }) => match code {
            BadUserNamePassword | NotAuthorized => {
                "the broker does not take the user: check `mqtt.username` and `password_file`, or give both"
                    .into()
            }
            RefusedProtocolVersion | UnsupportedProtocolVersion => {
                "the broker does not speak MQTT 5, which is needed; use another broker".into()
            }
            BadClientId | ClientIdentifierNotValid => {
                format!(
                    "the broker does not take the id `{}`: choose another `mqtt.client_id`",
                    mqtt.client_id
                )
            }
            _ => "the broker refuses the connection".into(),
        },
        ConnectionError::Tls(_) if said.contains("certificate") => {
            "check `mqtt.ca_file`, and that the broker's certificate is for the host in `mqtt.address`".into()
        }
        // A port with TLS answers CONNECT by hanging up, or with an alert.
        _ if !was_welcome => address(mqtt),
        // Not every broker says that the session was taken over.
        _ => format!(
            "the broker has ended the connection; if that repeats, another client connects with the id `{}`: give each database \
             of hubs its own `mqtt.client_id`",
            mqtt.client_id
        ),
    };
    format!("{hint} ({said})")
}
