//! What commands must come to, told in the fewest words: one list of commands, and per property one that is under way and
//! those that wait. It is told everything that happens outside the agent, in order, and knows nothing of records.

use std::collections::BTreeMap;

use fieldlog_projections::Seq;
use fieldlog_projections::command::CommandState::{self, *};

use super::{CONFIRM_S, TTL_S};

/// A device and an attribute.
pub type Lane = (usize, &'static str);

/// What somebody asks for.
#[derive(Clone, Copy, Debug)]
pub struct Asks {
    pub lane: Lane,
    pub target: u64,
    pub idempotent: bool,
    pub held: bool,
    pub evidence: bool,
}

#[derive(Clone, Debug)]
pub struct Command {
    pub asks: Asks,
    pub state: CommandState,
    pub attempts: u32,
    pub unsent: u32,
    asked_s: u64,
    may_be_out: bool,
    watched: bool,
    confirm_by_s: Option<u64>,
}

#[derive(Debug, Default)]
struct Queue {
    active: Option<Seq>,
    waiting: Vec<Seq>,
}

#[derive(Debug, Default)]
pub struct Reference {
    pub commands: BTreeMap<Seq, Command>,
    pub values: BTreeMap<Lane, u64>,
    pub connected: bool,
    lanes: BTreeMap<Lane, Queue>,
    now_s: u64,
    /// Publications that must come now: command and attempt.
    pub published: Vec<(Seq, u32)>,
}

/// What becomes of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    Written,
    Acknowledged,
    Refused,
    NotSent,
    TooLate,
    Lost,
}

impl Command {
    /// Whether something can still come of it.
    pub fn is_open(&self) -> bool {
        match self.state {
            Applied | Failed | Expired | Superseded => false,
            Acknowledged => self.asks.evidence,
            Requested | Dispatched | Unconfirmed | Unknown => true,
        }
    }

    fn is_driven(&self) -> bool {
        self.is_open() && matches!(self.state, Requested | Dispatched | Acknowledged)
    }
}

impl Reference {
    pub fn ask(&mut self, seq: Seq, asks: Asks) {
        self.learn(seq, asks, Requested, 0, 0);
        if !asks.held {
            let waiting = self.lanes.entry(asks.lane).or_default().waiting.clone();
            for older in waiting {
                if !self.commands[&older].may_be_out {
                    self.comes_to(older, Superseded);
                }
            }
        }
        self.lanes.entry(asks.lane).or_default().waiting.push(seq);
        self.pump();
    }

    /// Takes a command as the log has it after a crash.
    pub fn learn(&mut self, seq: Seq, asks: Asks, state: CommandState, attempts: u32, unsent: u32) {
        let asked_s = self.commands.get(&seq).map_or(self.now_s, |known| known.asked_s);
        let command = Command {
            asks,
            state,
            attempts,
            unsent,
            asked_s,
            may_be_out: false,
            watched: false,
            confirm_by_s: None,
        };
        self.commands.insert(seq, command);
    }

    /// `fresh`: it was certainly sent after everything that was published before.
    pub fn reports(&mut self, lane: Lane, value: u64, fresh: bool) {
        self.values.insert(lane, value);
        let shows = |command: &Command| {
            command.watched
                && command.asks.evidence
                && (command.asks.lane, command.asks.target) == (lane, value)
        };
        let shown: Vec<Seq> =
            self.commands.iter().filter(|(_, c)| fresh && shows(c)).map(|(seq, _)| *seq).collect();
        shown.into_iter().for_each(|seq| self.comes_to(seq, Applied));
        self.pump();
    }

    pub fn publication(&mut self, seq: Seq, attempt: u32, came: Came) {
        let now_s = self.now_s;
        let Some(command) = self.commands.get_mut(&seq) else { return };
        if command.attempts != attempt || !command.is_driven() {
            return;
        }
        match came {
            Came::Written => {
                command.watched = true;
                command.confirm_by_s.get_or_insert(now_s + CONFIRM_S);
            }
            Came::Acknowledged => self.comes_to(seq, Acknowledged),
            Came::Refused => self.ends_without(seq, Failed),
            Came::TooLate => self.ends_without(seq, Expired),
            Came::NotSent => {
                (command.state, command.unsent) = (Requested, command.unsent + 1);
                self.waits_again(seq);
            }
            Came::Lost => {
                command.may_be_out = true;
                if command.asks.idempotent {
                    self.waits_again(seq);
                }
            }
        }
        self.pump();
    }

