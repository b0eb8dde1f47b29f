//! `[[sink]]`: where events are forwarded to, and how.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::show::host_and_port;
use super::{Address, Protocol, TlsConfig, WillConfig};

mod differ;
mod read;
mod show;
mod target;

pub(super) use read::read_all;

/// In which order a sink wants the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Fresh events first, the backlog beside them. In order within each lane.
    LiveFirst,
    /// By position, strictly.
    Strict,
}

/// What an operator wants to become of events that a sink refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RefusedPolicy {
    /// They count as not delivered: they are offered again, and keep the log of a required sink.
    #[default]
    Keep,
    /// They count as delivered.
    Release,
}

/// One `[[sink]]`: a receiver of events.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkConfig {
    /// `name`: unique among the sinks, `[a-z0-9_-]{1,32}`. What the sink has acknowledged is remembered under it.
    pub name: String,
    /// `address`, with the keys that belong to its scheme.
    pub target: SinkTarget,
    /// `format`: `json` (default) or `compact`; Kafka takes only `json`.
    pub format: SinkFormat,
    /// `order`: `live-first` (default; NATS: `strict`) or `strict`.
    pub order: Order,
    /// `priority` (default empty): names of event types that go ahead of their turn. Not with `strict`, not with NATS.
    pub priority: Vec<String>,
    /// `backlog_share` (0.05–0.95; default 0.5): share of the bytes for the backlog while there are fresh events, too.
    /// Not with `strict`.
    pub backlog_share: f64,
    /// `bandwidth_bytes_per_s` (0, or 100–10,000,000,000; default 0: no limit).
    pub bandwidth_bytes_per_s: Option<u64>,
    /// `parcel_events_max` (1–10,000; default 500).
    pub parcel_events_max: u32,
    /// `parcel_bytes_max` (1,024–16,777,216; default 262,144).
    pub parcel_bytes_max: usize,
    /// `parcel_delay_ms` (0–60,000; default 10): how long a fresh event may wait for company, after its commit.
    pub parcel_delay: Duration,
    /// `in_flight_max` (1–64; default 4): parcels that may wait for the sink's answer at once.
    pub in_flight_max: u16,
    /// `required` (default true): retention keeps what this sink has not acknowledged.
    pub required: bool,
    /// `refused`: `keep` (default) or `release`: what becomes of events that the sink refuses.
    pub refused: RefusedPolicy,
    /// `devices` and `types`: what is sent.
    pub filter: SinkFilter,
    /// `connect_timeout_s` (1–300; default 20): TCP, TLS and the protocol's greeting together.
    pub connect_timeout: Duration,
    /// `answer_timeout_s` (1–600; default 30): a sink that answers nothing for so long counts as lost.
    pub answer_timeout: Duration,
    /// `backoff_max_s` (1–3,600; default 60): longest wait between attempts.
    pub backoff_max: Duration,
}

/// Where a sink is, and what only its protocol knows.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MqttSink {
    /// `mqtt://host[:1883]` or `mqtts://host[:8883]`.
    pub address: Address,
    /// `protocol`: 5 (default, MQTT 5) or 4 (MQTT 3.1.1).
    pub protocol: Protocol,
    /// `topic` (default `fieldlog/{gateway}/events`): `{gateway}`, `{lane}` and `{epoch}` stand for what they name.
    pub topic: String,
    /// `client_id` (default `fieldlog-<gateway_id>-sink-<name>`): unique at the broker.
    pub client_id: String,
    /// `username` (default empty: none).
    pub username: Option<String>,
    /// `password_file` (default empty): a file, or the name of a systemd credential. Read at each connection attempt.
    pub password_file: Option<PathBuf>,
    /// `keep_alive_s` (5–3,600; default 30).
    pub keep_alive: Duration,
    /// `packet_bytes_max` (1,024–268,435,455; default 268,435,455): largest packet that is sent; a broker that names a
    /// smaller limit gets smaller ones.
    pub packet_bytes_max: u32,
    /// `[sink.tls]`; only with `mqtts://`.
    pub tls: TlsConfig,
    /// `[sink.will]` (default none): whether this sink is connected, on a retained topic; `{gateway}` is filled in.
    pub will: Option<WillConfig>,
}

/// An HTTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSink {
    /// `http://host[:80]` or `https://host[:443]`.
    pub address: Address,
    /// What follows it in the URL: `/` at least, with the query. It may hold a secret: for [`HttpSink::url`] only.
    pub path: String,
    /// `token_file` (default empty: none): bearer token; a file, or the name of a systemd credential.
    pub token_file: Option<PathBuf>,
    /// `gzip` (default true): compress JSON. Not with `compact`.
    pub gzip: bool,
    /// `[sink.tls]`; only with `https://`.
    pub tls: TlsConfig,
}

