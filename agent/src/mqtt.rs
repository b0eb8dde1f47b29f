//! The client side of MQTT 5 and 3.1.1: framing, handshake, reading and writing packets, keep-alive.
//!
//! [`connection::Connection`] both receives and publishes. Sources, MQTT sinks and other clients build on it and
//! interpret the packets themselves.

pub(crate) mod connection;
pub(crate) mod failure;
pub(crate) mod frame;
pub(crate) mod handshake;
pub(crate) mod liveness;
pub(crate) mod open;
pub(crate) mod publish;
