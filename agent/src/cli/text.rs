//! Text for a terminal: columns that fit it, and names from outside that cannot change what it shows.

use fieldlog_wire::json::Rfc3339;
use serde_json::Value as Json;

use crate::words::columns;

/// Narrowest that a column is made to fit the terminal, in characters.
const CELL_MIN: usize = 6;
/// Between columns.
const GAP: usize = 2;

/// Rows below a head, in columns. On a terminal, the widest cells are cut so that a line fits.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    table_within(head, rows, columns())
}

fn table_within<const N: usize>(head: [&str; N], rows: &[[String; N]], room: Option<usize>) -> String {
    let mut widths = head.map(width);
    let mut least = [CELL_MIN; N];
    for row in rows {
        for ((widest, least), cell) in widths.iter_mut().zip(&mut least).zip(row) {
            *widest = (*widest).max(width(cell));
            if is_time(cell) {
                *least = (*least).max(width(cell));
            }
        }
    }
    narrow(&mut widths, &least, room.unwrap_or(usize::MAX));
    let mut text = String::new();
    for row in std::iter::once(&head.map(str::to_owned)).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!("{:<width$}{:GAP$}", cut(cell, width), ""));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Takes from the widest column until the line fits, or nothing more can be taken.
fn narrow(widths: &mut [usize], least: &[usize], room: usize) {
    let gaps = widths.len().saturating_sub(1) * GAP;
    while widths.iter().sum::<usize>() + gaps > room {
        let wider = widths.iter_mut().zip(least).filter(|(width, least)| **width > **least);
        match wider.max_by_key(|(width, _)| **width) {
            Some((widest, _)) => *widest -= 1,
            None => return,
        }
    }
}

/// Whether it is what [`time`] makes, of which a part says nothing.
fn is_time(cell: &str) -> bool {
    cell.ends_with('Z') && cell.as_bytes().get(10) == Some(&b'T')
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// The text in this many characters; what is left out is shown as an ellipsis.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// One line in the width of the terminal.
pub(crate) fn line(text: &str) -> String {
    cut(text, columns().unwrap_or(usize::MAX))
}

/// Words in lines that fit the terminal; all but the first begin with `indent`.
pub(crate) fn wrap(text: &str, indent: &str) -> String {
    wrap_within(text, indent, columns().unwrap_or(usize::MAX))
}

fn wrap_within(text: &str, indent: &str, room: usize) -> String {
    let mut lines = String::new();
    let mut used = 0;
    for (index, word) in text.split(' ').enumerate() {
        if index > 0 && used + 1 + width(word) > room {
            lines.push('\n');
            lines.push_str(indent);
            used = width(indent);
        } else if index > 0 {
            lines.push(' ');
            used += 1;
        }
        lines.push_str(word);
        used += width(word);
    }
    lines.push('\n');
    lines
}

/// A text of one line that a terminal shows as it is: no character controls it, and none changes the direction of what
/// follows or cannot be seen.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if is_hostile(c) { '\u{fffd}' } else { c }).collect()
}

/// The same for several lines.
pub(crate) fn plain_lines(text: &str) -> String {
    text.chars().map(|c| if c != '\n' && is_hostile(c) { '\u{fffd}' } else { c }).collect()
}

fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// The time of an answer to the second.
pub(crate) fn time(at: &Rfc3339) -> String {
    let text = at.to_string();
    text.split_once('.').map_or(text.clone(), |(seconds, _)| format!("{seconds}Z"))
}

/// A value as people read it: text without quotes.
pub(crate) fn value(value: &Json) -> String {
    match value {
        Json::String(text) => plain(text),
        Json::Null => "none".to_owned(),
        other => plain(&other.to_string()),
    }
}

/// Seconds in the largest unit that fits.
pub(crate) fn span(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3_600 => format!("{} min", whole / 60),
        3_600..172_800 => format!("{} h", whole / 3_600),
        _ => format!("{} days", whole / 86_400),
    }
}

/// A number with a comma after each three digits.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things by their name for one: `1 message`, `1,200 messages`.
pub(crate) fn number(of: u64, one: &str) -> String {
    format!("{} {one}{}", count(of), if of == 1 { "" } else { "s" })
}