/// A NATS server with JetStream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsSink {
    /// `nats://host[:4222]`, or `tls://host[:4222]`.
    pub address: Address,
    /// `subject` (default `fieldlog.{gateway}.events`): `{gateway}` (its dots as underscores), `{lane}` and `{epoch}` stand
    /// for what they name.
    pub subject: String,
    /// `stream` (default `FIELDLOG`).
    pub stream: String,
    /// `create_stream` (default true): create it if the server has none of this name.
    pub create_stream: bool,
    /// `credentials_file` (default empty: none): a JWT and its seed. At most one of this, `token_file` and `username`.
    pub credentials_file: Option<PathBuf>,
    /// `token_file` (default empty: none).
    pub token_file: Option<PathBuf>,
    /// `username` (default empty: none), with `password_file`.
    pub username: Option<String>,
    /// `password_file`; like the other files, it may be named as a systemd credential.
    pub password_file: Option<PathBuf>,
    /// `[sink.tls]`; only with `tls://`, and without `server_name`.
    pub tls: TlsConfig,
}

/// A Kafka cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaSink {
    /// `kafka://host[:9092][,host…]`, or `kafkas://host[:9093][,host…]`: the brokers that are asked for all others; at
    /// least one, and all with TLS or none.
    pub brokers: Vec<Address>,
    /// `kafka_topic` (default `fieldlog`).
    pub topic: String,
    /// `username` (default empty: none), with `password_file`.
    pub username: Option<String>,
    /// `password_file`; it may be named as a systemd credential. Read at each connection attempt.
    pub password_file: Option<PathBuf>,
    /// `sasl` (default `scram-sha-512`): how the password is used. `plain` only with `kafkas://`.
    pub sasl: SaslMechanism,
    /// `[sink.tls]`; only with `kafkas://`, and without `server_name`.
    pub tls: TlsConfig,
}

/// How a password is shown to a Kafka cluster.
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

/// How a parcel is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkFormat {
    /// CloudEvents, JSON.
    Json,
    /// The stored records, compressed.
    Compact,
}

/// Which events are sent; nothing named means all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkFilter {
    /// `devices` (default empty: all): patterns on the device id. With some, events about no
    /// device stay out.
    pub devices: Vec<String>,
    /// `types` (default empty: all): names of event types that this version knows.
    pub types: Vec<String>,
}

impl SinkFormat {
    /// As it is written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            SinkFormat::Json => "json",
            SinkFormat::Compact => "compact",
        }
    }
}

impl SinkTarget {
    /// `address`, as it is written in the configuration.
    fn address(&self) -> String {
        match self {
            SinkTarget::Http(http) => http.url(),
            SinkTarget::Mqtt(_) | SinkTarget::Nats(_) | SinkTarget::Kafka(_) => self.to_string(),
        }
    }

    /// The feature that this build lacks to send there, and what it would bring.
    pub(super) fn missing_feature(&self) -> Option<(&'static str, &'static str)> {
        match self {
            SinkTarget::Nats(_) if !cfg!(feature = "nats") => Some(("nats", "NATS")),
            SinkTarget::Kafka(_) if !cfg!(feature = "kafka") => Some(("kafka", "Kafka")),
            SinkTarget::Mqtt(_) | SinkTarget::Http(_) | SinkTarget::Nats(_) | SinkTarget::Kafka(_) => None,
        }
    }
}

fn with_scheme(plain: &str, tls: &str, address: &Address) -> String {
    format!("{}://{}", if address.tls { tls } else { plain }, host_and_port(address))
}

impl fmt::Display for SinkTarget {
    /// The address as it is configured, without the path, which may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SinkTarget::Mqtt(mqtt) => f.write_str(&with_scheme("mqtt", "mqtts", &mqtt.address)),
            SinkTarget::Http(http) => f.write_str(&with_scheme("http", "https", &http.address)),
            SinkTarget::Nats(nats) => f.write_str(&with_scheme("nats", "tls", &nats.address)),
            SinkTarget::Kafka(kafka) => {
                let scheme = if kafka.is_tls() { "kafkas" } else { "kafka" };
                write!(f, "{scheme}://{}", kafka.hosts().join(","))
            }
        }
    }
}

impl KafkaSink {
    /// Whether the brokers are spoken to over TLS.
    pub fn is_tls(&self) -> bool {
        self.brokers.iter().any(|broker| broker.tls)
    }

    /// `host:port` of each broker, IPv6 addresses in brackets.
    pub fn hosts(&self) -> Vec<String> {
        self.brokers.iter().map(host_and_port).collect()
    }
}

impl HttpSink {
    /// The URL that is posted to. The port is left out where it goes without saying: servers compare the Host field.
    pub fn url(&self) -> String {
        let address = with_scheme("http", "https", &self.address);
        let default_port = if self.address.tls { ":443" } else { ":80" };
        format!("{}{}", address.strip_suffix(default_port).unwrap_or(&address), self.path)
    }
}
