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

/// The one list of codes: each with the word that answers, records and metrics have for it.
macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $word:literal,)*) => {
        /// Which rule a command breaks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $($(#[$doc])* $code,)*
        }

        impl Code {
            /// All of them.
            pub const ALL: &[Code] = &[$(Code::$code),*];

            /// As it is written.
            pub fn word(self) -> &'static str {
                match self {
                    $(Code::$code => $word,)*
                }
            }
        }
    };
}

codes! {
    /// The body is not a command.
    BadRequest = "bad-command",
    /// There is no such device.
    NoSuchDevice = "no-such-device",
    /// The device cannot be told that.
    NoSuchCommand = "no-such-command",
    /// The value is not allowed.
    InvalidValue = "invalid-value",
    /// The device cannot be reached.
    Unreachable = "unreachable",
    /// The same, because its source is not connected to its broker.
    SourceAway = "unreachable",
    /// The device is not as expected.
    NotAsExpected = "not-as-expected",
    /// The key stands for another command.
    KeyConflict = "key-conflict",
    /// The body is too large.
    TooLarge = "too-large",
    /// The broker keeps the message, and would deliver it again and again.
    Retained = "retained",
    /// Too many commands at a time.
    Busy = "busy",
    /// Its time was over before it could be recorded.
    Expired = "expired",
    /// Too many commands.
    TooMany = "too-many-commands",
    /// The agent cannot tell yet.
    NotReady = "not-ready",
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

#[cfg(test)]
mod tests {
    use fieldlog_wire::api::commands::refusal;

    use super::*;

    #[test]
    fn every_code_has_a_status_of_its_own_choice() {
        let unknown = refusal("of a newer gateway");
        assert_eq!(unknown.0, 409);
        Code::ALL.iter().for_each(|code| assert_ne!(refusal(code.word()), unknown, "{code:?}"));
    }
}
