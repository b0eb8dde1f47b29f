//! What is asked of the agent other than commands: device administration and the quarantine. Each call is recorded with its
//! actor, what follows from it names that record as its cause, and all of it is durable before the answer.

use std::ops::ControlFlow;
use std::sync::PoisonError;
use std::time::Duration;

use fieldlog_projections::chunk::Envelope;
use fieldlog_projections::fact::Resolution;
use fieldlog_projections::{Fact, Seq, Time};
use tokio::sync::oneshot;

use super::{Writer, WriterError};
use crate::log::LogError;
use crate::message::MALFORMED;
use crate::observe::{Declined, Kept};
use fieldlog_projections::pattern::Patterns;

/// Inputs of the quarantine that one call looks at, at most; the writer does nothing else meanwhile.
const EXAMINED_MAX: usize = 1_000;

/// Something that is asked of the agent.
#[derive(Debug)]
pub struct Order {
    /// Who asks.
    pub actor: String,
    /// What for.
    pub call: Call,
    /// Why, in their words; empty: not said.
    pub reason: String,
    /// Told what came of it, once that is durable.
    pub reply: oneshot::Sender<Result<Done, Refused>>,
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Retire a device, by its id.
    Retire(String),
    /// Forget a device, by its id.
    Forget(String),
    /// Give a device another id.
    Rename {
        /// Its id.
        device: String,
        /// Its id from now on.
        to: String,
    },
    /// Read one quarantined input again.
    Requeue(Seq),
    /// Read several again, oldest first.
    RequeueAll(Filter),
    /// Delete one quarantined input.
    Purge(Seq),
    /// Delete several, oldest first.
    PurgeAll(Filter),
    /// A copy of the log is about to be made in this directory.
    Backup(String),
}

/// Which inputs of the quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Pattern of the source's name; `*` matches any text.
    pub source: String,
    /// Pattern of the topic.
    pub topic: String,
    /// Only those after this position.
    pub after: Seq,
    /// How many, at most; at least 1.
    pub limit: usize,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// The record of the call; `None` if there was nothing to do.
    pub seq: Option<Seq>,
    /// The id that the device has now, or had when it was forgotten; empty if it is about none.
    pub device: String,
    /// Commands of the device that were open and are given up.
    pub commands: usize,
    /// Inputs that were dealt with, each with the number of records made of it.
    pub inputs: Vec<(Seq, usize)>,
    /// Inputs that stay in the quarantine, and why.
    pub kept: Vec<(Seq, String)>,
    /// The last input that was looked at, if there are more.
    pub next: Option<Seq>,
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The kind of reason.
    pub code: Code,
    /// The reason, and what to do.
    pub reason: String,
}

/// Kinds of reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// There is no such device.
    NoSuchDevice,
    /// The quarantine has no such input.
    NoSuchInput,
    /// What is given cannot be used.
    Invalid,
    /// It does not fit what is there.
    Conflict,
    /// The input is refused again.
    RefusedAgain,
    /// It cannot be done now.
    NotReady,
}

impl Refused {
    fn new(code: Code, reason: impl Into<String>) -> Refused {
        Refused { code, reason: reason.into() }
    }
}

impl From<Declined> for Refused {
    fn from(declined: Declined) -> Refused {
        match declined {
            Declined::NoSuchDevice(reason) => Refused::new(Code::NoSuchDevice, reason),
            Declined::Invalid(reason) => Refused::new(Code::Invalid, reason),
            Declined::Conflict(reason) => Refused::new(Code::Conflict, reason),
            Declined::NotYet(reason) => Refused::new(Code::NotReady, reason),
        }
    }
}

impl Call {
    /// As it is recorded: the call and its target.
    fn recorded(&self) -> (&'static str, String) {
        let filtered = |Filter { source, topic, .. }: &Filter| format!("source {source}, topic {topic}");
        match self {
            Call::Retire(device) => ("retire-device", device.clone()),
            Call::Forget(device) => ("forget-device", device.clone()),
            Call::Rename { device, .. } => ("rename-device", device.clone()),
            Call::Requeue(input) => ("requeue", input.to_string()),
            Call::RequeueAll(filter) => ("requeue", filtered(filter)),
            Call::Purge(input) => ("purge", input.to_string()),
            Call::PurgeAll(filter) => ("purge", filtered(filter)),
            Call::Backup(directory) => ("backup", directory.clone()),
        }
    }
}

/// A quarantined input and its record.
struct Stored {
    fact: Fact,
    arrived: Time,
    payload: Vec<u8>,
}

