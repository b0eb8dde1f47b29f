//! Decides when to commit. Pure; the writer carries it out.
//!
//! A commit costs flash, so events share commits: until the oldest is `commit_delay` old, or enough bytes are waiting,
//! or the broker cannot send more before it gets an acknowledgement. The last bound is the broker's in-flight window.
//! We know our own (`receive_window`), but the broker may have a smaller one that it does not announce (mosquitto: 20),
//! and then every commit would wait the whole delay for messages that cannot come. So the window is learnt.

use std::time::Duration;

/// The messages waiting for a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Age of the oldest message.
    pub age: Duration,
    /// Bytes of records.
    pub bytes: usize,
    /// A broker's window is full.
    pub window_full: bool,
}

/// Bounds on the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// `log.commit_delay_ms`.
    pub delay: Duration,
    /// `log.commit_bytes_max`.
    pub bytes: usize,
}

/// Why a commit is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The oldest message has waited long enough.
    Delay,
    /// Enough bytes.
    Bytes,
    /// The broker cannot send more.
    Window,
}

impl Budget {
    /// Whether to commit now, and why; otherwise how long to wait.
    pub fn decide(&self, waiting: Waiting) -> Result<Due, Duration> {
        if waiting.window_full {
            Ok(Due::Window)
        } else if waiting.bytes >= self.bytes {
            Ok(Due::Bytes)
        } else {
            match self.delay.checked_sub(waiting.age) {
                Some(left) if !left.is_zero() => Err(left),
                _ => Ok(Due::Delay),
            }
        }
    }
}

/// If a broker has another message waiting, it sends it within this time after an acknowledgement.
const PROMPT: Duration = Duration::from_millis(20);
/// Consecutive observations before a window is believed, or given up.
const REPEATS: u32 = 3;
/// Fewer messages in flight mean a quiet source rather than a full window: learning them would cost a commit each.
const LEARNABLE_MIN: usize = 4;

/// The known in-flight window of one source's broker.
#[derive(Clone, Debug)]
pub struct InflightWindow {
    configured: usize,
    learnt: Option<usize>,
    /// The count at which the source seemed to be blocked, and how often in a row.
    suspect: (usize, u32),
    /// Commits for a full learnt window without a prompt message after them.
    misses: u32,
    /// The last commit, until it is known whether a prompt message followed.
    last: Option<(Due, usize, bool)>,
}

impl InflightWindow {
    /// Starts with our own `receive_window`.
    pub fn new(configured: u16) -> InflightWindow {
        InflightWindow {
            configured: usize::from(configured),
            learnt: None,
            suspect: (0, 0),
            misses: 0,
            last: None,
        }
    }

    /// The number of unacknowledged messages that blocks the broker.
    pub fn size(&self) -> usize {
        self.learnt.unwrap_or(self.configured).min(self.configured)
    }

    /// The broker has this many messages in flight, so a smaller learnt window is wrong.
    pub fn in_flight(&mut self, count: usize) {
        if self.learnt.is_some_and(|learnt| count > learnt) {
            (self.learnt, self.suspect) = (None, (0, 0));
        }
    }

    /// A commit acknowledged `count` messages, after `idle` without arrivals.
    pub fn committed(&mut self, due: Due, count: usize, idle: Duration, delay: Duration) {
        let stuck = due == Due::Delay && idle >= delay / 2 && count >= LEARNABLE_MIN;
        self.last = Some((due, count, stuck));
    }

    /// A message arrived `after` the last commit.
    pub fn arrived(&mut self, after: Duration) {
        let Some((due, count, stuck)) = self.last.take() else { return };
        let prompt = after <= PROMPT;
        if stuck && prompt {
            let repeats = if self.suspect.0 == count { self.suspect.1 + 1 } else { 1 };
            self.suspect = (count, repeats);
            if repeats >= REPEATS {
                (self.learnt, self.misses) = (Some(count), 0);
            }
        } else if due == Due::Delay {
            self.suspect = (0, 0);
        } else if due == Due::Window && self.learnt.is_some() {
            self.misses = if prompt { 0 } else { self.misses + 1 };
            if self.misses >= REPEATS {
                (self.learnt, self.suspect) = (None, (0, 0));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(200);
    const MS: Duration = Duration::from_millis(1);

    /// Commits in which `count` messages arrived at once, then nothing until the delay; then a message `after` it.
    fn round(window: &mut InflightWindow, due: Due, count: usize, after: Duration) {
        window.committed(due, count, DELAY * 9 / 10, DELAY);
        window.arrived(after);
    }

    #[test]
    fn the_budget_names_its_reason() {
        let budget = Budget { delay: DELAY, bytes: 1000 };
        let check = |age, bytes, window_full, expected| {
            assert_eq!(budget.decide(Waiting { age, bytes, window_full }), expected);
        };
        check(50 * MS, 10, false, Err(150 * MS));
        check(200 * MS, 10, false, Ok(Due::Delay));
        check(900 * MS, 10, false, Ok(Due::Delay));
        check(MS, 1000, false, Ok(Due::Bytes));
        check(MS, 1, true, Ok(Due::Window));
    }

    #[test]
    fn learns_mosquittos_twenty() {
        let mut window = InflightWindow::new(1000);
        round(&mut window, Due::Delay, 20, MS);
        round(&mut window, Due::Delay, 20, MS);
        assert_eq!(window.size(), 1000);
        round(&mut window, Due::Delay, 20, MS);
        assert_eq!(window.size(), 20);
    }

    #[test]
    fn a_quiet_source_teaches_nothing() {
        let mut window = InflightWindow::new(1000);
        for _ in 0..100 {
            round(&mut window, Due::Delay, 1, MS);
            round(&mut window, Due::Delay, 20, 150 * MS);
        }
        assert_eq!(window.size(), 1000);
    }

    #[test]
    fn a_steady_source_teaches_nothing() {
        let mut window = InflightWindow::new(1000);
        for _ in 0..100 {
            window.committed(Due::Delay, 20, MS, DELAY);
            window.arrived(MS);
        }
        assert_eq!(window.size(), 1000);
    }

    #[test]
    fn forgets_what_turns_out_wrong() {
        let learnt = || {
            let mut window = InflightWindow::new(1000);
            (0..3).for_each(|_| round(&mut window, Due::Delay, 20, MS));
            window
        };
        let mut window = learnt();
        window.in_flight(21);
        assert_eq!(window.size(), 1000);
        let mut window = learnt();
        (0..3).for_each(|_| round(&mut window, Due::Window, 20, 150 * MS));
        assert_eq!(window.size(), 1000);
        let mut window = learnt();
        (0..30).for_each(|_| round(&mut window, Due::Window, 20, MS));
        assert_eq!(window.size(), 20);
    }
}
