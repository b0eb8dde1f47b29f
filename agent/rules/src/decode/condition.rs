//! Tests of `when` on a document.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::seek::{self, Take};
use super::{DecodeError, JsonRule};
use crate::rule::{Shape, Test};
use fieldlog_projections::pattern::{PatternError, Patterns};

/// Maximum length of a tested value, in bytes. A longer one counts as absent.
const BYTES_MAX: usize = 1_024;

/// A condition, prepared once.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    pointer: String,
    test: Compiled,
}

#[derive(Clone, Debug)]
enum Compiled {
    Equals(String),
    In(Patterns),
    NotIn(Patterns),
    Exists(bool),
    Is(Shape),
}

impl Condition {
    pub(super) fn new(pointer: &str, test: &Test) -> Result<Condition, PatternError> {
        let test = match test {
            Test::Equals(text) => Compiled::Equals(text.clone()),
            Test::In(texts) => Compiled::In(Patterns::parse(texts)?),
            Test::NotIn(texts) => Compiled::NotIn(Patterns::parse(texts)?),
            Test::Exists(exists) => Compiled::Exists(*exists),
            Test::Is(shape) => Compiled::Is(*shape),
        };
        Ok(Condition { pointer: pointer.to_owned(), test })
    }

    /// Whether it holds for a text, which is checked to be a document.
    pub(super) fn holds_in(&self, text: &str) -> Result<bool, serde_json::Error> {
        if let Compiled::Exists(_) | Compiled::Is(_) = self.test {
            let mut there = There(None);
            seek::seek(text, &self.pointer, &mut there)?;
            return Ok(self.is_met(there.0, || None));
        }
        let found = seek::value_at(text, &self.pointer, BYTES_MAX)?;
        Ok(self.holds(|_| found.as_ref()))
    }

    /// Whether it holds; `at` looks up a pointer.
    pub(super) fn holds<'v>(&self, at: impl FnOnce(&str) -> Option<&'v Value>) -> bool {
        let found = at(&self.pointer);
        self.is_met(found.map(shape), || found.map(text))
    }

    /// Whether it holds of a payload that is a text and no document: the text is at "", and nothing is anywhere else.
    fn holds_of_text(&self, payload: &str) -> bool {
        let found = Some(payload).filter(|text| self.pointer.is_empty() && !text.is_empty());
        self.is_met(found.map(|_| Shape::Value), || found.map(Cow::Borrowed))
    }

    fn is_met<'t>(&self, shape: Option<Shape>, text: impl FnOnce() -> Option<Cow<'t, str>>) -> bool {
        let text = || text().filter(|text| text.len() <= BYTES_MAX);
        match &self.test {
            Compiled::Equals(wanted) => text().as_deref() == Some(wanted),
            Compiled::In(patterns) => text().is_some_and(|text| patterns.matches(&text)),
            Compiled::NotIn(patterns) => !text().is_some_and(|text| patterns.matches(&text)),
            Compiled::Exists(wanted) => shape.is_some() == *wanted,
            Compiled::Is(wanted) => shape == Some(*wanted),
        }
    }
}

/// Whether a rule that takes payloads of one value, or ignores them, takes this one. What begins like a document is looked into;
/// anything else is a text.
///
/// # Errors
/// [`DecodeError`] if it is no text, or begins like a document and is broken.
pub fn takes(payload: &[u8], rule: &JsonRule) -> Result<bool, DecodeError> {
    if !rule.has_conditions() {
        return Ok(true);
    }
    let text = std::str::from_utf8(payload).map_err(|_| DecodeError::NotUtf8)?.trim();
    let first = text.as_bytes().first();
    let is_document = match first {
        Some(b'{' | b'[') => {
            serde_json::from_str::<IgnoredAny>(text).map_err(|error| DecodeError::Json(error.to_string()))?;
            true
        }
        Some(b'"') => serde_json::from_str::<IgnoredAny>(text).is_ok(),
        _ => false,
    };
    if rule.object && first != Some(&b'{') {
        return Ok(false);
    }
    for condition in &rule.when {
        let holds = if is_document { condition.holds_in(text) } else { Ok(condition.holds_of_text(text)) };
        if !holds.map_err(|error| DecodeError::Json(error.to_string()))? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn shape(value: &Value) -> Shape {
    match value {
        Value::Object(_) => Shape::Object,
        Value::Array(_) => Shape::List,
        _ => Shape::Value,
    }
}

/// A value as text: a text unchanged, anything else in JSON notation.
fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

/// The shape of the value, if any.
struct There(Option<Shape>);

impl Take for There {
    fn take<'de, D: Deserializer<'de>>(&mut self, de: D) -> Result<(), D::Error> {
        self.0 = Some(de.deserialize_any(AnyShape)?);
        Ok(())
    }

    fn forget(&mut self) {
        self.0 = None;
    }
}

/// Skips a value and returns its shape.
struct AnyShape;

impl<'de> Visitor<'de> for AnyShape {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Shape::Object)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Shape::List)
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Value)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Value)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Value)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::Value)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Value)
    }

    fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape::Value)
    }
}
