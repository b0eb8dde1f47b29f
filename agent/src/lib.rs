//! The shell around the core: ingest, writer, log, projections, HTTP.

pub mod config;
pub mod message;
pub mod rules;
pub mod topic;
