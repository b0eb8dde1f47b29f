//! Decides when to ping and when a broker counts as gone. Time is an argument.

use std::time::{Duration, Instant};

/// Watches one connection.
#[derive(Debug)]
pub(crate) struct Liveness {
    keep_alive: Duration,
    sent: Instant,
    asked: Option<Instant>,
    writing: Option<Instant>,
}

/// The action that [`Liveness::check`] requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing to do.
    Fine,
    /// Send a PINGREQ.
    Ping,
    /// Nothing was received since a ping this long ago.
    NoAnswer(Duration),
    /// Nothing could be written for this long.
    WriteStalled(Duration),
}

impl Liveness {
    /// `configured` is our interval; `server` the one that the broker's CONNACK requires instead. Zero means that the
    /// broker does not watch us; we still watch the broker. Pinging more often than required is allowed, less often is
    /// not.
    pub(crate) fn new(configured: Duration, server: Option<u16>, now: Instant) -> Liveness {
        let keep_alive = match server.map(|seconds| Duration::from_secs(u64::from(seconds))) {
            Some(demanded) if !demanded.is_zero() => demanded.min(configured),
            _ => configured,
        };
        Liveness { keep_alive, sent: now, asked: None, writing: None }
    }

    /// How often to call [`Liveness::check`].
    pub(crate) fn tick(&self) -> Duration {
        (self.keep_alive / 8).clamp(Duration::from_millis(10), Duration::from_secs(5))
    }

    /// Bytes have arrived.
    pub(crate) fn heard(&mut self) {
        self.asked = None;
    }

    /// There is output.
    pub(crate) fn queued(&mut self, now: Instant) {
        self.writing.get_or_insert(now);
    }

    /// Some bytes were written; `done` when none are left.
    pub(crate) fn wrote(&mut self, done: bool, now: Instant) {
        self.sent = now;
        self.writing = (!done).then_some(now);
    }

    /// Decides what is due. While we do not read, because of back-pressure, the broker's silence means nothing.
    pub(crate) fn check(&mut self, reading: bool, now: Instant) -> Verdict {
        if let Some(since) = self.writing {
            let waited = now.saturating_duration_since(since);
            return if waited >= self.keep_alive * 2 { Verdict::WriteStalled(waited) } else { Verdict::Fine };
        }
        if !reading {
            self.asked = None;
        }
        if let Some(asked) = self.asked {
            let waited = now.saturating_duration_since(asked);
            if waited >= self.keep_alive * 3 / 2 {
                return Verdict::NoAnswer(waited);
            }
        }
        // At the latest one tick (an eighth) before the interval ends: the broker measures on its own side.
        if now.saturating_duration_since(self.sent) < self.keep_alive * 3 / 4 {
            return Verdict::Fine;
        }
        self.sent = now;
        if reading {
            self.asked.get_or_insert(now);
        }
        Verdict::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Runs a connection that only ticks; returns the pings in 100 s and how it ended.
    fn silence(server: Option<u16>, reading: bool) -> (usize, Verdict) {
        let start = Instant::now();
        let mut live = Liveness::new(s(20), server, start);
        let mut pings = 0;
        for second in 0..100 {
            match live.check(reading, start + s(second)) {
                Verdict::Ping => pings += 1,
                Verdict::Fine => {}
                end => return (pings, end),
            }
        }
        (pings, Verdict::Fine)
    }

    #[test]
    fn silence_is_asked_about_and_then_believed() {
        assert_eq!(silence(None, true), (2, Verdict::NoAnswer(s(30))));
        assert_eq!(silence(Some(10), true), (2, Verdict::NoAnswer(s(15))));
    }

    #[test]
    fn a_broker_without_keep_alive_is_not_flooded_but_still_watched() {
        assert_eq!(silence(Some(0), true), (2, Verdict::NoAnswer(s(30))));
        assert_eq!(silence(Some(600), true), (2, Verdict::NoAnswer(s(30))));
    }

    #[test]
    fn while_nothing_is_read_pings_go_out_and_silence_means_nothing() {
        assert_eq!(silence(None, false), (6, Verdict::Fine));
    }

    #[test]
    fn what_is_heard_and_what_is_sent_both_count() {
        let start = Instant::now();
        let mut live = Liveness::new(s(20), None, start);
        live.wrote(true, start + s(14));
        assert_eq!(live.check(true, start + s(28)), Verdict::Fine);
        assert_eq!(live.check(true, start + s(29)), Verdict::Ping);
        live.heard();
        assert_eq!(live.check(true, start + s(43)), Verdict::Fine);
        assert_eq!(live.check(true, start + s(60)), Verdict::Ping);
        assert_eq!(live.check(true, start + s(90)), Verdict::NoAnswer(s(30)));
    }

    #[test]
    fn a_write_without_progress_ends_the_connection() {
        let start = Instant::now();
        let mut live = Liveness::new(s(20), None, start);
        live.queued(start);
        live.queued(start + s(30));
        assert_eq!(live.check(true, start + s(39)), Verdict::Fine);
        assert_eq!(live.check(true, start + s(40)), Verdict::WriteStalled(s(40)));
        live.wrote(false, start + s(40));
        assert_eq!(live.check(true, start + s(79)), Verdict::Fine);
        live.wrote(true, start + s(79));
        assert_eq!(live.check(true, start + s(90)), Verdict::Fine);
    }
}
