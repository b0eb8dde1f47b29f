//! Parcels over MQTT 5, QoS 1, with a session that the broker keeps. A message is acknowledged after its lines are
//! written. The gateway already has the broker's acknowledgement by then, so a parcel with a different history can only
//! be reported.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, Publish};
use rumqttc::v5::{AsyncClient, Event, EventLoop};
use tokio::sync::{mpsc, watch};

use super::{AcceptError, Receiver};

/// Maximum unacknowledged messages from the broker, also the number that wait here at most: if a broker sends more
/// (mosquitto 2.0.11 does), the rest waits in the connection.
const WINDOW: u16 = 32;
/// Maximum requests waiting for the connection: an acknowledgement for every packet identifier, and a few more. A
/// request without room would be lost, and the broker would wait for it until the connection ends.
const REQUESTS_MAX: usize = u16::MAX as usize + 16;
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How long the broker keeps the session of an absent receiver, in seconds.
const SESSION_EXPIRY: u32 = 7 * 24 * 60 * 60;
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How long a stop waits for the acknowledgements of written messages.
const FAREWELL: Duration = Duration::from_secs(2);

/// The broker and the subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MqttOptions {
    /// Host of the broker.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// User name and password.
    pub login: Option<(String, String)>,
    /// Topic filters.
    pub topics: Vec<String>,
    /// The client id; the broker keeps a session under it.
    pub client_id: String,
}

impl MqttOptions {
    /// From `mqtt://[user:password@]host[:port]`.
    ///
    /// # Errors
    /// In words.
    pub fn parse(address: &str, topics: Vec<String>, client_id: &str) -> Result<MqttOptions, String> {
        let Some(rest) = address.strip_prefix("mqtt://") else {
            return Err(format!("`{address}` must begin with mqtt://; the receiver speaks MQTT without TLS"));
        };
        let rest = rest.trim_end_matches('/');
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login.split_once(':').unwrap_or((login, ""))), place),
            None => (None, rest),
        };
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| format!("`{port}` is not a port"))?)
            }
            _ => (place, 1883),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(format!("`{address}` names no host"));
        }
        Ok(MqttOptions {
            host: host.to_owned(),
            port,
            login: login.map(|(user, password)| (user.to_owned(), password.to_owned())),
            topics,
            client_id: client_id.to_owned(),
        })
    }

    fn client(&self, bytes_max: usize) -> (AsyncClient, EventLoop) {
        let mut options = rumqttc::v5::MqttOptions::new(&self.client_id, &self.host, self.port);
        options.set_clean_start(false);
        options.set_session_expiry_interval(Some(SESSION_EXPIRY));
        options.set_receive_maximum(Some(WINDOW));
        options.set_max_packet_size(Some(u32::try_from(bytes_max).unwrap_or(u32::MAX)));
        options.set_keep_alive(KEEP_ALIVE);
        options.set_manual_acks(true);
        if let Some((user, password)) = &self.login {
            options.set_credentials(user, password);
        }
        AsyncClient::new(options, REQUESTS_MAX)
    }
}

/// A message with its connection. On another connection its acknowledgement would be for another message.
struct Letter {
    publish: Publish,
    client: AsyncClient,
}

/// Receives until `stopped`, reconnecting as needed.
pub(super) async fn serve(
    options: MqttOptions,
    receiver: Arc<Receiver>,
    bytes_max: usize,
    mut stopped: watch::Receiver<bool>,
) {
    let (letters, mut inbox) = mpsc::channel(usize::from(WINDOW));
    let worker = tokio::task::spawn_blocking(move || work(&mut inbox, &receiver));
    let mut retry = RETRY_MIN;
    let last = loop {
        let (client, mut events) = options.client(bytes_max);
        let why = tokio::select! {
            why = converse(&options, &client, &mut events, &letters, &mut retry) => why,
            _ = stopped.wait_for(|stop| *stop) => break Some((client, events)),
        };
        tracing::warn!(
            "MQTT {}:{}: {why}; trying again in {} ms",
            options.host,
            options.port,
            retry.as_millis()
        );
        tokio::select! {
            () = tokio::time::sleep(retry) => {}
            _ = stopped.wait_for(|stop| *stop) => break None,
        }
        retry = (retry * 2).min(RETRY_MAX);
    };
    // The worker ends when it has written, and acknowledged, what it has.
    drop(letters);
    let _ = worker.await;
    if let Some((client, events)) = last {
        farewell(&client, events).await;
    }
}

