//! The checked stage of `[[source]]`: a broker and its subscriptions.

use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serializer;

use super::hints::one_of;
use super::raw::{Table, WithOrigin};
use super::{
    Address, CommandRule, HeldValues, Policy, Protocol, RecordMode, Rule, SourceConfig, TlsConfig,
    WillConfig, command, describe, presets, rule, sparkplug,
};
use crate::sorted;
use fieldlog_rules::topic;

pub(super) fn read_all(table: &mut Table<'_>, gateway_id: &str) -> Vec<SourceConfig> {
    let mut sources: Vec<SourceConfig> = Vec::new();
    for mut entry in table.tables("source").unwrap_or_default() {
        if let Some(source) = read(&mut entry, gateway_id) {
            check_unique(&entry, &source, &sources);
            sources.push(source);
        }
        entry.finish();
    }
    sources
}

fn check_unique(table: &Table<'_>, source: &SourceConfig, others: &[SourceConfig]) {
    if others.iter().any(|other| other.name == source.name) {
        table.fault("name", format!("{:?} is used by another source", source.name), "give each its own name");
        return;
    }
    let same_session = |other: &&SourceConfig| {
        other.client_id == source.client_id
            && (&other.address.host, other.address.port) == (&source.address.host, source.address.port)
    };
    if let Some(other) = others.iter().find(same_session) {
        let what = format!("source {:?} has the same client id at the same broker", other.name);
        table.fault("client_id", what, "they would disconnect each other; give each its own");
    }
}

fn read(table: &mut Table<'_>, gateway_id: &str) -> Option<SourceConfig> {
    let name = name(table, "give the source a short name, such as \"home\"");
    let mut commands = command::read_all(table);
    let address = address(table);
    let protocol = protocol(table);
    let (username, password_file) = credentials(table, protocol);
    let source = SourceConfig {
        protocol,
        client_id: client_id(table, || {
            format!("fieldlog-{gateway_id}-{}", name.as_deref().unwrap_or_default())
        }),
        username,
        password_file,
        keep_alive: seconds(table, "keep_alive_s", 5, 3_600, 30),
        connect_timeout: seconds(table, "connect_timeout_s", 1, 300, 20),
        backoff_max: seconds(table, "backoff_max_s", 1, 3_600, 60),
        session_expiry: sparkplug::session_expiry(table),
        receive_window: narrow(table.integer("receive_window", 1..=65_535, "messages", 1_000)),
        packet_bytes_max: narrow(table.integer("packet_bytes_max", 1_024..=268_435_455, "bytes", 1_048_576)),
        tls: tls(table, address.as_ref().filter(|address| !address.tls).map(|_| UNENCRYPTED)),
        will: table.table_if_present("will").and_then(will),
        sparkplug: sparkplug::read(table, gateway_id),
        silence_timeout: Some(seconds(table, "silence_timeout_s", 0, 31_536_000, 0)).filter(|t| !t.is_zero()),
        exclude: exclude(table),
        redact: redact(table),
        rules: rules(table, name.as_deref().unwrap_or_default(), &mut commands),
        commands,
        policies: policies(table),
        describe: describe::read_all(table),
        // Without them there is no source, but all other faults of the table were reported.
        name: name?,
        address: address?,
    };
    check_namespaces(table, &source);
    if let Some(topic) = source.replies().into_iter().find(|topic| topic::check_name(topic).is_err()) {
        let what = format!("devices would answer commands on {topic:?}, which is not a topic");
        table.fault("client_id", what, "choose one without the characters + and #");
    }
    Some(source)
}

/// A block for commands is for devices that some subscription brings.
fn check_namespaces(table: &Table<'_>, source: &SourceConfig) {
    let of = |namespace: &Option<String>| namespace.clone().unwrap_or_else(|| source.name.clone());
    let known = sorted::set(source.rules.iter().map(|rule| of(&rule.namespace)));
    // Those of Sparkplug have no subscription.
    if source.sparkplug.is_some() {
        return;
    }
    for command in &source.commands {
        let namespace = of(&command.namespace);
        if !known.is_empty() && !known.contains(&namespace) {
            let name = if command.is_operation() { &command.operation } else { &command.attribute };
            let what = format!(
                "the block {name:?} is for devices of namespace {namespace:?}, and no subscription has it"
            );
            let known: Vec<String> = known.iter().map(|name| format!("{name:?}")).collect();
            table.fault("command", what, format!("set its namespace to {}", one_of(&known)));
        }
    }
}

/// Why `[source.tls]` has no effect for a source, and what to do.
const UNENCRYPTED: (&str, &str) =
    ("the address begins with mqtt://, which is not encrypted", "use mqtts://, or remove [source.tls]");

