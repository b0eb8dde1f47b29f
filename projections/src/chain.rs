//! The hash chain over all records of an epoch.
//!
//! Each record's link is the BLAKE3 hash of the previous link and the record's stored bytes. Those bytes never change,
//! however chunks are split and joined, so the chain can be recomputed from the log at any time. `ARCHITECTURE.md` says
//! what it proves and what it does not.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Epoch, Seq};

/// The state of the chain after a record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ChainHash(pub [u8; 32]);

impl ChainHash {
    /// The link before the first record of an epoch: different for each epoch, so that two logs never share a link.
    pub fn origin(epoch: Epoch) -> ChainHash {
        let mut hasher = blake3::Hasher::new_derive_key("fieldlog 1 hash chain origin");
        hasher.update(&epoch.0.to_le_bytes());
        ChainHash(*hasher.finalize().as_bytes())
    }

    /// The link after one more record.
    #[must_use]
    #[inline]
    pub fn after(self, record: &[u8]) -> ChainHash {
        let mut block = [0; 64];
        // Most records and the link fit one block of the hash; hashing both in one call is fastest.
        match block.get_mut(32..32 + record.len()) {
            Some(rest) => {
                rest.copy_from_slice(record);
                block[..32].copy_from_slice(&self.0);
                ChainHash(*blake3::hash(&block[..32 + record.len()]).as_bytes())
            }
            None => {
                let mut hasher = blake3::Hasher::new();
                hasher.update(&self.0);
                hasher.update(record);
                ChainHash(*hasher.finalize().as_bytes())
            }
        }
    }

    /// From its text form.
    pub fn parse(text: &str) -> Option<ChainHash> {
        blake3::Hash::from_hex(text).ok().map(|hash| ChainHash(*hash.as_bytes()))
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainHash({self})")
    }
}

/// As text, as in [`fmt::Display`].
impl Serialize for ChainHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ChainHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ChainHash, D::Error> {
        let text = String::deserialize(deserializer)?;
        ChainHash::parse(&text)
            .ok_or_else(|| D::Error::custom("a link of the chain is 64 hexadecimal digits"))
    }
}

/// A chain link with its position. Someone who has an anchor from elsewhere can check whether a log still has the
/// records that led to it. As text: `<sequence>:<link>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The last record that the link covers.
    pub seq: Seq,
    /// The chain after it.
    pub link: ChainHash,
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.link)
    }
}

impl Serialize for Anchor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Anchor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Anchor, &'static str> {
        let (seq, link) = text.split_once(':').ok_or(NOT_AN_ANCHOR)?;
        let seq = seq.parse().map_err(|_| NOT_AN_ANCHOR)?;
        Ok(Anchor { seq: Seq(seq), link: ChainHash::parse(link).ok_or(NOT_AN_ANCHOR)? })
    }
}

const NOT_AN_ANCHOR: &str = "not <sequence>:<64 hexadecimal digits>, as a receiver's report has it";
