//! Requests to gateways: over the connections of the NATS sources, and over connections of their own to MQTT brokers.

use async_nats::Client;
use bytes::Bytes;
use tokio::sync::watch;

use crate::config::Nats;
use crate::request::{Request, Silence};
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
