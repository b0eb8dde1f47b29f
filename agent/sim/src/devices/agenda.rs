//! The pending events of one device, in its own time.

/// Seconds of a simulated device's life.
pub type Life = f64;

/// The start of a life: seven in the morning of day 0, so that a viewer sees the rooms warm up.
pub const MORNING: Life = 7.0 * 3600.0;

/// A handful of pending events. Events at equal times are taken in the order of insertion.
#[derive(Clone, Debug)]
pub struct Agenda<E> {
    now: Life,
    entries: Vec<(Life, E)>,
}

impl<E> Agenda<E> {
    /// Empty, in the morning.
    pub fn new() -> Agenda<E> {
        Agenda { now: MORNING, entries: Vec::new() }
    }

    /// Time of the last event taken.
    pub fn now(&self) -> Life {
        self.now
    }

    /// Lets time pass up to `now`, but not past the earliest event, nor back.
    pub fn advance(&mut self, now: Life) {
        self.now = now.min(self.due()).max(self.now);
    }

    /// Adds an event `delay` seconds from now.
    pub fn after(&mut self, delay: f64, event: E) {
        self.entries.push((self.now + delay.max(0.0), event));
    }

    /// When the earliest event is due; infinity if there is none.
    pub fn due(&self) -> Life {
        self.entries.iter().map(|(at, _)| *at).fold(f64::INFINITY, f64::min)
    }

    /// Takes the earliest event and moves to its time.
    pub fn take(&mut self) -> Option<E> {
        let due = self.due();
        let index = self.entries.iter().position(|(at, _)| *at <= due)?;
        let (at, event) = self.entries.remove(index);
        self.now = at;
        Some(event)
    }

    /// Time passes without events: all pending ones are delayed.
    pub fn postpone(&mut self, seconds: f64) {
        self.now += seconds;
        for (at, _) in &mut self.entries {
            *at += seconds;
        }
    }
}

/// The position of one device among those that take turns, so that the frequency in the whole fleet does not depend on
/// the fleet's size.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Position, from 0.
    pub index: usize,
    /// Number of devices that take turns.
    pub of: usize,
}

impl Turn {
    /// Delay to the first turn if one device has its turn every `period`.
    pub fn first(self, period: f64) -> f64 {
        (self.index as f64 + 0.5) * period
    }

    /// Delay from one turn to the next.
    pub fn next(self, period: f64) -> f64 {
        self.of.max(1) as f64 * period
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earliest_first_and_ties_in_order() {
        let mut agenda = Agenda::new();
        for (delay, name) in [(5.0, "late"), (1.0, "first"), (1.0, "second")] {
            agenda.after(delay, name);
        }
        assert_eq!(agenda.take(), Some("first"));
        assert_eq!(agenda.take(), Some("second"));
        assert_eq!(agenda.now(), MORNING + 1.0);
        assert_eq!(agenda.due(), MORNING + 5.0);
        agenda.advance(MORNING);
        assert_eq!(agenda.now(), MORNING + 1.0);
        agenda.advance(MORNING + 100.0);
        assert_eq!(agenda.now(), MORNING + 5.0);
        agenda.postpone(10.0);
        assert_eq!(agenda.take(), Some("late"));
        assert_eq!(agenda.now(), MORNING + 15.0);
        assert_eq!(agenda.take(), None);
        assert_eq!(agenda.due(), f64::INFINITY);
    }

    #[test]
    fn turns_come_evenly() {
        let times: Vec<f64> = (0..3).map(|index| Turn { index, of: 3 }.first(60.0)).collect();
        assert_eq!(times, [30.0, 90.0, 150.0]);
        assert_eq!(Turn { index: 0, of: 3 }.first(60.0) + Turn { index: 0, of: 3 }.next(60.0), 210.0);
    }
}
