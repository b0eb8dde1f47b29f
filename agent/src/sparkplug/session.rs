//! The session of one edge node (sections 5.4 to 5.9): births and deaths, the order of messages, and when to ask for
//! the births again. Pure: time is an argument, and actions are returned.

use fieldlog_projections::Time;

/// Maximum messages waiting for an earlier one.
pub const HELD_MAX: usize = 64;
/// Maximum bytes of their payloads.
pub const HELD_BYTES_MAX: usize = 262_144;

/// Minimum time between two requests for births to one edge node, in microseconds. It doubles with each unanswered one.
const ASK_EVERY: i64 = 10_000_000;
/// Maximum time between two requests, in microseconds.
const ASK_EVERY_MAX: i64 = 600_000_000;
/// Time for edge nodes to send their births by themselves after a connection is made, in microseconds: those whose
/// primary host this is do so.
const GRACE: i64 = 5_000_000;
/// A session continues after an interruption if the next message in order arrives within this time of the last one, in
/// microseconds. In this time an edge node cannot have begun another session and reached the same number.
pub const RESUME_WITHIN: i64 = 60_000_000;

/// Why an edge node is asked for its births.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Messages are missing and did not arrive within the reorder timeout.
    Gap,
    /// A message before any birth, or after a death.
    NoBirth,
    /// A metric, by name or alias, that no birth has listed.
    UnknownMetric,
    /// A payload that cannot be read.
    InvalidPayload,
    /// This host was not connected for a while.
    Away,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 5] =
        [Reason::Gap, Reason::NoBirth, Reason::UnknownMetric, Reason::InvalidPayload, Reason::Away];

    /// One word, for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Reason::Gap => "gap",
            Reason::NoBirth => "no_birth",
            Reason::UnknownMetric => "unknown_metric",
            Reason::InvalidPayload => "invalid_payload",
            Reason::Away => "away",
        }
    }
}

/// The known state of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No birth has been seen.
    Unknown,
    /// Every message since the birth was seen, up to this number.
    InOrder { birth: Option<u64>, last: u8 },
    /// The same, but this host was away since. The next message decides, if it arrives in time.
    Resuming { birth: Option<u64>, last: u8, until: Time },
    /// Messages were missed, perhaps a birth among them: aliases may mean something else by now.
    Doubted { birth: Option<u64> },
    /// Its last session has ended.
    Dead,
}

/// Whether aliases can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Every message since the birth is known.
    Full,
    /// Messages may have been missed: only names can be trusted.
    NamesOnly,
}

/// What to do after a message, in this order.
#[derive(Debug, PartialEq)]
pub struct Taken<T> {
    /// The previous session has ended without a death certificate, and its devices with it.
    pub ended: bool,
    /// What to do with the message itself.
    pub this: This,
    /// Messages that had waited, in order.
    pub then: Vec<(T, Trust)>,
}

/// What to do with one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum This {
    /// Take it now.
    Apply(Trust),
    /// It waits in the session.
    Held,
    /// Nothing.
    Drop,
}

impl<T> Taken<T> {
    fn just(this: This) -> Taken<T> {
        Taken { ended: false, this, then: Vec::new() }
    }
}

#[derive(Debug)]
struct Waiting<T> {
    seq: u8,
    bytes: usize,
    message: T,
}

/// See the module. `T` is a waiting message.
#[derive(Debug)]
pub struct NodeSession<T> {
    state: State,
    held: Vec<Waiting<T>>,
    /// When the oldest message began to wait.
    gap_since: Option<Time>,
    wanted: Option<Reason>,
    /// The earliest time of the next request.
    ask_from: Time,
    /// Requests since the last birth.
    unanswered: u32,
    heard: Time,
}

impl<T> Default for NodeSession<T> {
    fn default() -> NodeSession<T> {
        NodeSession {
            state: State::Unknown,
            held: Vec::new(),
            gap_since: None,
            wanted: None,
            ask_from: Time(i64::MIN),
            unanswered: 0,
            heard: Time(i64::MIN),
        }
    }
}

impl<T> NodeSession<T> {
    /// The stored state: with the number of the last message if the agent was stopped cleanly, at `stopped`.
    pub fn restored(alive: bool, birth: Option<u64>, seq: Option<u8>, stopped: Time) -> NodeSession<T> {
        let state = match (alive, seq) {
            (false, _) => State::Dead,
            (true, None) => State::Doubted { birth },
            (true, Some(last)) => State::Resuming { birth, last, until: Time(stopped.0 + RESUME_WITHIN) },
        };
        let wanted = alive.then_some(Reason::Away);
        NodeSession { state, wanted, heard: stopped, ..NodeSession::default() }
    }

