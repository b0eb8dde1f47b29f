//! `[retention]`: how much of the log is kept.

use std::time::Duration;

use serde::Serialize;

use super::raw::Table;
use super::written;
use fieldlog_rules::choice;

/// 100 years, in days.
const AGE_DAYS_MAX: u64 = 36_500;
/// More than any file system of a gateway; keeps sums of sizes far from overflow.
const BYTES_MAX: u64 = 1_000_000_000_000_000;
const DAY_S: u64 = 86_400;
/// Shorter windows would not be much smaller than the records; a year is the longest that can be asked for.
const THIN_TO_S: std::ops::RangeInclusive<u64> = 60..=365 * DAY_S;

/// What to do when the log is full and something still needs its front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Stop acknowledging: the broker queues.
    Block,
    /// Drop the oldest records, and record that.
    DropOldest,
}

choice!(WhenFull { "block" => WhenFull::Block, "drop-oldest" => WhenFull::DropOldest });

/// `[retention]`: what may be deleted from the front of the log, and what to do when that is not enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RetentionConfig {
    /// `age_days` (0–36,500; default 0: never): records that are older are deleted.
    #[serde(rename = "age_days", serialize_with = "written::days")]
    pub age: Option<Duration>,
    /// `bytes_max` (0, or 1,048,576–10^15; default 268,435,456; 0: no bound): stored bytes of the log.
    #[serde(serialize_with = "written::or_zero")]
    pub bytes_max: Option<u64>,
    /// `history_min_s` (0–3,153,600,000; default 0): minimum age of records that are deleted for `bytes_max`, unless
    /// `when_full` is `drop-oldest`.
    #[serde(rename = "history_min_s", serialize_with = "written::seconds")]
    pub history_min: Duration,
    /// `free_bytes_min` (0–10^15; default 67,108,864): minimum free space of the file system of `data_dir`.
    pub free_bytes_min: u64,
    /// `when_full`: `block` (default) or `drop-oldest`.
    pub when_full: WhenFull,
    /// `thin_to_s` (0, or 60–31,536,000; default 0: none): store aggregates of deleted records in windows of so many
    /// seconds, which must divide a day or be whole days.
    #[serde(serialize_with = "written::or_zero")]
    pub thin_to_s: Option<u32>,
    /// `thin_age_days` (0–36,500; default 3,650; 0: for ever): older aggregates are deleted.
    #[serde(rename = "thin_age_days", serialize_with = "written::days")]
    pub thin_age: Option<Duration>,
}

pub(super) fn read(mut table: Table<'_>) -> RetentionConfig {
    let d = RetentionConfig::default();
    let retention = RetentionConfig {
        age: age(&mut table, "age_days", d.age),
        bytes_max: table.integer_or_none("bytes_max", 1_048_576..=BYTES_MAX, "bytes", d.bytes_max),
        history_min: Duration::from_secs(table.integer(
            "history_min_s",
            0..=AGE_DAYS_MAX * DAY_S,
            "seconds",
            d.history_min.as_secs(),
        )),
        free_bytes_min: table.integer("free_bytes_min", 0..=BYTES_MAX, "bytes", d.free_bytes_min),
        when_full: table.choice("when_full").unwrap_or(d.when_full),
        thin_to_s: table
            .integer_or_none("thin_to_s", THIN_TO_S, "seconds", d.thin_to_s.map(u64::from))
            .map(|s| s as u32),
        thin_age: age(&mut table, "thin_age_days", d.thin_age),
    };
    retention.check_thinning(&table);
    if let Some(age) = retention.age.filter(|age| *age < retention.history_min) {
        let (history, age) = (retention.history_min.as_secs(), age.as_secs());
        let what = format!("{history} seconds are to be kept, but age_days deletes after {age} seconds");
        table.fault("history_min_s", what, "lower it, or raise age_days");
    }
    table.finish();
    retention
}

/// Whole days; none is 0.
fn age(table: &mut Table<'_>, key: &'static str, default: Option<Duration>) -> Option<Duration> {
    let default = default.map_or(0, |age| age.as_secs() / DAY_S);
    let days = table.integer(key, 0..=AGE_DAYS_MAX, "days", default);
    (days > 0).then(|| Duration::from_secs(days * DAY_S))
}

impl RetentionConfig {
    fn check_thinning(&self, table: &Table<'_>) {
        let Some(thin_to_s) = self.thin_to_s.map(u64::from) else { return };
        if !DAY_S.is_multiple_of(thin_to_s) && !thin_to_s.is_multiple_of(DAY_S) {
            let what = format!("windows of {thin_to_s} seconds do not fit into days");
            let hint = "take one that divides 86400, such as 3600, or whole days";
            table.fault("thin_to_s", what, hint);
        }
        if let (Some(age), Some(thin_age)) = (self.age, self.thin_age)
            && thin_age <= age
        {
            let (thin_age, age) = (thin_age.as_secs() / DAY_S, age.as_secs() / DAY_S);
            let what = format!(
                "aggregates are to be kept for {thin_age} days, but they only begin after {age} days"
            );
            table.fault("thin_age_days", what, "raise it above age_days, or set 0 to keep them for ever");
        }
    }
}
