//! The shell around the core: ingest, writer, log, projections, HTTP.

pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
pub mod message;
