//! The checked stage of `[[sink]]`: the address, and the keys that only its scheme has.

use super::super::hints::one_of;
use super::super::raw::{Table, WithOrigin};
use super::super::source::{
    self, NO_TLS, client_id, credentials, host_and_port, narrow, protocol, seconds, tls,
};
use super::super::{Address, TlsConfig, WillConfig};
use super::commands;
use super::place::{expand, is_subject};
use super::{HttpSink, KafkaSink, MqttSink, NatsSink, SaslMechanism, SinkTarget};
use fieldlog_rules::topic;
use fieldlog_wire::Lane;

/// A scheme of addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Mqtt,
    Http,
    Nats,
    Kafka,
}

struct Scheme {
    name: &'static str,
    kind: Kind,
    tls: bool,
    port: u16,
    example: &'static str,
}

const fn scheme(name: &'static str, kind: Kind, tls: bool, port: u16, example: &'static str) -> Scheme {
    Scheme { name, kind, tls, port, example }
}

const SCHEMES: [Scheme; 8] = [
    scheme("mqtt", Kind::Mqtt, false, 1883, "mqtt://host:1883"),
    scheme("mqtts", Kind::Mqtt, true, 8883, "mqtts://host:8883"),
    scheme("http", Kind::Http, false, 80, "http://host/path"),
    scheme("https", Kind::Http, true, 443, "https://host/path"),
    scheme("nats", Kind::Nats, false, 4222, "nats://host:4222"),
    scheme("tls", Kind::Nats, true, 4222, "tls://host:4222"),
    scheme("kafka", Kind::Kafka, false, 9092, "kafka://host:9092,host2:9092"),
    scheme("kafkas", Kind::Kafka, true, 9093, "kafkas://host:9093,host2:9093"),
];

/// Largest packet that MQTT can express, in bytes of its remaining length.
const PACKET_BYTES_MAX: u64 = 268_435_455;

/// Keys that only some kinds of sinks have.
const KEYS: [(&str, &[Kind]); 17] = [
    ("protocol", &[Kind::Mqtt]),
    ("topic", &[Kind::Mqtt]),
    ("client_id", &[Kind::Mqtt]),
    ("username", &[Kind::Mqtt, Kind::Nats, Kind::Kafka]),
    ("password_file", &[Kind::Mqtt, Kind::Nats, Kind::Kafka]),
    ("keep_alive_s", &[Kind::Mqtt]),
    ("packet_bytes_max", &[Kind::Mqtt]),
    ("will", &[Kind::Mqtt]),
    ("commands", &[Kind::Mqtt, Kind::Nats]),
    ("token_file", &[Kind::Http, Kind::Nats]),
    ("gzip", &[Kind::Http]),
    ("credentials_file", &[Kind::Nats]),
    ("subject", &[Kind::Nats]),
    ("stream", &[Kind::Nats]),
    ("create_stream", &[Kind::Nats]),
    ("kafka_topic", &[Kind::Kafka]),
    ("sasl", &[Kind::Kafka]),
];

/// Reads `address` and the keys of its scheme; keys of other schemes are faults.
pub(super) fn read(table: &mut Table<'_>, gateway_id: &str, name: &str) -> Option<SinkTarget> {
    let hint = "say where events are sent, such as \"mqtts://broker.example\" or \"https://host/path\"";
    let found = table.required("address", hint);
    let parsed = found.and_then(|found| split(table, found));
    let Some((scheme, rest)) = parsed else {
        // It is unknown which of them apply.
        for key in KEYS.map(|(key, _)| key).into_iter().chain(["tls"]) {
            table.expect(&[key]);
            table.discard(key);
        }
        return None;
    };
    refuse_keys_of_others(table, scheme.kind);
    match scheme.kind {
        Kind::Mqtt => mqtt(table, scheme, &rest, gateway_id, name).map(SinkTarget::Mqtt),
        Kind::Http => http(table, scheme, &rest).map(SinkTarget::Http),
        Kind::Nats => nats(table, scheme, &rest, gateway_id).map(SinkTarget::Nats),
        Kind::Kafka => kafka(table, scheme, &rest).map(SinkTarget::Kafka),
    }
}

