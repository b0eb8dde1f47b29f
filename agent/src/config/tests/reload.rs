//! Which changes need a restart.

use super::super::Config;
use super::{SINK, SOURCE, parse};

#[track_caller]
fn check(old: &str, new: &str, expected: &[(&str, bool)]) {
    let changes = parse(old).diff(&parse(new));
    let found: Vec<(&str, bool)> =
        changes.iter().map(|change| (change.key.as_str(), change.reloadable)).collect();
    assert_eq!(found, expected, "{new}");
}

#[test]
fn changes_are_named() {
    check("", "", &[]);
    check(
        "",
        "data_dir = \"/x\"\ngateway_id = \"other-name\"",
        &[("gateway_id", false), ("data_dir", false)],
    );
    check(
        "",
        "[log]\ncommit_delay_ms = 1\ncache_bytes = 2000000\nquick_repair = true",
        &[("log.commit_delay_ms", true), ("log.cache_bytes", false), ("log.quick_repair", false)],
    );
    check(
        "",
        "aggregates = []\n[snapshots]\nkeep = 1\n[limits]\ntopics_max = 1\n[http]\nlisten = \"\"",
        &[
            ("snapshots.keep", true),
            ("aggregates", true),
            ("http.listen", false),
            ("limits.topics_max", true),
        ],
    );
}

#[test]
fn sources_are_compared_by_name() {
    let attic = SOURCE.replace("\"home\"", "\"attic\"");
    check(SOURCE, &format!("{attic}{SOURCE}"), &[("source \"attic\"", true)]);
    check(SOURCE, &attic, &[("source \"home\"", true), ("source \"attic\"", true)]);
    let window = SOURCE.replace("[[source.s", "receive_window = 5\nexclude = [\"a\"]\n[[source.s");
    let redact = SOURCE.replace("[[source.s", "redact = [\"token\"]\n[[source.s");
    check(SOURCE, &redact, &[("source \"home\" redact", true)]);
    let namespace = SOURCE.replace("preset =", "namespace = \"house\"\npreset =");
    check(SOURCE, &namespace, &[("source \"home\" subscription", true), ("source \"home\" command", true)]);
    check("", "[limits]\nquarantine_per_topic_max = 9", &[("limits.quarantine_per_topic_max", true)]);
    check(SOURCE, &window, &[("source \"home\" receive_window", true), ("source \"home\" exclude", true)]);
}

#[test]
fn retention_is_compared_key_by_key() {
    let all = "[retention]\nage_days = 5\nbytes_max = 0\nhistory_min_s = 1\nfree_bytes_min = 0\n\
               when_full = \"drop-oldest\"";
    check(
        "",
        all,
        &[
            ("retention.age_days", true),
            ("retention.bytes_max", true),
            ("retention.history_min_s", true),
            ("retention.free_bytes_min", true),
            ("retention.when_full", true),
        ],
    );
}

#[test]
fn sinks_are_compared_by_name() {
    let backup = SINK.replace("\"cloud\"", "\"backup\"");
    check(SINK, &format!("{backup}{SINK}"), &[("sink \"backup\"", true)]);
    check(SINK, &backup, &[("sink \"cloud\"", true), ("sink \"backup\"", true)]);
    check(
        SINK,
        &format!("{SINK}backlog_share = 0.4\npriority = [\"gap\"]\ndevices = [\"a\"]\ntopic = \"x\""),
        &[
            ("sink \"cloud\" priority", true),
            ("sink \"cloud\" backlog_share", true),
            ("sink \"cloud\" devices", true),
            ("sink \"cloud\" topic", true),
        ],
    );
    check(SINK, &format!("{SINK}refused = \"release\""), &[("sink \"cloud\" refused", true)]);
    let http = SINK.replace("mqtt", "http");
    check(SINK, &http, &[("sink \"cloud\" address", true)]);
    let path = http.replace("example", "example/in?key=a");
    check(
        &http,
        &format!("{path}gzip = false"),
        &[("sink \"cloud\" address", true), ("sink \"cloud\" gzip", true)],
    );
    let nats = SINK.replace("mqtt", "nats");
    check(
        &nats,
        &format!("{nats}order = \"live-first\"\nstream = \"OTHER\"\ncreate_stream = false"),
        &[
            ("sink \"cloud\" order", true),
            ("sink \"cloud\" stream", true),
            ("sink \"cloud\" create_stream", true),
        ],
    );
    let kafka = SINK.replace("mqtt", "kafka");
    check(&kafka, &format!("{kafka}kafka_topic = \"x\""), &[("sink \"cloud\" kafka_topic", true)]);
    let user = format!("{kafka}username = \"a\"\npassword_file = \"b\"\n");
    check(&kafka, &user, &[("sink \"cloud\" username", true), ("sink \"cloud\" password_file", true)]);
    check(&user, &format!("{user}sasl = \"scram-sha-256\""), &[("sink \"cloud\" sasl", true)]);
}

#[test]
fn only_some_changes_need_a_new_connection() {
    let first = |config: Config| config.sources.into_iter().next().unwrap();
    let with = |line: &str| first(parse(&SOURCE.replace("[[source.s", &format!("{line}\n[[source.s"))));
    let plain = first(parse(SOURCE));
    assert!(plain.same_connection(&with("exclude = [\"a\"]\nsilence_timeout_s = 5")));
    assert!(!plain.same_connection(&with("keep_alive_s = 5")));
}
