//! From the bytes of a payload to a document, one file for each format. What is read here is flattened, named and typed like
//! JSON, so a format only has to say what the document is.

use serde_json::Value;

use super::DecodeError;
use crate::config::Decoder;

mod json;

/// Longest payload that a document is built of, in bytes. With the bounds below, a document takes up to 20 MB of memory while
/// it is read.
pub(super) const PAYLOAD_BYTES_MAX: usize = 262_144;

/// Bounds of a document. A format checks them while it reads, before anything is copied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Bytes that names and texts may have together, with their notation in JSON.
    pub(super) text_bytes: usize,
}

/// The document of a payload.
///
/// # Errors
/// [`DecodeError`] with the reason in words.
pub(super) fn document(decoder: Decoder, payload: &[u8]) -> Result<Value, DecodeError> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(DecodeError::Document { bytes: payload.len(), max: PAYLOAD_BYTES_MAX });
    }
    let bounds = Bounds { text_bytes: PAYLOAD_BYTES_MAX };
    match decoder {
        Decoder::Json => json::read(payload, bounds),
        Decoder::Scalar | Decoder::Availability | Decoder::Action | Decoder::Ignore => {
            Err(DecodeError::Json("this decoder reads no documents".into()))
        }
    }
}
