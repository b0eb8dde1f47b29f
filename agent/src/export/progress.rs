//! A progress bar on stderr, where that is a terminal.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use fieldlog_projections::Seq;

/// How often it is drawn.
const EVERY: Duration = Duration::from_millis(200);
const WIDTH: u64 = 30;

/// How far a command is through the positions of a log.
pub(crate) struct Progress {
    /// When it was drawn; `None` where nobody looks.
    drawn: Option<Instant>,
    first: Option<Seq>,
    done: u64,
}

impl Progress {
    pub(crate) fn new() -> Progress {
        let shown = io::stderr().is_terminal();
        Progress { drawn: shown.then(Instant::now), first: None, done: 0 }
    }

    /// One more is done, at `seq` of the positions up to `head`.
    pub(crate) fn at(&mut self, seq: Seq, head: Seq) {
        let Some(drawn) = self.drawn else { return };
        self.done += 1;
        let first = *self.first.get_or_insert(seq);
        if drawn.elapsed() >= EVERY {
            self.drawn = Some(Instant::now());
            let _ = write!(io::stderr(), "\r{}", bar(first, seq, head, self.done));
        }
    }

    /// Removes the bar.
    pub(crate) fn end(&self) {
        if self.drawn.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// For example `[######            ]  33 %, 12000 done`.
fn bar(first: Seq, seq: Seq, head: Seq, done: u64) -> String {
    let whole = (head.0.max(seq.0) - first.0 + 1) as f64;
    let part = (seq.0 - first.0 + 1) as f64 / whole;
    let full = (part * WIDTH as f64) as usize;
    format!(
        "[{:<width$}] {:>3} %, {done} done",
        "#".repeat(full),
        (part * 100.0) as u64,
        width = WIDTH as usize
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_full_at_the_end() {
        assert_eq!(
            bar(Seq(11), Seq(20), Seq(40), 7),
            format!("[{}{}]  33 %, 7 done", "#".repeat(10), " ".repeat(20))
        );
        assert_eq!(bar(Seq(11), Seq(40), Seq(40), 9), format!("[{}] 100 %, 9 done", "#".repeat(30)));
        // The log has grown meanwhile.
        assert!(bar(Seq(1), Seq(5), Seq(4), 5).contains("100 %"));
    }
}