/// The scheme and the rest. The text is not repeated in faults: it may contain a password.
fn split(table: &Table<'_>, found: WithOrigin<String>) -> Option<(&'static Scheme, WithOrigin<String>)> {
    let WithOrigin { value, origin } = found;
    let fault = |what: &str, hint: &str| table.fault_at("address", origin.as_deref(), what, hint);
    let parts = value.split_once("://");
    let parts = parts.and_then(|(name, rest)| {
        SCHEMES.iter().find(|scheme| scheme.name == name).map(|scheme| (scheme, rest))
    });
    let Some((scheme, rest)) = parts else {
        let names = SCHEMES.map(|scheme| format!("{}://", scheme.name));
        fault(&format!("it must begin with {}", one_of(&names)), "");
        return None;
    };
    if rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@')) {
        let hint = match scheme.kind {
            Kind::Mqtt | Kind::Kafka => "use username and password_file",
            Kind::Http => "use token_file",
            Kind::Nats => "use token_file, or username and password_file",
        };
        fault("it must not hold a user name or password", hint);
        return None;
    }
    if scheme.tls && !cfg!(feature = "tls") {
        fault(NO_TLS, "use an address without TLS, or a build with the feature \"tls\"");
    }
    Some((scheme, WithOrigin { value: rest.to_owned(), origin }))
}

fn refuse_keys_of_others(table: &mut Table<'_>, kind: Kind) {
    for (key, owners) in KEYS.iter().filter(|(_, owners)| !owners.contains(&kind)) {
        let Some(value) = table.discard(key) else { continue };
        let schemes = SCHEMES.iter().filter(|scheme| owners.contains(&scheme.kind));
        let schemes: Vec<String> = schemes.map(|scheme| format!("{}://", scheme.name)).collect();
        let hint = match (kind, *key) {
            (Kind::Kafka, "topic") => "here it is kafka_topic",
            (Kind::Nats, "topic") => "here it is subject",
            _ => "remove it, or change the address",
        };
        table.fault_at(key, value.origin(), format!("only {} sinks have it", one_of(&schemes)), hint);
    }
}

/// Reports a fault in the address, which is then unusable.
fn bad_address(table: &Table<'_>, scheme: &Scheme, rest: &WithOrigin<String>, what: &str) {
    let hint = format!("write it as \"{}\"", scheme.example);
    table.fault_at("address", rest.origin.as_deref(), what, hint);
}

fn host(table: &Table<'_>, scheme: &Scheme, rest: &WithOrigin<String>) -> Option<Address> {
    let address = host_and_port(&rest.value, scheme.tls, scheme.port);
    if address.is_none() {
        bad_address(table, scheme, rest, "it is not a host with an optional port");
    }
    address
}

fn tls_of(table: &mut Table<'_>, scheme: &Scheme) -> TlsConfig {
    let what = format!("the address begins with {}://, which is not encrypted", scheme.name);
    let with_tls = SCHEMES.iter().find(|other| other.kind == scheme.kind && other.tls);
    let hint = match with_tls {
        Some(other) => format!("use {}://, or remove [sink.tls]", other.name),
        None => "remove [sink.tls]".to_owned(),
    };
    tls(table, (!scheme.tls).then_some((what.as_str(), hint.as_str())))
}

fn mqtt(
    table: &mut Table<'_>,
    scheme: &Scheme,
    rest: &WithOrigin<String>,
    gateway_id: &str,
    name: &str,
) -> Option<MqttSink> {
    let address = host(table, scheme, rest);
    let protocol = protocol(table);
    let topic = template(table, "topic", "fieldlog/{gateway}/events");
    if let Err(error) = topic::check_name(&expand(&topic, gateway_id, Lane::Priority)) {
        table.fault("topic", format!("{topic:?} is not the name of a topic: {error}"), "");
    }
    let client_id = client_id(table, || format!("fieldlog-{gateway_id}-sink-{name}"));
    let (username, password_file) = credentials(table, protocol);
    Some(MqttSink {
        keep_alive: seconds(table, "keep_alive_s", 5, 3_600, 30),
        packet_bytes_max: narrow(table.integer(
            "packet_bytes_max",
            1_024..=PACKET_BYTES_MAX,
            "bytes",
            PACKET_BYTES_MAX,
        )),
        tls: tls_of(table, scheme),
        will: will(table, gateway_id, &topic),
        commands: commands::mqtt(table, gateway_id, &topic),
        address: address?,
        protocol,
        topic,
        client_id,
        username,
        password_file,
    })
}

