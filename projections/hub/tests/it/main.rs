//! The hub as a process, at a real PostgreSQL, with the parcels of simulated gateways.
//!
//! `FIELDLOG_SEED=n` replays the gateways and their parcels of a run. `FIELDLOG_STORM=50,200` kills 200 times while 50
//! gateways send.

// Helpers of tests fail by panicking, like the tests themselves.
#![allow(clippy::unwrap_used)]

mod commands;
mod demo;
mod fleet;
mod forks;
mod gaps;
mod gateway;
mod hub;
mod kafka;
mod leases;
mod load;
mod metrics;
mod mqtt;
mod nats;
mod outage;
mod reading;
mod rebuild;
mod search;
mod secure;
mod spine;
mod stores;
mod storm;
mod tables;
mod wrong;
