//! A file of parcels: how a log is taken elsewhere with its chain. `FORMAT.md` describes it.
//!
//! `FLPARCEL`, then each parcel in the compact format after its length in 4 bytes, little-endian, and 8 bytes of its hash; then
//! a length of 0, without which the file was cut.

use crate::compact;

/// What the file begins with.
pub const MAGIC: &[u8; 8] = b"FLPARCEL";
/// What it ends with.
pub const END: [u8; 4] = [0; 4];

/// A length before a parcel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A parcel of so many bytes.
    Parcel(usize),
    /// The file is complete.
    End,
    /// No parcel is so long.
    Damaged,
}

/// What is before a parcel.
pub fn head(parcel: &[u8]) -> [u8; 12] {
    let mut head = [0; 12];
    // A compact parcel is limited to far less.
    head[..4].copy_from_slice(&u32::try_from(parcel.len()).unwrap_or(u32::MAX).to_le_bytes());
    head[4..].copy_from_slice(&sum(parcel));
    head
}

/// The beginning of a parcel's hash: the chain has the records, but neither their times nor the names in a parcel.
pub fn sum(parcel: &[u8]) -> [u8; 8] {
    let mut sum = [0; 8];
    sum.copy_from_slice(&blake3::hash(parcel).as_bytes()[..8]);
    sum
}

/// What a length announces.
pub fn next(length: [u8; 4]) -> Next {
    match u32::from_le_bytes(length) {
        0 => Next::End,
        bytes if u64::from(bytes) > compact::BYTES_MAX => Next::Damaged,
        bytes => Next::Parcel(bytes as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_as_they_are_written() {
        assert_eq!(head(&[7; 258])[..4], [2, 1, 0, 0]);
        assert_eq!(head(&[7; 258])[4..], sum(&[7; 258]));
        assert_eq!(next([2, 1, 0, 0]), Next::Parcel(258));
        assert_eq!(next(END), Next::End);
        assert_eq!(next(*b"junk"), Next::Damaged);
    }
}