impl Writer {
    /// Carries out what is asked, and answers once it is durable.
    pub(super) fn administer(&mut self, order: Order) -> Result<(), WriterError> {
        // The view, which is looked at, must have everything that is before the call.
        self.commit_all()?;
        // Sinks may have acknowledged more since the last commit.
        self.observer.committed(self.log.log().head(), self.acked_by_required());
        let Order { actor, call, reason, reply } = order;
        let outcome = self.carry_out(&actor, &call, &reason);
        self.batch.records.caused_by(None);
        self.commit_all()?;
        if matches!(call, Call::Backup(_)) {
            // The copy is of the log's file.
            self.log.move_journal(Duration::ZERO)?;
        }
        // Whoever asked may have gone.
        let _ = reply.send(outcome);
        Ok(())
    }

    /// Appends the record of a call and returns its position.
    pub(super) fn administered(&mut self, actor: &str, call: &str, target: &str, reason: &str) -> Seq {
        let fact = Fact::Administered {
            actor: actor.to_owned(),
            call: call.to_owned(),
            target: target.to_owned(),
            reason: reason.to_owned(),
        };
        let at = self.next_position();
        let envelope = Envelope { wall: self.clock.wall(), ..Envelope::default() };
        self.batch.records.push_fact(envelope, &fact);
        at
    }

    fn carry_out(&mut self, actor: &str, call: &Call, reason: &str) -> Result<Done, Refused> {
        if self.draining {
            let words = "fieldlog is being stopped; ask again when it runs again";
            return Err(Refused::new(Code::NotReady, words));
        }
        if let Some(why) = &self.orders.blocked {
            return Err(Refused::new(Code::NotReady, format!("the log takes nothing new: {why}")));
        }
        let (word, target) = call.recorded();
        match call {
            Call::Backup(_) => {
                let seq = self.administered(actor, word, &target, reason);
                Ok(Done { seq: Some(seq), ..Done::default() })
            }
            Call::Retire(device) | Call::Forget(device) | Call::Rename { device, .. } => self
                .administer_device(call, device, &|writer, id| writer.administered(actor, word, id, reason)),
            Call::Requeue(input) | Call::Purge(input) => {
                self.input(*input)?;
                let cause = self.administered(actor, word, &target, reason);
                let mut done = Done { seq: Some(cause), ..Done::default() };
                self.deal_with(*input, matches!(call, Call::Requeue(_)), cause, &mut done);
                match done.kept.pop() {
                    Some((_, reason)) => Err(Refused::new(Code::RefusedAgain, reason)),
                    None => Ok(done),
                }
            }
            Call::RequeueAll(filter) | Call::PurgeAll(filter) => {
                let (inputs, next) = self.inputs(filter)?;
                if inputs.is_empty() {
                    return Ok(Done { next, ..Done::default() });
                }
                let cause = self.administered(actor, word, &target, reason);
                let mut done = Done { seq: Some(cause), next, ..Done::default() };
                for input in inputs {
                    self.deal_with(input, matches!(call, Call::RequeueAll(_)), cause, &mut done);
                }
                Ok(done)
            }
        }
    }

    fn administer_device(
        &mut self,
        call: &Call,
        device: &str,
        record: &dyn Fn(&mut Writer, &str) -> Seq,
    ) -> Result<Done, Refused> {
        let id = self.observer.device_named(device)?;
        let words = match call {
            Call::Rename { to, .. } => {
                self.observer.may_rename(id, to)?;
                None
            }
            Call::Forget(_) => {
                let changed = {
                    let view = self.shared.view.read().unwrap_or_else(PoisonError::into_inner);
                    view.devices.get(id).map_or(Seq(0), |device| device.changed.0)
                };
                self.observer.may_forget(id, changed)?;
                Some("the device was forgotten by an operator")
            }
            _ => {
                self.observer.may_retire(id)?;
                Some("the device was retired by an operator")
            }
        };
        // The id that it has now, also if it was called by a former one.
        let name = self.observer.id_of(id);
        let cause = record(self, &name);
        let commands = words.map_or(0, |words| self.give_up_commands(id, words));
        self.batch.records.caused_by(Some(cause));
        let now = self.clock.wall();
        let device = match call {
            Call::Rename { to, .. } => {
                self.observer.rename_now(id, to, now, &mut self.batch);
                to.clone()
            }
            Call::Forget(_) => {
                self.observer.forget_now(id, now, &mut self.batch);
                name
            }
            _ => {
                self.observer.retire_now(id, now, &mut self.batch);
                name
            }
        };
        Ok(Done { seq: Some(cause), device, commands, ..Done::default() })
    }

