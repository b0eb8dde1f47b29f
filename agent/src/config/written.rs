//! How checked values are serialised under their keys: in the unit of the key's name, with 0 or empty text for none.

use std::time::Duration;

use serde::{Serialize, Serializer};

pub(super) use toml::Table;

/// The table of one part of the configuration, its keys in the order of the fields.
pub(super) fn table_of(part: &impl Serialize) -> Result<Table, toml::ser::Error> {
    Table::try_from(part)
}

fn whole<S: Serializer>(
    duration: impl Into<Option<Duration>>,
    unit: impl Fn(Duration) -> u128,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let count = duration.into().map_or(0, unit);
    serializer.serialize_u64(u64::try_from(count).unwrap_or(u64::MAX))
}

pub(super) fn seconds<S: Serializer>(
    duration: &(impl Copy + Into<Option<Duration>>),
    serializer: S,
) -> Result<S::Ok, S::Error> {
    whole(*duration, |duration| duration.as_secs().into(), serializer)
}

pub(super) fn milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    whole(*duration, |duration| duration.as_millis(), serializer)
}

pub(super) fn days<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    whole(*duration, |duration| (duration.as_secs() / 86_400).into(), serializer)
}

/// Empty text means none.
pub(super) fn or_empty<T: Serialize, S: Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => value.serialize(serializer),
        None => serializer.serialize_str(""),
    }
}

/// 0 stands for none.
pub(super) fn or_zero<T: Serialize, S: Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => value.serialize(serializer),
        None => serializer.serialize_u64(0),
    }
}

/// A single text without the list.
pub(super) fn one_or_more<S: Serializer>(texts: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    match texts {
        [text] => text.serialize(serializer),
        texts => texts.serialize(serializer),
    }
}
