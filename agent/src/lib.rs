//! The shell around the core: ingest, writer, log, projections, HTTP.

pub mod config;
pub mod decode;
pub mod log;
pub mod message;
pub mod observe;
pub mod rebuild;
pub mod recovery;
pub mod rules;
pub mod snapshots;
pub mod topic;
pub mod window;
pub mod writer;
