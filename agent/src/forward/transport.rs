//! The protocols that carry parcels, one module each.

use std::time::Duration;

use crate::config::SinkConfig;

pub mod http;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod mqtt;
#[cfg(feature = "nats")]
pub mod nats;

/// A sink as its transport sees it. The values are checked by the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<S> {
    /// What only its protocol has, as configured.
    pub sink: S,
    /// Until a connection can be used.
    pub connect_timeout: Duration,
    /// A sink that acknowledges nothing for so long counts as lost.
    pub answer_timeout: Duration,
    /// Parcels under way at once, where the protocol allows for more than one.
    pub in_flight_max: u16,
}

impl<S: Clone> Target<S> {
    /// As the configuration says; `sink` is the part of `config` that only its protocol has.
    pub(super) fn of(config: &SinkConfig, sink: &S) -> Target<S> {
        Target {
            sink: sink.clone(),
            connect_timeout: config.connect_timeout,
            answer_timeout: config.answer_timeout,
            in_flight_max: config.in_flight_max,
        }
    }
}
