//! Packets from clients, in a form common to both protocol versions, and their decoding.

pub(crate) mod encode;
mod v311;
mod v5;

use bytes::{Buf, BytesMut};
use rumqttc::v5::mqttbytes::v5::{DisconnectReasonCode as Reason, check};
use rumqttc::v5::mqttbytes::{Error as CodecError, v5::RetainForwardRule};

use crate::broker::message::{Message, Qos, Will};

/// The protocol a connection speaks, from the level in its CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V311,
    V5,
}

/// CONNECT.
#[derive(Debug)]
pub(crate) struct Connect {
    pub(crate) version: Version,
    pub(crate) client_id: String,
    pub(crate) clean_start: bool,
    pub(crate) keep_alive_s: u16,
    /// How long the session outlives the connection; `u32::MAX`: for ever.
    pub(crate) session_expiry_s: u32,
    pub(crate) receive_max: u16,
    pub(crate) packet_bytes_max: u32,
    pub(crate) will: Option<Will>,
    pub(crate) username: String,
    pub(crate) password: String,
}

/// One filter of a SUBSCRIBE.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) path: String,
    pub(crate) qos: Qos,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
    pub(crate) retain_handling: RetainForwardRule,
    /// Subscription identifier of the whole SUBSCRIBE.
    pub(crate) id: Option<usize>,
}

/// Every packet a client may send after CONNECT.
#[derive(Debug)]
pub(crate) enum Packet {
    Publish { message: Message, pkid: u16 },
    PubAck { pkid: u16 },
    Subscribe { pkid: u16, filters: Vec<Filter> },
    Unsubscribe { pkid: u16, filters: Vec<String> },
    PingReq,
    Disconnect { publish_will: bool, session_expiry_s: Option<u32> },
}

/// Takes the next complete frame off `stream`.
fn frame(stream: &mut BytesMut, bytes_max: u32) -> Result<Option<BytesMut>, Violation> {
    match check(stream.iter(), Some(bytes_max)) {
        Ok(header) => Ok(Some(stream.split_to(header.frame_length()))),
        Err(CodecError::InsufficientBytes(_)) => Ok(None),
        Err(error @ CodecError::PayloadSizeLimitExceeded { .. }) => {
            Err(Violation::new(Reason::PacketTooLarge, error))
        }
        Err(error) => Err(Violation::malformed(error)),
    }
}

/// Takes a CONNECT off `stream`; `None` while it is incomplete.
pub(crate) fn decode_connect(stream: &mut BytesMut, bytes_max: u32) -> Result<Option<Connect>, ConnectError> {
    // Do not wait for a client that does not speak MQTT: its first bytes may announce a frame that never comes.
    if stream.first().is_some_and(|byte| byte >> 4 != 1) {
        return Err(ConnectError::NotMqtt);
    }
    let Some(frame) = frame(stream, bytes_max).map_err(|_| ConnectError::NotMqtt)? else {
        return Ok(None);
    };
    match protocol_level(&frame) {
        Some(4) => v311::connect(frame).map(Some),
        Some(5) => v5::connect(frame).map(Some),
        Some(_) => Err(ConnectError::Refused { version: Version::V311, code: 1 }),
        None => Err(ConnectError::NotMqtt),
    }
}

fn protocol_level(frame: &[u8]) -> Option<u8> {
    let length_bytes = frame.get(1..)?.iter().position(|byte| byte & 0x80 == 0)? + 1;
    let mut body = frame.get(1 + length_bytes..)?;
    let name_bytes = usize::from(body.try_get_u16().ok()?);
    body.get(name_bytes).copied()
}

/// Takes the next packet off `stream`; `None` while it is incomplete.
pub(crate) fn decode(
    version: Version,
    stream: &mut BytesMut,
    bytes_max: u32,
) -> Result<Option<Packet>, Violation> {
    let Some(frame) = frame(stream, bytes_max)? else {
        return Ok(None);
    };
    match version {
        Version::V311 => v311::packet(frame).map(Some),
        Version::V5 => v5::packet(frame).map(Some),
    }
}

/// A protocol violation by a client.
#[derive(Debug, thiserror::Error)]
#[error("{what} (reason {:#04x})", *reason as u8)]
pub(crate) struct Violation {
    pub(crate) reason: Reason,
    what: Box<dyn std::error::Error + Send + Sync>,
}

impl Violation {
    pub(crate) fn new(
        reason: Reason,
        what: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Violation {
        Violation { reason, what: what.into() }
    }

    fn malformed(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Violation {
        Violation::new(Reason::MalformedPacket, what)
    }
}

/// Why a CONNECT is rejected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConnectError {
    /// No answer is sent.
    #[error("the first packet is not a CONNECT")]
    NotMqtt,
    #[error("CONNECT refused with code {code:#04x}")]
    Refused { version: Version, code: u8 },
}

#[cfg(test)]
mod tests {
    use super::*;

    const V5_CONNECT: &[u8] = b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01a";
    const V311_CONNECT: &[u8] = b"\x10\x0d\x00\x04MQTT\x04\x00\x00\x3c\x00\x01a";

