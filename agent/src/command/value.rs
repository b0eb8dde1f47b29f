//! What values a command may have.

use fieldlog_projections::{AttributeDescription, DataType, Value, ValueRef};
use fieldlog_wire::json::Val;
use serde_json::Value as Json;

use super::rejected::{Code, Rejected};

/// The value that a body gives, if it is allowed.
pub(super) fn check(
    name: &str,
    takes_value: bool,
    description: &AttributeDescription,
    given: &Json,
) -> Result<Value, Rejected> {
    let reject = |allowed: &str| {
        let reason = format!("`value` is {given}; `{name}` takes {allowed}");
        Err(Rejected::new(Code::InvalidValue, reason))
    };
    if !takes_value {
        return if given.is_null() { Ok(Value::Null) } else { reject("no value") };
    }
    let value = from_json(given);
    let typed = match description.data_type {
        DataType::Unknown => !given.is_null(),
        DataType::Text | DataType::Enum => given.is_string(),
        DataType::Number => given.is_number(),
        DataType::Integer => given.as_f64().is_some_and(|number| number.fract() == 0.0),
        DataType::Boolean => given.is_boolean(),
        DataType::Json => given.is_object() || given.is_array(),
    };
    let words = description.values.is_empty();
    // Values are announced as texts, whatever they are.
    let listed = words || description.values.iter().any(|word| *word == word_of(given));
    // A device that announces words for true and false reports those words.
    let typed = typed || (!words && description.data_type == DataType::Boolean && given.is_string());
    if !typed || !listed {
        return reject(&allowed(description));
    }
    if let Some(number) = given.as_f64() {
        let least = description.min.is_none_or(|min| number >= min);
        let most = description.max.is_none_or(|max| number <= max);
        if !least || !most {
            return reject(&allowed(description));
        }
    }
    Ok(value)
}

/// What is allowed, in words.
fn allowed(description: &AttributeDescription) -> String {
    let AttributeDescription { unit, data_type, min, max, values, .. } = description;
    if !values.is_empty() {
        let values: Vec<String> = values.iter().map(|value| format!("\"{value}\"")).collect();
        return format!("one of {}", values.join(", "));
    }
    let what = match data_type {
        DataType::Unknown => "a value that is not null",
        DataType::Text | DataType::Enum => "a text",
        DataType::Number => "a number",
        DataType::Integer => "a whole number",
        DataType::Boolean => "true or false",
        DataType::Json => "a list or an object",
    };
    let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
    match (min, max) {
        (Some(min), Some(max)) => format!("{what} from {min} to {max}{unit}"),
        (Some(min), None) => format!("{what} of {min}{unit} or more"),
        (None, Some(max)) => format!("{what} of {max}{unit} or less"),
        (None, None) => what.to_owned(),
    }
}

pub(super) fn word_of(json: &Json) -> String {
    json.as_str().map_or_else(|| json.to_string(), str::to_owned)
}

/// A JSON value as an attribute's value.
pub fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Bool(*flag),
        Json::String(text) => Value::Text(text.as_str().into()),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(int), ..) => Value::Int(int),
            (None, Some(uint), _) => Value::Uint(uint),
            (None, None, Some(float)) => Value::Float(float),
            (None, None, None) => Value::Text(number.to_string().into()),
        },
        Json::Array(_) | Json::Object(_) => Value::Json(json.to_string().into()),
    }
}

/// A value as JSON.
pub fn to_json(value: ValueRef<'_>) -> Json {
    serde_json::to_value(Val(value)).unwrap_or_default()
}
