//! What to send next. Pure; the driver carries it out.
//!
//! Live first: fresh events never wait behind a backlog. While both lanes have something to send, the backlog gets its
//! share of the bytes, so that it ends eventually.
//!
//! Events of some types may have priority. While there is a queue, the plan looks for them in the unsent ranges and
//! sends them ahead as priority copies. These cover nothing, so they do not change what is acknowledged.

use fieldlog_projections::Seq;

use crate::config::Order;
use crate::log::acked::AckedRanges;
use fieldlog_wire::Lane;

/// The progress of a sink, and its parcels in flight.
#[derive(Clone, Debug)]
pub struct Plan {
    acked: AckedRanges,
    order: Order,
    backlog_share: f64,
    /// The live lane starts here.
    live_from: Seq,
    /// Unanswered ranges, ascending.
    under_way: Vec<(Seq, Seq)>,
    /// Bytes that each lane has sent while the other one also had something to send.
    contended: (u64, u64),
    /// More was unsent after the last parcel.
    queue: bool,
    /// Acknowledged ranges, and those whose priority events have been looked for and delivered.
    looked: AckedRanges,
    priority_under_way: bool,
    /// Ranges that cannot be read in the log, ascending: neither sent nor acknowledged.
    unreadable: Vec<(Seq, Seq)>,
    /// Where to continue offering refused ranges.
    offer_from: Seq,
    /// The last step looked for priority events; the next parcel must cover something.
    turn_of_others: bool,
}

impl Plan {
    /// Continues from the acknowledged ranges.
    pub fn new(acked: AckedRanges, order: Order, backlog_share: f64) -> Plan {
        Plan {
            live_from: acked.newest().next(),
            looked: looked_through(&acked),
            acked,
            order,
            backlog_share,
            under_way: Vec::new(),
            contended: (0, 0),
            queue: false,
            priority_under_way: false,
            unreadable: Vec::new(),
            offer_from: Seq(0),
            turn_of_others: false,
        }
    }

    /// What has been acknowledged.
    pub fn acked(&self) -> &AckedRanges {
        &self.acked
    }

    /// A new connection. Parcels in flight are forgotten. Everything up to `head` becomes backlog, unless it fits one
    /// parcel. But an unfinished backlog stays one, since live events may have been sent before it.
    pub fn connected(&mut self, head: Seq, parcel_events: u64) {
        self.under_way.clear();
        self.contended = (0, 0);
        self.priority_under_way = false;
        let waiting = self.acked.missing_count(head) - self.acked.refused_count();
        self.queue = waiting > parcel_events;
        let next = self.acked.contiguous().next();
        if self.order == Order::Strict {
            self.live_from = next;
        } else if self.queue {
            self.live_from = head.next();
        } else {
            self.live_from = self.live_from.max(next);
        }
    }

    /// The next range to send: lane and positions, inclusive. `sent` marks it as in flight.
    pub fn next(&self, head: Seq) -> Option<(Lane, Seq, Seq)> {
        let live = self.unsent(self.live_from, head);
        let backlog = self.backlog();
        let lane = match (live, backlog) {
            (Some(_), Some(_)) => {
                let (live, backlog) = (self.contended.0 as f64, self.contended.1 as f64);
                if backlog < self.backlog_share * (live + backlog) { Lane::Backlog } else { Lane::Live }
            }
            (Some(_), None) => Lane::Live,
            (None, Some(_)) => Lane::Backlog,
            (None, None) => return None,
        };
        let (first, last) = if lane == Lane::Live { live? } else { backlog? };
        Some((lane, first, last))
    }

    /// The next range of the backlog.
    pub fn backlog(&self) -> Option<(Seq, Seq)> {
        self.unsent(Seq(1), Seq(self.live_from.0 - 1))
    }

    /// The next range to search for priority events; `held` if the next parcel must wait. Without a queue there is
    /// none, since an event would not arrive later than its copy.
    pub fn next_priority(&self, head: Seq, held: bool) -> Option<(Seq, Seq)> {
        if self.priority_under_way || !(self.queue || held) {
            return None;
        }
        self.free(&self.looked, Seq(1), head)
    }

    /// Whether the next parcel must cover something: otherwise priority copies could starve all others.
    pub fn turn_of_others(&self) -> bool {
        self.turn_of_others
    }

    /// A search for priority events has begun; found ones are in flight.
    pub fn looking(&mut self) {
        self.priority_under_way = true;
        self.turn_of_others = true;
    }

    /// The priority events of a range were delivered, or there were none.
    pub fn looked_through(&mut self, first: Seq, last: Seq) {
        self.priority_under_way = false;
        self.looked.add(first, last);
    }

