//! Logging in with a token, for browsers: the answer sets a cookie that stands for the token.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a token, or a session that was opened with it, allows. Each allows what those before it allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Grant {
    /// Everything that changes nothing.
    Read,
    /// Commands to devices.
    Command,
    /// Everything else that changes something: devices, the quarantine, backups, snapshots.
    Admin,
}

impl Grant {
    /// The word for it, also in the name of the actor that is recorded.
    pub fn word(self) -> &'static str {
        match self {
            Grant::Read => "read",
            Grant::Command => "command",
            Grant::Admin => "admin",
        }
    }
}

/// The body of `POST /api/v1/session`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LoginBody {
    /// The token; 16 to 4,096 visible ASCII characters.
    pub token: String,
}

impl fmt::Debug for LoginBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoginBody(…)")
    }
}

/// The answer to `GET`, `POST` and `DELETE /api/v1/session`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionAnswer {
    /// What the session of the request, or the new one, allows; null if there is none.
    pub scope: Option<Grant>,
}
