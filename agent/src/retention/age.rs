//! Computes ages while the wall clock is in doubt. A clock that is set forward makes every record look old, and records
//! deleted for that do not come back when the clock is set right. Pure; the moment is an argument.

use std::time::{Duration, Instant};

use fieldlog_projections::Time;

/// A forward jump is believed after this uninterrupted time: by then somebody will have corrected a wrong clock. A
/// restart starts it again, so that a gateway that restarts often with a wrong clock deletes nothing because of it.
const BELIEVED_AFTER: Duration = Duration::from_secs(3600);

/// A wall clock that follows forward jumps with a delay.
#[derive(Debug)]
pub struct AgeClock {
    /// By how much the wall clock has jumped forward since `since`, in microseconds.
    jumped: i64,
    since: Instant,
}

impl AgeClock {
    /// At the start of the agent, with the wall clock of the last record, if any, and the amount doubted then. The time
    /// since the last record is doubted like any other jump.
    pub fn new(wall: Time, last: Option<Time>, doubted: u64, at: Instant) -> AgeClock {
        let since_last = last.map_or(0, |last| wall.0.saturating_sub(last.0));
        let doubted = i64::try_from(doubted).unwrap_or(i64::MAX);
        AgeClock { jumped: doubted.saturating_add(since_last).max(0), since: at }
    }

    /// The doubted amount in microseconds, for the next start.
    pub fn doubted(&self, at: Instant) -> u64 {
        self.jumped(at).max(0) as u64
    }

    /// The wall clock was stepped by so many microseconds.
    pub fn stepped(&mut self, by: i64, at: Instant) {
        let jumped = self.jumped(at).saturating_add(by).max(0);
        if by > 0 {
            self.since = at;
        }
        self.jumped = jumped;
    }

    /// The reference time for ages, while the wall clock shows `wall`.
    pub fn now(&self, wall: Time, at: Instant) -> Time {
        Time(wall.0.saturating_sub(self.jumped(at)))
    }

    fn jumped(&self, at: Instant) -> i64 {
        if at.saturating_duration_since(self.since) < BELIEVED_AFTER { self.jumped } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000_000;
    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_jump_counts_after_an_hour() {
        let start = Instant::now();
        let mut clock = AgeClock::new(Time(10 * DAY), Some(Time(10 * DAY)), 0, start);
        assert_eq!(clock.now(Time(10 * DAY), start), Time(10 * DAY));
        clock.stepped(3 * DAY, start + MINUTE);
        assert_eq!(clock.now(Time(13 * DAY), start + MINUTE), Time(10 * DAY));
        assert_eq!(clock.now(Time(13 * DAY), start + 60 * MINUTE), Time(10 * DAY));
        assert_eq!(clock.now(Time(13 * DAY), start + 61 * MINUTE), Time(13 * DAY));
    }

    #[test]
    fn a_jump_that_is_taken_back_has_never_been() {
        let start = Instant::now();
        let mut clock = AgeClock::new(Time(10 * DAY), Some(Time(10 * DAY)), 0, start);
        clock.stepped(3 * DAY, start + MINUTE);
        clock.stepped(-3 * DAY, start + 2 * MINUTE);
        assert_eq!(clock.now(Time(10 * DAY), start + 2 * MINUTE), Time(10 * DAY));
        clock.stepped(-3 * DAY, start + 3 * MINUTE);
        assert_eq!(clock.now(Time(7 * DAY), start + 3 * MINUTE), Time(7 * DAY));
        clock.stepped(3 * DAY, start + 4 * MINUTE);
        assert_eq!(clock.now(Time(10 * DAY), start + 4 * MINUTE), Time(7 * DAY));
    }

    #[test]
    fn the_time_before_the_start_is_such_a_jump() {
        let start = Instant::now();
        let clock = AgeClock::new(Time(13 * DAY), Some(Time(10 * DAY)), 0, start);
        assert_eq!(clock.now(Time(13 * DAY), start), Time(10 * DAY));
        assert_eq!(clock.now(Time(13 * DAY), start + 60 * MINUTE), Time(13 * DAY));
        let in_1970 = AgeClock::new(Time(0), Some(Time(10 * DAY)), 0, start);
        assert_eq!(in_1970.now(Time(0), start), Time(0));
    }

    #[test]
    fn a_restart_does_not_make_a_jump_believed() {
        let mut at = Instant::now();
        let mut wall = Time(10 * DAY);
        let mut clock = AgeClock::new(wall, Some(wall), 0, at);
        wall.0 += 730 * DAY;
        clock.stepped(730 * DAY, at);
        // Any number of starts within the hour, with the same wrong clock.
        for _ in 0..5 {
            let last = wall;
            let doubted = clock.doubted(at);
            at += 50 * MINUTE;
            wall.0 += 50 * 60_000_000;
            clock = AgeClock::new(wall, Some(last), doubted, at);
            assert_eq!(clock.now(wall, at), Time(10 * DAY));
        }
        // After an uninterrupted hour the jump is believed for good.
        at += 60 * MINUTE;
        assert_eq!(clock.now(wall, at), wall);
        assert_eq!(clock.doubted(at), 0);
        assert_eq!(AgeClock::new(wall, Some(wall), clock.doubted(at), at).now(wall, at), wall);
    }

    #[test]
    fn a_jump_that_is_taken_back_while_the_agent_is_stopped_has_never_been() {
        let start = Instant::now();
        let clock = AgeClock::new(Time(11 * DAY), Some(Time(740 * DAY)), 730 * DAY as u64, start);
        assert_eq!(clock.doubted(start), DAY as u64);
        assert_eq!(clock.now(Time(11 * DAY), start), Time(10 * DAY));
    }
}
