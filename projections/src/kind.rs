//! What a payload is.

/// Type and version of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    /// What it is; see [`crate::stored::type_id`].
    pub type_id: u16,
    /// Its layout, 1 to 15.
    pub version: u8,
}
