//! Tests of the broker and the devices over real sockets, with real clients and brokers.

// Helpers of tests fail by panicking, like the tests themselves.
#![allow(clippy::unwrap_used)]

mod clients;
mod delivery;
mod devices;
mod faults;
mod mosquitto;
mod raw;
mod sessions;
