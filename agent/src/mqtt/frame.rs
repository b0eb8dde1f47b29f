//! Splits the byte stream into MQTT frames, whatever they contain: an unreadable packet must never block the packets
//! behind it.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

/// Bytes kept of an oversized packet.
pub(crate) const HEAD_BYTES: usize = 4096;

/// Longest fixed header: one byte of type and flags, four of length.
const FIXED_HEADER_MAX: usize = 5;

/// Control packet type of PUBLISH.
pub(crate) const PUBLISH: u8 = 3;

/// One frame inside a chunk that holds it completely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Packet type and flags.
    pub(crate) first: u8,
    /// The frame with its fixed header, as a range of the chunk.
    pub(crate) whole: Range<usize>,
    /// The frame without its fixed header, as a range of the chunk.
    pub(crate) body: Range<usize>,
}

impl Frame {
    /// Control packet type, the upper half of the first byte.
    pub(crate) fn packet_type(&self) -> u8 {
        self.first >> 4
    }
}

/// The result of [`Cutter::cut`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// One or more complete frames and nothing else; iterate with [`frames`].
    Frames(Bytes),
    /// The beginning of a PUBLISH that exceeds the limit; the rest of it is discarded on arrival.
    Oversized {
        /// The frame's first bytes: fixed header, topic, packet identifier and up to [`HEAD_BYTES`] more.
        head: Bytes,
        /// Where `head` continues after its fixed header.
        frame: Frame,
        /// Size of the whole packet.
        size: u64,
    },
    /// No complete frame: at least this many bytes are missing.
    Missing(usize),
}

/// Splits a stream into frames. Holds no bytes, only the number still to be discarded.
#[derive(Debug)]
pub(crate) struct Cutter {
    frame_bytes_max: usize,
    discard: usize,
}

impl Cutter {
    pub(crate) fn new(packet_bytes_max: u32) -> Cutter {
        let frame_bytes_max =
            usize::try_from(packet_bytes_max).unwrap_or(usize::MAX).saturating_add(FIXED_HEADER_MAX);
        Cutter { frame_bytes_max, discard: 0 }
    }

    /// Takes what it can from the front of `buffer`; call it until it returns [`Cut::Missing`].
    pub(crate) fn cut(&mut self, buffer: &mut BytesMut) -> Result<Cut, FrameError> {
        self.throw_away(buffer);
        let mut complete = 0;
        loop {
            let header = match Header::read(&buffer[complete..]) {
                Ok(Some(header)) => header,
                // Frames before the broken byte are valid and are taken first.
                Err(error) if complete == 0 => return Err(error),
                Ok(None) | Err(_) => break,
            };
            if header.frame_len > self.frame_bytes_max {
                if complete > 0 {
                    break;
                }
                return self.oversized(buffer, header);
            }
            if header.frame_len > buffer.len() - complete {
                if complete > 0 {
                    break;
                }
                return Ok(Cut::Missing(header.frame_len - buffer.len()));
            }
            complete += header.frame_len;
        }
        match complete {
            0 => Ok(Cut::Missing(1)),
            // One reference count for the whole read; messages are slices of it.
            _ => Ok(Cut::Frames(buffer.split_to(complete).freeze())),
        }
    }

    fn throw_away(&mut self, buffer: &mut BytesMut) {
        let now = self.discard.min(buffer.len());
        buffer.advance(now);
        self.discard -= now;
    }

    fn oversized(&mut self, buffer: &mut BytesMut, header: Header) -> Result<Cut, FrameError> {
        if header.first >> 4 != PUBLISH {
            return Err(FrameError::ControlPacketTooLarge {
                packet_type: header.first >> 4,
                size: header.frame_len,
            });
        }
        let topic_at = header.header_len + 2;
        let Some(length) = buffer.get(header.header_len..topic_at) else {
            return Ok(Cut::Missing(topic_at - buffer.len()));
        };
        let topic_len = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let head_len = (topic_at + topic_len + 2 + HEAD_BYTES).min(header.frame_len);
        if buffer.len() < head_len {
            return Ok(Cut::Missing(head_len - buffer.len()));
        }
        self.discard = header.frame_len - head_len;
        Ok(Cut::Oversized {
            head: buffer.split_to(head_len).freeze(),
            frame: Frame { first: header.first, whole: 0..head_len, body: header.header_len..head_len },
            size: header.frame_len as u64,
        })
    }
}

