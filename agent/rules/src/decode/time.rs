//! The time in a payload.

use fieldlog_projections::{Time, ValueRef};
use jiff::tz::TimeZone;

use crate::rule::TimeFormat;

/// Returns the time zone of times without an offset. It is queried each time, so a change of the gateway's zone takes
/// effect while the agent runs.
#[derive(Clone, Copy, Debug)]
pub struct Zone(pub fn() -> TimeZone);

impl Default for Zone {
    /// UTC, independent of the machine.
    fn default() -> Zone {
        Zone(|| TimeZone::UTC)
    }
}

impl Zone {
    /// This machine's.
    pub fn system() -> Zone {
        Zone(TimeZone::system)
    }
}

/// 2000-01-01, in microseconds. A device with an earlier clock has not set it yet.
const TIME_MIN: f64 = 946_684_800e6;
/// 2100-01-01. A device whose clock is later has been told something else, or says it in another unit.
const TIME_MAX: f64 = 4_102_444_800e6;

/// Whether a clock that shows this has been set.
pub fn is_set(time: Time) -> bool {
    (TIME_MIN..TIME_MAX).contains(&(time.0 as f64))
}

/// Reads a time; `None` if it is not one, or comes from a clock that was never set.
pub(super) fn read(value: ValueRef<'_>, format: TimeFormat, zone: Zone) -> Option<Time> {
    let time = match value {
        ValueRef::Text(text) => of_text(text.trim(), format, zone)?,
        value => of_number(value.as_number()?, format)?,
    };
    is_set(time).then_some(time)
}

fn of_text(text: &str, format: TimeFormat, zone: Zone) -> Option<Time> {
    // An offset in the text always counts, whatever format is configured.
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(Time(time.as_microsecond()));
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    match format {
        TimeFormat::Rfc3339 => None,
        TimeFormat::Local => local(text, zone),
        TimeFormat::Auto if !digits => local(text, zone),
        _ => text.parse().ok().filter(|_| digits).and_then(|number| of_number(number, format)),
    }
}

/// A date and a time of day, without an offset.
fn local(text: &str, zone: Zone) -> Option<Time> {
    let (_, of_day) = text.split_once(['T', 't', ' '])?;
    // An offset that could not be read must not be ignored.
    if !of_day.contains(':') || of_day.contains(['+', '-', 'Z', 'z', '[']) {
        return None;
    }
    let local: jiff::civil::DateTime = text.parse().ok()?;
    let zoned = local.to_zoned((zone.0)()).ok()?;
    Some(Time(zoned.timestamp().as_microsecond()))
}

fn of_number(number: f64, format: TimeFormat) -> Option<Time> {
    let micros = match format {
        TimeFormat::UnixS => 1e6,
        TimeFormat::UnixMs => 1e3,
        // After 1973 and until the year 5138 these ranges do not overlap.
        TimeFormat::Auto if number < 1e11 => 1e6,
        TimeFormat::Auto if number < 1e14 => 1e3,
        TimeFormat::Auto if number < 1e17 => 1.0,
        TimeFormat::Auto => 1e-3,
        TimeFormat::Rfc3339 | TimeFormat::Local => return None,
    };
    let time = (number * micros).round();
    (0.0..TIME_MAX).contains(&time).then_some(Time(time as i64))
}
