//! Why commands are not accepted.

use fieldlog_projections::Seq;

/// Why a command is not accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejected {
    /// Which rule it breaks.
    pub code: Code,
    /// What is wrong, what was given, and what is allowed.
    pub reason: String,
    /// The present version of the device, where another one was expected.
    pub current: Option<Seq>,
}

/// Which rule a command breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The body is not a command.
    BadRequest,
    /// There is no such device.
    NoSuchDevice,
    /// The device cannot be told that.
    NoSuchCommand,
    /// The value is not allowed.
    InvalidValue,
    /// The device, or its broker, cannot be reached.
    Unreachable,
    /// The device is not as expected.
    NotAsExpected,
    /// The key stands for another command.
    KeyConflict,
    /// Too many commands.
    TooMany,
    /// The agent cannot tell yet.
    NotReady,
}

impl Code {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Code::BadRequest => "bad-command",
            Code::NoSuchDevice => "no-such-device",
            Code::NoSuchCommand => "no-such-command",
            Code::InvalidValue => "invalid-value",
            Code::Unreachable => "unreachable",
            Code::NotAsExpected => "not-as-expected",
            Code::KeyConflict => "key-conflict",
            Code::TooMany => "too-many-commands",
            Code::NotReady => "not-ready",
        }
    }
}

impl Rejected {
    pub(crate) fn new(code: Code, reason: impl Into<String>) -> Rejected {
        Rejected { code, reason: reason.into(), current: None }
    }
}
