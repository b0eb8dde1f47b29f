//! `[retention]`.

use std::time::Duration;

use super::super::RetentionConfig;
use super::{lines, parse};
use crate::retention::WhenFull;

#[track_caller]
fn check(keys: &str, expected: &[&str]) {
    let expected: Vec<String> = expected.iter().map(|line| format!("retention.{line}")).collect();
    assert_eq!(lines(&format!("[retention]\n{keys}")), expected, "{keys}");
}

#[test]
fn values() {
    let text = "[retention]\nage_days = 36500\nbytes_max = 1048576\nhistory_min_s = 0\nfree_bytes_min = 0\n\
                when_full = \"drop-oldest\"";
    let expected = RetentionConfig {
        age: Some(Duration::from_secs(36_500 * 86_400)),
        bytes_max: Some(1_048_576),
        history_min: Duration::ZERO,
        free_bytes_min: 0,
        when_full: WhenFull::DropOldest,
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
