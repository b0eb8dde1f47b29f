//! `[[sink]]`: every scheme, and every kind of fault with its message.

use std::time::Duration;

use super::super::{Address, Config, SinkConfig, SinkFormat, SinkTarget};
use super::{SINK, SOURCE, lines, parse};
use crate::config::Order;
use crate::config::RefusedPolicy;
use crate::config::SaslMechanism;

fn one(text: &str) -> SinkConfig {
    let mut sinks = parse(text).sinks;
    assert_eq!(sinks.len(), 1);
    sinks.remove(0)
}

fn at(address: &str) -> String {
    SINK.replace("mqtt://broker.example", address)
}

fn broker(host: &str, port: u16, tls: bool) -> Address {
    Address { host: host.to_owned(), port, tls }
}

/// Keys of a sink with this address; the fault's key follows `sink[0] "cloud" `.
#[track_caller]
fn check(address: &str, keys: &str, expected: &[&str]) {
    let text = format!("{}{keys}", at(address));
    let expected: Vec<String> = expected.iter().map(|line| format!("sink[0] \"cloud\" {line}")).collect();
    assert_eq!(lines(&text), expected, "{text}");
}

#[test]
fn what_a_sink_is_without_more() {
    let sink = one(&format!("gateway_id = \"gw\"\n{SINK}"));
    assert_eq!((sink.format, sink.order, sink.required), (SinkFormat::Json, Order::LiveFirst, true));
    assert_eq!((sink.backlog_share, sink.bandwidth_bytes_per_s), (0.5, None));
    assert_eq!(sink.refused, RefusedPolicy::Keep);
    assert_eq!((sink.parcel_events_max, sink.parcel_bytes_max, sink.in_flight_max), (500, 262_144, 4));
    assert_eq!(sink.parcel_delay, Duration::from_millis(10));
    let seconds = [sink.connect_timeout, sink.answer_timeout, sink.backoff_max].map(|time| time.as_secs());
    assert_eq!(seconds, [20, 30, 60]);
    assert!(sink.filter.devices.is_empty() && sink.filter.types.is_empty());
    let SinkTarget::Mqtt(mqtt) = sink.target else { panic!("{:?}", sink.target) };
    assert_eq!(
        (mqtt.client_id.as_str(), mqtt.topic.as_str()),
        ("fieldlog-gw-sink-cloud", "fieldlog/{gateway}/events")
    );
    assert_eq!(mqtt.keep_alive, Duration::from_secs(30));
}

#[test]
fn a_will_is_on_the_gateways_own_topic() {
    let will = |topic: &str| format!("[sink.will]\ntopic = \"{topic}\"");
    let SinkTarget::Mqtt(mqtt) =
        one(&format!("gateway_id = \"gw\"\n{SINK}{}", will("site/{gateway}/state"))).target
    else {
        panic!()
    };
    let told = mqtt.will.unwrap();
    assert_eq!(
        (told.topic.as_str(), told.offline.as_str(), told.online.as_str()),
        ("site/gw/state", "offline", "online")
    );
    check(
        "mqtt://host",
        &will("a/{lane}"),
        &["will.topic: \"a/{lane}\" has a brace that belongs to no placeholder; use {gateway}"],
    );
    check(
        "mqtt://host",
        &format!("topic = \"a/{{gateway}}\"\n{}", will("a/{gateway}")),
        &[&format!(
            "will.topic: \"a/{}\" is the topic of the events; choose another one: receivers would take it for a parcel",
            Config::default().gateway_id
        )],
    );
    check(
        "mqtt://host",
        "[sink.will]\nonline = \"x\"",
        &["will.topic: it is missing; name the topic, such as \"fieldlog/gateway/state\""],
    );
}

#[test]
fn the_defaults_of_the_other_kinds() {
    let nats = one(&at("nats://host"));
    assert_eq!(nats.order, Order::Strict);
    let SinkTarget::Nats(nats) = nats.target else { panic!() };
    assert_eq!((nats.subject.as_str(), nats.stream.as_str()), ("fieldlog.{gateway}.events", "FIELDLOG"));
    assert!(nats.create_stream);
    let SinkTarget::Kafka(kafka) = one(&at("kafka://host")).target else { panic!() };
    assert_eq!(kafka.topic, "fieldlog");
    let SinkTarget::Http(http) = one(&at("http://host")).target else { panic!() };
    assert!(http.gzip && http.token_file.is_none());
}