/// How many events wait.
pub(crate) fn waiting(events: u64) -> String {
    format!("{} wait{}", number(events, "event"), if events == 1 { "s" } else { "" })
}

/// Bytes in the largest decimal unit.
pub(crate) fn bytes(number: u64) -> String {
    match number {
        0..1_000 => format!("{number} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", number as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", number as f64 / 1e6),
        _ => format!("{:.1} GB", number as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use fieldlog_projections::Time;

    use super::*;

    fn rows<const N: usize>(rows: &[[&str; N]]) -> Vec<[String; N]> {
        rows.iter().map(|row| row.map(str::to_owned)).collect()
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = rows(&[["1", "lamp"], ["12", "été"]]);
        assert_eq!(table_within(["ID", "DEVICE"], &rows, None), "ID  DEVICE\n1   lamp\n12  été\n");
        assert_eq!(table_within(["ID", "DEVICE"], &[], None), "ID  DEVICE\n");
    }

    #[test]
    fn a_table_fits_the_terminal() {
        let rows = rows(&[["1", "a long name of a device", "a value that is longer than all the rest"]]);
        let text = table_within(["ID", "DEVICE", "VALUES"], &rows, Some(40));
        assert_eq!(text, "ID  DEVICE             VALUES\n1   a long name of a…  a value that is …\n");
        assert!(text.lines().all(|line| line.chars().count() <= 40));
        let rows = rows_with_time();
        let text = table_within(["AT", "DEVICE"], &rows, Some(30));
        assert_eq!(text, "AT                    DEVICE\n2025-11-23T10:00:00Z  a long …\n");
    }

    fn rows_with_time() -> Vec<[String; 2]> {
        rows(&[["2025-11-23T10:00:00Z", "a long name"]])
    }

    #[test]
    fn what_cannot_be_read_any_more_is_not_made_narrower() {
        let rows = rows(&[["1", "a long name of a device", "a value that is longer than all the rest"]]);
        let text = table_within(["ID", "DEVICE", "VALUES"], &rows, Some(3));
        assert_eq!(text, "ID  DEVICE  VALUES\n1   a lon…  a val…\n");
    }

    #[test]
    fn what_came_from_outside_cannot_control_the_terminal() {
        assert_eq!(plain("a\u{1b}[31mb\nc\u{9b}d"), "a\u{fffd}[31mb\u{fffd}c\u{fffd}d");
        assert_eq!(plain("gpj\u{202e}exe\u{2066}\u{200b}"), "gpj\u{fffd}exe\u{fffd}\u{fffd}");
        assert_eq!(plain_lines("a\nb\r"), "a\nb\u{fffd}");
        assert_eq!(value(&Json::from("\u{202e}x")), "\u{fffd}x");
        assert_eq!(value(&serde_json::json!({"\u{9b}": 1})), "{\"\u{fffd}\":1}");
    }

    #[test]
    fn words_are_wrapped() {
        assert_eq!(wrap_within("- one two three four", "  ", 11), "- one two\n  three\n  four\n");
        assert_eq!(wrap_within("  indented words", "  ", 12), "  indented\n  words\n");
        assert_eq!(wrap_within("longer than the line", "  ", 5), "longer\n  than\n  the\n  line\n");
    }

    #[test]
    fn numbers_are_put_into_words() {
        for (seconds, words) in [(-1.0, "0 s"), (59.9, "59 s"), (3_599.0, "59 min"), (90_000.0, "25 h")] {
            assert_eq!(span(seconds), words);
        }
        assert_eq!(span(200_000.0), "2 days");
        for (number, words) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), words);
        }
        assert_eq!([number(1, "input"), number(1_200, "input")], ["1 input", "1,200 inputs"]);
        assert_eq!(
            [waiting(1), waiting(0), waiting(12)],
            ["1 event waits", "0 events wait", "12 events wait"]
        );
        assert_eq!([bytes(12), bytes(1_500), bytes(2_000_000)], ["12 bytes", "1.5 kB", "2.0 MB"]);
        assert_eq!(time(&Rfc3339(Time::from_secs(1_763_892_000))), "2025-11-23T10:00:00Z");
    }
}
