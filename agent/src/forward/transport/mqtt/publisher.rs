//! One connection from its CONNACK to its end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rumqttc::v5::mqttbytes::v5::DisconnectReasonCode;
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

use super::commands::{self, Commands};
use super::{MqttTarget, RECEIVED_BYTES_MAX, packet};
use crate::command::remote::Answer;
use crate::forward::envelope::expand;
use crate::forward::queue::{FAREWELL, Job, Jobs};
use crate::forward::{Outcome, Parcel};
use crate::mqtt::connection::{Connection, Step};
use crate::mqtt::failure::{Failure, reason};
use crate::mqtt::frame::{Cut, Frame, frames};
use crate::mqtt::handshake::{Welcome, announce, detail_of};
use crate::net::connect::Wire;

/// While this much output is pending, no further parcel is added, so that memory holds one parcel rather than a window.
const OUT_BYTES_MAX: usize = 64 * 1024;

/// A larger output buffer is freed once it is empty.
const OUT_BYTES_KEPT: usize = 1024 * 1024;

/// Answers to commands that may be unacknowledged.
const ANSWERS_MAX: usize = 16;

/// Minimum interval of timer checks.
const TICK_MIN: Duration = Duration::from_millis(10);

const PACKET_TOO_LARGE: u8 = 0x95;

/// Publishes parcels over one connection.
pub(super) struct Publisher {
    target: MqttTarget,
    address: String,
    connection: Connection,
    window: usize,
    /// Messages that the broker accepts unacknowledged.
    receive_max: usize,
    bytes_max: usize,
    in_flight: VecDeque<InFlight>,
    pkid: u16,
    /// Since when the broker owes an answer.
    waiting: Instant,
    unheard: Arc<AtomicU64>,
    commands: Option<Commands>,
}

/// A parcel waiting for its PUBACK.
struct InFlight {
    pkid: u16,
    bytes: usize,
    reply: Reply,
}

/// What its PUBACK is for.
enum Reply {
    Parcel(oneshot::Sender<Outcome>),
    /// The answer to a command.
    Answer(Answer),
}

