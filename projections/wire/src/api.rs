//! The JSON of the HTTP API, as types that are written and read alike.
//!
//! The agent fills them with borrowed names and with attributes, changes and data that write themselves; whoever reads an
//! answer has it owned, with the defaults of the type parameters: `serde_json::from_slice::<DevicePage>(body)`.
//!
//! Times are RFC 3339 in UTC with microseconds, sequence numbers count from 1, and durations are seconds unless a name says
//! otherwise. A member that is an `Option` is null where there is nothing to say, unless its description says that it is
//! absent. Members that are not known are passed over, so an older reader can read a newer agent.

pub mod aggregates;
pub mod commands;
pub mod devices;
pub mod events;
pub mod health;
pub mod history;
pub mod position;
pub mod problem;
pub mod quarantine;
pub mod status;

use std::collections::BTreeMap;

/// Names and their values, as whoever reads them has them. A text that is JSON was recorded as JSON or as text.
pub type Members = BTreeMap<String, serde_json::Value>;
