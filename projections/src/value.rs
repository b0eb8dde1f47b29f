//! Attribute values.

use serde::{Deserialize, Serialize};

/// The value of one attribute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// No value: in a change, the attribute was removed.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer that fits 64 bits, signed.
    Int(i64),
    /// A positive integer beyond [`i64::MAX`].
    Uint(u64),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(Box<str>),
    /// JSON text of an array, kept as one value.
    Json(Box<str>),
}

/// A [`Value`] that borrows its text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueRef<'a> {
    /// See [`Value::Null`].
    Null,
    /// See [`Value::Bool`].
    Bool(bool),
    /// See [`Value::Int`].
    Int(i64),
    /// See [`Value::Uint`].
    Uint(u64),
    /// See [`Value::Float`].
    Float(f64),
    /// See [`Value::Text`].
    Text(&'a str),
    /// See [`Value::Json`].
    Json(&'a str),
}

impl Value {
    /// Borrows it.
    #[inline]
    pub fn borrow(&self) -> ValueRef<'_> {
        match self {
            Value::Null => ValueRef::Null,
            Value::Bool(v) => ValueRef::Bool(*v),
            Value::Int(v) => ValueRef::Int(*v),
            Value::Uint(v) => ValueRef::Uint(*v),
            Value::Float(v) => ValueRef::Float(*v),
            Value::Text(v) => ValueRef::Text(v),
            Value::Json(v) => ValueRef::Json(v),
        }
    }
}

impl ValueRef<'_> {
    /// An owned copy.
    #[inline]
    pub fn to_owned(self) -> Value {
        match self {
            ValueRef::Null => Value::Null,
            ValueRef::Bool(v) => Value::Bool(v),
            ValueRef::Int(v) => Value::Int(v),
            ValueRef::Uint(v) => Value::Uint(v),
            ValueRef::Float(v) => Value::Float(v),
            ValueRef::Text(v) => Value::Text(v.into()),
            ValueRef::Json(v) => Value::Json(v.into()),
        }
    }

    /// Overwrites `slot`, reusing its text buffer when the text is equal.
    #[inline]
    pub fn store(self, slot: &mut Value) {
        match (self, &*slot) {
            (ValueRef::Text(new), Value::Text(old)) if **old == *new => {}
            (ValueRef::Json(new), Value::Json(old)) if **old == *new => {}
            _ => *slot = self.to_owned(),
        }
    }

    /// The value as a number, for comparison and aggregation; integers beyond 2^53 are rounded.
    #[inline]
    pub fn as_number(self) -> Option<f64> {
        match self {
            ValueRef::Int(v) => Some(v as f64),
            ValueRef::Uint(v) => Some(v as f64),
            ValueRef::Float(v) => Some(v),
            _ => None,
        }
    }

    /// Whether two values are equal to an observer: numbers compare by value whatever their type, so a device that
    /// sends `20` instead of 20.0 has not changed.
    #[inline]
    pub fn same(self, other: ValueRef<'_>) -> bool {
        match (self, other) {
            (ValueRef::Int(a), ValueRef::Int(b)) => a == b,
            (ValueRef::Uint(a), ValueRef::Uint(b)) => a == b,
            (ValueRef::Float(a), ValueRef::Float(b)) => a == b || a.to_bits() == b.to_bits(),
            (ValueRef::Int(i), ValueRef::Float(f)) | (ValueRef::Float(f), ValueRef::Int(i)) => {
                i.unsigned_abs() <= 1 << 53 && i as f64 == f
            }
            (ValueRef::Text(a), ValueRef::Text(b)) | (ValueRef::Json(a), ValueRef::Json(b)) => a == b,
            (ValueRef::Bool(a), ValueRef::Bool(b)) => a == b,
            (ValueRef::Null, ValueRef::Null) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sameness_ignores_how_a_number_is_written() {
        let check = |a: ValueRef<'_>, b: ValueRef<'_>, same: bool| {
            assert_eq!((a.same(b), b.same(a)), (same, same), "{a:?} {b:?}");
        };
        check(ValueRef::Int(20), ValueRef::Float(20.0), true);
        check(ValueRef::Int(20), ValueRef::Float(20.5), false);
        check(ValueRef::Int((1 << 53) + 1), ValueRef::Float((1u64 << 53) as f64), false);
        check(ValueRef::Int((1 << 53) + 1), ValueRef::Int(1 << 53), false);
        check(ValueRef::Uint(u64::MAX), ValueRef::Uint(u64::MAX - 1), false);
        check(ValueRef::Text("1"), ValueRef::Int(1), false);
        check(ValueRef::Text("[1]"), ValueRef::Json("[1]"), false);
        check(ValueRef::Null, ValueRef::Bool(false), false);
    }
}