    /// Requeues or purges one input, which then leaves the quarantine; one that is refused stays.
    fn deal_with(&mut self, input: Seq, requeue: bool, cause: Seq, done: &mut Done) {
        let dealt = match requeue {
            true => self.input(input).and_then(|kept| self.requeue(input, &kept)),
            false => Ok(0),
        };
        match dealt {
            Ok(records) => {
                let resolution = if requeue { Resolution::Requeued } else { Resolution::Purged };
                let envelope =
                    Envelope { wall: self.clock.wall(), cause: Some(cause), ..Envelope::default() };
                self.batch.records.push_fact(envelope, &Fact::QuarantineResolved { input, resolution });
                self.batch.resolved.push(input);
                done.inputs.push((input, records));
            }
            Err(refused) => done.kept.push((input, refused.reason)),
        }
    }

    fn requeue(&mut self, seq: Seq, input: &Stored) -> Result<usize, Refused> {
        let refused = |reason: String| Refused::new(Code::RefusedAgain, reason);
        let (source, topic, reason, size) = match &input.fact {
            Fact::InputQuarantined { source, topic, reason, size } => (source, topic, reason, *size),
            Fact::QuarantineSummarised { count, .. } => {
                return Err(refused(format!(
                    "it stands for {count} messages, of which only the newest payload is kept; purge it"
                )));
            }
            _ => return Err(refused("its record in the log is of another kind".into())),
        };
        if size != input.payload.len() as u64 {
            return Err(refused(format!(
                "{} of its {size} bytes are kept: it was cut to limits.quarantine_payload_bytes_max, or contained values that \
                 are redacted; purge it, and have the device send it again",
                input.payload.len()
            )));
        }
        if reason.starts_with(MALFORMED) || topic.is_empty() || topic.contains('\u{fffd}') {
            return Err(refused("it was not a valid MQTT message, so it has no topic; purge it".into()));
        }
        let kept = Kept { source, topic, payload: &input.payload, arrived: input.arrived };
        self.batch.records.caused_by(Some(seq));
        let read = self.observer.read_again(&kept, self.clock.wall(), &mut self.batch);
        self.batch.records.caused_by(None);
        read.map_err(|why| refused(format!("it is refused again: {why}")))
    }

    /// An input that is in the quarantine.
    fn input(&self, seq: Seq) -> Result<Stored, Refused> {
        let missing = |reason: String| Refused::new(Code::NoSuchInput, reason);
        let reader = &self.shared.reader;
        let damaged = |error: LogError| Refused::new(Code::RefusedAgain, error.to_string());
        let payload = reader.quarantined(seq).map_err(damaged)?;
        let payload = payload.filter(|_| !self.batch.resolved.contains(&seq)).ok_or_else(|| {
            missing(format!(
                "the quarantine has no input at sequence {seq}; /api/v1/quarantine lists those that it has"
            ))
        })?;
        let found = reader.scan(seq, |chunk| {
            let record = chunk.records().filter_map(Result::ok).find(|record| record.seq == seq);
            ControlFlow::Break(record.and_then(|record| Some((record.fact().ok()?, record.wall))))
        });
        let Some((fact, arrived)) = found.map_err(damaged)?.flatten() else {
            // Its payload outlives its record; only a purge can deal with it.
            let fact = Fact::Trimmed { first: seq, last: seq };
            return Ok(Stored { fact, arrived: Time(0), payload });
        };
        Ok(Stored { fact, arrived, payload })
    }

    /// The inputs that a filter means, oldest first, and the last one that was looked at, if there are more.
    fn inputs(&self, filter: &Filter) -> Result<(Vec<Seq>, Option<Seq>), Refused> {
        let pattern = |name: &str, text: &str| {
            Patterns::parse(&[text])
                .map_err(|error| Refused::new(Code::Invalid, format!("`{name}`: {error}")))
        };
        let (sources, topics) = (pattern("source", &filter.source)?, pattern("topic", &filter.topic)?);
        let all = self.shared.reader.quarantine(usize::MAX);
        let all = all.map_err(|error| Refused::new(Code::NotReady, error.to_string()))?;
        let mut rest = all.into_iter().rev().filter(|seq| *seq > filter.after).peekable();
        let (mut found, mut last) = (Vec::new(), None);
        for seq in rest.by_ref().take(EXAMINED_MAX) {
            last = Some(seq);
            let (source, topic) = match self.input(seq).map(|input| input.fact) {
                Ok(
                    Fact::InputQuarantined { source, topic, .. }
                    | Fact::QuarantineSummarised { source, topic, .. },
                ) => (source, topic),
                // What cannot be read, or has lost its record, is listed as kept by a call that means all.
                _ => (String::new(), String::new()),
            };
            if sources.matches(&source) && topics.matches(&topic) {
                found.push(seq);
            }
            if found.len() >= filter.limit {
                break;
            }
        }
        Ok((found, last.filter(|_| rest.peek().is_some())))
    }
}
