//! The variable-length integers of postcard's wire format, for the framing of chunks.
//!
//! Unsigned: 7 bits per byte, least significant first, high bit set on all but the last. Signed: zigzag first.

/// Appends an unsigned integer.
#[inline]
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed integer, zigzag.
#[inline]
pub fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Splits an unsigned integer off the front; `None` if it is truncated or longer than 64 bits.
#[inline]
pub fn read(bytes: &mut &[u8]) -> Option<u64> {
    let (&first, mut rest) = bytes.split_first()?;
    let mut value = u64::from(first & 0x7f);
    let mut shift = 7;
    let mut byte = first;
    while byte & 0x80 != 0 {
        (byte, rest) = rest.split_first().map(|(b, r)| (*b, r))?;
        if shift > 63 || (shift == 63 && byte > 1) {
            return None;
        }
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
    }
    *bytes = rest;
    Some(value)
}

/// Splits a signed integer off the front.
#[inline]
pub fn read_signed(bytes: &mut &[u8]) -> Option<i64> {
    let raw = read(bytes)?;
    Some(((raw >> 1) as i64) ^ -((raw & 1) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_to_postcard() {
        for value in [0u64, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut ours = Vec::new();
            put(&mut ours, value);
            assert_eq!(ours, postcard::to_stdvec(&value).unwrap());
            let mut rest = &ours[..];
            assert_eq!(read(&mut rest), Some(value));
            assert!(rest.is_empty());
        }
        for value in [0i64, -1, 1, 63, -64, i64::MAX, i64::MIN] {
            let mut ours = Vec::new();
            put_signed(&mut ours, value);
            assert_eq!(ours, postcard::to_stdvec(&value).unwrap());
            assert_eq!(read_signed(&mut &ours[..]), Some(value));
        }
    }

    #[test]
    fn refuses_cut_and_overlong_integers() {
        assert_eq!(read(&mut &[0x80u8][..]), None);
        assert_eq!(read(&mut &[][..]), None);
        assert_eq!(read(&mut &[0xffu8; 11][..]), None);
    }
}
