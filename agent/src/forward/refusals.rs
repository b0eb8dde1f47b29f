//! Decides about events that a sink refuses. Pure; the driver carries it out.
//!
//! One refused event is a bad event: it is recorded as a dead letter and skipped, so that later ones can be sent.
//! Several in a row mean that the receiver is at fault: nothing more is given up, and the sink is held until it accepts
//! an event again. A refused event is not delivered. It is offered again while the sink accepts others.

use crate::config::RefusedPolicy;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use fieldlog_projections::Seq;

/// After this many refused single events in a row, the receiver is at fault.
pub const IN_A_ROW_MAX: u32 = 3;
/// Maximum dead letters of one sink in [`RATE_WINDOW`]. Each is a record, and is forwarded like any other.
pub const RECORDS_MAX: usize = 60;
/// The window for [`RECORDS_MAX`].
pub const RATE_WINDOW: Duration = Duration::from_secs(3600);

/// How to treat a refused event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A dead letter is recorded, and the event is skipped.
    Record,
    /// It is skipped without a record: it is a dead letter itself.
    Pass,
    /// It stays in place, and the sink is held; with the reason in words.
    Hold(String),
}

/// The recent refusals of one sink.
#[derive(Debug)]
pub(super) struct Refusals {
    policy: RefusedPolicy,
    in_a_row: u32,
    /// When the dead letters of the last hour were recorded.
    recorded: VecDeque<Instant>,
    held: bool,
    /// The event that is blocked because no dead letter can be recorded for it, or it cannot be remembered.
    stuck: Option<Seq>,
    /// The sink has accepted an event since the start.
    taken: bool,
    /// When refused events may be offered again.
    again: Option<Instant>,
}

impl Refusals {
    pub(super) fn new(policy: RefusedPolicy) -> Refusals {
        Refusals {
            policy,
            in_a_row: 0,
            recorded: VecDeque::new(),
            held: false,
            stuck: None,
            taken: false,
            again: None,
        }
    }

    /// The sink refuses a single event for the first time; `room` if another one can be remembered.
    pub(super) fn refused(&mut self, at: Seq, dead_letter: bool, room: bool, now: Instant) -> Verdict {
        self.in_a_row += 1;
        let verdict = self.verdict(dead_letter, room, now);
        self.held = matches!(verdict, Verdict::Hold(_));
        self.stuck = (self.held && !self.receiver_is_wrong()).then_some(at);
        if verdict == Verdict::Record {
            self.recorded.push_back(now);
        }
        verdict
    }

    fn verdict(&mut self, dead_letter: bool, room: bool, now: Instant) -> Verdict {
        if self.receiver_is_wrong() {
            let words = format!(
                "{IN_A_ROW_MAX} events in a row are refused, so the receiver is wrong, or set up for others. Nothing more is \
                 given up for it"
            );
            return Verdict::Hold(words);
        }
        if self.policy == RefusedPolicy::Keep && !room {
            let words = "as many refused events as can be remembered wait for it".to_owned();
            return Verdict::Hold(words);
        }
        if dead_letter {
            return Verdict::Pass;
        }
        if self.records_left(now) == 0 {
            return Verdict::Hold(format!("it has refused {RECORDS_MAX} events within an hour"));
        }
        Verdict::Record
    }

    fn receiver_is_wrong(&self) -> bool {
        self.policy == RefusedPolicy::Keep && self.in_a_row >= IN_A_ROW_MAX
    }

    fn records_left(&mut self, now: Instant) -> usize {
        while self.recorded.front().is_some_and(|at| now.saturating_duration_since(*at) >= RATE_WINDOW) {
            self.recorded.pop_front();
        }
        RECORDS_MAX - self.recorded.len().min(RECORDS_MAX)
    }

    /// The sink has accepted the events of a range.
    pub(super) fn accepted(&mut self, first: Seq, last: Seq) {
        self.in_a_row = 0;
        self.taken = true;
        self.stuck = self.stuck.filter(|at| !(first..=last).contains(at));
        self.held = self.stuck.is_some();
    }

