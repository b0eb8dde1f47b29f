//! Chooses the size of the next parcel. Pure.
//!
//! A sink that finds a parcel too large does not report its limit. So the size is halved, grows again while parcels are
//! accepted, and stays below the refused size.

use std::time::{Duration, Instant};

/// Parcels lost in a row before they count as too large: MQTT 3.1.1 can report that only by disconnecting.
const FRUITLESS_MAX: u32 = 3;
/// How long a refused size is not tried again. Servers' limits rarely change, and each attempt costs a parcel's bytes,
/// which a metered link charges for.
const CEILING_FOR: Duration = Duration::from_secs(3600);

/// The present size.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    events_max: u32,
    bytes_max: usize,
    events: u32,
    bytes: usize,
    /// Upper bound in bytes, and until when it holds.
    ceiling: Option<(usize, Instant)>,
    /// Parcels lost in a row.
    fruitless: u32,
}

impl Size {
    /// With the configured limits.
    pub fn new(events_max: u32, bytes_max: usize) -> Size {
        Size { events_max, bytes_max, events: events_max, bytes: bytes_max, ceiling: None, fruitless: 0 }
    }

    /// Most events.
    pub fn events(&self) -> u32 {
        self.events
    }

    /// Most bytes of its events, as [`super::parcel::Limits`] counts them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A parcel got through.
    pub fn accepted(&mut self, now: Instant) {
        self.fruitless = 0;
        self.events = (self.events + self.events / 8 + 1).min(self.events_max);
        if self.ceiling.is_some_and(|(_, until)| until <= now) {
            self.ceiling = None;
        }
        let ceiling = self.ceiling.map_or(self.bytes_max, |(bytes, _)| bytes);
        self.bytes = (self.bytes + self.bytes / 8 + 1).min(ceiling);
    }

    /// A parcel of this size was too large.
    pub fn too_large(&mut self, bytes: usize, now: Instant) {
        // An eighth below, or all sizes between the largest that fits and this one would be tried.
        let below = bytes - bytes / 8;
        self.ceiling = Some((below.saturating_sub(1).clamp(1, self.bytes_max), now + CEILING_FOR));
        self.bytes = (bytes / 2).max(1);
    }

    /// A parcel of this many events was refused for its content; halving finds the event.
    pub fn refused(&mut self, events: u32) {
        self.events = (events / 2).max(1);
    }

    /// The connection was lost with a parcel in flight.
    pub fn lost(&mut self) {
        self.fruitless += 1;
        if self.fruitless >= FRUITLESS_MAX {
            // No ceiling: a bad link looks the same.
            self.fruitless = 0;
            self.events = (self.events / 2).max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends parcels as large as may be to a sink with a limit; how many it refused, and the last that it took.
    fn send(size: &mut Size, limit: usize, parcels: usize, now: Instant) -> (usize, usize) {
        let (mut refused, mut last) = (0, 0);
        for _ in 0..parcels {
            if size.bytes() > limit {
                refused += 1;
                size.too_large(size.bytes(), now);
            } else {
                last = size.bytes();
                size.accepted(now);
            }
        }
        (refused, last)
    }

    #[test]
    fn a_refused_size_is_approached_and_not_tried_again_for_an_hour() {
        for limit in [1, 700, 1_000, 33_000, 200_000, 262_143] {
            let mut size = Size::new(500, 262_144);
            let now = Instant::now();
            let (refused, _) = send(&mut size, limit, 200, now);
            assert!((1..=20).contains(&refused), "{limit}: refused {refused} times");
            let (again, last) = send(&mut size, limit, 1_000, now + CEILING_FOR - Duration::from_secs(1));
            assert_eq!(again, 0, "{limit}");
            assert!(last * 10 >= limit * 7, "{limit}: stays at {last}");
            let (later, _) = send(&mut size, limit, 1_000, now + CEILING_FOR);
            assert!((1..=20).contains(&later), "{limit}: {later}");
            // The limit was raised.
            send(&mut size, usize::MAX, 1_000, now + CEILING_FOR * 2);
            assert_eq!(size.bytes(), 262_144);
        }
    }

    #[test]
    fn what_is_refused_for_its_content_leaves_no_ceiling() {
        let mut size = Size::new(500, 1_000);
        size.refused(300);
        assert_eq!((size.events(), size.bytes()), (150, 1_000));
        (0..50).for_each(|_| size.accepted(Instant::now()));
        assert_eq!(size.events(), 500);
    }

    #[test]
    fn three_lost_in_a_row_are_taken_for_too_large() {
        let mut size = Size::new(500, 1_000);
        size.lost();
        size.lost();
        size.accepted(Instant::now());
        size.lost();
        size.lost();
        assert_eq!(size.events(), 500);
        size.lost();
        assert_eq!((size.events(), size.bytes()), (250, 1_000));
    }
}
