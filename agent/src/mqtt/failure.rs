//! Why a connection failed or ended: in words, as a label for metrics, and when to try again.

use std::io;
use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::DisconnectReasonCode;

use crate::config::SourceConfig;
use crate::mqtt::frame::FrameError;
use crate::mqtt::publish::Violation;
use crate::net::backoff::Pace;
use crate::net::failure::{ConnectError, causes};
use crate::net::secret::SecretError;

impl Failure {
    /// The reason as one word, for metrics.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Failure::Secret(_) => "secret",
            Failure::Connect(error) => error.label(),
            Failure::TlsPort { .. } => "tls",
            Failure::TimedOut { .. } => "timeout",
            Failure::Refused { code: 0x86 | 0x87 | 0x8a | 0x8c, .. } => "not_authorized",
            Failure::Refused { .. } | Failure::Mqtt5Unknown | Failure::NoWildcards { .. } => "refused",
            Failure::Disconnected { code: SESSION_TAKEN_OVER, .. } => "session_taken_over",
            Failure::Disconnected { .. } => "disconnected",
            Failure::Closed => "closed",
            Failure::Io(_) => "io",
            Failure::NoAnswer { .. } | Failure::NoSuback { .. } | Failure::NoPuback { .. } => "no_answer",
            Failure::WriteStalled { .. } => "write_stalled",
            Failure::Frame(_) | Failure::Malformed(_) => "malformed",
            Failure::Violation(_) | Failure::Unexpected(_) => "protocol",
            Failure::Encode(_) => "encode",
        }
    }

    /// When to try again.
    pub(crate) fn pace(&self) -> Pace {
        match self {
            Failure::Secret(_)
            | Failure::TlsPort { .. }
            | Failure::Mqtt5Unknown
            | Failure::NoWildcards { .. }
            | Failure::Violation(_)
            | Failure::Encode(_)
            // Unsupported version, client identifier, credentials, authorization, banned, authentication method, retain
            // or QoS of the will, server moved: none of these resolves by itself.
            | Failure::Refused { code: 0x84..=0x87 | 0x8a | 0x8c | 0x90 | 0x9a | 0x9b | 0x9d, .. }
            | Failure::Disconnected { code: 0x87 | SESSION_TAKEN_OVER | 0x9d, .. } => Pace::Slow,
            Failure::TimedOut { .. } => Pace::Unreached,
            Failure::Connect(error) => error.pace(),
            _ => Pace::Soon,
        }
    }

    /// The reason code for an MQTT 5 broker before disconnecting, if there is one.
    pub(crate) fn farewell(&self) -> Option<DisconnectReasonCode> {
        match self {
            Failure::Frame(_) | Failure::Malformed(_) => Some(DisconnectReasonCode::MalformedPacket),
            Failure::Violation(Violation::TopicAlias) => Some(DisconnectReasonCode::TopicAliasInvalid),
            Failure::Violation(Violation::Qos2) => Some(DisconnectReasonCode::QoSNotSupported),
            Failure::Unexpected(_) => Some(DisconnectReasonCode::ProtocolError),
            Failure::NoWildcards { .. } => Some(DisconnectReasonCode::NormalDisconnection),
            _ => None,
        }
    }

    /// What to do if the same failure follows each CONNACK.
    pub(crate) fn advice(&self, config: &SourceConfig) -> String {
        let client_id = &config.client_id;
        let hint = match self {
            Failure::Closed | Failure::Io(_) => format!(
                "look into the broker's log; the usual causes are another client with client_id `{client_id}`, or an access \
                 rule against one of the subscriptions"
            ),
            Failure::Frame(_) | Failure::Malformed(_) => format!(
                "the broker keeps sending a packet that cannot be read; as a last resort delete the session of client_id \
                 `{client_id}` at the broker, or choose another `client_id`"
            ),
            Failure::Violation(_) => {
                format!("choose another `client_id` than `{client_id}`, which starts a new session")
            }
            Failure::NoSuback { .. } => {
                "check that the broker's access rules allow the subscriptions".to_owned()
            }
            other => return other.chain(client_id),
        };
        format!(
            "source `{}`: the connection fails each time right after it was accepted: {hint}",
            config.name
        )
    }

    /// The failure with its causes, in one line. Includes the client identifier where it matters.
    pub(crate) fn chain(&self, client_id: &str) -> String {
        if let Failure::Disconnected { code: SESSION_TAKEN_OVER, .. } = self {
            return format!(
                "another client uses client_id `{client_id}`: set `client_id` of one of them to another name"
            );
        }
        causes(self)
    }
}

