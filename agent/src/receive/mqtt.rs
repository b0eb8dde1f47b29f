//! Parcels over MQTT 5, QoS 1, with a session that the broker keeps. A message is acknowledged after its lines are written.
//! The gateway has the broker's acknowledgement by then: a parcel of another history can only be reported.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, Publish};
use rumqttc::v5::{AsyncClient, Event, EventLoop};
use tokio::sync::{mpsc, watch};

use super::{Receiver, TakeError};

/// Unacknowledged messages that the broker may send. As many wait here at most: of a broker that sends more (mosquitto
/// 2.0.11 does) the rest waits in the connection.
const WINDOW: u16 = 32;
/// Requests that may wait for the connection: an acknowledgement for every packet identifier there is, and a few more. One
/// that found no place would be lost, and the broker would wait for it as long as the connection lasts.
const REQUESTS_MAX: usize = u16::MAX as usize + 16;
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How long the broker keeps the session of a receiver that is away, in seconds.
const SESSION_EXPIRY: u32 = 7 * 24 * 60 * 60;
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How long a stop waits until what was written is acknowledged.
const FAREWELL: Duration = Duration::from_secs(2);

/// Where and what to subscribe.
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
    /// Who we are to the broker, which keeps a session under that name.
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

/// A message, and the connection that its acknowledgement belongs to. On another one it would be for another message.
struct Letter {
    publish: Publish,
    client: AsyncClient,
}

/// Receives until `stopped`, over as many connections as it takes.
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
    // The worker ends when it has written, and asked to acknowledge, what it has.
    drop(letters);
    let _ = worker.await;
    if let Some((client, events)) = last {
        farewell(&client, events).await;
    }
}

/// One connection, to its end; says why it ended.
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
                    // The worker has given up; the receiver is about to stop.
                    return std::future::pending().await;
                }
            }
            Ok(_) => {}
            Err(error) => return error.to_string(),
        }
    }
}

/// Writes what arrives and acknowledges it, in order.
fn work(inbox: &mut mpsc::Receiver<Letter>, receiver: &Receiver) {
    while let Some(Letter { publish, client }) = inbox.blocking_recv() {
        let properties = publish.properties.as_ref().map(|properties| &properties.user_properties[..]);
        let fields: HashMap<&str, &str> = properties.unwrap_or_default().iter().filter_map(field).collect();
        match receiver.take(&publish.payload, |name| fields.get(name).copied()) {
            Ok(()) => {}
            // Not acknowledged: it comes again.
            Err(TakeError::Store) => return,
            Err(error) => {
                // It would come again for ever; it is counted and stays in the report.
                let topic = String::from_utf8_lossy(&publish.topic);
                tracing::warn!("a message on {topic} was not accepted: {error}");
            }
        }
        // Fails if the connection is gone; then the broker sends the message again.
        let _ = client.try_ack(&publish);
    }
}

/// A field of a manifest, from a user property.
fn field((name, value): &(String, String)) -> Option<(&str, &str)> {
    Some((name.strip_prefix("fieldlog-")?, value))
}

/// Lets the last acknowledgements go and says good-bye. What arrives meanwhile is not acknowledged, and comes again.
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
