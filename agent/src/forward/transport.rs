//! The protocols that carry parcels, one module each.

use std::sync::Arc;
use std::time::Duration;

use fieldlog_wire::Manifest;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{Outcome, Parcel, Transport, Unreachable};
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

/// A connection of any protocol. The driver is then there once, and not once for each.
pub(super) struct Any(Box<dyn Connection>);

impl Any {
    pub(super) fn new(transport: impl Transport) -> Any {
        Any(Box::new(transport))
    }
}

/// [`Transport`] for trait objects.
trait Connection: Send {
    fn send(&mut self, parcel: Arc<Parcel>) -> BoxFuture<'static, Outcome>;
    fn lost(&mut self) -> BoxFuture<'_, String>;
    fn window(&self) -> usize;
    fn stored(&self) -> Option<&Manifest>;
    fn warning(&self) -> Option<String>;
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}

impl<T: Transport> Connection for T {
    fn send(&mut self, parcel: Arc<Parcel>) -> BoxFuture<'static, Outcome> {
        Transport::send(self, parcel).boxed()
    }

    fn lost(&mut self) -> BoxFuture<'_, String> {
        Transport::lost(self).boxed()
    }

    fn window(&self) -> usize {
        Transport::window(self)
    }

    fn stored(&self) -> Option<&Manifest> {
        Transport::stored(self)
    }

    fn warning(&self) -> Option<String> {
        Transport::warning(self)
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Transport::close(*self).boxed()
    }
}

impl Transport for Any {
    fn send(&mut self, parcel: Arc<Parcel>) -> impl Future<Output = Outcome> + Send + 'static {
        self.0.send(parcel)
    }

    fn lost(&mut self) -> impl Future<Output = String> + Send {
        self.0.lost()
    }

    fn window(&self) -> usize {
        self.0.window()
    }

    fn stored(&self) -> Option<&Manifest> {
        self.0.stored()
    }

    fn warning(&self) -> Option<String> {
        self.0.warning()
    }

    fn close(self) -> impl Future<Output = ()> + Send {
        self.0.close()
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
