//! Ranges of positions that are to be sent again, because the receiver has asked for them. Pure.

use fieldlog_projections::Seq;

/// Maximum ranges; what is beyond it is not remembered, and has to be asked for again.
const RANGES_MAX: usize = 64;

/// Ranges, inclusive, ascending and disjoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Again(Vec<(Seq, Seq)>);

impl Again {
    /// Adds a range.
    pub(super) fn add(&mut self, first: Seq, last: Seq) {
        let (mut first, mut last) = (first, last);
        if last < first {
            return;
        }
        let before = self.0.len();
        self.0.retain(|&(a, b)| {
            let apart = b.next() < first || last.next() < a;
            if !apart {
                (first, last) = (first.min(a), last.max(b));
            }
            apart
        });
        if before < RANGES_MAX || self.0.len() < before {
            let at = self.0.partition_point(|range| range.0 < first);
            self.0.insert(at, (first, last));
        }
    }

    /// Removes a range.
    pub(super) fn remove(&mut self, first: Seq, last: Seq) {
        let left = |&(a, b): &(Seq, Seq)| {
            let below = (a < first).then(|| (a, b.min(Seq(first.0 - 1))));
            let above = (b > last).then(|| (a.max(last.next()), b));
            [below, above].into_iter().flatten()
        };
        self.0 = self.0.iter().flat_map(left).collect();
    }

    /// Whether a position is in it.
    pub(super) fn has(&self, seq: Seq) -> bool {
        self.0.iter().any(|&(first, last)| first <= seq && seq <= last)
    }

    /// The ranges.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (Seq, Seq)> {
        self.0.iter().copied()
    }

    /// Number of positions.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|(first, last)| last.0 - first.0 + 1).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set_of_positions(steps in prop::collection::vec((any::<bool>(), 1u64..90, 0u64..15), 0..40)) {
            let (mut again, mut expected) = (Again::default(), BTreeSet::new());
            for (add, at, more) in steps {
                if add {
                    again.add(Seq(at), Seq(at + more));
                    expected.extend(at..=at + more);
                } else {
                    again.remove(Seq(at), Seq(at + more));
                    expected.retain(|seq| !(at..=at + more).contains(seq));
                }
            }
            let found: Vec<u64> = again.ranges().flat_map(|(first, last)| first.0..=last.0).collect();
            prop_assert_eq!(&found, &expected.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(again.count(), expected.len() as u64);
            prop_assert!((0..110).all(|seq| again.has(Seq(seq)) == expected.contains(&seq)));
            prop_assert!(again.0.windows(2).all(|pair| pair[0].1.next() < pair[1].0));
        }
    }

    #[test]
    fn it_is_bounded() {
        let mut again = Again::default();
        (1..=100).for_each(|n| again.add(Seq(10 * n), Seq(10 * n)));
        assert_eq!(again.count(), RANGES_MAX as u64);
        again.add(Seq(1), Seq(20));
        assert_eq!(again.ranges().next(), Some((Seq(1), Seq(20))));
    }
}
