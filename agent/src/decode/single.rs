//! Payloads that are one value.

use std::borrow::Cow;

use fieldlog_projections::ValueRef;

use super::{DecodeError, seek};

/// Longest word of an availability payload that is looked at, in bytes.
const WORD_BYTES_MAX: usize = 256;

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
    let word = availability_word(text);
    let is = |words: &[String]| words.iter().any(|w| w.eq_ignore_ascii_case(&word));
    match (is(online), is(offline)) {
        (true, _) => Ok(true),
        (_, true) => Ok(false),
        _ => Err(DecodeError::Availability { word: word.chars().take(40).collect() }),
    }
}

/// The word itself, or the text around it if that is no JSON.
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
