//! One connection, from its CONNECT to its end: a single task that reads, routes and writes.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{DisconnectReasonCode as Reason, SubscribeReasonCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::time::{Duration, Instant, sleep, sleep_until, timeout};

use crate::fault::{Action, Behaviour, PacketIdCursor, Progress, Steps};
use crate::message::{Message, Qos};
use crate::outbox::Outbox;
use crate::router::TakenOver;
use crate::topic;
use crate::wire::encode::{self, Accepted};
use crate::wire::{self, Connect, ConnectError, Filter, Packet, Version, Violation};
use crate::{Shared, stopped};

/// Nobody may hold a connection without saying who he is.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to read what is left when the broker closes.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Answers wait in memory for a client that sends without reading; beyond this, it is not read from either.
const UNREAD_BYTES_MAX: usize = 1024 * 1024;
const READ_BYTES: usize = 64 * 1024;

/// Serves one accepted connection until it ends.
pub(crate) async fn serve(shared: Arc<Shared>, stream: TcpStream, number: usize) {
    // Every write is already a batch; waiting to fill segments would only delay it.
    let _ = stream.set_nodelay(true);
    let behaviour = shared.options.script.behaviour(number);
    let (reader, writer) = stream.into_split();
    let mut socket = Socket { reader, writer, input: BytesMut::new(), shared: Arc::clone(&shared) };
    let mut steps = Steps::new(behaviour.steps.clone());
    match socket.connect(&mut steps, &behaviour).await {
        Ok(connect) => Connection::attach(socket, shared, number, connect, behaviour, steps).run().await,
        Err(refusal) => {
            tracing::debug!(connection = number, refusal = %refusal, "not connected");
            socket.refuse(&refusal).await;
        }
    }
}

/// The socket and what has been read from it.
struct Socket {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    input: BytesMut,
    shared: Arc<Shared>,
}

impl Socket {
    /// Reads CONNECT and decides whether to accept it.
    async fn connect(&mut self, steps: &mut Steps, behaviour: &Behaviour) -> Result<Connect, Refusal> {
        let connect = timeout(CONNECT_TIMEOUT, self.read_connect()).await.map_err(|_| Refusal::Silent)??;
        let version = connect.version;
        while let Some(action) = steps.take_due(&Progress::default()) {
            let mut out = BytesMut::new();
            if self.act(action, version, &mut out).await.is_err() {
                return Err(Refusal::Silent);
            }
            self.flush(&mut out).await.map_err(|_| Refusal::Silent)?;
        }
        match behaviour.refuse_connect {
            Some(code) => Err(ConnectError::Refused { version, code }.into()),
            None if !self.shared.options.admits(&connect.username, &connect.password) => {
                let code = if version == Version::V5 { 0x86 } else { 4 };
                Err(ConnectError::Refused { version, code }.into())
            }
            None => Ok(connect),
        }
    }

    async fn read_connect(&mut self) -> Result<Connect, Refusal> {
        let bytes_max = self.shared.options.packet_bytes_max;
        loop {
            if let Some(connect) = wire::decode_connect(&mut self.input, bytes_max)? {
                return Ok(connect);
            }
            let mut stop = self.shared.stop.clone();
            tokio::select! {
                read = self.reader.read_buf(&mut self.input) => match read {
                    Ok(1..) => {}
                    _ => return Err(Refusal::Silent),
                },
                () = stopped(&mut stop) => return Err(Refusal::Silent),
            }
        }
    }

    async fn refuse(&mut self, refusal: &Refusal) {
        let mut out = BytesMut::new();
        if let Refusal::Connect(ConnectError::Refused { version, code }) = refusal {
            encode::connack_refused(*version, *code, &mut out);
        }
        self.close(out).await;
    }

    /// Does what the script says. What was written before goes out first.
    async fn act(&mut self, action: Action, version: Version, out: &mut BytesMut) -> Result<(), End> {
        self.flush(out).await?;
        match action {
            Action::Write(bytes) => out.extend_from_slice(&bytes),
            Action::Delay(duration) => self.unless_stopped(sleep(duration)).await?,
            Action::HalfOpen => {
                self.unless_stopped(std::future::pending::<Infallible>()).await?;
            }
            Action::Close => return Err(End::Scripted),
            Action::Reset => {
                let _ = self.writer.as_ref().set_zero_linger();
                return Err(End::Reset);
            }
            Action::Disconnect(reason) => {
                encode::disconnect(version, reason, out);
                return Err(End::Scripted);
            }
        }
        Ok(())
    }

    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, End> {
        let mut stop = self.shared.stop.clone();
        tokio::select! {
            done = work => Ok(done),
            () = stopped(&mut stop) => Err(End::Stopped),
        }
    }

