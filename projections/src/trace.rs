//! The trace context of whoever asks for something: the `traceparent` of W3C Trace Context, carried and not changed.
//!
//! <https://www.w3.org/TR/trace-context/#traceparent-header>

use std::fmt;

use serde::{Deserialize, Serialize};

/// The name of the field that carries it, in HTTP, MQTT 5, NATS, CloudEvents and JSON.
pub const NAME: &str = "traceparent";

/// Length of the text of version 00, in bytes.
const TEXT_BYTES: usize = 55;
/// The only flag that a later version of the text is sure to have, too: the caller may have recorded the trace.
const SAMPLED: u8 = 1;

/// Which trace something belongs to, and which step of it has asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TraceParent {
    /// The trace, not all zero.
    trace: [u8; 16],
    /// The step that asked, not all zero.
    parent: [u8; 8],
    /// What the caller says of the trace.
    flags: u8,
}

impl TraceParent {
    /// Reads the text; `None` if it is not valid, and then there is no trace context. Of a later version, what version 00 has
    /// of it is read.
    pub fn parse(text: &str) -> Option<TraceParent> {
        let bytes = text.trim_matches([' ', '\t']).as_bytes();
        let (head, rest) = bytes.split_at_checked(TEXT_BYTES)?;
        let [version] = base16(&head[..2])?;
        let is_known = version == 0;
        if version == 0xff || is_known && !rest.is_empty() || !rest.is_empty() && rest[0] != b'-' {
            return None;
        }
        if [head[2], head[35], head[52]] != [b'-'; 3] {
            return None;
        }
        let (trace, parent, [flags]) = (base16(&head[3..35])?, base16(&head[36..52])?, base16(&head[53..])?);
        let flags = if is_known { flags } else { flags & SAMPLED };
        (trace != [0; 16] && parent != [0; 8]).then_some(TraceParent { trace, parent, flags })
    }

    /// The same of all fields of that name that were given: more than one says nothing.
    pub fn only<'a>(mut given: impl Iterator<Item = &'a [u8]>) -> Option<TraceParent> {
        let text = given.next().filter(|_| given.next().is_none())?;
        TraceParent::parse(str::from_utf8(text).ok()?)
    }
}

/// As it is written: version 00, in lower case.
impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TraceParent { trace, parent, flags } = self;
        let (trace, parent) = (u128::from_be_bytes(*trace), u64::from_be_bytes(*parent));
        write!(f, "00-{trace:032x}-{parent:016x}-{flags:02x}")
    }
}

/// Bytes from as many pairs of lower-case digits.
fn base16<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    for (out, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *out = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn read(text: &str) -> Option<String> {
        TraceParent::parse(text).map(|parent| parent.to_string())
    }

    #[test]
    fn what_is_valid_is_written_as_it_was_read() {
        for text in
            [GOOD, "00-00000000000000000000000000000001-0000000000000001-00", &GOOD.replace("-01", "-ff")]
        {
            assert_eq!(read(text).as_deref(), Some(text));
        }
        assert_eq!(read(&format!(" {GOOD}\t")).as_deref(), Some(GOOD));
    }

    #[test]
    fn what_is_not_valid_is_none() {
        let cut = &GOOD[..54];
        for text in [
            "",
            cut,
            &format!("{GOOD}0"),
            &format!("{GOOD}-00"),
            &GOOD.to_uppercase(),
            &GOOD.replacen("00-", "ff-", 1),
            &GOOD.replacen("00-", "0x-", 1),
            &GOOD.replace("-01", "-0g"),
            &GOOD.replace('-', "_"),
            &GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &format!("{cut}é"),
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = GOOD.replacen("00-", "cc-", 1);
        assert_eq!(read(&later).as_deref(), Some(GOOD));
        assert_eq!(read(&format!("{}-what-is-new", later.replace("-01", "-ff"))).as_deref(), Some(GOOD));
        assert_eq!(read(&format!("{later}.what-is-new")), None);
    }

    #[test]
    fn a_field_that_comes_twice_says_nothing() {
        let of = |given: &[&[u8]]| TraceParent::only(given.iter().copied());
        assert_eq!(of(&[GOOD.as_bytes()]), TraceParent::parse(GOOD));
        assert_eq!(of(&[GOOD.as_bytes(), GOOD.as_bytes()]), None);
        assert_eq!((of(&[]), of(&[b"\xff"])), (None, None));
    }
}
