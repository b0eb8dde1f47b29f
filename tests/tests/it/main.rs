//! The whole, from outside: one binary, a module for each part.

// Helpers of tests fail by panicking, like the tests themselves.
#![allow(clippy::unwrap_used)]

mod crash;
mod log;
mod recovery;
mod rig;
mod writer;
