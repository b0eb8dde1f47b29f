//! The broker from outside: over real sockets, with real clients.

// Helpers of tests fail by panicking, like the tests themselves.
#![allow(clippy::unwrap_used)]

mod clients;
mod delivery;
mod faults;
mod mosquitto;
mod raw;
mod sessions;