    async fn flush(&mut self, out: &mut BytesMut) -> Result<(), End> {
        let mut stop = self.shared.stop.clone();
        tokio::select! {
            written = self.writer.write_all_buf(out) => written.map_err(|_| End::Lost),
            () = stopped(&mut stop) => Err(End::Stopped),
        }
    }

    /// Writes the rest and closes so that the client can read all of it: closing with unread input would reset the
    /// connection under it.
    async fn close(&mut self, mut out: BytesMut) {
        let farewell = async {
            self.writer.write_all_buf(&mut out).await?;
            self.writer.shutdown().await?;
            loop {
                self.input.clear();
                if self.reader.read_buf(&mut self.input).await? == 0 {
                    return std::io::Result::Ok(());
                }
            }
        };
        let mut stop = self.shared.stop.clone();
        tokio::select! {
            _ = timeout(CLOSE_TIMEOUT, farewell) => {}
            () = stopped(&mut stop) => {}
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
    /// One and a half times the keep alive the client was told or has chosen.
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
            // What fits into the socket's buffer goes; there is no waiting for a client while shutting down.
            let _ = self.socket.writer.try_write(&out);
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
            let Socket { reader, writer, input, .. } = &mut self.socket;
            let out = &mut self.outbox.bytes;
            let (unread, silent_at) = (out.len(), self.silence_max.map(|max| self.last_packet + max));
            tokio::select! {
                written = writer.write_buf(out), if unread > 0 => {
                    written.map_err(|_| End::Lost)?;
                }
                read = read(reader, input), if unread < UNREAD_BYTES_MAX => {
                    read?;
                    self.last_packet = Instant::now();
                    self.take_input().await?;
                }
                () = wake.notified() => {}
                () = sleep_until(silent_at.unwrap_or(self.last_packet)), if silent_at.is_some() => {
                    return Err(End::Silent);
                }
                () = stopped(&mut stop) => return Err(End::Stopped),
            }
        }
    }

    /// Takes the steps of the script that are due, and sets the bound for the next.
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
        while let Some(packet) = wire::decode(self.version, &mut self.socket.input, bytes_max)? {
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
        let qos = message.qos;
        self.shared.router().publish_from(&self.client_id, self.number, message)?;
        if qos == Qos::AtLeastOnce {
            encode::puback(self.version, pkid, &mut self.outbox.bytes);
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
    let window = connect.receive_max.min(if inflight_max == 0 { u16::MAX } else { inflight_max });
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

/// Why a filter is not subscribed to, if so.
fn refused(filter: &str) -> Option<SubscribeReasonCode> {
    if topic::is_shared(filter) {
        return Some(SubscribeReasonCode::SharedSubscriptionsNotSupported);
    }
    (!topic::is_valid_filter(filter)).then_some(SubscribeReasonCode::TopicFilterInvalid)
}

async fn read(reader: &mut OwnedReadHalf, input: &mut BytesMut) -> Result<(), End> {
    // Messages keep the buffer they came in alive, so it is filled before the next one is taken.
    if input.capacity() - input.len() < READ_BYTES / 16 {
        input.reserve(READ_BYTES);
    }
    match reader.read_buf(input).await {
        Ok(1..) => Ok(()),
        _ => Err(End::Lost),
    }
}

/// How a connection ends.
#[derive(Debug)]
enum End {
    /// By the client's DISCONNECT.
    Disconnected { publish_will: bool, session_expiry_s: Option<u32> },
    /// By the network, or by a client that does not say goodbye.
    Lost,
    /// Nothing came for one and a half times the keep alive.
    Silent,
    /// The client opened another connection.
    TakenOver,
    /// The client broke the protocol.
    Violation(Violation),
    /// The script closed it.
    Scripted,
    /// The script reset it.
    Reset,
    /// The broker shuts down.
    Stopped,
}

impl From<TakenOver> for End {
    fn from(TakenOver: TakenOver) -> End {
        End::TakenOver
    }
}

impl From<Violation> for End {
    fn from(violation: Violation) -> End {
        End::Violation(violation)
    }
}

/// Why there was no connection.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("no CONNECT came, or the script ended the connection")]
    Silent,
}
