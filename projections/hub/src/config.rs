//! The configuration: read, checked as a whole before anything is opened, all faults reported at once.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::token::{Scope, Token};

mod secret;
mod sources;
mod stores;

pub(crate) use secret::read as read_secret;
pub use sources::{Kafka, Mqtt, Nats};
pub(crate) use sources::{Login, Sasl};
pub use stores::{OpenSearch, Redis};

/// The checked configuration.
#[derive(Debug)]
pub struct Config {
    /// Name of this process, its own among those that share a database.
    pub name: String,
    /// How long what this process holds stays its own without a sign of life.
    pub lease: Duration,
    /// A gap that is older is asked for.
    pub gap_patience: Duration,
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// The largest parcel, as received and, with gzip, uncompressed, in bytes.
    pub parcel_bytes_max: usize,
    /// Who may do what; empty: everyone on this machine everything.
    pub(crate) tokens: Vec<Token>,
    /// Streams of NATS that are consumed.
    pub nats: Vec<Nats>,
    /// Topics of Kafka that are consumed.
    pub kafka: Vec<Kafka>,
    /// Brokers of MQTT that are read.
    pub mqtt: Vec<Mqtt>,
    /// The database.
    pub postgres: Postgres,
    /// Follows the database.
    pub redis: Option<Redis>,
    /// Follows the database.
    pub opensearch: Option<OpenSearch>,
    /// What is deleted when.
    pub retention: Retention,
}

/// The database.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// How to connect, without the password.
    pub(crate) connect: tokio_postgres::Config,
    /// Where the password is read at each connection.
    pub(crate) password_file: Option<PathBuf>,
    /// The schema that has the tables.
    pub schema: String,
    /// How many connections write, each for its share of the gateways.
    pub writers: usize,
}

/// What is deleted when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Days after which events go; `None`: never.
    pub events_days: Option<u32>,
    /// Days after which aggregates of a minute go; `None`: never.
    pub minutes_days: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    #[serde(default = "ten")]
    lease_s: u64,
    #[serde(default = "thirty")]
    gap_patience_s: u64,
    #[serde(default)]
    http: RawHttp,
    #[serde(default)]
    token: Vec<RawToken>,
    #[serde(default)]
    nats: Vec<sources::RawNats>,
    #[serde(default)]
    kafka: Vec<sources::RawKafka>,
    #[serde(default)]
    mqtt: Vec<sources::RawMqtt>,
    postgres: RawPostgres,
    redis: Option<stores::RawRedis>,
    opensearch: Option<stores::RawOpenSearch>,
    #[serde(default)]
    retention: RawRetention,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawHttp {
    listen: String,
    parcel_mib_max: usize,
}

