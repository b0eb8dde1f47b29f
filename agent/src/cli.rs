//! The subcommands that ask a running agent something, and how they print what it answers.

use std::process::ExitCode;

use fieldlog_wire::json::percent;

use crate::client::Failure;
use crate::words::{complain, say};

pub mod alerts;
pub mod at;
pub(crate) mod attention;
pub mod command;
pub mod device;
pub mod devices;
pub mod events;
pub(crate) mod moment;
pub mod presets;
pub mod quarantine;
pub mod sinks;
pub mod snapshot;
pub mod status;
pub(crate) mod text;
pub mod why;

/// What was asked for was not done, or ended otherwise; or something needs attention.
pub(crate) const NOT_DONE: u8 = 1;

/// What the exit codes mean, for the help.
pub const EXIT_CODES: &str = "\
Exit codes:
   0  done, accepted, or all is well
   1  done, but not with the result that was wanted: a command failed, messages stay in the quarantine,
      `status` or `doctor` has found something that needs attention
  64  wrong usage: an argument cannot be used
  65  refused: there is no such device, the values do not fit; or the log is damaged or lost
  69  fieldlog, or the broker, cannot be reached; or HTTP cannot listen
  70  a fault within fieldlog
  71  the system refuses what the start needs
  74  a disk or file error
  75  not known or not possible yet: ask again
  77  not allowed: the token, or the rights of this user
  78  mistakes in the configuration
 130  stopped at once by a second signal";

/// Ends a subcommand: what it failed with is said, and gives the exit code.
pub(crate) fn end(outcome: Result<u8, Failure>) -> ExitCode {
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(Failure { code, words }) => {
            complain(&text::plain_lines(&words));
            ExitCode::from(code)
        }
    }
}

/// Prints the bytes of an answer as they are, on a line of their own.
fn say_raw(body: &[u8]) {
    let text = String::from_utf8_lossy(body);
    say(&format!("{}\n", text.trim_end()));
}

/// A path with these parameters, of which those that are not given are left out.
fn query(path: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let mut all = path.to_owned();
    for (name, value) in parameters {
        if let Some(value) = value {
            let separator = if all.contains('?') { '&' } else { '?' };
            all.push_str(&format!("{separator}{name}={}", percent(value)));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_are_given_are_encoded() {
        assert_eq!(
            query("/x", &[("a", None), ("b", Some("ü/&")), ("c", Some("1"))]),
            "/x?b=%C3%BC%2F%26&c=1"
        );
    }
}
