//! The hub as a process, at a real PostgreSQL, with the parcels of simulated gateways.
//!
//! `FIELDLOG_SEED=n` replays the gateways and their parcels of a run.

// Helpers of tests fail by panicking, like the tests themselves.
#![allow(clippy::unwrap_used)]

mod commands;
mod demo;
mod forks;
mod gaps;
mod gateway;
mod hub;
mod kafka;
mod leases;
mod nats;
mod reading;
mod search;
mod spine;
mod stores;
mod tables;
mod wrong;
