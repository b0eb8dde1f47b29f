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
    /// The device cannot be reached.
    Unreachable,
    /// The same, because its source is not connected to its broker.
    SourceAway,
    /// The device is not as expected.
    NotAsExpected,
    /// The key stands for another command.
    KeyConflict,
    /// The body is too large.
    TooLarge,
    /// The broker keeps the message, and would deliver it again and again.
    Retained,
    /// Too many commands at a time.
    Busy,
    /// Its time was over before it could be recorded.
    Expired,
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
            Code::Unreachable | Code::SourceAway => "unreachable",
            Code::NotAsExpected => "not-as-expected",
            Code::KeyConflict => "key-conflict",
            Code::TooLarge => "too-large",
            Code::Retained => "retained",
            Code::Busy => "busy",
            Code::Expired => "expired",
            Code::TooMany => "too-many-commands",
            Code::NotReady => "not-ready",
        }
    }
}

impl Rejected {
    /// Whether the agent will perhaps take it in a moment.
    pub fn is_temporary(&self) -> bool {
        matches!(self.code, Code::SourceAway | Code::NotReady)
    }

    pub(crate) fn new(code: Code, reason: impl Into<String>) -> Rejected {
        Rejected { code, reason: reason.into(), current: None }
    }
}
