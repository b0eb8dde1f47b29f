//! `fieldlog correct-clock`: sets log time back to the wall clock, after a clock that was ahead.

use std::fmt;
use std::path::{Path, PathBuf};

use fieldlog_projections::{Epoch, Fact, Seq, Time};
use serde_json::json;

use crate::log::{FILE_NAME, Log, LogError};
use crate::stopped;
use fieldlog_wire::json::Rfc3339;

/// Log time that is ahead of the wall clock by less is not reported: the clock was set back a little.
const AHEAD_MICROS: i64 = 3_600_000_000;

/// The result of a correction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corrected {
    /// Log time was not ahead.
    NotAhead {
        /// Log time of the last record.
        last: Time,
        /// The wall clock.
        wall: Time,
    },
    /// Log time was set back to the wall clock.
    Back {
        /// Log time before.
        before: Time,
        /// The wall clock.
        after: Time,
        /// The `clock_corrected` record.
        at: Seq,
    },
}

impl Corrected {
    /// For programs: whether log time was set back, from when to when, and the record that says so.
    pub fn as_json(&self) -> serde_json::Value {
        let (before, after, seq) = match *self {
            Corrected::NotAhead { last, .. } => (last, last, None),
            Corrected::Back { before, after, at } => (before, after, Some(at)),
        };
        json!({"corrected": seq.is_some(), "before": Rfc3339(before), "after": Rfc3339(after), "seq": seq})
    }
}

impl fmt::Display for Corrected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Corrected::NotAhead { last, wall } => write!(
                f,
                "nothing to correct: log time is {}, and the wall clock shows {}",
                Rfc3339(last),
                Rfc3339(wall)
            ),
            Corrected::Back { before, after, at } => write!(
                f,
                "log time was {} and now continues from {}; the record at sequence {at} says so.\nNo other record was \
                 changed; queries by time treat earlier records as no later than the correction.",
                Rfc3339(before),
                Rfc3339(after)
            ),
        }
    }
}

/// Corrects the log in a data directory that no agent has open; `wall` is the wall clock, `actor` who does it.
///
/// # Errors
/// [`CorrectError`]; the log is then unchanged.
pub fn correct(data_dir: &Path, wall: Time, actor: &str) -> Result<Corrected, CorrectError> {
    let path = data_dir.join(FILE_NAME);
    if let Some(absence) = Log::absence(data_dir)? {
        return Err(LogError::Absent { path, absence }.into());
    }
    // An existing log keeps its epoch; this value would only be used for a new one.
    let mut log = Log::open(data_dir, stopped::OPTIONS, Epoch(0))?;
    let before = log.last_time();
    let first = log.reader().range()?.map_or(Seq(1), |(first, _)| first);
    if let Some(oldest) = log.reader().time_of(first)?
        && wall < oldest
    {
        return Err(CorrectError::WallClock { path, wall, oldest });
    }
    let by = Fact::Administered {
        actor: actor.to_owned(),
        call: "correct-clock".into(),
        target: String::new(),
        reason: String::new(),
    };
    let corrected = match log.correct_clock(wall, &by)? {
        Some(committed) => Corrected::Back { before, after: wall, at: committed.last },
        None => Corrected::NotAhead { last: before, wall },
    };
    log.close()?;
    Ok(corrected)
}

/// What to do about log time that is far ahead of the wall clock; `None` if it is not.
pub fn advice(log_time: Time, wall: Time, data_dir: &Path) -> Option<String> {
    let ahead = log_time.0.saturating_sub(wall.0);
    (ahead > AHEAD_MICROS).then(|| {
        format!(
            "log time is {} and stands still until the wall clock, at {}, has caught up; records carry the wall clock \
             beside it. If the wall clock is right, stop fieldlog and run `fieldlog correct-clock --data-dir {}`",
            Rfc3339(log_time),
            Rfc3339(wall),
            data_dir.display()
        )
    })
}

/// Why log time could not be corrected.
#[derive(Debug, thiserror::Error)]
pub enum CorrectError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The wall clock cannot be right.
    #[error(
        "the wall clock shows {}, but the oldest record in {} is of {}; set the clock first, then run this again",
        Rfc3339(*wall), path.display(), Rfc3339(*oldest)
    )]
    WallClock {
        /// The log.
        path: PathBuf,
        /// The wall clock.
        wall: Time,
        /// Log time of the oldest record.
        oldest: Time,
    },
}

impl CorrectError {
    /// The exit code, as in sysexits.h.
    pub fn exit_code(&self) -> u8 {
        match self {
            CorrectError::Log(error) if error.is_lasting() => 65,
            CorrectError::Log(_) => 74,
            CorrectError::WallClock { .. } => 75,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_given_beyond_an_hour() {
        let dir = Path::new("/data");
        let hour = 3_600_000_000;
        assert_eq!(advice(Time(hour), Time(0), dir), None);
        assert_eq!(advice(Time(0), Time(hour), dir), None);
        let words = advice(Time(2 * hour), Time(0), dir).unwrap();
        for part in ["1970-01-01T02:00:00", "stands still", "fieldlog correct-clock --data-dir /data"] {
            assert!(words.contains(part), "{part:?} is not in: {words}");
        }
    }
}
