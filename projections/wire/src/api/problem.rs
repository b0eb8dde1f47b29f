//! Errors: problem details, RFC 9457.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::position::Position;
use fieldlog_projections::Seq;

/// Media type of [`Problem`].
pub const CONTENT_TYPE: &str = "application/problem+json";

/// The type of a receiver's answer 409 if it has another history of this log.
pub const FORK: &str = "urn:fieldlog:problem:fork";

/// Body of that answer; `detail` says which log, and where.
pub fn fork(detail: &str) -> String {
    serde_json::json!({
        "type": FORK,
        "title": "Another history of this log has arrived before",
        "status": 409,
        "detail": detail,
    })
    .to_string()
}

/// Why a request failed, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Problem<'a> {
    /// `urn:fieldlog:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: Cow<'a, str>,
    /// The kind of problem in words, the same for every problem with this code.
    pub title: Cow<'a, str>,
    /// HTTP status code, 400 to 599.
    pub status: u16,
    /// What is wrong with this request, and what to do.
    pub detail: Cow<'a, str>,
    /// Path of the request.
    pub instance: Cow<'a, str>,
    /// The kind of problem for programs, such as `bad-parameter`.
    pub code: Cow<'a, str>,
    /// The position of the view, for problems about positions; otherwise absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// The newest record of the device, where another one was expected; absent from other problems.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_seq: Option<Seq>,
}
