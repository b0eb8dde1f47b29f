//! Windowed aggregates of numeric attributes by log time: a fold.
//!
//! An event touches only the shortest window. When one of its buckets closes, it is merged into the open bucket of the
//! next longer window. So each window must be a multiple of the previous one.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::fact::Fact;
use crate::fold::{Change, Fold, FoldError, FoldId, Section, Unreadable, whole};
use crate::record::Record;
use crate::stored::type_id;
use crate::{AttrId, DeviceId, Time};

mod row;

use row::Row;

/// Version of this fold; see [`super::devices::VERSION`].
pub const VERSION: u16 = 2;

/// One window length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Length of a bucket, in seconds; buckets start at multiples of it since 1970, UTC.
    pub length_s: u32,
    /// Maximum closed buckets held per attribute; older ones are dropped from memory.
    pub keep: u32,
}

/// The values of an attribute in one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// Start, in seconds since 1970.
    pub start_s: i64,
    /// Number of recorded values.
    pub count: u32,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// Sum, for the mean.
    pub sum: f64,
    /// Last.
    pub last: f64,
}

/// All series of all devices. A clone shares them with the original; a device's series are copied on the first change
/// by either.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Aggregates {
    windows: Vec<Window>,
    /// By device number.
    series: Vec<Row>,
    missing_until: Option<Time>,
}

