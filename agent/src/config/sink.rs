//! `[[sink]]`: destinations of events, and how to forward to them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::ser::Error;
use serde::{Serialize, Serializer};

use super::written::{self, Table, table_of};
use super::{Address, Protocol, TlsConfig, WillConfig};
use fieldlog_rules::choice;

mod commands;
mod place;
mod read;
mod target;

pub use commands::{MqttCommands, NatsCommands};
pub(super) use read::{read_all, takes};

/// The order in which a sink gets the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Fresh events first, the backlog in parallel. In order within each lane.
    LiveFirst,
    /// By position, strictly.
    Strict,
}

choice!(Order { "live-first" => Order::LiveFirst, "strict" => Order::Strict });

/// How to treat events that a sink refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RefusedPolicy {
    /// They count as not delivered: they are offered again, and keep the log of a required sink.
    #[default]
    Keep,
    /// They count as delivered.
    Release,
}

choice!(RefusedPolicy { "keep" => RefusedPolicy::Keep, "release" => RefusedPolicy::Release });

/// One `[[sink]]`: a receiver of events.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SinkConfig {
    /// `name`: unique among the sinks, `[a-z0-9_-]{1,32}`. The sink's acknowledged position is stored under it.
    pub name: String,
    /// `address`, with the keys of its scheme.
    #[serde(rename = "address", serialize_with = "written_address")]
    pub target: SinkTarget,
    /// `format`: `json` (default) or `compact`; Kafka takes only `json`.
    pub format: SinkFormat,
    /// `order`: `live-first` (default; NATS: `strict`) or `strict`.
    pub order: Order,
    /// `priority` (default empty): names of event types that are sent ahead of the queue. Not with `strict`, not with
    /// NATS.
    pub priority: Vec<String>,
    /// `backlog_share` (0.05–0.95; default 0.5): share of the bytes for the backlog while there are fresh events. Not
    /// with `strict`.
    pub backlog_share: f64,
    /// `bandwidth_bytes_per_s` (0, or 100–10,000,000,000; default 0: no limit).
    #[serde(serialize_with = "written::or_zero")]
    pub bandwidth_bytes_per_s: Option<u64>,
    /// `parcel_events_max` (1–10,000; default 500).
    pub parcel_events_max: u32,
    /// `parcel_bytes_max` (1,024–16,777,216; default 262,144).
    pub parcel_bytes_max: usize,
    /// `parcel_delay_ms` (0–60,000; default 10): how long a fresh event may wait, after its commit, for others.
    #[serde(rename = "parcel_delay_ms", serialize_with = "written::milliseconds")]
    pub parcel_delay: Duration,
    /// `in_flight_max` (1–64; default 4): maximum unanswered parcels.
    pub in_flight_max: u16,
    /// `required` (default true): retention keeps what this sink has not acknowledged.
    pub required: bool,
    /// `refused`: `keep` (default) or `release`: how to treat events that the sink refuses.
    pub refused: RefusedPolicy,
    /// `devices` and `types`: what is sent.
    #[serde(flatten)]
    pub filter: SinkFilter,
    /// `connect_timeout_s` (1–300; default 20): TCP, TLS and the protocol's greeting together.
    #[serde(rename = "connect_timeout_s", serialize_with = "written::seconds")]
    pub connect_timeout: Duration,
    /// `answer_timeout_s` (1–600; default 30): a sink that does not answer within this time counts as lost.
    #[serde(rename = "answer_timeout_s", serialize_with = "written::seconds")]
    pub answer_timeout: Duration,
    /// `backoff_max_s` (1–3,600; default 60): longest wait between attempts.
    #[serde(rename = "backoff_max_s", serialize_with = "written::seconds")]
    pub backoff_max: Duration,
}

/// The sink's address, with the keys of its protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum SinkTarget {
    /// `mqtt://` and `mqtts://`.
    Mqtt(MqttSink),
    /// `http://` and `https://`.
    Http(HttpSink),
    /// `nats://` and `tls://`.
    Nats(NatsSink),
    /// `kafka://` and `kafkas://`.
    Kafka(KafkaSink),
}

