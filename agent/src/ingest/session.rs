//! One connection from CONNACK to its end: reads, delivers, acknowledges what the log has stored, watches the broker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rumqttc::v5::mqttbytes::v5::DisconnectReasonCode;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use outgoing::Outgoing;
use queue::SessionQueue;

use super::state::{HostState, PKID};
use super::status::SourceStatus;
use super::window::Window;
use super::{InboxGone, SHORT_LIVED, stopped};
use crate::clock::Clock;
use crate::config::{Protocol, SourceConfig};
use crate::message::{Acks, Delivery, Message, Outbox, SourceId, WireFault};
use crate::mqtt::connection::{Connection, Step};
use crate::mqtt::failure::Failure;
use crate::mqtt::frame::{Cut, Frame, PUBLISH, frames};
use crate::mqtt::handshake::{self, Manner, Subscription, Welcome};
use crate::mqtt::publish::{self, Publish};
use crate::net::connect::Wire;
use crate::sparkplug::state;

mod control;
mod outgoing;
mod queue;

/// Maximum bytes of one read, and the size of the buffer that messages are slices of.
pub(super) const READ_BYTES: usize = 64 * 1024;

/// With less room than this a new buffer is allocated.
const READ_BYTES_MIN: usize = 4 * 1024;

/// Maximum allocation at once for an incoming packet: its announced length alone must not make us allocate.
const GROW_BYTES_MAX: usize = 256 * 1024;

/// While this much output is pending, nothing is read: a broker that does not read our answers must not cause more.
const OUT_BYTES_MAX: usize = 512 * 1024;

/// At a clean stop: how long to wait until the writer has stored what it holds, so that it is not sent again.
const DRAIN: Duration = Duration::from_secs(5);

/// Time limit for the farewell to a broker.
const FAREWELL: Duration = Duration::from_secs(1);

/// State of a source across its connections.
pub(super) struct SourceTask<F> {
    pub(super) id: SourceId,
    pub(super) config: SourceConfig,
    pub(super) filters: Vec<(String, u8)>,
    pub(super) deliver: F,
    pub(super) clock: Clock,
    pub(super) status: Arc<SourceStatus>,
    pub(super) window: Window,
    pub(super) shutdown: watch::Receiver<bool>,
}

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// Shut down as told.
    Stopped,
    /// The writer is gone; the source ends.
    InboxGone(InboxGone),
    /// Try again.
    Failed(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> End {
        End::Failed(failure)
    }
}

/// The state of one connection. Nothing here outlives the connection.
pub(super) struct SourceSession<'a, F> {
    source: &'a mut SourceTask<F>,
    connection: Connection,
    acks: Arc<Acks>,
    released: Vec<u16>,
    unacked: usize,
    accepted: Instant,
    settled: bool,
    asked: Instant,
    waiting: Vec<Subscription>,
    host: Option<HostState>,
    outbox: Arc<Outbox>,
    outgoing: Outgoing,
    queue: SessionQueue,
}