#[test]
#[cfg_attr(not(feature = "tls"), ignore = "mqtts:// needs the feature tls")]
fn addresses() {
    for (address, expected) in [
        ("mqtt://host", vec![broker("host", 1883, false)]),
        ("mqtts://host", vec![broker("host", 8883, true)]),
        ("mqtt://[fd00::1]:99/", vec![broker("fd00::1", 99, false)]),
        ("http://host", vec![broker("host", 80, false)]),
        ("https://[::1]:8443/a/b", vec![broker("::1", 8443, true)]),
        ("nats://host:4333", vec![broker("host", 4333, false)]),
        ("tls://host", vec![broker("host", 4222, true)]),
        ("kafka://a", vec![broker("a", 9092, false)]),
        ("kafka://a:1,b:2", vec![broker("a", 1, false), broker("b", 2, false)]),
        ("kafkas://a,b:2", vec![broker("a", 9093, true), broker("b", 2, true)]),
        ("kafka://[fd00::1]", vec![broker("fd00::1", 9092, false)]),
    ] {
        let found = match one(&at(address)).target {
            SinkTarget::Mqtt(mqtt) => vec![mqtt.address],
            SinkTarget::Http(http) => vec![http.address],
            SinkTarget::Nats(nats) => vec![nats.address],
            SinkTarget::Kafka(kafka) => kafka.brokers,
        };
        assert_eq!(found, expected, "{address}");
    }
}

#[test]
#[cfg_attr(not(feature = "tls"), ignore = "https:// needs the feature tls")]
fn urls() {
    for (address, url, words, authority) in [
        ("http://host", "http://host/", "http://host:80", "host"),
        ("https://host:443/in/", "https://host/in/", "https://host:443", "host"),
        ("http://host:8080?key=a@b", "http://host:8080/?key=a@b", "http://host:8080", "host:8080"),
        ("http://[::1]/x?y=z", "http://[::1]/x?y=z", "http://[::1]:80", "[::1]"),
        ("http://[::1]:8443/x", "http://[::1]:8443/x", "http://[::1]:8443", "[::1]:8443"),
        ("https://host:80", "https://host:80/", "https://host:80", "host:80"),
    ] {
        let target = one(&at(address)).target;
        assert_eq!(target.to_string(), words);
        let SinkTarget::Http(http) = target else { panic!() };
        assert_eq!((http.url(), http.authority()), (url.to_owned(), authority.to_owned()));
        assert_eq!(one(&at(url)).target, SinkTarget::Http(http));
    }
}

#[test]
fn bad_addresses() {
    let schemes = "address: it must begin with mqtt://, mqtts://, http://, https://, nats://, tls://, kafka:// \
                   or kafkas://";
    for address in ["host:1883", "ftp://host", "host"] {
        check(address, "", &[schemes]);
    }
    for (address, hint) in [
        ("mqtt://me:hunter2@host", "use username and password_file"),
        ("http://me:hunter2@host/x", "use token_file"),
        ("nats://hunter2@host", "use token_file, or username and password_file"),
        ("kafka://host,me@host2", "use username and password_file"),
    ] {
        check(address, "", &[&format!("address: it must not hold a user name or password; {hint}")]);
    }
    for (address, example) in [
        ("mqtt://host/path", "mqtt://host:1883"),
        ("nats://host:0", "nats://host:4222"),
        ("http://", "http://host/path"),
        ("http://host:x/path", "http://host/path"),
    ] {
        let what = "it is not a host with an optional port";
        check(address, "", &[&format!("address: {what}; write it as \"{example}\"")]);
    }
    for address in ["kafka://", "kafka://a,", "kafka://a,b:x"] {
        let what = "it is not a list of hosts with optional ports";
        let hint = "write it as \"kafka://host:9092,host2:9092\"";
        check(address, "", &[&format!("address: {what}; {hint}")]);
    }
    let hint = "write it as \"http://host/path\"";
    check(
        "http://host/a#b",
        "",
        &[&format!("address: it has a fragment, which no server gets to see; {hint}")],
    );
    for address in ["http://host/a b", "http://hörst/"] {
        check(address, "", &[&format!("address: it has characters that a URL cannot have; {hint}")]);
    }
}

