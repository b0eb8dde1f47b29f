//! Delays of a sink's next parcel.

use std::time::{Duration, Instant};

use fieldlog_wire::Lane;

/// First wait after a sink said "not now" without a time.
const BUSY_FIRST: Duration = Duration::from_millis(500);
/// Minimum wait if a sink gives a time: a time of zero, or in the past, must not cause an endless loop.
const ASKED_MIN: Duration = Duration::from_secs(1);
/// How long a range without any matching event is held back, and how often it is checked.
const HELD_MAX: Duration = Duration::from_secs(10);
const HELD_AGAIN: Duration = Duration::from_secs(1);

/// The delays of one connection.
#[derive(Debug)]
pub(super) struct Pace {
    pub(super) pause: Pause,
    pub(super) bucket: Bucket,
    /// Priority copies have a budget of their own, at half the rate; the other half is for covering parcels.
    pub(super) priority: Bucket,
    /// Since when fresh events have been waiting for others.
    pub(super) fresh_since: Option<Instant>,
    /// Since when a range without matching events has been held back, in the live lane and in the backlog, and when to
    /// check again.
    held: [Option<(Instant, Instant)>; 2],
}

impl Pace {
    pub(super) fn new(bandwidth: u64, now: Instant) -> Pace {
        Pace {
            pause: Pause::default(),
            bucket: Bucket::new(bandwidth, now),
            priority: Bucket::new(bandwidth.div_ceil(2), now),
            fresh_since: None,
            held: [None; 2],
        }
    }

    /// Whether an empty parcel may be held back longer: the receiver must learn that there was nothing, but not every
    /// time.
    pub(super) fn hold(&mut self, lane: Lane, now: Instant) -> bool {
        self.hold_for(lane, HELD_AGAIN, now);
        self.slot(lane).is_none_or(|(since, _)| now.saturating_duration_since(since) < HELD_MAX)
    }

    /// Holds a lane back for a while.
    pub(super) fn hold_for(&mut self, lane: Lane, wait: Duration, now: Instant) {
        let since = self.slot(lane).map_or(now, |(since, _)| since);
        *self.slot(lane) = Some((since, now + wait));
    }

    /// A lane has something to send.
    pub(super) fn release(&mut self, lane: Lane) {
        *self.slot(lane) = None;
    }

    /// Remaining wait of a lane.
    pub(super) fn held(&self, lane: Lane, now: Instant) -> Duration {
        let held = self.held[usize::from(lane == Lane::Backlog)];
        held.map_or(Duration::ZERO, |(_, again)| again.saturating_duration_since(now))
    }

    fn slot(&mut self, lane: Lane) -> &mut Option<(Instant, Instant)> {
        &mut self.held[usize::from(lane == Lane::Backlog)]
    }
}

/// A sink that said "not now".
#[derive(Debug, Default)]
pub(super) struct Pause {
    until: Option<Instant>,
    last: Duration,
}

impl Pause {
    /// Waits as long as the sink asked for, within bounds; otherwise twice as long as last time. `max` is the maximum
    /// wait, at least a second.
    pub(super) fn busy(&mut self, after: Option<Duration>, max: Duration, now: Instant) {
        self.last = match after {
            Some(after) => after.clamp(ASKED_MIN.min(max), max),
            None => (self.last * 2).clamp(BUSY_FIRST.min(max), max),
        };
        self.until = Some(now + self.last);
    }

    /// Waits no longer; the next "not now" is answered with a longer wait all the same.
    pub(super) fn end(&mut self) {
        self.until = None;
    }

    pub(super) fn left(&self, now: Instant) -> Duration {
        self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }
}

/// A token bucket of one second's worth of bytes.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: u64,
    /// When the taken bytes are paid off.
    paid: Instant,
}

impl Bucket {
    pub(super) fn new(rate: u64, now: Instant) -> Bucket {
        Bucket { rate, paid: now }
    }

    pub(super) fn consume(&mut self, bytes: u64, now: Instant) {
        if self.rate > 0 {
            let cost = Duration::from_secs_f64(bytes as f64 / self.rate as f64);
            self.paid = self.paid.max(now) + cost;
        }
    }

    /// Wait until the next byte may be sent; the debt may be up to one second's worth.
    pub(super) fn left(&self, now: Instant) -> Duration {
        let owed = self.paid.saturating_duration_since(now);
        if self.rate == 0 { Duration::ZERO } else { owed.saturating_sub(Duration::from_secs(1)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_secs(60);

    /// The wait after each of these wishes of a sink, each made when the wait before is over.
    fn waits(wishes: &[Option<u64>]) -> Vec<u128> {
        let (mut pause, mut now) = (Pause::default(), Instant::now());
        let mut wait = |after: &Option<u64>| {
            pause.busy(after.map(Duration::from_millis), MAX, now);
            let left = pause.left(now);
            now += left;
            assert_eq!(pause.left(now), Duration::ZERO);
            left.as_millis()
        };
        wishes.iter().map(&mut wait).collect()
    }

    #[test]
    fn what_a_sink_asks_for_is_kept_within_bounds() {
        assert_eq!(waits(&[Some(0), Some(0), Some(1)]), [1_000, 1_000, 1_000]);
        assert_eq!(waits(&[Some(7_000), Some(60_000), Some(61_000)]), [7_000, 60_000, 60_000]);
        assert_eq!(waits(&[Some(u64::MAX)]), [60_000]);
    }

    #[test]
    fn without_a_wish_the_wait_doubles_up_to_the_maximum() {
        let all = waits(&[None; 9]);
        assert_eq!(all, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
    }

    #[test]
    fn what_is_beyond_a_second_of_bytes_has_to_be_paid_for() {
        let begin = Instant::now();
        let mut bucket = Bucket::new(1_000, begin);
        bucket.consume(1_000, begin);
        assert_eq!(bucket.left(begin), Duration::ZERO, "a second's worth may be owed");
        bucket.consume(2_000, begin);
        assert_eq!(bucket.left(begin), Duration::from_secs(2));
        assert_eq!(bucket.left(begin + Duration::from_secs(2)), Duration::ZERO);
        // An hour of silence saves nothing up.
        let later = begin + Duration::from_secs(3_600);
        bucket.consume(3_000, later);
        assert_eq!(bucket.left(later), Duration::from_secs(2));
        let mut unlimited = Bucket::new(0, begin);
        unlimited.consume(u64::MAX, begin);
        assert_eq!(unlimited.left(begin), Duration::ZERO);
    }

    #[test]
    fn an_empty_range_is_held_back_for_so_long() {
        let begin = Instant::now();
        let mut pace = Pace::new(0, begin);
        for second in 0..10 {
            let now = begin + Duration::from_secs(second);
            assert!(pace.hold(Lane::Live, now), "it goes after {second} s");
            assert_eq!(pace.held(Lane::Live, now), HELD_AGAIN);
            assert_eq!(pace.held(Lane::Backlog, now), Duration::ZERO, "the other lane has its own");
        }
        assert!(!pace.hold(Lane::Live, begin + HELD_MAX));
        pace.release(Lane::Live);
        assert!(pace.hold(Lane::Live, begin + HELD_MAX), "the next range begins anew");
    }
}