pub(super) fn narrow<T: TryFrom<u64> + Default>(number: u64) -> T {
    T::try_from(number).unwrap_or_default()
}

pub(super) fn seconds(
    table: &mut Table<'_>,
    key: &'static str,
    min: u64,
    max: u64,
    default: u64,
) -> Duration {
    Duration::from_secs(table.integer(key, min..=max, "seconds", default))
}

pub(super) fn name(table: &mut Table<'_>, hint: &str) -> Option<String> {
    let found = table.required("name", hint)?;
    table.rename(format!("{} {:?}", table.label(), found.value));
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b);
    if found.value.len() <= 32 && found.value.bytes().all(allowed) {
        return Some(found.value);
    }
    let what = "the name is too long or has other characters than it may";
    table.fault("name", what, "use 1 to 32 of the characters a-z, 0-9, _ and -");
    None
}

fn address(table: &mut Table<'_>) -> Option<Address> {
    let hint = "give the broker's address, such as \"mqtt://127.0.0.1:1883\"";
    let WithOrigin { value, origin } = table.required("address", hint)?;
    let fault = |what: &str, hint: &str| table.fault_at("address", origin.as_deref(), what, hint);
    let (tls, rest) = match value.split_once("://") {
        Some(("mqtt", rest)) => (false, rest),
        Some(("mqtts", rest)) => (true, rest),
        _ => {
            fault("it must begin with mqtt:// or mqtts://", "write it as \"mqtt://host:1883\"");
            return None;
        }
    };
    if rest.contains('@') {
        // The text is not repeated: it may contain a password.
        fault("it must not hold a user name or password", "use username and password_file");
        return None;
    }
    let Some(address) = host_and_port(rest, tls, if tls { 8883 } else { 1883 }) else {
        fault(
            "it is not a host with an optional port",
            "write it as \"mqtt://host:1883\" or \"mqtt://[::1]:1883\"",
        );
        return None;
    };
    if tls && !cfg!(feature = "tls") {
        fault(NO_TLS, "use mqtt://, or a build with the feature \"tls\"");
    }
    Some(address)
}

/// The address, as in the configuration.
pub(super) fn written_address<S: Serializer>(address: &Address, serializer: S) -> Result<S::Ok, S::Error> {
    let scheme = if address.tls { "mqtts" } else { "mqtt" };
    serializer.serialize_str(&format!("{scheme}://{}", address.host_and_port()))
}

pub(super) const NO_TLS: &str = "this build of fieldlog has no TLS";

pub(super) fn host_and_port(text: &str, tls: bool, default_port: u16) -> Option<Address> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let (host, port) = match text.strip_prefix('[') {
        Some(inner) => {
            let (host, after) = inner.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let allowed = |c: char| c.is_alphanumeric() || "-._:%".contains(c);
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        None => default_port,
    };
    let good = !host.is_empty() && host.chars().all(allowed);
    good.then(|| Address { host: host.to_owned(), port, tls })
}

pub(super) fn protocol(table: &mut Table<'_>) -> Protocol {
    match table.integer("protocol", 4..=5, "(4 for MQTT 3.1.1, 5 for MQTT 5)", 5) {
        4 => Protocol::V4,
        _ => Protocol::V5,
    }
}

pub(super) fn client_id(table: &mut Table<'_>, default: impl Fn() -> String) -> String {
    let Some(found) = table.filled("client_id") else { return default() };
    if found.value.len() > 256 || found.value.contains('\0') {
        table.fault(
            "client_id",
            "it is longer than 256 bytes or holds a NUL character",
            "choose a shorter one",
        );
        return default();
    }
    found.value
}

/// `username` and `password_file`.
pub(super) fn credentials(table: &mut Table<'_>, protocol: Protocol) -> (Option<String>, Option<PathBuf>) {
    let username = table.filled("username").map(|found| found.value);
    let password_file = table.path("password_file");
    if password_file.is_some() && username.is_none() && protocol == Protocol::V4 {
        table.fault("password_file", "MQTT 3.1.1 has no password without a user name", "set username");
    }
    (username, password_file)
}

/// `useless`: the fault and hint for a TLS table if the address has no TLS.
pub(super) fn tls(table: &mut Table<'_>, useless: Option<(&str, &str)>) -> TlsConfig {
    let Some(mut inner) = table.table_if_present("tls") else { return TlsConfig::default() };
    let tls = TlsConfig {
        ca_file: inner.path("ca_file"),
        cert_file: inner.path("cert_file"),
        key_file: inner.path("key_file"),
        server_name: inner.filled("server_name").map(|found| found.value),
    };
    if let Some((what, hint)) = useless.filter(|_| tls != TlsConfig::default()) {
        table.fault("tls", what, hint);
    }
    check_pair(&inner, tls.cert_file.is_some(), tls.key_file.is_some());
    inner.finish();
    tls
}

