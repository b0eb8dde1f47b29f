//! The JSON of the HTTP API, as types for both writing and reading.
//!
//! The agent fills them with borrowed names, and with attributes, changes and data that serialise themselves. A reader
//! gets owned data with the default type parameters: `serde_json::from_slice::<DevicePage>(body)`.
//!
//! Times are RFC 3339 in UTC with microseconds, sequence numbers count from 1, and durations are seconds unless a name
//! says otherwise. A member that is an `Option` is null if it has no value, unless its description says that it is
//! absent. Unknown members are ignored, so an older reader can read the answers of a newer agent.

pub mod administer;
pub mod aggregates;
pub mod alerts;
pub mod commands;
pub mod devices;
pub mod diff;
pub mod events;
pub mod health;
pub mod history;
pub mod hub;
pub mod named;
pub mod position;
pub mod problem;
pub mod quarantine;
pub mod session;
pub mod status;
pub mod why;

use std::collections::BTreeMap;

/// Names and their values, as a reader gets them. A string that contains JSON was recorded as JSON or as text.
pub type Members = BTreeMap<String, serde_json::Value>;
