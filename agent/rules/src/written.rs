//! How checked values are serialised under their keys: in the unit of the key's name, with 0 or empty text for none.

use std::time::Duration;

use serde::{Serialize, Serializer};

fn whole<S: Serializer>(
    duration: impl Into<Option<Duration>>,
    unit: impl Fn(Duration) -> u128,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let count = duration.into().map_or(0, unit);
    serializer.serialize_u64(u64::try_from(count).unwrap_or(u64::MAX))
}

/// Whole seconds; 0 stands for none.
pub fn seconds<S: Serializer>(
    duration: &(impl Copy + Into<Option<Duration>>),
    serializer: S,
) -> Result<S::Ok, S::Error> {
    whole(*duration, |duration| duration.as_secs().into(), serializer)
}

/// Whole milliseconds.
pub fn milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    whole(*duration, |duration| duration.as_millis(), serializer)
}

/// Whole days; 0 stands for none.
pub fn days<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    whole(*duration, |duration| (duration.as_secs() / 86_400).into(), serializer)
}

/// Empty text means none.
pub fn or_empty<T: Serialize, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => value.serialize(serializer),
        None => serializer.serialize_str(""),
    }
}

/// 0 stands for none.
pub fn or_zero<T: Serialize, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => value.serialize(serializer),
        None => serializer.serialize_u64(0),
    }
}

/// A single text without the list.
pub fn one_or_more<S: Serializer>(texts: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    match texts {
        [text] => text.serialize(serializer),
        texts => texts.serialize(serializer),
    }
}
