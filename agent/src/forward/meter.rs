//! A rate: counts over the last ten whole seconds. Pure.

/// Length of the window, in seconds.
const WINDOW: u64 = 10;

/// Counts by second; seconds are numbered from a fixed moment.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// Second and count, at the second modulo their number; the current second is not part of the window.
    slots: [(u64, u64); WINDOW as usize + 1],
}

impl Meter {
    pub(super) fn add(&mut self, second: u64, count: u64) {
        let slot = &mut self.slots[(second % (WINDOW + 1)) as usize];
        if slot.0 != second {
            *slot = (second, 0);
        }
        slot.1 += count;
    }

    /// Rate per second, over the window or the time since the start.
    pub(super) fn rate(&self, second: u64) -> f64 {
        let span = second.min(WINDOW);
        let counted = |slot: &&(u64, u64)| (second - span..second).contains(&slot.0);
        let sum: u64 = self.slots.iter().filter(counted).map(|slot| slot.1).sum();
        if span == 0 { 0.0 } else { sum as f64 / span as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_window_no_longer_counts() {
        let mut meter = Meter::default();
        assert_eq!(meter.rate(0), 0.0);
        meter.add(0, 6);
        meter.add(1, 3);
        meter.add(1, 3);
        assert_eq!((meter.rate(0), meter.rate(1), meter.rate(2), meter.rate(3)), (0.0, 6.0, 6.0, 4.0));
        assert_eq!((meter.rate(10), meter.rate(11), meter.rate(12), meter.rate(1000)), (1.2, 0.6, 0.0, 0.0));
        for second in 500..530 {
            meter.add(second, 7);
        }
        assert_eq!(meter.rate(530), 7.0);
    }
}
