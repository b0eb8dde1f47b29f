//! The folds.

pub mod aggregates;
pub mod devices;
pub mod sessions;