/// `[sink.will]`, which needs a topic of its own.
fn will(table: &mut Table<'_>, gateway_id: &str, events: &str) -> Option<WillConfig> {
    let mut will = table.table_if_present("will").and_then(source::will)?;
    let topic = will.topic.replace("{gateway}", gateway_id);
    if topic.contains(['{', '}']) {
        let what = format!("{:?} has a brace that belongs to no placeholder", will.topic);
        table.fault("will.topic", what, "use {gateway}");
    }
    if [Lane::Live, Lane::Backlog].iter().any(|lane| expand(events, gateway_id, *lane) == topic) {
        let what = format!("{topic:?} is the topic of the events");
        table.fault("will.topic", what, "choose another one: receivers would take it for a parcel");
    }
    will.topic = topic;
    Some(will)
}

fn http(table: &mut Table<'_>, scheme: &Scheme, rest: &WithOrigin<String>) -> Option<HttpSink> {
    let end = rest.value.find(['/', '?', '#']).unwrap_or(rest.value.len());
    let (authority, path) = rest.value.split_at(end);
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let authority = WithOrigin { value: authority.to_owned(), origin: rest.origin.clone() };
    let sink = HttpSink {
        token_file: table.path("token_file"),
        gzip: table.flag("gzip", true),
        tls: tls_of(table, scheme),
        address: host(table, scheme, &authority)?,
        path,
    };
    if sink.path.contains('#') {
        bad_address(table, scheme, rest, "it has a fragment, which no server gets to see");
        return None;
    }
    if sink.url().parse::<hyper::Uri>().is_err() {
        bad_address(table, scheme, rest, "it has characters that a URL cannot have");
        return None;
    }
    Some(sink)
}

fn nats(
    table: &mut Table<'_>,
    scheme: &Scheme,
    rest: &WithOrigin<String>,
    gateway_id: &str,
) -> Option<NatsSink> {
    let address = host(table, scheme, rest);
    let subject = template(table, "subject", "fieldlog.{gateway}.events");
    // A gateway id is one token of the subject, whatever characters it has.
    if !is_subject(&expand(&subject, &gateway_id.replace('.', "_"), Lane::Live)) {
        let what = format!("{subject:?} is not a subject of NATS");
        table.fault(
            "subject",
            what,
            "use words with dots between them, such as \"fieldlog.{gateway}.events\"",
        );
    }
    let stream = word(table, "stream", "FIELDLOG", is_stream, "a stream", "use letters, digits, _ and -");
    let create_stream = table.flag("create_stream", true);
    let sink = NatsSink {
        credentials_file: table.path("credentials_file"),
        token_file: table.path("token_file"),
        username: table.filled("username").map(|found| found.value),
        password_file: table.path("password_file"),
        tls: tls_of(table, scheme),
        commands: commands::nats(table, gateway_id, &subject),
        address: address?,
        subject,
        stream,
        create_stream,
    };
    check_nats(table, &sink);
    Some(sink)
}

fn check_nats(table: &Table<'_>, sink: &NatsSink) {
    check_password(table, sink.username.is_some(), sink.password_file.is_some());
    let given = [
        ("credentials_file", sink.credentials_file.is_some()),
        ("token_file", sink.token_file.is_some()),
        ("username", sink.username.is_some()),
    ];
    let mut given = given.iter().filter(|(_, given)| *given).map(|(key, _)| key);
    if let (Some(first), Some(second)) = (given.next(), given.next()) {
        let what = format!("{first} is set as well, but a server takes only one of them");
        table.fault(second, what, "remove one of the two");
    }
    if sink.tls.server_name.is_some() {
        let what = "the certificate of a NATS server must be for the host of the address";
        table.fault("tls.server_name", what, "remove it, and use that host");
    }
}

