//! Broken payloads as real devices send them, at a low rate, to show how they are handled.

use crate::rng::Rng;

/// Simulated time between broken payloads in the whole fleet: once a minute at speed 1.
pub const PERIOD_S: f64 = 3600.0;

/// Breaks a JSON document in one of the ways that real firmware does.
pub fn spoil(document: &str, rng: &mut Rng) -> Vec<u8> {
    match rng.below(4) {
        // A fixed buffer was too small.
        0 => cut(document, document.len() * 3 / 5),
        // printf of a NaN, which JSON cannot represent.
        1 => not_a_number(document),
        2 => Vec::new(),
        _ => b"nan".to_vec(),
    }
}

fn cut(document: &str, bytes: usize) -> Vec<u8> {
    document.as_bytes()[..bytes].to_vec()
}

/// Replaces the last number of the document.
fn not_a_number(document: &str) -> Vec<u8> {
    let is_number = |c: char| c.is_ascii_digit() || c == '.' || c == '-';
    let end = document.char_indices().rev().find(|(i, c)| c.is_ascii_digit() && closes_value(document, *i));
    let Some((end, _)) = end else { return b"nan".to_vec() };
    let start = document[..end].rfind(|c| !is_number(c)).map_or(0, |i| i + 1);
    [&document.as_bytes()[..start], b"nan", &document.as_bytes()[end + 1..]].concat()
}

/// Whether a bare value ends at this position.
fn closes_value(document: &str, index: usize) -> bool {
    matches!(document.as_bytes().get(index + 1), Some(b',' | b'}' | b']'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const DOCUMENT: &str =
        r#"{"Time":"2026-11-23T10:00:00","BME280":{"Temperature":-20.6,"Pressure":1013.2},"TempUnit":"C"}"#;

    #[test]
    fn none_of_them_is_json() {
        let mut rng = Rng::of_device(1, "fault");
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..64 {
            let payload = spoil(DOCUMENT, &mut rng);
            assert!(
                serde_json::from_slice::<Value>(&payload).is_err(),
                "{}",
                String::from_utf8_lossy(&payload)
            );
            seen.insert(payload);
        }
        assert_eq!(seen.len(), 4);
    }

    #[test]
    fn only_the_number_is_replaced() {
        let text = String::from_utf8(not_a_number(DOCUMENT)).unwrap();
        assert_eq!(text, DOCUMENT.replace("1013.2", "nan"));
        assert_eq!(not_a_number("{}"), b"nan");
    }
}
