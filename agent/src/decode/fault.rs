//! Why a payload is not taken.

use super::{LEAVES_MAX, NAMES_BYTES_MAX};

/// Why a payload cannot be decoded; kept with it in the quarantine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not the JSON that was expected.
    #[error("not the JSON object that was expected: {0}")]
    Json(String),
    /// Not the other format that was expected, or not what can be said in its place.
    #[error("not the {format} that was expected: {why}")]
    Format {
        /// Its name.
        format: &'static str,
        /// What is wrong.
        why: String,
    },
    /// More than is taken from one payload.
    #[error(transparent)]
    Excess(#[from] Excess),
    /// A payload whose document is not built, because that takes a multiple of its bytes.
    #[error(
        "a document of {bytes} bytes; {max} are the most for a rule with each, action_fields = \"together\", a device or \
         attribute from the payload, a decoder of documents other than json, or a name that stands in an object twice"
    )]
    Document {
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The same for what is in it.
    #[error(
        "more than {max} lists and objects in one document; that is the most that a document is built of"
    )]
    Containers {
        /// The bound.
        max: usize,
    },
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

/// What a payload has too much of. Nothing of it is taken then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Excess {
    /// An attribute path, or another name, longer than allowed.
    #[error("a name of {bytes} bytes, it begins with \"{begins}\"; limits.name_bytes_max is {max}")]
    Name {
        /// Its length, as far as it was read.
        bytes: usize,
        /// Its first characters.
        begins: String,
        /// The bound.
        max: usize,
    },
    /// Too many values.
    #[error("more than {LEAVES_MAX} values in one document; that is the most that is taken of one")]
    Leaves,
    /// Paths too long together.
    #[error(
        "the names of its values have more than {NAMES_BYTES_MAX} bytes together; that is the most that is taken of one \
         document"
    )]
    Names,
    /// Two elements of a list that would have the same name.
    #[error(
        "two elements of {list} have the same {field}, {name:?}: their values would overwrite each other"
    )]
    Twice {
        /// Path of the list.
        list: String,
        /// The field that names them.
        field: String,
        /// Their name.
        name: String,
    },
    /// Two values that would have the same name.
    #[error("two of its values are called {path}: they would overwrite each other")]
    Same {
        /// Their name.
        path: String,
    },
    /// Values too long together.
    #[error(
        "its names and values have more than {max} bytes together; that is the most that is kept of a document of this size"
    )]
    Values {
        /// The bound.
        max: usize,
    },
}

impl Excess {
    pub(super) fn name(path: &str, key: &str, bytes: usize, max: usize) -> Excess {
        let dot = if path.is_empty() { "" } else { "." };
        let begins = path.chars().chain(dot.chars()).chain(key.chars()).take(40).collect();
        Excess::Name { bytes, begins, max }
    }
}

/// Checks a name that was made from a topic.
///
/// # Errors
/// [`Excess::Name`] if it has more than `max` bytes.
pub fn check_name(name: &str, max: usize) -> Result<(), Excess> {
    if name.len() > max { Err(Excess::name("", name, name.len(), max)) } else { Ok(()) }
}
