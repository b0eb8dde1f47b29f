//! Gaps in the accounts of logs: which there are, what has been done about them, and what is to be asked for. Pure.

use std::time::Duration;

use fieldlog_projections::Seq;
use fieldlog_wire::resend::RANGES_MAX;
use jiff::{SignedDuration, Timestamp};

/// Maximum gaps of a log that are looked after; the first ones.
const GAPS_MAX: usize = 1_000;
/// The longest time between two requests for the same positions.
const WAIT_MAX: Duration = Duration::from_secs(3_600);

/// Positions of a log that have not arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) first: Seq,
    pub(crate) last: Seq,
    pub(crate) state: State,
    /// Since when it has these bounds.
    pub(crate) since: Timestamp,
    /// How many times it was asked for, and when last.
    pub(crate) asks: u32,
    pub(crate) asked: Option<Timestamp>,
    /// Why it is lost, or what the gateway has last answered instead of sending it.
    pub(crate) why: Option<String>,
}

/// What is known of a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It may still come by itself.
    Expected,
    /// The gateway was asked for it.
    Asked,
    /// The gateway does not have it any more.
    Lost,
}

impl State {
    const ALL: [State; 3] = [State::Expected, State::Asked, State::Lost];

    pub(crate) fn word(self) -> &'static str {
        match self {
            State::Expected => "expected",
            State::Asked => "asked",
            State::Lost => "lost",
        }
    }

    pub(crate) fn named(word: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.word() == word)
    }
}

impl Gap {
    /// Whether it is time to ask for it. One that becomes smaller is being sent, so it has to stay as it is for a while.
    fn is_due(&self, patience: Duration, now: Timestamp) -> bool {
        let wait = patience.saturating_mul(1 << self.asks.min(16)).min(WAIT_MAX.max(patience));
        let from = self.asked.map_or(self.since, |asked| asked.max(self.since));
        let waited = now.duration_since(from);
        self.state != State::Lost && waited >= SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX)
    }
}

/// The gaps of a log of which `missing` has not arrived, when `known` were its gaps before.
pub(crate) fn update(known: &[Gap], missing: &[(Seq, Seq)], now: Timestamp) -> Vec<Gap> {
    let mut gaps: Vec<Gap> = Vec::new();
    for &(first, last) in missing {
        let mut from = first;
        while from <= last && gaps.len() < GAPS_MAX {
            let gap = piece(known, from, last, now);
            from = gap.last.next();
            match gaps.last_mut() {
                // Nothing has been done about either.
                Some(before) if before.last.next() == gap.first && before.asks + gap.asks == 0 => {
                    before.last = gap.last;
                    before.since = now;
                }
                _ => gaps.push(gap),
            }
        }
    }
    gaps
}

/// The gap that begins at a missing position, and ends at `last` or where another known one begins.
fn piece(known: &[Gap], from: Seq, last: Seq, now: Timestamp) -> Gap {
    let next = known.partition_point(|gap| gap.last < from);
    match known.get(next) {
        Some(gap) if gap.first <= from => {
            let end = gap.last.min(last);
            let since = if (gap.first, gap.last) == (from, end) { gap.since } else { now };
            Gap { first: from, last: end, since, ..gap.clone() }
        }
        other => Gap {
            first: from,
            last: other.map_or(last, |gap| last.min(Seq(gap.first.0 - 1))),
            state: State::Expected,
            since: now,
            asks: 0,
            asked: None,
            why: None,
        },
    }
}

/// Changes what is known of some positions.
fn change(gaps: &mut Vec<Gap>, (first, last): (Seq, Seq), change: impl Fn(&mut Gap)) {
    let parts = gaps.drain(..).flat_map(|gap| {
        let part = |a: Seq, b: Seq| (a <= b).then(|| Gap { first: a, last: b, ..gap.clone() });
        let before = part(gap.first, gap.last.min(Seq(first.0 - 1)));
        let mut within = part(gap.first.max(first), gap.last.min(last));
        within.iter_mut().for_each(&change);
        let after = part(gap.first.max(last.next()), gap.last);
        [before, within, after].into_iter().flatten()
    });
    *gaps = parts.collect();
}

/// The gateway does not have these positions any more.
pub(crate) fn lose(gaps: &mut Vec<Gap>, range: (Seq, Seq)) {
    let begin = range.1.next();
    change(gaps, range, |gap| {
        gap.state = State::Lost;
        gap.why =
            Some(format!("the gateway does not have it any more; the first that it still has is {begin}"));
    });
}

/// The gateway was asked for these ranges; `refused` says why it does not send them.
pub(crate) fn ask(gaps: &mut Vec<Gap>, ranges: &[(Seq, Seq)], refused: Option<&str>, now: Timestamp) {
    for &range in ranges {
        change(gaps, range, |gap| {
            if gap.state != State::Lost {
                gap.state = State::Asked;
                gap.asks += 1;
                gap.asked = Some(now);
                gap.why = refused.map(str::to_owned);
            }
        });
    }
}

/// What to ask for now.
pub(crate) fn due(gaps: &[Gap], patience: Duration, now: Timestamp) -> Vec<(Seq, Seq)> {
    let due = gaps.iter().filter(|gap| gap.is_due(patience, now));
    due.map(|gap| (gap.first, gap.last)).take(RANGES_MAX).collect()
}

#[cfg(test)]
mod tests;
