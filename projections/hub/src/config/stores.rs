//! The stores that follow the tables.

use std::path::PathBuf;

use redis::{ConnectionInfo, IntoConnectionInfo};
use serde::Deserialize;

use super::{is_name, read_secret, sources};

/// Redis or Valkey.
#[derive(Clone, Debug)]
pub struct Redis {
    /// As it was written, without a secret.
    pub(crate) address: String,
    pub(crate) connect: ConnectionInfo,
    pub(crate) tls: bool,
    /// Whom to trust with TLS; `None`: whom this machine trusts.
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) password_file: Option<PathBuf>,
    /// What all keys begin with.
    pub(crate) prefix: String,
    /// Entries that the stream of a gateway's changes has at least; 0 for none.
    pub(crate) changes_max: u32,
    /// Seconds after which a device goes that has not changed.
    pub(crate) ttl_s: Option<u32>,
}

/// OpenSearch or Elasticsearch.
#[derive(Clone, Debug)]
pub struct OpenSearch {
    /// Host and port.
    pub(crate) authority: String,
    pub(crate) tls: bool,
    /// Whom to trust with TLS; `None`: whom this machine trusts.
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) user: Option<String>,
    pub(crate) password_file: Option<PathBuf>,
    /// What all indices begin with.
    pub(crate) prefix: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRedis {
    address: String,
    ca_file: Option<PathBuf>,
    password_file: Option<PathBuf>,
    #[serde(default = "fieldlog")]
    prefix: String,
    #[serde(default = "ten_thousand")]
    changes_max: u32,
    ttl_s: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOpenSearch {
    address: String,
    ca_file: Option<PathBuf>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    #[serde(default = "fieldlog")]
    prefix: String,
}

fn fieldlog() -> String {
    "fieldlog".into()
}

fn ten_thousand() -> u32 {
    10_000
}

pub(super) fn redis(raw: RawRedis, faults: &mut Vec<String>) -> Option<Redis> {
    secret("redis", raw.password_file.as_ref(), faults);
    if !is_name(&raw.prefix) {
        faults.push(format!(
            "`redis.prefix` is {:?}; it must be 1 to 60 letters, digits, `.`, `-` and `_`",
            raw.prefix
        ));
    }
    if raw.ttl_s == Some(0) {
        faults.push("`redis.ttl_s` is 0; leave it out if nothing is to go".into());
    }
    // The client itself is built without TLS.
    let (plain, tls) = match raw.address.strip_prefix("rediss://") {
        Some(rest) => (format!("redis://{rest}"), true),
        None => (raw.address, false),
    };
    sources::tls_files("redis", "rediss://", tls, raw.ca_file.as_ref(), faults);
    let connect = match plain.as_str().into_connection_info() {
        Ok(connect) => connect,
        Err(error) => {
            faults.push(format!(
                "`redis.address` cannot be read: {error}; write it like \"redis://127.0.0.1:6379/0\", or with TLS \
                 \"rediss://redis.example:6379/0\""
            ));
            return None;
        }
    };
    if connect.redis_settings().password().is_some() {
        faults.push(
            "`redis.address` has a password; put it into a file and name that as `password_file`".into(),
        );
    }
    Some(Redis {
        address: connect.addr().to_string(),
        connect,
        tls,
        ca_file: raw.ca_file,
        password_file: raw.password_file,
        prefix: raw.prefix,
        changes_max: raw.changes_max,
        ttl_s: raw.ttl_s,
    })
}

pub(super) fn opensearch(raw: RawOpenSearch, faults: &mut Vec<String>) -> Option<OpenSearch> {
    secret("opensearch", raw.password_file.as_ref(), faults);
    if !is_index(&raw.prefix) {
        faults.push(format!(
            "`opensearch.prefix` is {:?}; it must be 1 to 60 lower-case letters, digits, `.`, `-` and `_`, and begin with a \
             letter",
            raw.prefix
        ));
    }
    if raw.user.is_some() != raw.password_file.is_some() {
        faults
            .push("of `opensearch.user` and `opensearch.password_file` one is given; both are needed".into());
    }
    let schemes = [("http://", false), ("https://", true)];
    let parsed = sources::split(&raw.address, &schemes).and_then(|(rest, tls)| {
        let authority = rest.trim_end_matches('/').parse::<hyper::http::uri::Authority>().ok()?;
        let is_plain = authority.port_u16().is_some() && !authority.as_str().contains('@');
        is_plain.then_some((authority, tls))
    });
    let Some((authority, tls)) = parsed else {
        faults.push(format!(
            "`opensearch.address` is {:?}; write it like \"http://127.0.0.1:9200\", or with TLS \
             \"https://opensearch.example:9200\": with the port, and without user and password, which have keys of their own",
            raw.address
        ));
        return None;
    };
    sources::tls_files("opensearch", "https://", tls, raw.ca_file.as_ref(), faults);
    Some(OpenSearch {
        authority: authority.to_string(),
        tls,
        ca_file: raw.ca_file,
        user: raw.user,
        password_file: raw.password_file,
        prefix: raw.prefix,
    })
}

/// What the names of indices may be.
fn is_index(prefix: &str) -> bool {
    is_name(prefix)
        && !prefix.bytes().any(|byte| byte.is_ascii_uppercase())
        && prefix.as_bytes()[0].is_ascii_lowercase()
}

fn secret(store: &str, file: Option<&PathBuf>, faults: &mut Vec<String>) {
    if let Some(Err(error)) = file.map(|file| read_secret(file)) {
        faults.push(format!("`{store}.password_file`: {error}"));
    }
}
