//! Payload bytes to values. Pure: no device, no history, no clock.

use std::fmt;

use fieldlog_projections::{Time, ValueRef};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::config::{Rule, TimeFormat};

/// Objects nested deeper than this are refused.
const DEPTH_MAX: usize = 16;

/// The values of one payload, reused from payload to payload so that decoding allocates nothing.
#[derive(Debug, Default)]
pub struct Values {
    /// Attribute paths and texts, one after the other.
    arena: String,
    items: Vec<(Range, Item)>,
    path: String,
    time: Option<Item>,
    text_bytes_max: usize,
    too_long: Option<String>,
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
    /// With a bound on the length of texts and arrays, in bytes.
    pub fn new(text_bytes_max: usize) -> Values {
        Values { text_bytes_max, ..Values::default() }
    }

    fn clear(&mut self) {
        self.arena.clear();
        self.items.clear();
        self.path.clear();
        self.time = None;
        self.too_long = None;
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

    #[inline]
    fn push_str(&mut self, text: &str) -> Range {
        let start = self.arena.len() as u32;
        self.arena.push_str(text);
        Range(start, self.arena.len() as u32)
    }

    /// Keeps a leaf under the current path.
    #[inline]
    fn leaf(&mut self, rule: &JsonRule, item: Item) {
        if !rule.time_path.is_empty() && self.path == rule.time_path {
            self.time = Some(item);
            return;
        }
        let start = self.arena.len() as u32;
        self.arena.push_str(&self.path);
        self.items.push((Range(start, self.arena.len() as u32), item));
    }

    fn leaf_text(&mut self, rule: &JsonRule, text: &str, make: fn(Range) -> Item) {
        if text.len() > self.text_bytes_max {
            self.too_long.get_or_insert_with(|| self.path.clone());
            return;
        }
        let range = self.push_str(text);
        self.leaf(rule, make(range));
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
}

impl JsonRule {
    /// Prepares a rule.
    pub fn new(rule: &Rule) -> JsonRule {
        let time_pointer = rule.time.as_ref().map(|t| t.pointer.clone()).unwrap_or_default();
        let below_root = time_pointer.strip_prefix(rule.root.as_str()).unwrap_or_default();
        JsonRule {
            root: rule.root.clone(),
            when: rule.when.as_ref().map(|w| (w.pointer.clone(), w.equals.clone())),
            time_path: below_root.trim_start_matches('/').replace('/', "."),
            time_pointer,
            time_format: rule.time.as_ref().map(|t| t.format),
        }
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
    values.clear();
    let result = if rule.root.is_empty() && rule.when.is_none() {
        direct(payload, rule, values)
    } else {
        through_document(payload, rule, values)
    };
    match result {
        Ok(false) => Ok(Json::NotThis),
        Ok(true) => Ok(Json::Values(payload_time(rule, values))),
        Err(error) => {
            values.clear();
            Err(DecodeError::Json(error.to_string()))
        }
    }
}

fn direct(payload: &[u8], rule: &JsonRule, values: &mut Values) -> Result<bool, serde_json::Error> {
    let mut de = serde_json::Deserializer::from_slice(payload);
    de.deserialize_map(Node { values, rule, depth: 0 })?;
    de.end()?;
    Ok(true)
}

/// The slower way, for rules that look into the document before they take it.
fn through_document(payload: &[u8], rule: &JsonRule, values: &mut Values) -> Result<bool, serde_json::Error> {
    let document: serde_json::Value = serde_json::from_slice(payload)?;
    if let Some((pointer, equals)) = &rule.when {
        let found = document.pointer(pointer).map(|v| v.as_str().map_or_else(|| v.to_string(), String::from));
        if found.as_deref() != Some(equals.as_str()) {
            return Ok(false);
        }
    }
    let root = document
        .pointer(&rule.root)
        .ok_or_else(|| serde_json::Error::custom(format_args!("there is nothing at {}", rule.root)))?;
    root.deserialize_map(Node { values, rule, depth: 0 })?;
    if values.time.is_none() && !rule.time_pointer.is_empty() {
        values.time = match document.pointer(&rule.time_pointer) {
            Some(serde_json::Value::String(text)) => Some(Item::Text(values.push_str(text))),
            Some(serde_json::Value::Number(n)) => n.as_f64().map(Item::Float),
            _ => None,
        };
    }
    Ok(true)
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
        while map.next_key_seed(Key(&mut self.values.path))?.is_some() {
            map.next_value_seed(Node { values: self.values, rule: self.rule, depth: self.depth + 1 })?;
            self.values.path.truncate(before);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if self.depth == 0 {
            return Err(A::Error::custom("an array, expected a JSON object"));
        }
        let mut array = Vec::new();
        while let Some(element) = seq.next_element::<serde_json::Value>()? {
            array.push(element);
        }
        let text = serde_json::Value::Array(array).to_string();
        self.values.leaf_text(self.rule, &text, Item::Json);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.values.leaf(self.rule, Item::Null);
        Ok(())
    }

    fn visit_bool<E>(self, v: bool) -> Result<(), E> {
        self.values.leaf(self.rule, Item::Bool(v));
        Ok(())
    }

    #[inline]
    fn visit_i64<E>(self, v: i64) -> Result<(), E> {
        self.values.leaf(self.rule, Item::Int(v));
        Ok(())
    }

    #[inline]
    fn visit_u64<E>(self, v: u64) -> Result<(), E> {
        self.values.leaf(self.rule, i64::try_from(v).map_or(Item::Uint(v), Item::Int));
        Ok(())
    }

    #[inline]
    fn visit_f64<E>(self, v: f64) -> Result<(), E> {
        self.values.leaf(self.rule, Item::Float(v));
        Ok(())
    }

    fn visit_str<E>(self, v: &str) -> Result<(), E> {
        self.values.leaf_text(self.rule, v, Item::Text);
        Ok(())
    }
}

/// Appends a key to the path.
struct Key<'v>(&'v mut String);

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
    fn visit_str<E>(self, key: &str) -> Result<(), E> {
        if !self.0.is_empty() {
            self.0.push('.');
        }
        self.0.push_str(key);
        Ok(())
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
            let zoned = local.to_zoned(jiff::tz::TimeZone::system()).ok()?;
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

/// Decodes a payload that is one value: a number, `true`, `false`, or text. `nan` and an empty payload are "no value".
///
/// # Errors
/// [`DecodeError`] if it is not UTF-8 or too long.
pub fn scalar(payload: &[u8], text_bytes_max: usize) -> Result<ValueRef<'_>, DecodeError> {
    let text = std::str::from_utf8(payload).map_err(|_| DecodeError::NotUtf8)?.trim();
    if text.len() > text_bytes_max {
        return Err(DecodeError::TooLong { bytes: text.len(), max: text_bytes_max });
    }
    Ok(match text {
        "" => ValueRef::Null,
        "true" => ValueRef::Bool(true),
        "false" => ValueRef::Bool(false),
        _ if text.eq_ignore_ascii_case("nan") => ValueRef::Null,
        _ => number(text).unwrap_or(ValueRef::Text(text)),
    })
}

/// A number as devices write it; `007`, `inf` and `1_000` are text.
fn number(text: &str) -> Option<ValueRef<'static>> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text).as_bytes();
    let leading_zero = digits.len() > 1 && digits[0] == b'0' && digits[1].is_ascii_digit();
    if leading_zero || !digits.first().is_some_and(|b| b.is_ascii_digit() || *b == b'.') {
        return None;
    }
    if let Ok(v) = text.parse::<i64>() {
        return Some(ValueRef::Int(v));
    }
    if let Ok(v) = text.parse::<u64>() {
        return Some(ValueRef::Uint(v));
    }
    text.parse::<f64>().ok().filter(|v| v.is_finite()).map(ValueRef::Float)
}

/// Decodes an availability payload: one of the rule's words, as text or as `{"state": …}`.
///
/// # Errors
/// [`DecodeError::Availability`] for any other word.
pub fn availability(payload: &[u8], online: &[String], offline: &[String]) -> Result<bool, DecodeError> {
    let text = std::str::from_utf8(payload).map_err(|_| DecodeError::NotUtf8)?.trim();
    let state = match serde_json::from_str::<serde_json::Value>(text) {
        Ok(serde_json::Value::Object(object)) => {
            object.get("state").map(|v| v.as_str().map_or_else(|| v.to_string(), String::from))
        }
        Ok(serde_json::Value::String(word)) => Some(word),
        _ => Some(text.to_string()),
    };
    let word = state.unwrap_or_default();
    let is = |words: &[String]| words.iter().any(|w| w.eq_ignore_ascii_case(&word));
    match (is(online), is(offline)) {
        (true, _) => Ok(true),
        (_, true) => Ok(false),
        _ => Err(DecodeError::Availability { word: word.chars().take(40).collect() }),
    }
}

/// Why a payload cannot be decoded; kept with it in the quarantine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not the JSON that was expected.
    #[error("not the JSON object that was expected: {0}")]
    Json(String),
    /// Not text.
    #[error("not UTF-8 text")]
    NotUtf8,
    /// Text longer than allowed.
    #[error("a text of {bytes} bytes; limits.text_bytes_max is {max}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// Neither online nor offline.
    #[error("\"{word}\" is neither one of this rule's `online` words nor one of its `offline` words")]
    Availability {
        /// What was there.
        word: String,
    },
}

