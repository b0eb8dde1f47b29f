//! Which changes need a restart.

use super::super::Config;
use super::{SOURCE, parse};

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
    check(SOURCE, &window, &[("source \"home\" receive_window", true), ("source \"home\" exclude", true)]);
}

#[test]
fn only_some_changes_need_a_new_connection() {
    let first = |config: Config| config.sources.into_iter().next().unwrap();
    let with = |line: &str| first(parse(&SOURCE.replace("[[source.s", &format!("{line}\n[[source.s"))));
    let plain = first(parse(SOURCE));
    assert!(plain.same_connection(&with("exclude = [\"a\"]\nsilence_timeout_s = 5")));
    assert!(!plain.same_connection(&with("keep_alive_s = 5")));
}
