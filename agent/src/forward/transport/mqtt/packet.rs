//! Writes PUBLISH, reads PUBACK.

use bytes::{BufMut, Bytes, BytesMut};

use crate::command::remote::Answer;
use crate::config::Protocol;
use crate::forward::envelope::{self, Payload};
use crate::forward::{Outcome, Parcel, SLOW};
use crate::mqtt::failure::reason;
use crate::mqtt::handshake::detail_of;

/// QoS 1, no DUP: a parcel is sent once per connection, and a clean session has no earlier ones.
const PUBLISH_QOS1: u8 = 0x32;

/// Maximum remaining length in MQTT.
const REMAINING_MAX: usize = 268_435_455;

const PAYLOAD_FORMAT: u8 = 0x01;
const CONTENT_TYPE: u8 = 0x03;
const CORRELATION_DATA: u8 = 0x09;
const USER_PROPERTY: u8 = 0x26;

/// Appends `parcel` as a PUBLISH; if it would be larger than `bytes_max`, appends nothing and returns its size.
pub(super) fn publish(
    out: &mut BytesMut,
    protocol: Protocol,
    topic: &str,
    pkid: u16,
    parcel: &Parcel,
    bytes_max: usize,
) -> Result<(), usize> {
    let properties = match protocol {
        Protocol::V4 => BytesMut::new(),
        Protocol::V5 => properties(parcel),
    };
    let body = match protocol {
        Protocol::V4 => Payload::with_manifest(parcel),
        Protocol::V5 => Payload::plain(parcel),
    };
    let remaining = 2 + topic.len() + 2 + properties.len() + body.len();
    let size = 1 + variable_int_len(remaining) + remaining;
    if size > bytes_max || remaining > REMAINING_MAX {
        return Err(size);
    }
    out.reserve(size);
    out.put_u8(PUBLISH_QOS1);
    put_variable_int(out, remaining);
    put_text(out, topic);
    out.put_u16(pkid);
    out.extend_from_slice(&properties);
    body.put(out);
    Ok(())
}

/// Appends the answer to a command as a PUBLISH of MQTT 5; if it would be larger than `bytes_max`, appends nothing and
/// returns its size.
pub(super) fn answer(out: &mut BytesMut, pkid: u16, answer: &Answer, bytes_max: usize) -> Result<(), usize> {
    let mut inner = BytesMut::new();
    // The payload is UTF-8.
    inner.extend_from_slice(&[PAYLOAD_FORMAT, 1, CONTENT_TYPE]);
    put_text(&mut inner, "application/json");
    if let Some(correlation) = &answer.to.correlation {
        inner.put_u8(CORRELATION_DATA);
        // It came with such a length field.
        inner.put_u16(u16::try_from(correlation.len()).unwrap_or(u16::MAX));
        inner.extend_from_slice(correlation);
    }
    let topic = &answer.to.topic;
    let properties = variable_int_len(inner.len()) + inner.len();
    let remaining = 2 + topic.len() + 2 + properties + answer.body.len();
    let size = 1 + variable_int_len(remaining) + remaining;
    if size > bytes_max || remaining > REMAINING_MAX {
        return Err(size);
    }
    out.put_u8(PUBLISH_QOS1);
    put_variable_int(out, remaining);
    put_text(out, topic);
    out.put_u16(pkid);
    put_variable_int(out, inner.len());
    out.extend_from_slice(&inner);
    out.extend_from_slice(&answer.body);
    Ok(())
}

/// The properties of a parcel, with their length.
fn properties(parcel: &Parcel) -> BytesMut {
    let mut inner = BytesMut::with_capacity(512);
    inner.put_u8(CONTENT_TYPE);
    put_text(&mut inner, envelope::content_type(parcel));
    for (name, value) in parcel.manifest.fields() {
        inner.put_u8(USER_PROPERTY);
        put_text(&mut inner, &format!("fieldlog-{name}"));
        put_text(&mut inner, &value);
    }
    let mut out = BytesMut::with_capacity(inner.len() + 2);
    put_variable_int(&mut out, inner.len());
    out.extend_from_slice(&inner);
    out
}

/// Texts are far shorter than their length field allows, by the configuration and the form of a manifest.
fn put_text(out: &mut BytesMut, text: &str) {
    let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.put_u16(len);
    out.extend_from_slice(&text.as_bytes()[..usize::from(len)]);
}

