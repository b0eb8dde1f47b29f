//! The effective configuration as TOML. Reading it gives the same configuration again. It contains no secrets, because
//! the configuration has only the names of their files.

use std::fmt::Write;

use toml::{Table, Value};

use super::Config;
use super::written::table_of;

impl Config {
    /// The whole configuration, presets expanded into their rules.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        write_table(&mut text, "", &self.table());
        text
    }

    /// The same as a table; `diff` compares two of them.
    pub(super) fn table(&self) -> Table {
        // Checked numbers fit TOML's range, and every path came from text.
        table_of(self).expect("a checked configuration can be written")
    }
}

/// The keys of a table, then its tables, then its arrays of tables, since TOML requires headers last.
fn write_table(text: &mut String, path: &str, table: &Table) {
    // Tables below `[[source.subscription]]` are short and more readable on one line.
    let depth = if path.is_empty() { 0 } else { path.split('.').count() };
    let with_headers = depth < 2;
    let is_table = |value: &Value| with_headers && value.is_table();
    let is_tables = |value: &Value| with_headers && is_array_of_tables(value);
    for (key, value) in table.iter().filter(|(_, value)| !is_table(value) && !is_tables(value)) {
        let _ = write!(text, "{key} = ");
        write_value(text, value);
        text.push('\n');
    }
    let inside = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    for (key, value) in table.iter().filter(|(_, value)| is_table(value)) {
        let path = inside(key);
        let _ = write!(text, "\n[{path}]\n");
        value.as_table().into_iter().for_each(|table| write_table(text, &path, table));
    }
    for (key, value) in table.iter().filter(|(_, value)| is_tables(value)) {
        let path = inside(key);
        for table in value.as_array().into_iter().flatten().filter_map(Value::as_table) {
            let _ = write!(text, "\n[[{path}]]\n");
            write_table(text, &path, table);
        }
    }
}

/// `[[key]]`, as opposed to a list of values.
pub(super) fn is_array_of_tables(value: &Value) -> bool {
    value.as_array().and_then(|items| items.first()).is_some_and(Value::is_table)
}

/// A value on one line. Writing to a string cannot fail.
fn write_value(text: &mut String, value: &Value) {
    match value {
        Value::String(value) => write_quoted(text, value),
        Value::Integer(number) => _ = write!(text, "{number}"),
        Value::Float(number) => _ = write!(text, "{number:?}"),
        Value::Boolean(flag) => _ = write!(text, "{flag}"),
        Value::Datetime(moment) => _ = write!(text, "{moment}"),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { ", " });
                write_value(text, item);
            }
            text.push(']');
        }
        Value::Table(table) => {
            for (index, (key, value)) in table.iter().enumerate() {
                text.push_str(if index == 0 { "{ " } else { ", " });
                // Keys that are texts of the operator, such as names of attributes.
                let is_bare = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
                match !key.is_empty() && key.bytes().all(is_bare) {
                    true => text.push_str(key),
                    false => write_quoted(text, key),
                }
                text.push_str(" = ");
                write_value(text, value);
            }
            text.push_str(" }");
        }
    }
}

/// A TOML basic string.
fn write_quoted(text: &mut String, value: &str) {
    text.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(text, "\\u{:04X}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push('"');
}
