//! `[retention]`: how much of the log is kept.

use std::time::Duration;

use super::raw::Table;
use super::show::Doc;
use crate::retention::WhenFull;

/// 100 years, in days.
const AGE_DAYS_MAX: u64 = 36_500;
/// More than any file system of a gateway; keeps sums of sizes far from overflow.
const BYTES_MAX: u64 = 1_000_000_000_000_000;
const DAY_S: u64 = 86_400;

const WHEN_FULL: [(&str, WhenFull); 2] = [("block", WhenFull::Block), ("drop-oldest", WhenFull::DropOldest)];

/// `[retention]`: what may be deleted from the front of the log, and what happens when that does not suffice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionConfig {
    /// `age_days` (0–36,500; default 0: never): records that are older are deleted.
    pub age: Option<Duration>,
    /// `bytes_max` (0, or 1,048,576–10^15; default 268,435,456; 0: no bound): stored bytes of the log.
    pub bytes_max: Option<u64>,
    /// `history_min_s` (0–3,153,600,000; default 0): younger records are not deleted for `bytes_max`, unless
    /// `when_full` is `drop-oldest`.
    pub history_min: Duration,
    /// `free_bytes_min` (0–10^15; default 67,108,864): what is left free of the file system of `data_dir`.
    pub free_bytes_min: u64,
    /// `when_full`: `block` (default) or `drop-oldest`.
    pub when_full: WhenFull,
}

pub(super) fn read(mut table: Table<'_>) -> RetentionConfig {
    let d = RetentionConfig::default();
    let age_days = table.integer("age_days", 0..=AGE_DAYS_MAX, "days", 0);
    let retention = RetentionConfig {
        age: Some(Duration::from_secs(age_days * DAY_S)).filter(|age| !age.is_zero()),
        bytes_max: table.integer_or_none("bytes_max", 1_048_576..=BYTES_MAX, "bytes", d.bytes_max),
        history_min: Duration::from_secs(table.integer(
            "history_min_s",
            0..=AGE_DAYS_MAX * DAY_S,
            "seconds",
            d.history_min.as_secs(),
        )),
        free_bytes_min: table.integer("free_bytes_min", 0..=BYTES_MAX, "bytes", d.free_bytes_min),
        when_full: table.choice("when_full", &WHEN_FULL, d.when_full),
    };
    if let Some(age) = retention.age.filter(|age| *age < retention.history_min) {
        let (history, age) = (retention.history_min.as_secs(), age.as_secs());
        let what = format!("{history} seconds are to be kept, but age_days deletes after {age} seconds");
        table.fault("history_min_s", what, "lower it, or raise age_days");
    }
    table.finish();
    retention
}

impl RetentionConfig {
    pub(super) fn show(&self, doc: &mut Doc) {
        doc.header("[retention]");
        doc.raw("age_days", self.age.map_or(0, |age| age.as_secs() / DAY_S));
        doc.raw("bytes_max", self.bytes_max.unwrap_or(0));
        doc.raw("history_min_s", self.history_min.as_secs());
        doc.raw("free_bytes_min", self.free_bytes_min);
        let word = WHEN_FULL.iter().find(|(_, when_full)| *when_full == self.when_full);
        doc.text("when_full", word.map_or("", |(word, _)| word));
    }
}
