//! Values that are never stored: only their changes are recorded.
//!
//! In place of a value, `(redacted #N)` is recorded, where N counts the changes. Changes are detected by a hash, which
//! is keyed with random bits of this process and kept only in memory. So a change while the agent is stopped is not
//! noticed, and nothing on disk helps to guess a secret.

use std::borrow::Cow;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::num::NonZeroU32;

use fieldlog_projections::{DeviceId, Value, ValueRef};

use super::Observer;
use super::device::Slot;
use fieldlog_projections::pattern::{PatternError, Patterns};

/// Replaces a value whose changes are not counted.
pub(super) const REDACTED: &str = "(redacted)";
const COUNTED: &str = "(redacted #";
/// A longer payload is not built as a document, which takes a hundred times its bytes.
const DOCUMENT_BYTES_MAX: usize = 64 << 10;

/// The patterns of a rule or of a source.
#[derive(Clone, Debug, Default)]
pub(super) struct Secrets {
    paths: Patterns,
    /// For payloads that are not documents: the last names of the patterns.
    keys: Patterns,
}

impl Secrets {
    pub(super) fn new(texts: &[&str]) -> Result<Secrets, PatternError> {
        // Values below a name are found by that name.
        let key = |text: &&str| {
            let text = text.trim_end_matches(".*");
            text.rsplit_once('.').map_or(text, |(_, key)| key).to_owned()
        };
        Ok(Secrets {
            paths: Patterns::parse(texts)?,
            keys: Patterns::parse(&texts.iter().map(key).collect::<Vec<_>>())?,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Whether a value is a secret: by its path in the document, by its attribute's name, or because it is a list that
    /// contains one.
    pub(super) fn has(&self, path: &str, name: &str, value: ValueRef<'_>) -> bool {
        let within = || match value {
            ValueRef::Json(list) => {
                serde_json::from_str(list).is_ok_and(|mut list| self.hide(&mut list, &mut path.to_owned()))
            }
            _ => false,
        };
        self.paths.matches(path) || self.paths.matches(name) || within()
    }

    /// Whether the attribute of a single-value message is a secret.
    pub(super) fn has_name(&self, attribute: &str) -> bool {
        self.paths.matches(attribute)
    }

    /// An action's fields without secrets.
    pub(super) fn text(&self, fields: String) -> String {
        if self.is_empty() {
            return fields;
        }
        let mut document = serde_json::from_str(&fields).unwrap_or_default();
        if self.hide(&mut document, &mut String::new()) { document.to_string() } else { fields }
    }

    /// The beginning of a payload that may be stored, and whether something was removed. In a document, the values of
    /// secrets are replaced, wherever the names of a pattern occur. Anything else is cut before the first name that
    /// looks like a secret's.
    pub(super) fn payload(&self, payload: &[u8], bytes_max: usize) -> (Vec<u8>, bool) {
        let first = &payload[..payload.len().min(bytes_max)];
        if self.is_empty() {
            return (first.to_vec(), false);
        }
        if payload.len() <= DOCUMENT_BYTES_MAX
            && let Ok(mut document) = serde_json::from_slice(payload)
        {
            if !self.hide(&mut document, &mut String::new()) {
                return (first.to_vec(), false);
            }
            let mut text = document.to_string().into_bytes();
            text.truncate(bytes_max);
            return (text, true);
        }
        // The rest may be quoted in the reason, so the whole payload is checked.
        match self.first_key(payload) {
            Some(at) => (first[..at.min(first.len())].to_vec(), true),
            None => (first.to_vec(), false),
        }
    }

    /// Where the first name of a secret begins.
    fn first_key(&self, payload: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(open) = find(payload, at, b'"') {
            let close = find(payload, open + 1, b'"').unwrap_or(payload.len());
            let name = String::from_utf8_lossy(&payload[open + 1..close]);
            let after = payload.get(close + 1..).unwrap_or_default();
            let is_key =
                after.iter().find(|byte| !byte.is_ascii_whitespace()).is_none_or(|byte| *byte == b':');
            if is_key && self.keys.matches(&name) {
                return Some(open);
            }
            // In a broken payload, a quote that closed a text may also open one.
            at = if is_key { close + 1 } else { close.max(open + 1) };
        }
        None
    }

    fn hide(&self, value: &mut serde_json::Value, path: &mut String) -> bool {
        use serde_json::Value as Json;
        // A rule's names are relative to its root, so they count at any depth.
        let ends = || {
            let starts = path.match_indices('.').map(|(dot, _)| dot + 1);
            [0].into_iter().chain(starts).any(|start| self.paths.matches(&path[start..]))
        };
        if !matches!(value, Json::Object(_)) && !path.is_empty() && !value.is_null() && ends() {
            *value = Json::String(REDACTED.into());
            return true;
        }
        let before = path.len();
        let mut step = |name: &str, value: &mut Json| {
            if before > 0 {
                path.push('.');
            }
            path.push_str(name);
            let hidden = self.hide(value, path);
            path.truncate(before);
            hidden
        };
        match value {
            Json::Object(members) => {
                members.iter_mut().fold(false, |hidden, (name, value)| step(name, value) | hidden)
            }
            Json::Array(elements) => elements
                .iter_mut()
                .enumerate()
                .fold(false, |hidden, (index, value)| step(&index.to_string(), value) | hidden),
            _ => false,
        }
    }
}

/// A reason without its quotations of the payload.
pub(super) fn without_quotes(reason: &str) -> Cow<'_, str> {
    match (reason.find('"'), reason.rfind('"')) {
        (Some(first), Some(last)) => format!("{}{REDACTED}{}", &reason[..first], &reason[last + 1..]).into(),
        _ => reason.into(),
    }
}

fn find(bytes: &[u8], from: usize, wanted: u8) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.iter().position(|byte| *byte == wanted).map(|at| from + at)
}

/// Stores no value, only whether the next one differs.
#[derive(Debug, Default)]
pub(super) struct Blind(RandomState);

impl Blind {
    fn hash(&self, value: ValueRef<'_>) -> Option<NonZeroU32> {
        let mut hasher = self.0.build_hasher();
        match value {
            ValueRef::Null => return None,
            ValueRef::Bool(value) => (1u8, value).hash(&mut hasher),
            ValueRef::Int(value) => (2u8, value).hash(&mut hasher),
            ValueRef::Uint(value) => (3u8, value).hash(&mut hasher),
            ValueRef::Float(value) => (4u8, value.to_bits()).hash(&mut hasher),
            ValueRef::Text(value) => (5u8, value).hash(&mut hasher),
            ValueRef::Json(value) => (6u8, value).hash(&mut hasher),
        }
        NonZeroU32::new(hasher.finish() as u32 | 1)
    }
}

/// The number of changes that a slot counts, if its value is redacted already.
fn counted(slot: &Slot) -> Option<u64> {
    let Value::Text(text) = &slot.value else { return None };
    text.strip_prefix(COUNTED)?.strip_suffix(')')?.parse().ok()
}

impl Observer {
    /// The text recorded in place of a secret; `None` if it has not changed or this is unknown.
    pub(super) fn hide(&mut self, device: DeviceId, index: u32, value: ValueRef<'_>) -> Option<Value> {
        let hash = self.blind.hash(value);
        let slot = &mut self.devices[device].slots[index as usize];
        let before = std::mem::replace(&mut slot.secret, hash);
        if hash.is_none() {
            return Some(Value::Null);
        }
        let count = counted(slot);
        // After a start, the recorded value is unknown.
        if hash == before || (before.is_none() && count.is_some()) {
            slot.stamp = self.stamp;
            return None;
        }
        Some(Value::Text(format!("{COUNTED}{})", count.unwrap_or(0).saturating_add(1)).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(patterns: &[&str], payload: &str) -> String {
        String::from_utf8(Secrets::new(patterns).unwrap().payload(payload.as_bytes(), 99).0).unwrap()
    }

    #[test]
    fn of_a_document_the_secrets_are_replaced_and_nothing_else() {
        let patterns = ["*Password*", "wifi.key"];
        for (payload, expected) in [
            (r#"{"a":1,"MqttPassword":"x"}"#, r#"{"MqttPassword":"(redacted)","a":1}"#),
            (r#"{ "a" : 1.50 }"#, r#"{ "a" : 1.50 }"#),
            (
                r#"{"params":{"wifi":{"key":"x","ssid":"y"}}}"#,
                r#"{"params":{"wifi":{"key":"(redacted)","ssid":"y"}}}"#,
            ),
            (r#"[{"Password1":["x"]}]"#, r#"[{"Password1":"(redacted)"}]"#),
            (r#"{"Passwords":{"a":"x"}}"#, r#"{"Passwords":{"a":"(redacted)"}}"#),
            (r#"{"Password":null}"#, r#"{"Password":null}"#),
        ] {
            assert_eq!(kept(&patterns, payload), expected, "{payload}");
        }
    }

    #[test]
    fn of_what_is_no_document_only_what_comes_before_the_first_secret_is_kept() {
        let patterns = ["*Password*", "wifi.key", "keys.*"];
        for (payload, expected) in [
            (r#"{"a":1,"MqttPassword":"x"#, r#"{"a":1,"#),
            (r#"{"a":1,"MqttPassword" : "x"}}"#, r#"{"a":1,"#),
            (r#"{"a":"Password","b":1"#, r#"{"a":"Password","b":1"#),
            (r#"{"a":1,"MqttPasswo"#, r#"{"a":1,"MqttPasswo"#),
            (r#"{"wifi":{"key":"x"#, r#"{"wifi":{"#),
            (r#"{"keys":{"b":"x"#, r#"{"#),
            (r#"no "quotes "Password":"x""#, r#"no "quotes "#),
            ("", ""),
        ] {
            assert_eq!(kept(&patterns, payload), expected, "{payload}");
        }
        assert_eq!(kept(&[], r#"{"Password":"x""#), r#"{"Password":"x""#);
    }

    #[test]
    fn a_list_with_a_secret_in_it_is_one() {
        let secrets = Secrets::new(&["*pin", "u.name"]).unwrap();
        let list = ValueRef::Json(r#"[{"pin":1}]"#);
        assert!(secrets.has("users", "users", list) && !secrets.has("users", "users", ValueRef::Json("[1]")));
        assert!(
            secrets.has("name", "u.name", ValueRef::Int(1)) && !secrets.has("name", "name", ValueRef::Int(1))
        );
        assert!(!Secrets::default().has("users", "users", list));
        assert_eq!(secrets.text(r#"{"a":1,"pin":2}"#.into()), r#"{"a":1,"pin":"(redacted)"}"#);
    }
}
