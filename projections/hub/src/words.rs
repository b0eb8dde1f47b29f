//! Terminal output that tolerates a closed pipe, at which `println!` would panic.

use std::io::Write;

/// Writes to stdout, ignoring a closed pipe.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
