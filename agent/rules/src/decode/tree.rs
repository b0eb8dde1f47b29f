//! Documents that are built before they are read: those with several devices in one payload, those that name their
//! device, and all formats other than JSON.

use std::borrow::Cow;

use fieldlog_projections::Time;
use serde::de::Deserializer;
use serde_json::Value;

use super::formats::Built;
use super::{DecodeError, JsonRule, Node, Values, finish, formats, nothing_at, through, time_item};
use crate::rule::{Decoder, Each};
use crate::topic::{Name, Part};

/// The document of one device in a payload.
#[derive(Clone, Copy, Debug)]
pub struct Document<'d> {
    whole: &'d Value,
    own: &'d Value,
    key: Option<&'d str>,
    each: bool,
}

/// The result of applying a rule to a payload.
#[derive(Debug)]
pub enum Documents<'d> {
    /// The documents, in order; and the place of one that was left out because it is not an object.
    These(Vec<Document<'d>>, Option<String>),
    /// The rule's `when` does not hold.
    NotThis,
}

/// Builds the document of a payload, within bounds.
///
/// # Errors
/// [`DecodeError`] with the reason in words; its bound is named if it is too large.
pub fn build(decoder: Decoder, payload: &[u8]) -> Result<Built, DecodeError> {
    formats::document(decoder, payload)
}

/// The documents that a rule takes from a built payload.
///
/// # Errors
/// [`DecodeError::Json`] if there is nothing at the rule's root, or not the expected kind.
pub fn documents<'d>(rule: &JsonRule, whole: &'d Value) -> Result<Documents<'d>, DecodeError> {
    let Some(each) = rule.each else {
        let document = |own| Document { whole, own, key: None, each: false };
        if !document(whole).holds(rule) {
            return Ok(Documents::NotThis);
        }
        let own = whole.pointer(&rule.root).ok_or_else(|| error(&nothing_at(&rule.root)))?;
        return Ok(Documents::These(vec![document(own)], None));
    };
    let document = |own, key| Document { whole, own, key, each: true };
    let all: Vec<Document<'d>> = match (each, whole.pointer(&rule.root)) {
        (Each::Members, Some(Value::Object(members))) => {
            members.iter().map(|(key, own)| document(own, Some(key.as_str()))).collect()
        }
        (Each::Elements, Some(Value::Array(elements))) => {
            elements.iter().map(|own| document(own, None)).collect()
        }
        _ if !document(whole, None).holds(rule) => return Ok(Documents::NotThis),
        (_, None) => return Err(error(&nothing_at(&rule.root))),
        (Each::Members, _) => return Err(unexpected(rule, "an object, as each = \"members\" expects")),
        (Each::Elements, _) => return Err(unexpected(rule, "a list, as each = \"elements\" expects")),
    };
    let count = all.len();
    let mut left_out = None;
    let mut these = Vec::new();
    for (index, document) in all.into_iter().enumerate().filter(|(_, document)| document.holds(rule)) {
        let place = || document.key.map_or_else(|| index.to_string(), str::to_owned);
        if document.own.is_object() || rule.value.is_some() {
            these.push(document);
        } else if !document.key.is_some_and(|key| rule.ignore.matches(key)) {
            left_out.get_or_insert_with(place);
        }
    }
    if these.is_empty() && left_out.is_none() && count > 0 {
        return Ok(Documents::NotThis);
    }
    Ok(Documents::These(these, left_out))
}

fn error(error: &serde_json::Error) -> DecodeError {
    DecodeError::Json(error.to_string())
}

fn unexpected(rule: &JsonRule, what: &str) -> DecodeError {
    let place = if rule.root.is_empty() { "the document" } else { &rule.root };
    DecodeError::Json(format!("{place} is not {what}"))
}

