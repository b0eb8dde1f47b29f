//! The protocols that carry parcels, one module each.

use std::time::Duration;

use super::Unreachable;
use crate::config::SinkConfig;

pub mod http;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod mqtt;
#[cfg(feature = "nats")]
pub mod nats;

/// The settings of a sink for its transport, already checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<S> {
    /// The part of the configuration that is specific to the protocol.
    pub sink: S,
    /// Limit until a connection is usable.
    pub connect_timeout: Duration,
    /// A sink that acknowledges nothing within this time counts as lost.
    pub answer_timeout: Duration,
    /// Maximum parcels in flight, if the protocol allows more than one.
    pub in_flight_max: u16,
}

impl<S: Clone> Target<S> {
    /// From the configuration; `sink` is the protocol-specific part of `config`.
    pub(super) fn of(config: &SinkConfig, sink: &S) -> Target<S> {
        Target {
            sink: sink.clone(),
            connect_timeout: config.connect_timeout,
            answer_timeout: config.answer_timeout,
            in_flight_max: config.in_flight_max,
        }
    }
}

/// Logs in at a NATS server or a Kafka cluster, and sends it nothing. Sinks of other kinds are left alone.
pub(crate) async fn log_in(config: &SinkConfig) -> Result<(), Unreachable> {
    match &config.target {
        #[cfg(feature = "nats")]
        crate::config::SinkTarget::Nats(nats) => Target::of(config, nats).log_in().await,
        #[cfg(feature = "kafka")]
        crate::config::SinkTarget::Kafka(kafka) => Target::of(config, kafka).open().await.map(drop),
        _ => Ok(()),
    }
}
