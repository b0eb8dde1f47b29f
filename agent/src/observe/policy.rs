//! Decides whether a value becomes an event, without side effects.

use fieldlog_projections::{Time, Value, ValueRef};

use super::device::Slot;
use crate::config::{Policy, RecordMode};

/// What becomes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It becomes an event.
    Record,
    /// It equals the recorded value.
    Unchanged,
    /// It differs by less than the deadband.
    WithinDeadband,
    /// It is to be recorded, but the interval since the last event has not ended.
    Deferred {
        /// When it ends.
        until: Time,
    },
    /// It differs, but nothing of this attribute is recorded.
    Never,
}

/// Decides about a value seen now, given the last recorded one. Without a policy, every change is recorded.
#[inline]
pub(super) fn decide(policy: Option<&Policy>, slot: &Slot, value: ValueRef<'_>, now: Time) -> Decision {
    let same = value.same(slot.value.borrow());
    let Some(policy) = policy else {
        return if same { Decision::Unchanged } else { Decision::Record };
    };
    match policy.record {
        RecordMode::Change | RecordMode::Never if same => return Decision::Unchanged,
        RecordMode::Never => return Decision::Never,
        RecordMode::Change if within_deadband(policy, &slot.value, value) => return Decision::WithinDeadband,
        RecordMode::Change | RecordMode::Every => {}
    }
    let interval = policy.min_interval.as_micros() as i64;
    // If the clock was set back, no time has passed.
    if slot.was_recorded() && now.micros_since(slot.recorded) < interval {
        return Decision::Deferred { until: Time(slot.recorded.0 + interval) };
    }
    Decision::Record
}

fn within_deadband(policy: &Policy, old: &Value, new: ValueRef<'_>) -> bool {
    match (new.as_number(), old.borrow().as_number()) {
        (Some(new), Some(old)) => policy.deadband > 0.0 && (new - old).abs() < policy.deadband,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fieldlog_projections::AttrId;

    use super::Decision::{Never, Record, Unchanged, WithinDeadband};
    use super::*;

    const RECORDED: Time = Time(1_000_000_000);

    fn policy(record: RecordMode, deadband: f64, min_interval_ms: u64) -> Policy {
        Policy {
            attributes: vec!["*".into()],
            devices: vec!["*".into()],
            deadband,
            min_interval: Duration::from_millis(min_interval_ms),
            held: crate::config::HeldValues::Memory,
            record,
        }
    }

    /// The decision about `new` this many milliseconds after `old` was recorded.
    fn check(policy: Option<&Policy>, old: &Value, new: ValueRef<'_>, after_ms: i64, expected: Decision) {
        let slot = Slot { value: old.clone(), recorded: RECORDED, ..Slot::new(AttrId(0), None) };
        let now = Time(RECORDED.0 + after_ms * 1_000);
        let found = decide(policy, &slot, new, now);
        assert_eq!(found, expected, "{old:?}, then {new:?} after {after_ms} ms under {policy:?}");
    }

    #[test]
    fn without_a_policy_what_differs_is_recorded() {
        let (on, off) = (Value::Text("on".into()), ValueRef::Text("off"));
        check(None, &on, off, 0, Record);
        check(None, &on, off, -1_000, Record);
        check(None, &on, ValueRef::Text("on"), 60_000, Unchanged);
        check(None, &on, ValueRef::Null, 0, Record);
        check(None, &Value::Int(1), ValueRef::Text("1"), 0, Record);
    }

    #[test]
    fn a_deadband_holds_back_numbers_that_differ_by_less() {
        let half = policy(RecordMode::Change, 0.5, 0);
        for (new, expected) in [
            (20.0, Unchanged),
            (20.25, WithinDeadband),
            (19.75, WithinDeadband),
            (20.5, Record),
            (19.5, Record),
            (f64::NAN, Record),
        ] {
            check(Some(&half), &Value::Float(20.0), ValueRef::Float(new), 1, expected);
        }
        check(Some(&half), &Value::Int(20), ValueRef::Float(20.25), 1, WithinDeadband);
        check(Some(&half), &Value::Null, ValueRef::Float(0.1), 1, Record);
        check(Some(&half), &Value::Float(20.0), ValueRef::Text("20.1"), 1, Record);
        let zero = policy(RecordMode::Change, 0.0, 0);
        check(Some(&zero), &Value::Float(20.0), ValueRef::Float(20.000_1), 1, Record);
    }

    #[test]
    fn within_an_interval_a_change_waits_for_its_end() {
        let second = policy(RecordMode::Change, 0.0, 1_000);
        let until = Time(RECORDED.0 + 1_000_000);
        for (after_ms, expected) in [
            (0, Decision::Deferred { until }),
            (999, Decision::Deferred { until }),
            (1_000, Record),
            (5_000, Record),
            // The clock was set back.
            (-60_000, Decision::Deferred { until }),
        ] {
            check(Some(&second), &Value::Int(1), ValueRef::Int(2), after_ms, expected);
            check(Some(&second), &Value::Int(1), ValueRef::Int(1), after_ms, Unchanged);
        }
        let none = policy(RecordMode::Change, 0.0, 0);
        check(Some(&none), &Value::Int(1), ValueRef::Int(2), -60_000, Record);
    }

    #[test]
    fn the_first_value_waits_for_nothing() {
        let slow = policy(RecordMode::Every, 5.0, 86_400_000);
        let slot = Slot::new(AttrId(0), None);
        assert_eq!(decide(Some(&slow), &slot, ValueRef::Int(1), Time(i64::MIN + 1)), Record);
        assert_eq!(decide(Some(&slow), &slot, ValueRef::Int(1), RECORDED), Record);
    }

    #[test]
    fn every_takes_equal_values_and_knows_no_deadband() {
        let every = policy(RecordMode::Every, 5.0, 0);
        check(Some(&every), &Value::Int(1), ValueRef::Int(1), 0, Record);
        check(Some(&every), &Value::Int(1), ValueRef::Int(2), 0, Record);
        let spaced = policy(RecordMode::Every, 0.0, 1_000);
        let until = Time(RECORDED.0 + 1_000_000);
        check(Some(&spaced), &Value::Int(1), ValueRef::Int(1), 10, Decision::Deferred { until });
    }

    #[test]
    fn never_is_never_whatever_the_value() {
        let never = policy(RecordMode::Never, 0.5, 1_000);
        check(Some(&never), &Value::Null, ValueRef::Int(2), 0, Never);
        check(Some(&never), &Value::Int(1), ValueRef::Int(2), 60_000, Never);
        check(Some(&never), &Value::Int(1), ValueRef::Int(1), 60_000, Unchanged);
    }
}