/// Maximum CONNACK size.
const FIRST_FRAME_BYTES_MAX: usize = 65_536;

/// Takes exactly one complete frame off the front of `buffer`; the handshake reads no further.
pub(crate) fn one_frame(buffer: &mut BytesMut) -> Result<Option<(Bytes, Frame)>, FrameError> {
    let Some(header) = Header::read(buffer)? else { return Ok(None) };
    if header.frame_len > FIRST_FRAME_BYTES_MAX {
        return Err(FrameError::ControlPacketTooLarge {
            packet_type: header.first >> 4,
            size: header.frame_len,
        });
    }
    if header.frame_len > buffer.len() {
        return Ok(None);
    }
    let frame =
        Frame { first: header.first, whole: 0..header.frame_len, body: header.header_len..header.frame_len };
    Ok(Some((buffer.split_to(header.frame_len).freeze(), frame)))
}

/// The frames of a [`Cut::Frames`] chunk, in order.
pub(crate) fn frames(chunk: &Bytes) -> impl Iterator<Item = Frame> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let header = Header::read(&chunk[at..]).ok().flatten()?;
        let whole = at..at + header.frame_len;
        let frame = Frame { first: header.first, body: at + header.header_len..whole.end, whole };
        at = frame.whole.end;
        (at <= chunk.len()).then_some(frame)
    })
}

#[derive(Clone, Copy)]
struct Header {
    first: u8,
    header_len: usize,
    frame_len: usize,
}

impl Header {
    /// The fixed header at the start of `bytes`; `None` while it is incomplete.
    fn read(bytes: &[u8]) -> Result<Option<Header>, FrameError> {
        let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
        match variable_int(rest) {
            VariableInt::Value { value, len } => {
                Ok(Some(Header { first, header_len: 1 + len, frame_len: 1 + len + value }))
            }
            VariableInt::Incomplete => Ok(None),
            VariableInt::TooLong => Err(FrameError::RemainingLength),
        }
    }
}

/// An MQTT variable byte integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VariableInt {
    /// The number and how many bytes it takes.
    Value { value: usize, len: usize },
    /// The bytes end before the number does.
    Incomplete,
    /// More than four bytes.
    TooLong,
}

/// Reads the variable byte integer at the start of `bytes`.
pub(crate) fn variable_int(bytes: &[u8]) -> VariableInt {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return VariableInt::Value { value, len: index + 1 };
        }
    }
    if bytes.len() >= 4 { VariableInt::TooLong } else { VariableInt::Incomplete }
}

