//! Requests to gateways: over the connections of the NATS sources, and over connections of their own to MQTT brokers.

use std::time::Duration;

use async_nats::Client;
use bytes::Bytes;
use fieldlog_projections::TraceParent;
use tokio::sync::watch;

use crate::config::Nats;
use crate::{mqtt, nats};

/// The ways to the gateways.
#[derive(Debug, Default)]
pub(crate) struct Calls(Vec<Line>);

/// A server, and how gateways are called there.
#[derive(Debug)]
enum Line {
    Nats {
        /// With `{gateway}`, and without the `>` at its end.
        subject: String,
        client: watch::Receiver<Option<Client>>,
    },
    Mqtt(mqtt::Caller),
}

/// What a gateway is asked.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) body: Bytes,
    /// How long it may take to be answered.
    pub(crate) wait: Duration,
    /// How long a broker may keep it for a gateway that is away.
    pub(crate) expiry: Duration,
    /// The trace that it belongs to.
    pub(crate) traceparent: Option<TraceParent>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Silence {
    /// It has certainly not arrived.
    #[error("no gateway listens on `{0}`: it is away, or its sink has no [sink.commands] for that place")]
    Nobody(String),
    /// There is no server to ask.
    #[error("this hub is not connected to a server over which gateways take commands")]
    Unconnected,
    /// The broker cannot be asked.
    #[error("{0}: {1}")]
    Away(String, String),
    /// The server does not let the hub ask; nothing has arrived.
    #[error("the broker refuses what is published on `{0}` ({1}): allow the hub's user to publish there")]
    Refused(String, String),
    /// Whether it has arrived is unknown.
    #[error("nobody has answered on `{0}` within {1} s")]
    Late(String, u64),
    /// The device has no place on this server.
    #[error("`{0}` can be neither a subject of NATS nor a topic of MQTT")]
    Unsaid(String),
}

impl Calls {
    /// Adds a server of NATS; what is returned gets its connection.
    pub(crate) fn add_nats(&mut self, nats: &Nats) -> watch::Sender<Option<Client>> {
        let (sender, client) = watch::channel(None);
        self.0.push(Line::Nats { subject: nats.commands.trim_end_matches('>').to_owned(), client });
        sender
    }

    /// Adds a broker.
    pub(crate) fn add_mqtt(&mut self, caller: mqtt::Caller) {
        self.0.push(Line::Mqtt(caller));
    }

    /// Asks a gateway; `rest` is the rest of the subject or topic. Goes to the next server only where nobody has got it.
    pub(crate) async fn ask(&self, gateway: &str, rest: &str, request: &Request) -> Result<Bytes, Silence> {
        let mut silence = Silence::Unconnected;
        for line in &self.0 {
            let answer = match line {
                Line::Nats { subject, client } => {
                    let Some(client) = client.borrow().clone() else { continue };
                    // A gateway is one token.
                    let subject = subject.replace("{gateway}", &gateway.replace('.', "_")) + rest;
                    nats::call(&client, subject, request).await
                }
                Line::Mqtt(caller) => caller.call(gateway, rest, request.clone()).await,
            };
            match answer {
                Ok(answer) => return Ok(answer),
                Err(late @ Silence::Late(..)) => return Err(late),
                // What is known better than that there is no connection stays.
                Err(Silence::Unconnected) => {}
                Err(other) => silence = other,
            }
        }
        Err(silence)
    }
}