/// One connection, to its end; returns why it ended.
async fn converse(
    options: &MqttOptions,
    client: &AsyncClient,
    events: &mut EventLoop,
    letters: &mpsc::Sender<Letter>,
    retry: &mut Duration,
) -> String {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                *retry = RETRY_MIN;
                for topic in &options.topics {
                    if let Err(error) = client.try_subscribe(topic, QoS::AtLeastOnce) {
                        return format!("cannot subscribe to {topic}: {error}");
                    }
                }
            }
            Ok(Event::Incoming(Packet::SubAck(answer))) => {
                use rumqttc::v5::mqttbytes::v5::SubscribeReasonCode::Success;
                if answer.return_codes.iter().any(|code| !matches!(code, Success(_))) {
                    return format!("the broker refuses the subscription: {:?}", answer.return_codes);
                }
                tracing::info!("MQTT {}:{}: subscribed", options.host, options.port);
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                if letters.send(Letter { publish, client: client.clone() }).await.is_err() {
                    // The worker has failed; the receiver is about to stop.
                    return std::future::pending().await;
                }
            }
            Ok(_) => {}
            Err(error) => return error.to_string(),
        }
    }
}

/// Writes and acknowledges messages, in order.
fn work(inbox: &mut mpsc::Receiver<Letter>, receiver: &Receiver) {
    while let Some(Letter { publish, client }) = inbox.blocking_recv() {
        let properties = publish.properties.as_ref().map(|properties| &properties.user_properties[..]);
        let fields: HashMap<&str, &str> = properties.unwrap_or_default().iter().filter_map(field).collect();
        match receiver.accept(&publish.payload, |name| fields.get(name).copied()) {
            Ok(()) => {}
            // Not acknowledged, so it is sent again.
            Err(AcceptError::Store) => return,
            Err(error) => {
                // Otherwise it would be sent again for ever; it is counted and stays in the report.
                let topic = String::from_utf8_lossy(&publish.topic);
                tracing::warn!("a message on {topic} was not accepted: {error}");
            }
        }
        // Fails if the connection is gone; the broker then sends the message again.
        let _ = client.try_ack(&publish);
    }
}

/// A field of a manifest, from a user property.
fn field((name, value): &(String, String)) -> Option<(&str, &str)> {
    Some((name.strip_prefix("fieldlog-")?, value))
}

/// Sends the last acknowledgements and disconnects. Messages that arrive meanwhile are not acknowledged, and are sent
/// again.
async fn farewell(client: &AsyncClient, mut events: EventLoop) {
    if client.try_disconnect().is_err() {
        return;
    }
    let gone = async {
        loop {
            match events.poll().await {
                Ok(Event::Outgoing(rumqttc::Outgoing::Disconnect)) | Err(_) => break,
                Ok(_) => {}
            }
        }
    };
    let _ = tokio::time::timeout(FAREWELL, gone).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |address: &str, host: &str, port: u16, login: Option<(&str, &str)>| {
            let options = MqttOptions::parse(address, vec![], "x").unwrap();
            let found = options.login.as_ref().map(|(user, password)| (&user[..], &password[..]));
            assert_eq!((&options.host[..], options.port, found), (host, port, login));
        };
        check("mqtt://broker", "broker", 1883, None);
        check("mqtt://127.0.0.1:18830/", "127.0.0.1", 18830, None);
        check("mqtt://[::1]:1884", "::1", 1884, None);
        check("mqtt://[::1]", "::1", 1883, None);
        check("mqtt://u:p@ss@h:1", "h", 1, Some(("u", "p@ss")));
        for bad in ["mqtts://h", "h:1883", "mqtt://", "mqtt://h:x"] {
            assert!(MqttOptions::parse(bad, vec![], "x").is_err(), "{bad}");
        }
    }
}
