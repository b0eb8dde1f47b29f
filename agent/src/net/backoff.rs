//! How long to wait before the next connection attempt.

use std::io;
use std::time::Duration;

/// First upper bound of the random wait.
const FIRST: Duration = Duration::from_secs(1);

/// Minimum wait: a broker that closes at once must not be hammered.
const FLOOR: Duration = Duration::from_millis(100);

/// After a connection that lived this long, the back-off starts again.
pub(crate) const STABLE: Duration = Duration::from_secs(30);

/// Upper bound of the wait while the other side is unreachable: attempts then cost the uplink nothing, and a restored
/// link is used within a second.
const UNREACHED: Duration = Duration::from_millis(500);

/// How urgently to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Nobody answered: no route, no answer to the first packet, no name resolution. Does not increase the wait.
    Unreached,
    /// It may work soon.
    Soon,
    /// Nothing changes without an operator: use the maximum wait.
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
        if pace == Pace::Unreached {
            return UNREACHED.mul_f64(random.clamp(0.0, 1.0)).max(UNREACHED / 2).min(self.max);
        }
        let ceiling = FIRST.saturating_mul(1 << self.failures.min(20)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        match pace {
            Pace::Soon => ceiling.mul_f64(random.clamp(0.0, 1.0)).max(FLOOR),
            _ => self.max,
        }
    }
}

/// Whether a failure to connect means that the other side was not reached.
pub(crate) fn unreached(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkDown, NetworkUnreachable, TimedOut};
    // getaddrinfo's EAI_AGAIN, which has no kind: no name server was reached. In the words of glibc and of musl.
    let resolver = |words: &str| words.contains("Temporary failure") || words.contains("Try again");
    matches!(error.kind(), AddrNotAvailable | HostUnreachable | NetworkDown | NetworkUnreachable | TimedOut)
        || resolver(&error.to_string())
}

/// Between 0 and 1; 0.5 on a machine without random numbers.
pub(crate) fn random() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX))
}

/// Keeps repeated messages from filling the operator's journal.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    words: String,
    count: u64,
}

impl Repeats {
    /// Whether to log it: the first time, and whenever the number of repeats has doubled.
    pub(crate) fn is_news(&mut self, words: &str) -> bool {
        if self.words != words {
            *self = Repeats { words: words.to_owned(), count: 0 };
        }
        self.count += 1;
        self.count.is_power_of_two()
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
    fn a_link_that_is_down_is_tried_twice_a_second() {
        let mut backoff = Backoff::new(Duration::from_secs(60));
        let waits: Vec<_> =
            (0..1000).map(|n| backoff.next(Pace::Unreached, NONE, f64::from(n) / 1e3)).collect();
        assert!(waits.iter().all(|wait| (UNREACHED / 2..=UNREACHED).contains(wait)));
        assert_eq!(backoff.next(Pace::Soon, NONE, 1.0), FIRST, "those were no refusals");
    }

    #[test]
    fn a_refusal_is_not_a_link_that_is_down() {
        let check = |error: &io::Error, expected| assert_eq!(unreached(error), expected, "{error}");
        check(&io::ErrorKind::ConnectionRefused.into(), false);
        check(&io::Error::from_raw_os_error(rustix::io::Errno::NETUNREACH.raw_os_error()), true);
        check(&io::ErrorKind::TimedOut.into(), true);
        let lookup = |words| io::Error::other(format!("failed to lookup address information: {words}"));
        check(&lookup("Name or service not known"), false);
        check(&lookup("Temporary failure in name resolution"), true);
    }

    #[test]
    fn the_same_words_are_said_less_and_less_often() {
        let mut repeats = Repeats::default();
        let said = |repeats: &mut Repeats, words| (0..100).filter(|_| repeats.is_news(words)).count();
        assert_eq!(said(&mut repeats, "no route"), 7);
        assert_eq!(said(&mut repeats, "refused"), 7);
        assert!(repeats.is_news("no route"));
    }

    #[test]
    fn what_needs_a_person_waits_the_longest() {
        let mut backoff = Backoff::new(Duration::from_secs(60));
        assert_eq!(backoff.next(Pace::Slow, NONE, 0.0), Duration::from_secs(60));
    }
}
