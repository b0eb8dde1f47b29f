//! Words to the terminal, which may be a pipe that nobody reads any more; `println!` would panic there.

use std::io::Write;

/// Writes to stdout, if anybody reads it.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes a line to stderr, if anybody reads it.
pub fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
