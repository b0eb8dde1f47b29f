//! The commands of one connection: what arrives on their topic, and its acknowledgements.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fieldlog_projections::TraceParent;

use crate::command::remote::{Answer, Call, ReturnAddress};
use crate::config::{MqttCommands, Protocol};
use crate::forward::commands::{Intake, Upstream};
use crate::message::WireFault;
use crate::mqtt::failure::Failure;
use crate::mqtt::frame::Frame;
use crate::mqtt::handshake::{self, Subscription};
use crate::mqtt::publish::{self, Publish, Request};
use fieldlog_rules::topic;

/// Largest packet that the broker may send. A command is smaller by far: one that is too large is to be answered, and the
/// broker says nothing of those that it does not send.
pub(super) const ANNOUNCED_BYTES_MAX: u32 = 4 * 1024 * 1024;

/// Packets up to this size are kept as a whole: a body, and room for topic and properties.
pub(super) const KEPT_BYTES_MAX: u32 = 192 * 1024;

/// Identifier of our only SUBSCRIBE.
pub(super) const SUBSCRIBE_PKID: u16 = 1;

/// The commands of one connection.
pub(super) struct Commands {
    config: MqttCommands,
    protocol: Protocol,
    intake: Intake<Option<u16>>,
    waiting: Vec<Subscription>,
    refused: Arc<OnceLock<String>>,
    /// Topics that this sink publishes something else to.
    taken: Vec<String>,
}

impl Commands {
    pub(super) fn new(
        config: MqttCommands,
        protocol: Protocol,
        upstream: Arc<Upstream>,
        refused: Arc<OnceLock<String>>,
        taken: Vec<String>,
    ) -> Commands {
        Commands { config, protocol, intake: Intake::new(upstream), waiting: Vec::new(), refused, taken }
    }

    /// Writes the SUBSCRIBE. A kept session has it already, but not if the topic was changed.
    pub(super) fn subscribe(&mut self, out: &mut BytesMut) -> Result<(), Failure> {
        let (filter, protocol) = (&self.config.topic, self.protocol);
        self.waiting = handshake::subscribe_to_requests(filter, SUBSCRIBE_PKID, protocol, out)?;
        Ok(())
    }

    pub(super) fn subscribed(&mut self, body: &[u8], address: &str) -> Result<(), Failure> {
        for ((filter, _), answer) in handshake::suback(body, &mut self.waiting, self.protocol)? {
            match answer {
                Ok(0) => {
                    let why =
                        "the broker grants only QoS 0, so commands sent while fieldlog is away are lost";
                    self.warn(address, &filter, why);
                }
                Ok(_) => {}
                Err(reason) => {
                    let why = format!(
                        "no command from upstream arrives: the broker refuses the subscription ({reason}); allow it in the \
                         broker's access rules, or remove [sink.commands]"
                    );
                    self.warn(address, &filter, &why);
                }
            }
        }
        Ok(())
    }

    fn warn(&self, address: &str, filter: &str, why: &str) {
        tracing::warn!(sink = %address, %filter, "{why}");
        // There is one subscription, so there is one answer.
        let _ = self.refused.set(format!("`{filter}`: {why}"));
    }

    /// Takes a PUBLISH; `size` is set when the frame is only the beginning of an oversized packet.
    pub(super) fn take(&self, chunk: &Bytes, frame: &Frame, size: Option<u64>) -> Result<(), Failure> {
        let message = match publish::read(chunk, frame, self.protocol, size) {
            Publish::Message(message) => message,
            Publish::Violation(violation) => return Err(Failure::Violation(violation)),
            Publish::Unreadable(reason) => {
                tracing::warn!(filter = %self.config.topic, reason, "a PUBLISH from upstream cannot be read and is skipped");
                return Ok(());
            }
        };
        let fault = match message.fault {
            Some(WireFault::Malformed(fault)) => Some(fault),
            Some(WireFault::TooLarge { .. }) | None => None,
        };
        let request = match self.protocol {
            Protocol::V4 => Request::default(),
            Protocol::V5 => publish::request(chunk, frame),
        };
        let topic = String::from_utf8_lossy(&message.topic);
        let call = Call {
            device: self.config.device(&topic).to_owned(),
            payload: message.payload,
            oversized: size,
            fault,
            retained: message.retain,
            expiry: request.expiry_s.map(|seconds| Duration::from_secs(seconds.into())),
            // With MQTT 3.1.1 the session is clean: the broker keeps nothing.
            may_be_old: self.protocol == Protocol::V5,
            received: self.intake.upstream().now(),
            traceparent: TraceParent::only(request.traceparents.iter().map(|text| &text[..])),
            from: request.response_topic.and_then(|topic| self.address(&topic, request.correlation)),
        };
        self.intake.take(call, message.pkid);
        Ok(())
    }

    /// Where to answer. Nothing is sent to a topic that cannot be published to, to where commands are taken, nor to where
    /// something else of this sink is awaited.
    fn address(&self, topic: &Bytes, correlation: Option<Bytes>) -> Option<ReturnAddress> {
        let topic = str::from_utf8(topic).ok()?.to_owned();
        let usable = topic::check_name(&topic).is_ok()
            && !topic.starts_with('$')
            && !self.taken.contains(&topic)
            && !topic::filter_matches(&self.config.topic, &topic);
        usable.then_some(ReturnAddress { topic, correlation })
    }

    /// The commands of the sink.
    pub(super) fn upstream(&self) -> &Arc<Upstream> {
        self.intake.upstream()
    }
}

/// The next message that is done with; never, if no commands are taken.
pub(super) async fn done(commands: &mut Option<Commands>) -> Option<u16> {
    match commands {
        Some(commands) => commands.intake.done().await,
        None => std::future::pending().await,
    }
}

/// The next answer to send; never, if no commands are taken.
pub(super) async fn next_answer(upstream: Option<&Arc<Upstream>>) -> Answer {
    match upstream {
        Some(upstream) => upstream.next_answer().await,
        None => std::future::pending().await,
    }
}
