//! `when`: conditions on topic and document for using a rule.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::super::choice::choice;
use super::super::raw::Table;
use super::checks::{check_patterns, pointer};
use crate::topic::Template;

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

/// Reads one table, or a list of them.
pub(super) fn read(table: &mut Table<'_>, topic: Option<&Template>, payload: bool) -> Vec<When> {
    let tables = table.one_or_more("when").unwrap_or_default();
    tables.into_iter().filter_map(|table| one(table, topic, payload)).collect()
}

fn one(mut table: Table<'_>, topic: Option<&Template>, payload: bool) -> Option<When> {
    if table.has("retained") && !table.has("pointer") && !table.has("capture") {
        let kept = table.flag("retained", false);
        table.finish();
        return Some(When { subject: Subject::Retained, test: Test::Exists(kept) });
    }
    let subject = subject(&mut table, topic, payload);
    let test = test(&mut table, matches!(subject, Some(Subject::Capture(_))));
    table.finish();
    Some(When { subject: subject?, test: test? })
}

fn subject(table: &mut Table<'_>, topic: Option<&Template>, payload: bool) -> Option<Subject> {
    table.expect(&["pointer", "capture", "retained"]);
    match (table.has("pointer"), table.has("capture")) {
        (true, false) => {
            let pointer = pointer(table, "pointer")?;
            if !payload {
                let hint = "use a capture of the topic, or change the decoder";
                table.fault("pointer", "an announcement is read as a whole, or not at all", hint);
            }
            Some(Subject::Pointer(pointer))
        }
        (false, true) => {
            let found = table.required("capture", "name a capture of the topic")?;
            let known = topic.map(Template::captures).unwrap_or_default();
            if topic.is_some() && !known.contains(&found.value) {
                let hint = format!("write +{} or #{} in the topic", found.value, found.value);
                let what = format!("the topic has no capture {:?}", found.value);
                table.fault_at("capture", found.origin.as_deref(), what, hint);
            }
            Some(Subject::Capture(found.value))
        }
        (both, _) => {
            let what = if both { "it is there beside capture" } else { "it is missing" };
            let hint =
                if both { "write two conditions" } else { "write it as \"/method\", or give a capture" };
            table.fault("pointer", what, hint);
            ["pointer", "capture"].iter().for_each(|key| drop(table.discard(key)));
            None
        }
    }
}

fn test(table: &mut Table<'_>, capture: bool) -> Option<Test> {
    const TESTS: [&str; 5] = ["equals", "in", "not_in", "exists", "is"];
    table.expect(&TESTS);
    let given: Vec<&str> = TESTS.into_iter().filter(|key| table.has(key)).collect();
    match given.as_slice() {
        ["equals"] => table.text("equals").map(|found| Test::Equals(found.value)),
        ["in"] => patterns(table, "in").map(Test::In),
        ["not_in"] => patterns(table, "not_in").map(Test::NotIn),
        ["exists"] => {
            if capture {
                table.fault("exists", "a capture is always there", "use in or not_in");
            }
            Some(Test::Exists(table.flag("exists", true)))
        }
        ["is"] => {
            if capture {
                table.fault("is", "a capture is always a text", "use in or not_in");
            }
            table.choice("is").map(Test::Is)
        }
        [] => {
            table.fault("equals", "it is missing", "give equals, in, not_in, exists or is");
            None
        }
        several => {
            let what = format!("there are several tests: {}", several.join(", "));
            table.fault("equals", what, "write a condition for each");
            TESTS.iter().for_each(|key| drop(table.discard(key)));
            None
        }
    }
}

fn patterns(table: &mut Table<'_>, key: &'static str) -> Option<Vec<String>> {
    let patterns = table.texts(key)?;
    if patterns.is_empty() {
        table.fault(key, "it is empty", "give at least one text");
    }
    check_patterns(table, key, &patterns);
    Some(patterns)
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
