//! Parameters that operations take.

use serde_json::{Value, json};

/// One in the query. An empty one counts as absent.
pub fn query(name: &str, schema: impl Into<Value>, description: &str) -> Value {
    json!({"allowEmptyValue": true, "name": name, "in": "query", "schema": schema.into(), "description": description})
}

/// One in the query without which there is no answer.
pub fn required(name: &str, schema: impl Into<Value>, description: &str) -> Value {
    json!({"name": name, "in": "query", "required": true, "schema": schema.into(), "description": description})
}

/// One that the description has once, by its name there.
pub fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/parameters/{name}")})
}

/// Any text.
pub fn text() -> Value {
    json!({"type": "string"})
}

/// Any text but the empty one.
pub fn some_text() -> Value {
    json!({"type": "string", "minLength": 1})
}

/// One of these words.
pub fn words(words: &[&str]) -> Value {
    json!({"type": "string", "enum": words})
}

/// A whole number.
pub fn number(from: u64, to: u64) -> Value {
    json!({"type": "integer", "minimum": from, "maximum": to})
}

/// A position, up to this one.
pub fn position(to: u64) -> Value {
    json!({"type": "integer", "format": "uint64", "minimum": 0, "maximum": to})
}

/// A time.
pub fn time(name: &str, description: &str) -> Value {
    query(name, json!({"type": "string", "format": "date-time"}), description)
}

/// `limit`, the size of a page.
pub fn limit(most: u64, default: u64) -> Value {
    query("limit", number(1, most), &format!("Size of the page; {default} by default."))
}

/// `from`, a time.
pub fn from() -> Value {
    time("from", "Not before this time.")
}
