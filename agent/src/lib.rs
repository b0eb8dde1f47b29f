//! The shell around the core: ingest, writer, log, projections, HTTP.

pub mod config;
pub mod ingest;
pub mod message;