    /// Whether the sink is held because of refusals: one parcel at a time, at growing intervals. If it waits for the
    /// next hour or for an operator, accepting other events does not end this.
    pub(super) fn held(&self) -> bool {
        self.held
    }

    /// Refused events are not offered again within this time.
    pub(super) fn offer_after(&mut self, wait: Duration, now: Instant) {
        self.again = Some(now + wait);
    }

    /// Refused events may be offered again at once, as far as the sink accepts others.
    pub(super) fn offer_now(&mut self) {
        self.again = None;
    }

    /// Time until refused events may be offered again; `None` until the sink accepts others.
    pub(super) fn offer_in(&self, now: Instant) -> Option<Duration> {
        let wait = self.again.map_or(Duration::ZERO, |again| again.saturating_duration_since(now));
        (self.taken && self.in_a_row == 0).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(refusals: &mut Refusals, now: Instant) -> Verdict {
        refusals.refused(Seq(5), false, true, now)
    }

    fn words(verdict: Verdict) -> String {
        let Verdict::Hold(words) = verdict else { panic!("{verdict:?}") };
        words
    }

    #[test]
    fn three_in_a_row_hold_until_one_is_taken() {
        let now = Instant::now();
        let mut refusals = Refusals::new(RefusedPolicy::Keep);
        assert_eq!(refuse(&mut refusals, now), Verdict::Record);
        assert_eq!(refuse(&mut refusals, now), Verdict::Record);
        for _ in 0..100 {
            assert!(words(refuse(&mut refusals, now)).starts_with("3 events in a row are refused"));
            assert!(refusals.held() && refusals.offer_in(now).is_none());
        }
        refusals.accepted(Seq(6), Seq(9));
        assert!(!refusals.held());
        assert_eq!(refuse(&mut refusals, now), Verdict::Record);
    }

    #[test]
    fn a_dead_letter_breeds_none() {
        let now = Instant::now();
        let mut refusals = Refusals::new(RefusedPolicy::Release);
        for _ in 0..1_000 {
            assert_eq!(refusals.refused(Seq(5), true, true, now), Verdict::Pass);
        }
    }

    #[test]
    fn so_many_are_recorded_in_an_hour() {
        let begin = Instant::now();
        for policy in [RefusedPolicy::Keep, RefusedPolicy::Release] {
            let mut refusals = Refusals::new(policy);
            for minute in 0..60 {
                assert_eq!(refuse(&mut refusals, begin + Duration::from_secs(minute * 60)), Verdict::Record);
                refusals.accepted(Seq(6), Seq(9));
            }
            let almost = begin + RATE_WINDOW - Duration::from_secs(1);
            assert!(words(refuse(&mut refusals, almost)).contains("60 events within an hour"));
            refusals.accepted(Seq(6), Seq(9));
            assert!(refusals.held(), "it waits for the hour, not for others");
            assert_eq!(refuse(&mut refusals, begin + RATE_WINDOW), Verdict::Record);
            assert!(!refusals.held());
        }
    }

    #[test]
    fn what_cannot_be_remembered_is_not_passed() {
        let now = Instant::now();
        assert!(
            words(Refusals::new(RefusedPolicy::Keep).refused(Seq(5), false, false, now))
                .contains("as can be remembered")
        );
        assert_eq!(Refusals::new(RefusedPolicy::Release).refused(Seq(5), false, false, now), Verdict::Record);
    }

    #[test]
    fn what_was_refused_is_offered_again_after_a_while() {
        let now = Instant::now();
        let mut refusals = Refusals::new(RefusedPolicy::Keep);
        refuse(&mut refusals, now);
        refusals.offer_after(Duration::from_secs(60), now);
        assert_eq!(refusals.offer_in(now), None, "not while it takes nothing");
        refusals.accepted(Seq(6), Seq(9));
        assert_eq!(refusals.offer_in(now + Duration::from_secs(50)), Some(Duration::from_secs(10)));
        assert_eq!(refusals.offer_in(now + Duration::from_secs(70)), Some(Duration::ZERO));
    }
}
