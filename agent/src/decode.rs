//! Payload bytes to values. Pure: no device, no history, no clock; the time zone is handed in.

use std::fmt;

use fieldlog_projections::{Time, ValueRef};
use jiff::tz::TimeZone;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::config::{Rule, TimeFormat};
use bounded::{Room, Tree};
use seek::Take;

mod bounded;
mod fault;
mod seek;
mod single;

pub use fault::{DecodeError, Excess, check_name};
pub use single::{availability, scalar};

/// Objects nested deeper than this are refused.
const DEPTH_MAX: usize = 16;
/// Attributes of one payload, at most.
const LEAVES_MAX: usize = 65_536;
/// All attribute paths of one payload together, in bytes, at most. A path is copied for each attribute below it, so a small
/// payload could otherwise ask for any amount.
const NAMES_BYTES_MAX: usize = 4 << 20;
/// An arena that has grown beyond this is given back before the next payload.
const ARENA_KEPT_BYTES: usize = 256 << 10;
/// Longest text that can be a payload's own time, in bytes.
const TIME_TEXT_BYTES_MAX: usize = 128;

/// The values of one payload, reused from payload to payload so that decoding allocates nothing.
#[derive(Debug, Default)]
pub struct Values {
    /// Attribute paths and texts, one after the other.
    arena: String,
    items: Vec<(Range, Item)>,
    path: String,
    time: Option<Item>,
    /// Bytes of the paths in the arena.
    names: usize,
    /// What the arena may hold of this payload, in bytes.
    arena_max: usize,
    text_bytes_max: usize,
    name_bytes_max: usize,
    too_long: Option<String>,
    excess: Option<Excess>,
}

#[derive(Clone, Copy, Debug)]
struct Range(u32, u32);

#[derive(Clone, Copy, Debug)]
enum Item {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Text(Range),
    Json(Range),
}

impl Values {
    /// With a bound on the length of texts and arrays, and one on that of attribute paths, both in bytes.
    pub fn new(text_bytes_max: usize, name_bytes_max: usize) -> Values {
        Values { text_bytes_max, name_bytes_max, ..Values::default() }
    }

    fn clear(&mut self) {
        if self.capacity() > ARENA_KEPT_BYTES {
            (self.arena, self.items) = (String::new(), Vec::new());
        }
        self.arena.clear();
        self.items.clear();
        self.path.clear();
        self.time = None;
        self.names = 0;
        self.too_long = None;
        self.excess = None;
    }

    /// Bytes held for values and their paths, used or not.
    fn capacity(&self) -> usize {
        self.arena.capacity() + self.items.capacity() * size_of::<(Range, Item)>()
    }

    /// Makes ready for a payload of this many bytes. Its texts cannot be longer than it is, except that numbers in arrays
    /// may be written longer than they came; the paths have a bound of their own.
    fn begin(&mut self, payload_bytes: usize) {
        self.clear();
        self.arena_max = payload_bytes.saturating_add(NAMES_BYTES_MAX).min(u32::MAX as usize);
    }

    fn text(&self, range: Range) -> &str {
        &self.arena[range.0 as usize..range.1 as usize]
    }

