//! Payload bytes to values. Pure: no device, no history, no clock; the time zone is an argument.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use fieldlog_projections::Time;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::rule::{ActionFields, Arrays, Decoder, Each, Rule, Shape, Subject, Test, TimeFormat, When};
use arena::Item;
use bounded::{Room, Tree};
use condition::Condition;
use fieldlog_projections::pattern::{PatternError, Patterns};
use together::Together;

mod arena;
mod bounded;
mod condition;
mod fault;
mod formats;
mod seek;
mod single;
mod through;
mod time;
mod together;
mod tree;
mod twice;
mod typed;

pub use arena::Values;
pub use condition::takes;
pub use fault::{DecodeError, Excess, check_name};
pub use formats::Built;
pub use single::{Scalar, availability, scalar};
pub use time::{Zone, is_set};
pub use tree::{Document, Documents, build, documents};
pub use typed::Types;

/// More deeply nested objects are refused.
const DEPTH_MAX: usize = 16;
/// Maximum attributes of one payload.
const LEAVES_MAX: usize = 65_536;
/// Maximum total length of all attribute paths of one payload, in bytes. A path is copied for each attribute below it,
/// so without this bound a small payload could ask for any amount.
const NAMES_BYTES_MAX: usize = 4 << 20;
/// A larger arena is freed before the next payload.
const ARENA_KEPT_BYTES: usize = 256 << 10;
/// Maximum length of a text that can be a payload's own time, in bytes.
const TIME_TEXT_BYTES_MAX: usize = 128;

/// Why a document is left that is then built as a whole, see `twice`.
const AGAIN: &str = "a name that stands in an object twice";

/// Longest counter of actions, in bytes, if it does not stand among the attributes.
const COUNTER_BYTES_MAX: usize = 256;

/// A rule's settings for the document decoder, prepared once.
#[derive(Clone, Debug, Default)]
pub struct JsonRule {
    /// Pointer to the state; with `each`, to the documents.
    root: String,
    /// The whole must be an object, which its first byte shows.
    object: bool,
    when: Vec<Condition>,
    each: Option<Each>,
    /// Pointer to the single value, from the root.
    value: Option<String>,
    /// Root and value.
    place: String,
    arrays: Arrays,
    /// Path of the payload's time among the attributes; empty: none.
    time_path: String,
    time_pointer: String,
    time_format: Option<TimeFormat>,
    zone: Zone,
    /// Where the counter of actions is, as a path among the attributes and as a pointer; empty: none.
    counter_path: String,
    counter: String,
    /// Where the number is that tells which of two messages is the newer one; empty: nowhere.
    order: String,
    /// The document must be built as a whole, because the rule visits it more than once.
    tree: bool,
    together: Option<Together>,
    ignore: Patterns,
}

impl JsonRule {
    /// Prepares a rule; `zone` is the time zone of times without an offset.
    ///
    /// # Errors
    /// [`PatternError`] for an invalid pattern, which a checked configuration does not have.
    pub fn new(rule: &Rule, zone: Zone) -> Result<JsonRule, PatternError> {
        let place = format!("{}{}", rule.root, rule.value.as_deref().unwrap_or_default());
        let time_pointer = rule.time.as_ref().map(|t| t.pointer.clone()).unwrap_or_default();
        let before = if rule.each.is_some() { rule.value.as_deref().unwrap_or_default() } else { &place };
        let time_path =
            time_pointer.strip_prefix(before).and_then(|path| path.strip_prefix('/')).map(path_of);
        let top = if rule.each.is_some() { "" } else { rule.root.as_str() };
        let counter = rule.idempotent_by.clone().unwrap_or_default();
        let counter_path = counter.strip_prefix(top).and_then(|below| below.strip_prefix('/')).map(path_of);
        let together = rule.action_fields == ActionFields::Together;
        let is_object = |when: &&When| {
            when.subject == Subject::Pointer(String::new()) && when.test == Test::Is(Shape::Object)
        };
        let others = rule.when.iter().filter(|when| !is_object(when));
        let pointers = others.filter_map(|when| match &when.subject {
            Subject::Pointer(pointer) => Some(Condition::new(pointer, &when.test)),
            Subject::Capture(_) | Subject::Retained => None,
        });
        Ok(JsonRule {
            root: rule.root.clone(),
            object: rule.when.iter().any(|when| is_object(&when)),
            when: pointers.collect::<Result<_, _>>()?,
            each: rule.each,
            value: rule.value.clone(),
            place,
            arrays: rule.arrays.clone(),
            time_path: time_path.unwrap_or_default(),
            time_pointer,
            counter_path: counter_path.unwrap_or_default(),
            counter,
            order: rule.order_by.clone().unwrap_or_default(),
            time_format: rule.time.as_ref().map(|t| t.format),
            zone,
            tree: rule.decoder != Decoder::Json || rule.each.is_some() || together,
            together: together.then(|| Together::new(rule)).transpose()?,
            ignore: Patterns::parse(&rule.ignore)?,
        })
    }