#[test]
fn missing_and_duplicate() {
    assert_eq!(
        lines("[[sink]]"),
        [
            "sink[0] name: it is missing; give the sink a short name, such as \"cloud\"",
            "sink[0] address: it is missing; say where events are sent, such as \"mqtts://broker.example\" or \
         \"https://host/path\"",
        ]
    );
    assert_eq!(
        lines(&SINK.replace("\"cloud\"", "\"the cloud\"")),
        ["sink[0] \"the cloud\" name: the name is too long or has other characters than it may; \
         use 1 to 32 of the characters a-z, 0-9, _ and -"]
    );
    assert_eq!(
        lines(&format!("{SINK}{}", at("mqtt://other.example"))),
        ["sink[1] \"cloud\" name: \"cloud\" is used by another sink; give each its own name"]
    );
    // A source and a sink may have the same name.
    parse(&format!("{}{}", SOURCE.replace("home", "cloud"), SINK));
    assert_eq!(lines("sink = 5"), ["sink: it is the number 5; it must be an array of tables, [[sink]]"]);
    assert_eq!(lines("[sink]"), ["sink: it is a table; it must be an array of tables, [[sink]]"]);
}

#[test]
fn ranges() {
    for (keys, expected) in [
        ("backlog_share = 0.99", "backlog_share: 0.99 is out of range; it must be 0.05 to 0.95"),
        ("backlog_share = 1", "backlog_share: 1 is out of range; it must be 0.05 to 0.95"),
        ("backlog_share = nan", "backlog_share: NaN is out of range; it must be 0.05 to 0.95"),
        ("backlog_share = \"half\"", "backlog_share: it is text; it must be a number, 0.05 to 0.95"),
        (
            "bandwidth_bytes_per_s = 99",
            "bandwidth_bytes_per_s: 99 is out of range; it must be 0, or 100 to 10000000000 bytes per second",
        ),
        ("parcel_events_max = 0", "parcel_events_max: 0 is out of range; it must be 1 to 10000 events"),
        (
            "parcel_bytes_max = 1023",
            "parcel_bytes_max: 1023 is out of range; it must be 1024 to 16777216 bytes",
        ),
        (
            "parcel_delay_ms = 60001",
            "parcel_delay_ms: 60001 is out of range; it must be 0 to 60000 milliseconds",
        ),
        ("in_flight_max = 65", "in_flight_max: 65 is out of range; it must be 1 to 64 parcels"),
        ("connect_timeout_s = 0", "connect_timeout_s: 0 is out of range; it must be 1 to 300 seconds"),
        ("answer_timeout_s = 601", "answer_timeout_s: 601 is out of range; it must be 1 to 600 seconds"),
        ("backoff_max_s = 0", "backoff_max_s: 0 is out of range; it must be 1 to 3600 seconds"),
        ("keep_alive_s = 4", "keep_alive_s: 4 is out of range; it must be 5 to 3600 seconds"),
        (
            "packet_bytes_max = 1000",
            "packet_bytes_max: 1000 is out of range; it must be 1024 to 268435455 bytes",
        ),
        ("required = 1", "required: it is the number 1; it must be true or false"),
    ] {
        check("mqtt://host", keys, &[expected]);
    }
    assert_eq!(one(&format!("{SINK}bandwidth_bytes_per_s = 100")).bandwidth_bytes_per_s, Some(100));
    assert_eq!(one(&format!("{SINK}bandwidth_bytes_per_s = 0")).bandwidth_bytes_per_s, None);
}

#[test]
fn choices_and_unknown_keys() {
    check(
        "mqtt://host",
        "format = \"compct\"\norder = \"fifo\"\nrefused = \"drop\"",
        &[
            "format: \"compct\" is unknown; it must be json or compact; did you mean compact?",
            "order: \"fifo\" is unknown; it must be live-first or strict",
            "refused: \"drop\" is unknown; it must be keep or release",
        ],
    );
    check("mqtt://host", "parcel_delay = 5", &["parcel_delay: unknown key; did you mean parcel_delay_ms?"]);
    check(
        "mqtt://host",
        "password = \"hunter2\"",
        &["password: unknown key; write it to a file and name the file in password_file"],
    );
    check(
        "http://host",
        "token = \"hunter2\"",
        &["token: unknown key; write it to a file and name the file in token_file"],
    );
}

