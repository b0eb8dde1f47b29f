//! What a rule says of one value.

use std::time::Duration;

use fieldlog_projections::alert::Condition;
use fieldlog_projections::{Value, ValueRef};

/// What a rule says of one value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reading {
    /// It is wrong.
    Wrong { condition: Condition, threshold: Value, value: Value },
    /// It is right: an alert is over.
    Right(Value),
    /// It is not wrong, but an open alert stays open.
    Between,
    /// It says nothing: the value is of another kind than the rule is about.
    Unknown,
    /// There is no value any more.
    Gone,
}

/// What a number is compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Threshold {
    pub(super) at: f64,
    /// Where an alert is over.
    pub(super) clear: f64,
    /// Whether greater numbers are wrong; otherwise less ones.
    pub(super) above: bool,
}

impl Threshold {
    pub(super) fn reading(self, value: ValueRef<'_>) -> Reading {
        let number = match value.as_number() {
            Some(number) => number,
            None if value == ValueRef::Null => return Reading::Gone,
            None => return Reading::Unknown,
        };
        let (wrong, right, condition) = match self.above {
            true => (number > self.at, number <= self.clear, Condition::Above),
            false => (number < self.at, number >= self.clear, Condition::Below),
        };
        match (wrong, right) {
            (true, _) => {
                Reading::Wrong { condition, threshold: Value::Float(self.at), value: value.to_owned() }
            }
            (false, true) => Reading::Right(value.to_owned()),
            (false, false) => Reading::Between,
        }
    }
}

impl Reading {
    /// Whether a value is a certain one.
    pub(super) fn equals(value: ValueRef<'_>, wanted: &Value) -> Reading {
        match value {
            ValueRef::Null => Reading::Gone,
            value if value.same(wanted.borrow()) => Reading::Wrong {
                condition: Condition::Equals,
                threshold: wanted.clone(),
                value: value.to_owned(),
            },
            value => Reading::Right(value.to_owned()),
        }
    }

    /// A device has not been heard for `quiet`.
    pub(super) fn silent(lasting: Duration, quiet: Duration) -> Reading {
        let (threshold, value) = (seconds(lasting), seconds(quiet));
        Reading::Wrong { condition: Condition::Silent, threshold, value }
    }

    /// A device is offline.
    pub(super) fn offline(lasting: Duration) -> Reading {
        let (threshold, value) = (seconds(lasting), Value::Null);
        Reading::Wrong { condition: Condition::Offline, threshold, value }
    }

    /// A number of a sink.
    pub(super) fn backlog(condition: Condition, threshold: u64, found: u64) -> Reading {
        let value = whole(found);
        match found > threshold {
            true => Reading::Wrong { condition, threshold: whole(threshold), value },
            false => Reading::Right(value),
        }
    }
}

fn seconds(time: Duration) -> Value {
    whole(time.as_secs())
}

fn whole(number: u64) -> Value {
    i64::try_from(number).map_or(Value::Uint(number), Value::Int)
}
