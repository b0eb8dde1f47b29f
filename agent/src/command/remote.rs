//! Commands that come through sinks, whatever carries them: what is refused before anybody is asked, and the answers.
//!
//! Who asks gets one answer when a command is accepted or refused, and one when it is closed. If a command can only be
//! closed by late evidence, that is said once before. Answers that are still owed are in memory: after a restart, whoever
//! asks again with the same key gets both again, and the events tell the outcome in any case.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fieldlog_projections::command::{CommandState, Progress};
use fieldlog_projections::commands::Command;
use fieldlog_projections::{Seq, TraceParent, View};
use fieldlog_wire::api::commands::{CommandBody, RemoteAnswer};

use super::declared::{Code, Rejected};
use super::{Accepted, BODY_BYTES_MAX, read_body};

/// Commands of one connection that may wait for the writer; more are refused.
pub const WAITING_MAX: u16 = 64;
/// Commands of a sink whose end is awaited, to be told; of more, the end of the oldest is not told.
const OPEN_MAX: usize = 1_024;
/// Answers that wait for a connection; of more, the oldest are dropped.
const READY_MAX: usize = 1_024;

/// A message that asks for a command.
#[derive(Clone, Debug)]
pub struct Call {
    /// Id of the device; empty if the topic names none.
    pub device: String,
    /// The body, or the beginning of one that is too large.
    pub payload: Bytes,
    /// Size of the whole message in bytes, if it is too large to be kept.
    pub oversized: Option<u64>,
    /// What is wrong with the packet that it came in.
    pub fault: Option<&'static str>,
    /// The broker keeps it.
    pub retained: bool,
    /// What was left of its time when it arrived; `None`: only its body limits it.
    pub expiry: Option<Duration>,
    /// The broker may have kept it for any time, so that its body alone says nothing of how old it is.
    pub may_be_old: bool,
    /// When it arrived.
    pub received: Instant,
    /// The trace context that it came with.
    pub traceparent: Option<TraceParent>,
    /// Where to answer; `None`: nowhere.
    pub from: Option<ReturnAddress>,
}

/// Where to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnAddress {
    /// The topic or subject.
    pub topic: String,
    /// Data to return with each answer.
    pub correlation: Option<Bytes>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Where to.
    pub to: ReturnAddress,
    /// Its body, JSON.
    pub body: Bytes,
}

impl Call {
    /// What it asks for.
    ///
    /// # Errors
    /// [`Rejected`], if that can be said without the device.
    pub fn read(&self) -> Result<CommandBody, Rejected> {
        if let Some(fault) = self.fault {
            return Err(Rejected::new(Code::BadRequest, format!("the packet is malformed: {fault}")));
        }
        if self.retained {
            let reason = "the message is retained, so the broker would deliver it again and again; publish it without the \
                          retain flag, and publish an empty retained message to remove this one";
            return Err(Rejected::new(Code::Retained, reason));
        }
        let size = self.oversized.unwrap_or(self.payload.len() as u64);
        if size > BODY_BYTES_MAX as u64 {
            let reason = format!("it has {size} bytes; a command may have {BODY_BYTES_MAX}");
            return Err(Rejected::new(Code::TooLarge, reason));
        }
        if self.may_be_old && self.expiry.is_none() {
            let reason = "the message has no Message Expiry Interval, so the broker may have kept it for any time; publish \
                          commands with one, such as `ttl_s`";
            return Err(Rejected::new(Code::BadRequest, reason));
        }
        if self.device.is_empty() {
            let reason = "the topic does not name a device: publish to the topic of commands with the device's id at its end";
            return Err(Rejected::new(Code::NoSuchDevice, reason));
        }
        read_body(&self.payload)
    }

    /// Whether it only removes a retained message.
    pub fn is_removal(&self) -> bool {
        self.retained && self.payload.is_empty() && self.oversized.is_none()
    }

    /// What is left of the time of `body`, in seconds: it counts from when the message arrived.
    pub fn ttl_left(&self, body: &CommandBody, now: Instant) -> u32 {
        let given = self.expiry.map_or(u64::MAX, |expiry| expiry.as_secs()).min(body.ttl_s.into());
        let waited = now.saturating_duration_since(self.received).as_secs();
        u32::try_from(given.saturating_sub(waited)).unwrap_or(u32::MAX)
    }
}

/// Who waits for the end of a command.
#[derive(Debug)]
struct Waiting {
    to: ReturnAddress,
    device: String,
    key: String,
    /// That only late evidence can close it.
    told: bool,
}

/// The answers of a sink.
#[derive(Debug)]
pub struct Answers {
    gateway: String,
    epoch: String,
    open: BTreeMap<Seq, Vec<Waiting>>,
    /// How many wait in `open`.
    waiting: usize,
    ready: VecDeque<Answer>,
    dropped: u64,
}

impl Answers {
    /// None yet.
    pub fn new(gateway: impl Into<String>, epoch: impl Into<String>) -> Answers {
        let (gateway, epoch) = (gateway.into(), epoch.into());
        Answers { gateway, epoch, open: BTreeMap::new(), waiting: 0, ready: VecDeque::new(), dropped: 0 }
    }

