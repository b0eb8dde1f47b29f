//! One connection, from its CONNECT to its end: a single task that reads, routes and writes.

use std::convert::Infallible;
use std::sync::Arc;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{DisconnectReasonCode as Reason, PubAckReason, SubscribeReasonCode};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant, sleep_until};

use crate::broker::fault::{Behaviour, PacketIdCursor, Progress, Steps};
use crate::broker::message::{Message, Qos};
use crate::broker::outbox::Outbox;
use crate::broker::socket::{End, Socket};
use crate::broker::topic;
use crate::broker::wire::encode::{self, Accepted};
use crate::broker::wire::{self, Connect, Filter, Packet, Version};
use crate::broker::{Shared, stopped};

/// Serves one accepted connection until it ends.
pub(crate) async fn serve(shared: Arc<Shared>, stream: TcpStream, number: usize) {
    let behaviour = shared.options.script.behaviour(number);
    let mut socket = Socket::new(stream, Arc::clone(&shared));
    let mut steps = Steps::new(behaviour.steps.clone());
    match socket.connect(&mut steps, &behaviour).await {
        Ok(connect) => Connection::attach(socket, shared, number, connect, behaviour, steps).run().await,
        Err(refusal) => {
            tracing::debug!(connection = number, refusal = %refusal, "not connected");
            socket.refuse(&refusal).await;
        }
    }
}

/// A connection whose CONNECT has been accepted.
struct Connection {
    socket: Socket,
    shared: Arc<Shared>,
    number: usize,
    client_id: String,
    version: Version,
    behaviour: Behaviour,
    steps: Steps,
    progress: Progress,
    outbox: Outbox,
    wake: Arc<Notify>,
    /// One and a half times the keep-alive that the client was told or has chosen.
    silence_max: Option<Duration>,
    last_packet: Instant,
}

impl Connection {
    fn attach(
        socket: Socket,
        shared: Arc<Shared>,
        number: usize,
        mut connect: Connect,
        behaviour: Behaviour,
        steps: Steps,
    ) -> Connection {
        let assigned = connect.client_id.is_empty().then(|| format!("auto-{number}"));
        if let Some(assigned) = &assigned {
            connect.client_id.clone_from(assigned);
        }
        let now = Instant::now();
        let attached = {
            let mut router = shared.router();
            if behaviour.forget_session {
                router.forget(&connect.client_id);
            }
            let attached = router.attach(&mut connect, number, now);
            if behaviour.renumber {
                router.renumber(&connect.client_id);
            }
            attached
        };
        shared.deadline_changed.notify_one();
        let mut outbox = outbox(&shared, &connect, &behaviour);
        let accepted = Accepted {
            session_present: attached.session_present,
            packet_bytes_max: shared.options.packet_bytes_max,
            assigned_client_id: assigned,
            server_keep_alive_s: behaviour.server_keep_alive,
        };
        encode::connack(connect.version, accepted, &mut outbox.bytes);
        let told = behaviour.server_keep_alive.filter(|_| connect.version == Version::V5);
        Connection {
            socket,
            shared,
            number,
            client_id: connect.client_id,
            version: connect.version,
            behaviour,
            steps,
            progress: Progress { connacked: true, ..Progress::default() },
            outbox,
            wake: attached.wake,
            silence_max: silence_max(told.unwrap_or(connect.keep_alive_s)),
            last_packet: now,
        }
    }

    async fn run(mut self) {
        let end = match self.exchange().await {
            Err(end) => end,
            Ok(never) => match never {},
        };
        tracing::debug!(connection = self.number, client = self.client_id, ?end, "disconnected");
        let (publish_will, expiry_s) = match end {
            End::Disconnected { publish_will, session_expiry_s } => (publish_will, session_expiry_s),
            End::Stopped => (false, None),
            _ => (true, None),
        };
        let now = Instant::now();
        self.shared.router().detach(&self.client_id, self.number, publish_will, expiry_s, now);
        self.shared.deadline_changed.notify_one();
        self.close(end).await;
    }

    async fn close(mut self, end: End) {
        let reason = match end {
            End::Disconnected { .. } | End::Lost | End::Reset => return,
            End::Scripted => None,
            End::TakenOver => Some(Reason::SessionTakenOver),
            End::Silent => Some(Reason::KeepAliveTimeout),
            End::Stopped => Some(Reason::ServerShuttingDown),
            End::Violation(ref violation) => Some(violation.reason),
        };
        let mut out = std::mem::take(&mut self.outbox.bytes);
        if let Some(reason) = reason {
            encode::disconnect(self.version, reason as u8, &mut out);
        }
        if matches!(end, End::Stopped) {
            // Write what fits the socket's buffer; do not wait for a client while shutting down.
            self.socket.try_write(&out);
            return;
        }
        self.socket.close(out).await;
    }

    async fn exchange(&mut self) -> Result<Infallible, End> {
        let mut stop = self.shared.stop.clone();
        let wake = Arc::clone(&self.wake);
        loop {
            self.take_steps().await?;
            self.fill()?;
            if self.outbox.publishes >= self.outbox.publishes_max {
                continue;
            }
            let silent_at = self.silence_max.map(|max| self.last_packet + max);
            tokio::select! {
                has_read = self.socket.exchange(&mut self.outbox.bytes) => if has_read? {
                    self.last_packet = Instant::now();
                    self.take_input().await?;
                },
                () = wake.notified() => {}
                () = sleep_until(silent_at.unwrap_or(self.last_packet)), if silent_at.is_some() => {
                    return Err(End::Silent);
                }
                () = stopped(&mut stop) => return Err(End::Stopped),
            }
        }
    }

