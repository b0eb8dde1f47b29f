//! Rules: which topics they take, and how they read payloads. Pure: no IO, no clock, no device.
//!
//! A crate of its own because it is what each message costs most in, and is compiled for speed, while most of the agent is
//! compiled for size.

pub mod choice;
pub mod decode;
pub mod rule;
pub mod topic;
pub mod written;