/// The stored form of version 1, which has no `missing_until`.
#[derive(Deserialize)]
struct AggregatesV1 {
    windows: Vec<Window>,
    series: Vec<Row>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Series {
    attr: AttrId,
    /// One per window, shortest first.
    levels: Vec<Level>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Level {
    /// End of the open bucket, in microseconds; `i64::MIN` before the first value.
    end: i64,
    open: Option<Bucket>,
    closed: VecDeque<Bucket>,
}

impl Bucket {
    /// A bucket with one value.
    pub fn new(start_s: i64, value: f64) -> Bucket {
        Bucket { start_s, count: 1, min: value, max: value, sum: value, last: value }
    }

    /// Adds the next value.
    #[inline]
    pub fn add(&mut self, value: f64) {
        self.count = self.count.saturating_add(1);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.sum += value;
        self.last = value;
    }

    /// Merges the bucket that follows.
    pub fn merge(&mut self, later: &Bucket) {
        self.count = self.count.saturating_add(later.count);
        self.min = self.min.min(later.min);
        self.max = self.max.max(later.max);
        self.sum += later.sum;
        self.last = later.last;
    }

    /// Arithmetic mean of the recorded values; not weighted by time.
    pub fn mean(&self) -> f64 {
        self.sum / f64::from(self.count)
    }
}

impl Window {
    fn start_s(self, time_s: i64) -> i64 {
        floor_s(time_s, self.length_s)
    }
}

/// Start of the window of `length_s` seconds that contains `time`, in seconds since 1970.
pub fn start_s(time: Time, length_s: u32) -> i64 {
    floor_s(time.0.div_euclid(1_000_000), length_s)
}

/// Adds a closed bucket; of more than `keep` the oldest is dropped.
pub(super) fn push_bounded<T>(closed: &mut VecDeque<T>, keep: usize, bucket: T) {
    while closed.len() >= keep && closed.pop_front().is_some() {}
    if closed.len() == closed.capacity() {
        // Never reserve more than are kept: doubling would.
        closed.reserve_exact(closed.len().max(4).min(keep.saturating_sub(closed.len())));
    }
    if keep > 0 {
        closed.push_back(bucket);
    }
}

fn floor_s(time_s: i64, length_s: u32) -> i64 {
    time_s - time_s.rem_euclid(i64::from(length_s))
}

impl Fold for Aggregates {
    #[inline]
    fn change(&mut self, change: &Change<'_>) {
        if let Some(number) = change.value.as_number() {
            self.observe(change.device, change.at, change.attr, change.time, number);
        }
    }

    fn other(&mut self, record: &Record<'_>) -> Result<(), FoldError> {
        match record.kind.type_id {
            type_id::CLOCK_CORRECTED => self.begin_anew(record.time),
            type_id::DEVICE_FORGOTTEN => {
                if let Fact::DeviceForgotten { device } = record.fact()? {
                    self.forget(device);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn miss(&mut self, until: Time) {
        self.missing_until = self.missing_until.max(Some(until));
    }
}

impl Section for Aggregates {
    fn id(&self) -> FoldId {
        Aggregates::ID
    }

    fn version(&self) -> u16 {
        VERSION
    }

    /// The stored form begins with the list of windows.
    fn wants(&self, first: u8) -> bool {
        !self.windows.is_empty() || first == 0
    }

    fn restore(&mut self, version: u16, bytes: &[u8]) -> Result<bool, Unreadable> {
        let stored: Aggregates = match version {
            VERSION => whole(bytes)?,
            1 => {
                let AggregatesV1 { windows, series } = whole(bytes)?;
                Aggregates { windows, series, missing_until: None }
            }
            _ => return Ok(false),
        };
        let same = stored.windows == self.windows;
        if same {
            *self = stored;
        }
        Ok(same)
    }
}

impl Aggregates {
    /// This fold.
    pub const ID: FoldId = FoldId { number: 2, name: "aggregates" };

    /// Empty aggregates. Windows must be sorted, each a multiple of the previous one.
    pub fn new(windows: Vec<Window>) -> Aggregates {
        Aggregates { windows, ..Aggregates::default() }
    }

    /// Records up to this log time may be missing: they were deleted before this was folded.
    pub fn missing_until(&self) -> Option<Time> {
        self.missing_until
    }

    /// Starts again when log time is set back to `time`: buckets already held would be later than those to come. The
    /// log still has their records.
    fn begin_anew(&mut self, time: Time) {
        self.series.clear();
        self.missing_until = Some(time);
    }

    /// Drops the series of a device.
    fn forget(&mut self, device: DeviceId) {
        if let Some(row) = self.series.get_mut(device.0 as usize) {
            *row = Row::default();
        }
        // Leave no trace of it, so that the state equals that of a fold that never had it.
        while self.series.pop_if(|row| *row == Row::default()).is_some() {}
    }

    /// Whether there are buckets of an attribute of a device.
    pub fn has(&self, device: DeviceId, attr: AttrId) -> bool {
        self.series(device, attr).is_some()
    }

    fn series(&self, device: DeviceId, attr: AttrId) -> Option<&Series> {
        self.series.get(device.0 as usize)?.find(attr)
    }

    /// Maximum memory, in bytes, of one attribute's series with these windows.
    pub fn series_bytes_max(windows: &[Window]) -> usize {
        let level =
            |window: &Window| size_of::<Level>() + 16 + window.keep.max(4) as usize * size_of::<Bucket>();
        if windows.is_empty() {
            0
        } else {
            size_of::<Option<Series>>() + windows.iter().map(level).sum::<usize>()
        }
    }

    /// The windows, shortest first.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// Adds the value of attribute `at` of a device, numbered `attr`, recorded at `time`.
    #[inline]
    fn observe(&mut self, device: DeviceId, at: usize, attr: AttrId, time: Time, value: f64) {
        if self.windows.is_empty() {
            return;
        }
        let device = device.0 as usize;
        if device >= self.series.len() {
            self.series.resize_with(device + 1, Row::default);
        }
        let series = self.series[device].series_mut(at, || Series::new(attr, self.windows.len()));
        match &mut series.levels[0] {
            Level { end, open: Some(open), .. } if time.0 < *end => open.add(value),
            _ => series.roll(&self.windows, time, value),
        }
    }

    /// The buckets of one attribute in one window whose start is in `from_s..to_s`, oldest first, including the open
    /// one.
    pub fn buckets(
        &self,
        device: DeviceId,
        attr: AttrId,
        window: Window,
        from_s: i64,
        to_s: i64,
    ) -> Vec<Bucket> {
        let level = self.windows.iter().position(|w| w.length_s == window.length_s);
        let (Some(level), Some(series)) = (level, self.series(device, attr)) else { return Vec::new() };
        let mut buckets: Vec<Bucket> = series.levels[level].closed.iter().copied().collect();
        // The open buckets of shorter windows are not merged into this one yet; merge them oldest first, which is from
        // the longest window down.
        for open in series.levels[..=level].iter().rev().filter_map(|l| l.open) {
            let start_s = window.start_s(open.start_s);
            match buckets.last_mut() {
                Some(last) if last.start_s == start_s => last.merge(&open),
                _ => buckets.push(Bucket { start_s, ..open }),
            }
        }
        buckets.retain(|b| b.start_s >= from_s && b.start_s < to_s);
        buckets
    }

    /// The start of the oldest closed bucket held for an attribute, if older ones have been dropped.
    pub fn complete_from_s(&self, device: DeviceId, attr: AttrId, window: Window) -> Option<i64> {
        let level = self.windows.iter().position(|w| w.length_s == window.length_s)?;
        let series = self.series(device, attr)?;
        let closed = &series.levels[level].closed;
        (closed.len() >= self.windows[level].keep as usize).then(|| closed.front().map(|b| b.start_s))?
    }
}

impl Series {
    fn new(attr: AttrId, windows: usize) -> Series {
        let level = Level { end: i64::MIN, open: None, closed: VecDeque::new() };
        Series { attr, levels: vec![level; windows] }
    }

    /// Closes the buckets that ended before `time` and opens one with `value`.
    #[cold]
    fn roll(&mut self, windows: &[Window], time: Time, value: f64) {
        self.close(windows, 0);
        let start_s = windows[0].start_s(time.0.div_euclid(1_000_000));
        self.levels[0].end = (start_s + i64::from(windows[0].length_s)).saturating_mul(1_000_000);
        self.levels[0].open = Some(Bucket::new(start_s, value));
    }

    /// Closes the open bucket of a level and merges it into the next longer window.
    fn close(&mut self, windows: &[Window], level: usize) {
        let Some(bucket) = self.levels[level].open.take() else { return };
        push_bounded(&mut self.levels[level].closed, windows[level].keep as usize, bucket);
        let Some(longer) = windows.get(level + 1) else { return };
        let start_s = longer.start_s(bucket.start_s);
        match &mut self.levels[level + 1].open {
            Some(open) if open.start_s == start_s => open.merge(&bucket),
            _ => {
                self.close(windows, level + 1);
                self.levels[level + 1].open = Some(Bucket { start_s, ..bucket });
            }
        }
    }
}
