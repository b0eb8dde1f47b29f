//! Terminal output that tolerates a closed pipe, at which `println!` would panic.

use std::io::{self, IsTerminal, Write};

/// A number of things by their name for one: `1 message`, `2 messages`.
pub fn number(count: u64, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

/// Writes to stdout, ignoring a closed pipe.
pub fn say(text: &str) {
    let _ = try_say(text);
}

/// Writes JSON to stdout, on a line of its own, ignoring a closed pipe.
pub fn say_json(json: &serde_json::Value) {
    say(&format!("{json}\n"));
}

/// Writes to stdout.
///
/// # Errors
/// Of the output; of the kind `BrokenPipe` if its reader has read enough.
pub fn try_say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

/// Characters in a line of stdout: what `COLUMNS` says, or the width of the terminal. `None` if it is none.
pub fn columns() -> Option<usize> {
    let said = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let found = || {
        let out = io::stdout();
        let size = out.is_terminal().then(|| rustix::termios::tcgetwinsize(&out).ok()).flatten()?;
        Some(usize::from(size.ws_col))
    };
    said.or_else(found).filter(|columns| *columns > 0)
}

/// Writes a line to stderr, ignoring a closed pipe.
pub fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
