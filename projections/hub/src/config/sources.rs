//! The streams that gateways send to.

use std::path::PathBuf;

use serde::Deserialize;

use super::read_secret;

/// A stream of NATS JetStream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nats {
    /// `nats://` or `tls://`, host and port.
    pub address: String,
    /// The stream.
    pub stream: String,
    /// What the names of the durable consumers begin with, its own for each database.
    pub consumer: String,
    /// What its subjects look like, with `*` for what differs.
    pub(crate) pattern: String,
    /// Which token of a subject is the gateway, from 0.
    pub(crate) gateway_token: usize,
    /// The subjects on which gateways take commands, with `{gateway}`.
    pub(crate) commands: String,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) credentials_file: Option<PathBuf>,
    pub(crate) token_file: Option<PathBuf>,
}

/// A topic of Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kafka {
    /// As it was written.
    pub address: String,
    /// Host and port of each broker to begin with.
    pub(crate) brokers: Vec<String>,
    pub(crate) tls: bool,
    /// The topic.
    pub topic: String,
    pub(crate) login: Option<Login>,
    pub(crate) sasl: Sasl,
    pub(crate) ca_file: Option<PathBuf>,
}

/// A broker of MQTT 5.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mqtt {
    /// As it was written.
    pub address: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: bool,
    /// What is subscribed to.
    pub filter: String,
    /// The topics on which gateways take commands, with `{gateway}`.
    pub(crate) commands: String,
    /// The name of the session that the broker keeps.
    pub(crate) client_id: String,
    /// How long it keeps the session while nobody reads, in seconds.
    pub(crate) session_expiry_s: u32,
    pub(crate) login: Option<Login>,
    pub(crate) ca_file: Option<PathBuf>,
}

/// A user, and where the password is read at each connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) username: String,
    pub(crate) password_file: PathBuf,
}

