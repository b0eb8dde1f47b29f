//! Values converted to the configured types.

use std::fmt::Write;

use fieldlog_projections::ValueRef;

use super::Scalar;
use crate::rule::{Kind, ValueType};
use fieldlog_projections::pattern::{PatternError, Patterns};

/// Integers up to this are exact as floats.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// The types of a rule, prepared once.
#[derive(Clone, Debug, Default)]
pub struct Types(Vec<(Patterns, Kind)>);

impl Types {
    /// From a rule's list.
    ///
    /// # Errors
    /// [`PatternError`] for the first invalid pattern.
    pub fn new(types: &[ValueType]) -> Result<Types, PatternError> {
        let one = |entry: &ValueType| Ok((Patterns::parse(&entry.attributes)?, entry.kind.clone()));
        types.iter().map(one).collect::<Result<_, _>>().map(Types)
    }

    /// Index of the first entry that names an attribute.
    pub fn find(&self, attribute: &str) -> Option<u16> {
        let at = self.0.iter().position(|(patterns, _)| patterns.matches(attribute))?;
        u16::try_from(at).ok()
    }

    /// Converts a value to the type of an entry; unchanged if it does not fit. `scratch` is a buffer for text.
    pub fn convert<'v>(&self, entry: u16, value: ValueRef<'v>, scratch: &'v mut String) -> ValueRef<'v> {
        let Some((_, kind)) = self.0.get(usize::from(entry)) else { return value };
        match kind {
            Kind::Text => as_text(value, scratch),
            Kind::Number { unit } => as_number(value, unit).unwrap_or(value),
            Kind::Integer { unit } => as_number(value, unit).and_then(whole).unwrap_or(value),
            Kind::Boolean { yes, no } => as_boolean(value, yes, no).unwrap_or(value),
        }
    }

    /// The same for a payload that consists of one value.
    pub fn convert_scalar<'v>(
        &self,
        entry: u16,
        scalar: Scalar<'v>,
        scratch: &'v mut String,
    ) -> ValueRef<'v> {
        if scalar.value == ValueRef::Null {
            return ValueRef::Null;
        }
        let text = matches!(self.0.get(usize::from(entry)), Some((_, Kind::Text)));
        match self.convert(entry, ValueRef::Text(scalar.text), scratch) {
            ValueRef::Text(_) if !text && scalar.exact => scalar.value,
            converted => converted,
        }
    }
}

fn as_text<'v>(value: ValueRef<'v>, scratch: &'v mut String) -> ValueRef<'v> {
    scratch.clear();
    // Writing to a text cannot fail.
    let _ = match value {
        ValueRef::Bool(v) => write!(scratch, "{v}"),
        ValueRef::Int(v) => write!(scratch, "{v}"),
        ValueRef::Uint(v) => write!(scratch, "{v}"),
        ValueRef::Float(v) => write!(scratch, "{v:?}"),
        ValueRef::Null | ValueRef::Text(_) | ValueRef::Json(_) => return value,
    };
    ValueRef::Text(scratch)
}

/// A number, or a text that is one, with or without its unit. NaN is null.
fn as_number<'v>(value: ValueRef<'v>, unit: &str) -> Option<ValueRef<'v>> {
    let text = match value {
        ValueRef::Text(text) => text.trim(),
        ValueRef::Int(_) | ValueRef::Uint(_) | ValueRef::Float(_) => return Some(value),
        _ => return None,
    };
    if text.is_empty() || text.eq_ignore_ascii_case("nan") {
        return Some(ValueRef::Null);
    }
    let text = text.strip_suffix(unit).map_or(text, str::trim_end);
    if let Ok(v) = text.parse() {
        return Some(ValueRef::Int(v));
    }
    if let Ok(v) = text.parse() {
        return Some(ValueRef::Uint(v));
    }
    text.parse::<f64>().ok().filter(|v| v.is_finite()).map(ValueRef::Float)
}

