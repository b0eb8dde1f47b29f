//! MQTT 5 and 3.1.1 as a client speaks it: framing, handshake, reading and writing packets, keeping a connection alive.
//!
//! [`connection::Connection`] both receives and publishes. Sources, MQTT sinks and whoever else talks to a broker stand
//! on it; what a packet means to them is theirs.

pub(crate) mod connection;
pub(crate) mod failure;
pub(crate) mod frame;
pub(crate) mod handshake;
pub(crate) mod liveness;
pub(crate) mod publish;