    /// Takes the due steps of the script, and sets the bound for the next.
    async fn take_steps(&mut self) -> Result<(), End> {
        self.progress.publishes = self.outbox.publishes;
        while let Some(action) = self.steps.take_due(&self.progress) {
            self.socket.act(action, self.version, &mut self.outbox.bytes).await?;
        }
        self.outbox.publishes_max = self.steps.publishes_max();
        Ok(())
    }

    fn fill(&mut self) -> Result<(), End> {
        let now = Instant::now();
        Ok(self.shared.router().fill(&self.client_id, self.number, &mut self.outbox, now)?)
    }

    async fn take_input(&mut self) -> Result<(), End> {
        let bytes_max = self.shared.options.packet_bytes_max;
        while let Some(packet) = wire::decode(self.version, self.socket.input(), bytes_max)? {
            self.take_packet(packet)?;
            self.take_steps().await?;
        }
        Ok(())
    }

    fn take_packet(&mut self, packet: Packet) -> Result<(), End> {
        match packet {
            Packet::Publish { message, pkid } => self.take_publish(message, pkid),
            Packet::PubAck { pkid } => self.take_puback(pkid),
            Packet::Subscribe { pkid, filters } => self.subscribe(pkid, filters),
            Packet::Unsubscribe { pkid, filters } => self.unsubscribe(pkid, &filters),
            Packet::PingReq => {
                encode::pingresp(&mut self.outbox.bytes);
                Ok(())
            }
            Packet::Disconnect { publish_will, session_expiry_s } => {
                Err(End::Disconnected { publish_will, session_expiry_s })
            }
        }
    }

    fn take_publish(&mut self, message: Message, pkid: u16) -> Result<(), End> {
        self.progress.received += 1;
        let (qos, refused) = (message.qos, self.behaviour.refuse_publish);
        if refused.is_none() {
            self.shared.router().publish_from(&self.client_id, self.number, message)?;
        }
        if qos == Qos::AtLeastOnce && !self.behaviour.withhold_pubacks {
            let reason = refused.unwrap_or(PubAckReason::Success);
            encode::puback(self.version, pkid, reason, &mut self.outbox.bytes);
        }
        Ok(())
    }

    fn take_puback(&mut self, pkid: u16) -> Result<(), End> {
        self.progress.pubacks += 1;
        let found = self.outbox.take_awaited(pkid);
        let heed = self.progress.pubacks > self.behaviour.pubacks_ignored;
        Ok(self.shared.router().acknowledge(&self.client_id, self.number, found, heed)?)
    }

    fn subscribe(&mut self, pkid: u16, filters: Vec<Filter>) -> Result<(), End> {
        let now = Instant::now();
        let mut codes = Vec::with_capacity(filters.len());
        for filter in filters {
            let refused = self.behaviour.refuse_subscribe.or_else(|| refused(&filter.path));
            codes.push(refused.unwrap_or(SubscribeReasonCode::Success(match filter.qos {
                Qos::AtMostOnce => QoS::AtMostOnce,
                Qos::AtLeastOnce => QoS::AtLeastOnce,
            })));
            if refused.is_none() {
                self.shared.router().subscribe(&self.client_id, self.number, &filter, now)?;
            }
        }
        encode::suback(self.version, pkid, codes, &mut self.outbox.bytes);
        self.progress.subacks += 1;
        Ok(())
    }

    fn unsubscribe(&mut self, pkid: u16, filters: &[String]) -> Result<(), End> {
        let mut existed = Vec::with_capacity(filters.len());
        for filter in filters {
            existed.push(self.shared.router().unsubscribe(&self.client_id, self.number, filter)?);
        }
        encode::unsuback(self.version, pkid, existed, &mut self.outbox.bytes);
        Ok(())
    }
}

fn outbox(shared: &Shared, connect: &Connect, behaviour: &Behaviour) -> Outbox {
    let inflight_max = shared.options.inflight_max;
    let receive_max = if behaviour.ignore_receive_max { u16::MAX } else { connect.receive_max };
    let window = receive_max.min(if inflight_max == 0 { u16::MAX } else { inflight_max });
    let mut outbox = Outbox::new(connect.version, window, connect.packet_bytes_max);
    if behaviour.duplicate_publishes {
        outbox.duplicate_publishes();
    }
    if behaviour.ignore_packet_size_max {
        outbox.ignore_packet_size_max();
    }
    if let Some(ids) = &behaviour.packet_ids {
        outbox.number_by(PacketIdCursor::new(ids.clone()));
    }
    outbox
}

fn silence_max(keep_alive_s: u16) -> Option<Duration> {
    (keep_alive_s > 0).then(|| Duration::from_secs(u64::from(keep_alive_s)) * 3 / 2)
}

/// Why a filter is refused, if it is.
fn refused(filter: &str) -> Option<SubscribeReasonCode> {
    if topic::is_shared(filter) {
        return Some(SubscribeReasonCode::SharedSubscriptionsNotSupported);
    }
    (!topic::is_valid_filter(filter)).then_some(SubscribeReasonCode::TopicFilterInvalid)
}
