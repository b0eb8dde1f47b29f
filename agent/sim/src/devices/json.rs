//! JSON as firmware writes it: members in source order, numbers with a fixed number of decimals. One device prints
//! `1.00` and another `1`, and a decoder must accept both.

use std::fmt::Write;

use serde_json::Value;

/// A JSON object being written.
#[derive(Clone, Debug, Default)]
pub struct Object(String);

impl Object {
    /// `{}` so far.
    pub fn new() -> Object {
        Object::default()
    }

    fn member(mut self, key: &str, value: std::fmt::Arguments<'_>) -> Object {
        let comma = if self.0.is_empty() { "" } else { "," };
        // Writing into a String cannot fail.
        let _ = write!(self.0, "{comma}{}:{value}", Value::from(key));
        self
    }

    /// A number with this many decimals.
    pub fn fixed(self, key: &str, value: f64, decimals: usize) -> Object {
        self.member(key, format_args!("{:.decimals$}", settle(value, decimals)))
    }

    /// A whole number.
    pub fn whole(self, key: &str, value: i64) -> Object {
        self.member(key, format_args!("{value}"))
    }

    /// A text.
    pub fn text(self, key: &str, value: &str) -> Object {
        self.member(key, format_args!("{}", Value::from(value)))
    }

    /// `true` or `false`.
    pub fn flag(self, key: &str, value: bool) -> Object {
        self.member(key, format_args!("{value}"))
    }

    /// Any value, as it came.
    pub fn value(self, key: &str, value: &Value) -> Object {
        self.member(key, format_args!("{value}"))
    }

    /// An object.
    pub fn object(self, key: &str, value: &Object) -> Object {
        self.member(key, format_args!("{{{}}}", value.0))
    }

    /// An array with one object.
    pub fn only(self, key: &str, value: &Object) -> Object {
        self.member(key, format_args!("[{{{}}}]", value.0))
    }

    /// An array of numbers with this many decimals.
    pub fn array(self, key: &str, values: &[f64], decimals: usize) -> Object {
        let list: Vec<String> =
            values.iter().map(|value| format!("{:.decimals$}", settle(*value, decimals))).collect();
        self.member(key, format_args!("[{}]", list.join(",")))
    }

    /// The document.
    pub fn finish(self) -> String {
        format!("{{{}}}", self.0)
    }
}

/// Rounds to this many decimals, never to negative zero.
fn settle(value: f64, decimals: usize) -> f64 {
    let scale = [1.0, 10.0, 100.0, 1000.0][decimals.min(3)];
    (value * scale).round() / scale + 0.0
}

/// A number as JavaScript prints it: rounded to this many decimals, without a point if it is whole.
pub fn number(value: f64, decimals: usize) -> Value {
    let value = settle(value, decimals);
    if value.fract() == 0.0 && value.abs() < 9e15 { Value::from(value as i64) } else { Value::from(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_decimals_are_kept() {
        let text = Object::new()
            .text("Time", "2026-11-23T10:00:00")
            .object(
                "ENERGY",
                &Object::new().fixed("Factor", 1.0, 2).fixed("Total", 3.7049, 3).whole("Power", 5),
            )
            .array("by_minute", &[1.0, -0.0004], 3)
            .flag("output", true)
            .only("events", &Object::new().text("event", "say \"hi\""))
            .finish();
        assert_eq!(
            text,
            r#"{"Time":"2026-11-23T10:00:00","ENERGY":{"Factor":1.00,"Total":3.705,"Power":5},"by_minute":[1.000,0.000],"output":true,"events":[{"event":"say \"hi\""}]}"#
        );
        assert!(serde_json::from_str::<Value>(&text).is_ok());
    }

    #[test]
    fn numbers_like_javascript() {
        for (value, decimals, text) in
            [(27.344, 2, "27.34"), (27.0, 2, "27"), (-0.001, 2, "0"), (1013.25, 1, "1013.3")]
        {
            assert_eq!(number(value, decimals).to_string(), text);
        }
    }
}
