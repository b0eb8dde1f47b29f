//! What shows that a command was carried out.

use fieldlog_projections::command::Evidence;
use fieldlog_projections::{Seq, Value, ValueRef};
use fieldlog_wire::json::Val;
use serde_json::Value as Json;

/// Whether a reported value is the one that a command was to reach.
pub(super) fn reached(evidence: &Evidence, attribute: &str, value: ValueRef<'_>) -> bool {
    evidence
        .reported()
        .is_some_and(|(awaited, target, tolerance)| awaited == attribute && is_near(value, target, tolerance))
}

/// Whether a value is the target, or a number that is no further from it than `tolerance`. A text is also reached by the
/// number or the truth value that it says, and a truth value by 1 or 0: devices do not always report in the type in which
/// they are told.
pub(super) fn is_near(value: ValueRef<'_>, target: &Value, tolerance: f64) -> bool {
    match (value, target) {
        (
            ValueRef::Bool(_) | ValueRef::Int(_) | ValueRef::Uint(_) | ValueRef::Float(_),
            Value::Text(text),
        ) => serde_json::to_string(&Val(value)).is_ok_and(|said| said == **text),
        (ValueRef::Int(number), Value::Bool(flag)) => number == i64::from(*flag),
        _ => match (value.as_number(), target.borrow().as_number()) {
            (Some(value), Some(target)) => {
                // 25.5 is 0.1 from 25.4, though not for a computer.
                let rounding = f64::EPSILON * value.abs().max(target.abs());
                (value - target).abs() <= tolerance + rounding
            }
            _ => value.same(target.borrow()),
        },
    }
}

/// What a device answers to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It does it.
    Accepted,
    /// It refuses.
    Refused(String),
}

/// Longest reason kept of a refusal, in bytes.
const REASON_BYTES_MAX: usize = 512;

/// The answer in a payload, if it is one to this command.
pub(super) fn answer(command: Seq, id: &str, error: &str, payload: &Json) -> Option<Answer> {
    let number = payload.pointer(id)?;
    let ours = number.as_u64() == Some(command.0) || number.as_str() == Some(&command.0.to_string());
    if !ours {
        return None;
    }
    Some(match payload.pointer(error) {
        None | Some(Json::Null) => Answer::Accepted,
        Some(why) => {
            let message = why.get("message").and_then(Json::as_str).map(str::to_owned);
            let mut text =
                message.unwrap_or_else(|| why.as_str().map_or_else(|| why.to_string(), str::to_owned));
            let mut end = text.len().min(REASON_BYTES_MAX);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            Answer::Refused(format!("the device refuses it: {text}"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_may_be_off_by_the_tolerance() {
        let check = |value: ValueRef<'_>, target: Value, tolerance: f64, near: bool| {
            assert_eq!(is_near(value, &target, tolerance), near, "{value:?} {target:?} {tolerance}");
        };
        check(ValueRef::Float(21.4), Value::Int(21), 0.5, true);
        check(ValueRef::Float(21.6), Value::Int(21), 0.5, false);
        check(ValueRef::Int(21), Value::Float(21.0), 0.0, true);
        check(ValueRef::Float(25.5), Value::Float(25.4), 0.1, true);
        check(ValueRef::Float(25.6), Value::Float(25.4), 0.1, false);
        check(ValueRef::Float(f64::NAN), Value::Int(21), 5.0, false);
        check(ValueRef::Text("ON"), Value::Text("ON".into()), 0.0, true);
        check(ValueRef::Text("on"), Value::Text("ON".into()), 0.0, false);
        check(ValueRef::Null, Value::Bool(false), 0.0, false);
        check(ValueRef::Int(1), Value::Bool(true), 0.0, true);
        check(ValueRef::Int(0), Value::Bool(true), 0.0, false);
        check(ValueRef::Bool(true), Value::Int(1), 0.0, false);
        check(ValueRef::Int(5), Value::Text("5".into()), 0.0, true);
        check(ValueRef::Bool(true), Value::Text("true".into()), 0.0, true);
        check(ValueRef::Int(5), Value::Text("5.0".into()), 0.0, false);
        check(ValueRef::Null, Value::Text("null".into()), 0.0, false);
    }

    #[test]
    fn an_answer_is_that_of_the_command_whose_number_it_has() {
        let check = |payload: &str, expected: Option<Answer>| {
            let payload = serde_json::from_str(payload).unwrap();
            assert_eq!(answer(Seq(41), "/id", "/error", &payload), expected, "{payload}");
        };
        // Shelly Gen2, MQTT RPC.
        check(
            r#"{"id":41,"src":"shellyplus1-a8032abe54dc","dst":"us","result":{"was_on":false}}"#,
            Some(Answer::Accepted),
        );
        check(
            r#"{"id":41,"src":"s","dst":"us","error":{"code":-103,"message":"Argument 'on' is required"}}"#,
            Some(Answer::Refused("the device refuses it: Argument 'on' is required".into())),
        );
        check(r#"{"id":42,"src":"s","dst":"us","result":{}}"#, None);
        check(r#"{"id":"41","result":null,"error":null}"#, Some(Answer::Accepted));
        check(r#"{"result":{}}"#, None);
        check("[]", None);
    }
}
