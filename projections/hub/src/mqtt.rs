//! Parcels from an MQTT broker. One process reads a broker, over a session that the broker keeps: what comes while nobody
//! reads, or is not acknowledged when the reader dies, is there for the next one. A message is acknowledged after the commit.
//!
//! A shared subscription would not do: the broker would hold the messages of a dead process for that process alone.

mod call;
mod connect;

use std::collections::HashSet;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use rumqttc::v5::mqttbytes::v5::Publish;
use tokio::sync::watch;

use crate::config::Mqtt;
use crate::parcel::{Parcel, ParcelError};
use crate::source::{self, Ended, Fate, Parts, Standing};
pub(crate) use call::Caller;
use connect::{Role, Session};

/// Messages that the broker may send without an acknowledgement.
const AT_ONCE: u16 = 32;
/// A parcel that could not be stored is tried again after this time.
const AGAIN: Duration = Duration::from_secs(1);

/// Consumes until `stopped`, and connects again as needed.
pub(crate) async fn serve(mqtt: Mqtt, parts: Parts, stopped: watch::Receiver<bool>) {
    let name = format!("{}, topic {}", mqtt.address, mqtt.filter);
    let run = || async {
        let Err(why) = share(&mqtt, &name, &parts).await;
        why
    };
    source::keep(&name, &parts, stopped, run).await;
}

/// Reads the broker whenever it is this process's.
async fn share(mqtt: &Mqtt, name: &str, parts: &Parts) -> Result<Infallible, Ended> {
    let share = format!("mqtt {} {}", mqtt.address, mqtt.client_id);
    loop {
        parts.wait_turn(name, &share).await;
        let role = Role {
            client_id: &mqtt.client_id,
            session_expiry_s: mqtt.session_expiry_s,
            filter: &mqtt.filter,
            of: "`mqtt.topic`",
        };
        let (session, is_kept) = connect::open(mqtt, &role).await?;
        if is_kept {
            tracing::info!("{name}: this hub reads it, from where the last one was");
        } else {
            tracing::info!(
                "{name}: this hub reads it with a new session; what gateways have sent before does not come here"
            );
        }
        parts.standings.set(name, Standing::read);
        tokio::select! {
            ended = read(session, name, parts) => {
                let Err(why) = ended;
                return Err(why);
            }
            () = parts.wait_mine(&share, false) => {
                parts.standings.set(name, Standing::wait);
                tracing::info!("{name}: another hub reads it from now on");
            }
        };
    }
}

/// What becomes of a message: itself, without its content, and why its log is stopped, if it is.
type Storing<'a> = Pin<Box<dyn Future<Output = (Publish, Option<String>)> + Send + 'a>>;

async fn read(mut session: Session, name: &str, parts: &Parts) -> Result<Infallible, Ended> {
    let mut storing: FuturesOrdered<Storing<'_>> = FuturesOrdered::new();
    let mut stopped = HashSet::new();
    let mut beat = connect::beat();
    loop {
        tokio::select! {
            Some((publish, stop)) = storing.next() => {
                let topic = String::from_utf8_lossy(&publish.topic).into_owned();
                if let Some(why) = stop && stopped.insert(topic.clone()) {
                    // Others share the session; the gateway's own log keeps what it has.
                    tracing::error!("{name}: what comes on {topic} of the stopped log is passed over: {why}");
                }
                session.acknowledge(&publish).await?;
            }
            // Both are given up at any time, without a loss.
            publish = session.next() => storing.push_back(Box::pin(store(publish?, name, parts))),
            _ = beat.tick() => session.beat().await?,
        }
    }
}

/// Stores a message, however long that takes.
async fn store(mut publish: Publish, name: &str, parts: &Parts) -> (Publish, Option<String>) {
    let content = std::mem::take(&mut publish.payload);
    let fields: Arc<[(String, String)]> =
        publish.properties.take().map(|properties| properties.user_properties).unwrap_or_default().into();
    let stop = loop {
        let (content, fields) = (content.clone(), fields.clone());
        match parts.store(content.len(), name, false, move || parcel(&content, &fields)).await {
            Fate::Done => break None,
            Fate::Again => tokio::time::sleep(AGAIN).await,
            Fate::Stopped(why) => break Some(why),
        }
    };
    (publish, stop)
}

/// Reads a message; its manifest is in it, or in user properties.
fn parcel(content: &[u8], properties: &[(String, String)]) -> Result<Parcel, ParcelError> {
    Parcel::read(content, |name| {
        let field = properties.iter().find(|(key, _)| key.strip_prefix("fieldlog-") == Some(name));
        field.map(|(_, value)| value.as_str())
    })
}
