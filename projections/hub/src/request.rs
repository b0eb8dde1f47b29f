//! What a gateway is asked, and why there is no answer.

use std::time::Duration;

use bytes::Bytes;
use fieldlog_projections::TraceParent;

/// What a gateway is asked.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) body: Bytes,
    /// How long it may take to be answered.
    pub(crate) wait: Duration,
    /// How long a broker may keep it for a gateway that is away.
    pub(crate) expiry: Duration,
    /// The trace that it belongs to.
    pub(crate) traceparent: Option<TraceParent>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Silence {
    /// It has certainly not arrived.
    #[error("no gateway listens on `{0}`: it is away, or its sink has no [sink.commands] for that place")]
    Nobody(String),
    /// There is no server to ask.
    #[error("this hub is not connected to a server over which gateways take commands")]
    Unconnected,
    /// The broker cannot be asked.
    #[error("{0}: {1}")]
    Away(String, String),
    /// The server does not let the hub ask; nothing has arrived.
    #[error("the broker refuses what is published on `{0}` ({1}): allow the hub's user to publish there")]
    Refused(String, String),
    /// Whether it has arrived is unknown.
    #[error("nobody has answered on `{0}` within {1} s")]
    Late(String, u64),
    /// The device has no place on this server.
    #[error("`{0}` can be neither a subject of NATS nor a topic of MQTT")]
    Unsaid(String),
}