impl<'a, F: FnMut(Delivery) -> Result<(), InboxGone>> SourceSession<'a, F> {
    /// Takes over a `stream` after the broker's `welcome`; `input` has the bytes that followed it.
    pub(super) fn new(
        source: &'a mut SourceTask<F>,
        stream: Box<dyn Wire>,
        input: BytesMut,
        welcome: &Welcome,
        acks: Arc<Acks>,
        host: Option<HostState>,
    ) -> SourceSession<'a, F> {
        let now = Instant::now();
        let (packet_max, keep_alive) = (source.config.packet_bytes_max, source.config.keep_alive);
        SourceSession {
            connection: Connection::new(stream, input, packet_max, keep_alive, welcome.server_keep_alive),
            released: Vec::new(),
            unacked: 0,
            accepted: now,
            settled: false,
            asked: now,
            waiting: Vec::new(),
            host,
            outbox: source.status.outbox.clone(),
            outgoing: Outgoing::new(welcome),
            queue: SessionQueue::new(welcome.session_present),
            source,
            acks,
        }
    }

    /// Runs the connection to its end.
    pub(super) async fn run(mut self, welcome: &Welcome) -> End {
        let end = match self.greet(welcome) {
            Ok(()) => self.serve().await,
            Err(failure) => End::Failed(failure),
        };
        // From here on releases are dropped: packet identifiers are meaningless on another connection.
        self.acks.close();
        self.lose_publications();
        match &end {
            End::Failed(failure) => {
                if let Some(code) = failure.farewell() {
                    self.hang_up(code).await;
                }
            }
            End::Stopped => self.leave().await,
            End::InboxGone(_) => {}
        }
        self.source.status.unacked.set(0);
        end
    }

    fn greet(&mut self, welcome: &Welcome) -> Result<(), Failure> {
        let config = &self.source.config;
        let (filters, waiting) = (&self.source.filters, &mut self.waiting);
        self.connection.send(|out| {
            *waiting = handshake::subscribe(filters, welcome, config.protocol, out)?;
            if let Some(will) = &config.will {
                handshake::announce(&will.topic, &will.online, config.protocol, out)?;
            }
            Ok::<(), Failure>(())
        })?;
        self.subscribed()
    }

    async fn serve(&mut self) -> End {
        // The broker may have sent messages together with its CONNACK.
        if let Err(end) = self.take_input() {
            return end;
        }
        let mut tick = tokio::time::interval(self.connection.tick());
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.queue.asks() {
                self.connection.ping();
            }
            let open = self.connection.unwritten() < OUT_BYTES_MAX
                && self.source.window.is_open(self.acks.outstanding());
            let step = tokio::select! {
                biased;
                () = stopped(&mut self.source.shutdown) => return self.drain().await,
                () = self.acks.wake.notified() => { self.acknowledge(); Ok(()) }
                () = self.outbox.wake.notified() => { self.publish(); Ok(()) }
                // Also notices releases of an earlier connection's messages, which do not wake this one.
                _ = tick.tick() => self.check(open),
                step = self.connection.step(open) => self.stepped(step),
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    fn stepped(&mut self, step: Result<Step, Failure>) -> Result<(), End> {
        match step? {
            Step::Wrote => {
                // What waits may have been too much until now.
                self.publish();
                Ok(())
            }
            Step::Read(bytes) => {
                self.source.status.received_bytes.add(bytes as u64);
                self.take_input()
            }
        }
    }

    /// Turns the messages completed by the last read into one delivery.
    fn take_input(&mut self) -> Result<(), End> {
        let received = self.source.clock.wall();
        let may_be_old = !self.queue.is_empty();
        let mut batch = Batch::default();
        let outcome = self.take_frames(&mut batch);
        if !batch.messages.is_empty() {
            self.count(&batch.messages);
            self.source.window.push(batch.messages.len(), batch.bytes);
            self.acks.begin(batch.messages.len());
            let acks = Arc::clone(&self.acks);
            let messages = batch.messages;
            let delivery = Delivery { source: self.source.id, received, acks, messages, may_be_old };
            (self.source.deliver)(delivery).map_err(End::InboxGone)?;
        }
        // Only now, because the messages before a broken packet are valid.
        let missing = outcome?;
        if self.outgoing.has_room {
            self.publish();
        }
        let input = self.connection.input();
        let room = input.capacity() - input.len();
        if room < READ_BYTES_MIN.max(missing.min(GROW_BYTES_MAX)) {
            input.reserve(missing.clamp(READ_BYTES, GROW_BYTES_MAX));
        }
        Ok(())
    }

    /// Returns how many bytes the next frame lacks, at least.
    fn take_frames(&mut self, batch: &mut Batch) -> Result<usize, Failure> {
        loop {
            match self.connection.cut()? {
                Cut::Missing(bytes) => return Ok(bytes),
                Cut::Frames(chunk) => {
                    batch.bytes += chunk.len();
                    for frame in frames(&chunk) {
                        match frame.packet_type() {
                            PUBLISH => self.take_publish(&chunk, &frame, None, batch)?,
                            _ => self.take_control(&chunk, &frame)?,
                        }
                    }
                }
                Cut::Oversized { head, frame, size } => {
                    batch.bytes += head.len();
                    self.take_publish(&head, &frame, Some(size), batch)?;
                }
            }
        }
    }

    fn take_publish(
        &mut self,
        chunk: &Bytes,
        frame: &Frame,
        size: Option<u64>,
        batch: &mut Batch,
    ) -> Result<(), Failure> {
        match publish::read(chunk, frame, self.source.config.protocol, size) {
            Publish::Message(message) => {
                self.heed_state(&message)?;
                self.queue.read(usize::from(message.pkid.is_some()));
                batch.messages.push(message);
            }
            Publish::Violation(violation) => return Err(Failure::Violation(violation)),
            Publish::Unreadable(reason) => {
                self.source.status.malformed.add(1);
                let (source, so_far) = (&self.source.config.name, self.source.status.malformed.get());
                // A broker that does it once does it often.
                if so_far.is_power_of_two() {
                    tracing::warn!(%source, reason, so_far, "a PUBLISH cannot be read and is skipped");
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, messages: &[Message]) {
        let status = &self.source.status;
        let count = |is: fn(&Message) -> bool| messages.iter().filter(|message| is(message)).count() as u64;
        let qos1 = count(|message| message.pkid.is_some());
        status.received_qos1.add(qos1);
        status.received_qos0.add(messages.len() as u64 - qos1);
        status.retained.add(count(|message| message.retain));
        status.dup.add(count(|message| message.dup));
        status.too_large.add(count(|message| matches!(message.fault, Some(WireFault::TooLarge { .. }))));
        status.malformed.add(count(|message| matches!(message.fault, Some(WireFault::Malformed(_)))));
        self.unacked += usize::try_from(qos1).unwrap_or(usize::MAX);
        status.unacked.set(self.unacked as u64);
    }

    /// Adds a PUBACK for everything the writer has released: one write for all of them.
    fn acknowledge(&mut self) {
        self.released.clear();
        self.acks.drain_into(&mut self.released);
        if self.released.is_empty() {
            return;
        }
        let released = &self.released;
        self.connection.send(|out| {
            out.reserve(4 * released.len());
            for pkid in released {
                let [high, low] = pkid.to_be_bytes();
                out.extend_from_slice(&[0x40, 2, high, low]);
            }
        });
        self.queue.acknowledged(self.released.len());
        self.unacked = self.unacked.saturating_sub(self.released.len());
        self.source.status.pubacks.add(self.released.len() as u64);
        self.source.status.unacked.set(self.unacked as u64);
    }

    fn check(&mut self, reading: bool) -> Result<(), End> {
        let now = Instant::now();
        self.connection.check(reading, now)?;
        if !self.settled && now.saturating_duration_since(self.accepted) >= SHORT_LIVED {
            self.settled = true;
            self.source.status.update(|details| details.advice = None);
        }
        let waited = now.saturating_duration_since(self.asked);
        if !reading {
            // A SUBACK cannot be overdue while nothing is read.
            self.asked = now;
        } else if !self.waiting.is_empty() && waited >= self.source.config.connect_timeout {
            return Err(Failure::NoSuback { waited }.into());
        }
        Ok(())
    }

    /// Stops reading, but acknowledges what is still being stored, for a bounded time. Messages that the writer does
    /// not accept now stay at the broker.
    async fn drain(&mut self) -> End {
        let clock = self.source.clock.clone();
        let drained = async {
            loop {
                self.acknowledge();
                if self.connection.flush().await.is_err() {
                    return;
                }
                if self.unacked <= self.acks.parked() {
                    return;
                }
                self.acks.wake.notified().await;
            }
        };
        let _ = clock.within(DRAIN, drained).await;
        if self.unacked > 0 {
            let (source, unacked) = (&self.source.config.name, self.unacked);
            tracing::warn!(
                %source, unacked,
                "stopped before every message was acknowledged; the broker will send the rest again"
            );
        }
        End::Stopped
    }

    /// Someone published that this host application is offline, such as the will of its previous connection; corrects
    /// that.
    fn heed_state(&mut self, message: &Message) -> Result<(), Failure> {
        let Some(host) = &self.host else { return Ok(()) };
        let ours = message.topic == host.topic().as_bytes() && state::says_offline(&message.payload);
        // The birth is sent once the subscriptions are answered.
        if ours && self.waiting.is_empty() {
            let protocol = self.source.config.protocol;
            self.connection.send(|out| host_state(host, host.birth(), protocol, out))?;
        }
        Ok(())
    }

    async fn leave(&mut self) {
        let config = &self.source.config;
        if let Some(host) = &self.host {
            let death = state::certificate(false, self.source.clock.wall());
            let said = self.connection.send(|out| host_state(host, &death, config.protocol, out));
            if let Err(error) = said {
                tracing::warn!(
                    source = %config.name, %error,
                    "cannot publish that this host application is going offline"
                );
            }
        }
        if let Some(will) = &config.will {
            let announced = self
                .connection
                .send(|out| handshake::announce(&will.topic, &will.offline, config.protocol, out));
            if let Err(error) = announced {
                tracing::warn!(source = %config.name, %error, "cannot publish that this agent is going offline");
            }
        }
        self.hang_up(DisconnectReasonCode::NormalDisconnection).await;
    }

    /// Sends a farewell on a best-effort basis: the connection is over in any case.
    async fn hang_up(&mut self, code: DisconnectReasonCode) {
        self.connection.hang_up(code, self.source.config.protocol, FAREWELL).await;
    }
}

impl<F> SourceSession<'_, F> {
    /// All subscriptions are answered: a host application publishes its birth before anything else.
    pub(super) fn subscribed(&mut self) -> Result<(), Failure> {
        if !self.waiting.is_empty() {
            return Ok(());
        }
        if let Some(host) = &self.host {
            self.connection.send(|out| host_state(host, host.birth(), self.source.config.protocol, out))?;
        }
        self.outbox.open(self.acks.connection(), self.source.clock.wall());
        Ok(())
    }

    fn send(&mut self, packet: &[u8]) {
        self.connection.send(|out| out.extend_from_slice(packet));
    }
}

/// Writes a certificate: QoS 1 and retained.
fn host_state(
    host: &HostState,
    certificate: &str,
    protocol: Protocol,
    out: &mut BytesMut,
) -> Result<(), Failure> {
    let manner = Manner { pkid: Some(PKID), retain: true, ..Manner::default() };
    handshake::publish(host.topic(), certificate.as_bytes(), manner, protocol, out)
}

#[derive(Default)]
struct Batch {
    messages: Vec<Message>,
    bytes: usize,
}