/// A user name and a password: both or none.
fn check_password(table: &Table<'_>, username: bool, password: bool) {
    match (username, password) {
        (true, false) => {
            table.fault("username", "it has no password_file", "name the file with the password")
        }
        (false, true) => table.fault("password_file", "it has no username", "a password needs its user name"),
        _ => {}
    }
}

fn kafka(table: &mut Table<'_>, scheme: &Scheme, rest: &WithOrigin<String>) -> Option<KafkaSink> {
    let brokers: Option<Vec<Address>> =
        rest.value.split(',').map(|host| host_and_port(host.trim(), scheme.tls, scheme.port)).collect();
    if brokers.is_none() {
        bad_address(table, scheme, rest, "it is not a list of hosts with optional ports");
    }
    let hint = "use 1 to 249 letters, digits, dots, hyphens and underscores";
    let topic = word(table, "kafka_topic", "fieldlog", is_kafka_topic, "a topic of Kafka", hint);
    let sink = KafkaSink {
        username: table.filled("username").map(|found| found.value),
        password_file: table.path("password_file"),
        sasl: table.choice("sasl").unwrap_or_default(),
        tls: tls_of(table, scheme),
        brokers: brokers.unwrap_or_default(),
        topic,
    };
    check_kafka(table, scheme, &sink);
    (!sink.brokers.is_empty()).then_some(sink)
}

fn check_kafka(table: &Table<'_>, scheme: &Scheme, sink: &KafkaSink) {
    check_password(table, sink.username.is_some(), sink.password_file.is_some());
    if table.was_written("sasl") && sink.username.is_none() {
        table.fault("sasl", "it has no effect without a user name", "set username, or remove it");
    } else if sink.sasl == SaslMechanism::Plain && !scheme.tls {
        let what = "\"plain\" would show the password to everyone on the way";
        table.fault("sasl", what, "use kafkas://, or \"scram-sha-256\" or \"scram-sha-512\"");
    }
    if sink.tls.server_name.is_some() {
        let what = "the certificate of a broker must be for the host that the cluster names";
        table.fault("tls.server_name", what, "remove it");
    }
    // The client cuts the host name at its first colon.
    if scheme.tls && sink.brokers.iter().any(|broker| broker.host.contains(':')) {
        let what = "an IPv6 address cannot be checked against a certificate here";
        table.fault("address", what, "use the broker's name");
    }
}

/// Text with placeholders in it.
fn template(table: &mut Table<'_>, key: &'static str, default: &str) -> String {
    const PLACEHOLDERS: [&str; 3] = ["{gateway}", "{lane}", "{epoch}"];
    let Some(found) = table.filled(key) else { return default.to_owned() };
    let rest =
        PLACEHOLDERS.iter().fold(found.value.clone(), |rest, placeholder| rest.replace(placeholder, ""));
    if rest.contains(['{', '}']) {
        let what = format!("{:?} has a brace that belongs to no placeholder", found.value);
        let hint = format!("use {}", one_of(&PLACEHOLDERS));
        table.fault_at(key, found.origin.as_deref(), what, hint);
        return default.to_owned();
    }
    found.value
}

fn word(
    table: &mut Table<'_>,
    key: &'static str,
    default: &str,
    good: fn(&str) -> bool,
    what: &str,
    hint: &str,
) -> String {
    let Some(found) = table.filled(key) else { return default.to_owned() };
    if good(&found.value) {
        return found.value;
    }
    let what = format!("{:?} cannot be the name of {what}", found.value);
    table.fault_at(key, found.origin.as_deref(), what, hint);
    default.to_owned()
}

fn is_stream(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
}

fn is_kafka_topic(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=249).contains(&text.len()) && text.bytes().all(good) && !matches!(text, "." | "..")
}
