//! Why a payload is rejected.

use super::{LEAVES_MAX, NAMES_BYTES_MAX};

/// Why a payload cannot be decoded; stored in the quarantine record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not the expected JSON.
    #[error("not the JSON object that was expected: {0}")]
    Json(String),
    /// Not the expected other format, or not its permitted content.
    #[error("not the {format} that was expected: {why}")]
    Format {
        /// Its name.
        format: &'static str,
        /// The fault.
        why: String,
    },
    /// A bound was exceeded.
    #[error(transparent)]
    Excess(#[from] Excess),
    /// The payload is too large to build its document, which takes a multiple of its bytes.
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
    /// The document has too many lists and objects.
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
        /// The word found.
        word: String,
    },
}

/// The bound on names and values that a payload does not keep. Nothing of it is recorded then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Excess {
    /// A member whose name is empty: its value could not be asked for, nor its members be told from those beside it.
    #[error("one of its members has an empty name; a value needs a name")]
    NoName,
    /// An attribute path, or another name, is too long.
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
    /// The paths together are too long.
    #[error(
        "the names of its values have more than {NAMES_BYTES_MAX} bytes together; that is the most that is taken of one \
         document"
    )]
    Names,
    /// Two elements of a list would have the same name.
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
    /// The values together are too long.
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

/// Checks a name built from a topic.
///
/// # Errors
/// [`Excess::Name`] if it has more than `max` bytes.
pub fn check_name(name: &str, max: usize) -> Result<(), Excess> {
    if name.len() > max { Err(Excess::name("", name, name.len(), max)) } else { Ok(()) }
}
