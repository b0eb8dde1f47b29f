//! The whole, from outside: one binary, a module for each part.

// Helpers of tests fail by panicking, like the tests themselves.
#![allow(clippy::unwrap_used)]

mod bounds;
mod crash;
mod daemon;
mod disk_full;
mod exit_codes;
mod forward;
mod kill;
mod log;
mod policies;
mod presets;
mod recovery;
mod reload;
mod rig;
mod scripted;
mod thin;
mod window;
mod wire;
mod writer;