#[cfg(test)]
mod tests {
    use fieldlog_projections::Value;

    use super::*;

    fn check(rule: &JsonRule, payload: &str, expected: &[(&str, Value)]) {
        let mut values = Values::new(100);
        let outcome = json(payload.as_bytes(), rule, &mut values).unwrap();
        assert!(matches!(outcome, Json::Values(_)), "{payload}");
        let found: Vec<(&str, Value)> = values.iter().map(|(p, v)| (p, v.to_owned())).collect();
        assert_eq!(found, expected, "{payload}");
    }

    fn refuse(payload: &[u8], words: &str) {
        let mut values = Values::new(100);
        let error = json(payload, &JsonRule::default(), &mut values).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert_eq!(values.iter().len(), 0);
    }

    #[test]
    fn flattens_objects_and_keeps_arrays() {
        check(
            &JsonRule::default(),
            r#"{"state":"ON","color":{"x":0.3,"y":0.4},"by":[23.6, 23],"gone":null,"ok":true,"esc":"a\"b"}"#,
            &[
                ("state", Value::Text("ON".into())),
                ("color.x", Value::Float(0.3)),
                ("color.y", Value::Float(0.4)),
                ("by", Value::Json("[23.6,23]".into())),
                ("gone", Value::Null),
                ("ok", Value::Bool(true)),
                ("esc", Value::Text("a\"b".into())),
            ],
        );
    }

