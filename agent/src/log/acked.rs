//! The positions that a sink has acknowledged, as ranges, because live events are sent before a backlog; and those it
//! has refused. Pure.

use fieldlog_projections::Seq;
use serde::{Deserialize, Serialize};

/// Maximum ranges; beyond it the shortest is forgotten, and sent again with the same identity.
const RANGES_MAX: usize = 64;
/// Maximum refused ranges; once reached, no further refused event is skipped.
pub const REFUSED_MAX: usize = 256;
/// No log has this many records; a stored cursor beyond it is damaged.
const SEQ_MAX: u64 = u64::MAX / 2;

/// Acknowledged positions. Refused positions are not acknowledged: they count as missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckedRanges {
    /// Everything up to here is acknowledged.
    upto: u64,
    /// Further ranges, inclusive, ascending, with at least one missing position before each.
    beyond: Vec<(u64, u64)>,
    /// Refused ranges, inclusive, ascending, disjoint from each other and from acknowledged ones.
    refused: Vec<(u64, u64)>,
}

impl AckedRanges {
    /// Everything up to `seq` and nothing after it.
    pub fn upto(seq: Seq) -> AckedRanges {
        AckedRanges { upto: seq.0, beyond: Vec::new(), refused: Vec::new() }
    }

    /// The position up to which nothing is missing.
    pub fn contiguous(&self) -> Seq {
        Seq(self.upto)
    }

    /// The highest acknowledged position.
    pub fn newest(&self) -> Seq {
        Seq(self.beyond.last().map_or(self.upto, |&(_, last)| last))
    }

    /// Adds a range, inclusive.
    pub fn add(&mut self, first: Seq, last: Seq) {
        let (mut first, mut last) = (first.0, last.0);
        if last < first {
            return;
        }
        self.unrefuse(first, last);
        self.beyond.retain(|&(a, b)| {
            let apart = b.saturating_add(1) < first || last.saturating_add(1) < a;
            if !apart {
                (first, last) = (first.min(a), last.max(b));
            }
            apart
        });
        if first <= self.upto + 1 {
            self.upto = self.upto.max(last);
            // The range may have closed the gap to the next one.
            while let Some(&(a, b)) = self.beyond.first() {
                if a > self.upto + 1 {
                    break;
                }
                self.upto = self.upto.max(b);
                self.beyond.remove(0);
            }
            return;
        }
        let at = self.beyond.partition_point(|&(a, _)| a < first);
        self.beyond.insert(at, (first, last));
        // A refused range splits the ranges around it, and must not push out acknowledged ones.
        if self.beyond.len() > RANGES_MAX + self.refused.len()
            && let Some(shortest) =
                (0..self.beyond.len()).min_by_key(|&i| self.beyond[i].1 - self.beyond[i].0)
        {
            self.beyond.remove(shortest);
        }
    }

    /// Marks a range as refused; it must be neither acknowledged nor refused yet. Does nothing if there are
    /// [`REFUSED_MAX`] already.
    pub fn refuse(&mut self, first: Seq, last: Seq) {
        let at = self.refused.partition_point(|&(a, _)| a < first.0);
        let apart = at == 0 || self.refused[at - 1].1 < first.0;
        if apart && self.refused.get(at).is_none_or(|&(a, _)| last.0 < a) && self.has_room() {
            self.refused.insert(at, (first.0, last.0));
        }
    }

    /// Whether another refused range can be remembered.
    pub fn has_room(&self) -> bool {
        self.refused.len() < REFUSED_MAX
    }

    /// The refused ranges, ascending.
    pub fn refused(&self) -> impl Iterator<Item = (Seq, Seq)> {
        self.refused.iter().map(|&(first, last)| (Seq(first), Seq(last)))
    }

    /// Whether a position is refused.
    pub fn is_refused(&self, seq: Seq) -> bool {
        self.refused.iter().any(|&(first, last)| (first..=last).contains(&seq.0))
    }

    /// Number of refused positions.
    pub fn refused_count(&self) -> u64 {
        self.refused.iter().map(|&(first, last)| last - first + 1).sum()
    }

    /// Marks everything refused as acknowledged.
    pub fn release(&mut self) {
        for (first, last) in self.refused.clone() {
            self.add(Seq(first), Seq(last));
        }
    }

    /// Adds a range, except its refused positions.
    pub fn add_but_refused(&mut self, first: Seq, last: Seq) {
        let mut from = first;
        for (a, b) in self.refused.clone() {
            if from.0 <= b && a <= last.0 {
                self.add(from, Seq(a - 1));
                from = Seq(b + 1);
            }
        }
        self.add(from, last);
    }

