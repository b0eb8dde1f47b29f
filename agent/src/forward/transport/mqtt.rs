//! MQTT 5 and 3.1.1 sinks: one QoS 1 message per parcel, and the broker's PUBACK is the acknowledgement.
//!
//! The connection loop is our own, with the same handshake, TLS and framing as ingest: one write sends many PUBLISHes,
//! and the PUBACKs of one read are processed together. Sessions are clean, because the log has everything that is not
//! acknowledged. With `[sink.commands]` the session stays, so that the broker keeps commands while the gateway is away.
//!
//! The value of a PUBACK depends on the broker. An MQTT 3.1.1 broker cannot refuse a message: one that its access rules
//! forbid, or that is too large for it, is usually acknowledged and dropped. Use MQTT 5 where possible.

mod commands;
mod packet;
mod publisher;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::command::remote::WAITING_MAX;
use crate::config::{MqttSink, Protocol};
use crate::forward::commands::Upstream;
use crate::forward::queue::Queue;
use crate::forward::transport::Target;
use crate::forward::{Outcome, Pace, Parcel, Transport, Unreachable};

use crate::mqtt::failure::Failure;
use crate::mqtt::handshake::Hello;
use crate::mqtt::open::open;
use crate::net::connect::Endpoint;
use commands::Commands;
use publisher::Publisher;

/// Room for the CONNACK.
const READ_BYTES: usize = 16 * 1024;

/// Maximum packet from the broker; without commands we subscribe to nothing.
const RECEIVED_BYTES_MAX: u32 = 65_536;

/// Address and settings. `connect_timeout` covers TCP, TLS and the CONNACK together; the broker's Receive Maximum may
/// be below `in_flight_max`.
pub type MqttTarget = Target<MqttSink>;

/// A connection to a broker.
pub struct Mqtt {
    queue: Queue,
    window: usize,
    unheard: Arc<AtomicU64>,
    unheard_words: String,
    /// That no commands come, and why.
    refused: Arc<OnceLock<String>>,
}

impl MqttTarget {
    /// Connects.
    ///
    /// Commands of the broker go to `upstream`, which there is if they are switched on.
    pub async fn open(&self, upstream: Option<&Arc<Upstream>>) -> Result<Mqtt, Unreachable> {
        let opened = open(&self.endpoint(), &self.hello(), READ_BYTES).await;
        let (stream, input, welcome) = opened.map_err(|failure| self.unreachable(&failure))?;
        if welcome.qos_max == Some(0) {
            let why = format!(
                "{}: the broker offers QoS 0 only, so it never says what it has; use another broker",
                self.sink.address
            );
            return Err(Unreachable { why, pace: Pace::Slow });
        }
        let receive_max = welcome.receive_max.unwrap_or(u16::MAX);
        let window = usize::from(self.in_flight_max.min(receive_max).max(1));
        let unheard = Arc::new(AtomicU64::new(0));
        let refused = Arc::new(OnceLock::new());
        let commands = upstream.zip(self.sink.commands.clone());
        let commands = commands.map(|(upstream, config)| {
            let will = self.sink.will.iter().map(|will| will.topic.as_str());
            let templates = will.chain([self.sink.topic.as_str()]);
            let taken = templates.flat_map(|template| upstream.topics(template)).collect();
            Commands::new(config, self.sink.protocol, upstream.clone(), refused.clone(), taken)
        });
        let publisher =
            Publisher::new(self.clone(), stream, input, &welcome, window, Arc::clone(&unheard), commands);
        Ok(Mqtt {
            refused,
            queue: Queue::start(|jobs| publisher.run(jobs)),
            window,
            unheard,
            unheard_words: format!("subscribed to `{}` at {}", self.sink.topic, self.sink.address),
        })
    }

    fn endpoint(&self) -> Endpoint<'_> {
        Endpoint { address: &self.sink.address, tls: &self.sink.tls, connect_timeout: self.connect_timeout }
    }

    fn hello(&self) -> Hello<'_> {
        let commands = self.sink.commands.as_ref();
        Hello {
            protocol: self.sink.protocol,
            client_id: &self.sink.client_id,
            username: self.sink.username.as_deref(),
            password_file: self.sink.password_file.as_deref(),
            keep_alive: self.sink.keep_alive,
            // With MQTT 3.1.1 a broker would not say how long it has kept a command, so it is to keep none.
            session_expiry: commands
                .filter(|_| self.sink.protocol == Protocol::V5)
                .map(|commands| commands.session_expiry),
            receive_window: commands.map_or(u16::MAX, |_| WAITING_MAX),
            packet_bytes_max: commands.map_or(RECEIVED_BYTES_MAX, |_| commands::ANNOUNCED_BYTES_MAX),
            will: self.sink.will.as_ref(),
        }
    }

    fn unreachable(&self, failure: &Failure) -> Unreachable {
        Unreachable { why: self.words(failure), pace: failure.pace() }
    }

    /// The failure in words, with the name of this sink.
    fn words(&self, failure: &Failure) -> String {
        let words = failure.chain(&self.sink.client_id);
        let address = self.sink.address.to_string();
        if words.contains(&address) { words } else { format!("{address}: {words}") }
    }
}

impl Transport for Mqtt {
    fn send(&mut self, parcel: Arc<Parcel>) -> impl Future<Output = Outcome> + Send + 'static {
        self.queue.send(parcel)
    }

    fn lost(&mut self) -> impl Future<Output = String> + Send {
        self.queue.lost()
    }

    fn window(&self) -> usize {
        self.window
    }

    fn warning(&self) -> Option<String> {
        let unheard = self.unheard.load(Ordering::Relaxed);
        let unheard = (unheard > 0).then(|| {
            format!(
                "no client is {}: the broker has discarded {unheard} acknowledged parcels since fieldlog connected",
                self.unheard_words
            )
        });
        let warnings: Vec<String> = unheard.into_iter().chain(self.refused.get().cloned()).collect();
        (!warnings.is_empty()).then(|| warnings.join("; "))
    }

    fn close(self) -> impl Future<Output = ()> + Send {
        self.queue.close()
    }
}

#[cfg(test)]
mod tests;
