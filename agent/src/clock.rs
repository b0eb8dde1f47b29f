//! The wall clock, handed in wherever time is needed.

use fieldlog_projections::Time;

/// The wall clock, as a function so that tests can turn it.
pub type Clock = fn() -> Time;

/// The wall clock.
pub fn wall_clock() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Time(since.map_or(0, |d| d.as_micros() as i64))
}
