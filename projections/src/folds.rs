//! The folds.

pub mod aggregates;
pub mod descriptions;
pub mod devices;
pub mod sessions;
