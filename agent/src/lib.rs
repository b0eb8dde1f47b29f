//! The shell around the core: ingest, writer, log, snapshots, HTTP.
//!
//! The modules in the order of the flow: [`ingest`] → [`decode`](fieldlog_rules::decode), [`observe`] → [`writer`] → [`log`] → (the folds of
//! [`fieldlog_projections`]) → [`http`]. [`run`] starts and stops them. `ARCHITECTURE.md` has the whole picture.

pub mod backup;
pub mod check;
pub mod cli;
pub mod client;
pub mod clock;
pub mod command;
pub mod command_line;
pub mod config;
pub mod copy;
pub mod correct;
pub mod daemon;
#[cfg(feature = "demo")]
pub mod demo;
pub mod describe;
pub mod doctor;
pub mod export;
pub mod forward;
pub(crate) mod histogram;
pub mod http;
pub mod import;
pub mod in_hand;
pub mod ingest;
pub mod init;
pub mod log;
pub mod lost;
pub mod memory;
pub mod message;
pub mod metrics;
pub(crate) mod mqtt;
pub mod net;
pub mod observe;
pub mod probe;
pub mod read_side;
pub mod rebuild;
pub mod receive;
pub mod recovery;
pub mod repair;
pub mod replay;
pub mod retention;
pub mod run;
pub mod shared;
pub mod snapshots;
pub mod sources;
pub mod sparkplug;
pub mod stopped;
pub mod successor;
pub mod telemetry;
pub mod trial;
pub mod verify;
pub mod window;
pub mod words;
pub mod writer;
