//! `/api/v1/alerts`

use std::borrow::Cow;

use fieldlog_projections::Seq;
use fieldlog_projections::alert::Severity;
use serde::{Deserialize, Serialize};

use super::devices::AsOf;
use super::position::Position;
use crate::json::Rfc3339;

/// `GET /api/v1/alerts`: those that are open, the newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AlertPage<'a> {
    /// Where the view is.
    pub position: Position,
    /// The past state that this is; absent if it is the current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<AsOf>,
    /// The alerts.
    pub alerts: Vec<AlertJson<'a>>,
    /// The last id of this page, to go on with as `before`; null if there are no more.
    pub next: Option<Seq>,
}

/// An alert that is open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AlertJson<'a> {
    /// Its id: the position at which it was raised.
    pub id: Seq,
    /// The name of its rule in the configuration.
    pub rule: Cow<'a, str>,
    /// How bad it is.
    pub severity: Severity,
    /// The device that it is about; absent if it is about none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Cow<'a, str>>,
    /// The attribute that it is about; absent if it is about none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attribute: Option<Cow<'a, str>>,
    /// The sink that it is about; absent if it is about none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<Cow<'a, str>>,
    /// What was wrong: `above`, `below`, `equals`, `silent`, `offline`, `battery-low`, `backlog-events` or
    /// `backlog-seconds`.
    pub condition: Cow<'a, str>,
    /// What the value was compared with; null if with nothing.
    pub threshold: serde_json::Value,
    /// The value when it was raised; null if there is none.
    pub value: serde_json::Value,
    /// Log time of that.
    pub raised_at: Rfc3339,
}
