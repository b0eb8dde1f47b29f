//! What goes over the wire: the manifest of a parcel, the compact format, CloudEvents, events as JSON, the answers
//! of the HTTP API, and the account that a receiver keeps of what has arrived.
//!
//! Nothing in this crate does IO. The gateway writes with it, `fieldlog receive` reads with it, and any other program
//! upstream can. `FORMAT.md` (*Parcels*) describes the manifest in each of its forms, the compact
//! format byte by byte, and what a consumer of Kafka does.

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
pub mod received;

pub use manifest::{Lane, Manifest, ManifestError};