    /// A command was accepted, and `view` has it.
    pub fn accepted(&mut self, call: &Call, body: &CommandBody, accepted: Accepted, view: &View) {
        let Some(to) = call.from.clone() else { return };
        let command = view.commands.get(accepted.command);
        let mut answer = self.blank(&call.device, &body.idempotency_key, Some(accepted.command));
        answer.repeated = accepted.repeated;
        // What is remembered longer than its state has ended.
        match command {
            Some(command) => state(&mut answer, command),
            None => {
                answer.closed = true;
                if let Some((_, ended)) = view.commands.remembered(accepted.command) {
                    outcome(&mut answer, ended.state, ended.progress.as_ref());
                }
            }
        }
        let closed = answer.closed;
        self.push(Answer { to: to.clone(), body: json(&answer) });
        if closed {
            return;
        }
        let told = command.is_some_and(|command| !command.state.is_driven());
        let (device, key) = (call.device.clone(), body.idempotency_key.clone());
        let waiting = self.open.entry(accepted.command).or_default();
        let before = waiting.len();
        waiting.retain(|waiting| waiting.to != to);
        self.waiting -= before - waiting.len();
        waiting.push(Waiting { to, device, key, told });
        self.waiting += 1;
        while self.waiting > OPEN_MAX
            && let Some(mut oldest) = self.open.first_entry()
        {
            oldest.get_mut().remove(0);
            if oldest.get().is_empty() {
                oldest.remove();
            }
            self.waiting -= 1;
            self.dropped += 1;
        }
    }

    /// A command was refused; `key` is empty if it could not be read.
    pub fn refused(&mut self, call: &Call, key: &str, rejected: &Rejected) {
        let Some(to) = call.from.clone() else { return };
        let mut answer = self.blank(&call.device, key, None);
        answer.closed = true;
        answer.code = rejected.code.word().into();
        answer.detail = rejected.reason.as_str().into();
        answer.changed_seq = rejected.current;
        self.push(Answer { to, body: json(&answer) });
    }

    /// Answers what is no command with `body`.
    pub fn answer(&mut self, call: &Call, body: Bytes) {
        let Some(to) = call.from.clone() else { return };
        self.push(Answer { to, body });
    }

    /// Whether the end of a command is awaited.
    pub fn is_waiting(&self) -> bool {
        !self.open.is_empty()
    }

    /// Makes the answers that `view` has the reason for.
    pub fn settle(&mut self, view: &View) {
        let mut open = std::mem::take(&mut self.open);
        open.retain(|seq, waiting| {
            // What is forgotten is told by nobody.
            let Some(command) = view.commands.get(*seq) else { return false };
            if command.state.is_driven() && !command.is_closed() {
                return true;
            }
            for waiting in waiting.iter_mut() {
                if !waiting.told || command.is_closed() {
                    let mut answer = self.blank(&waiting.device, &waiting.key, Some(*seq));
                    state(&mut answer, command);
                    self.push(Answer { to: waiting.to.clone(), body: json(&answer) });
                    waiting.told = true;
                }
            }
            !command.is_closed()
        });
        self.waiting = open.values().map(Vec::len).sum();
        self.open = open;
    }

    /// The oldest answer that waits to be sent.
    pub fn pop(&mut self) -> Option<Answer> {
        self.ready.pop_front()
    }

    /// Takes back an answer that was not sent for certain; it is the next one then.
    pub fn give_back(&mut self, answer: Answer) {
        self.ready.push_front(answer);
    }

    /// How many answers were dropped since the last call.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    fn push(&mut self, answer: Answer) {
        self.ready.push_back(answer);
        while self.ready.len() > READY_MAX {
            self.ready.pop_front();
            self.dropped += 1;
        }
    }

    fn blank<'a>(&self, device: &'a str, key: &'a str, command: Option<Seq>) -> RemoteAnswer<'a> {
        RemoteAnswer {
            gateway: self.gateway.clone().into(),
            epoch: self.epoch.clone().into(),
            device: device.into(),
            idempotency_key: key.into(),
            command,
            ..RemoteAnswer::default()
        }
    }
}

fn state<'a>(answer: &mut RemoteAnswer<'a>, command: &'a Command) {
    answer.closed = command.is_closed();
    outcome(answer, command.state, command.progress.as_ref());
}

fn outcome<'a>(answer: &mut RemoteAnswer<'a>, state: CommandState, progress: Option<&'a Progress>) {
    answer.state = state.word().into();
    match progress {
        Some(Progress::Failed { reason }) => answer.failure = reason.as_str().into(),
        Some(Progress::Superseded { by }) => answer.superseded_by = Some(*by),
        _ => {}
    }
}

/// An answer holds only what JSON can express.
fn json(answer: &RemoteAnswer<'_>) -> Bytes {
    serde_json::to_vec(answer).unwrap_or_default().into()
}

#[cfg(test)]
mod tests;
