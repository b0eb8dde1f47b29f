//! `/api/v1/devices/{id}/attributes/{attribute}/why`.

use std::borrow::Cow;

use fieldlog_projections::Seq;
use serde::{Deserialize, Serialize};

use super::Members;
use super::events::Event;
use super::position::Position;
use crate::json::Rfc3339;

/// `GET /api/v1/devices/{id}/attributes/{attribute}/why`: why an attribute has its value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WhyAnswer<'a, D = Members> {
    /// The position of the view.
    pub position: Position,
    /// The device.
    pub device: Cow<'a, str>,
    /// The attribute.
    pub attribute: Cow<'a, str>,
    /// The value; null if the attribute was removed.
    pub value: serde_json::Value,
    /// The source on which the device was last discovered. Where several sources share a namespace, the value may have
    /// come from another of them. The topic is not recorded.
    pub source: Cow<'a, str>,
    /// The record that set the value, with its log time and the device's own time.
    pub event: Event<'a, D>,
    /// The command that the device carried out with it; null if none is known.
    pub command: Option<WhyCommand<'a>>,
    /// The changes before it, newest first.
    pub before: Vec<WhyBefore>,
    /// From this position on, every change of the attribute is in this answer. Ask with `at` before it for earlier ones; there
    /// are none if it is the first position in the log.
    pub complete_from_seq: Seq,
}

/// A command whose `command_applied` names the record as what shows that it was carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WhyCommand<'a> {
    /// Its id: the position of its request.
    pub id: Seq,
    /// The position of its `command_applied`.
    pub applied_seq: Seq,
    /// Log time of that.
    pub applied_at: Rfc3339,
    /// What was asked for; null if it was deleted from the log.
    pub request: Option<WhyRequest<'a>>,
}

/// The request of a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WhyRequest<'a> {
    /// Who asked.
    pub actor: Cow<'a, str>,
    /// Why, in the requester's words; empty if not said.
    pub reason: Cow<'a, str>,
    /// Log time of the request.
    pub requested_at: Rfc3339,
    /// The attribute to set, or the operation.
    pub name: Cow<'a, str>,
    /// Whether it is an operation.
    pub operation: bool,
    /// The value, or the operation's argument.
    pub value: serde_json::Value,
    /// The source whose broker got it.
    pub source: Cow<'a, str>,
    /// The topic to which it was published.
    pub topic: Cow<'a, str>,
}

/// An earlier change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WhyBefore {
    /// Its position.
    pub seq: Seq,
    /// Its log time.
    pub at: Rfc3339,
    /// The device's own time; absent if it gave none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_time: Option<Rfc3339>,
    /// The value; null if the attribute was removed.
    pub value: serde_json::Value,
}
