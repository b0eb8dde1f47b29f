//! The backlog of a sink, read from the log on demand.

use fieldlog_projections::{Seq, Time};

use crate::log::acked::AckedRanges;
use crate::log::{LogError, LogReader};

/// The backlog of a sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Positions that the sink lacks.
    pub events: u64,
    /// Bytes of their records in the log; a record counts as its share of its chunk. 0 if a damaged chunk prevents
    /// this.
    pub bytes: u64,
    /// Log time of the oldest of them, unless it is damaged.
    pub oldest: Option<Time>,
}

impl Backlog {
    /// The records in the log that are not in `acked`. Blocking: reads two chunks per missing range.
    ///
    /// # Errors
    /// [`LogError`] if the log cannot be read.
    pub fn of(acked: &AckedRanges, reader: &LogReader) -> Result<Backlog, LogError> {
        let Some((_, head)) = reader.range()? else { return Ok(Backlog::default()) };
        let Some((first, _)) = acked.missing(Seq(1), head) else { return Ok(Backlog::default()) };
        let mut from = Seq(1);
        let ranges = std::iter::from_fn(|| {
            let range = acked.missing(from, head)?;
            from = range.1.next();
            Some(range)
        });
        Ok(Backlog {
            events: acked.missing_count(head),
            bytes: unless_damaged(reader.stored_bytes_of(ranges))?,
            oldest: unless_damaged(reader.time_of(first))?,
        })
    }
}

/// Damaged records have no size and no age, but the rest is still reported.
fn unless_damaged<T: Default>(found: Result<T, LogError>) -> Result<T, LogError> {
    match found {
        Err(error) if error.is_lasting() => Ok(T::default()),
        found => found,
    }
}

#[cfg(test)]
mod tests {
    use fieldlog_projections::chunk::{Envelope, RecordBuffer};
    use fieldlog_projections::{AttrId, Epoch, Fact};

    use super::*;
    use crate::log::{Log, LogOptions};

    fn log(dir: &std::path::Path, records: i64) -> Log {
        let options = LogOptions { cache_bytes: 1 << 20, quick_repair: false, quarantine_records_max: 10 };
        let mut log = Log::open(dir, options, Epoch(7)).unwrap();
        let mut body = RecordBuffer::after(log.last_time());
        for n in 1..=records {
            let wall = Time::from_secs(n);
            let name =
                format!("attribute {n}, with a name of its own that does not compress {}", n * n * 7919);
            let fact = Fact::AttributeNamed { attribute: AttrId(n as u32), name };
            body.push_fact(Envelope { wall, device_time: None, cause: None }, &fact);
        }
        if !body.is_empty() {
            log.append(&body, &[]).unwrap();
        }
        log
    }

    #[test]
    fn holes_and_the_end_add_up_to_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path(), 2000);
        let reader = log.reader();
        let of = |acked: &AckedRanges| Backlog::of(acked, &reader).unwrap();
        let all = of(&AckedRanges::default());
        assert_eq!((all.events, all.oldest), (2000, Some(Time::from_secs(1))));
        assert_eq!(all.bytes, reader.stored_bytes().unwrap());
        assert_eq!(of(&AckedRanges::upto(Seq(2000))), Backlog::default());

        let mut holes = AckedRanges::upto(Seq(500));
        holes.add(Seq(1001), Seq(1500));
        let found = of(&holes);
        assert_eq!((found.events, found.oldest), (1000, Some(Time::from_secs(501))));
        let half = all.bytes / 2;
        assert!(found.bytes.abs_diff(half) < half / 20, "{found:?} of {all:?}");
    }

    #[test]
    fn an_empty_log_has_no_backlog() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path(), 0);
        assert_eq!(Backlog::of(&AckedRanges::default(), &log.reader()).unwrap(), Backlog::default());
    }
}
