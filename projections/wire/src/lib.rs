//! The wire formats: the manifest of a parcel, the compact format, CloudEvents, events as JSON, and the answers of the
//! HTTP API; also the account that a receiver keeps of arrivals, and how it asks for what is missing.
//!
//! Nothing in this crate does IO. The gateway writes with it; `fieldlog receive` and any other program can read with
//! it. `FORMAT.md` (*Parcels*) describes the manifest in each of its forms, the compact format byte by byte, and the
//! duties of a Kafka consumer.

pub mod account;
pub mod api;
pub mod cloudevent;
pub mod command;
pub mod compact;
pub mod describe;
pub mod event;
pub mod json;
pub mod ledger;
pub mod manifest;
#[cfg(feature = "schema")]
pub mod openapi;
pub mod parcels;
pub mod received;
pub mod resend;

pub use manifest::{Lane, Manifest, ManifestError};