    /// Sets the time zone of times without an offset.
    pub fn set_zone(&mut self, zone: Zone) {
        self.zone = zone;
    }

    /// Whether a value is the counter of the actions: by its path, or, where it is not below the root or is in a list, by the
    /// pointer to it.
    pub fn is_counter(&self, path: &str) -> bool {
        !self.counter.is_empty() && (*path == *self.counter || *path == *self.counter_path)
    }

    /// Whether payloads can be another rule's.
    pub fn has_conditions(&self) -> bool {
        self.object || !self.when.is_empty()
    }

    /// Whether the rule needs the whole document at once, see [`documents`].
    pub fn needs_tree(&self) -> bool {
        self.tree
    }
}

/// The result of decoding a JSON payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json {
    /// The values were decoded, with the payload's own time if it is usable.
    Values(Option<Time>),
    /// The rule's `when` does not hold; another rule may apply. The error is set if the payload is not a document at
    /// all.
    NotThis(Option<DecodeError>),
}

/// Decodes a JSON object into attribute paths and values.
///
/// # Errors
/// [`DecodeError`] with the reason in words, for the quarantine. `values` is then empty.
pub fn json(payload: &[u8], rule: &JsonRule, values: &mut Values) -> Result<Json, DecodeError> {
    values.begin(payload.len());
    if rule.object && payload.trim_ascii_start().first() != Some(&b'{') {
        let document = serde_json::from_slice::<IgnoredAny>(payload);
        return Ok(Json::NotThis(document.err().map(|error| DecodeError::Json(error.to_string()))));
    }
    let direct = rule.place.is_empty() && rule.when.is_empty() && rule.value.is_none();
    if !direct {
        match conditions(payload, rule) {
            Ok(true) => {}
            Ok(false) => return Ok(Json::NotThis(None)),
            Err(error) => return Ok(Json::NotThis(Some(DecodeError::Json(error.to_string())))),
        }
    }
    let read =
        if direct { from_bytes(payload, rule, values) } else { through::document(payload, rule, values) };
    let read = read.and_then(|()| through::counters(payload, rule, values));
    if values.names.take_again() {
        return tree::again(payload, rule, values).map(Json::Values);
    }
    finish(read, rule, values).map(Json::Values)
}

/// The time of the payload, or why it was not decoded.
fn finish(
    read: Result<(), serde_json::Error>,
    rule: &JsonRule,
    values: &mut Values,
) -> Result<Option<Time>, DecodeError> {
    let error = match read {
        Ok(()) => match values.take_time(rule).and_then(|time| values.check_paths().map(|()| time)) {
            Ok(time) => return Ok(time),
            Err(excess) => excess.into(),
        },
        Err(error) => {
            values.excess.take().map_or_else(|| DecodeError::Json(error.to_string()), DecodeError::Excess)
        }
    };
    values.clear();
    Err(error)
}

fn from_bytes(payload: &[u8], rule: &JsonRule, values: &mut Values) -> Result<(), serde_json::Error> {
    let mut de = serde_json::Deserializer::from_slice(payload);
    de.deserialize_map(Node { values, rule, depth: 0 })?;
    de.end()
}