    /// Removes a range from the refused positions.
    fn unrefuse(&mut self, first: u64, last: u64) {
        if self.refused.iter().all(|&(a, b)| b < first || last < a) {
            return;
        }
        let left = |&(a, b): &(u64, u64)| {
            let below = (a < first).then(|| (a, b.min(first - 1)));
            let above = (b > last).then(|| (a.max(last + 1), b));
            [below, above].into_iter().flatten()
        };
        self.refused = self.refused.iter().flat_map(left).collect();
        self.refused.truncate(REFUSED_MAX);
    }

    /// Removes everything after `head`, the end of the log; returns whether there was something. Those records are
    /// gone, and their positions will have other records.
    pub fn cut(&mut self, head: Seq) -> bool {
        let cut = |ranges: &mut Vec<(u64, u64)>| {
            ranges.retain(|&(first, _)| first <= head.0);
            ranges.iter_mut().for_each(|range| range.1 = range.1.min(head.0));
        };
        let before = self.clone();
        self.upto = self.upto.min(head.0);
        cut(&mut self.beyond);
        cut(&mut self.refused);
        *self != before
    }

    /// The first missing range in `from..=until`.
    pub fn missing(&self, from: Seq, until: Seq) -> Option<(Seq, Seq)> {
        let mut start = from.0.max(self.upto + 1);
        for &(a, b) in &self.beyond {
            if start < a {
                let end = (a - 1).min(until.0);
                return (start <= end).then_some((Seq(start), Seq(end)));
            }
            start = start.max(b + 1);
        }
        (start <= until.0).then_some((Seq(start), until))
    }

    /// Number of missing positions up to `head`.
    pub fn missing_count(&self, head: Seq) -> u64 {
        let beyond: u64 =
            self.beyond.iter().map(|&(a, b)| b.min(head.0).saturating_sub(a) + u64::from(a <= head.0)).sum();
        head.0.saturating_sub(self.upto).saturating_sub(beyond)
    }

    /// The stored form: version 1 if nothing is refused, which older versions of fieldlog can read.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![if self.refused.is_empty() { 1 } else { 2 }];
        fieldlog_projections::varint::put(&mut out, self.upto);
        put_ranges(&mut out, &self.beyond);
        if !self.refused.is_empty() {
            put_ranges(&mut out, &self.refused);
        }
        out
    }

    /// Decodes the stored form; `None` if it is invalid.
    pub fn decode(bytes: &[u8]) -> Option<AckedRanges> {
        let (version, mut rest) = bytes.split_first()?;
        let upto = read_varint(&mut rest)?;
        let mut acked = AckedRanges::upto(Seq(upto));
        let beyond = take_ranges(&mut rest)?;
        let refused = match version {
            1 => Vec::new(),
            2 => take_ranges(&mut rest)?,
            _ => return None,
        };
        if !rest.is_empty() || refused.len() > REFUSED_MAX {
            return None;
        }
        // First, because they make room for the acknowledged ranges around them.
        refused.iter().for_each(|&(first, last)| acked.refuse(first, last));
        beyond.iter().for_each(|&(first, last)| acked.add(first, last));
        Some(acked)
    }
}

fn put_ranges(out: &mut Vec<u8>, ranges: &[(u64, u64)]) {
    fieldlog_projections::varint::put(out, ranges.len() as u64);
    for &(first, last) in ranges {
        fieldlog_projections::varint::put(out, first);
        fieldlog_projections::varint::put(out, last);
    }
}

fn read_varint(rest: &mut &[u8]) -> Option<u64> {
    fieldlog_projections::varint::read(rest).filter(|value| *value <= SEQ_MAX)
}

