//! `[retention]`.

use std::time::Duration;

use super::super::RetentionConfig;
use super::{lines, parse};
use crate::config::WhenFull;

#[track_caller]
fn check(keys: &str, expected: &[&str]) {
    let expected: Vec<String> = expected.iter().map(|line| format!("retention.{line}")).collect();
    assert_eq!(lines(&format!("[retention]\n{keys}")), expected, "{keys}");
}

#[test]
fn values() {
    let text = "[retention]\nage_days = 36499\nbytes_max = 1048576\nhistory_min_s = 0\nfree_bytes_min = 0\n\
                when_full = \"drop-oldest\"\nthin_to_s = 3600\nthin_age_days = 36500";
    let expected = RetentionConfig {
        age: Some(Duration::from_secs(36_499 * 86_400)),
        bytes_max: Some(1_048_576),
        history_min: Duration::ZERO,
        free_bytes_min: 0,
        when_full: WhenFull::DropOldest,
        thin_to_s: Some(3_600),
        thin_age: Some(Duration::from_secs(36_500 * 86_400)),
    };
    assert_eq!(parse(text).retention, expected);
    let unbounded = parse("[retention]\nage_days = 0\nbytes_max = 0").retention;
    assert_eq!(unbounded, RetentionConfig { bytes_max: None, ..RetentionConfig::default() });
}

#[test]
fn faults() {
    check("age_days = 36501", &["age_days: 36501 is out of range; it must be 0 to 36500 days"]);
    for bytes in ["1048575", "-1"] {
        check(
            &format!("bytes_max = {bytes}"),
            &[&format!(
                "bytes_max: {bytes} is out of range; it must be 0, or 1048576 to 1000000000000000 bytes"
            )],
        );
    }
    check(
        "bytes_max = \"1G\"",
        &["bytes_max: it is text; it must be a whole number, 0, or 1048576 to 1000000000000000 bytes"],
    );
    check(
        "free_bytes_min = 5.5",
        &["free_bytes_min: it is the number 5.5; it must be a whole number, 0 to 1000000000000000 bytes"],
    );
    check("history_min_s = -1", &["history_min_s: -1 is out of range; it must be 0 to 3153600000 seconds"]);
    check(
        "when_full = \"drop_oldest\"",
        &[
            "when_full: \"drop_oldest\" is unknown; it must be block or drop-oldest; did you mean drop-oldest?",
        ],
    );
    check("age = 5", &["age: unknown key; did you mean age_days?"]);
}

#[test]
fn an_age_below_the_minimum_history() {
    check(
        "age_days = 1\nhistory_min_s = 86401",
        &["history_min_s: 86401 seconds are to be kept, but age_days deletes after 86400 seconds; \
           lower it, or raise age_days"],
    );
    assert_eq!(parse("[retention]\nage_days = 1").retention.history_min, Duration::ZERO);
}

#[test]
fn windows_of_the_archive_fit_into_days() {
    for good in [0, 60, 900, 3_600, 86_400, 7 * 86_400, 31_536_000] {
        let retention = parse(&format!("[retention]\nthin_to_s = {good}")).retention;
        assert_eq!(retention.thin_to_s, Some(good).filter(|s| *s > 0));
    }
    check("thin_to_s = 59", &["thin_to_s: 59 is out of range; it must be 0, or 60 to 31536000 seconds"]);
    check(
        "thin_to_s = 7000",
        &["thin_to_s: windows of 7000 seconds do not fit into days; \
           take one that divides 86400, such as 3600, or whole days"],
    );
}

#[test]
fn the_archive_is_kept_longer_than_the_log() {
    assert_eq!(parse("[retention]\nthin_age_days = 0").retention.thin_age, None);
    check(
        "thin_to_s = 3600\nage_days = 30\nthin_age_days = 30",
        &["thin_age_days: aggregates are to be kept for 30 days, but they only begin after 30 days; \
           raise it above age_days, or set 0 to keep them for ever"],
    );
    // Without thinning there is nothing to contradict.
    parse("[retention]\nage_days = 5000");
}
