//! Sparkplug B 3.0 as a host application: what needs neither network nor log. Sections named in here are those of the
//! Sparkplug 3.0.0 specification.
//!
//! [`topic`] and [`payload`] read a message, [`value`] its metrics, [`session`] says what becomes of it in the order of its
//! edge node, and [`state`] and [`command`] write what a host application publishes.

pub mod command;
pub mod payload;
pub mod property;
pub mod session;
pub mod state;
#[cfg(test)]
mod tests;
pub mod topic;
pub mod value;

/// Namespace of all topics (section 4.1).
pub const NAMESPACE: &str = "spBv1.0";
