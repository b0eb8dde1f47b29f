//! Scans log, snapshots, cursors and disk, and asks [`super::decide`] what to delete.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fieldlog_projections::{Epoch, Seq, Time};

use super::reserve::{self, Reserve, free_bytes};
use super::{Need, RetentionPlan, RetentionScan, decide};
use crate::config::WhenFull;
use crate::config::{Config, RetentionConfig};
use crate::log::acked::AckedRanges;
use crate::log::{FILE_NAME, LogError, LogReader};
use crate::snapshots::SnapshotStore;

/// Interval of scans.
const EVERY: Duration = Duration::from_secs(5);
/// The same, with `when_full = "drop-oldest"`.
const EVERY_DROPPING: Duration = Duration::from_millis(900);
/// Minimum interval of scans while the disk is short of space.
const EVERY_SHORT: Duration = Duration::from_millis(100);
/// A smaller part of the log is not worth a trim, which leaves a record each time.
const WORTH_A_TRIM: u64 = 64;

/// What the writer must do about the front of the log, and about new messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// Trim before this position, a slice with each commit.
    pub trim_before: Option<Seq>,
    /// Who needs the deleted records, from `lost_from` on; empty if nobody does.
    pub lost_by: Vec<String>,
    /// The first record that they lose.
    pub lost_from: Seq,
    /// Set if no more messages may be taken; with the reason.
    pub blocked: Option<String>,
    /// The oldest snapshot holds the front: a newer one would release it.
    pub snapshot_due: bool,
    /// The oldest snapshot holds records that are too old.
    pub snapshot_outlived: bool,
    /// Older snapshots must be deleted with it: the disk has no room for the records they need.
    pub one_snapshot: bool,
    /// The disk has no room for what can be done without: the snapshots of the past.
    pub short_of_space: bool,
}

/// Keeps the log within its limits.
#[derive(Debug)]
pub struct Keeper {
    config: RetentionConfig,
    data_dir: PathBuf,
    required: Vec<String>,
    looked: Option<Instant>,
    /// Space for deleting; only with `drop-oldest`.
    reserve: Option<Reserve>,
}

impl Keeper {
    /// With the limits of a configuration.
    pub fn new(config: &Config) -> Keeper {
        Keeper {
            config: config.retention.clone(),
            data_dir: config.data_dir.clone(),
            required: config.sinks.iter().filter(|s| s.required).map(|s| s.name.clone()).collect(),
            looked: None,
            reserve: drops(config).then(|| Reserve::of(&config.data_dir)),
        }
    }

    /// Whether a scan is due.
    pub fn is_due(&self, now: Instant) -> bool {
        // With `drop-oldest`, records must be dropped before the disk is full.
        let every = if self.reserve.is_some() { EVERY_DROPPING } else { EVERY };
        self.passed(now, every)
    }

    /// Whether a scan must precede the next commit, because the disk has little space. Releases the reserve if the
    /// commit itself needs it.
    pub fn is_urgent(&self, now: Instant) -> bool {
        let Some(free) = free_bytes(&self.data_dir) else { return false };
        if let Some(reserve) = &self.reserve {
            reserve.release_if_urgent(free);
        }
        free < self.free_bytes_min() && self.passed(now, EVERY_SHORT)
    }

    fn passed(&self, now: Instant, time: Duration) -> bool {
        self.looked.is_none_or(|at| now.saturating_duration_since(at) >= time)
    }

    /// The required free space: the configured amount, and the minimum for dropping.
    fn free_bytes_min(&self) -> u64 {
        let least = if self.reserve.is_some() { reserve::LOW_BYTES } else { 0 };
        self.config.free_bytes_min.max(least)
    }

    /// Makes a scan due.
    pub fn look_again(&mut self) {
        self.looked = None;
    }

