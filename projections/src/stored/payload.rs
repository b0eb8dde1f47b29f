//! Encoding and decoding of payload bytes, and the errors.

use serde::{Deserialize, Serialize};

use crate::Kind;

/// A type that a payload is written from.
pub(super) trait Append {
    /// Appends its bytes.
    fn append(&self, out: &mut Vec<u8>);
}

/// A type that a payload is read into.
pub(super) trait Parse<'a>: Sized {
    /// Reads all of the bytes; the kind is for the error.
    fn parse(kind: Kind, payload: &'a [u8]) -> Result<Self, StoredError>;
}

/// Serialising the frozen structs into memory cannot fail: they have no maps of unknown length and no custom errors.
impl<T: Serialize> Append for T {
    fn append(&self, out: &mut Vec<u8>) {
        let taken = std::mem::take(out);
        match postcard::to_extend(self, taken) {
            Ok(bytes) => *out = bytes,
            Err(error) => unreachable!("postcard into memory: {error}"),
        }
    }
}

impl<'a, T: Deserialize<'a>> Parse<'a> for T {
    fn parse(kind: Kind, payload: &'a [u8]) -> Result<T, StoredError> {
        match postcard::take_from_bytes::<T>(payload) {
            Ok((value, [])) => Ok(value),
            _ => Err(StoredError::Payload { kind }),
        }
    }
}

/// Why a stored payload cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoredError {
    /// The version is unknown.
    #[error(
        "record type {} version {} was written by a newer fieldlog; install that version or a later one",
        kind.type_id,
        kind.version
    )]
    Newer {
        /// The kind found.
        kind: Kind,
    },
    /// The bytes do not match the kind.
    #[error("the payload is not a record of type {} version {}", kind.type_id, kind.version)]
    Payload {
        /// The expected kind.
        kind: Kind,
    },
}

impl StoredError {
    pub(super) fn newer(kind: Kind) -> StoredError {
        StoredError::Newer { kind }
    }
}