    fn connect(bytes: &[u8]) -> Result<Option<Connect>, ConnectError> {
        decode_connect(&mut BytesMut::from(bytes), 1000)
    }

    fn reason(version: Version, bytes: &[u8]) -> Reason {
        decode(version, &mut BytesMut::from(bytes), 100).unwrap_err().reason
    }

    #[test]
    fn the_level_in_connect_chooses_the_protocol() {
        let five = connect(V5_CONNECT).unwrap().unwrap();
        assert_eq!((five.version, five.clean_start, five.session_expiry_s), (Version::V5, true, 0));
        let four = connect(V311_CONNECT).unwrap().unwrap();
        assert_eq!((four.version, four.clean_start, four.session_expiry_s), (Version::V311, false, u32::MAX));
        assert_eq!((four.client_id.as_str(), four.keep_alive_s), ("a", 60));
    }

    #[test]
    fn an_incomplete_connect_is_waited_for_and_anything_else_is_not() {
        for cut in 0..V5_CONNECT.len() {
            assert!(connect(&V5_CONNECT[..cut]).unwrap().is_none(), "{cut}");
        }
        for bytes in
            [&b"GET / HTTP/1.1"[..], b"\xc0\x00", b"\x10\x00", b"\x10\x02\x00\x04", b"\x10\xff\xff\xff\xff"]
        {
            assert_eq!(connect(bytes).unwrap_err(), ConnectError::NotMqtt, "{bytes:?}");
        }
        let unknown = b"\x10\x0d\x00\x04MQTT\x06\x00\x00\x3c\x00\x01a";
        assert_eq!(connect(unknown).unwrap_err(), ConnectError::Refused { version: Version::V311, code: 1 });
    }

    #[test]
    fn a_client_that_needs_a_session_must_name_itself() {
        let nameless = b"\x10\x0c\x00\x04MQTT\x04\x00\x00\x3c\x00\x00";
        assert_eq!(connect(nameless).unwrap_err(), ConnectError::Refused { version: Version::V311, code: 2 });
    }

    #[test]
    fn all_lengths_of_disconnect_are_understood() {
        let cases: [(&[u8], bool, Option<u32>); 4] = [
            (b"\xe0\x00", false, None),
            (b"\xe0\x01\x04", true, None),
            (b"\xe0\x02\x04\x00", true, None),
            (b"\xe0\x07\x00\x05\x11\x00\x00\x00\x07", false, Some(7)),
        ];
        for (bytes, will, expiry) in cases {
            match decode(Version::V5, &mut BytesMut::from(bytes), 100) {
                Ok(Some(Packet::Disconnect { publish_will, session_expiry_s })) => {
                    assert_eq!((publish_will, session_expiry_s), (will, expiry), "{bytes:?}");
                }
                other => panic!("{bytes:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn violations_carry_the_reason_of_the_standard() {
        assert_eq!(reason(Version::V5, b"\x34\x06\x00\x01a\x00\x01\x00"), Reason::QoSNotSupported);
        assert_eq!(reason(Version::V5, b"\x30\x04\x00\x01#\x00"), Reason::TopicNameInvalid);
        assert_eq!(reason(Version::V5, b"\x30\x04\x00\x01\xff\x00"), Reason::MalformedPacket);
        assert_eq!(reason(Version::V5, b"\x30\x07\x00\x01a\x03\x23\x00\x01"), Reason::TopicAliasInvalid);
        assert_eq!(reason(Version::V5, b"\x30\x7f"), Reason::PacketTooLarge);
        assert_eq!(reason(Version::V5, b"\x40\x01\x00"), Reason::MalformedPacket);
        assert_eq!(reason(Version::V5, V5_CONNECT), Reason::ProtocolError);
        assert_eq!(reason(Version::V311, b"\x34\x05\x00\x01a\x00\x01"), Reason::QoSNotSupported);
        assert_eq!(reason(Version::V311, b"\xf0\x00"), Reason::MalformedPacket);
    }

    /// The codecs index without checks of their own; bytes from a client must never make them panic.
    #[test]
    fn no_frame_panics() {
        let mut random =
            crate::broker::fault::PacketIdCursor::new(crate::broker::fault::PacketIds::Random { seed: 1 });
        let mut byte = || random.take(|_| false).map_or(0, |id| id.to_be_bytes()[1]);
        for _ in 0..100_000 {
            let length = byte() % 24;
            let mut bytes = vec![byte(), length];
            // Small numbers make lengths that nearly fit, which is where mistakes are.
            bytes.extend((0..length).map(|_| if byte() < 192 { byte() % 8 } else { byte() }));
            for version in [Version::V311, Version::V5] {
                let _ = decode(version, &mut BytesMut::from(&bytes[..]), 100);
            }
            let mut hello = V5_CONNECT[..8].to_vec();
            hello[1] = 8 + length;
            hello.push(4 + byte() % 2);
            hello.push(byte());
            hello.extend(&bytes[2..]);
            let _ = connect(&hello);
        }
    }
}