    /// Scans and decides, at the moment `at`; `now` is the reference time for ages.
    ///
    /// # Errors
    /// [`LogError`] if the log cannot be read.
    pub fn look(
        &mut self,
        reader: &LogReader,
        epoch: Epoch,
        snapshots: &SnapshotStore,
        cursors: &BTreeMap<String, AckedRanges>,
        (at, now): (Instant, Time),
    ) -> Result<Orders, LogError> {
        self.looked = Some(at);
        self.tend_reserve();
        let mut bytes_max = self.config.bytes_max;
        let mut one_snapshot = false;
        let short_of_space = self.short_of_space();
        let orders = Orders { short_of_space: short_of_space.is_some(), ..Orders::default() };
        if let Some(why) = short_of_space {
            match self.room_in_file() {
                // The file does not grow while it has free pages; dropping the oldest records makes some.
                Some(room) if self.config.when_full == WhenFull::DropOldest => {
                    bytes_max = Some(bytes_max.map_or(room, |bytes| bytes.min(room)));
                    one_snapshot = true;
                }
                _ => return Ok(Orders { blocked: Some(why), ..orders }),
            }
        }
        let Some((first, head)) = reader.range()? else { return Ok(orders) };
        let before = |age: Duration| reader.seek_time(Time(now.0.saturating_sub(age.as_micros() as i64)));
        let scan = RetentionScan {
            by_age: self.config.age.map_or(Ok(Seq(0)), before)?,
            by_bytes: bytes_max.map_or(Ok(Seq(0)), |bytes| reader.seek_newest_bytes(bytes))?,
            // 0 is no limit: while ages are doubted, it must not keep records that nobody asked to keep.
            history_min: match self.config.history_min {
                Duration::ZERO => head,
                least => before(least)?,
            },
        };
        let needs = self.needs(epoch, snapshots, cursors);
        let snapshot_holds = |before: Seq| needs.iter().any(|n| n.who == SNAPSHOT && n.from < before);
        let orders = Orders { snapshot_outlived: snapshot_holds(scan.by_age), ..orders };
        let worth = |before: Seq| before > first && before.0 - first.0 >= (head.0 - first.0) / WORTH_A_TRIM;
        // Chunks are deleted as a whole: a trim within one would be recorded as done at each scan.
        let trim = |before| -> Result<Orders, LogError> {
            let trim_before = Some(reader.begin_of_chunk(before)?).filter(|b| worth(*b));
            Ok(Orders { trim_before, ..orders.clone() })
        };
        let snapshot_due = snapshot_holds(scan.by_bytes.min(head));
        Ok(match decide(first, scan, &needs, self.config.when_full) {
            RetentionPlan::Keep => orders,
            RetentionPlan::Trim(before) => trim(before)?,
            RetentionPlan::Drop { before, lost_from, lost_by } => {
                let before = reader.begin_of_chunk(before)?;
                let trim_before = Some(before).filter(|before| *before > first);
                Orders { trim_before, lost_by, lost_from, snapshot_due, one_snapshot, ..orders }
            }
            RetentionPlan::Full { by, trim: before } => Orders {
                snapshot_due,
                one_snapshot,
                // If our own snapshot is the obstacle, make a newer one instead of blocking.
                blocked: (by != SNAPSHOT).then(|| {
                    format!(
                        "the log has reached retention.bytes_max and {by} still needs its oldest records; messages \
                         stay at the broker until that changes"
                    )
                }),
                ..trim(before)?
            },
        })
    }

    fn needs(
        &self,
        epoch: Epoch,
        snapshots: &SnapshotStore,
        cursors: &BTreeMap<String, AckedRanges>,
    ) -> Vec<Need> {
        let headers = snapshots.candidates().unwrap_or_default().into_iter().filter_map(|c| c.header.ok());
        let oldest = headers.filter(|h| h.epoch == epoch).map(|h| h.seq).min();
        let from = oldest.map_or(Seq(1), Seq::next);
        let mut needs = vec![Need { who: SNAPSHOT.into(), from, yields: false }];
        needs.extend(self.required.iter().map(|name| Need {
            who: format!("sink \"{name}\""),
            from: cursors.get(name).map_or(Seq(1), |acked| acked.contiguous().next()),
            yields: true,
        }));
        needs
    }

