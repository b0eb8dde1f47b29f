//! Sparkplug B 3.0 as a host application, without network and log. Section numbers refer to the Sparkplug 3.0.0
//! specification.
//!
//! [`topic`] and [`payload`] parse a message, [`value`] its metrics; [`session`] decides about it in the order of its
//! edge node; [`state`] and [`command`] build what a host application publishes, [`given`] the values in it.

pub mod command;
pub mod given;
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
