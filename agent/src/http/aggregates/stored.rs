//! Buckets from storage: the archive, and the log after it.

use std::ops::ControlFlow;

use fieldlog_projections::aggregates::start_s;
use fieldlog_projections::record::RecordsError;
use fieldlog_projections::rollup::{RollupError, Row};
use fieldlog_projections::{Bucket, Chunk, Record, Seq, Time};

use super::{BUCKETS_MAX, FoundBuckets, Series, seconds};
use crate::http::event::each_change;
use crate::http::problem::Problem;
use crate::http::reads::Cancel;
use crate::log::{LogError, LogReader};

/// Maximum attempts if the archive grows during a read.
const TRIES: usize = 3;

/// Folds the buckets, up to the record at `until`.
pub(super) fn read(
    reader: &LogReader,
    series: Series,
    until: Seq,
    cancel: &Cancel,
) -> Result<FoundBuckets, Problem> {
    for _ in 1..TRIES {
        let end = reader.rollups_end()?;
        let found = Reading::new(reader, series, until).run(cancel)?;
        // Records that move from the log into the archive meanwhile would be read from neither.
        if found.incomplete_until.is_none() || reader.rollups_end()? == end {
            return Ok(found);
        }
    }
    Reading::new(reader, series, until).run(cancel)
}

struct Reading<'a> {
    reader: &'a LogReader,
    series: Series,
    from: Time,
    until: Seq,
    /// Everything before this is in the buckets, is known to be missing, or is too early.
    next: Seq,
    enough: bool,
    found: FoundBuckets,
}

impl<'a> Reading<'a> {
    fn new(reader: &'a LogReader, series: Series, until: Seq) -> Reading<'a> {
        let from = series.from_s.map_or(Time(i64::MIN), seconds);
        let found = FoundBuckets { source: "log", buckets: Vec::new(), incomplete_until: None, read: 0 };
        Reading { reader, series, from, until, next: Seq(1), enough: false, found }
    }

    fn run(mut self, cancel: &Cancel) -> Result<FoundBuckets, Problem> {
        let reader = self.reader;
        let cancelled = reader.scan_rollups(reader.seek_rollups(self.from)?, |row| {
            if cancel.is_set() {
                return Ok(ControlFlow::Break(true));
            }
            Ok(if self.row(row)?.is_break() { ControlFlow::Break(false) } else { ControlFlow::Continue(()) })
        })?;
        if cancelled == Some(true) {
            return Err(Problem::stopping());
        }
        if self.enough {
            return Ok(self.found);
        }
        let from = self.next.max(reader.seek_time(self.from)?);
        let failed = reader.scan(from, |chunk| {
            if cancel.is_set() {
                return ControlFlow::Break(Err(Problem::stopping()));
            }
            match self.chunk(chunk) {
                Ok(ControlFlow::Continue(())) => ControlFlow::Continue(()),
                Ok(ControlFlow::Break(())) => ControlFlow::Break(Ok(())),
                Err(problem) => ControlFlow::Break(Err(problem)),
            }
        })?;
        failed.unwrap_or(Ok(())).map(|()| self.found)
    }

    /// The next part begins at `first`; the record before it was at `base_time`.
    fn begins(&mut self, first: Seq, base_time: Time) {
        if first > self.next && base_time >= self.from {
            self.found.incomplete_until = self.found.incomplete_until.max(Some(base_time));
        }
    }

    fn row(&mut self, row: &Row<'_>) -> Result<ControlFlow<()>, RollupError> {
        let period = row.period;
        // Windows longer than requested cannot be divided; the log supplies what it still has of them.
        if !self.series.window_s.is_multiple_of(period.length_s) || period.last > self.until {
            return Ok(ControlFlow::Continue(()));
        }
        let begin = self.reader.moment(period.last, seconds(period.start_s));
        let start_s = start_s(begin, self.series.window_s);
        if start_s >= self.series.to_s {
            self.enough = true;
            return Ok(ControlFlow::Break(()));
        }
        if row.part == 0 {
            self.begins(period.first, self.reader.moment_before(period.first, period.base_time));
            self.next = period.last.next();
            self.found.source = "archive+log";
        }
        let bucket = row.bucket(self.series.device, self.series.attr)?;
        if let Some(bucket) = bucket.filter(|_| self.series.begins_after_from(start_s)) {
            add(&mut self.found.buckets, Bucket { start_s, ..bucket });
        }
        Ok(self.unless_too_many())
    }

    fn chunk(&mut self, chunk: &Chunk<'_>) -> Result<ControlFlow<()>, Problem> {
        let before = self.reader.moment_before(chunk.header.first, chunk.header.base_time);
        self.begins(chunk.header.first, before);
        let mut records = chunk.records();
        let damaged =
            |source: RecordsError| LogError::Chunk { at: chunk.header.first, source: source.into() };
        while let Some(record) = records.next_record().map_err(damaged)? {
            if record.seq >= self.next && self.record(&record)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        self.next = chunk.header.last().next();
        Ok(ControlFlow::Continue(()))
    }

    fn record(&mut self, record: &Record<'_>) -> Result<ControlFlow<()>, Problem> {
        let Series { device, attr, window_s, to_s, .. } = self.series;
        let start_s = start_s(self.reader.moment(record.seq, record.time), window_s);
        if start_s >= to_s || record.seq > self.until {
            return Ok(ControlFlow::Break(()));
        }
        self.found.read += 1;
        if self.series.begins_after_from(start_s) {
            each_change(record, device, |of, value| {
                if let (true, Some(number)) = (of == attr, value.as_number()) {
                    add_value(&mut self.found.buckets, start_s, number);
                }
            })?;
        }
        Ok(self.unless_too_many())
    }

    /// One more than fits into an answer is enough to detect it.
    fn unless_too_many(&mut self) -> ControlFlow<()> {
        self.enough = self.found.buckets.len() > BUCKETS_MAX;
        if self.enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Moments do not go back: the next value belongs to the last bucket or to a later one.
fn add(buckets: &mut Vec<Bucket>, later: Bucket) {
    match buckets.last_mut() {
        Some(last) if last.start_s == later.start_s => last.merge(&later),
        _ => buckets.push(later),
    }
}

fn add_value(buckets: &mut Vec<Bucket>, start_s: i64, value: f64) {
    match buckets.last_mut() {
        Some(last) if last.start_s == start_s => last.add(value),
        _ => buckets.push(Bucket::new(start_s, value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_one_window_share_a_bucket() {
        let mut buckets = Vec::new();
        for (second, value) in [(59, 1.0), (60, 5.0), (61, 3.0), (180, 2.0)] {
            add_value(&mut buckets, start_s(Time::from_secs(second), 60), value);
        }
        add(&mut buckets, Bucket::new(180, 7.0));
        add(&mut buckets, Bucket::new(240, 8.0));
        let found: Vec<_> = buckets.iter().map(|b| (b.start_s, b.count, b.min, b.max, b.last)).collect();
        let expected =
            [(0, 1, 1.0, 1.0, 1.0), (60, 2, 3.0, 5.0, 3.0), (180, 2, 2.0, 7.0, 7.0), (240, 1, 8.0, 8.0, 8.0)];
        assert_eq!(found, expected);
        assert_eq!(start_s(Time(-1), 60), -60);
    }
}
