//! Requests to gateways, over a connection of its own, which is made for the first one and made again for the next one after it
//! has ended. Answers come to a topic of this process.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use fieldlog_projections::trace;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAck, PubAckReason, Publish, PublishProperties};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::connect::{self, Role, Session};
use crate::config::Mqtt;
use crate::request::{Request, Silence};
use crate::source::Ended;

/// Calls that may wait for the connection.
const WAITING_MAX: usize = 64;

/// The way to gateways over a broker.
#[derive(Debug)]
pub(crate) struct Caller {
    address: String,
    /// With `{gateway}`, and without the `#` at its end.
    topic: String,
    calls: mpsc::Sender<Call>,
}

/// One request.
#[derive(Debug)]
struct Call {
    topic: String,
    request: Request,
    answer: oneshot::Sender<Result<Bytes, Silence>>,
}

impl Caller {
    /// Waits for requests, as long as this is kept.
    pub(crate) fn start(mqtt: &Mqtt) -> Caller {
        let (calls, coming) = mpsc::channel(WAITING_MAX);
        tokio::spawn(serve(mqtt.clone(), coming));
        let topic = mqtt.commands.trim_end_matches('#').to_owned();
        Caller { address: mqtt.address.clone(), topic, calls }
    }

    /// Asks a gateway; `rest` is the rest of the topic.
    pub(crate) async fn call(&self, gateway: &str, rest: &str, request: Request) -> Result<Bytes, Silence> {
        let topic = self.topic.replace("{gateway}", gateway) + rest;
        if topic.contains(['+', '#', '\0']) || topic.len() > usize::from(u16::MAX) {
            return Err(Silence::Unsaid(topic));
        }
        let (late, wait) = (Silence::Late(topic.clone(), request.wait.as_secs()), request.wait);
        let (answer, answered) = oneshot::channel();
        if self.calls.try_send(Call { topic, request, answer }).is_err() {
            let why =
                format!("{WAITING_MAX} requests wait for an answer, which is the most; ask again later");
            return Err(Silence::Away(self.address.clone(), why));
        }
        match timeout(wait, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(late),
        }
    }
}

async fn serve(mqtt: Mqtt, mut calls: mpsc::Receiver<Call>) {
    while let Some(first) = calls.recv().await {
        let ended = match Line::open(&mqtt).await {
            Ok(line) => {
                let Err(why) = line.serve(first, &mut calls).await;
                why
            }
            Err(why) => {
                // What has waited for this connection knows now, too.
                let others = std::iter::from_fn(|| calls.try_recv().ok());
                for call in std::iter::once(first).chain(others) {
                    let _ = call.answer.send(Err(Silence::Away(mqtt.address.clone(), why.to_string())));
                }
                why
            }
        };
        tracing::debug!("{}: gateways cannot be called over this connection any more: {ended}", mqtt.address);
    }
}

/// A connection over which gateways are called.
struct Line {
    session: Session,
    /// Where answers come to.
    answers: String,
    /// What has no answer yet, by its number, which is the correlation data.
    open: HashMap<u16, Call>,
    last: u16,
}

impl Line {
    async fn open(mqtt: &Mqtt) -> Result<Line, Ended> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| error.to_string())?;
        let client_id = format!("{}-{:016x}", mqtt.client_id, u64::from_le_bytes(random));
        let answers = format!("fieldlog-hub/answers/{client_id}");
        let role = Role {
            client_id: &client_id,
            session_expiry_s: 0,
            filter: &answers,
            of: "the broker's access rules for fieldlog-hub/answers/#",
        };
        let (session, _) = connect::open(mqtt, &role).await?;
        Ok(Line { session, answers, open: HashMap::new(), last: 0 })
    }

    /// Until the connection ends. Who has no answer then is told so by the end of `answer`.
    async fn serve(mut self, first: Call, calls: &mut mpsc::Receiver<Call>) -> Result<Infallible, Ended> {
        let mut beat = connect::beat();
        self.ask(first).await?;
        loop {
            tokio::select! {
                call = calls.recv() => self.ask(call.ok_or("the hub stops")?).await?,
                // Nothing is lost if this is given up.
                packet = self.session.next_packet() => self.take(packet?).await?,
                _ = beat.tick() => {
                    self.open.retain(|_, call| !call.answer.is_closed());
                    self.session.beat().await?;
                }
            }
        }
    }

    async fn ask(&mut self, call: Call) -> Result<(), Ended> {
        if call.answer.is_closed() {
            return Ok(());
        }
        self.last = (1..=u16::MAX)
            .map(|step| self.last.wrapping_add(step))
            .find(|number| *number != 0 && !self.open.contains_key(number))
            .ok_or("too many requests wait for an answer")?;
        let expiry =
            u32::try_from(call.request.expiry.max(Duration::from_secs(1)).as_secs()).unwrap_or(u32::MAX);
        let traceparent = call.request.traceparent.iter();
        let properties = PublishProperties {
            message_expiry_interval: Some(expiry),
            response_topic: Some(self.answers.clone()),
            correlation_data: Some(Bytes::copy_from_slice(&self.last.to_be_bytes())),
            content_type: Some("application/json".into()),
            user_properties: traceparent.map(|parent| (trace::NAME.to_owned(), parent.to_string())).collect(),
            ..PublishProperties::default()
        };
        let body = call.request.body.clone();
        let mut publish = Publish::new(call.topic.clone(), QoS::AtLeastOnce, body, Some(properties));
        publish.pkid = self.last;
        self.open.insert(self.last, call);
        self.session.publish(publish).await
    }

    async fn take(&mut self, packet: Packet) -> Result<(), Ended> {
        match packet {
            Packet::Publish(publish) => {
                let number =
                    publish.properties.as_ref().and_then(|properties| properties.correlation_data.as_deref());
                let number = number.and_then(|data| data.try_into().ok()).map(u16::from_be_bytes);
                // Of a command that has ended the gateway tells that, too; its events do so as well.
                if let Some(call) = number.and_then(|number| self.open.remove(&number)) {
                    let _ = call.answer.send(Ok(publish.payload.clone()));
                }
                self.session.acknowledge(&publish).await
            }
            Packet::PubAck(PubAck { pkid, reason, .. }) if reason != PubAckReason::Success => {
                if let Some(Call { topic, answer, .. }) = self.open.remove(&pkid) {
                    let silence = match reason {
                        PubAckReason::NoMatchingSubscribers => Silence::Nobody(topic),
                        reason => Silence::Refused(topic, format!("{reason:?}")),
                    };
                    let _ = answer.send(Err(silence));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