fn whole(value: ValueRef<'_>) -> Option<ValueRef<'_>> {
    match value {
        ValueRef::Float(v) if v.fract() == 0.0 && v.abs() <= EXACT_MAX => Some(ValueRef::Int(v as i64)),
        ValueRef::Float(_) => None,
        value => Some(value),
    }
}

fn as_boolean<'v>(value: ValueRef<'v>, yes: &[String], no: &[String]) -> Option<ValueRef<'v>> {
    let is = |text: &str, words: &[String]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    let of = |text: &str| match (is(text, yes), is(text, no)) {
        (true, _) => Some(ValueRef::Bool(true)),
        (_, true) => Some(ValueRef::Bool(false)),
        _ => None,
    };
    match value {
        ValueRef::Text(text) => of(text.trim()),
        ValueRef::Int(v) => of(&v.to_string()),
        ValueRef::Float(v) => of(&v.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::scalar;
    use super::*;
    use fieldlog_projections::Value;

    fn types() -> Types {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let of = |attribute: &str, kind| ValueType { attributes: words(&[attribute]), kind };
        let (yes, no) = (words(&["ON", "1"]), words(&["OFF", "0"]));
        Types::new(&[
            of("text", Kind::Text),
            of("number", Kind::Number { unit: "W".into() }),
            of("integer", Kind::Integer { unit: "%".into() }),
            of("boolean", Kind::Boolean { yes, no }),
        ])
        .unwrap()
    }

    fn check(name: &str, cases: &[(ValueRef<'_>, ValueRef<'_>)]) {
        let types = types();
        let entry = types.find(name).unwrap();
        for (value, expected) in cases {
            assert_eq!(types.convert(entry, *value, &mut String::new()), *expected, "{name} {value:?}");
        }
    }

    #[test]
    fn values_become_what_they_are_said_to_be_or_stay() {
        use ValueRef::{Bool, Float, Int, Json, Null, Text, Uint};
        check(
            "text",
            &[
                (Text("1.10"), Text("1.10")),
                (Int(5), Text("5")),
                (Float(21.0), Text("21.0")),
                (Bool(true), Text("true")),
                (Uint(u64::MAX), Text("18446744073709551615")),
                (Null, Null),
                (Json("[1]"), Json("[1]")),
            ],
        );
        check(
            "number",
            &[
                (Text("19.2"), Float(19.2)),
                (Text("19.20 W"), Float(19.2)),
                (Text("-5W"), Int(-5)),
                (Text("007"), Int(7)),
                (Text("nan"), Null),
                (Text("inf"), Text("inf")),
                (Text("5 kW"), Text("5 kW")),
                (Text("unavailable"), Text("unavailable")),
                (Float(1.5), Float(1.5)),
                (Bool(true), Bool(true)),
            ],
        );
        check(
            "integer",
            &[
                (Text("57 %"), Int(57)),
                (Float(57.0), Int(57)),
                (Float(57.5), Float(57.5)),
                (Text("57.5"), Text("57.5")),
                (Float(1e300), Float(1e300)),
            ],
        );
        check(
            "boolean",
            &[
                (Text("on"), Bool(true)),
                (Text("OFF"), Bool(false)),
                (Int(1), Bool(true)),
                (Float(0.0), Bool(false)),
                (Text("toggle"), Text("toggle")),
                (Bool(false), Bool(false)),
            ],
        );
    }

    #[test]
    fn a_payload_that_is_one_value_keeps_its_letters_as_text() {
        let types = types();
        for (name, payload, expected) in [
            ("text", "2024.10", Value::Text("2024.10".into())),
            ("text", "", Value::Null),
            ("number", "1.10", Value::Float(1.1)),
            ("number", "on", Value::Text("on".into())),
            ("boolean", "1", Value::Bool(true)),
            ("boolean", "2", Value::Int(2)),
            ("boolean", "2.0", Value::Text("2.0".into())),
        ] {
            let entry = types.find(name).unwrap();
            let scalar = scalar(payload.as_bytes(), 100).unwrap();
            let mut scratch = String::new();
            assert_eq!(
                types.convert_scalar(entry, scalar, &mut scratch).to_owned(),
                expected,
                "{name} {payload}"
            );
        }
        assert_eq!(types.find("other"), None);
    }
}
