//! End-to-end tests: one binary with a module for each area.

// Helpers of tests fail by panicking, like the tests themselves.
#![allow(clippy::unwrap_used)]

mod administer;
mod alerts;
mod bounds;
mod cli;
mod clock;
mod commands;
mod corruption;
mod crash;
mod daemon;
mod demo;
mod disk_full;
mod exit_codes;
mod first_release;
mod forward;
mod history;
mod home_assistant;
mod hostile_http;
mod index;
mod kill;
mod log;
mod lost_log;
mod named;
mod poison;
mod policies;
mod presets;
mod probe;
mod prometheus;
mod recovery;
mod reload;
mod rig;
mod scan;
mod scripted;
mod security;
mod sparkplug;
mod thin;
mod tools;
mod trace;
mod trial;
mod unlinked;
mod window;
mod wire;
mod writer;