/// An MQTT broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MqttSink {
    /// `mqtt://host[:1883]` or `mqtts://host[:8883]`.
    #[serde(skip)]
    pub address: Address,
    /// `protocol`: 5 (default, MQTT 5) or 4 (MQTT 3.1.1).
    pub protocol: Protocol,
    /// `topic` (default `fieldlog/{gateway}/events`): `{gateway}`, `{lane}` and `{epoch}` are replaced.
    pub topic: String,
    /// `client_id` (default `fieldlog-<gateway_id>-sink-<name>`): unique at the broker.
    pub client_id: String,
    /// `username` (default empty: none).
    #[serde(serialize_with = "written::or_empty")]
    pub username: Option<String>,
    /// `password_file` (default empty): a file, or the name of a systemd credential. Read at each connection attempt.
    #[serde(serialize_with = "written::or_empty")]
    pub password_file: Option<PathBuf>,
    /// `keep_alive_s` (5–3,600; default 30).
    #[serde(rename = "keep_alive_s", serialize_with = "written::seconds")]
    pub keep_alive: Duration,
    /// `packet_bytes_max` (1,024–268,435,455; default 268,435,455): maximum packet size; a smaller limit announced by
    /// the broker overrides it.
    pub packet_bytes_max: u32,
    /// `[sink.tls]`; only with `mqtts://`.
    #[serde(skip_serializing_if = "TlsConfig::is_default")]
    pub tls: TlsConfig,
    /// `[sink.will]` (default none): publishes on a retained topic whether this sink is connected; `{gateway}` is
    /// replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub will: Option<WillConfig>,
    /// `[sink.commands]` (default none): commands are taken from this broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commands: Option<MqttCommands>,
}

/// An HTTP server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HttpSink {
    /// `http://host[:80]` or `https://host[:443]`.
    #[serde(skip)]
    pub address: Address,
    /// The rest of the URL: at least `/`, with the query. It may contain a secret, so only [`HttpSink::url`] uses it.
    #[serde(skip)]
    pub path: String,
    /// `token_file` (default empty: none): bearer token; a file, or the name of a systemd credential.
    #[serde(serialize_with = "written::or_empty")]
    pub token_file: Option<PathBuf>,
    /// `gzip` (default true): compress JSON. Not with `compact`.
    pub gzip: bool,
    /// `[sink.tls]`; only with `https://`.
    #[serde(skip_serializing_if = "TlsConfig::is_default")]
    pub tls: TlsConfig,
}

/// A NATS server with JetStream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NatsSink {
    /// `nats://host[:4222]`, or `tls://host[:4222]`.
    #[serde(skip)]
    pub address: Address,
    /// `subject` (default `fieldlog.{gateway}.events`): `{gateway}` (its dots as underscores), `{lane}` and `{epoch}`
    /// are replaced.
    pub subject: String,
    /// `stream` (default `FIELDLOG`).
    pub stream: String,
    /// `create_stream` (default true): create it if the server has none of this name.
    pub create_stream: bool,
    /// `credentials_file` (default empty: none): a JWT and its seed. At most one of this, `token_file` and `username`.
    #[serde(serialize_with = "written::or_empty")]
    pub credentials_file: Option<PathBuf>,
    /// `token_file` (default empty: none).
    #[serde(serialize_with = "written::or_empty")]
    pub token_file: Option<PathBuf>,
    /// `username` (default empty: none), with `password_file`.
    #[serde(serialize_with = "written::or_empty")]
    pub username: Option<String>,
    /// `password_file`; like the other files, it may be the name of a systemd credential.
    #[serde(serialize_with = "written::or_empty")]
    pub password_file: Option<PathBuf>,
    /// `[sink.tls]`; only with `tls://`, and without `server_name`.
    #[serde(skip_serializing_if = "TlsConfig::is_default")]
    pub tls: TlsConfig,
    /// `[sink.commands]` (default none): commands are taken from this server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commands: Option<NatsCommands>,
}

/// A Kafka cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KafkaSink {
    /// `kafka://host[:9092][,host…]`, or `kafkas://host[:9093][,host…]`: the bootstrap brokers; at least one, and all
    /// with TLS or none.
    #[serde(skip)]
    pub brokers: Vec<Address>,
    /// `kafka_topic` (default `fieldlog`).
    #[serde(rename = "kafka_topic")]
    pub topic: String,
    /// `username` (default empty: none), with `password_file`.
    #[serde(serialize_with = "written::or_empty")]
    pub username: Option<String>,
    /// `password_file`; may be the name of a systemd credential. Read at each connection attempt.
    #[serde(serialize_with = "written::or_empty")]
    pub password_file: Option<PathBuf>,
    /// `sasl` (default `scram-sha-512`): how the password is used. `plain` only with `kafkas://`.
    pub sasl: SaslMechanism,
    /// `[sink.tls]`; only with `kafkas://`, and without `server_name`.
    #[serde(skip_serializing_if = "TlsConfig::is_default")]
    pub tls: TlsConfig,
}

/// How a password is presented to a Kafka cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SaslMechanism {
    /// As it is.
    Plain,
    /// SCRAM with SHA-256: the password does not leave this machine.
    ScramSha256,
    /// SCRAM with SHA-512.
    #[default]
    ScramSha512,
}