    /// The number of the birth certificate; and of the last message, if all up to it are known.
    pub fn noted(&self) -> Option<(Option<u64>, u8)> {
        match self.state {
            State::InOrder { birth, last } if self.held.is_empty() => Some((birth, last)),
            _ => None,
        }
    }

    /// Whether it has a session, as far as known.
    pub fn is_alive(&self) -> bool {
        matches!(self.state, State::InOrder { .. } | State::Resuming { .. } | State::Doubted { .. })
    }

    /// Whether it has a session whose known state may be outdated.
    pub fn is_stale(&self) -> bool {
        matches!(self.state, State::Resuming { .. } | State::Doubted { .. })
    }

    /// Messages that wait.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Bytes of the waiting payloads.
    pub fn held_bytes(&self) -> usize {
        self.held.iter().map(|waiting| waiting.bytes).sum()
    }

    /// NBIRTH.
    pub fn born(&mut self, birth: Option<u64>, seq: u8, now: Time) -> Taken<T> {
        let ended = match self.state {
            State::InOrder { birth: before, .. }
            | State::Resuming { birth: before, .. }
            | State::Doubted { birth: before } => before != birth,
            State::Unknown | State::Dead => false,
        };
        self.state = State::InOrder { birth, last: seq };
        self.forget_held();
        (self.wanted, self.unanswered, self.heard) = (None, 0, now);
        Taken { ended, ..Taken::just(This::Apply(Trust::Full)) }
    }

    /// NDEATH. `true` if it ends the session; one of an earlier session does not. One of a later session does, since
    /// that session's birth was missed.
    pub fn died(&mut self, birth: Option<u64>) -> bool {
        let ends = match self.state {
            State::InOrder { birth: Some(known), .. } | State::Resuming { birth: Some(known), .. } => {
                !birth.is_some_and(|birth| is_older(birth, known))
            }
            // In doubt, it may be the death of a session whose birth was missed.
            State::InOrder { birth: None, .. }
            | State::Resuming { birth: None, .. }
            | State::Doubted { .. } => true,
            State::Unknown | State::Dead => false,
        };
        if ends {
            self.state = State::Dead;
            self.forget_held();
            self.wanted = None;
        }
        ends
    }

    /// Any other message, with its number; `hold` returns the copy to keep if it has to wait, and its bytes. `None`: it
    /// must not wait, because the broker needs an acknowledgement for it.
    pub fn take(&mut self, seq: u8, now: Time, hold: impl FnOnce() -> Option<(T, usize)>) -> Taken<T> {
        let last = match self.state {
            State::Unknown | State::Dead => {
                self.want(Reason::NoBirth);
                return Taken::just(This::Drop);
            }
            State::Doubted { .. } => {
                self.heard = now;
                // It waits behind those that already wait, since an older one must not come after it.
                if !self.held.is_empty()
                    && let Some((message, bytes)) = hold()
                {
                    return self.wait(Waiting { seq, bytes, message }, now);
                }
                return Taken::just(This::Apply(Trust::NamesOnly));
            }
            State::Resuming { birth, last, until } => {
                self.heard = now;
                if seq != last.wrapping_add(1) || now > until {
                    self.doubt(Reason::Away);
                    return Taken::just(This::Apply(Trust::NamesOnly));
                }
                self.wanted = None;
                self.state = State::InOrder { birth, last };
                last
            }
            State::InOrder { last, .. } => last,
        };
        self.heard = now;
        let distance = seq.wrapping_sub(last.wrapping_add(1));
        if distance == 0 {
            self.advance(seq);
            let then = self.continued(now);
            return Taken { then, ..Taken::just(This::Apply(Trust::Full)) };
        }
        let Some((message, bytes)) = hold() else {
            let then = self.give_up();
            self.doubt(Reason::Gap);
            return Taken { then, ..Taken::just(This::Apply(Trust::NamesOnly)) };
        };
        self.wait(Waiting { seq, bytes, message }, now)
    }

    fn wait(&mut self, waiting: Waiting<T>, now: Time) -> Taken<T> {
        self.held.push(waiting);
        self.gap_since.get_or_insert(now);
        let full = self.held.len() > HELD_MAX || self.held_bytes() > HELD_BYTES_MAX;
        Taken { then: if full { self.give_up() } else { Vec::new() }, ..Taken::just(This::Held) }
    }

