//! `fieldlog demo`: an embedded broker, simulated devices and the agent in one process.

pub mod devices;