    pub fn pass(&mut self, seconds: u64) {
        self.now_s += seconds;
        for seq in self.commands.keys().copied().collect::<Vec<_>>() {
            let command = &self.commands[&seq];
            let waits =
                command.state == Requested || command.state == Dispatched && command.confirm_by_s.is_none();
            if !command.is_driven() {
            } else if waits && self.is_over(command) {
                // Of one that is on its way, its source says that it is too late.
                if self.lanes.get(&command.asks.lane).is_none_or(|queue| queue.active != Some(seq)) {
                    self.ends_without(seq, Expired);
                }
            } else if command.confirm_by_s.is_some_and(|by| by <= self.now_s) {
                self.comes_to(seq, Unconfirmed);
            }
        }
        self.pump();
    }

    pub fn connects(&mut self, connected: bool) {
        self.connected = connected;
        self.pump();
    }

    /// The agent is started again.
    pub fn restarts(&mut self) {
        self.lanes.clear();
        let open: Vec<Seq> = self.commands.iter().filter(|(_, c)| c.is_open()).map(|(seq, _)| *seq).collect();
        for seq in open {
            let now_s = self.now_s;
            let Some(command) = self.commands.get_mut(&seq) else { continue };
            command.may_be_out = command.attempts > command.unsent;
            command.confirm_by_s = None;
            command.watched = command.may_be_out || command.state != Requested;
            let queue = self.lanes.entry(command.asks.lane).or_default();
            match command.state {
                Requested => queue.waiting.push(seq),
                Dispatched if command.asks.idempotent => queue.waiting.insert(0, seq),
                Dispatched => command.state = Unknown,
                Acknowledged => {
                    queue.active = Some(seq);
                    command.confirm_by_s = Some(now_s + CONFIRM_S);
                }
                _ => {}
            }
        }
        self.connects(true);
    }

    fn is_over(&self, command: &Command) -> bool {
        self.now_s - command.asked_s >= TTL_S
    }

    fn waits_again(&mut self, seq: Seq) {
        let Some(command) = self.commands.get_mut(&seq) else { return };
        command.confirm_by_s = None;
        let queue = self.lanes.entry(command.asks.lane).or_default();
        queue.active = None;
        queue.waiting.insert(0, seq);
    }

    /// What may have arrived has neither failed nor expired.
    fn ends_without(&mut self, seq: Seq, state: CommandState) {
        let may_be_out = self.commands[&seq].may_be_out;
        self.comes_to(seq, if may_be_out { Unconfirmed } else { state });
    }

    fn comes_to(&mut self, seq: Seq, state: CommandState) {
        let Some(command) = self.commands.get_mut(&seq) else { return };
        command.state = state;
        if state == Acknowledged {
            command.watched = true;
        }
        if command.is_driven() {
            return;
        }
        command.confirm_by_s = None;
        command.watched &= command.is_open();
        let queue = self.lanes.entry(command.asks.lane).or_default();
        queue.waiting.retain(|waiting| *waiting != seq);
        queue.active = queue.active.filter(|active| *active != seq);
    }

    /// Sends the first of each property for which nothing is under way.
    fn pump(&mut self) {
        for lane in self.lanes.keys().copied().collect::<Vec<_>>() {
            while let Some(Queue { active: None, waiting }) = self.lanes.get(&lane)
                && let Some(&first) = waiting.first()
            {
                if self.is_over(&self.commands[&first]) {
                    self.ends_without(first, Expired);
                    continue;
                }
                if !self.connected {
                    break;
                }
                // What is reported from here on is evidence of this one alone.
                let others =
                    self.commands.iter_mut().filter(|(seq, c)| **seq != first && c.asks.lane == lane);
                others.for_each(|(_, command)| command.watched = false);
                let queue = self.lanes.entry(lane).or_default();
                queue.waiting.remove(0);
                queue.active = Some(first);
                if let Some(command) = self.commands.get_mut(&first) {
                    command.state = Dispatched;
                    command.attempts += 1;
                    self.published.push((first, command.attempts));
                }
            }
        }
    }
}
