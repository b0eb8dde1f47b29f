//! The digest of a state: two logs that were folded to the same state have the same one.

use std::fmt;
use std::io::{self, Write};

use crate::view::View;
use crate::{Aggregates, Named, Seq};

/// BLAKE3 over a state, except the aggregates: windows and declarations are configuration.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StateDigest {
    /// The last record that the state includes.
    pub seq: Seq,
    hash: [u8; 32],
}

impl StateDigest {
    /// The digest of a view; `None` while a fold is being rebuilt. Encodes the whole state.
    ///
    /// # Errors
    /// If a fold cannot be encoded.
    pub fn of(view: &View) -> io::Result<Option<StateDigest>> {
        if view.stale().iter().any(|fold| *fold != Aggregates::ID) {
            return Ok(None);
        }
        let mut hasher = Hashing(blake3::Hasher::new_derive_key("fieldlog 1 state digest"));
        hasher.write_all(&view.seq.0.to_le_bytes())?;
        hasher.write_all(&view.time.0.to_le_bytes())?;
        hasher.write_all(&view.boot_id)?;
        for fold in view.sections() {
            if [Aggregates::ID, Named::ID].contains(&fold.id()) {
                continue;
            }
            let size = fold.size().map_err(io::Error::other)?;
            hasher.write_all(&[fold.id().number])?;
            hasher.write_all(&fold.version().to_le_bytes())?;
            hasher.write_all(&(size as u64).to_le_bytes())?;
            fold.write(&mut hasher).map_err(io::Error::other)?;
        }
        Ok(Some(StateDigest { seq: view.seq, hash: *hasher.0.finalize().as_bytes() }))
    }
}

impl fmt::Display for StateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, blake3::Hash::from_bytes(self.hash).to_hex())
    }
}

impl fmt::Debug for StateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateDigest({self})")
    }
}

struct Hashing(blake3::Hasher);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
