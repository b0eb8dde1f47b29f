//! What `when` asks of a document.

use std::borrow::Cow;

use serde::de::{Deserializer, IgnoredAny};
use serde_json::Value;

use super::seek::{self, Take};
use crate::config::Test;
use crate::pattern::{PatternError, Patterns};

/// Longest value that a condition can be about, in bytes. A longer one is like none.
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
}

impl Condition {
    pub(super) fn new(pointer: &str, test: &Test) -> Result<Condition, PatternError> {
        let test = match test {
            Test::Equals(text) => Compiled::Equals(text.clone()),
            Test::In(texts) => Compiled::In(Patterns::parse(texts)?),
            Test::NotIn(texts) => Compiled::NotIn(Patterns::parse(texts)?),
            Test::Exists(exists) => Compiled::Exists(*exists),
        };
        Ok(Condition { pointer: pointer.to_owned(), test })
    }

    /// Whether it holds in a text, which is checked to be a document.
    pub(super) fn holds_in(&self, text: &str) -> Result<bool, serde_json::Error> {
        if let Compiled::Exists(wanted) = self.test {
            let mut there = There(false);
            seek::seek(text, &self.pointer, &mut there)?;
            return Ok(there.0 == wanted);
        }
        let found = seek::value_at(text, &self.pointer, BYTES_MAX)?;
        Ok(self.holds(|_| found.as_ref()))
    }

    /// Whether it holds, with `at` to look a pointer up.
    pub(super) fn holds<'v>(&self, at: impl FnOnce(&str) -> Option<&'v Value>) -> bool {
        let found = at(&self.pointer);
        let text = || found.map(text).filter(|text| text.len() <= BYTES_MAX);
        match &self.test {
            Compiled::Equals(wanted) => text().as_deref() == Some(wanted),
            Compiled::In(patterns) => text().is_some_and(|text| patterns.matches(&text)),
            Compiled::NotIn(patterns) => !text().is_some_and(|text| patterns.matches(&text)),
            Compiled::Exists(wanted) => found.is_some() == *wanted,
        }
    }
}

/// A value as text: a text as it is, anything else in JSON's notation.
fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

/// Whether anything is there.
struct There(bool);

impl Take for There {
    fn take<'de, D: Deserializer<'de>>(&mut self, de: D) -> Result<(), D::Error> {
        self.0 = true;
        de.deserialize_ignored_any(IgnoredAny).map(|_| ())
    }

    fn forget(&mut self) {
        self.0 = false;
    }
}
