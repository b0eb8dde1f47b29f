//! Payloads that consist of one value.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use fieldlog_projections::ValueRef;

use super::{DecodeError, seek};

/// Maximum length of a word in an availability payload, in bytes.
const WORD_BYTES_MAX: usize = 256;

/// A payload that consists of one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scalar<'p> {
    /// The payload as text, without white space around it.
    pub text: &'p str,
    /// The inferred value: a number, `true`, `false`, or text. `nan` and an empty payload mean no value.
    pub value: ValueRef<'p>,
    /// It is not a number, or its text would be printed identically. `1.10` would not, and may be a version.
    pub exact: bool,
}

/// Decodes a payload that consists of one value.
///
/// # Errors
/// [`DecodeError`] if it is not UTF-8 or too long.
pub fn scalar(payload: &[u8], text_bytes_max: usize) -> Result<Scalar<'_>, DecodeError> {
    let text = std::str::from_utf8(payload).map_err(|_| DecodeError::NotUtf8)?.trim();
    if text.len() > text_bytes_max {
        return Err(DecodeError::TooLong { bytes: text.len(), max: text_bytes_max });
    }
    let value = match text {
        "" => ValueRef::Null,
        "true" => ValueRef::Bool(true),
        "false" => ValueRef::Bool(false),
        _ if text.eq_ignore_ascii_case("nan") => ValueRef::Null,
        _ => number(text).unwrap_or(ValueRef::Text(text)),
    };
    let exact = match value {
        ValueRef::Int(v) => comes_back(text, v),
        ValueRef::Uint(v) => comes_back(text, v),
        ValueRef::Float(v) => comes_back(text, v),
        _ => true,
    };
    Ok(Scalar { text, value, exact })
}

/// Whether a number is printed as the text that it was read from; does not allocate.
fn comes_back(text: &str, number: impl fmt::Display) -> bool {
    let mut rest = Rest(text);
    write!(rest, "{number}").is_ok() && rest.0.is_empty()
}

/// Compares written text with the front of a text.
struct Rest<'t>(&'t str);

impl fmt::Write for Rest<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.strip_prefix(text).ok_or(fmt::Error)?;
        Ok(())
    }
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

/// Decodes an availability payload: one of the rule's words, as text or as `{"state": …}`; with `pointer`, what is there in
/// a document.
///
/// # Errors
/// [`DecodeError::Availability`] for any other word, [`DecodeError::Json`] if there is nothing at the pointer.
pub fn availability(
    payload: &[u8],
    pointer: Option<&str>,
    online: &[String],
    offline: &[String],
) -> Result<bool, DecodeError> {
    let text = std::str::from_utf8(payload).map_err(|_| DecodeError::NotUtf8)?.trim();
    let word = match pointer {
        Some(pointer) => word_at(text, pointer)?,
        None => availability_word(text),
    };
    let is = |words: &[String]| words.iter().any(|w| w.eq_ignore_ascii_case(&word));
    match (is(online), is(offline)) {
        (true, _) => Ok(true),
        (_, true) => Ok(false),
        _ => Err(DecodeError::Availability { word: word.chars().take(40).collect() }),
    }
}

fn word_at(text: &str, pointer: &str) -> Result<Cow<'static, str>, DecodeError> {
    let found = seek::value_at(text, pointer, WORD_BYTES_MAX);
    match found.map_err(|error| DecodeError::Json(error.to_string()))? {
        Some(serde_json::Value::String(word)) => Ok(Cow::Owned(word)),
        Some(other) => Ok(Cow::Owned(other.to_string())),
        None => Err(DecodeError::Json(format!("there is no word at {pointer}"))),
    }
}

/// The word itself, or the whole text if it is not JSON.
fn availability_word(text: &str) -> Cow<'_, str> {
    let found = match text.as_bytes().first() {
        Some(b'{') => seek::value_at(text, "/state", WORD_BYTES_MAX).map(Option::unwrap_or_default),
        Some(b'"') => seek::value_at(text, "", WORD_BYTES_MAX).map(Option::unwrap_or_default),
        _ => return Cow::Borrowed(text),
    };
    match found {
        Ok(serde_json::Value::String(word)) => Cow::Owned(word),
        Ok(serde_json::Value::Null) => Cow::Borrowed(""),
        Ok(other) => Cow::Owned(other.to_string()),
        Err(_) => Cow::Borrowed(text),
    }
}
