//! JSON (RFC 8259).

use serde::de::DeserializeSeed;

use super::{Bounds, Built};
use crate::decode::DecodeError;
use crate::decode::bounded::{CONTAINERS_MAX, Room, Tree};

pub(super) fn read(payload: &[u8], bounds: Bounds) -> Result<Built, DecodeError> {
    let mut room = Room::new(bounds.text_bytes);
    let mut de = serde_json::Deserializer::from_slice(payload);
    let document = Tree(&mut room).deserialize(&mut de).and_then(|document| de.end().map(|()| document));
    let document = document.map_err(|error| DecodeError::Json(error.to_string()))?;
    if room.exceeded() {
        // Its text fits, so the containers exceeded the bound.
        return Err(DecodeError::Containers { max: CONTAINERS_MAX });
    }
    Ok(Built { document, twice: room.take_twice() })
}
