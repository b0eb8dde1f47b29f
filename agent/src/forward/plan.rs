//! What to send next. Pure; the driver carries it out.
//!
//! Live first: fresh events never wait behind a backlog. While both lanes have something to send, the backlog gets its
//! share of the bytes, so that it ends eventually.
//!
//! Events of some types may have priority. While there is a queue, the plan looks for them in the unsent ranges and
//! sends them ahead as priority copies. These cover nothing, so they do not change what is acknowledged.
//!
//! What the receiver asks for again comes after the backlog and counts as a part of it. It does not change what is
//! acknowledged either.

use fieldlog_projections::Seq;

use super::again::Again;
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
    /// What is to be sent again.
    again: Again,
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
            again: Again::default(),
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

    /// The next range of the backlog, or to be sent again.
    pub fn backlog(&self) -> Option<(Seq, Seq)> {
        self.unsent(Seq(1), Seq(self.live_from.0 - 1)).or_else(|| self.next_again())
    }

    fn next_again(&self) -> Option<(Seq, Seq)> {
        let nothing = AckedRanges::default();
        self.again.ranges().find_map(|(first, last)| first_free(&nothing, &self.under_way, first, last))
    }

    /// The receiver asks for a range again. What it has not acknowledged is sent in any case.
    pub fn ask_again(&mut self, first: Seq, last: Seq) {
        let mut from = first;
        while let Some((a, b)) = self.acked.missing(from, last) {
            self.again.add(from, Seq(a.0 - 1));
            from = b.next();
        }
        self.again.add(from, last);
    }

    /// Whether a position is to be sent again.
    pub fn is_again(&self, seq: Seq) -> bool {
        self.again.has(seq)
    }

    /// Positions that are to be sent again.
    pub fn again_count(&self) -> u64 {
        self.again.count()
    }

    /// A range cannot be sent again.
    pub fn not_again(&mut self, first: Seq, last: Seq) {
        self.under_way.retain(|&range| range != (first, last));
        self.again.remove(first, last);
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
        self.again.remove(first, last);
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
mod tests;
