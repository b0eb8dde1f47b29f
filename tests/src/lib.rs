//! Code shared by the end-to-end tests and benchmarks.
//!
//! `cargo test --workspace` runs the tests. `soak` runs the same kinds of attacks for any length of time, with other
//! seeds and against a separate process: `cargo run --release -p fieldlog-tests --bin soak -- --minutes 10`.

pub mod actuator;
pub mod agent;
pub mod binary;
pub mod commander;
pub mod fault_disk;
pub mod http_message;
pub mod logbook;
pub mod memory_limit;
pub mod process;
pub mod proxy;
pub mod publisher;
pub mod receiver;
pub mod tmpfs;

pub use fieldlog_sim::rng;
pub use fieldlog_sim::servers::{mosquitto, nats, wait};