/// The stream is not valid MQTT, so there is no next frame.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum FrameError {
    #[error(
        "a packet's length field has more than four bytes; the server at this address does not speak MQTT"
    )]
    RemainingLength,
    #[error("a control packet of type {packet_type} announces {size} bytes, more than `packet_bytes_max`")]
    ControlPacketTooLarge { packet_type: u8, size: usize },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(first: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        let mut rest = body.len();
        loop {
            let more = if rest >= 128 { 0x80 } else { 0 };
            bytes.push(u8::try_from(rest % 128).unwrap() | more);
            rest /= 128;
            if rest == 0 {
                break;
            }
        }
        bytes.extend_from_slice(body);
        bytes
    }

    /// Whole frames as bytes; oversized ones as (head, size).
    type Fed = (Vec<Vec<u8>>, Vec<(Vec<u8>, u64)>);

    /// Feeds `stream` in pieces and returns every frame.
    fn feed(stream: &[u8], cuts: &[usize], limit: u32) -> Fed {
        let (mut whole, mut oversized) = (Vec::new(), Vec::new());
        let mut cutter = Cutter::new(limit);
        let mut buffer = BytesMut::new();
        let mut rest = stream;
        let mut sizes = cuts.iter().copied().cycle();
        while !rest.is_empty() {
            let take = sizes.next().unwrap_or(1).clamp(1, rest.len());
            buffer.extend_from_slice(&rest[..take]);
            rest = &rest[take..];
            loop {
                match cutter.cut(&mut buffer).unwrap() {
                    Cut::Frames(chunk) => {
                        whole.extend(frames(&chunk).map(|frame| chunk[frame.whole].to_vec()));
                    }
                    Cut::Oversized { head, size, .. } => oversized.push((head.to_vec(), size)),
                    Cut::Missing(missing) => {
                        assert!(missing > 0);
                        break;
                    }
                }
            }
        }
        assert!(buffer.is_empty(), "bytes left over: {}", buffer.len());
        (whole, oversized)
    }

    #[test]
    fn a_frame_at_the_limit_is_kept_and_the_next_byte_is_too_much() {
        let kept = frame(0x30, &vec![0; 1024 + FIXED_HEADER_MAX - 3]);
        let large = frame(0x30, &vec![0; 1024 + FIXED_HEADER_MAX - 2]);
        assert_eq!(feed(&kept, &[7], 1024), (vec![kept.clone()], vec![]));
        let (whole, oversized) = feed(&large, &[7], 1024);
        assert_eq!((whole.len(), oversized[0].1), (0, large.len() as u64));
    }

    #[test]
    fn an_oversized_packet_is_discarded_and_the_session_goes_on() {
        let mut body = vec![0, 3, b'a', b'/', b'b', 0, 9];
        body.resize(3_000_000, 7);
        let large = frame(0x32, &body);
        let stream = [frame(0xd0, &[]), large.clone(), frame(0xd0, &[])].concat();
        let (whole, oversized) = feed(&stream, &[65_536], 1024);
        assert_eq!(whole, vec![frame(0xd0, &[]), frame(0xd0, &[])]);
        assert_eq!(oversized[0].1, large.len() as u64);
        assert_eq!(oversized[0].0.len(), 5 + 5 + 2 + HEAD_BYTES);
    }

    #[test]
    fn a_length_of_five_bytes_and_a_giant_control_packet_end_the_stream() {
        let mut buffer = BytesMut::from(&[0x30, 0xff, 0xff, 0xff, 0xff, 1][..]);
        assert_eq!(Cutter::new(1024).cut(&mut buffer), Err(FrameError::RemainingLength));
        let mut buffer = BytesMut::from(&[0x90, 0xff, 0xff, 0x7f][..]);
        assert!(matches!(
            Cutter::new(1024).cut(&mut buffer),
            Err(FrameError::ControlPacketTooLarge { packet_type: 9, .. })
        ));
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut(
            bodies in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..300)), 0..20),
            cuts in prop::collection::vec(1usize..200, 1..10),
        ) {
            let sent: Vec<_> = bodies.iter().map(|(first, body)| frame(*first, body)).collect();
            let (whole, oversized) = feed(&sent.concat(), &cuts, 1024);
            prop_assert_eq!(whole, sent);
            prop_assert!(oversized.is_empty());
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_never_stall(
            bytes in prop::collection::vec(any::<u8>(), 0..20_000),
            cut in 1usize..5000,
        ) {
            let mut cutter = Cutter::new(1024);
            let mut buffer = BytesMut::new();
            'stream: for piece in bytes.chunks(cut) {
                buffer.extend_from_slice(piece);
                loop {
                    match cutter.cut(&mut buffer) {
                        Ok(Cut::Missing(_)) => break,
                        Ok(Cut::Frames(chunk)) => {
                            let total: usize = frames(&chunk).map(|frame| frame.whole.len()).sum();
                            prop_assert_eq!(total, chunk.len());
                        }
                        Ok(Cut::Oversized { .. }) => {}
                        Err(_) => break 'stream,
                    }
                }
                // Incomplete input is never more than one packet within the limit.
                prop_assert!(buffer.len() <= 1024 + FIXED_HEADER_MAX + HEAD_BYTES + 65_535 + 4);
            }
        }
    }
}
