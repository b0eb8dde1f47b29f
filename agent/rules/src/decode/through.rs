//! States that stand somewhere in a document, without building the document.

use serde::de::Deserializer;

use super::seek::{self, Take};
use super::{COUNTER_BYTES_MAX, JsonRule, Node, TIME_TEXT_BYTES_MAX, Values, nothing_at, time_item, utf8};

/// The slower way, for rules that look into the document before they take it: once for each condition, once for the state,
/// and once for a time that stands elsewhere. The document is never built, because that takes a hundred times its bytes.
pub(super) fn document(
    payload: &[u8],
    rule: &JsonRule,
    values: &mut Values,
) -> Result<(), serde_json::Error> {
    let text = utf8(payload)?;
    let mut state = State { values, rule, found: false, twice: false, passed_over: 0 };
    seek::seek(text, &rule.place, &mut state)?;
    if !state.found {
        return Err(nothing_at(&rule.place));
    }
    let (twice, passed_over) = (state.twice, state.passed_over);
    if twice {
        values.twice = rule.place.rsplit('/').next().map(str::to_owned);
    }
    if rule.value.is_none() {
        values.pass_over(passed_over);
    }
    if values.time.is_none() && !rule.time_pointer.is_empty() {
        let found = seek::value_at(text, &rule.time_pointer, TIME_TEXT_BYTES_MAX)?;
        values.time = found.and_then(|value| time_item(&value, values));
    }
    Ok(())
}

/// Finds the number that messages are ordered by, and adds the counter of the actions, where it does not stand among the
/// attributes.
pub(super) fn counters(
    payload: &[u8],
    rule: &JsonRule,
    values: &mut Values,
) -> Result<(), serde_json::Error> {
    if !rule.order.is_empty() {
        let found = seek::value_at(utf8(payload)?, &rule.order, COUNTER_BYTES_MAX)?;
        values.order = found.as_ref().and_then(order_of);
    }
    if !values.lacks_counter(rule) {
        return Ok(());
    }
    let found = seek::value_at(utf8(payload)?, &rule.counter, COUNTER_BYTES_MAX)?;
    found.map_or(Ok(()), |value| values.add_counter(rule, &value))
}

/// A whole number, also as text.
pub(super) fn order_of(value: &serde_json::Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// Takes the state out of a document.
struct State<'v, 'r> {
    values: &'v mut Values,
    rule: &'r JsonRule,
    found: bool,
    /// It was found before, at a name that stands twice.
    twice: bool,
    passed_over: usize,
}

impl Take for State<'_, '_> {
    fn take<'de, D: Deserializer<'de>>(&mut self, de: D) -> Result<(), D::Error> {
        self.found = true;
        let node = Node { values: self.values, rule: self.rule, depth: 0 };
        if self.rule.value.is_some() { de.deserialize_any(node) } else { de.deserialize_map(node) }
    }

    fn pass_over(&mut self, elements: usize) {
        self.passed_over += elements;
    }

    fn forget(&mut self) {
        self.twice |= self.found;
        self.found = false;
        self.values.clear();
    }
}
