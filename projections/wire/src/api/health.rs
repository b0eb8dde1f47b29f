//! `/livez`, `/healthz` and `/readyz`, in the form of draft-inadarei-api-health-check; `/version`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Media type of [`Health`].
pub const CONTENT_TYPE: &str = "application/health+json";

/// The health of the agent. Status code 503 if it is [`Verdict::Fail`], else 200.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Health {
    /// The worst of the checks.
    pub status: Verdict,
    /// The checks by name: `writer`, `agent`, `source:<name>`, and each part of the view that can be rebuilt.
    pub checks: BTreeMap<String, Check>,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Check {
    /// The verdict.
    pub status: Verdict,
    /// A description, with what to do.
    pub output: String,
}

/// A verdict, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Good.
    Pass,
    /// It works, but needs attention.
    Warn,
    /// It does not work.
    Fail,
}

impl Health {
    /// With the worst of the checks as its status.
    pub fn of(checks: BTreeMap<String, Check>) -> Health {
        let status = checks.values().map(|check| check.status).max().unwrap_or(Verdict::Pass);
        Health { status, checks }
    }
}

/// `GET /version`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Version<'a> {
    /// `fieldlog`.
    pub name: Cow<'a, str>,
    /// The version that is running.
    pub version: Cow<'a, str>,
}