impl Publisher {
    pub(super) fn new(
        target: MqttTarget,
        stream: Box<dyn Wire>,
        input: BytesMut,
        welcome: &Welcome,
        window: usize,
        unheard: Arc<AtomicU64>,
        commands: Option<Commands>,
    ) -> Publisher {
        let kept_bytes_max = commands.as_ref().map_or(RECEIVED_BYTES_MAX, |_| commands::KEPT_BYTES_MAX);
        let bytes_max = welcome.packet_bytes_max.unwrap_or(u32::MAX).min(target.sink.packet_bytes_max);
        Publisher {
            address: target.sink.address.to_string(),
            connection: Connection::new(
                stream,
                input,
                kept_bytes_max,
                target.sink.keep_alive,
                welcome.server_keep_alive,
            ),
            window,
            receive_max: usize::from(welcome.receive_max.unwrap_or(u16::MAX)),
            bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX),
            in_flight: VecDeque::with_capacity(window.min(1024)),
            pkid: commands.as_ref().map_or(0, |_| commands::SUBSCRIBE_PKID),
            waiting: Instant::now(),
            unheard,
            commands,
            target,
        }
    }

    /// Runs the connection to its end.
    pub(super) async fn run(mut self, mut jobs: Jobs) {
        let Err(failure) = self.serve(&mut jobs).await else {
            self.keep_answers();
            return self.leave().await;
        };
        if let Failure::Disconnected { code: PACKET_TOO_LARGE, .. } = failure {
            self.blame_the_largest();
        }
        jobs.lose(self.target.words(&failure));
        self.keep_answers();
        if let Some(code) = failure.farewell() {
            self.hang_up(code).await;
        }
    }

    /// Ends without an error when the queue is closed.
    async fn serve(&mut self, jobs: &mut Jobs) -> Result<(), Failure> {
        if let Some(will) = &self.target.sink.will {
            let protocol = self.target.sink.protocol;
            self.connection.send(|out| announce(&will.topic, &will.online, protocol, out))?;
        }
        if let Some(commands) = &mut self.commands {
            self.connection.send(|out| commands.subscribe(out))?;
        }
        let upstream = self.commands.as_ref().map(|commands| commands.upstream().clone());
        self.take_input()?;
        let mut tick =
            tokio::time::interval(self.connection.tick().min(self.target.answer_timeout / 4).max(TICK_MIN));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let in_flight = self.in_flight.len();
            let unwritten = self.connection.unwritten() < OUT_BYTES_MAX;
            let parcels =
                self.in_flight.iter().filter(|waiting| matches!(waiting.reply, Reply::Parcel(_))).count();
            let answers = unwritten && in_flight < self.receive_max && in_flight - parcels < ANSWERS_MAX;
            let room = unwritten && in_flight < self.receive_max && parcels < self.window;
            tokio::select! {
                biased;
                // First, since acknowledgements make room.
                step = self.connection.step(true) => self.stepped(step?)?,
                pkid = commands::done(&mut self.commands) => self.acknowledge(pkid),
                answer = commands::next_answer(upstream.as_ref()), if answers => self.answer(answer),
                job = jobs.incoming.recv(), if room => match job {
                    Some(job) => self.publish(job),
                    None => return Ok(()),
                },
                _ = tick.tick() => self.check()?,
            }
        }
    }

    fn publish(&mut self, job: Job) {
        let topic = expand(&self.target.sink.topic, &job.parcel.manifest);
        let before = self.connection.unwritten();
        let pkid = self.next_pkid();
        let protocol = self.target.sink.protocol;
        let bytes_max = self.bytes_max;
        let write = |out: &mut _| packet::publish(out, protocol, &topic, pkid, &job.parcel, bytes_max);
        match self.connection.send(write) {
            Ok(()) => {
                if self.in_flight.is_empty() {
                    self.waiting = Instant::now();
                }
                let bytes = self.connection.unwritten() - before;
                self.in_flight.push_back(InFlight { pkid, bytes, reply: Reply::Parcel(job.reply) });
            }
            Err(size) => {
                // If this fails, nobody is waiting for it any more.
                let _ = job.reply.send(Outcome::TooLarge { why: self.too_large(size, &job.parcel) });
            }
        }
    }

    /// The broker need not send this command again.
    fn acknowledge(&mut self, pkid: Option<u16>) {
        if let Some(pkid) = pkid {
            let [high, low] = pkid.to_be_bytes();
            self.connection.send(|out| out.extend_from_slice(&[0x40, 2, high, low]));
        }
    }

    fn answer(&mut self, answer: Answer) {
        let before = self.connection.unwritten();
        let (pkid, bytes_max) = (self.next_pkid(), self.bytes_max);
        match self.connection.send(|out| packet::answer(out, pkid, &answer, bytes_max)) {
            Ok(()) => {
                if self.in_flight.is_empty() {
                    self.waiting = Instant::now();
                }
                let bytes = self.connection.unwritten() - before;
                self.in_flight.push_back(InFlight { pkid, bytes, reply: Reply::Answer(answer) });
            }
            Err(size) => {
                self.unanswered(&answer, &format!("it has {size} bytes, and the limit is {bytes_max}"))
            }
        }
    }

    fn unanswered(&self, answer: &Answer, why: &str) {
        let (sink, topic) = (&self.address, &answer.to.topic);
        tracing::warn!(%sink, %topic, "an answer to a command is not sent: {why}; the events tell what became of it");
    }

    /// Answers that may not have arrived are sent again over the next connection.
    fn keep_answers(&mut self) {
        let Some(commands) = &self.commands else { return };
        for waiting in std::mem::take(&mut self.in_flight).into_iter().rev() {
            if let Reply::Answer(answer) = waiting.reply {
                commands.upstream().give_back(answer);
            }
        }
    }

    fn too_large(&self, size: usize, parcel: &Parcel) -> String {
        format!(
            "{}: {} events make a packet of {size} bytes, and the limit of the broker or of `packet_bytes_max` is {}",
            self.address, parcel.manifest.events, self.bytes_max
        )
    }

    fn next_pkid(&mut self) -> u16 {
        loop {
            self.pkid = self.pkid.checked_add(1).unwrap_or(1);
            if !self.in_flight.iter().any(|waiting| waiting.pkid == self.pkid) {
                return self.pkid;
            }
        }
    }

    fn stepped(&mut self, step: Step) -> Result<(), Failure> {
        match step {
            Step::Wrote => {
                self.waiting = Instant::now();
                self.connection.shrink(OUT_BYTES_KEPT);
                Ok(())
            }
            Step::Read(_) => self.take_input(),
        }
    }

    fn take_input(&mut self) -> Result<(), Failure> {
        loop {
            match self.connection.cut()? {
                Cut::Frames(chunk) => {
                    for frame in frames(&chunk) {
                        self.handle(&chunk, &frame)?;
                    }
                }
                Cut::Oversized { head, frame, size } => {
                    if let Some(commands) = &self.commands {
                        commands.take(&head, &frame, Some(size))?;
                    }
                }
                Cut::Missing(bytes) => {
                    self.connection.input().reserve(bytes);
                    return Ok(());
                }
            }
        }
    }

    fn handle(&mut self, chunk: &Bytes, frame: &Frame) -> Result<(), Failure> {
        let body = &chunk[frame.body.clone()];
        match (frame.packet_type(), body) {
            (4, &[high, low, ref rest @ ..]) => {
                let code = rest.first().copied().unwrap_or(0);
                self.acknowledged(u16::from_be_bytes([high, low]), code, &chunk.slice(frame.whole.clone()))
            }
            (4, _) => Err(Failure::Malformed("PUBACK")),
            (3, _) if let Some(commands) = &self.commands => commands.take(chunk, frame, None),
            (9, body) if let Some(commands) = &mut self.commands => commands.subscribed(body, &self.address),
            // PINGRESP only shows that the broker is alive. A PUBLISH at QoS 0 would be a broker's own notice.
            (13 | 3, _) => Ok(()),
            (14, _) => {
                let detail = detail_of(&chunk.slice(frame.whole.clone()));
                Err(Failure::Disconnected { code: body.first().copied().unwrap_or(0), detail })
            }
            _ => Err(Failure::Unexpected("a packet that answers nothing of ours")),
        }
    }

    fn acknowledged(&mut self, pkid: u16, code: u8, frame: &Bytes) -> Result<(), Failure> {
        // Brokers answer in order, so it is nearly always the first.
        let Some(index) = self.in_flight.iter().position(|waiting| waiting.pkid == pkid) else {
            return Err(Failure::Unexpected("a PUBACK for no pending message"));
        };
        let Some(waiting) = self.in_flight.remove(index) else { return Ok(()) };
        self.waiting = Instant::now();
        match waiting.reply {
            Reply::Parcel(reply) => {
                if code == 0x10 {
                    self.nobody_listens();
                }
                // The driver may have given up on it.
                let _ = reply.send(packet::outcome(code, frame, &self.target.sink.topic, &self.address));
            }
            Reply::Answer(answer) if code >= 0x80 => self.unanswered(&answer, reason(code)),
            Reply::Answer(_) => {}
        }
        Ok(())
    }

    /// The parcel is acknowledged, but there is no subscriber. The gateway cannot judge that, so it warns the operator.
    fn nobody_listens(&self) {
        let so_far = self.unheard.fetch_add(1, Ordering::Relaxed) + 1;
        if so_far.is_power_of_two() {
            let (sink, topic) = (&self.address, &self.target.sink.topic);
            tracing::warn!(
                %sink, %topic, so_far,
                "the broker acknowledged a parcel, but no client subscribes to its topic, so nothing upstream keeps \
                 it: subscribe a receiver"
            );
        }
    }

    fn check(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        self.connection.check(true, now)?;
        let waited = now.saturating_duration_since(self.waiting);
        if !self.in_flight.is_empty() && self.connection.is_flushed() && waited >= self.target.answer_timeout
        {
            return Err(Failure::NoPuback { waited });
        }
        Ok(())
    }

    /// The broker does not say which message was too large.
    fn blame_the_largest(&mut self) {
        let largest = (0..self.in_flight.len()).max_by_key(|&index| self.in_flight[index].bytes);
        if let Some(waiting) = largest.and_then(|index| self.in_flight.remove(index)) {
            let why = format!(
                "{} disconnects because of a message of {} bytes: {}; set `packet_bytes_max` below its limit",
                self.address,
                waiting.bytes,
                reason(PACKET_TOO_LARGE)
            );
            match waiting.reply {
                Reply::Parcel(reply) => drop(reply.send(Outcome::TooLarge { why })),
                Reply::Answer(answer) => self.unanswered(&answer, reason(PACKET_TOO_LARGE)),
            }
        }
    }

    async fn leave(&mut self) {
        if let Some(will) = &self.target.sink.will {
            // The broker does not publish the will after a DISCONNECT. If this fails, only a notice is lost.
            let protocol = self.target.sink.protocol;
            let _ = self.connection.send(|out| announce(&will.topic, &will.offline, protocol, out));
        }
        self.hang_up(DisconnectReasonCode::NormalDisconnection).await;
    }

    async fn hang_up(&mut self, code: DisconnectReasonCode) {
        self.connection.hang_up(code, self.target.sink.protocol, FAREWELL).await;
    }
}
