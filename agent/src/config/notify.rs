//! `[[notify]]`: who is told of alerts.

use std::fmt;
use std::path::PathBuf;

use fieldlog_rules::topic;
use serde::{Serialize, Serializer};

use super::raw::Table;
use super::sink::takes;
use super::source::{self, NO_TLS, host_and_port};
use super::{HttpSink, SourceConfig, TlsConfig, hints, written};

/// Of them, at most.
const NOTIFY_MAX: usize = 16;
/// Where an alert is published.
const TOPIC: &str = "fieldlog/{gateway}/alerts/{rule}/{subject}";

/// One `[[notify]]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NotifyConfig {
    /// `name`: unique, `[a-z0-9_-]{1,32}`.
    pub name: String,
    /// `mqtt` or `webhook`, with their keys.
    #[serde(flatten)]
    pub target: NotifyTarget,
}

/// Who is told.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum NotifyTarget {
    /// Everybody who subscribes at the broker of a source.
    Mqtt {
        /// `mqtt`: the name of the source.
        #[serde(rename = "mqtt")]
        source: String,
        /// `topic` (default `fieldlog/{gateway}/alerts/{rule}/{subject}`): `{gateway}`, `{rule}` and `{subject}` are
        /// replaced; the last two are required.
        topic: String,
    },
    /// `webhook`: the URL of an HTTP server, with `token_file` and `[notify.tls]`.
    Webhook(#[serde(serialize_with = "written_webhook")] HttpSink),
}

impl fmt::Display for NotifyTarget {
    /// Without the path of a URL, which may contain a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotifyTarget::Mqtt { source, .. } => write!(f, "source {source:?}"),
            NotifyTarget::Webhook(server) => f.write_str(&server.origin()),
        }
    }
}

fn written_webhook<S: Serializer>(server: &HttpSink, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Written<'a> {
        webhook: String,
        #[serde(serialize_with = "written::or_empty")]
        token_file: &'a Option<PathBuf>,
        #[serde(skip_serializing_if = "TlsConfig::is_default")]
        tls: &'a TlsConfig,
    }
    Written { webhook: server.url(), token_file: &server.token_file, tls: &server.tls }.serialize(serializer)
}

/// `sources` are those of the same configuration.
pub(super) fn read_all(
    table: &mut Table<'_>,
    gateway_id: &str,
    sources: &[SourceConfig],
) -> Vec<NotifyConfig> {
    let mut all: Vec<NotifyConfig> = Vec::new();
    let blocks = table.tables("notify").unwrap_or_default();
    if blocks.len() > NOTIFY_MAX {
        let what = format!("there are {}; at most {NOTIFY_MAX} can be told", blocks.len());
        table.fault("notify", what, "remove some");
    }
    for mut entry in blocks {
        let name = source::name(&mut entry, "give it a short name, such as \"on-call\"");
        let target = target(&mut entry, gateway_id, sources);
        if let (Some(name), Some(target)) = (name, target) {
            if all.iter().any(|other| other.name == name) {
                entry.fault("name", "another block has it too", "give each its own name");
            }
            all.push(NotifyConfig { name, target });
        }
        entry.finish();
    }
    all
}

fn target(table: &mut Table<'_>, gateway_id: &str, sources: &[SourceConfig]) -> Option<NotifyTarget> {
    match (table.has("mqtt"), table.has("webhook")) {
        (true, false) => {
            refuse(table, &["token_file", "tls"], "webhook");
            mqtt(table, gateway_id, sources)
        }
        (false, true) => {
            refuse(table, &["topic"], "mqtt");
            webhook(table).map(NotifyTarget::Webhook)
        }
        (given, _) => {
            let what = if given { "there is also webhook" } else { "it is missing" };
            table.fault("mqtt", what, "give either mqtt, the name of a source, or webhook, a URL");
            for key in ["mqtt", "webhook", "topic", "token_file", "tls"] {
                table.expect(&[key]);
                table.discard(key);
            }
            None
        }
    }
}

