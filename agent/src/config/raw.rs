//! The raw stage: a reader for one table of the merged tree. It checks types strictly, collects every fault and
//! continues with the default, so that one run reports all of them.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use ::config::{Map, Value, ValueKind};

use super::faults::Collector;
use super::hints::{did_you_mean, one_of, range_words, unknown_hint};
use super::lines::place;
use crate::sorted;
use fieldlog_rules::choice::Choice;

/// The `config` crate's name for the origin of environment variables.
pub(super) const ENVIRONMENT: &str = "the environment";

/// Reads one table. Keys that were not read by the end are faults.
pub(super) struct Table<'s> {
    label: String,
    origin: Option<String>,
    values: Map<String, Value>,
    known: Vec<&'static str>,
    /// Keys that were taken, with their origins.
    written: Vec<(&'static str, Option<String>)>,
    faults: &'s Collector,
}

/// A value with its origin, for faults that are found later.
#[derive(Clone, Debug)]
pub(super) struct WithOrigin<T> {
    pub value: T,
    pub origin: Option<String>,
}

impl<'s> Table<'s> {
    pub fn new(
        label: &str,
        values: Map<String, Value>,
        origin: Option<String>,
        faults: &'s Collector,
    ) -> Table<'s> {
        Table { label: label.to_owned(), origin, values, known: Vec::new(), written: Vec::new(), faults }
    }

    /// Sets the table's name in faults, once it is known.
    pub fn rename(&mut self, label: String) {
        self.label = label;
    }

    /// The name of a key in faults.
    pub fn key(&self, key: &str) -> String {
        match self.label.as_bytes().last() {
            None => key.to_owned(),
            Some(b']' | b'"') => format!("{} {key}", self.label),
            Some(_) => format!("{}.{key}", self.label),
        }
    }

    pub fn label(&self) -> &str {
        &self.label
    }

    /// Reports a fault of one of this table's keys.
    pub fn fault(&self, key: &str, what: impl Into<String>, hint: impl Into<String>) {
        // `exclude[1]` is a value of `exclude`.
        let name = key.split('[').next().unwrap_or(key);
        let written = self.written.iter().find(|(written, _)| *written == name);
        let origin = written.and_then(|(_, origin)| origin.as_deref());
        let origin = origin.or_else(|| self.values.get(name)?.origin()).or(self.origin.as_deref());
        self.faults.add(self.key(key), origin, what, hint);
    }

    /// The same, if the key may come from another file than the table.
    pub fn fault_at(
        &self,
        key: &str,
        origin: Option<&str>,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.faults.add(self.key(key), origin.or(self.origin.as_deref()), what, hint);
    }

    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// Whether a key that was already taken had been present.
    pub fn was_written(&self, key: &str) -> bool {
        self.written.iter().any(|(written, _)| *written == key)
    }

    /// Takes a value out without checking its type.
    pub fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        let value = self.values.remove(key).filter(|value| value.kind != ValueKind::Nil)?;
        self.written.push((key, value.origin().map(str::to_owned)));
        Some(value)
    }

    /// Takes out the value of an unknown key, which must not be suggested.
    pub fn discard(&mut self, key: &str) -> Option<Value> {
        self.values.remove(key)
    }

    /// Marks keys as known without taking them, for the suggestions.
    pub fn expect(&mut self, keys: &[&'static str]) {
        self.known.extend_from_slice(keys);
    }

    /// Rewrites a text, or each of an array of texts, before it is taken.
    pub fn edit(&mut self, key: &str, change: impl Fn(&str) -> String) {
        let edit = |value: &mut Value| {
            if let ValueKind::String(text) = &mut value.kind {
                *text = change(text);
            }
        };
        match self.values.get_mut(key) {
            Some(Value { kind: ValueKind::Array(items), .. }) => items.iter_mut().for_each(edit),
            Some(value) => edit(value),
            None => {}
        }
    }

    fn wrong_type(&self, key: &str, value: &Value, expected: &str) {
        // Someone who writes a number where a secret's file belongs may have written the secret.
        let number = matches!(value.kind, ValueKind::I64(_) | ValueKind::Float(_));
        let is =
            if number && key.ends_with("_file") { "a number".to_owned() } else { kind_name(&value.kind) };
        let what = format!("it is {is}; it must be {expected}");
        self.fault_at(key, value.origin(), what, "");
    }

    /// An integer in a range; `unit` is used in the fault.
    pub fn integer(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        unit: &str,
        default: u64,
    ) -> u64 {
        self.take(key).and_then(|value| self.integer_in(key, &value, &range, unit)).unwrap_or(default)
    }

    /// The same, or 0, which means none.
    pub fn integer_or_none(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        unit: &str,
        default: Option<u64>,
    ) -> Option<u64> {
        let Some(value) = self.take(key) else { return default };
        let words = format!("0, or {}", range_words(&range, unit));
        match self.whole(key, &value, &words, |number| number == 0 || range.contains(&number)) {
            Some(0) => None,
            Some(number) => Some(number),
            None => default,
        }
    }

    /// A required integer.
    pub fn integer_required(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        unit: &str,
    ) -> Option<u64> {
        match self.take(key) {
            Some(value) => self.integer_in(key, &value, &range, unit),
            None => {
                self.fault(key, "it is missing", format!("give it {}", range_words(&range, unit)));
                None
            }
        }
    }

    fn integer_in(&self, key: &str, value: &Value, range: &RangeInclusive<u64>, unit: &str) -> Option<u64> {
        self.whole(key, value, &range_words(range, unit), |number| range.contains(&number))
    }

    /// An integer that is `good`; `words` describe the valid ones.
    fn whole(&self, key: &str, value: &Value, words: &str, good: impl Fn(u64) -> bool) -> Option<u64> {
        let number = match &value.kind {
            ValueKind::I64(number) => Some(i128::from(*number)),
            ValueKind::U64(number) => Some(i128::from(*number)),
            ValueKind::I128(number) => Some(*number),
            ValueKind::U128(number) => Some(i128::try_from(*number).unwrap_or(i128::MAX)),
            ValueKind::String(text) if value.origin() == Some(ENVIRONMENT) => text.trim().parse().ok(),
            _ => None,
        };
        let Some(number) = number else {
            self.wrong_type(key, value, &format!("a whole number, {words}"));
            return None;
        };
        match u64::try_from(number) {
            Ok(number) if good(number) => Some(number),
            _ => {
                let what = format!("{number} is out of range; it must be {words}");
                self.fault_at(key, value.origin(), what, "");
                None
            }
        }
    }

    /// The same as [`Table::integer`], as a `usize`. Ranges stay below 2^32.
    pub fn size(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        unit: &str,
        default: usize,
    ) -> usize {
        let number = self.integer(key, range, unit, u64::try_from(default).unwrap_or(u64::MAX));
        usize::try_from(number).unwrap_or(default)
    }

    /// A number that is not negative; integers are accepted.
    pub fn number(&mut self, key: &'static str, default: f64) -> f64 {
        self.number_in(key, 0.0..=f64::MAX, "0 or more", default)
    }

    /// A number in a range that is described in words.
    pub fn number_in(
        &mut self,
        key: &'static str,
        range: RangeInclusive<f64>,
        words: &str,
        default: f64,
    ) -> f64 {
        let Some(value) = self.take(key) else { return default };
        let number = match value.kind {
            ValueKind::Float(number) => number,
            // No deadband needs more than 53 bits.
            ValueKind::I64(number) => number as f64,
            _ => {
                self.wrong_type(key, &value, &format!("a number, {words}"));
                return default;
            }
        };
        if range.contains(&number) {
            return number;
        }
        let what = format!("{number} is out of range; it must be {words}");
        self.fault_at(key, value.origin(), what, "");
        default
    }

    pub fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.take(key) else { return default };
        match &value.kind {
            ValueKind::Boolean(flag) => *flag,
            ValueKind::String(text) if value.origin() == Some(ENVIRONMENT) && text == "true" => true,
            ValueKind::String(text) if value.origin() == Some(ENVIRONMENT) && text == "false" => false,
            _ => {
                self.wrong_type(key, &value, "true or false");
                default
            }
        }
    }

    /// Text, which may be empty.
    pub fn text(&mut self, key: &'static str) -> Option<WithOrigin<String>> {
        let value = self.take(key)?;
        let origin = value.origin().map(str::to_owned);
        match value.kind {
            ValueKind::String(text) => Some(WithOrigin { value: text, origin }),
            _ => {
                self.wrong_type(key, &value, "text in quotes");
                None
            }
        }
    }

    /// Text; empty means the same as absent.
    pub fn filled(&mut self, key: &'static str) -> Option<WithOrigin<String>> {
        self.text(key).filter(|found| !found.value.is_empty())
    }

    /// Text that is required and not empty.
    pub fn required(&mut self, key: &'static str, hint: &str) -> Option<WithOrigin<String>> {
        let absent = !self.has(key);
        let found = self.text(key);
        if absent {
            self.fault(key, "it is missing", hint);
        } else if found.as_ref().is_some_and(|found| found.value.is_empty()) {
            self.fault(key, "it is empty", hint);
        }
        found.filter(|found| !found.value.is_empty())
    }

    pub fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.filled(key).map(|found| PathBuf::from(found.value))
    }

    /// An array of texts. From the environment: separated by commas.
    pub fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        let value = self.take(key)?;
        if let (ValueKind::String(text), Some(ENVIRONMENT)) = (&value.kind, value.origin()) {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            return Some(parts.map(str::to_owned).collect());
        }
        let ValueKind::Array(items) = &value.kind else {
            self.wrong_type(key, &value, "an array of texts, such as [\"a\", \"b\"]");
            return None;
        };
        let mut texts = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match &item.kind {
                ValueKind::String(text) => texts.push(text.clone()),
                _ => self.wrong_type(&format!("{key}[{index}]"), item, "text in quotes"),
            }
        }
        Some(texts)
    }

    /// One text, or an array of texts.
    pub fn text_or_texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        match self.values.get(key).map(|value| &value.kind) {
            Some(ValueKind::Array(_)) => self.texts(key),
            _ => self.text(key).map(|found| vec![found.value]),
        }
    }

    /// One of a few words.
    pub fn choice<T: Choice>(&mut self, key: &'static str) -> Option<T> {
        self.word(key, T::WORDS)
    }

    /// The same, for a type of another crate.
    pub fn word<T: Copy>(&mut self, key: &'static str, words: &[(&'static str, T)]) -> Option<T> {
        let found = self.text(key)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == found.value) {
            return Some(*value);
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let what = format!("\"{}\" is unknown; it must be {}", found.value, one_of(&names));
        let hint = did_you_mean(&found.value, &names).unwrap_or_default();
        self.fault_at(key, found.origin.as_deref(), what, hint);
        None
    }

    /// A table; one without keys if it is absent.
    pub fn table(&mut self, key: &'static str) -> Table<'s> {
        self.table_if_present(key).unwrap_or_else(|| self.child(self.key(key), Map::new(), None))
    }

    pub fn table_if_present(&mut self, key: &'static str) -> Option<Table<'s>> {
        let value = self.take(key)?;
        let origin = value.origin().map(str::to_owned);
        match value.kind {
            ValueKind::Table(values) => Some(self.child(self.key(key), values, origin)),
            _ => {
                self.wrong_type(key, &value, &format!("a table, [{key}]"));
                None
            }
        }
    }

    /// A table, or an array of tables.
    pub fn one_or_more(&mut self, key: &'static str) -> Option<Vec<Table<'s>>> {
        match self.values.get(key).map(|value| &value.kind) {
            Some(ValueKind::Table(_)) => self.table_if_present(key).map(|table| vec![table]),
            _ => self.tables(key),
        }
    }

    /// An array of tables.
    pub fn tables(&mut self, key: &'static str) -> Option<Vec<Table<'s>>> {
        let value = self.take(key)?;
        let ValueKind::Array(items) = value.kind else {
            self.wrong_type(key, &value, &format!("an array of tables, [[{key}]]"));
            return None;
        };
        let mut tables = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let origin = item.origin().map(str::to_owned);
            match item.kind {
                ValueKind::Table(values) => {
                    tables.push(self.child(self.key(&format!("{key}[{index}]")), values, origin));
                }
                _ => self.wrong_type(&format!("{key}[{index}]"), &item, "a table"),
            }
        }
        Some(tables)
    }

    fn child(&self, label: String, values: Map<String, Value>, origin: Option<String>) -> Table<'s> {
        // Merged tables have lost theirs; that of their first key is the nearest.
        let first = values.values().filter_map(Value::origin).min_by_key(|origin| place(origin).1);
        let origin = origin.or_else(|| first.map(str::to_owned));
        Table {
            label,
            origin: origin.or_else(|| self.origin.clone()),
            values,
            known: Vec::new(),
            written: Vec::new(),
            faults: self.faults,
        }
    }

    /// To be called when all known keys were taken; the remaining ones are unknown.
    pub fn finish(self) {
        for (key, value) in sorted::map(&self.values) {
            let hint = unknown_hint(key, &self.known, &self.label);
            self.fault_at(key, value.origin(), "unknown key", hint);
        }
    }
}

/// The type, with the value only if it cannot be a secret.
fn kind_name(kind: &ValueKind) -> String {
    match kind {
        ValueKind::Nil => "nothing".to_owned(),
        ValueKind::Boolean(flag) => format!("{flag}"),
        ValueKind::I64(number) => format!("the number {number}"),
        ValueKind::I128(number) => format!("the number {number}"),
        ValueKind::U64(number) => format!("the number {number}"),
        ValueKind::U128(number) => format!("the number {number}"),
        ValueKind::Float(number) => format!("the number {number:?}"),
        ValueKind::String(_) => "text".to_owned(),
        ValueKind::Table(_) => "a table".to_owned(),
        ValueKind::Array(_) => "an array".to_owned(),
    }
}
