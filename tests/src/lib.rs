//! Parts shared by the tests and benchmarks of the whole.

pub mod agent;
pub mod binary;
pub mod fault_disk;
pub mod logbook;
pub mod process;
pub mod proxy;
pub mod publisher;
pub mod receiver;
pub mod tmpfs;

pub use fieldlog_sim::rng;
pub use fieldlog_sim::servers::{mosquitto, nats, wait};
