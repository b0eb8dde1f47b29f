//! The protocols that carry parcels, one module each.

pub mod http;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod mqtt;
#[cfg(feature = "nats")]
pub mod nats;