#[test]
fn keys_of_other_schemes() {
    let other = "remove it, or change the address";
    check(
        "http://host",
        "topic = \"a\"\nkeep_alive_s = 5\nkafka_topic = \"a\"\n[sink.will]\ntopic = \"a\"",
        &[
            &format!("topic: only mqtt:// or mqtts:// sinks have it; {other}"),
            &format!("keep_alive_s: only mqtt:// or mqtts:// sinks have it; {other}"),
            &format!("will: only mqtt:// or mqtts:// sinks have it; {other}"),
            &format!("kafka_topic: only kafka:// or kafkas:// sinks have it; {other}"),
        ],
    );
    check(
        "mqtt://host",
        "token_file = \"a\"\ngzip = true\nsubject = \"a\"",
        &[
            &format!("token_file: only http://, https://, nats:// or tls:// sinks have it; {other}"),
            &format!("gzip: only http:// or https:// sinks have it; {other}"),
            &format!("subject: only nats:// or tls:// sinks have it; {other}"),
        ],
    );
    check(
        "kafka://host",
        "topic = \"a\"\nstream = \"a\"",
        &[
            "topic: only mqtt:// or mqtts:// sinks have it; here it is kafka_topic",
            &format!("stream: only nats:// or tls:// sinks have it; {other}"),
        ],
    );
    check(
        "nats://host",
        "topic = \"a\"",
        &["topic: only mqtt:// or mqtts:// sinks have it; here it is subject"],
    );
    // Without a scheme it is unknown which keys apply.
    let [fault] = &lines(&format!("{}topic = \"a\"\ngzip = true\n[sink.tls]", at("host")))[..] else {
        panic!()
    };
    assert!(fault.contains("address: it must begin with"), "{fault}");
}

#[test]
#[cfg_attr(not(feature = "tls"), ignore = "tls:// needs the feature tls")]
fn contradictions() {
    for (address, name, hint) in [
        ("mqtt://host", "mqtt", "use mqtts://, or remove [sink.tls]"),
        ("http://host", "http", "use https://, or remove [sink.tls]"),
        ("nats://host", "nats", "use tls://, or remove [sink.tls]"),
        ("kafka://host", "kafka", "use kafkas://, or remove [sink.tls]"),
    ] {
        let what = format!("tls: the address begins with {name}://, which is not encrypted; {hint}");
        check(address, "[sink.tls]\nca_file = \"x\"", &[&what]);
    }
    check(
        "tls://host",
        "[sink.tls]\nkey_file = \"x\"",
        &["tls.key_file: it has no cert_file; a private key needs its certificate"],
    );
    check(
        "mqtt://host",
        "order = \"strict\"\nbacklog_share = 0.5",
        &[
            "backlog_share: it has no effect when order is \"strict\"; remove it, or set order = \"live-first\"",
        ],
    );
    check(
        "kafka://host",
        "format = \"compact\"",
        &[
            "format: kafka:// takes one record per event, and so only \"json\"; remove it, or use another address",
        ],
    );
    check(
        "http://host",
        "format = \"compact\"\ngzip = true",
        &["gzip: it has no effect when format is \"compact\", which is compressed already; remove it"],
    );
    check(
        "mqtt://host",
        "protocol = 4\npassword_file = \"x\"",
        &["password_file: MQTT 3.1.1 has no password without a user name; set username"],
    );
}

#[test]
#[cfg_attr(not(feature = "tls"), ignore = "tls:// needs the feature tls")]
fn what_a_nats_server_takes() {
    for keys in [
        "credentials_file = \"a\"",
        "token_file = \"a\"",
        "username = \"a\"\npassword_file = \"b\"",
        "[sink.tls]\ncert_file = \"a\"\nkey_file = \"b\"",
    ] {
        let text = format!("{}{keys}", at("tls://host"));
        let config = parse(&text);
        assert_eq!(parse(&config.to_toml()), config, "{text}");
    }
    check(
        "nats://host",
        "username = \"a\"",
        &["username: it has no password_file; name the file with the password"],
    );
    check(
        "nats://host",
        "password_file = \"a\"",
        &["password_file: it has no username; a password needs its user name"],
    );
    check(
        "nats://host",
        "credentials_file = \"a\"\ntoken_file = \"b\"",
        &[
            "token_file: credentials_file is set as well, but a server takes only one of them; remove one of the two",
        ],
    );
    check(
        "nats://host",
        "token_file = \"b\"\nusername = \"a\"\npassword_file = \"c\"",
        &["username: token_file is set as well, but a server takes only one of them; remove one of the two"],
    );
    check(
        "tls://host",
        "[sink.tls]\nserver_name = \"a\"",
        &["tls.server_name: the certificate of a NATS server must be for the host of the address; \
           remove it, and use that host"],
    );
}