/// A certificate and its key are useless without each other.
pub(super) fn check_pair(table: &Table<'_>, cert_file: bool, key_file: bool) {
    match (cert_file, key_file) {
        (true, false) => {
            table.fault("cert_file", "it has no key_file", "a certificate needs its private key")
        }
        (false, true) => {
            table.fault("key_file", "it has no cert_file", "a private key needs its certificate")
        }
        _ => {}
    }
}

pub(super) fn will(mut table: Table<'_>) -> Option<WillConfig> {
    let topic = table.required("topic", "name the topic, such as \"fieldlog/gateway/state\"");
    let mut payload = |key, default: &str| table.text(key).map_or(default.to_owned(), |found| found.value);
    let (offline, online) = (payload("offline", "offline"), payload("online", "online"));
    if let Some(Err(error)) = topic.as_ref().map(|found| topic::check_name(&found.value)) {
        table.fault("topic", format!("it is not the name of a topic: {error}"), "");
    }
    table.finish();
    topic.map(|found| WillConfig { topic: found.value, offline, online })
}

fn exclude(table: &mut Table<'_>) -> Vec<String> {
    let filters = table.texts("exclude").unwrap_or_default();
    for (index, filter) in filters.iter().enumerate() {
        if let Err(error) = topic::check_filter(filter) {
            table.fault(
                &format!("exclude[{index}]"),
                format!("{filter:?} is not an MQTT filter: {error}"),
                "",
            );
        }
    }
    filters
}

fn redact(table: &mut Table<'_>) -> Vec<String> {
    let patterns = table.texts("redact").unwrap_or_default();
    rule::check_patterns(table, "redact", &patterns);
    patterns
}

fn rules(table: &mut Table<'_>, source: &str, commands: &mut Vec<CommandRule>) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut first_preset = None;
    let subscriptions = table.tables("subscription").unwrap_or_default();
    if subscriptions.is_empty() && !table.was_written("sparkplug") {
        let hint = "add [[source.subscription]] with a preset or a topic, or [source.sparkplug]";
        table.fault("subscription", "the source subscribes to nothing", hint);
    }
    for mut entry in subscriptions {
        if entry.has("preset") {
            let preset = presets::subscription(&mut entry);
            let first = *first_preset.get_or_insert(preset.name);
            // Two conventions that use the same name do not mean the same device. The first preset shares the source's
            // own namespace with subscriptions without a preset.
            let own = (preset.name != first).then(|| format!("{source}.{}", preset.name));
            let namespace = preset.namespace.or(own);
            commands.extend(
                preset
                    .commands
                    .into_iter()
                    .map(|command| CommandRule { namespace: namespace.clone(), ..command }),
            );
            rules.extend(preset.rules.into_iter().map(|rule| Rule { namespace: namespace.clone(), ..rule }));
        } else {
            rules.extend(rule::read(&mut entry));
        }
        entry.finish();
    }
    rules
}

fn policies(table: &mut Table<'_>) -> Vec<Policy> {
    let entries = table.tables("policy").unwrap_or_default();
    entries.into_iter().map(policy).collect()
}

fn policy(mut table: Table<'_>) -> Policy {
    let attributes = table.texts("attributes");
    if attributes.as_ref().is_none_or(Vec::is_empty) {
        table.fault(
            "attributes",
            "it is missing or empty",
            "name attributes, such as [\"temperature\", \"power*\"]",
        );
    }
    let policy = Policy {
        attributes: attributes.unwrap_or_default(),
        devices: table.texts("devices").unwrap_or_else(|| vec!["*".to_owned()]),
        deadband: table.number("deadband", 0.0),
        min_interval: Duration::from_millis(table.integer(
            "min_interval_ms",
            0..=86_400_000,
            "milliseconds",
            0,
        )),
        held: table.choice("held").unwrap_or_default(),
        record: table.choice("record").unwrap_or(RecordMode::Change),
    };
    rule::check_patterns(&table, "attributes", &policy.attributes);
    rule::check_patterns(&table, "devices", &policy.devices);
    if policy.deadband > 0.0 && policy.record != RecordMode::Change {
        table.fault("deadband", "it has no effect unless record is \"change\"", "remove one of the two");
    }
    if policy.min_interval.is_zero() && policy.held == HeldValues::Record {
        table.fault("held", "it has no effect without min_interval_ms", "set min_interval_ms, or remove it");
    }
    if !policy.min_interval.is_zero() && policy.record == RecordMode::Never {
        table.fault("min_interval_ms", "it has no effect when record is \"never\"", "remove one of the two");
    }
    table.finish();
    policy
}
