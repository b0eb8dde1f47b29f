//! Which attributes are those of a battery, and when it is low. `http/page/classes.js` judges by name as this does.

use fieldlog_projections::alert::Condition;
use fieldlog_projections::{AttributeDescription, Value, ValueRef};

use super::reading::{Reading, Threshold};

/// The device class of batteries, as announced.
const CLASS: &str = "battery";
/// Names of percentages, and of what a device says itself.
const NAMES: [&str; 4] = ["battery", "battery_level", "battery_percent", "battery_low"];

/// Whether an attribute of this name is a battery's, as far as the name tells: by its last part.
pub(super) fn is_named(name: &str) -> bool {
    let last = name.rsplit(['.', '/']).next().unwrap_or(name);
    NAMES.iter().any(|known| last.eq_ignore_ascii_case(known))
}

/// What a description says: whether it is a battery's; `None` if it does not say.
pub(super) fn is_described(description: &AttributeDescription) -> Option<bool> {
    let other_unit = !description.unit.is_empty() && description.unit != "%";
    match (description.device_class.as_str(), other_unit) {
        // A voltage.
        (_, true) => Some(false),
        (CLASS, false) => Some(true),
        _ => None,
    }
}

/// A percentage below the threshold, or that the device says itself that it is low.
pub(super) fn reading(value: ValueRef<'_>, threshold: Threshold) -> Reading {
    match value {
        ValueRef::Bool(true) => {
            let (threshold, value) = (Value::Null, Value::Bool(true));
            Reading::Wrong { condition: Condition::BatteryLow, threshold, value }
        }
        ValueRef::Bool(false) => Reading::Right(Value::Bool(false)),
        value => threshold.reading(value),
    }
}