#[test]
#[cfg_attr(not(feature = "tls"), ignore = "kafkas:// needs the feature tls")]
fn what_a_kafka_cluster_takes() {
    for keys in [
        "username = \"a\"\npassword_file = \"b\"",
        "username = \"a\"\npassword_file = \"b\"\nsasl = \"plain\"",
        "username = \"a\"\npassword_file = \"b\"\nsasl = \"scram-sha-256\"",
        "[sink.tls]\nca_file = \"c\"\ncert_file = \"a\"\nkey_file = \"b\"",
        "",
    ] {
        let text = format!("{}{keys}", at("kafkas://a,b"));
        let config = parse(&text);
        assert_eq!(parse(&config.to_toml()), config, "{text}");
    }
    let sasl = |keys: &str| {
        let SinkTarget::Kafka(kafka) = one(&format!("{}{keys}", at("kafka://[fd00::1]:1,b"))).target else {
            panic!()
        };
        assert_eq!(kafka.hosts(), ["[fd00::1]:1", "b:9092"]);
        kafka.sasl
    };
    assert_eq!(sasl("username = \"a\"\npassword_file = \"b\""), SaslMechanism::ScramSha512);
    check(
        "kafka://host",
        "username = \"a\"",
        &["username: it has no password_file; name the file with the password"],
    );
    check(
        "kafka://host",
        "password_file = \"a\"\nsasl = \"scram-sha-256\"",
        &[
            "password_file: it has no username; a password needs its user name",
            "sasl: it has no effect without a user name; set username, or remove it",
        ],
    );
    check(
        "kafka://host",
        "username = \"a\"\npassword_file = \"b\"\nsasl = \"plain\"",
        &["sasl: \"plain\" would show the password to everyone on the way; \
           use kafkas://, or \"scram-sha-256\" or \"scram-sha-512\""],
    );
    check(
        "kafkas://host",
        "username = \"a\"\npassword_file = \"b\"\nsasl = \"scram-sha-1\"",
        &["sasl: \"scram-sha-1\" is unknown; it must be plain, scram-sha-256 or scram-sha-512"],
    );
    check(
        "kafkas://[fd00::1]",
        "[sink.tls]\nserver_name = \"a\"",
        &[
            "tls.server_name: the certificate of a broker must be for the host that the cluster names; remove it",
            "address: an IPv6 address cannot be checked against a certificate here; use the broker's name",
        ],
    );
    check(
        "mqtt://host",
        "sasl = \"plain\"",
        &["sasl: only kafka:// or kafkas:// sinks have it; remove it, or change the address"],
    );
}

#[test]
fn filters() {
    check(
        "mqtt://host",
        "devices = [\"\", \"**\", \"*a*b\"]",
        &[
            "devices[0]: \"\" is not a pattern; it must not be empty, nor have two `*` side by side",
            "devices[1]: \"**\" is not a pattern; it must not be empty, nor have two `*` side by side",
        ],
    );
    check(
        "mqtt://host",
        "types = [\"state_changed\", \"state_change\"]",
        &["types[1]: there is no event type \"state_change\"; did you mean state_changed?"],
    );
    let [fault] = &lines(&format!("{SINK}types = [\"everything\"]"))[..] else { panic!() };
    let words =
        "types[0]: there is no event type \"everything\"; it must be state_changed, availability_changed, ";
    assert!(fault.contains(words), "{fault}");
}

