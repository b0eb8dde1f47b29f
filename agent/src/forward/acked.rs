//! Which positions a sink has acknowledged: ranges, because live events go before a backlog. Pure.

use fieldlog_projections::Seq;
use serde::{Deserialize, Serialize};

/// More ranges than this are not remembered; the shortest is forgotten, and sent again with the same identity.
const RANGES_MAX: usize = 64;

/// Acknowledged positions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acked {
    /// Everything up to here.
    upto: u64,
    /// Further ranges, inclusive, ascending, with at least one position missing before each.
    beyond: Vec<(u64, u64)>,
}

impl Acked {
    /// Everything up to `seq`, nothing after it.
    pub fn upto(seq: Seq) -> Acked {
        Acked { upto: seq.0, beyond: Vec::new() }
    }

    /// The last position before which nothing is missing.
    pub fn contiguous(&self) -> Seq {
        Seq(self.upto)
    }

    /// The last position of all.
    pub fn newest(&self) -> Seq {
        Seq(self.beyond.last().map_or(self.upto, |&(_, last)| last))
    }

    /// Adds a range, inclusive.
    pub fn add(&mut self, first: Seq, last: Seq) {
        let (mut first, mut last) = (first.0, last.0);
        if last < first {
            return;
        }
        self.beyond.retain(|&(a, b)| {
            let apart = b.saturating_add(1) < first || last.saturating_add(1) < a;
            if !apart {
                (first, last) = (first.min(a), last.max(b));
            }
            apart
        });
        if first <= self.upto + 1 {
            self.upto = self.upto.max(last);
            // The range may have closed the gap to the next one only now.
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
        if self.beyond.len() > RANGES_MAX
            && let Some(shortest) =
                (0..self.beyond.len()).min_by_key(|&i| self.beyond[i].1 - self.beyond[i].0)
        {
            self.beyond.remove(shortest);
        }
    }

    /// The first range of missing positions from `from` on, inclusive, up to `until`.
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

    /// How many positions up to `head` are missing.
    pub fn missing_count(&self, head: Seq) -> u64 {
        let beyond: u64 =
            self.beyond.iter().map(|&(a, b)| b.min(head.0).saturating_sub(a) + u64::from(a <= head.0)).sum();
        head.0.saturating_sub(self.upto).saturating_sub(beyond)
    }

    /// As it is stored.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![1];
        fieldlog_projections::varint::put(&mut out, self.upto);
        fieldlog_projections::varint::put(&mut out, self.beyond.len() as u64);
        for &(a, b) in &self.beyond {
            fieldlog_projections::varint::put(&mut out, a);
            fieldlog_projections::varint::put(&mut out, b);
        }
        out
    }

    /// From its stored form; `None` if it is none.
    pub fn decode(bytes: &[u8]) -> Option<Acked> {
        let (&1, mut rest) = bytes.split_first()? else { return None };
        let mut next = || fieldlog_projections::varint::take(&mut rest);
        let (upto, ranges) = (next()?, next()?);
        let mut acked = Acked { upto, beyond: Vec::new() };
        for _ in 0..ranges {
            acked.add(Seq(next()?), Seq(next()?));
        }
        rest.is_empty().then_some(acked)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn equal_to_a_set_of_positions(ranges in prop::collection::vec((1u64..200, 0u64..20), 0..40), head in 1u64..230) {
            let mut acked = Acked::default();
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
            prop_assert_eq!(Acked::decode(&acked.encode()), Some(acked));
        }
    }

    #[test]
    fn forgets_the_shortest_range_beyond_its_bound() {
        let mut acked = Acked::default();
        for n in 1..=RANGES_MAX as u64 + 1 {
            acked.add(Seq(n * 100), Seq(n * 100 + n));
        }
        assert_eq!(acked.missing(Seq(100), Seq(150)), Some((Seq(100), Seq(150))));
        assert_eq!(acked.missing(Seq(200), Seq(202)), None);
    }
}
