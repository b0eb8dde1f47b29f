//! Messages from publishers to subscribers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rumqttc::v5::mqttbytes::v5::PublishProperties;
use tokio::time::Instant;

/// Quality of service. Exactly once is not supported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Qos {
    /// QoS 0: sent once, not acknowledged.
    #[default]
    AtMostOnce,
    /// QoS 1: sent again until it is acknowledged.
    AtLeastOnce,
}

/// An application message as it was published.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Bytes,
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
    /// Properties that MQTT 5 passes on unchanged; the message expiry interval is in `expires`.
    pub(crate) properties: Option<PublishProperties>,
    pub(crate) expires: Option<Instant>,
}

impl Message {
    pub(crate) fn has_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// The remaining message expiry interval, in seconds.
    pub(crate) fn expires_in_s(&self, now: Instant) -> Option<u32> {
        let left = self.expires?.saturating_duration_since(now);
        Some(u32::try_from(left.as_secs()).unwrap_or(u32::MAX))
    }
}

/// A message on its way to one client.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) message: Arc<Message>,
    pub(crate) subscription_ids: Vec<usize>,
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
}

/// Published for a client whose connection ends without a DISCONNECT.
#[derive(Clone, Debug)]
pub(crate) struct Will {
    pub(crate) message: Message,
    pub(crate) delay: Duration,
}
