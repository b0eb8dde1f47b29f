//! Finds the value at a JSON pointer without building the document.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::bounded::{Room, Tree};

/// Receives the value at a place. Called again for a duplicate key: the last one counts.
pub(super) trait Take {
    /// Takes the value.
    fn take<'de, D: Deserializer<'de>>(&mut self, de: D) -> Result<(), D::Error>;

    /// Discards the received value.
    fn forget(&mut self);
    /// Reports so many other elements in a list on the path.
    fn pass_over(&mut self, _elements: usize) {}
}

/// Passes the value at `pointer` to `take`. The whole text is checked to be one JSON document.
pub(super) fn seek(text: &str, pointer: &str, take: &mut impl Take) -> Result<(), serde_json::Error> {
    let mut de = serde_json::Deserializer::from_str(text);
    if pointer.is_empty() {
        take.take(&mut de)?;
    } else {
        Seek { rest: pointer.strip_prefix('/'), take }.deserialize(&mut de)?;
    }
    de.end()
}

/// The value at `pointer`, if there is one whose text has at most `bytes_max` bytes.
pub(super) fn value_at(
    text: &str,
    pointer: &str,
    bytes_max: usize,
) -> Result<Option<Value>, serde_json::Error> {
    let mut small = Small { value: None, bytes_max };
    seek(text, pointer, &mut small)?;
    Ok(small.value)
}

/// Receives a small value.
struct Small {
    value: Option<Value>,
    bytes_max: usize,
}

impl Take for Small {
    fn take<'de, D: Deserializer<'de>>(&mut self, de: D) -> Result<(), D::Error> {
        let mut room = Room::new(self.bytes_max);
        let value = Tree(&mut room).deserialize(de)?;
        self.value = Some(value).filter(|_| !room.exceeded());
        Ok(())
    }

    fn forget(&mut self) {
        self.value = None;
    }
}

/// On the path; `rest` is the remaining pointer, `None` if nothing can be there.
struct Seek<'p, 't, T> {
    rest: Option<&'p str>,
    take: &'t mut T,
}

impl<'p, T: Take> Seek<'p, '_, T> {
    fn split(&self) -> Option<(&'p str, Option<&'p str>)> {
        let rest = self.rest?;
        Some(rest.split_once('/').map_or((rest, None), |(token, rest)| (token, Some(rest))))
    }
}

impl<'de, T: Take> DeserializeSeed<'de> for Seek<'_, '_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<(), D::Error> {
        de.deserialize_any(self)
    }
}

impl<'de, T: Take> Visitor<'de> for Seek<'_, '_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((token, rest)) = self.split() else {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(());
        };
        while let Some(here) = map.next_key_seed(Is(token))? {
            if !here {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            self.take.forget();
            map.next_value_seed(Step { rest, take: self.take })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let split = self.split();
        let place = split.and_then(|(token, _)| index(token));
        let mut at = 0;
        loop {
            if place == Some(at) {
                let rest = split.and_then(|(_, rest)| rest);
                if seq.next_element_seed(Step { rest, take: self.take })?.is_none() {
                    break;
                }
            } else if seq.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
            at += 1;
        }
        if place.is_some_and(|place| place < at) {
            self.take.pass_over(at - 1);
        }
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

/// One level down; `None` if this is the place.
struct Step<'p, 't, T> {
    rest: Option<&'p str>,
    take: &'t mut T,
}

impl<'de, T: Take> DeserializeSeed<'de> for Step<'_, '_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<(), D::Error> {
        match self.rest {
            None => self.take.take(de),
            rest => Seek { rest, take: self.take }.deserialize(de),
        }
    }
}

/// Whether a key equals a pointer's token.
struct Is<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<bool, D::Error> {
        de.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(if self.0.contains('~') {
            self.0.replace("~1", "/").replace("~0", "~") == key
        } else {
            self.0 == key
        })
    }
}

/// The array index in a token, in the notation of RFC 6901.
fn index(token: &str) -> Option<usize> {
    let plain = token == "0" || !token.starts_with(['0', '+']);
    token.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r#"{"a":{"b":[10,{"c":"x"}],"":7,"b/~":"odd"},"d":null,"a2":1,"e":{"a":{"b":1}},"twice":1,"twice":2}"#;

    /// The same as in a document that was built whole.
    #[test]
    fn finds_what_a_whole_document_has_there() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        for pointer in [
            "",
            "/",
            "/a",
            "/a/b",
            "/a/b/0",
            "/a/b/1/c",
            "/a/b/1/c/d",
            "/a/b/01",
            "/a/b/2",
            "/a/b/+1",
            "/a/",
            "/a/b~1~0",
            "/d",
            "/d/x",
            "/e/a/b",
            "/x",
            "a",
            "/twice",
            "/a2/b",
        ] {
            assert_eq!(
                value_at(DOCUMENT, pointer, 1_000).unwrap().as_ref(),
                document.pointer(pointer),
                "{pointer}"
            );
        }
    }

    #[test]
    fn of_a_key_that_stands_twice_the_last_counts() {
        assert_eq!(value_at(r#"{"a":{"b":1},"a":{"c":1}}"#, "/a/b", 100).unwrap(), None);
    }

    #[test]
    fn what_is_larger_than_asked_for_is_not_built() {
        let text = format!(r#"{{"a":[{}0],"b":1}}"#, r#"{"":0},"#.repeat(10_000));
        assert_eq!(value_at(&text, "/a", 1_000).unwrap(), None);
        assert_eq!(value_at(&text, "/b", 1).unwrap(), Some(Value::from(1)));
    }

    #[test]
    fn the_whole_text_is_checked() {
        assert!(value_at(r#"{"a":1,"b":}"#, "/a", 100).is_err());
        assert!(value_at(r#"{"a":1} x"#, "/a", 100).is_err());
        let deep = format!(r#"{{"a":1,"b":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(value_at(&deep, "/a", 100).unwrap(), Some(Value::from(1)));
    }
}
