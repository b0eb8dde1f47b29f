//! The life of commands that are not closed. It decides, and does nothing: each step that it returns is recorded first, and
//! what it wants published is published once its step is durable.
//!
//! ```text
//!     ┌─── Unsent ──┐
//!     ▼             │
//! Requested ─► Dispatched(n) ─► Acknowledged ─► Applied
//!     │             │                │
//!     ├► Expired    ├► Failed        └─► Unconfirmed ─► Applied, by late evidence
//!     ├► Superseded └► Unknown, after a crash; never sent again
//!     └► Failed
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fieldlog_projections::command::{
    AcknowledgedBy, CommandRequest, CommandState, Evidence, OnOffline, Progress,
};
use fieldlog_projections::fact::Availability;
use fieldlog_projections::{Commands, DeviceId, Seq, Time};

use crate::message::{Fate, Publication, Published};

mod dispatch;
mod restore;
mod watch;

/// A property of a device: commands for the same one are sent one after the other.
type Lane = (DeviceId, Arc<str>);

/// All commands that are not closed.
#[derive(Debug, Default)]
pub struct Desk {
    open: BTreeMap<Seq, Open>,
    lanes: HashMap<Lane, Queue>,
    /// Lanes whose first command may be sent now.
    ready: BTreeSet<Lane>,
    /// Commands that wait for evidence of a device.
    watching: HashMap<DeviceId, BTreeSet<Seq>>,
    /// Commands that wait for an answer, by source and topic.
    answers: HashMap<(Box<str>, Box<str>), BTreeSet<Seq>>,
}

/// The commands of one property.
#[derive(Debug, Default)]
struct Queue {
    /// The one that was sent and is not closed.
    active: Option<Seq>,
    /// Those that wait to be sent.
    waiting: VecDeque<Seq>,
}

#[derive(Debug)]
struct Open {
    device: DeviceId,
    lane: Arc<str>,
    request: Arc<CommandRequest>,
    state: CommandState,
    /// The record of its last step.
    cause: Seq,
    attempts: u32,
    /// When its time is over; `None` if that cannot be known because the clock may be wrong.
    deadline: Option<Instant>,
    /// When its time is over at the latest, whatever the clock says.
    latest: Option<Instant>,
    /// A publication of it was lost on its way: from then on nobody can say that it has not arrived.
    may_be_out: bool,
    /// When evidence is no longer waited for.
    confirm_by: Option<Instant>,
}

/// A step to record.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The device.
    pub device: DeviceId,
    /// The command.
    pub command: Seq,
    /// The record of the step before.
    pub cause: Seq,
    /// The step.
    pub progress: Progress,
    /// Nothing more can come of the command.
    pub ends: bool,
    /// What is to be published once the step is durable, and the source that publishes it.
    pub publish: Option<(String, Publication)>,
}

/// Both clocks, and whether the wall clock can be believed.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The monotonic clock.
    pub at: Instant,
    /// The wall clock.
    pub wall: Time,
    /// Time since the kernel booted, in microseconds.
    pub booted_for: u64,
    /// The wall clock is synchronised.
    pub trusted: bool,
}

/// What can be reached.
pub trait World {
    /// Whether a device can be reached; `None` if there is no such device any more.
    fn availability(&self, device: DeviceId) -> Option<Availability>;
    /// How many publications a source takes now; `None` while it is not connected.
    fn room(&self, source: &str) -> Option<usize>;
}