fn variable_int_len(value: usize) -> usize {
    match value {
        0..128 => 1,
        128..16_384 => 2,
        16_384..2_097_152 => 3,
        _ => 4,
    }
}

fn put_variable_int(out: &mut BytesMut, mut value: usize) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        out.put_u8(if value > 0 { low | 0x80 } else { low });
        if value == 0 {
            return;
        }
    }
}

/// The outcome for a PUBACK's reason code; `frame` is the whole packet, with the broker's reason string if any.
pub(super) fn outcome(code: u8, frame: &Bytes, topic: &str, address: &str) -> Outcome {
    if code < 0x80 {
        return Outcome::Acked;
    }
    let detail = detail_of(frame);
    let why = format!("{address} refuses a message on `{topic}`: {}{detail}", reason(code));
    match code {
        // Payload format invalid: the only code that concerns the content of the parcel.
        0x99 => Outcome::Refused { why },
        0x95 => Outcome::TooLarge { why },
        // Not authorized, topic name invalid: the next parcel would get the same answer.
        0x87 | 0x90 => Outcome::Busy { after: Some(SLOW), why },
        _ => Outcome::Busy { after: None, why },
    }
}

#[cfg(test)]
mod tests {
    use rumqttc::mqttbytes::v4;
    use rumqttc::v5::mqttbytes::v5;

    use super::*;
    use crate::forward::envelope::tests::parcel;

    #[test]
    fn mqtt_5_has_the_manifest_in_its_properties() {
        // Lengths around each step in size of the length field.
        for events in [1, 2, 200, 30_000] {
            let parcel = parcel(1, events);
            let mut out = BytesMut::new();
            publish(&mut out, Protocol::V5, "a/b", 7, &parcel, usize::MAX).unwrap();
            let size = out.len();
            assert_eq!(publish(&mut BytesMut::new(), Protocol::V5, "a/b", 7, &parcel, size), Ok(()));
            let mut none = BytesMut::new();
            assert_eq!(publish(&mut none, Protocol::V5, "a/b", 7, &parcel, size - 1), Err(size));
            assert!(none.is_empty());

            let Ok(v5::Packet::Publish(read)) = v5::Packet::read(&mut out, None) else { panic!() };
            assert_eq!((&read.topic[..], read.pkid, read.dup), (&b"a/b"[..], 7, false));
            assert_eq!(read.payload, Payload::plain(&parcel).to_bytes());
            let said = read.properties.unwrap();
            assert_eq!(said.content_type.as_deref(), Some("application/cloudevents-batch+json"));
            assert_eq!(said.user_properties.len(), 9);
            let find = |name: &str| {
                let name = format!("fieldlog-{name}");
                said.user_properties.iter().find(|(key, _)| *key == name).map(|(_, value)| &value[..])
            };
            assert_eq!(fieldlog_wire::Manifest::read(find).ok(), Some(parcel.manifest.clone()));
        }
    }

    #[test]
    fn mqtt_3_1_1_has_it_in_the_payload() {
        let parcel = parcel(1, 3);
        let mut out = BytesMut::new();
        publish(&mut out, Protocol::V4, "a/b", 7, &parcel, usize::MAX).unwrap();
        let Ok(v4::Packet::Publish(read)) = v4::Packet::read(&mut out, 100_000) else { panic!() };
        assert_eq!(read.payload, Payload::with_manifest(&parcel).to_bytes());
    }

    #[test]
    fn reason_codes_say_what_becomes_of_the_parcel() {
        let said = |code: u8| outcome(code, &Bytes::from(vec![0x40, 3, 0, 1, code]), "t", "host:1883");
        assert_eq!((said(0), said(0x10)), (Outcome::Acked, Outcome::Acked));
        assert!(matches!(said(0x97), Outcome::Busy { after: None, .. }));
        assert!(matches!(said(0x83), Outcome::Busy { after: None, .. }));
        assert!(matches!(said(0x90), Outcome::Busy { after: Some(SLOW), .. }));
        assert!(matches!(said(0x99), Outcome::Refused { .. }));
        let Outcome::Busy { after: Some(SLOW), why } = said(0x87) else { panic!() };
        assert_eq!(why, "host:1883 refuses a message on `t`: not authorized (see the broker's access rules)");
    }
}