    /// Priority copies are to be sent again.
    pub fn failed_priority(&mut self) {
        self.priority_under_way = false;
    }

    /// A range is in flight; `contended` bytes count if the other lane also had something to send.
    pub fn sent(&mut self, lane: Lane, first: Seq, last: Seq, bytes: u64, head: Seq) {
        let at = self.under_way.partition_point(|range| range.0 < first);
        self.under_way.insert(at, (first, last));
        self.queue = self.unsent(Seq(1), head).is_some();
        self.turn_of_others = false;
        let both = self.unsent(self.live_from, head).is_some() && self.backlog().is_some();
        if !both {
            self.contended = (0, 0);
        } else if lane == Lane::Live {
            self.contended.0 += bytes;
        } else {
            self.contended.1 += bytes;
        }
    }

    /// A range was acknowledged.
    pub fn acknowledged(&mut self, first: Seq, last: Seq) {
        self.under_way.retain(|&range| range != (first, last));
        self.acked.add(first, last);
        self.looked.add(first, last);
    }

    /// The sink has everything in a range except what it has refused.
    pub fn acknowledged_but_refused(&mut self, first: Seq, last: Seq) {
        self.acked.add_but_refused(first, last);
        self.looked.add(first, last);
    }

    /// The sink has refused a range in flight: it is skipped.
    pub fn refused(&mut self, first: Seq, last: Seq) {
        self.under_way.retain(|&range| range != (first, last));
        self.acked.refuse(first, last);
        self.looked.add(first, last);
    }

    /// The next refused range to offer again, in turn.
    pub fn next_refused(&self) -> Option<(Seq, Seq)> {
        let free = |&(first, last): &(Seq, Seq)| {
            !self.under_way.iter().chain(&self.unreadable).any(|&(a, b)| a <= last && first <= b)
        };
        let mut later = self.acked.refused().filter(|(first, _)| *first >= self.offer_from).filter(free);
        later.next().or_else(|| self.acked.refused().find(free))
    }

    /// A refused range is in flight again.
    pub fn offered(&mut self, first: Seq, last: Seq) {
        let at = self.under_way.partition_point(|range| range.0 < first);
        self.under_way.insert(at, (first, last));
        self.offer_from = last.next();
    }

    /// A range cannot be read; later ones can still be sent. Not in strict order.
    pub fn unreadable(&mut self, first: Seq, last: Seq) {
        let at = self.unreadable.partition_point(|range| range.0 < first);
        self.unreadable.insert(at, (first, last));
        self.looked.add(first, last);
    }

    /// The ranges that cannot be read, ascending.
    pub fn unreadable_ranges(&self) -> &[(Seq, Seq)] {
        &self.unreadable
    }

    /// A range is to be sent again.
    pub fn failed(&mut self, first: Seq, last: Seq) {
        self.under_way.retain(|&range| range != (first, last));
    }

    /// Ranges under way.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// The first range within `from..=until` that is neither acknowledged nor in flight.
    fn unsent(&self, from: Seq, until: Seq) -> Option<(Seq, Seq)> {
        self.free(&self.acked, from, until)
    }

    /// The first range within `from..=until` that is neither in a set nor in flight, refused or unreadable.
    fn free(&self, set: &AckedRanges, from: Seq, until: Seq) -> Option<(Seq, Seq)> {
        if self.unreadable.is_empty() && self.acked.refused_count() == 0 {
            return first_free(set, &self.under_way, from, until);
        }
        let apart = self.under_way.iter().chain(&self.unreadable).copied().chain(self.acked.refused());
        let mut apart: Vec<(Seq, Seq)> = apart.collect();
        apart.sort_unstable();
        first_free(set, &apart, from, until)
    }
}

/// The first range that is neither in a set nor in the given ranges, which ascend.
fn first_free(set: &AckedRanges, apart: &[(Seq, Seq)], from: Seq, until: Seq) -> Option<(Seq, Seq)> {
    let mut from = from;
    for &(first, last) in apart {
        let (missing, end) = set.missing(from, until)?;
        if missing < first {
            return Some((missing, end.min(Seq(first.0 - 1))));
        }
        from = from.max(last.next());
    }
    set.missing(from, until)
}

