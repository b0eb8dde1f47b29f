//! How long to wait before the next connection attempt.

use std::time::Duration;

/// First ceiling of the random wait.
const FIRST: Duration = Duration::from_secs(1);

/// Even the luckiest draw waits this long: a broker that closes at once must not be hammered.
const FLOOR: Duration = Duration::from_millis(100);

/// A connection that lived so long was good: the next failure starts from the beginning.
pub(crate) const STABLE: Duration = Duration::from_secs(30);

/// How urgently to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// It may work in a moment.
    Soon,
    /// Nothing changes until someone does something: wait the longest time.
    Slow,
}

/// Exponential back-off with full jitter.
#[derive(Debug)]
pub(crate) struct Backoff {
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(max: Duration) -> Backoff {
        Backoff { max, failures: 0 }
    }

    /// The wait after a failure. `connected` is how long the connection had lived, `random` is in `0.0..=1.0`.
    pub(crate) fn next(&mut self, pace: Pace, connected: Duration, random: f64) -> Duration {
        if connected >= STABLE {
            self.failures = 0;
        }
        let ceiling = FIRST.saturating_mul(1 << self.failures.min(20)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        match pace {
            Pace::Soon => ceiling.mul_f64(random.clamp(0.0, 1.0)).max(FLOOR),
            Pace::Slow => self.max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Duration = Duration::ZERO;

    #[test]
    fn the_ceiling_doubles_up_to_the_maximum() {
        let mut backoff = Backoff::new(Duration::from_secs(10));
        let waits: Vec<_> = (0..6).map(|_| backoff.next(Pace::Soon, NONE, 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
    }

    #[test]
    fn the_jitter_is_full_but_never_nothing() {
        let mut backoff = Backoff::new(Duration::from_secs(60));
        assert_eq!(backoff.next(Pace::Soon, NONE, 0.0), FLOOR);
        assert_eq!(backoff.next(Pace::Soon, NONE, 0.5), Duration::from_secs(1));
        assert_eq!(backoff.next(Pace::Soon, NONE, 7.0), Duration::from_secs(4));
    }

    #[test]
    fn only_a_stable_connection_starts_over() {
        let mut backoff = Backoff::new(Duration::from_secs(60));
        for _ in 0..100 {
            backoff.next(Pace::Soon, NONE, 1.0);
        }
        assert_eq!(backoff.next(Pace::Soon, Duration::from_secs(29), 1.0), Duration::from_secs(60));
        assert_eq!(backoff.next(Pace::Soon, STABLE, 1.0), Duration::from_secs(1));
        assert_eq!(backoff.next(Pace::Soon, NONE, 1.0), Duration::from_secs(2));
    }

    #[test]
    fn what_needs_a_person_waits_the_longest() {
        let mut backoff = Backoff::new(Duration::from_secs(60));
        assert_eq!(backoff.next(Pace::Slow, NONE, 0.0), Duration::from_secs(60));
    }
}