const SESSION_TAKEN_OVER: u8 = 0x8e;

/// The reason code of an MQTT 5 packet in words.
pub(crate) fn reason(code: u8) -> &'static str {
    match code {
        0x00 => "normal disconnection",
        0x81 => "malformed packet",
        0x82 => "protocol error",
        0x83 => "error specific to this broker",
        0x84 => "protocol version not supported (see `protocol`)",
        0x85 => "client identifier not accepted (see `client_id`)",
        0x86 => "bad user name or password (see `username` and `password_file`)",
        0x87 => "not authorized (see the broker's access rules)",
        0x88 => "server unavailable",
        0x89 => "server busy",
        0x8a => "banned by the broker's administrator",
        0x8b => "server shutting down",
        0x8c => "bad authentication method",
        0x8d => "keep-alive timeout",
        SESSION_TAKEN_OVER => "session taken over by another client",
        0x8f => "topic filter not accepted",
        0x90 => "topic name not accepted",
        0x91 => "packet identifier in use",
        0x93 => "receive maximum exceeded",
        0x94 => "topic alias invalid",
        0x95 => "packet too large",
        0x96 => "message rate too high",
        0x97 => "quota exceeded",
        0x98 => "administrative action",
        0x99 => "payload format invalid",
        0x9a => "retained messages not supported (remove the will)",
        0x9b => "quality of service not supported",
        0x9c => "use another server",
        0x9d => "server moved (see `address`)",
        0x9e => "shared subscriptions not supported",
        0x9f => "connection rate exceeded",
        0xa0 => "maximum connect time reached",
        0xa1 => "subscription identifiers not supported",
        0xa2 => "wildcard subscriptions not supported",
        _ => "unspecified error",
    }
}

/// The reason code of a CONNACK in words. Most brokers say "not authorized" of a wrong password.
fn refusal(code: u8) -> &'static str {
    match code {
        0x87 => {
            "not authorized: check `username` and `password_file`; if they are right, the broker does not allow this client \
             (see its access rules)"
        }
        other => reason(other),
    }
}

/// Why a connection failed or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{address} did not answer within {} s (TCP, TLS and CONNACK together, see `connect_timeout_s`)", limit.as_secs_f32())]
    TimedOut { address: String, limit: Duration },
    #[error(
        "{address} speaks TLS, and the address asks for none: begin `address` with `mqtts://`, or give the port without TLS \
         (usually 1883)"
    )]
    TlsPort { address: String },
    #[error("the broker refused the connection: {}{detail}", refusal(*code))]
    Refused { code: u8, detail: String },
    #[error("the broker does not speak MQTT 5: set `protocol = 4`")]
    Mqtt5Unknown,
    #[error("the broker allows no wildcard subscriptions, and the rules need them: {filters}")]
    NoWildcards { filters: String },
    #[error("the broker disconnected: {}{detail}", reason(*code))]
    Disconnected { code: u8, detail: String },
    #[error("the broker closed the connection without giving a reason")]
    Closed,
    #[error("the connection broke")]
    Io(#[source] io::Error),
    #[error("no answer from the broker for {} s after a ping", waited.as_secs_f32())]
    NoAnswer { waited: Duration },
    #[error("the broker did not answer the subscriptions within {} s", waited.as_secs_f32())]
    NoSuback { waited: Duration },
    #[error("the broker has acknowledged nothing for {} s", waited.as_secs_f32())]
    NoPuback { waited: Duration },
    #[error("the broker has read nothing from fieldlog for {} s", waited.as_secs_f32())]
    WriteStalled { waited: Duration },
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the broker sent a malformed {0}")]
    Malformed(&'static str),
    #[error("the broker sent {}", match .0 {
        Violation::Qos2 => "a QoS 2 message, but fieldlog never subscribes with QoS 2: the session holds another \
                            client's subscription; choose another `client_id`",
        Violation::TopicAlias => "a topic alias, which CONNECT does not allow",
    })]
    Violation(Violation),
    #[error("the broker sent {0}")]
    Unexpected(&'static str),
    #[error("a packet cannot be written: {0}")]
    Encode(String),
}

impl From<rumqttc::mqttbytes::Error> for Failure {
    fn from(error: rumqttc::mqttbytes::Error) -> Failure {
        Failure::Encode(error.to_string())
    }
}

impl From<rumqttc::v5::mqttbytes::Error> for Failure {
    fn from(error: rumqttc::v5::mqttbytes::Error) -> Failure {
        Failure::Encode(error.to_string())
    }
}