/// How a password is shown to Kafka.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum Sasl {
    #[default]
    #[serde(rename = "plain")]
    Plain,
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNats {
    address: String,
    #[serde(default = "stream")]
    stream: String,
    #[serde(default = "own_name")]
    consumer: String,
    #[serde(default = "subject")]
    subject: String,
    #[serde(default = "commands")]
    commands: String,
    ca_file: Option<PathBuf>,
    credentials_file: Option<PathBuf>,
    token_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKafka {
    address: String,
    #[serde(default = "fieldlog")]
    topic: String,
    username: Option<String>,
    password_file: Option<PathBuf>,
    sasl: Option<Sasl>,
    ca_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMqtt {
    address: String,
    #[serde(default = "topic")]
    topic: String,
    #[serde(default = "command_topic")]
    commands: String,
    #[serde(default = "own_name")]
    client_id: String,
    #[serde(default = "thirty_days")]
    session_expiry_s: u32,
    username: Option<String>,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
}

fn topic() -> String {
    "fieldlog/{gateway}/events".into()
}

fn command_topic() -> String {
    "fieldlog/{gateway}/commands/#".into()
}

fn own_name() -> String {
    "fieldlog-hub".into()
}

fn thirty_days() -> u32 {
    2_592_000
}

fn stream() -> String {
    "FIELDLOG".into()
}

fn subject() -> String {
    "fieldlog.{gateway}.events".into()
}

fn commands() -> String {
    "fieldlog.commands.{gateway}.>".into()
}

fn fieldlog() -> String {
    "fieldlog".into()
}

/// `None` and a fault if its subject does not say where the gateway is.
pub(super) fn nats(raw: RawNats, faults: &mut Vec<String>) -> Option<Nats> {
    if !raw.address.starts_with("nats://") && !raw.address.starts_with("tls://") {
        faults.push(format!("`nats.address` is {:?}; write it like \"nats://127.0.0.1:4222\"", raw.address));
    }
    if raw.credentials_file.is_some() && raw.token_file.is_some() {
        faults.push("of `nats.credentials_file` and `nats.token_file` only one can be used".into());
    }
    for file in [&raw.credentials_file, &raw.token_file].into_iter().flatten() {
        if let Err(error) = read_secret(file) {
            faults.push(format!("`nats`: {error}"));
        }
    }
    let gateway_token = raw.subject.split('.').position(|token| token == "{gateway}");
    if gateway_token.is_none() {
        faults.push(format!(
            "`nats.subject` is {:?}; it must be that of the gateways' sinks, with {{gateway}} between dots",
            raw.subject
        ));
    }
    if !is_consumer(&raw.consumer) {
        faults.push(format!(
            "`nats.consumer` is {:?}; it must be 1 to 60 letters, digits, `-` and `_`: NATS allows no dots in it",
            raw.consumer
        ));
    }
    if !raw.commands.ends_with(".>") || !raw.commands.split('.').any(|token| token == "{gateway}") {
        faults.push(format!(
            "`nats.commands` is {:?}; it must be that of [sink.commands] of the gateways' sinks, with {{gateway}} between dots \
             and .> at its end",
            raw.commands
        ));
    }
    Some(Nats {
        commands: raw.commands,
        pattern: ["{gateway}", "{lane}", "{epoch}"]
            .iter()
            .fold(raw.subject, |text, name| text.replace(name, "*")),
        gateway_token: gateway_token?,
        address: raw.address,
        stream: raw.stream,
        consumer: raw.consumer,
        ca_file: raw.ca_file,
        credentials_file: raw.credentials_file,
        token_file: raw.token_file,
    })
}

/// The beginning of a name of a consumer.
fn is_consumer(name: &str) -> bool {
    super::is_name(name) && !name.contains('.')
}

pub(super) fn kafka(raw: RawKafka, faults: &mut Vec<String>) -> Option<Kafka> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !(1..=249).contains(&raw.topic.len()) || !raw.topic.bytes().all(good) {
        faults.push(format!(
            "`kafka.topic` is {:?}; it must be 1 to 249 letters, digits, `.`, `-` and `_`: the `kafka_topic` of the sinks",
            raw.topic
        ));
    }
    let login = login("kafka", raw.username, raw.password_file, faults);
    let schemes = [("kafka://", false), ("kafkas://", true)];
    let parsed = split(&raw.address, &schemes).and_then(|(rest, tls)| {
        let port = if tls { 9093 } else { 9092 };
        let brokers = rest.split(',').map(|broker| host_and_port(broker.trim(), port));
        brokers.collect::<Option<Vec<_>>>().map(|brokers| (brokers, tls))
    });
    let Some((brokers, tls)) = parsed else {
        faults.push(format!(
            "`kafka.address` is {:?}; write it like \"kafka://host:9092,host2:9092\", or with TLS \"kafkas://host:9093\"; user \
             and password have keys of their own",
            raw.address
        ));
        return None;
    };
    tls_files("kafka", "kafkas://", tls, raw.ca_file.as_ref(), faults);
    if raw.sasl.is_some() && login.is_none() {
        faults.push("`kafka.sasl` has no effect without `username` and `password_file`".into());
    }
    let sasl = raw.sasl.unwrap_or_default();
    if login.is_some() && sasl == Sasl::Plain && !tls {
        faults.push(
            "`kafka.sasl` is \"plain\", which would show the password to everyone on the way; use kafkas://, or \
             \"scram-sha-256\" or \"scram-sha-512\""
                .into(),
        );
    }
    // The client cuts the host name at its first colon.
    if tls && brokers.iter().any(|(host, _)| host.contains(':')) {
        faults.push(
            "`kafka.address` is an IPv6 address, which cannot be checked against a certificate here; use the broker's name"
                .into(),
        );
    }
    let brokers = brokers.into_iter().map(|(host, port)| format!("{host}:{port}")).collect();
    Some(Kafka { address: raw.address, brokers, tls, topic: raw.topic, login, sasl, ca_file: raw.ca_file })
}

pub(super) fn mqtt(raw: RawMqtt, faults: &mut Vec<String>) -> Option<Mqtt> {
    let filter = ["{gateway}", "{lane}", "{epoch}"]
        .iter()
        .fold(raw.topic.clone(), |text, name| text.replace(name, "+"));
    let is_level = |level: &str| level == "+" || !level.contains(['+', '#', '{', '}', '\0']);
    if !raw.topic.contains("{gateway}") || raw.topic.contains('+') || !filter.split('/').all(is_level) {
        faults.push(format!(
            "`mqtt.topic` is {:?}; it must be that of the gateways' sinks, with {{gateway}} between slashes",
            raw.topic
        ));
    }
    let level = raw.commands.strip_suffix("/#").unwrap_or("#").replace("{gateway}", "");
    if level.contains(['+', '#', '{', '}', '\0']) || !raw.commands.contains("{gateway}") {
        faults.push(format!(
            "`mqtt.commands` is {:?}; it must be that of [sink.commands] of the gateways' sinks, with {{gateway}} and /# at its end",
            raw.commands
        ));
    }
    if !super::is_name(&raw.client_id) {
        faults.push(format!(
            "`mqtt.client_id` is {:?}; it must be 1 to 60 letters, digits, `.`, `-` and `_`",
            raw.client_id
        ));
    }
    if raw.session_expiry_s < 3_600 {
        faults.push(format!(
            "`mqtt.session_expiry_s` is {}; it must be 3600 to 4294967295 (for ever): what gateways send while all hubs are \
             away is lost after that",
            raw.session_expiry_s
        ));
    }
    let login = login("mqtt", raw.username, raw.password_file, faults);
    let parsed = split(&raw.address, &[("mqtt://", false), ("mqtts://", true)]).and_then(|(rest, tls)| {
        host_and_port(rest.trim_end_matches('/'), if tls { 8883 } else { 1883 }).map(|found| (found, tls))
    });
    let Some(((host, port), tls)) = parsed else {
        faults.push(format!(
            "`mqtt.address` is {:?}; write it like \"mqtt://host:1883\", or with TLS \"mqtts://host:8883\"; user and password \
             have keys of their own",
            raw.address
        ));
        return None;
    };
    tls_files("mqtt", "mqtts://", tls, raw.ca_file.as_ref(), faults);
    Some(Mqtt {
        host: host.trim_matches(['[', ']']).to_owned(),
        address: raw.address,
        port,
        tls,
        filter,
        commands: raw.commands,
        client_id: raw.client_id,
        session_expiry_s: raw.session_expiry_s,
        login,
        ca_file: raw.ca_file,
    })
}

/// Two sources with one session would take it from each other for ever.
pub(super) fn own_sessions(mqtt: &[Mqtt], faults: &mut Vec<String>) {
    for (at, source) in mqtt.iter().enumerate() {
        let same = |other: &&Mqtt| {
            (&other.host, other.port, &other.client_id) == (&source.host, source.port, &source.client_id)
        };
        if mqtt[..at].iter().any(|other| same(&other)) {
            faults.push(format!(
                "two [[mqtt]] use the session `{}` of {}; give each its own `client_id`",
                source.client_id, source.address
            ));
        }
    }
}

/// Two sources with one topic would overwrite what is noted of each other.
pub(super) fn distinct(kafka: &[Kafka], faults: &mut Vec<String>) {
    for (at, source) in kafka.iter().enumerate() {
        if kafka[..at].iter().any(|other| other.topic == source.topic) {
            faults.push(format!(
                "two [[kafka]] have the topic `{}`, under which the hubs note how far they are; use different topics",
                source.topic
            ));
        }
    }
}

fn login(
    source: &str,
    username: Option<String>,
    password_file: Option<PathBuf>,
    faults: &mut Vec<String>,
) -> Option<Login> {
    if let Some(Err(error)) = password_file.as_deref().map(read_secret) {
        faults.push(format!("`{source}.password_file`: {error}"));
    }
    match (username, password_file) {
        (Some(username), Some(password_file)) => Some(Login { username, password_file }),
        (None, None) => None,
        _ => {
            faults.push(format!(
                "of `{source}.username` and `{source}.password_file` one is given; both are needed"
            ));
            None
        }
    }
}

pub(super) fn tls_files(
    source: &str,
    scheme: &str,
    tls: bool,
    ca_file: Option<&PathBuf>,
    faults: &mut Vec<String>,
) {
    let Some(file) = ca_file else { return };
    if !tls {
        faults.push(format!("`{source}.ca_file` has no effect without TLS; write {scheme} in `address`"));
    } else if let Err(why) = crate::tls::roots(Some(file)) {
        faults.push(format!("`{source}.ca_file`: {why}"));
    }
}

/// What follows the scheme, and whether that means TLS.
pub(super) fn split<'a>(address: &'a str, schemes: &[(&str, bool)]) -> Option<(&'a str, bool)> {
    schemes.iter().find_map(|(scheme, tls)| address.strip_prefix(scheme).map(|rest| (rest, *tls)))
}

/// `None` if it is not a host with an optional port, an IPv6 address in brackets.
fn host_and_port(text: &str, default: u16) -> Option<(String, u16)> {
    let authority = text.parse::<hyper::http::uri::Authority>().ok()?;
    let rest = &authority.as_str()[authority.host().len()..];
    let port = match rest.strip_prefix(':') {
        Some(port) => port.parse().ok()?,
        None if rest.is_empty() => default,
        // A user before the host.
        None => return None,
    };
    (!authority.as_str().contains('@') && !authority.host().is_empty())
        .then(|| (authority.host().to_owned(), port))
}