impl<'d> Document<'d> {
    /// The value at a pointer: with `each`, in the member first, then in the whole payload.
    fn at(&self, pointer: &str) -> Option<&'d Value> {
        let own = if self.each { self.own.pointer(pointer) } else { None };
        own.or_else(|| self.whole.pointer(pointer))
    }

    fn holds(&self, rule: &JsonRule) -> bool {
        let object = !rule.object || self.at("").is_some_and(Value::is_object);
        object && rule.when.iter().all(|condition| condition.holds(|pointer| self.at(pointer)))
    }

    /// Builds a name, or returns the missing part.
    ///
    /// # Errors
    /// The missing part, as written in the rule.
    pub fn name(&self, name: &Name) -> Result<String, String> {
        let mut text = String::new();
        for part in name.parts() {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Key => text.push_str(self.key.filter(|key| !key.is_empty()).ok_or("{key}")?),
                Part::Pointer(pointer) => {
                    text.push_str(
                        &self.at(pointer).and_then(name_of).ok_or_else(|| format!("{{{pointer}}}"))?,
                    );
                }
            }
        }
        Ok(text)
    }

    /// Collects attribute paths and values; returns the document's own time if it is usable.
    ///
    /// # Errors
    /// As [`super::json`].
    pub fn take(&self, rule: &JsonRule, values: &mut Values) -> Result<Option<Time>, DecodeError> {
        // Other formats may be shorter than their text in JSON.
        values.begin(2 * formats::PAYLOAD_BYTES_MAX);
        let read = self.read(rule, values);
        finish(read, rule, values)
    }

    fn read(&self, rule: &JsonRule, values: &mut Values) -> Result<(), serde_json::Error> {
        match &rule.value {
            None => {
                self.own.deserialize_map(Node { values, rule, depth: 0 })?;
                if !self.each {
                    values.pass_over(passed_over(self.whole, &rule.root));
                }
            }
            Some(pointer) => {
                let value = self.own.pointer(pointer).ok_or_else(|| nothing_at(&rule.place))?;
                value.deserialize_any(Node { values, rule, depth: 0 })?;
            }
        }
        if !rule.order.is_empty() {
            values.order = self.at(&rule.order).and_then(through::order_of);
        }
        if values.lacks_counter(rule)
            && let Some(counter) = self.at(&rule.counter)
        {
            values.add_counter(rule, counter)?;
        }
        if values.time.is_none() && !rule.time_pointer.is_empty() {
            values.time = self.at(&rule.time_pointer).and_then(|value| time_item(value, values));
        }
        Ok(())
    }

    /// The value of an action that combines all fields, as JSON text; `None` if the rule does not combine them, or the
    /// document has none.
    pub fn together(&self, rule: &JsonRule) -> Option<String> {
        let own = rule.value.as_ref().map_or(Some(self.own), |pointer| self.own.pointer(pointer))?;
        rule.together.as_ref()?.value(own).map(|value| value.to_string())
    }
}

/// Number of list elements beside those on a pointer's path.
fn passed_over(whole: &Value, pointer: &str) -> usize {
    let places = pointer.match_indices('/').map(|(at, _)| &pointer[..at]);
    let lists = places.filter_map(|place| whole.pointer(place)?.as_array());
    lists.map(|list| list.len().saturating_sub(1)).sum()
}

/// Values of a document in which a name may stand twice: the last one counts, so that it has to be built first. The rule's
/// `when` holds.
pub(super) fn again(
    payload: &[u8],
    rule: &JsonRule,
    values: &mut Values,
) -> Result<Option<Time>, DecodeError> {
    values.clear();
    let Built { document, twice } = build(Decoder::Json, payload)?;
    let own = document.pointer(&rule.root).ok_or_else(|| error(&nothing_at(&rule.root)))?;
    let time = Document { whole: &document, own, key: None, each: false }.take(rule, values)?;
    values.twice = twice;
    Ok(time)
}

/// A value as a name: a non-empty text, or a number.
pub(super) fn name_of(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.trim()).filter(|text| !text.is_empty()).map(Cow::Borrowed),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        _ => None,
    }
}
