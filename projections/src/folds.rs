//! The folds.

pub mod aggregates;
pub mod alerts;
pub mod commands;
pub mod descriptions;
pub mod devices;
pub mod named;
pub mod sessions;
