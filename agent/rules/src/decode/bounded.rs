//! Builds part of a JSON document as a tree, if it is small. A tree takes up to a hundred times the bytes of its text,
//! so its size is bounded while it is built.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

/// Maximum lists and objects in one tree: each is an allocation of up to 650 bytes.
pub(super) const CONTAINERS_MAX: usize = 16_384;

/// The remaining room of a tree.
#[derive(Debug)]
pub(super) struct Room {
    bytes: usize,
    containers: usize,
    exceeded: bool,
    twice: Option<String>,
}

impl Room {
    /// For a tree whose text has at most `bytes` bytes.
    pub(super) fn new(bytes: usize) -> Room {
        Room { bytes, containers: CONTAINERS_MAX, exceeded: false, twice: None }
    }

    /// Whether the document exceeded the room. The tree is then unusable.
    pub(super) fn exceeded(&self) -> bool {
        self.exceeded
    }

    /// A name that an object had twice, with two values.
    pub(super) fn take_twice(&mut self) -> Option<String> {
        self.twice.take()
    }

    /// Takes the minimum text size of a value; `false` if there is no room for it.
    fn take(&mut self, bytes: usize) -> bool {
        match self.bytes.checked_sub(bytes) {
            Some(left) => self.bytes = left,
            None => self.exceeded = true,
        }
        !self.exceeded
    }

    fn text(&mut self, text: &str) -> String {
        if self.take(text.len() + 2) { text.to_owned() } else { String::new() }
    }

    fn take_container(&mut self) -> bool {
        match self.containers.checked_sub(1) {
            Some(left) => self.containers = left,
            None => self.exceeded = true,
        }
        self.take(2)
    }
}

/// Builds a tree within its room. Anything beyond is skipped, so that the rest of the document can be read.
pub(super) struct Tree<'r>(pub(super) &'r mut Room);

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<Value, D::Error> {
        de.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        self.0.take_container();
        let mut array = Vec::new();
        while !self.0.exceeded {
            let Some(element) = seq.next_element_seed(Tree(self.0))? else { return Ok(Value::Array(array)) };
            // The comma before it.
            self.0.take(usize::from(!array.is_empty()));
            array.push(element);
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        self.0.take_container();
        let mut object = Map::new();
        while !self.0.exceeded {
            let Some(key) = map.next_key_seed(Text(self.0))? else { return Ok(Value::Object(object)) };
            // The colon, and the comma before it.
            self.0.take(1 + usize::from(!object.is_empty()));
            let value = map.next_value_seed(Tree(self.0))?;
            match object.entry(key) {
                Entry::Vacant(place) => drop(place.insert(value)),
                Entry::Occupied(mut place) => {
                    // The last one counts.
                    if *place.get() != value {
                        self.0.twice.get_or_insert_with(|| place.key().clone());
                    }
                    place.insert(value);
                }
            }
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Null)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        self.0.take(4);
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        self.0.take(4);
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        self.0.take(1);
        Ok(Value::Number(v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        self.0.take(1);
        Ok(Value::Number(v.into()))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        self.0.take(1);
        Ok(Number::from_f64(v).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(self.0.text(v)))
    }
}

/// A text, or a key, within the room of its tree.
struct Text<'r>(&'r mut Room);

impl<'de> DeserializeSeed<'de> for Text<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<String, D::Error> {
        de.deserialize_str(self)
    }
}

impl Visitor<'_> for Text<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E>(self, v: &str) -> Result<String, E> {
        Ok(self.0.text(v))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, bytes: usize, fits: bool) {
        let mut room = Room::new(bytes);
        let mut de = serde_json::Deserializer::from_str(text);
        let tree = Tree(&mut room).deserialize(&mut de).unwrap();
        de.end().unwrap();
        assert_eq!(!room.exceeded(), fits, "{text} in {bytes}");
        if fits {
            assert_eq!(tree, serde_json::from_str::<Value>(text).unwrap());
        }
    }

    #[test]
    fn a_tree_fits_if_its_text_does() {
        for text in [
            r#"[1,2.5,-3,null,true,"a\"b",[],{},{"b":[1],"a":{"c":null}}]"#,
            r#"[[[[]]],{"":{"":{}}}]"#,
            "[]",
            "18446744073709551615",
        ] {
            check(text, text.len(), true);
        }
        check("[1,2]", 4, false);
        check(r#"{"a":1}"#, 6, false);
        check(r#"["abc"]"#, 6, false);
    }

    #[test]
    fn what_does_not_fit_is_skipped_to_its_end() {
        check(&format!("[{}0]", "[0],".repeat(100_000)), 4_096, false);
        check(&format!("[{}0]", r#"{"":0},"#.repeat(100_000)), 4_096, false);
        check(&format!("[{}]", "[".repeat(100) + &"]".repeat(100)), 50, false);
    }

    #[test]
    fn lists_in_a_long_list_are_counted() {
        let text = format!("[{}0]", "[],".repeat(CONTAINERS_MAX));
        check(&text, text.len(), false);
        let text = format!("[{}0]", "[],".repeat(CONTAINERS_MAX - 1));
        check(&text, text.len(), true);
    }
}
