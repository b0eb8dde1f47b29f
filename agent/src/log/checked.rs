//! Small values, each with a checksum.

/// First byte of a value with a checksum; cursor versions without one are small numbers.
pub(super) const CHECKED: u8 = 0xc1;

/// A value with its checksum: a mark, CRC-32 of name and value, and the value.
pub(super) fn wrap(mark: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[mark][..], &checksum(name, value).to_le_bytes(), value].concat()
}

/// The value, if its checksum is correct.
pub(super) fn unwrap<'a>(mark: u8, name: &[u8], stored: &'a [u8]) -> Option<&'a [u8]> {
    let (sum, value) = stored.strip_prefix(&[mark])?.split_first_chunk()?;
    (checksum(name, value) == u32::from_le_bytes(*sum)).then_some(value)
}

fn checksum(name: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(name);
    hasher.update(value);
    hasher.finalize()
}
