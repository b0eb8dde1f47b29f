//! Simulated surroundings of fieldlog for the demo and the tests: a small MQTT [`broker`] that can misbehave, simulated
//! [`devices`], a seeded [`rng`] and, with the feature `servers`, real servers as processes.

pub mod broker;
pub mod devices;
pub mod rng;
#[cfg(feature = "servers")]
pub mod servers;