/// Whether all conditions hold.
///
/// # Errors
/// If the payload is not a document. Without conditions this is found later.
fn conditions(payload: &[u8], rule: &JsonRule) -> Result<bool, serde_json::Error> {
    if rule.when.is_empty() {
        return Ok(true);
    }
    let text = utf8(payload)?;
    for condition in &rule.when {
        if !condition.holds_in(text)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn utf8(payload: &[u8]) -> Result<&str, serde_json::Error> {
    std::str::from_utf8(payload).map_err(|_| serde_json::Error::custom("not UTF-8 text"))
}

/// The path of what is at a pointer, without the slash that it begins with.
fn path_of(pointer: &str) -> String {
    pointer.replace('/', ".").replace("~1", "/").replace("~0", "~")
}

fn nothing_at(pointer: &str) -> serde_json::Error {
    serde_json::Error::custom(format_args!("there is nothing at {pointer}"))
}

/// A time outside the attributes.
fn time_item(value: &serde_json::Value, values: &mut Values) -> Option<Item> {
    match value {
        serde_json::Value::String(time) if time.len() <= TIME_TEXT_BYTES_MAX => {
            values.push_str(time).ok().map(Item::Text)
        }
        serde_json::Value::Number(n) => n.as_f64().map(Item::Float),
        _ => None,
    }
}

/// A place in the document.
struct Node<'v, 'r> {
    values: &'v mut Values,
    rule: &'r JsonRule,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Node<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<(), D::Error> {
        de.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.check_depth()?;
        let before = self.values.path.len();
        let first = self.values.names.begin();
        while map.next_key_seed(Key { values: self.values, first })?.is_some() {
            map.next_value_seed(Node { values: self.values, rule: self.rule, depth: self.depth + 1 })?;
            self.values.path.truncate(before);
        }
        if self.values.names.end(first) { Err(A::Error::custom(AGAIN)) } else { Ok(()) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<(), A::Error> {
        if self.depth == 0 && self.rule.value.is_none() {
            return Err(A::Error::custom(
                "a list, expected a JSON object; each = \"elements\" takes its elements",
            ));
        }
        match &self.rule.arrays {
            Arrays::Json => self.whole(seq),
            Arrays::Index => self.by_index(seq),
            Arrays::Field(field) => self.by_field(field, seq),
        }
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        let kept = self.values.leaf(self.rule, Item::Null);
        self.values.stop(kept)
    }

    fn visit_bool<E: serde::de::Error>(self, v: bool) -> Result<(), E> {
        let kept = self.values.leaf(self.rule, Item::Bool(v));
        self.values.stop(kept)
    }

    #[inline]
    fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<(), E> {
        let kept = self.values.leaf(self.rule, Item::Int(v));
        self.values.stop(kept)
    }

    #[inline]
    fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<(), E> {
        let kept = self.values.leaf(self.rule, i64::try_from(v).map_or(Item::Uint(v), Item::Int));
        self.values.stop(kept)
    }

    #[inline]
    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<(), E> {
        let kept = self.values.leaf(self.rule, Item::Float(v));
        self.values.stop(kept)
    }

    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<(), E> {
        let kept = self.values.leaf_text(self.rule, v, Item::Text);
        self.values.stop(kept)
    }
}

impl Node<'_, '_> {
    /// A list as one value.
    fn whole<'de, A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut room = Room::new(self.values.text_bytes_max);
        let array = Tree(&mut room).visit_seq(&mut seq)?;
        if room.exceeded() {
            self.values.leave_out();
            return Ok(());
        }
        self.values.note_twice(&mut room);
        let kept = self.values.leaf_text(self.rule, &array.to_string(), Item::Json);
        self.values.stop(kept)
    }

    /// Enters an element of a list, and returns to `before`.
    fn element<E, D>(
        &mut self,
        name: &str,
        before: usize,
        read: impl FnOnce(Node<'_, '_>) -> Result<D, E>,
    ) -> Result<D, E>
    where
        E: serde::de::Error,
    {
        let entered = self.values.enter(name);
        self.values.stop(entered)?;
        let result = read(Node { values: self.values, rule: self.rule, depth: self.depth + 1 });
        self.values.path.truncate(before);
        result
    }

    fn by_index<'de, A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        self.check_depth()?;
        let before = self.values.path.len();
        let mut elements = 0;
        while self.element(&elements.to_string(), before, |node| seq.next_element_seed(node))?.is_some() {
            elements += 1;
        }
        let kept = self.values.keep_list(elements);
        self.values.stop(kept)
    }

    /// Each element is built, one at a time, to find its name.
    fn by_field<'de, A: SeqAccess<'de>>(mut self, field: &str, mut seq: A) -> Result<(), A::Error> {
        self.check_depth()?;
        let before = self.values.path.len();
        let mut names = HashSet::new();
        for index in 0.. {
            let mut room = Room::new(formats::PAYLOAD_BYTES_MAX);
            let Some(mut element) = seq.next_element_seed(Tree(&mut room))? else { break };
            if room.exceeded() {
                self.values.leave_out();
                continue;
            }
            self.values.note_twice(&mut room);
            let named = element.get(field).and_then(tree::name_of).map(Cow::into_owned);
            if let (Some(_), serde_json::Value::Object(object)) = (&named, &mut element) {
                object.remove(field);
            }
            let name = named.unwrap_or_else(|| index.to_string());
            self.element(&name, before, |node| node.deserialize(&element).map_err(A::Error::custom))?;
            if !names.insert(name.clone()) {
                let twice = Excess::Twice { list: self.values.path.clone(), field: field.to_owned(), name };
                return self.values.stop(Err(twice));
            }
        }
        Ok(())
    }

    fn check_depth<E: serde::de::Error>(&self) -> Result<(), E> {
        if self.depth >= DEPTH_MAX {
            return Err(E::custom(format_args!("objects nested deeper than {DEPTH_MAX}")));
        }
        Ok(())
    }
}

/// Appends a key to the path.
struct Key<'v> {
    values: &'v mut Values,
    /// Where the names of its object begin.
    first: usize,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = ();

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<(), D::Error> {
        de.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    #[inline]
    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<(), E> {
        let entered = self.values.enter(key);
        self.values.stop(entered)?;
        if self.values.names.enter(self.first, key) { Err(E::custom(AGAIN)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
