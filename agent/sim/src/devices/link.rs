//! One MQTT connection of one device. A link is not reused after an error: the driver opens a new one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rumqttc::{Outgoing, v5};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::device::{Protocol, Publication, Session};

/// Maximum requests between a device and its poller. A birth with its retained states may fill it; the device then
/// waits.
const REQUESTS_MAX: usize = 64;
/// Unacknowledged QoS 1 publications; firmware has a handful, a bridge a few dozen.
const INFLIGHT_MAX: u16 = 64;
/// Maximum messages to a device that wait for it; more are dropped, as by small devices.
const HEARD_MAX: usize = 64;
/// TCP and CONNACK together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that the broker has accepted.
#[derive(Debug)]
pub struct Link {
    client: Client,
    heard: mpsc::Receiver<Heard>,
    poller: JoinHandle<LinkError>,
}

/// A message to the device.
#[derive(Debug)]
pub struct Heard {
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload: Vec<u8>,
}

#[derive(Debug)]
enum Client {
    V4(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

impl Link {
    /// Connects; returns once the broker has accepted. Every publication written to the socket is counted in
    /// `published`.
    pub async fn open(
        session: &Session,
        broker: SocketAddr,
        published: Arc<AtomicU64>,
    ) -> Result<Link, LinkError> {
        let (accepted, connack) = oneshot::channel();
        let (hears, heard) = mpsc::channel(HEARD_MAX);
        // The poller is a separate task because the event loop must not be dropped in the middle of a write, as it
        // would be in a `select!`.
        let mut link = match session.protocol {
            Protocol::V4 => {
                let (client, events) = rumqttc::AsyncClient::new(options_v4(session, broker), REQUESTS_MAX);
                let poller = tokio::spawn(poll_v4(events, accepted, hears, published));
                Link { client: Client::V4(client), heard, poller }
            }
            Protocol::V5 => {
                let (client, events) = v5::AsyncClient::new(options_v5(session, broker), REQUESTS_MAX);
                let poller = tokio::spawn(poll_v5(events, accepted, hears, published));
                Link { client: Client::V5(client), heard, poller }
            }
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, connack).await {
            Ok(Ok(())) => Ok(link),
            Ok(Err(_)) => Err(link.lost().await),
            Err(_) => Err(LinkError::NoConnack),
        }
    }

    /// Passes a publication to the connection; waits while the broker is slow.
    pub async fn publish(&self, publication: Publication) -> Result<(), LinkError> {
        let Publication { topic, payload, at_least_once, retain } = publication;
        let sent = match &self.client {
            Client::V4(client) => client.publish(topic, qos_v4(at_least_once), retain, payload).await.is_ok(),
            Client::V5(client) => client.publish(topic, qos_v5(at_least_once), retain, payload).await.is_ok(),
        };
        if sent { Ok(()) } else { Err(LinkError::Closed) }
    }

    /// Subscribes to topics and filters, at QoS 1.
    pub async fn subscribe(&self, filters: Vec<String>) -> Result<(), LinkError> {
        let sent = match &self.client {
            Client::V4(client) => {
                let filter = |path| rumqttc::SubscribeFilter::new(path, qos_v4(true));
                client.subscribe_many(filters.into_iter().map(filter)).await.is_ok()
            }
            Client::V5(client) => {
                let filter = |path| v5::mqttbytes::v5::Filter::new(path, qos_v5(true));
                client.subscribe_many(filters.into_iter().map(filter)).await.is_ok()
            }
        };
        if sent { Ok(()) } else { Err(LinkError::Closed) }
    }

    /// The next message to the device, or why the connection was lost. Must not be called again after an error.
    pub async fn next(&mut self) -> Result<Heard, LinkError> {
        match self.heard.recv().await {
            Some(heard) => Ok(heard),
            None => Err(self.lost().await),
        }
    }

    /// Returns when the connection is lost, with the reason. May complete only once.
    async fn lost(&mut self) -> LinkError {
        (&mut self.poller).await.unwrap_or(LinkError::Closed)
    }

    /// Sends what is queued and a DISCONNECT, so that the will is not published.
    pub async fn close(mut self) {
        let asked = match &self.client {
            Client::V4(client) => client.disconnect().await.is_ok(),
            Client::V5(client) => client.disconnect().await.is_ok(),
        };
        if asked {
            self.lost().await;
        }
    }
}

/// Dropping a link cuts the connection without a DISCONNECT, so the will is published.
impl Drop for Link {
    fn drop(&mut self) {
        self.poller.abort();
    }
}

fn options_v4(session: &Session, broker: SocketAddr) -> rumqttc::MqttOptions {
    let mut options = rumqttc::MqttOptions::new(&session.client_id, broker.ip().to_string(), broker.port());
    let will = &session.will;
    options
        .set_keep_alive(Duration::from_secs(session.keep_alive_s))
        .set_inflight(INFLIGHT_MAX)
        .set_last_will(rumqttc::LastWill::new(
            &will.topic,
            will.payload.as_slice(),
            qos_v4(will.at_least_once),
            will.retain,
        ));
    options
}

fn options_v5(session: &Session, broker: SocketAddr) -> v5::MqttOptions {
    let mut options = v5::MqttOptions::new(&session.client_id, broker.ip().to_string(), broker.port());
    let will = &session.will;
    let qos = qos_v5(will.at_least_once);
    options
        .set_keep_alive(Duration::from_secs(session.keep_alive_s))
        .set_outgoing_inflight_upper_limit(INFLIGHT_MAX)
        .set_last_will(v5::mqttbytes::v5::LastWill::new(
            &will.topic,
            will.payload.as_slice(),
            qos,
            will.retain,
            None,
        ));
    options
}

const fn qos_v4(at_least_once: bool) -> rumqttc::QoS {
    if at_least_once { rumqttc::QoS::AtLeastOnce } else { rumqttc::QoS::AtMostOnce }
}

const fn qos_v5(at_least_once: bool) -> v5::mqttbytes::QoS {
    if at_least_once { v5::mqttbytes::QoS::AtLeastOnce } else { v5::mqttbytes::QoS::AtMostOnce }
}

async fn poll_v4(
    mut events: rumqttc::EventLoop,
    accepted: oneshot::Sender<()>,
    hears: mpsc::Sender<Heard>,
    published: Arc<AtomicU64>,
) -> LinkError {
    let mut accepted = Some(accepted);
    loop {
        match events.poll().await {
            Ok(rumqttc::Event::Incoming(rumqttc::Packet::ConnAck(_))) => {
                accepted.take().map(|sender| sender.send(()));
            }
            Ok(rumqttc::Event::Incoming(rumqttc::Packet::Publish(message))) => {
                let _ = hears.try_send(Heard { topic: message.topic, payload: message.payload.to_vec() });
            }
            Ok(rumqttc::Event::Outgoing(sent)) if is_last(&sent, &published) => return LinkError::Closed,
            Ok(_) => {}
            Err(error) => return LinkError::V4(Box::new(error)),
        }
    }
}

async fn poll_v5(
    mut events: v5::EventLoop,
    accepted: oneshot::Sender<()>,
    hears: mpsc::Sender<Heard>,
    published: Arc<AtomicU64>,
) -> LinkError {
    let mut accepted = Some(accepted);
    loop {
        match events.poll().await {
            Ok(v5::Event::Incoming(v5::mqttbytes::v5::Packet::ConnAck(_))) => {
                accepted.take().map(|sender| sender.send(()));
            }
            Ok(v5::Event::Incoming(v5::mqttbytes::v5::Packet::Publish(message))) => {
                let topic = String::from_utf8_lossy(&message.topic).into_owned();
                let _ = hears.try_send(Heard { topic, payload: message.payload.to_vec() });
            }
            Ok(v5::Event::Outgoing(sent)) if is_last(&sent, &published) => return LinkError::Closed,
            Ok(_) => {}
            Err(error) => return LinkError::V5(Box::new(error)),
        }
    }
}

/// Counts publications; `true` for the last packet.
fn is_last(sent: &Outgoing, published: &AtomicU64) -> bool {
    if matches!(sent, Outgoing::Publish(_)) {
        published.fetch_add(1, Ordering::Relaxed);
    }
    matches!(sent, Outgoing::Disconnect)
}

/// Why a connection ended or failed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Closed by this side.
    #[error("the connection was closed")]
    Closed,
    /// The broker did not answer in time.
    #[error("no CONNACK within {} s", CONNECT_TIMEOUT.as_secs())]
    NoConnack,
    /// From the MQTT 3.1.1 client.
    #[error("MQTT 3.1.1 connection")]
    V4(#[source] Box<rumqttc::ConnectionError>),
    /// From the MQTT 5 client.
    #[error("MQTT 5 connection")]
    V5(#[source] Box<v5::ConnectionError>),
}