    #[test]
    fn keeps_integers_beyond_2_to_53() {
        check(
            &JsonRule::default(),
            r#"{"a":9007199254740993,"b":-9223372036854775808,"c":18446744073709551615}"#,
            &[
                ("a", Value::Int(9_007_199_254_740_993)),
                ("b", Value::Int(i64::MIN)),
                ("c", Value::Uint(u64::MAX)),
            ],
        );
    }

    #[test]
    fn takes_the_root_when_the_condition_holds() {
        let rule = JsonRule {
            root: "/params".into(),
            when: Some(("/method".into(), "NotifyStatus".into())),
            time_path: "ts".into(),
            time_pointer: "/params/ts".into(),
            time_format: Some(TimeFormat::UnixS),
        };
        let mut values = Values::new(100);
        let payload =
            br#"{"method":"NotifyStatus","params":{"ts":1631186545.04,"switch:0":{"output":true}}}"#;
        let outcome = json(payload, &rule, &mut values).unwrap();
        assert_eq!(outcome, Json::Values(Some(Time(1_631_186_545_040_000))));
        let found: Vec<_> = values.iter().collect();
        assert_eq!(found, [("switch:0.output", ValueRef::Bool(true))]);
        let other = json(br#"{"method":"NotifyEvent","params":{}}"#, &rule, &mut values).unwrap();
        assert_eq!(other, Json::NotThis);
    }

    #[test]
    fn a_long_text_is_left_out_and_named() {
        let mut values = Values::new(5);
        json(br#"{"a":"123456","b":1}"#, &JsonRule::default(), &mut values).unwrap();
        assert_eq!((values.too_long(), values.iter().len()), (Some("a"), 1));
    }

    #[test]
    fn refuses_what_is_no_object_with_words() {
        refuse(b"23.4", "expected a JSON object");
        refuse(b"[1]", "expected a JSON object");
        refuse(b"{\"a\":1", "EOF");
        refuse(b"{\"a\":1} x", "trailing");
        refuse(b"", "EOF");
        refuse("{\"a\":".repeat(20).as_bytes(), "nested deeper than 16");
        refuse(b"{\"a\":\"\xff\"}", "");
    }

    #[test]
    fn scalars_as_devices_write_them() {
        let check = |payload: &str, expected: ValueRef<'_>| {
            assert_eq!(scalar(payload.as_bytes(), 100).unwrap(), expected, "{payload}");
        };
        check("23.4", ValueRef::Float(23.4));
        check(" -5\n", ValueRef::Int(-5));
        check("18446744073709551615", ValueRef::Uint(u64::MAX));
        check("ON", ValueRef::Text("ON"));
        check("true", ValueRef::Bool(true));
        check("nan", ValueRef::Null);
        check("", ValueRef::Null);
        check("inf", ValueRef::Text("inf"));
        check("007", ValueRef::Text("007"));
        check("0.5", ValueRef::Float(0.5));
        check("1e3", ValueRef::Float(1000.0));
        assert_eq!(scalar(b"\xff", 100), Err(DecodeError::NotUtf8));
        assert_eq!(scalar(b"123456", 5), Err(DecodeError::TooLong { bytes: 6, max: 5 }));
    }

    #[test]
    fn availability_words() {
        let words = |w: &[&str]| w.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (on, off) = (words(&["online", "true"]), words(&["offline", "false"]));
        let check = |payload: &[u8], expected: Option<bool>| {
            assert_eq!(availability(payload, &on, &off).ok(), expected, "{payload:?}");
        };
        check(b"Online", Some(true));
        check(b"{\"state\":\"offline\"}", Some(false));
        check(b"true", Some(true));
        check(b"false", Some(false));
        check(b"{\"state\":1}", None);
        check(b"gone", None);
    }
}
