//! Why there is no good answer, with the exit code.

use fieldlog_wire::api::problem::Problem;

use crate::log::LogError;
use crate::recovery::RecoveryError;

/// Exit codes of sysexits.h.
pub(super) const EX_USAGE: u8 = 64;
const EX_DATAERR: u8 = 65;
pub(super) const EX_UNAVAILABLE: u8 = 69;
const EX_SOFTWARE: u8 = 70;
const EX_IOERR: u8 = 74;
/// What is asked for is not known or not possible yet; ask again.
pub const EX_TEMPFAIL: u8 = 75;
pub(super) const EX_NOPERM: u8 = 77;
pub(super) const EX_CONFIG: u8 = 78;

/// Why there is no answer, or none that is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code, as in sysexits.h.
    pub code: u8,
    /// What is wrong, and what to do.
    pub words: String,
}

impl Failure {
    pub(super) fn new(code: u8, words: impl Into<String>) -> Failure {
        Failure { code, words: words.into() }
    }

    /// Of arguments that cannot be used.
    pub fn usage(words: impl Into<String>) -> Failure {
        Failure::new(EX_USAGE, words)
    }

    /// Of somebody who does not answer.
    pub fn unavailable(words: impl Into<String>) -> Failure {
        Failure::new(EX_UNAVAILABLE, words)
    }

    /// Of a configuration that cannot be used.
    pub fn config(words: impl Into<String>) -> Failure {
        Failure::new(EX_CONFIG, words)
    }

    /// Of data that cannot be used.
    pub fn data(words: impl Into<String>) -> Failure {
        Failure::new(EX_DATAERR, words)
    }

    /// Of a file or a disk.
    pub fn io(words: impl Into<String>) -> Failure {
        Failure::new(EX_IOERR, words)
    }

    /// Whether it may be otherwise in a moment.
    pub fn is_passing(&self) -> bool {
        [EX_UNAVAILABLE, EX_TEMPFAIL].contains(&self.code)
    }

    /// Of something within this process.
    pub fn internal(words: impl Into<String>) -> Failure {
        Failure::new(EX_SOFTWARE, words)
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Failure {
        let code = match &error {
            LogError::NotEmpty { .. } => EX_USAGE,
            error if error.is_lasting() => EX_DATAERR,
            _ => EX_IOERR,
        };
        Failure::new(code, error.to_string())
    }
}

impl From<RecoveryError> for Failure {
    fn from(error: RecoveryError) -> Failure {
        let words = error.to_string();
        match error {
            RecoveryError::Log(error) => error.into(),
            RecoveryError::Fold { .. } | RecoveryError::NoBase { .. } | RecoveryError::NoPast { .. } => {
                Failure::new(EX_DATAERR, words)
            }
            RecoveryError::Snapshots { .. } | RecoveryError::GivenUp => Failure::new(EX_IOERR, words),
        }
    }
}

/// The failure that a problem stands for.
pub(super) fn problem(status: u16, body: &[u8]) -> Failure {
    let code = match status {
        401 | 403 => EX_NOPERM,
        429 | 503 => EX_TEMPFAIL,
        400..500 => EX_DATAERR,
        _ => EX_SOFTWARE,
    };
    let words = match serde_json::from_slice::<Problem<'_>>(body) {
        Ok(problem) => format!("{}: {}", problem.title, of_command_line(&problem.detail)),
        // What the agent says to HTTP where it speaks HTTPS.
        Err(_) if body.starts_with(b"This port speaks HTTPS") => {
            "this port speaks HTTPS: begin the address with https://".to_owned()
        }
        Err(_) => format!("the answer is {status}, without words that fieldlog would use"),
    };
    Failure::new(code, words)
}

/// Words of a problem without what is about paths of the API.
fn of_command_line(detail: &str) -> String {
    match detail.split_once(" `fieldlog devices` and /api/") {
        Some((said, _)) => format!("{said} `fieldlog devices` lists them"),
        None => detail.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_why_and_has_a_code() {
        let body = br#"{"type":"x","title":"No such device","status":404,"detail":"there is no device `x`","instance":"/","code":"no-such-device"}"#;
        assert_eq!(problem(404, body), Failure::new(65, "No such device: there is no device `x`"));
        for (status, code) in [(401, 77), (403, 77), (409, 65), (412, 65), (422, 65), (500, 70), (503, 75)] {
            assert_eq!(problem(status, body).code, code, "{status}");
        }
        let plain = problem(400, b"This port speaks HTTPS: begin the address with https://\n");
        assert_eq!(plain, Failure::new(65, "this port speaks HTTPS: begin the address with https://"));
        assert!(problem(502, b"<html>").words.contains("the answer is 502"));
    }
}
