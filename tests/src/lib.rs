//! Parts shared by the tests and benchmarks of the whole.

pub mod fault_disk;
pub mod rng;
