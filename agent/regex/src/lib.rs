//! Stands in for the crate `regex`, see `[patch.crates-io]` in the workspace's manifest.
//!
//! async-nats is the only dependency with regular expressions: for a server's version, and the armour around credentials.
//! For these, `regex` would be some 600 KB of the binary; `regex-lite`, by the same authors, does the same in 100 KB. It knows
//! no Unicode classes, which neither of the two needs: both texts are ASCII.

pub use regex_lite::*;
