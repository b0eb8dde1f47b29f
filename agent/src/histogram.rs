//! A histogram of durations that any thread may add to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of buckets, in microseconds.
type Bounds = [u64; 11];
/// Of commits: from a good SSD to an SD card during garbage collection.
const COMMITS: Bounds =
    [500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000];
/// Of commands: from a device that answers at once to one that is away for a day.
const COMMANDS: Bounds = [
    10_000,
    50_000,
    200_000,
    1_000_000,
    5_000_000,
    15_000_000,
    60_000_000,
    300_000_000,
    3_600_000_000,
    21_600_000_000,
    86_400_000_000,
];

/// Durations, counted in buckets.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static Bounds,
    /// One per bound, and one for longer durations.
    counts: [AtomicU64; COMMITS.len() + 1],
    sum_micros: AtomicU64,
}

/// For commits.
impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { bounds: &COMMITS, counts: Default::default(), sum_micros: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// For commands, which may be open for days.
    pub fn of_commands() -> Histogram {
        Histogram { bounds: &COMMANDS, ..Histogram::default() }
    }

    /// Adds one.
    pub fn observe(&self, duration: Duration) {
        let micros = duration.as_micros() as u64;
        let bucket = self.bounds.partition_point(|bound| *bound < micros);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Sum in seconds, count, and the count of each bucket with its upper bound in seconds.
    pub(super) fn read(&self) -> (f64, u64, Vec<(f64, u64)>) {
        let bounds = self.bounds.iter().map(|micros| *micros as f64 / 1e6).chain([f64::INFINITY]);
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        (self.sum_micros.load(Ordering::Relaxed) as f64 / 1e6, count, buckets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::default();
        for micros in [0, 500, 501, 1_000_000, 1_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let (sum, count, buckets) = histogram.read();
        assert_eq!((sum, count), (2.001_002, 5));
        assert_eq!(buckets[0], (0.000_5, 2));
        assert_eq!(buckets[1], (0.001, 1));
        assert_eq!(buckets[10], (1.0, 1));
        assert_eq!(buckets[11], (f64::INFINITY, 1));
    }

    #[test]
    fn commands_may_take_a_day() {
        let histogram = Histogram::of_commands();
        for seconds in [0, 1, 60, 61, 86_400, 86_401] {
            histogram.observe(Duration::from_secs(seconds));
        }
        let (sum, count, buckets) = histogram.read();
        assert_eq!((sum, count), (172_923.0, 6));
        let filled: Vec<(f64, u64)> = buckets.into_iter().filter(|(_, count)| *count > 0).collect();
        let expected = [(0.01, 1), (1.0, 1), (60.0, 1), (300.0, 1), (86_400.0, 1), (f64::INFINITY, 1)];
        assert_eq!(filled, expected);
    }
}
