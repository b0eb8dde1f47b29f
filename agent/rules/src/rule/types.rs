//! `types`: value types, where the payload does not give them reliably.

use serde::Serialize;

/// The type of some attributes' values. A value that does not fit stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ValueType {
    /// `attributes`: patterns; for documents, names as in `ignore`.
    pub attributes: Vec<String>,
    /// `type`, with its other keys.
    #[serde(flatten)]
    pub kind: Kind,
}

/// The type of a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Kind {
    /// The exact text.
    Text,
    /// A number; a text may have this unit after it.
    Number {
        /// `unit` (default empty).
        unit: String,
    },
    /// A whole number.
    Integer {
        /// `unit` (default empty).
        unit: String,
    },
    /// True or false.
    Boolean {
        /// `true`: texts in any case, and numbers as text (default `true`, `on`, `yes`, `1`).
        #[serde(rename = "true")]
        yes: Vec<String>,
        /// `false` (default `false`, `off`, `no`, `0`).
        #[serde(rename = "false")]
        no: Vec<String>,
    },
}