    fn value(&self, item: Item) -> ValueRef<'_> {
        match item {
            Item::Null => ValueRef::Null,
            Item::Bool(v) => ValueRef::Bool(v),
            Item::Int(v) => ValueRef::Int(v),
            Item::Uint(v) => ValueRef::Uint(v),
            Item::Float(v) => ValueRef::Float(v),
            Item::Text(range) => ValueRef::Text(self.text(range)),
            Item::Json(range) => ValueRef::Json(self.text(range)),
        }
    }

    /// Attribute paths and values, in the order of the payload.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, ValueRef<'_>)> {
        self.items.iter().map(|(path, item)| (self.text(*path), self.value(*item)))
    }

    /// The first attribute whose value was left out because it is longer than allowed.
    pub fn too_long(&self) -> Option<&str> {
        self.too_long.as_deref()
    }

    /// Keeps text. What is beyond `arena_max` is noticed before it is copied, so offsets fit 32 bits.
    #[inline]
    fn push_str(&mut self, text: &str) -> Result<Range, Excess> {
        let start = self.arena.len();
        if text.len() > self.arena_max.saturating_sub(start) {
            return Err(Excess::Values { max: self.arena_max });
        }
        self.arena.push_str(text);
        Ok(Range(start as u32, self.arena.len() as u32))
    }

    /// Goes into an object's key.
    #[inline]
    fn enter(&mut self, key: &str) -> Result<(), Excess> {
        let dot = usize::from(!self.path.is_empty());
        let bytes = self.path.len() + dot + key.len();
        if bytes > self.name_bytes_max {
            return Err(Excess::name(&self.path, key, bytes, self.name_bytes_max));
        }
        if dot == 1 {
            self.path.push('.');
        }
        self.path.push_str(key);
        Ok(())
    }

    /// Keeps a leaf under the current path.
    #[inline]
    fn leaf(&mut self, rule: &JsonRule, item: Item) -> Result<(), Excess> {
        if !rule.time_path.is_empty() && self.path == rule.time_path {
            self.time = Some(item);
            return Ok(());
        }
        self.names += self.path.len();
        if self.items.len() >= LEAVES_MAX || self.names > NAMES_BYTES_MAX {
            return Err(if self.items.len() >= LEAVES_MAX { Excess::Leaves } else { Excess::Names });
        }
        let start = self.arena.len();
        if self.path.len() > self.arena_max.saturating_sub(start) {
            return Err(Excess::Values { max: self.arena_max });
        }
        self.arena.push_str(&self.path);
        self.items.push((Range(start as u32, self.arena.len() as u32), item));
        Ok(())
    }

    fn leaf_text(&mut self, rule: &JsonRule, text: &str, make: fn(Range) -> Item) -> Result<(), Excess> {
        if text.len() > self.text_bytes_max {
            self.leave_out();
            return Ok(());
        }
        let range = self.push_str(text)?;
        self.leaf(rule, make(range))
    }

    fn leave_out(&mut self) {
        self.too_long.get_or_insert_with(|| self.path.clone());
    }

    /// Keeps what a payload has too much of, for the reason in the quarantine, and makes the parser stop.
    fn stop<E: serde::de::Error>(&mut self, result: Result<(), Excess>) -> Result<(), E> {
        result.map_err(|excess| {
            let error = E::custom(&excess);
            self.excess = Some(excess);
            error
        })
    }
}

/// What a JSON rule asks of the decoder, prepared once.
#[derive(Clone, Debug, Default)]
pub struct JsonRule {
    root: String,
    when: Option<(String, String)>,
    /// Path of the payload's time among the attributes; empty: none.
    time_path: String,
    time_pointer: String,
    time_format: Option<TimeFormat>,
    zone: Zone,
}

/// Asks for the time zone of times without an offset. It is asked anew for each, so that a gateway whose zone is set
/// while the agent runs is followed.
#[derive(Clone, Copy, Debug)]
pub struct Zone(pub fn() -> TimeZone);

impl Default for Zone {
    /// UTC, whatever the machine says.
    fn default() -> Zone {
        Zone(|| TimeZone::UTC)
    }
}

impl Zone {
    /// This machine's.
    pub fn system() -> Zone {
        Zone(TimeZone::system)
    }
}

impl JsonRule {
    /// Prepares a rule; `zone` is where times without an offset are from.
    pub fn new(rule: &Rule, zone: Zone) -> JsonRule {
        let time_pointer = rule.time.as_ref().map(|t| t.pointer.clone()).unwrap_or_default();
        let below_root = time_pointer.strip_prefix(rule.root.as_str()).unwrap_or_default();
        JsonRule {
            root: rule.root.clone(),
            when: rule.when.as_ref().map(|w| (w.pointer.clone(), w.equals.clone())),
            time_path: below_root.trim_start_matches('/').replace('/', "."),
            time_pointer,
            time_format: rule.time.as_ref().map(|t| t.format),
            zone,
        }
    }

    /// Takes times without an offset for those of `zone`.
    pub fn set_zone(&mut self, zone: Zone) {
        self.zone = zone;
    }
}

/// What came of a JSON payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Json {
    /// Values are there, and the payload's own time if it has a usable one.
    Values(Option<Time>),
    /// The rule's `when` does not hold; another rule may apply.
    NotThis,
}

/// Decodes a JSON object into attribute paths and values.
///
/// # Errors
/// [`DecodeError`] with the reason in words, for the quarantine. `values` is then empty.
pub fn json(payload: &[u8], rule: &JsonRule, values: &mut Values) -> Result<Json, DecodeError> {
    values.begin(payload.len());
    let result = if rule.root.is_empty() && rule.when.is_none() {
        direct(payload, rule, values)
    } else {
        through_document(payload, rule, values)
    };
    match result {
        Ok(false) => Ok(Json::NotThis),
        Ok(true) => Ok(Json::Values(payload_time(rule, values))),
        Err(error) => {
            let excess = values.excess.take();
            values.clear();
            Err(excess.map_or_else(|| DecodeError::Json(error.to_string()), DecodeError::Excess))
        }
    }
}

