//! The subcommands that ask a running agent something, and how they print what it answers.

use std::process::ExitCode;

use crate::client::Failure;
use crate::words::{complain, say};

pub mod command;
pub mod device;
pub mod quarantine;
pub mod why;

/// What was asked for was not done, or ended otherwise.
pub(crate) const NOT_DONE: u8 = 1;

/// Ends a subcommand: what it failed with is said, and gives the exit code.
pub(crate) fn end(outcome: Result<u8, Failure>) -> ExitCode {
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(Failure { code, words }) => {
            complain(&words);
            ExitCode::from(code)
        }
    }
}

/// Prints the bytes of an answer as they are, on a line of their own.
fn say_raw(body: &[u8]) {
    let text = String::from_utf8_lossy(body);
    say(&format!("{}\n", text.trim_end()));
}

/// Rows below a head, in columns; the last one has any width.
fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = head.map(|cell| cell.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in std::iter::once(&head.map(str::to_owned)).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A text of one line that a terminal shows as it is.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The time of an answer to the second, as it is written there.
fn time(at: &fieldlog_wire::json::Rfc3339) -> String {
    let text = serde_json::to_value(at).ok().and_then(|text| text.as_str().map(str::to_owned));
    let text = text.unwrap_or_default();
    text.split_once('.').map_or(text.clone(), |(seconds, _)| format!("{seconds}Z"))
}

#[cfg(test)]
mod tests {
    use fieldlog_projections::Time;
    use fieldlog_wire::json::Rfc3339;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["1".to_owned(), "lamp".to_owned()], ["12".to_owned(), "été".to_owned()]];
        assert_eq!(table(["ID", "DEVICE"], &rows), "ID  DEVICE\n1   lamp\n12  été\n");
        assert_eq!(table(["ID", "DEVICE"], &[]), "ID  DEVICE\n");
    }

    #[test]
    fn what_came_from_outside_cannot_control_the_terminal() {
        assert_eq!(plain("a\u{1b}[31mb\nc"), "a\u{fffd}[31mb\u{fffd}c");
    }

    #[test]
    fn times_are_shown_to_the_second() {
        assert_eq!(time(&Rfc3339(Time::from_secs(1_763_892_000))), "2025-11-23T10:00:00Z");
    }
}