#[test]
fn what_goes_ahead() {
    let sink = one(&format!("{SINK}priority = [\"availability_changed\", \"booted\"]"));
    assert_eq!(sink.priority, ["availability_changed", "booted"]);
    assert!(one(SINK).priority.is_empty());
    check(
        "mqtt://host",
        "priority = [\"state_changed\", \"availability\"]",
        &["priority[1]: there is no event type \"availability\"; did you mean availability_changed?"],
    );
    check(
        "http://host",
        "order = \"strict\"\npriority = [\"booted\"]",
        &["priority: nothing can go ahead of its turn when order is \"strict\"; \
           remove it, or set order = \"live-first\""],
    );
    for order in ["", "order = \"live-first\"\n"] {
        check(
            "nats://host",
            &format!("{order}priority = [\"booted\"]"),
            &[
                "priority: a JetStream takes the parcels of a subject in one order, in which nothing can go ahead; \
               remove it, or use another address",
            ],
        );
    }
    check(
        "mqtt://host",
        "types = [\"booted\"]\npriority = [\"booted\", \"gap\"]",
        &["priority[1]: gap is not among the types that are sent; add it to types, or remove it here"],
    );
}

#[test]
fn topics_subjects_and_names() {
    check(
        "mqtt://host",
        "topic = \"a/{gatway}\"",
        &[
            "topic: \"a/{gatway}\" has a brace that belongs to no placeholder; use {gateway}, {lane} or {epoch}",
        ],
    );
    check(
        "mqtt://host",
        "topic = \"a/+/{lane}\"",
        &["topic: \"a/+/{lane}\" is not the name of a topic: level \"+\" has a wildcard inside it; \
         `+` and `#` must be a whole level or begin it"],
    );
    check(
        "nats://host",
        "subject = \"a.{lane\"",
        &[
            "subject: \"a.{lane\" has a brace that belongs to no placeholder; use {gateway}, {lane} or {epoch}",
        ],
    );
    for subject in ["a..b", "a.*", "a b", "$SYS.x"] {
        let text = format!("{}subject = \"{subject}\"", at("nats://host"));
        assert_eq!(
            lines(&text),
            [format!(
                "sink[0] \"cloud\" subject: \"{subject}\" is not a subject of NATS; \
             use words with dots between them, such as \"fieldlog.{{gateway}}.events\""
            )]
        );
    }
    parse(&format!("gateway_id = \"gw.\"\n{}", at("nats://host")));
    check(
        "nats://host",
        "stream = \"a.b\"",
        &["stream: \"a.b\" cannot be the name of a stream; use letters, digits, _ and -"],
    );
    for topic in ["a/b", ".."] {
        check(
            "kafka://host",
            &format!("kafka_topic = \"{topic}\""),
            &[&format!(
                "kafka_topic: \"{topic}\" cannot be the name of a topic of Kafka; \
             use 1 to 249 letters, digits, dots, hyphens and underscores"
            )],
        );
    }
}

#[test]
fn sinks_and_sources_at_one_broker() {
    let local = at("mqtt://127.0.0.1");
    let ids = |text: &str| text.replace("name = ", "client_id = \"x\"\nname = ");
    let words =
        "has the same client id at the same broker; they would disconnect each other; give each its own";
    assert_eq!(
        lines(&format!("{}{}", ids(SOURCE), ids(&local))),
        [format!("sink[0] \"cloud\" client_id: source \"home\" {words}")]
    );
    let other = local.replace("\"cloud\"", "\"backup\"");
    assert_eq!(
        lines(&format!("{}{}", ids(&local), ids(&other))),
        [format!("sink[1] \"backup\" client_id: sink \"cloud\" {words}")]
    );
    parse(&format!("{SOURCE}{local}{other}"));
    // Elsewhere it is another session.
    parse(&format!("{}{}", ids(SOURCE), ids(SINK)));
}