impl Desk {
    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether a lane may have something to send.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How many commands are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether no command is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The devices whose reports may be evidence.
    pub fn watched(&self) -> impl ExactSizeIterator<Item = DeviceId> + Clone + '_ {
        self.watching.keys().copied()
    }

    /// Takes in a command whose request is about to be recorded at this position.
    pub fn accept(
        &mut self,
        command: Seq,
        device: DeviceId,
        request: Arc<CommandRequest>,
        now: Now,
        steps: &mut Vec<Step>,
    ) {
        let lane: Arc<str> = request.name.as_str().into();
        let replaces = request.on_offline != OnOffline::Hold && !request.operation;
        let open = Open {
            device,
            lane: lane.clone(),
            deadline: now.at.checked_add(Duration::from_secs(request.ttl_s.into())),
            latest: None,
            may_be_out: false,
            request,
            state: CommandState::Requested,
            cause: command,
            attempts: 0,
            confirm_by: None,
        };
        self.open.insert(command, open);
        let lane = (device, lane);
        if replaces {
            let waiting = self.lanes.get_mut(&lane).map(|queue| std::mem::take(&mut queue.waiting));
            for older in waiting.into_iter().flatten() {
                // One that may be out may still be carried out: it is not what the newer one replaces.
                match self.open.get(&older).is_some_and(|open| !open.may_be_out) {
                    true => self.step(older, Progress::Superseded { by: command }, steps),
                    false => self.lanes.entry(lane.clone()).or_default().waiting.push_back(older),
                }
            }
        }
        self.wait(lane, command, false);
    }

    fn wait(&mut self, lane: Lane, command: Seq, first: bool) {
        let waiting = &mut self.lanes.entry(lane.clone()).or_default().waiting;
        if first {
            waiting.push_front(command)
        } else {
            waiting.push_back(command)
        }
        self.ready.insert(lane);
    }

    /// The record of a step is at this position.
    pub fn recorded(&mut self, command: Seq, at: Seq) {
        if let Some(open) = self.open.get_mut(&command) {
            open.cause = at;
        }
    }

    /// Takes in what became of a publication.
    pub fn published(&mut self, published: Published, now: Now, steps: &mut Vec<Step>) {
        let Published { command, attempt, fate } = published;
        let Some(open) = self.open.get(&command) else { return };
        // Closed by evidence in the meantime, or sent again.
        if open.attempts != attempt || !open.state.is_driven() {
            return;
        }
        let idempotent = open.request.idempotent;
        let lane = (open.device, open.lane.clone());
        match fate {
            Fate::Written => {
                self.watch(command);
                self.confirm_from(command, now.at);
            }
            Fate::Acknowledged => {
                self.watch(command);
                self.acknowledged(command, AcknowledgedBy::Broker, steps);
            }
            Fate::Refused(reason) => self.give_up(command, Progress::Failed { reason }, steps),
            Fate::TooLate => self.give_up(command, Progress::Expired, steps),
            Fate::NotSent => {
                self.step(command, Progress::Unsent, steps);
                self.send_again(lane, command);
            }
            Fate::Lost => {
                if let Some(open) = self.open.get_mut(&command) {
                    open.may_be_out = true;
                }
                // Of one that is not idempotent, what the device does next tells, or nothing does.
                if idempotent {
                    self.send_again(lane, command);
                }
            }
        }
    }

    /// It is not sent any more. One of which an earlier publication may have arrived has not failed by that.
    fn give_up(&mut self, command: Seq, progress: Progress, steps: &mut Vec<Step>) {
        let may_be_out = self.open.get(&command).is_some_and(|open| open.may_be_out);
        self.step(command, if may_be_out { Progress::Unconfirmed } else { progress }, steps);
    }

    fn send_again(&mut self, lane: Lane, command: Seq) {
        if let Some(queue) = self.lanes.get_mut(&lane) {
            queue.active = None;
        }
        if let Some(open) = self.open.get_mut(&command) {
            open.confirm_by = None;
        }
        self.wait(lane, command, true);
    }

    fn acknowledged(&mut self, command: Seq, by: AcknowledgedBy, steps: &mut Vec<Step>) {
        let Some(open) = self.open.get(&command) else { return };
        if open.state == CommandState::Dispatched {
            self.step(command, Progress::Acknowledged { by }, steps);
        }
    }

    /// What time alone does: commands expire, evidence is no longer waited for, devices that came back get what waits.
    pub fn tick(&mut self, now: Now, steps: &mut Vec<Step>) {
        let mut over = Vec::new();
        for (command, open) in &mut self.open {
            if open.deadline.is_none() && now.trusted {
                open.deadline = Some(after(now.at, open.request.expires.0.saturating_sub(now.wall.0)));
            }
            let waits = open.state == CommandState::Requested
                || open.state == CommandState::Dispatched && open.confirm_by.is_none();
            if waits && is_over(open, now) {
                over.push((*command, Progress::Expired));
            } else if open.confirm_by.is_some_and(|by| by <= now.at) {
                over.push((*command, Progress::Unconfirmed));
            }
        }
        for (command, progress) in over {
            // One that is on its way to the broker is not known to be too late: the source says so.
            let active = self.open.get(&command).and_then(|open| {
                self.lanes.get(&(open.device, open.lane.clone())).and_then(|queue| queue.active)
            });
            if progress != Progress::Expired || active != Some(command) {
                self.give_up(command, progress, steps);
            }
        }
        let idle = self.lanes.iter().filter(|(_, queue)| queue.active.is_none() && !queue.waiting.is_empty());
        self.ready.extend(idle.map(|(lane, _)| lane.clone()));
    }

    /// Gives up the commands of a device that is retired or forgotten, and returns how many. One that was not sent has
    /// failed; of one that was, nobody knows, and late evidence may still tell.
    pub fn abandon(&mut self, device: DeviceId, why: &str, steps: &mut Vec<Step>) -> usize {
        let driven = |(command, open): (&Seq, &Open)| {
            let sent = open.may_be_out || open.state != CommandState::Requested;
            (open.device == device && open.state.is_driven()).then_some((*command, sent))
        };
        let driven: Vec<(Seq, bool)> = self.open.iter().filter_map(driven).collect();
        for &(command, sent) in &driven {
            let progress =
                if sent { Progress::Unconfirmed } else { Progress::Failed { reason: why.to_owned() } };
            self.step(command, progress, steps);
        }
        driven.len()
    }

    /// Drops what nobody asks after any more: commands that only late evidence could close, once their keys are forgotten.
    /// They are returned.
    pub fn forget(&mut self, commands: &Commands) -> Vec<Seq> {
        let gone = |(command, open): (&Seq, &Open)| {
            // It is not open there; how it ended may be forgotten, too.
            (!open.state.is_driven() && commands.is_open(*command) != Some(true)).then_some(*command)
        };
        let gone: Vec<Seq> = self.open.iter().filter_map(gone).collect();
        gone.iter().for_each(|command| self.close(*command));
        gone
    }

    /// Makes a step, and what follows from it.
    fn step(&mut self, command: Seq, progress: Progress, steps: &mut Vec<Step>) {
        let Some(open) = self.open.get_mut(&command) else { return };
        open.state = progress.state();
        let (device, cause, lane) = (open.device, open.cause, (open.device, open.lane.clone()));
        let only_acknowledged =
            open.state == CommandState::Acknowledged && open.request.evidence == Evidence::None;
        let ends = open.state.is_final() || only_acknowledged;
        let driven = open.state.is_driven() && !only_acknowledged;
        if !driven {
            open.confirm_by = None;
        }
        steps.push(Step { device, command, cause, progress, ends, publish: None });
        if driven {
            return;
        }
        if let Some(queue) = self.lanes.get_mut(&lane) {
            queue.waiting.retain(|waiting| *waiting != command);
            if queue.active == Some(command) {
                queue.active = None;
            }
            if queue.active.is_none() && queue.waiting.is_empty() {
                self.lanes.remove(&lane);
            } else {
                self.ready.insert(lane);
            }
        }
        if ends {
            self.close(command);
        }
    }

    fn close(&mut self, command: Seq) {
        self.unwatch(command);
        self.open.remove(&command);
    }
}

/// Whether a command's time is over, by any clock: one that may be wrong can keep it from being sent, but not have it sent.
fn is_over(open: &Open, now: Now) -> bool {
    let over = |moment: Option<Instant>| moment.is_some_and(|moment| moment <= now.at);
    now.wall >= open.request.expires || over(open.deadline) || over(open.latest)
}

fn after(now: Instant, micros: i64) -> Instant {
    let wait = Duration::from_micros(u64::try_from(micros).unwrap_or(0));
    now.checked_add(wait).unwrap_or(now)
}

#[cfg(test)]
mod tests;