    /// Handles the reorder timeout, in microseconds: releases messages whose predecessors did not arrive in time.
    pub fn elapse(&mut self, now: Time, reorder_timeout: i64) -> Vec<(T, Trust)> {
        match self.gap_since {
            Some(since) if now.micros_since(since) >= reorder_timeout => self.give_up(),
            _ => Vec::new(),
        }
    }

    /// When [`NodeSession::elapse`] has something to do.
    pub fn due(&self, reorder_timeout: i64) -> Option<Time> {
        self.gap_since.map(|since| Time(since.0.saturating_add(reorder_timeout)))
    }

    /// A message shows that births are missing, such as that of a device; the known state stays valid.
    pub fn miss(&mut self, reason: Reason) {
        self.want(reason);
    }

    /// Part of a message contradicts the known state.
    pub fn doubt(&mut self, reason: Reason) {
        if let State::InOrder { birth, .. } | State::Resuming { birth, .. } = self.state {
            self.state = State::Doubted { birth };
        }
        self.want(reason);
    }

    /// Ends the waiting, as when the agent stops: returns the waiting messages.
    pub fn give_up(&mut self) -> Vec<(T, Trust)> {
        self.gap_since = None;
        if self.held.is_empty() {
            return Vec::new();
        }
        let mut held = std::mem::take(&mut self.held);
        if let State::InOrder { last, .. } = self.state {
            held.sort_by_key(|waiting| waiting.seq.wrapping_sub(last.wrapping_add(1)));
        }
        self.doubt(Reason::Gap);
        held.into_iter().map(|waiting| (waiting.message, Trust::NamesOnly)).collect()
    }

    /// This host has a new connection, so messages may have been missed.
    pub fn reconnected(&mut self, now: Time) -> Vec<(T, Trust)> {
        let then = self.give_up();
        if let State::InOrder { birth, last } = self.state {
            self.state = State::Resuming { birth, last, until: Time(self.heard.0 + RESUME_WITHIN) };
        }
        if self.is_alive() {
            self.wanted.get_or_insert(Reason::Away);
            self.ask_from = self.ask_from.max(Time(now.0 + GRACE));
        }
        then
    }

    /// The wall clock was stepped: waiting starts again.
    pub fn clock_stepped(&mut self, now: Time) {
        self.gap_since = self.gap_since.map(|_| now);
        self.ask_from = self.ask_from.min(now);
        self.heard = self.heard.min(now);
    }

    /// The request for births that is due now, if any; the caller sends it.
    pub fn ask(&mut self, now: Time) -> Option<Reason> {
        if let State::Resuming { until, .. } = self.state {
            if now <= until {
                return None;
            }
            self.doubt(Reason::Away);
        }
        let reason = self.wanted.filter(|_| now >= self.ask_from)?;
        let wait = ASK_EVERY.saturating_mul(1 << self.unanswered.min(20)).min(ASK_EVERY_MAX);
        self.ask_from = Time(now.0.saturating_add(wait));
        self.unanswered += 1;
        // A node without a session may not be running: it is asked again when it is heard again.
        if !self.is_alive() {
            self.wanted = None;
        }
        Some(reason)
    }

    fn want(&mut self, reason: Reason) {
        // An interruption is the weakest reason: what a message has shown takes precedence.
        if self.wanted.is_none_or(|wanted| wanted == Reason::Away) {
            self.wanted = Some(reason);
        }
    }

    fn advance(&mut self, seq: u8) {
        if let State::InOrder { last, .. } = &mut self.state {
            *last = seq;
        }
    }

    /// The waiting messages that now follow.
    fn continued(&mut self, now: Time) -> Vec<(T, Trust)> {
        let mut then = Vec::new();
        while let State::InOrder { last, .. } = self.state
            && let Some(at) = self.held.iter().position(|waiting| waiting.seq == last.wrapping_add(1))
        {
            let waiting = self.held.remove(at);
            self.advance(waiting.seq);
            then.push((waiting.message, Trust::Full));
        }
        self.gap_since = if self.held.is_empty() {
            None
        } else if then.is_empty() {
            self.gap_since
        } else {
            // Another gap, with a timeout of its own.
            Some(now)
        };
        then
    }

    fn forget_held(&mut self) {
        self.held.clear();
        self.gap_since = None;
    }
}

/// Whether a session began before another one; numbers go from 0 to 255 and wrap around.
fn is_older(birth: u64, than: u64) -> bool {
    let wraps = birth <= 255 && than <= 255;
    if wraps { (birth.wrapping_sub(than) & 0xff) > 128 } else { birth < than }
}