#[test]
fn what_is_sent_must_not_come_back() {
    let rule = "topic = \"#device\"\ndecoder = \"json\"";
    let source = SOURCE.replace("preset = \"zigbee2mqtt\"", rule);
    let local = at("mqtt://127.0.0.1");
    assert_eq!(
        lines(&format!("gateway_id = \"gw\"\n{source}{local}topic = \"up/{{gateway}}/{{lane}}\"")),
        ["sink[0] \"cloud\" topic: source \"home\" takes \"up/gw/live\" from the same broker; \
         events would go round for ever; exclude the topic from the source",]
    );
    // Priority copies have a topic of their own if the template says so, but only if there are any.
    let lane = source.replace("#device", "up/+device/priority");
    let sink = format!("{local}topic = \"up/{{gateway}}/{{lane}}\"\n");
    parse(&format!("gateway_id = \"gw\"\n{lane}{sink}"));
    assert_eq!(lines(&format!("gateway_id = \"gw\"\n{lane}{sink}priority = [\"booted\"]")).len(), 1);
    let excluded = source.replace("[[source.s", "exclude = [\"fieldlog/#\"]\n[[source.s");
    parse(&format!("{excluded}{local}"));
    let ignored = source.replace(
        "[[source.s",
        "[[source.subscription]]\ntopic = \"fieldlog/#rest\"\ndecoder = \"ignore\"\n[[source.s",
    );
    parse(&format!("{ignored}{local}"));
    parse(&format!("{source}{SINK}"));
}

#[test]
fn faults_hold_no_secrets() {
    let text = format!(
        "{}{}{}",
        at("http://u:hunter2@host/x"),
        at("http://host/a b?hunter2"),
        at("http://host:x/?hunter2#")
    );
    let faults = Config::from_toml(&text, "test.toml").unwrap_err();
    assert_eq!(faults.faults.len(), 3, "{faults}");
    assert!(!format!("{faults}{faults:?}").contains("hunter2"), "{faults}");
}

#[test]
fn commands_have_a_place_for_the_device() {
    let commands = |keys: &str| format!("[sink.commands]\n{keys}");
    for topic in ["a/b", "a/+/#", "#", "$share/x/#", "a/#/b"] {
        check(
            "mqtt://host",
            &commands(&format!("topic = \"{topic}\"")),
            &[&format!(
                "commands.topic: \"{topic}\" has no place for the device id; use a topic that ends with /#, \
                 such as \"fieldlog/{{gateway}}/commands/#\""
            )],
        );
    }
    check(
        "mqtt://host",
        &format!("topic = \"up/{{lane}}\"\n{}", commands("topic = \"up/#\"")),
        &[
            "commands.topic: \"up/#\" takes \"up/live\", on which this sink sends events; use topics of their own: \
           events are no commands",
        ],
    );
    check(
        "mqtt://host",
        &commands("session_expiry_s = 86401"),
        &[
            "commands.session_expiry_s: it is 86401 seconds, but the key of a command is remembered for 86400 \
             (limits.command_key_s); make limits.command_key_s as long, or a command that the broker sends again could be \
             carried out twice",
        ],
    );
    check(
        "nats://host",
        &commands("subject = \"a.b\""),
        &["commands.subject: \"a.b\" has no place for the device id; use one that ends with .>, such as \
           \"fieldlog.commands.{gateway}.>\""],
    );
    let text = format!("gateway_id = \"gw\"\n{}{}", at("nats://host"), commands("subject = \"fieldlog.>\""));
    let words = "sink[0] \"cloud\" commands.subject: \"fieldlog.>\" takes \"fieldlog.gw.events\", on which this sink sends \
                 events; use subjects of their own: events are no commands";
    assert_eq!(lines(&text), [words]);
    check(
        "http://host",
        &commands(""),
        &[
            "commands: only mqtt://, mqtts://, nats:// or tls:// sinks have it; remove it, or change the address",
        ],
    );
    let text =
        format!("gateway_id = \"gw.1\"\n{}{}", at("mqtt://host"), commands("topic = \"c/{gateway}/#\""));
    let SinkTarget::Mqtt(mqtt) = parse(&text).sinks.remove(0).target else { panic!() };
    let found = mqtt.commands.unwrap();
    let devices = ["c/gw.1/plant/7", "c/gw.1/", "c/gw.1", "c/gw.12/x"].map(|topic| found.device(topic));
    assert_eq!(devices, ["plant/7", "", "", ""]);
}

#[test]
fn what_commands_come_to_can_have_priority() {
    let names = [
        "availability_changed",
        "command_applied",
        "command_failed",
        "command_expired",
        "command_unconfirmed",
    ];
    let text = format!("{}priority = {names:?}\n", at("mqtt://host"));
    assert_eq!(parse(&text).sinks[0].priority, names);
}
