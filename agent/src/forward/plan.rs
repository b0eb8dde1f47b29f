//! What to send next. Pure; the driver carries it out.
//!
//! Live first: fresh events never wait behind a backlog. While both lanes have something, the backlog still gets its share
//! of the bytes, so that it ends some day.

use fieldlog_projections::Seq;

use super::Lane;
use super::acked::Acked;

/// In which order a sink wants the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Fresh events first, the backlog beside them. In order within each lane.
    LiveFirst,
    /// By position, strictly.
    Strict,
}

/// Where a sink is in the log, and what is under way to it.
#[derive(Clone, Debug)]
pub struct Plan {
    acked: Acked,
    order: Order,
    backlog_share: f64,
    /// The live lane begins here.
    live_from: Seq,
    /// Ranges that were sent and not yet answered, and those that were answered badly and wait for their turn again.
    under_way: Vec<(Seq, Seq)>,
    /// Bytes that each lane has sent while the other one had something to send, too.
    contended: (u64, u64),
}

impl Plan {
    /// Going on from what is acknowledged.
    pub fn new(acked: Acked, order: Order, backlog_share: f64) -> Plan {
        let live_from = acked.contiguous().next();
        Plan { acked, order, backlog_share, live_from, under_way: Vec::new(), contended: (0, 0) }
    }

    /// What has been acknowledged.
    pub fn acked(&self) -> &Acked {
        &self.acked
    }

    /// A connection is there. What was under way is forgotten; what is older than `head` is backlog from now on, unless it
    /// is so little that it fits one parcel.
    pub fn connected(&mut self, head: Seq, parcel_events: u64) {
        self.under_way.clear();
        self.contended = (0, 0);
        let all = self.order == Order::Strict || self.acked.missing_count(head) <= parcel_events;
        self.live_from = if all { self.acked.contiguous().next() } else { head.next() };
    }

    /// The next range to send: lane and positions, inclusive. It is under way from now on; `sent` says how far it got.
    pub fn next(&self, head: Seq) -> Option<(Lane, Seq, Seq)> {
        let live = self.unsent(self.live_from, head);
        let backlog =
            if self.live_from.0 > 1 { self.unsent(Seq(1), Seq(self.live_from.0 - 1)) } else { None };
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

    /// A range is under way; `contended` if the other lane had something to send, too.
    pub fn sent(&mut self, lane: Lane, first: Seq, last: Seq, bytes: u64, head: Seq) {
        self.under_way.push((first, last));
        let both = self.unsent(self.live_from, head).is_some()
            && self.unsent(Seq(1), Seq(self.live_from.0 - 1)).is_some();
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
    }

    /// A range is to be sent again.
    pub fn failed(&mut self, first: Seq, last: Seq) {
        self.under_way.retain(|&range| range != (first, last));
    }

    /// Ranges under way.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    fn unsent(&self, from: Seq, until: Seq) -> Option<(Seq, Seq)> {
        let mut taken = self.acked.clone();
        for &(first, last) in &self.under_way {
            taken.add(first, last);
        }
        taken.missing(from, until)
    }
}
