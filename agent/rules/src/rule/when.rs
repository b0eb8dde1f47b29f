//! `when`: conditions on topic and document for using a rule.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::choice;

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct When {
    /// The tested value.
    pub subject: Subject,
    /// The test.
    pub test: Test,
}

/// The subject of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// `pointer`: the value at this JSON pointer (RFC 6901) in the document; numbers and the like as text.
    Pointer(String),
    /// `capture`: the text of this capture of the topic.
    Capture(String),
    /// `retained`: whether the broker had kept the message. The test is [`Test::Exists`].
    Retained,
}

/// The test of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// `equals`: this text.
    Equals(String),
    /// `in`: a text that one of these patterns matches.
    In(Vec<String>),
    /// `not_in`: a text that none of these patterns matches; also holds if there is nothing.
    NotIn(Vec<String>),
    /// `exists`: whether there is a value; `null` counts as one.
    Exists(bool),
    /// `is`: something of this kind.
    Is(Shape),
}

/// The kind of a value in a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// An object.
    Object,
    /// A list.
    List,
    /// A text, a number, true, false or null.
    Value,
}

choice!(Shape { "object" => Shape::Object, "list" => Shape::List, "value" => Shape::Value });

impl When {
    /// Whether every document that is an object meets it. Its tests of the topic were decided before.
    pub fn is_met_by_any_object(&self) -> bool {
        match &self.subject {
            Subject::Pointer(pointer) => pointer.is_empty() && self.test == Test::Is(Shape::Object),
            Subject::Capture(_) => true,
            Subject::Retained => false,
        }
    }

    /// Whether the topic alone decides it.
    pub fn is_of_topic(&self) -> bool {
        matches!(self.subject, Subject::Capture(_))
    }
}

impl Serialize for When {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let (Subject::Retained, Test::Exists(kept)) = (&self.subject, &self.test) {
            map.serialize_entry("retained", kept)?;
            return map.end();
        }
        match &self.subject {
            Subject::Pointer(pointer) => map.serialize_entry("pointer", pointer)?,
            Subject::Capture(name) => map.serialize_entry("capture", name)?,
            Subject::Retained => {}
        }
        match &self.test {
            Test::Equals(text) => map.serialize_entry("equals", text)?,
            Test::In(texts) => map.serialize_entry("in", texts)?,
            Test::NotIn(texts) => map.serialize_entry("not_in", texts)?,
            Test::Exists(exists) => map.serialize_entry("exists", exists)?,
            Test::Is(shape) => map.serialize_entry("is", shape)?,
        }
        map.end()
    }
}