choice!(SaslMechanism {
    "plain" => SaslMechanism::Plain,
    "scram-sha-256" => SaslMechanism::ScramSha256,
    "scram-sha-512" => SaslMechanism::ScramSha512,
});

/// The format of a parcel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkFormat {
    /// CloudEvents, JSON.
    Json,
    /// The stored records, compressed.
    Compact,
}

choice!(SinkFormat { "json" => SinkFormat::Json, "compact" => SinkFormat::Compact });

/// Which events are sent; all if nothing is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SinkFilter {
    /// `devices` (default empty: all): patterns on the device id. If any are set, events about no device are not sent.
    pub devices: Vec<String>,
    /// `types` (default empty: all): names of event types that this version knows.
    pub types: Vec<String>,
}

/// Serialises sinks as tables. Keys without effect beside the others are left out, since they would be faults when read
/// back.
pub(super) fn written<S: Serializer>(sinks: &[SinkConfig], serializer: S) -> Result<S::Ok, S::Error> {
    let tables: Result<Vec<Table>, S::Error> =
        sinks.iter().map(|sink| sink.table().map_err(S::Error::custom)).collect();
    tables?.serialize(serializer)
}

fn written_address<S: Serializer>(target: &SinkTarget, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&target.address())
}

impl SinkConfig {
    fn table(&self) -> Result<Table, toml::ser::Error> {
        let mut table = table_of(self)?;
        table.extend(table_of(&self.target)?);
        let without_effect = [
            ("backlog_share", self.order == Order::Strict),
            ("gzip", self.format == SinkFormat::Compact),
            ("sasl", matches!(&self.target, SinkTarget::Kafka(kafka) if kafka.username.is_none())),
        ];
        table.retain(|key, _| !without_effect.contains(&(key, true)));
        Ok(table)
    }
}

impl SinkFormat {
    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            SinkFormat::Json => "json",
            SinkFormat::Compact => "compact",
        }
    }
}

impl SinkTarget {
    /// `address`, as in the configuration.
    fn address(&self) -> String {
        match self {
            SinkTarget::Http(http) => http.url(),
            SinkTarget::Mqtt(_) | SinkTarget::Nats(_) | SinkTarget::Kafka(_) => self.to_string(),
        }
    }

    /// The feature that this build lacks for the protocol, and what it adds.
    pub(super) fn missing_feature(&self) -> Option<(&'static str, &'static str)> {
        match self {
            SinkTarget::Nats(_) if !cfg!(feature = "nats") => Some(("nats", "NATS")),
            SinkTarget::Kafka(_) if !cfg!(feature = "kafka") => Some(("kafka", "Kafka")),
            SinkTarget::Mqtt(_) | SinkTarget::Http(_) | SinkTarget::Nats(_) | SinkTarget::Kafka(_) => None,
        }
    }
}

fn with_scheme(plain: &str, tls: &str, address: &Address) -> String {
    format!("{}://{}", if address.tls { tls } else { plain }, address.host_and_port())
}

impl fmt::Display for SinkTarget {
    /// The configured address, without the path, which may contain a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SinkTarget::Mqtt(mqtt) => f.write_str(&with_scheme("mqtt", "mqtts", &mqtt.address)),
            SinkTarget::Http(http) => f.write_str(&with_scheme("http", "https", &http.address)),
            SinkTarget::Nats(nats) => f.write_str(&nats.url()),
            SinkTarget::Kafka(kafka) => {
                let scheme = if kafka.is_tls() { "kafkas" } else { "kafka" };
                write!(f, "{scheme}://{}", kafka.hosts().join(","))
            }
        }
    }
}

impl KafkaSink {
    /// Whether the brokers are reached over TLS.
    pub fn is_tls(&self) -> bool {
        self.brokers.iter().any(|broker| broker.tls)
    }

    /// `host:port` of each broker, IPv6 addresses in brackets.
    pub fn hosts(&self) -> Vec<String> {
        self.brokers.iter().map(Address::host_and_port).collect()
    }
}

impl HttpSink {
    /// The URL to post to; it may contain a secret.
    pub fn url(&self) -> String {
        format!("{}{}", self.origin(), self.path)
    }

    /// The server to post to, `https://host[:port]`.
    pub fn origin(&self) -> String {
        let scheme = if self.address.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }

    /// `host[:port]`. A default port is left out, because servers compare the Host field.
    pub fn authority(&self) -> String {
        let authority = self.address.host_and_port();
        let default_port = if self.address.tls { ":443" } else { ":80" };
        authority.strip_suffix(default_port).unwrap_or(&authority).to_owned()
    }
}

impl NatsSink {
    /// `nats://host:port`, or `tls://host:port`.
    pub fn url(&self) -> String {
        with_scheme("nats", "tls", &self.address)
    }
}