/// The ranges not to be searched at the start: copies of refused events would be refused too.
fn looked_through(acked: &AckedRanges) -> AckedRanges {
    let mut looked = acked.clone();
    looked.release();
    looked
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn range(at: u64, more: u64) -> (Seq, Seq) {
        (Seq(at), Seq(at + more))
    }

    proptest! {
        #[test]
        fn unsent_is_what_neither_set_has(
            acked in prop::collection::vec((1u64..150, 0u64..12), 0..20),
            sent in prop::collection::vec((1u64..150, 0u64..12), 0..20),
            (from, until) in (1u64..170, 1u64..170),
        ) {
            let mut plan = Plan::new(AckedRanges::default(), Order::LiveFirst, 0.5);
            let mut taken = BTreeSet::new();
            for (at, more) in acked {
                plan.acked.add(Seq(at), Seq(at + more));
                taken.extend(at..=at + more);
            }
            for (at, more) in sent {
                let (first, last) = range(at, more);
                plan.sent(Lane::Live, first, last, 1, Seq(170));
                taken.extend(at..=at + more);
            }
            let first = (from..=until).find(|seq| !taken.contains(seq));
            let last = first.map(|first| (first..=until).take_while(|seq| !taken.contains(seq)).last().unwrap_or(first));
            let expected = first.zip(last).map(|(first, last)| (Seq(first), Seq(last)));
            prop_assert_eq!(plan.unsent(Seq(from), Seq(until)), expected);
        }

        /// Whatever fails and however often, everything goes, and nothing while it is under way. Nor is anything looked
        /// through that is there or under way.
        #[test]
        fn everything_is_sent_at_last(
            events in prop::collection::vec((0u8..8, 1u64..30), 0..80),
            strict in any::<bool>(),
        ) {
            let order = if strict { Order::Strict } else { Order::LiveFirst };
            let mut plan = Plan::new(AckedRanges::default(), order, 0.5);
            let mut head = Seq(40);
            let mut under_way: Vec<(Seq, Seq)> = Vec::new();
            plan.connected(head, 10);
            for (what, size) in events {
                match what {
                    0 => head.0 += size,
                    1 if !under_way.is_empty() => {
                        let (first, last) = under_way.swap_remove(size as usize % under_way.len());
                        plan.acknowledged(first, last);
                    }
                    2 if !under_way.is_empty() => {
                        let (first, last) = under_way.swap_remove(size as usize % under_way.len());
                        plan.failed(first, last);
                    }
                    3 => {
                        under_way.clear();
                        plan.connected(head, 10);
                    }
                    4 => {
                        let Some((first, last)) = plan.next_priority(head, size % 2 == 0) else { continue };
                        prop_assert!(under_way.iter().all(|&(a, b)| last < a || b < first));
                        prop_assert_eq!(plan.acked.missing(first, last), Some((first, last)));
                        plan.looking();
                        prop_assert_eq!(plan.next_priority(head, true), None);
                        match size % 3 {
                            0 => plan.looked_through(first, last.min(Seq(first.0 + size))),
                            1 => plan.failed_priority(),
                            _ => {}
                        }
                    }
                    _ => {
                        let Some((lane, first, last)) = plan.next(head) else { continue };
                        let last = last.min(Seq(first.0 + size - 1));
                        prop_assert!(under_way.iter().all(|&(a, b)| last < a || b < first));
                        plan.sent(lane, first, last, size, head);
                        under_way.push((first, last));
                    }
                }
            }
            under_way.iter().for_each(|&(first, last)| plan.failed(first, last));
            while let Some((lane, first, last)) = plan.next(head) {
                plan.sent(lane, first, last, 1, head);
                plan.acknowledged(first, last);
            }
            prop_assert_eq!(plan.acked(), &AckedRanges::upto(head));
            prop_assert_eq!(plan.next_priority(head, true), None);
        }
    }

    #[test]
    fn what_is_left_of_a_backlog_does_not_become_live() {
        let mut plan = Plan::new(AckedRanges::default(), Order::LiveFirst, 0.5);
        plan.connected(Seq(1_000), 100);
        assert_eq!(plan.next(Seq(1_000)), Some((Lane::Backlog, Seq(1), Seq(1_000))));
        plan.acknowledged(Seq(1), Seq(950));
        // A live parcel that has arrived, perhaps; its answer is lost.
        assert_eq!(plan.next(Seq(1_010)).map(|(_, first, _)| first), Some(Seq(1_001)));
        plan.sent(Lane::Live, Seq(1_001), Seq(1_010), 1, Seq(1_010));
        plan.connected(Seq(1_010), 100);
        assert_eq!(plan.unsent(plan.live_from, Seq(1_010)), Some((Seq(1_001), Seq(1_010))));
        plan.acknowledged(Seq(1_001), Seq(1_010));
        assert_eq!(plan.next(Seq(1_010)), Some((Lane::Backlog, Seq(951), Seq(1_000))));
        // The same after a restart of the agent.
        let mut plan = Plan::new(plan.acked, Order::LiveFirst, 0.5);
        plan.connected(Seq(1_010), 100);
        assert_eq!(plan.next(Seq(1_010)), Some((Lane::Backlog, Seq(951), Seq(1_000))));
    }

    #[test]
    fn what_is_refused_is_passed_and_offered_by_turns() {
        let mut plan = Plan::new(AckedRanges::default(), Order::LiveFirst, 0.5);
        plan.connected(Seq(20), 100);
        for seq in [3, 7, 9] {
            plan.sent(Lane::Live, Seq(seq), Seq(seq), 1, Seq(20));
            plan.refused(Seq(seq), Seq(seq));
        }
        let mut sent = Vec::new();
        while let Some((lane, first, last)) = plan.next(Seq(20)) {
            plan.sent(lane, first, last, 1, Seq(20));
            plan.acknowledged(first, last);
            sent.push((first.0, last.0));
        }
        assert_eq!(sent, [(1, 2), (4, 6), (8, 8), (10, 20)]);
        assert_eq!((plan.acked().contiguous(), plan.acked().missing_count(Seq(20))), (Seq(2), 3));
        let mut offer = || {
            let (first, last) = plan.next_refused().unwrap();
            plan.offered(first, last);
            assert_ne!(plan.next_refused(), Some((first, last)));
            plan.failed(first, last);
            first.0
        };
        assert_eq!([offer(), offer(), offer(), offer()], [3, 7, 9, 3]);
        plan.acknowledged(Seq(7), Seq(7));
        assert_eq!(plan.next_refused(), Some((Seq(9), Seq(9))));
        // What a sink has stored last says nothing about what it had refused before.
        plan.acknowledged_but_refused(Seq(1), Seq(20));
        assert_eq!(plan.acked().refused_count(), 2);
    }

    #[test]
    fn what_cannot_be_read_stops_nothing_else() {
        let mut plan = Plan::new(AckedRanges::default(), Order::LiveFirst, 0.5);
        plan.connected(Seq(1_000), 100);
        plan.unreadable(Seq(301), Seq(350));
        assert_eq!(plan.next(Seq(1_001)), Some((Lane::Live, Seq(1_001), Seq(1_001))));
        assert_eq!(plan.backlog(), Some((Seq(1), Seq(300))));
        plan.acknowledged(Seq(1), Seq(300));
        assert_eq!(plan.next(Seq(1_000)), Some((Lane::Backlog, Seq(351), Seq(1_000))));
        plan.acknowledged(Seq(351), Seq(1_000));
        assert_eq!(plan.next(Seq(1_000)), None);
        assert_eq!(plan.acked().contiguous(), Seq(300));
    }

    #[test]
    fn nothing_goes_ahead_where_nothing_waits() {
        let mut plan = Plan::new(AckedRanges::upto(Seq(10)), Order::LiveFirst, 0.5);
        plan.connected(Seq(50), 100);
        assert_eq!(plan.next_priority(Seq(50), false), None);
        // The next parcel has to wait, for the bandwidth.
        assert_eq!(plan.next_priority(Seq(50), true), Some((Seq(11), Seq(50))));
        plan.sent(Lane::Live, Seq(11), Seq(50), 1, Seq(50));
        assert_eq!(plan.next_priority(Seq(60), false), None);
        plan.sent(Lane::Live, Seq(51), Seq(55), 1, Seq(60));
        assert_eq!(plan.next_priority(Seq(60), false), Some((Seq(56), Seq(60))));
        plan.sent(Lane::Live, Seq(56), Seq(60), 1, Seq(60));
        assert_eq!(plan.next_priority(Seq(70), false), None);
    }

    #[test]
    fn what_was_looked_through_is_not_again() {
        let mut plan = Plan::new(AckedRanges::default(), Order::LiveFirst, 0.5);
        plan.connected(Seq(1_000), 100);
        assert_eq!(plan.next_priority(Seq(1_000), false), Some((Seq(1), Seq(1_000))));
        plan.looking();
        plan.looked_through(Seq(1), Seq(400));
        assert!(plan.turn_of_others());
        plan.sent(Lane::Live, Seq(401), Seq(500), 1, Seq(1_000));
        assert!(!plan.turn_of_others());
        // That under way arrives as soon as a copy would.
        assert_eq!(plan.next_priority(Seq(1_000), false), Some((Seq(501), Seq(1_000))));
        plan.looked_through(Seq(501), Seq(1_000));
        assert_eq!(plan.next_priority(Seq(1_001), false), Some((Seq(1_001), Seq(1_001))));
        // If it was lost, it waits behind the backlog now.
        plan.connected(Seq(1_001), 100);
        assert_eq!(plan.next_priority(Seq(1_001), false), Some((Seq(401), Seq(500))));
    }
}
