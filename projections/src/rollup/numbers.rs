//! The numbers of a bucket, stored in few bytes and exact to the bit.
//!
//! Sensors send decimals with few digits. If minimum, maximum and last value are all such decimals, they are stored as
//! whole numbers in units of the last digit. The sum is stored as the nearest whole number, plus its floating-point
//! rounding error, which is nearly always 0 or close to it.

use crate::{Bucket, varint};

/// The divisor of a decimal, by number of digits.
const SCALES: [f64; 7] = [1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0, 1_000_000.0];
/// Tag of four plain floats; smaller tags are numbers of digits.
const FLOATS: u8 = 15;
/// Integers below this are exact as floats.
const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;

/// Appends the count and the numbers of a bucket; its start is stored elsewhere.
pub(super) fn put(out: &mut Vec<u8>, bucket: &Bucket) {
    varint::put(out, u64::from(bucket.count));
    let Some((digits, [min, max, last])) = decimals([bucket.min, bucket.max, bucket.last]) else {
        out.push(FLOATS);
        for number in [bucket.min, bucket.max, bucket.sum, bucket.last] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        return;
    };
    let scale = SCALES[usize::from(digits)];
    out.push(digits);
    varint::put_signed(out, min);
    varint::put(out, max.wrapping_sub(min) as u64);
    varint::put(out, last.wrapping_sub(min) as u64);
    // Wrapping, and saturating in the cast: values that do not fit make the two numbers longer, not wrong.
    let sum = (bucket.sum * scale).round() as i64;
    varint::put_signed(out, sum.wrapping_sub(min.wrapping_mul(i64::from(bucket.count))));
    varint::put_signed(out, bits(bucket.sum).wrapping_sub(bits(sum as f64 / scale)));
}

/// Splits a bucket off the front; `None` if it is invalid.
pub(super) fn read_bucket(rest: &mut &[u8], start_s: i64) -> Option<Bucket> {
    let count = u32::try_from(varint::read(rest)?).ok()?;
    let (&digits, tail) = rest.split_first()?;
    *rest = tail;
    if digits == FLOATS {
        let mut float = || {
            let (bytes, tail) = rest.split_first_chunk()?;
            *rest = tail;
            Some(f64::from_le_bytes(*bytes))
        };
        return Some(Bucket { start_s, count, min: float()?, max: float()?, sum: float()?, last: float()? });
    }
    let scale = *SCALES.get(usize::from(digits))?;
    let min = varint::read_signed(rest)?;
    let max = min.wrapping_add(varint::read(rest)? as i64);
    let last = min.wrapping_add(varint::read(rest)? as i64);
    let sum = varint::read_signed(rest)?.wrapping_add(min.wrapping_mul(i64::from(count)));
    let sum = bits(sum as f64 / scale).wrapping_add(varint::read_signed(rest)?);
    let value = |units: i64| units as f64 / scale;
    let sum = f64::from_bits(sum as u64);
    Some(Bucket { start_s, count, min: value(min), max: value(max), sum, last: value(last) })
}

/// The fewest digits that represent all exactly, and the numbers in units of the last digit.
fn decimals(numbers: [f64; 3]) -> Option<(u8, [i64; 3])> {
    (0..SCALES.len()).find_map(|digits| {
        let scale = SCALES[digits];
        let units = numbers.map(|number| (number * scale).round());
        let exact = |(unit, number): (&f64, &f64)| {
            unit.abs() < EXACT_BELOW && bits(*unit as i64 as f64 / scale) == bits(*number)
        };
        units.iter().zip(&numbers).all(exact).then(|| (digits as u8, units.map(|unit| unit as i64)))
    })
}

fn bits(number: f64) -> i64 {
    number.to_bits() as i64
}