impl Default for RawHttp {
    fn default() -> RawHttp {
        RawHttp { listen: "127.0.0.1:8090".into(), parcel_mib_max: 32 }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawToken {
    file: PathBuf,
    scopes: Vec<Scope>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPostgres {
    address: String,
    password_file: Option<PathBuf>,
    #[serde(default = "fieldlog")]
    schema: String,
    #[serde(default = "two")]
    writers: usize,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawRetention {
    events_days: Option<u32>,
    minutes_days: Option<u32>,
}

fn ten() -> u64 {
    10
}

fn thirty() -> u64 {
    30
}

fn two() -> usize {
    2
}

fn fieldlog() -> String {
    "fieldlog".into()
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`] with every fault.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::of(path, vec![format!("cannot be read: {error}")]))?;
        Config::from_toml(&text).map_err(|faults| ConfigError::of(path, faults))
    }

    fn from_toml(text: &str) -> Result<Config, Vec<String>> {
        let raw: Raw = toml::from_str(text).map_err(|error| vec![error.to_string().trim_end().to_owned()])?;
        let mut faults = Vec::new();
        let mut bounds = |key: &str, found: u64, least: u64, most: u64| {
            if !(least..=most).contains(&found) {
                faults.push(format!("`{key}` is {found}; it must be {least} to {most}"));
            }
        };
        bounds("lease_s", raw.lease_s, 3, 3_600);
        bounds("gap_patience_s", raw.gap_patience_s, 1, 86_400);
        bounds("http.parcel_mib_max", raw.http.parcel_mib_max as u64, 1, 64);
        bounds("postgres.writers", raw.postgres.writers as u64, 1, 16);
        for (key, days) in [
            ("retention.events_days", raw.retention.events_days),
            ("retention.minutes_days", raw.retention.minutes_days),
        ] {
            bounds(key, u64::from(days.unwrap_or(1)), 1, 36_500);
        }
        if !is_name(&raw.name) {
            faults.push(format!(
                "`name` is {:?}; it must be 1 to 60 letters, digits, `.`, `-` and `_`",
                raw.name
            ));
        }
        if !is_schema(&raw.postgres.schema) {
            faults.push(format!(
                "`postgres.schema` is {:?}; it must be 1 to 50 lower-case letters, digits and `_`, and begin with a letter",
                raw.postgres.schema
            ));
        }
        let tokens = tokens(&raw.token, &mut faults);
        let nats = raw.nats.into_iter().filter_map(|raw| sources::nats(raw, &mut faults)).collect();
        let kafka: Vec<Kafka> =
            raw.kafka.into_iter().filter_map(|raw| sources::kafka(raw, &mut faults)).collect();
        sources::distinct(&kafka, &mut faults);
        let mqtt: Vec<Mqtt> =
            raw.mqtt.into_iter().filter_map(|raw| sources::mqtt(raw, &mut faults)).collect();
        sources::own_sessions(&mqtt, &mut faults);
        let listen = listen(&raw.http.listen, !raw.token.is_empty(), &mut faults);
        let connect = address(&raw.postgres.address, &mut faults);
        let password_file = raw.postgres.password_file;
        if let Some(file) = &password_file
            && let Err(error) = read_secret(file)
        {
            faults.push(format!("`postgres.password_file`: {error}"));
        }
        let redis = raw.redis.and_then(|raw| stores::redis(raw, &mut faults));
        let opensearch = raw.opensearch.and_then(|raw| stores::opensearch(raw, &mut faults));
        match (listen, connect) {
            (Some(listen), Some(connect)) if faults.is_empty() => Ok(Config {
                name: raw.name,
                lease: Duration::from_secs(raw.lease_s),
                gap_patience: Duration::from_secs(raw.gap_patience_s),
                listen,
                parcel_bytes_max: raw.http.parcel_mib_max << 20,
                tokens,
                nats,
                kafka,
                mqtt,
                postgres: Postgres {
                    connect,
                    password_file,
                    schema: raw.postgres.schema,
                    writers: raw.postgres.writers,
                },
                redis,
                opensearch,
                retention: Retention {
                    events_days: raw.retention.events_days,
                    minutes_days: raw.retention.minutes_days,
                },
            }),
            _ => Err(faults),
        }
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (1..=60).contains(&name.len()) && name.bytes().all(allowed)
}

/// A name that needs no quotes anywhere, also with a suffix.
fn is_schema(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=50).contains(&name.len())
        && name.bytes().all(allowed)
        && name.starts_with(|char: char| char.is_ascii_lowercase())
}

fn listen(text: &str, tokens: bool, faults: &mut Vec<String>) -> Option<SocketAddr> {
    let Ok(address) = text.parse::<SocketAddr>() else {
        faults.push(format!(
            "`http.listen` is {text:?}; it must be an address and a port, such as \"127.0.0.1:8090\""
        ));
        return None;
    };
    if !address.ip().is_loopback() && !tokens {
        faults.push(format!(
            "`http.listen` is {address}, where others than this machine can connect; add a [[token]], or listen on 127.0.0.1"
        ));
    }
    Some(address)
}

fn tokens(raw: &[RawToken], faults: &mut Vec<String>) -> Vec<Token> {
    let mut tokens = Vec::new();
    for RawToken { file, scopes } in raw {
        if scopes.is_empty() {
            faults.push(format!(
                "the token of {} has no `scopes`; give it \"ingest\", \"read\", \"command\" or \"admin\"",
                file.display()
            ));
        }
        match read_secret(file) {
            Ok(secret) => match Token::new(&secret, scopes) {
                Some(token) => tokens.push(token),
                None => faults.push(format!(
                    "`token.file` {p} must hold 16 to 4,096 visible ASCII characters without spaces; to make one, run: \
                     head -c 24 /dev/urandom | base64 > {p}",
                    p = file.display()
                )),
            },
            Err(error) => faults.push(format!("`token.file`: {error}")),
        }
    }
    tokens
}

fn address(text: &str, faults: &mut Vec<String>) -> Option<tokio_postgres::Config> {
    let parsed = match text.parse::<tokio_postgres::Config>() {
        Ok(parsed) => parsed,
        Err(error) => {
            faults.push(format!(
                "`postgres.address` cannot be read: {error}; write it like \"postgresql://fieldlog@127.0.0.1/fieldlog\""
            ));
            return None;
        }
    };
    if parsed.get_password().is_some() {
        faults.push(
            "`postgres.address` has a password; put it into a file and name that as `password_file`".into(),
        );
    }
    if parsed.get_hosts().is_empty() {
        faults.push(
            "`postgres.address` names no host; a directory such as host=/run/postgresql is a Unix socket"
                .into(),
        );
    }
    if parsed.get_dbname().is_none() || parsed.get_user().is_none() {
        faults.push("`postgres.address` must name the user and the database".into());
    }
    if parsed.get_ssl_mode() == tokio_postgres::config::SslMode::Require {
        faults.push(
            "`postgres.address` requires TLS, which this hub does not speak; connect over a Unix socket, on this \
             machine, or through a tunnel"
                .into(),
        );
    }
    Some(parsed)
}

/// Why a configuration cannot be used.
#[derive(Debug)]
pub struct ConfigError {
    path: PathBuf,
    faults: Vec<String>,
}

impl ConfigError {
    fn of(path: &Path, faults: Vec<String>) -> ConfigError {
        ConfigError { path: path.to_owned(), faults }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be used:", self.path.display())?;
        self.faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests;
