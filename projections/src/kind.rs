//! The kind of a payload.

/// Type and version of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    /// Its type; see [`crate::stored::type_id`].
    pub type_id: u16,
    /// Its layout, 1 to 15.
    pub version: u8,
}