fn take_ranges(rest: &mut &[u8]) -> Option<Vec<(Seq, Seq)>> {
    let mut ranges = Vec::new();
    for _ in 0..read_varint(rest)? {
        let (first, last) = (Seq(read_varint(rest)?), Seq(read_varint(rest)?));
        if first.0 == 0 || last < first {
            return None;
        }
        ranges.push((first, last));
    }
    Some(ranges)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn equal_to_a_set_of_positions(ranges in prop::collection::vec((1u64..200, 0u64..20), 0..40), head in 1u64..230) {
            let mut acked = AckedRanges::default();
            let mut set = BTreeSet::new();
            for (first, more) in ranges {
                acked.add(Seq(first), Seq(first + more));
                set.extend(first..=first + more);
            }
            let missing: Vec<u64> = (1..=head).filter(|n| !set.contains(n)).collect();
            prop_assert_eq!(acked.missing_count(Seq(head)), missing.len() as u64);
            prop_assert_eq!(acked.missing(Seq(1), Seq(head)).map(|(a, _)| a.0), missing.first().copied());
            let contiguous = (1..).find(|n| !set.contains(n)).unwrap_or(1) - 1;
            prop_assert_eq!(acked.contiguous().0, contiguous);
            let mut walked = Vec::new();
            let mut from = Seq(1);
            while let Some((a, b)) = acked.missing(from, Seq(head)) {
                walked.extend(a.0..=b.0);
                from = b.next();
            }
            prop_assert_eq!(walked, missing);
            prop_assert_eq!(AckedRanges::decode(&acked.encode()), Some(acked));
        }
    }

    #[test]
    fn forgets_the_shortest_range_beyond_its_bound() {
        let mut acked = AckedRanges::default();
        for n in 1..=RANGES_MAX as u64 + 1 {
            acked.add(Seq(n * 100), Seq(n * 100 + n));
        }
        assert_eq!(acked.missing(Seq(100), Seq(150)), Some((Seq(100), Seq(150))));
        assert_eq!(acked.missing(Seq(200), Seq(202)), None);
    }

    proptest! {
        /// Whatever is refused and then acknowledged: no position is both, and all of it is stored.
        #[test]
        fn what_is_refused_is_missing_until_it_is_acknowledged(
            steps in prop::collection::vec((0u8..3, 1u64..200, 0u64..12), 0..80),
            head in 1u64..230,
        ) {
            let mut acked = AckedRanges::default();
            let (mut has, mut refused) = (BTreeSet::new(), BTreeSet::new());
            for (what, first, more) in steps {
                let range = first..=first + more;
                match what {
                    0 if range.clone().all(|n| !has.contains(&n) && !refused.contains(&n)) => {
                        acked.refuse(Seq(first), Seq(first + more));
                        refused.extend(range);
                    }
                    1 => {
                        acked.add_but_refused(Seq(first), Seq(first + more));
                        has.extend(range.filter(|n| !refused.contains(n)));
                    }
                    _ => {
                        acked.add(Seq(first), Seq(first + more));
                        refused.retain(|n| !range.contains(n));
                        has.extend(range);
                    }
                }
            }
            let told: Vec<u64> = acked.refused().flat_map(|(a, b)| a.0..=b.0).collect();
            prop_assert_eq!(told, refused.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(acked.missing_count(Seq(head)), (1..=head).filter(|n| !has.contains(n)).count() as u64);
            prop_assert_eq!(AckedRanges::decode(&acked.encode()), Some(acked.clone()));
            let contiguous = (1..).find(|n| !has.contains(n)).unwrap_or(1) - 1;
            prop_assert_eq!(acked.contiguous().0, contiguous);

            let mut cut = acked.clone();
            prop_assert_eq!(cut.cut(Seq(head)), has.iter().chain(&refused).any(|n| *n > head));
            prop_assert!(cut.newest() <= Seq(head));
            prop_assert_eq!(cut.missing_count(Seq(head)), acked.missing_count(Seq(head)));

            acked.release();
            prop_assert_eq!(acked.refused_count(), 0);
            has.extend(refused);
            prop_assert_eq!(acked.missing_count(Seq(head)), (1..=head).filter(|n| !has.contains(n)).count() as u64);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = AckedRanges::decode(&bytes);
        }
    }

    #[test]
    fn both_stored_versions_are_read() {
        let mut acked = AckedRanges::upto(Seq(300));
        acked.add(Seq(400), Seq(500));
        let one = [1, 0xac, 0x02, 1, 0x90, 0x03, 0xf4, 0x03];
        assert_eq!((acked.encode(), AckedRanges::decode(&one)), (one.to_vec(), Some(acked.clone())));
        acked.refuse(Seq(301), Seq(301));
        acked.refuse(Seq(350), Seq(352));
        let two =
            [2, 0xac, 0x02, 1, 0x90, 0x03, 0xf4, 0x03, 2, 0xad, 0x02, 0xad, 0x02, 0xde, 0x02, 0xe0, 0x02];
        assert_eq!((acked.encode(), AckedRanges::decode(&two)), (two.to_vec(), Some(acked)));
        for damaged in [&[][..], &[3, 1, 0], &[1, 1], &[1, 1, 0, 0], &[1, 5, 1, 9, 8], &[2, 1, 0, 1, 0, 3]] {
            assert_eq!(AckedRanges::decode(damaged), None, "{damaged:?}");
        }
    }

    /// Each refused range splits acknowledged ones: none of those may be forgotten, or they would be sent for ever.
    #[test]
    fn refused_ranges_push_nothing_out() {
        let mut acked = AckedRanges::default();
        for n in 1..=REFUSED_MAX as u64 + 10 {
            acked.refuse(Seq(n * 10), Seq(n * 10));
        }
        assert!(!acked.has_room());
        acked.add_but_refused(Seq(1), Seq(10_000));
        assert_eq!((acked.missing_count(Seq(10_000)), acked.refused_count()), (256, 256));
        assert_eq!(AckedRanges::decode(&acked.encode()), Some(acked));
    }
}
