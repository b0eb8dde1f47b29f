//! Stored values, by version.

use serde::{Deserialize, Serialize};

use crate::ValueRef;

/// Version 1 of a value: non-integer numbers take 9 bytes.
#[derive(Serialize, Deserialize)]
pub(super) enum ValueV1<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Text(&'a str),
    Json(&'a str),
}

/// Version 2 of a value: short decimals, as sensors send them, are scaled integers (`D2(2341)` is 23.41), and booleans
/// take one byte.
#[derive(Serialize, Deserialize)]
pub(super) enum ValueV2<'a> {
    Null,
    False,
    True,
    Int(i64),
    Uint(u64),
    Float(f64),
    D1(i64),
    D2(i64),
    D3(i64),
    D4(i64),
    Text(&'a str),
    Json(&'a str),
}

impl<'a> From<ValueV1<'a>> for ValueV2<'a> {
    fn from(value: ValueV1<'a>) -> ValueV2<'a> {
        match value {
            ValueV1::Null => ValueV2::Null,
            ValueV1::Bool(false) => ValueV2::False,
            ValueV1::Bool(true) => ValueV2::True,
            ValueV1::Int(v) => ValueV2::Int(v),
            ValueV1::Uint(v) => ValueV2::Uint(v),
            ValueV1::Float(v) => ValueV2::Float(v),
            ValueV1::Text(v) => ValueV2::Text(v),
            ValueV1::Json(v) => ValueV2::Json(v),
        }
    }
}

impl<'a> From<ValueV2<'a>> for ValueRef<'a> {
    #[inline]
    fn from(value: ValueV2<'a>) -> ValueRef<'a> {
        match value {
            ValueV2::Null => ValueRef::Null,
            ValueV2::False => ValueRef::Bool(false),
            ValueV2::True => ValueRef::Bool(true),
            ValueV2::Int(v) => ValueRef::Int(v),
            ValueV2::Uint(v) => ValueRef::Uint(v),
            ValueV2::Float(v) => ValueRef::Float(v),
            ValueV2::D1(v) => ValueRef::Float(v as f64 / 10.0),
            ValueV2::D2(v) => ValueRef::Float(v as f64 / 100.0),
            ValueV2::D3(v) => ValueRef::Float(v as f64 / 1_000.0),
            ValueV2::D4(v) => ValueRef::Float(v as f64 / 10_000.0),
            ValueV2::Text(v) => ValueRef::Text(v),
            ValueV2::Json(v) => ValueRef::Json(v),
        }
    }
}

impl<'a> From<ValueRef<'a>> for ValueV2<'a> {
    #[inline]
    fn from(value: ValueRef<'a>) -> ValueV2<'a> {
        match value {
            ValueRef::Null => ValueV2::Null,
            ValueRef::Bool(false) => ValueV2::False,
            ValueRef::Bool(true) => ValueV2::True,
            ValueRef::Int(v) => ValueV2::Int(v),
            ValueRef::Uint(v) => ValueV2::Uint(v),
            ValueRef::Float(v) => scaled(v),
            ValueRef::Text(v) => ValueV2::Text(v),
            ValueRef::Json(v) => ValueV2::Json(v),
        }
    }
}

/// A float as a scaled integer if division restores it exactly, else unchanged.
#[inline]
fn scaled(value: f64) -> ValueV2<'static> {
    const EXACT: u64 = 1 << 53;
    let fits = |scale: f64| {
        // Compare bits after the round trip: integers have no negative zero.
        let mantissa = (value * scale).round() as i64;
        let same = (mantissa as f64 / scale).to_bits() == value.to_bits();
        (same && mantissa.unsigned_abs() < EXACT).then_some(mantissa)
    };
    if let Some(v) = fits(10.0) {
        ValueV2::D1(v)
    } else if let Some(v) = fits(100.0) {
        ValueV2::D2(v)
    } else if let Some(v) = fits(1_000.0) {
        ValueV2::D3(v)
    } else if let Some(v) = fits(10_000.0) {
        ValueV2::D4(v)
    } else {
        ValueV2::Float(value)
    }
}