fn refuse(table: &mut Table<'_>, keys: &[&'static str], owner: &str) {
    for key in keys {
        if let Some(value) = table.discard(key) {
            table.fault_at(key, value.origin(), format!("it goes with {owner}"), "remove it");
        }
    }
}

fn mqtt(table: &mut Table<'_>, gateway_id: &str, sources: &[SourceConfig]) -> Option<NotifyTarget> {
    let found = table.required("mqtt", "name the source to whose broker alerts are published");
    found.iter().for_each(|found| check_source(table, "mqtt", &found.value, sources));
    let topic = table.filled("topic").map_or_else(|| TOPIC.to_owned(), |found| found.value);
    let topic = topic.replace("{gateway}", gateway_id);
    let expanded = topic.replace("{rule}", "r").replace("{subject}", "s");
    if expanded.contains(['{', '}']) {
        let what = format!("{topic:?} has a brace that belongs to no placeholder");
        table.fault("topic", what, "the placeholders are {gateway}, {rule} and {subject}");
    } else if let Err(error) = topic::check_name(&expanded) {
        table.fault("topic", format!("{topic:?} is not the name of a topic: {error}"), "");
    }
    if !topic.contains("{rule}") || !topic.contains("{subject}") {
        let what = "two alerts would be published on one topic, of which the broker keeps the last message";
        table.fault("topic", what, "use {rule} and {subject} in it");
    }
    let broker = found.as_ref().and_then(|found| sources.iter().find(|source| source.name == found.value));
    let same = |other: &&SourceConfig| broker.is_some_and(|broker| broker.address == other.address);
    if let Some(other) = sources.iter().filter(same).find(|source| takes(source, &expanded, true)) {
        let what = format!("source {:?} takes {expanded:?} from the same broker", other.name);
        table.fault(
            "topic",
            what,
            "alerts would be recorded as messages of devices; exclude the topic from the source",
        );
    }
    Some(NotifyTarget::Mqtt { source: found?.value, topic })
}

/// A key that names a source must name one that there is.
pub(super) fn check_source(table: &Table<'_>, key: &str, name: &str, sources: &[SourceConfig]) {
    let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    if names.contains(&name) {
        return;
    }
    let hint = match names.is_empty() {
        true => "there is no [[source]]".to_owned(),
        false => hints::did_you_mean(name, &names)
            .unwrap_or_else(|| format!("it must be {}", hints::one_of(&names))),
    };
    table.fault(key, format!("there is no source {name:?}"), hint);
}

fn webhook(table: &mut Table<'_>) -> Option<HttpSink> {
    let found = table.required("webhook", "give the URL, such as \"https://host/path\"");
    let (token_file, url) = (table.path("token_file"), found.map(|found| found.value));
    // The URL is not repeated in faults: it may contain a secret.
    let parts = url.as_deref().and_then(|url| url.split_once("://"));
    let encrypted = matches!(parts, Some(("https", _)));
    let useless =
        (!encrypted).then_some(("the URL begins with http://", "use https://, or remove [notify.tls]"));
    let tls = source::tls(table, useless);
    url.as_ref()?;
    let Some(("http" | "https", rest)) = parts else {
        table.fault("webhook", "it must begin with http:// or https://", "");
        return None;
    };
    if encrypted && !cfg!(feature = "tls") {
        table.fault("webhook", NO_TLS, "use http://, or a build with the feature \"tls\"");
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        table.fault("webhook", "it must not hold a user name or password", "use token_file");
        return None;
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let Some(address) = host_and_port(authority, encrypted, if encrypted { 443 } else { 80 }) else {
        table.fault("webhook", "it has no host with an optional port", "write it as \"https://host/path\"");
        return None;
    };
    let server = HttpSink { address, path, token_file, gzip: false, tls };
    if server.path.contains('#') || server.url().parse::<hyper::Uri>().is_err() {
        table.fault("webhook", "it has a fragment, or characters that a URL cannot have", "");
        return None;
    }
    Some(server)
}
