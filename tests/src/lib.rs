//! Parts shared by the tests and benchmarks of the whole.
//!
//! `cargo test --workspace` runs the tests. What they try a few times, `soak` tries for as long as one likes, with other
//! seeds and against a process of its own: `cargo run --release -p fieldlog-tests --bin soak -- --minutes 10`.

pub mod actuator;
pub mod agent;
pub mod binary;
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