fn direct(payload: &[u8], rule: &JsonRule, values: &mut Values) -> Result<bool, serde_json::Error> {
    let mut de = serde_json::Deserializer::from_slice(payload);
    de.deserialize_map(Node { values, rule, depth: 0 })?;
    de.end()?;
    Ok(true)
}

/// The slower way, for rules that look into the document before they take it: once for the condition, once for the state,
/// and once for a time that stands elsewhere. The document is never built, because that takes a hundred times its bytes.
fn through_document(payload: &[u8], rule: &JsonRule, values: &mut Values) -> Result<bool, serde_json::Error> {
    let text = std::str::from_utf8(payload).map_err(|_| serde_json::Error::custom("not UTF-8 text"))?;
    if let Some((pointer, equals)) = &rule.when
        && !holds(text, pointer, equals)?
    {
        return Ok(false);
    }
    let mut state = State { values, rule, found: false };
    seek::seek(text, &rule.root, &mut state)?;
    if !state.found {
        return Err(serde_json::Error::custom(format_args!("there is nothing at {}", rule.root)));
    }
    if values.time.is_none() && !rule.time_pointer.is_empty() {
        values.time = match seek::value_at(text, &rule.time_pointer, TIME_TEXT_BYTES_MAX)? {
            Some(serde_json::Value::String(time)) => values.push_str(&time).ok().map(Item::Text),
            Some(serde_json::Value::Number(n)) => n.as_f64().map(Item::Float),
            _ => None,
        };
    }
    Ok(true)
}

/// Whether there is this text at this place.
fn holds(text: &str, pointer: &str, equals: &str) -> Result<bool, serde_json::Error> {
    // A text has its quotes around it.
    let found = seek::value_at(text, pointer, equals.len() + 2)?;
    let text = found.map(|value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    });
    Ok(text.as_deref() == Some(equals))
}

/// Takes the state out of a document.
struct State<'v, 'r> {
    values: &'v mut Values,
    rule: &'r JsonRule,
    found: bool,
}

impl Take for State<'_, '_> {
    fn take<'de, D: Deserializer<'de>>(&mut self, de: D) -> Result<(), D::Error> {
        self.found = true;
        de.deserialize_map(Node { values: self.values, rule: self.rule, depth: 0 })
    }

    fn forget(&mut self) {
        self.found = false;
        self.values.clear();
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
        if self.depth >= DEPTH_MAX {
            return Err(A::Error::custom(format_args!("objects nested deeper than {DEPTH_MAX}")));
        }
        let before = self.values.path.len();
        while map.next_key_seed(Key(self.values))?.is_some() {
            map.next_value_seed(Node { values: self.values, rule: self.rule, depth: self.depth + 1 })?;
            self.values.path.truncate(before);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if self.depth == 0 {
            return Err(A::Error::custom("an array, expected a JSON object"));
        }
        let mut room = Room::new(self.values.text_bytes_max);
        let array = Tree(&mut room).visit_seq(&mut seq)?;
        if room.exceeded() {
            self.values.leave_out();
            return Ok(());
        }
        let kept = self.values.leaf_text(self.rule, &array.to_string(), Item::Json);
        self.values.stop(kept)
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

/// Appends a key to the path.
struct Key<'v>(&'v mut Values);

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
        let entered = self.0.enter(key);
        self.0.stop(entered)
    }
}

fn payload_time(rule: &JsonRule, values: &Values) -> Option<Time> {
    let item = values.time?;
    match (rule.time_format?, values.value(item)) {
        (TimeFormat::UnixS, value) => scaled_time(value.as_number()?, 1e6),
        (TimeFormat::UnixMs, value) => scaled_time(value.as_number()?, 1e3),
        (TimeFormat::Rfc3339, ValueRef::Text(text)) => {
            text.parse::<jiff::Timestamp>().ok().map(|t| Time(t.as_microsecond()))
        }
        (TimeFormat::Local, ValueRef::Text(text)) => {
            let local: jiff::civil::DateTime = text.parse().ok()?;
            let zoned = local.to_zoned((rule.zone.0)()).ok()?;
            Some(Time(zoned.timestamp().as_microsecond()))
        }
        _ => None,
    }
}

/// Year 9999; what lies beyond is no time.
const TIME_MAX: f64 = 253_402_300_800e6;

fn scaled_time(number: f64, scale: f64) -> Option<Time> {
    let micros = number * scale;
    (0.0..TIME_MAX).contains(&micros).then_some(Time(micros as i64))
}

#[cfg(test)]
mod tests;
