//! Moments on the command line: times with an offset, times of this machine's zone, and how long ago.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

const HINT: &str = "give a time such as 2026-11-23T10:00:00Z or \"2026-11-23 10:00\" (local), or how long ago, such as 15m, 2h \
                    or 3d";

/// A time, as the API reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moment(pub(crate) String);

/// Reads a time.
pub(crate) fn time(text: &str) -> Result<Moment, String> {
    read(text, Timestamp::now(), &TimeZone::system()).ok_or_else(|| HINT.to_owned())
}

/// Reads a time or a sequence number.
pub(crate) fn time_or_seq(text: &str) -> Result<Moment, String> {
    if text.parse::<u64>().is_ok() {
        return Ok(Moment(text.to_owned()));
    }
    time(text).map_err(|hint| format!("{hint}; or a sequence number"))
}

fn read(text: &str, now: Timestamp, zone: &TimeZone) -> Option<Moment> {
    let local = |at: DateTime| at.to_zoned(zone.clone()).ok().map(|zoned| zoned.timestamp());
    let at = ago(text, now)
        .or_else(|| text.parse::<Timestamp>().ok())
        .or_else(|| local(text.parse::<DateTime>().ok()?))
        .or_else(|| local(text.parse::<Date>().ok()?.to_datetime(jiff::civil::Time::midnight())))?;
    Some(Moment(at.to_string()))
}

fn ago(text: &str, now: Timestamp) -> Option<Timestamp> {
    let (number, seconds) = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400), ("w", 604_800)]
        .into_iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))?;
    let number: u32 = number.trim_end().parse().ok()?;
    now.checked_sub(SignedDuration::from_secs(i64::from(number) * seconds)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_the_zone_of_the_machine() {
        let now: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        for (text, expected) in [
            ("2026-11-23T09:00:00Z", "2026-11-23T09:00:00Z"),
            ("2026-11-23T09:00:00.5+01:00", "2026-11-23T08:00:00.5Z"),
            ("2026-11-23 09:00", "2026-11-23T07:00:00Z"),
            ("2026-11-23T09:00:30", "2026-11-23T07:00:30Z"),
            ("2026-11-23", "2026-11-22T22:00:00Z"),
            ("90s", "2026-11-23T09:58:30Z"),
            ("15m", "2026-11-23T09:45:00Z"),
            ("2h", "2026-11-23T08:00:00Z"),
            ("3d", "2026-11-20T10:00:00Z"),
            ("1w", "2026-11-16T10:00:00Z"),
        ] {
            assert_eq!(read(text, now, &zone).map(|moment| moment.0), Some(expected.to_owned()), "{text}");
        }
        for text in ["", "yesterday", "12", "m", "-5m", "25:00", "99999999999d"] {
            assert_eq!(read(text, now, &zone), None, "{text}");
        }
        assert_eq!(time_or_seq("12"), Ok(Moment("12".to_owned())));
        assert!(time_or_seq("later").unwrap_err().ends_with("or 3d; or a sequence number"));
    }
}
