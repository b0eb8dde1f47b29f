//! Devices that obey: whatever arrives on their topics is counted, and answered as the test wants.

#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use tokio::task::JoinHandle;

use crate::publisher::Post;
use crate::wait::until;

/// A message that an actuator has received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload: String,
    /// Whether the broker had it retained.
    pub retain: bool,
}

/// Devices at a broker on this machine.
pub struct Actuator {
    received: Arc<Mutex<Vec<Received>>>,
    task: JoinHandle<()>,
}

impl Actuator {
    /// Subscribes to `filter` and answers each message with what `react` makes of it. Ready when this returns.
    ///
    /// # Panics
    /// If the broker does not answer in time.
    pub async fn start(
        port: u16,
        filter: &str,
        mut react: impl FnMut(&Received) -> Vec<Post> + Send + 'static,
    ) -> Actuator {
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let subscribed = Arc::new(Mutex::new(false));
        let mut options = MqttOptions::new(format!("actuator-{filter}"), "127.0.0.1", port);
        // It is there for commands that arrive while it is not connected.
        options.set_clean_session(false).set_keep_alive(Duration::from_secs(5));
        let (client, mut events) = AsyncClient::new(options, 10_000);
        let (filter, heard, ready) = (filter.to_owned(), received.clone(), subscribed.clone());
        let task = tokio::spawn(async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        client.subscribe(filter.as_str(), QoS::AtLeastOnce).await.unwrap();
                    }
                    Ok(Event::Incoming(Packet::SubAck(_))) => *ready.lock().unwrap() = true,
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        let message = Received {
                            topic: publish.topic.clone(),
                            payload: String::from_utf8_lossy(&publish.payload).into_owned(),
                            retain: publish.retain,
                        };
                        let answers = react(&message);
                        heard.lock().unwrap().push(message);
                        for Post { topic, payload, retain } in answers {
                            client.try_publish(topic, QoS::AtLeastOnce, retain, payload).unwrap();
                        }
                    }
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
        let actuator = Actuator { received, task };
        until("the actuator's subscription", || *subscribed.lock().unwrap()).await;
        actuator
    }

    /// What has arrived so far.
    ///
    /// # Panics
    /// If its task has panicked.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

impl Drop for Actuator {
    fn drop(&mut self) {
        self.task.abort();
    }
}