    /// The maximum size of the log at which the file needs no more disk space: a part of the file, since every commit
    /// needs free pages before the replaced ones become free.
    fn room_in_file(&self) -> Option<u64> {
        let file = std::fs::metadata(self.data_dir.join(FILE_NAME)).ok()?;
        Some(file.len().min(file.blocks() * 512) / 8 * 5)
    }

    fn tend_reserve(&self) {
        if let (Some(reserve), Some(free)) = (&self.reserve, free_bytes(&self.data_dir)) {
            reserve.release_if_urgent(free);
            reserve.make_if_room(free);
        }
    }

    fn short_of_space(&self) -> Option<String> {
        let min = self.free_bytes_min();
        let free = free_bytes(&self.data_dir)?;
        (free < min).then(|| {
            format!(
                "only {free} bytes are free in {}, retention.free_bytes_min is {min}; messages stay at the broker. Make \
                 room, or lower it",
                self.data_dir.display()
            )
        })
    }
}

/// Whether needed records may be dropped.
fn drops(config: &Config) -> bool {
    config.retention.when_full == WhenFull::DropOldest
}

/// Before the log is opened: releases the reserve if the disk has no room for opening it.
pub fn make_room_to_open(config: &Config) {
    if drops(config)
        && let Some(free) = free_bytes(&config.data_dir)
    {
        Reserve::of(&config.data_dir).release_if_urgent(free);
    }
}

const SNAPSHOT: &str = "the oldest snapshot";

#[cfg(test)]
mod tests {
    use fieldlog_projections::View;
    use fieldlog_projections::chunk::{Envelope, RecordBuffer};
    use fieldlog_projections::fact::Fact;

    use super::*;
    use crate::log::{Log, LogOptions};

    #[test]
    fn snapshots_that_hold_what_is_too_old_are_outlived() {
        const DAY_S: i64 = 86_400;
        let dir = tempfile::tempdir().unwrap();
        let options = LogOptions { cache_bytes: 1 << 20, quick_repair: false, quarantine_records_max: 10 };
        let mut log = Log::open(dir.path(), options, Epoch(1)).unwrap();
        for day in 0..10 {
            // So much that each has a chunk of its own.
            let key: String =
                (0..5_000u64).map(|n| format!("{:x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect();
            let mut body = RecordBuffer::after(log.last_time());
            let envelope = Envelope { wall: Time::from_secs(day * DAY_S), ..Envelope::default() };
            body.push_fact(envelope, &Fact::ConfigChanged { keys: vec![key] });
            log.append(&body, &[]).unwrap();
        }
        let store = SnapshotStore::open(dir.path()).unwrap();
        let save = |seq| {
            let mut view = View::new(Vec::new());
            view.seq = Seq(seq);
            store.save(&view, Epoch(1), 2).unwrap();
        };
        let config = |age_days: u64| {
            let age = Some(Duration::from_secs(age_days * DAY_S as u64)).filter(|age| !age.is_zero());
            let retention = RetentionConfig { age, free_bytes_min: 0, ..RetentionConfig::default() };
            Config { data_dir: dir.path().to_owned(), retention, ..Config::default() }
        };
        let outlived = |age_days| {
            let mut keeper = Keeper::new(&config(age_days));
            let at = (Instant::now(), Time::from_secs(9 * DAY_S));
            let orders = keeper.look(&log.reader(), Epoch(1), &store, &BTreeMap::new(), at).unwrap();
            orders.snapshot_outlived
        };
        assert!(outlived(3), "there is none yet, so it holds everything");
        save(2);
        save(3);
        // Three days are those from record 7 on.
        assert!(outlived(3));
        assert!(!outlived(9) && !outlived(0), "nothing is too old");
        save(8);
        assert!(outlived(3), "the older of the two");
        save(9);
        assert!(!outlived(3));
    }
}
