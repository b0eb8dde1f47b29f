//! Parses a PUBLISH directly from its frame, without copying: the hot path.

use bytes::Bytes;
use fieldlog_projections::trace;

use crate::config::Protocol;
use crate::message::{Message, WireFault};
use crate::mqtt::frame::{Frame, HEAD_BYTES, VariableInt, variable_int};

/// The result of parsing a PUBLISH frame.
#[derive(Debug)]
pub(crate) enum Publish {
    /// A message for the writer; with a [`WireFault`] if it could not be accepted.
    Message(Message),
    /// It has neither a readable topic nor a packet identifier: nothing to acknowledge, nothing to record.
    Unreadable(&'static str),
    /// The broker uses a feature that was not negotiated: the connection must end.
    Violation(Violation),
}

/// See [`Publish::Violation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// QoS 2, although every subscription asks for 1 at most.
    Qos2,
    /// A topic alias, although CONNECT does not allow them.
    TopicAlias,
}

/// Parses the PUBLISH `frame` of `chunk`. `size` is set when the frame is only the beginning of an oversized packet.
pub(crate) fn read(chunk: &Bytes, frame: &Frame, protocol: Protocol, size: Option<u64>) -> Publish {
    let qos = (frame.first >> 1) & 0b11;
    if qos == 2 {
        return Publish::Violation(Violation::Qos2);
    }
    if qos == 3 {
        return Publish::Unreadable("QoS 3 does not exist");
    }
    let body = &chunk[frame.body.clone()];
    let Some(topic_end) = topic_end(body) else {
        return Publish::Unreadable("topic runs past the end of the packet");
    };
    let mut at = topic_end;
    let mut pkid = None;
    if qos == 1 {
        let Some(&[high, low]) = body.get(at..at + 2) else {
            return Publish::Unreadable("packet identifier is missing");
        };
        pkid = Some(u16::from_be_bytes([high, low]));
        at += 2;
    }
    let mut fault = fault_of(topic_end, pkid);
    if protocol == Protocol::V5 && fault.is_none() {
        match properties(&body[at..]) {
            Properties::Skip(len) => at += len,
            Properties::TopicAlias => return Publish::Violation(Violation::TopicAlias),
            // The head of an oversized packet may end in the middle of its properties.
            Properties::Malformed(_) if size.is_some() => at = body.len(),
            Properties::Malformed(reason) => fault = Some(WireFault::Malformed(reason)),
        }
    }
    if let Some(size) = size {
        fault = Some(WireFault::TooLarge { size });
    }
    let start = frame.body.start;
    let payload = match fault {
        None => chunk.slice(start + at..frame.body.end),
        Some(WireFault::TooLarge { .. }) => {
            chunk.slice(start + at..frame.body.end.min(start + at + HEAD_BYTES))
        }
        Some(WireFault::Malformed(_)) => {
            chunk.slice(frame.whole.start..frame.whole.end.min(frame.whole.start + HEAD_BYTES))
        }
    };
    Publish::Message(Message {
        topic: chunk.slice(start + 2..start + topic_end),
        payload,
        retain: frame.first & 0b0001 != 0,
        dup: frame.first & 0b1000 != 0,
        pkid: pkid.filter(|&pkid| pkid != 0),
        fault,
    })
}

fn topic_end(body: &[u8]) -> Option<usize> {
    let &[high, low] = body.get(..2)? else { return None };
    let end = 2 + usize::from(u16::from_be_bytes([high, low]));
    (end <= body.len()).then_some(end)
}

fn fault_of(topic_end: usize, pkid: Option<u16>) -> Option<WireFault> {
    if pkid == Some(0) {
        return Some(WireFault::Malformed("packet identifier is 0"));
    }
    // With a topic alias an empty topic is legal in MQTT 5. The alias property detects that case, and may only occur if
    // CONNECT allowed it.
    (topic_end == 2).then_some(WireFault::Malformed("topic is empty"))
}

/// What an MQTT 5 request says of itself beside its topic and payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    /// What is left of its time, in seconds.
    pub(crate) expiry_s: Option<u32>,
    /// Where an answer is wanted; not yet known to be the name of a topic.
    pub(crate) response_topic: Option<Bytes>,
    /// To be returned with the answer.
    pub(crate) correlation: Option<Bytes>,
    /// Every trace context that it has; not yet known to be valid.
    pub(crate) traceparents: Vec<Bytes>,
}

/// Parses these properties of the PUBLISH `frame` of `chunk`, as far as they are there. It must be one that [`read`] has
/// accepted, or the beginning of one.
pub(crate) fn request(chunk: &Bytes, frame: &Frame) -> Request {
    let mut request = Request::default();
    let body = chunk.slice(frame.body.clone());
    let Some(topic_end) = topic_end(&body) else { return request };
    let start = topic_end + if (frame.first >> 1) & 0b11 == 0 { 0 } else { 2 };
    let VariableInt::Value { value, len } = variable_int(body.get(start..).unwrap_or_default()) else {
        return request;
    };
    let end = (start + len + value).min(body.len());
    let mut at = start + len;
    while let Some(&id) = body[..end].get(at) {
        let begin = at + 1;
        let Some(size) = property_len(id, &body[begin..end]).filter(|size| begin + size <= end) else {
            break;
        };
        at = begin + size;
        match id {
            2 => request.expiry_s = body[begin..at].try_into().ok().map(u32::from_be_bytes),
            8 => request.response_topic = Some(body.slice(begin + 2..at)),
            9 => request.correlation = Some(body.slice(begin + 2..at)),
            38 => request.traceparents.extend(traceparent(&body.slice(begin..at))),
            _ => {}
        }
    }
    request
}

/// The value of a user property, if that is a trace context.
fn traceparent(property: &Bytes) -> Option<Bytes> {
    let name = 2..2 + usize::from(u16::from_be_bytes([*property.first()?, *property.get(1)?]));
    let is_it = property.get(name.clone())?.eq_ignore_ascii_case(trace::NAME.as_bytes());
    is_it.then(|| property.slice((name.end + 2).min(property.len())..))
}

enum Properties {
    /// Valid; skip this many bytes, including their length field.
    Skip(usize),
    TopicAlias,
    Malformed(&'static str),
}

fn properties(bytes: &[u8]) -> Properties {
    // Usually there are no properties.
    if bytes.first() == Some(&0) {
        return Properties::Skip(1);
    }
    let VariableInt::Value { value, len } = variable_int(bytes) else {
        return Properties::Malformed("length of the properties is malformed");
    };
    let Some(mut rest) = bytes.get(len..len + value) else {
        return Properties::Malformed("properties run past the end of the packet");
    };
    while let Some((&id, tail)) = rest.split_first() {
        if id == TOPIC_ALIAS {
            return Properties::TopicAlias;
        }
        let Some(size) = property_len(id, tail) else {
            return Properties::Malformed("a property is malformed");
        };
        let Some(tail) = tail.get(size..) else { return Properties::Malformed("a property is cut off") };
        rest = tail;
    }
    Properties::Skip(len + value)
}

const TOPIC_ALIAS: u8 = 35;

/// Length of the property `id` that starts at `bytes`, for the properties a PUBLISH may carry.
fn property_len(id: u8, bytes: &[u8]) -> Option<usize> {
    let text = |bytes: &[u8]| Some(2 + usize::from(u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?])));
    match id {
        // Payload format indicator; message expiry interval.
        1 => Some(1),
        2 => Some(4),
        // Content type, response topic, correlation data.
        3 | 8 | 9 => text(bytes),
        // Subscription identifier.
        11 => match variable_int(bytes) {
            VariableInt::Value { len, .. } => Some(len),
            _ => None,
        },
        // User property: two strings.
        38 => {
            let key = text(bytes)?;
            Some(key + text(bytes.get(key..)?)?)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::frame::{Cut, Cutter, frames};
    use bytes::BytesMut;
    use proptest::prelude::*;
    use rumqttc::mqttbytes::v4;
    use rumqttc::v5::mqttbytes::v5;

    fn encode_v5(publish: &v5::Publish) -> BytesMut {
        let mut bytes = BytesMut::new();
        v5::Packet::Publish(publish.clone()).write(&mut bytes, None).unwrap();
        bytes
    }

    fn read_one(bytes: &[u8], protocol: Protocol) -> Publish {
        let mut buffer = BytesMut::from(bytes);
        match Cutter::new(1 << 20).cut(&mut buffer).unwrap() {
            Cut::Frames(chunk) => read(&chunk, &frames(&chunk).next().unwrap(), protocol, None),
            other => panic!("{other:?}"),
        }
    }

    fn message(publish: Publish) -> Message {
        match publish {
            Publish::Message(message) => message,
            other => panic!("{other:?}"),
        }
    }

    fn sample(properties: Option<v5::PublishProperties>) -> v5::Publish {
        let mut publish =
            v5::Publish::new("a/b", rumqttc::v5::mqttbytes::QoS::AtLeastOnce, &b"{\"x\":1}"[..], properties);
        publish.pkid = 77;
        publish.retain = true;
        publish.dup = true;
        publish
    }

    #[test]
    fn what_the_codec_writes_is_read() {
        let read = message(read_one(&encode_v5(&sample(None)), Protocol::V5));
        assert_eq!((&read.topic[..], &read.payload[..]), (&b"a/b"[..], &b"{\"x\":1}"[..]));
        assert_eq!((read.retain, read.dup, read.pkid, read.fault), (true, true, Some(77), None));

        let mut bytes = BytesMut::new();
        let publish = v4::Publish::new("t", rumqttc::mqttbytes::QoS::AtMostOnce, "p");
        publish.write(&mut bytes).unwrap();
        let read = message(read_one(&bytes, Protocol::V4));
        assert_eq!((&read.topic[..], &read.payload[..], read.pkid), (&b"t"[..], &b"p"[..], None));
    }

    #[test]
    fn properties_are_skipped_and_a_topic_alias_is_found_among_them() {
        let mut properties = v5::PublishProperties {
            payload_format_indicator: Some(1),
            message_expiry_interval: Some(60),
            topic_alias: None,
            response_topic: Some("r".into()),
            correlation_data: Some(Bytes::from_static(b"c")),
            user_properties: vec![("k".into(), "v".into()), ("traceparent".into(), "00-1".into())],
            subscription_identifiers: vec![300],
            content_type: Some("application/json".into()),
        };
        let read = message(read_one(&encode_v5(&sample(Some(properties.clone()))), Protocol::V5));
        assert_eq!((&read.payload[..], read.fault), (&b"{\"x\":1}"[..], None));

        let mut bytes = encode_v5(&sample(Some(properties.clone())));
        let Cut::Frames(chunk) = Cutter::new(1 << 20).cut(&mut bytes).unwrap() else { panic!() };
        let frame = frames(&chunk).next().unwrap();
        let expected = Request {
            expiry_s: Some(60),
            response_topic: Some(Bytes::from_static(b"r")),
            correlation: Some(Bytes::from_static(b"c")),
            traceparents: vec![Bytes::from_static(b"00-1")],
        };
        assert_eq!(request(&chunk, &frame), expected);
        for cut in frame.body.start..frame.whole.end {
            let head = Frame { whole: 0..cut, body: frame.body.start..cut, ..frame };
            let found = request(&chunk.slice(..cut), &head);
            assert!(found.expiry_s.is_none_or(|s| s == 60) && found.correlation.is_none_or(|c| c == "c"));
            assert!(found.traceparents.iter().all(|text| text == "00-1"));
        }

        properties.topic_alias = Some(4);
        let read = read_one(&encode_v5(&sample(Some(properties))), Protocol::V5);
        assert!(matches!(read, Publish::Violation(Violation::TopicAlias)), "{read:?}");
    }

    #[test]
    fn faults_keep_the_packet_identifier_so_that_the_broker_can_be_answered() {
        for (bytes, reason) in [
            (&[0x32, 6, 0, 1, b't', 0, 5, 9][..], "properties run past the end of the packet"),
            (&[0x32, 9, 0, 1, b't', 0, 5, 3, 99, 0, 0], "a property is malformed"),
            (&[0x32, 9, 0, 1, b't', 0, 5, 3, 3, 0, 9], "a property is cut off"),
            (&[0x32, 5, 0, 1, b't', 0, 5], "length of the properties is malformed"),
            (&[0x32, 5, 0, 0, 0, 5, 0], "topic is empty"),
        ] {
            let read = message(read_one(bytes, Protocol::V5));
            assert_eq!((read.fault, read.pkid), (Some(WireFault::Malformed(reason)), Some(5)));
            assert_eq!(&read.payload[..], bytes);
        }
        let read = message(read_one(&[0x32, 5, 0, 1, b't', 0, 0], Protocol::V4));
        assert_eq!((read.fault, read.pkid), (Some(WireFault::Malformed("packet identifier is 0")), None));
    }

    #[test]
    fn without_topic_or_identifier_there_is_nothing_to_deliver() {
        for bytes in
            [&[0x32, 2, 0, 9][..], &[0x30, 1, 0], &[0x32, 4, 0, 1, b't', 0], &[0x36, 5, 0, 1, b't', 0, 1]]
        {
            assert!(matches!(read_one(bytes, Protocol::V5), Publish::Unreadable(_)));
        }
        assert!(matches!(
            read_one(&[0x34, 5, 0, 1, b't', 0, 1], Protocol::V4),
            Publish::Violation(Violation::Qos2)
        ));
    }

    #[test]
    fn of_an_oversized_packet_the_beginning_is_delivered() {
        let mut publish = sample(None);
        publish.payload = Bytes::from(vec![b'x'; 100_000]);
        let mut buffer = encode_v5(&publish);
        let whole = buffer.len() as u64;
        let Cut::Oversized { head, frame, size } = Cutter::new(1024).cut(&mut buffer).unwrap() else {
            panic!()
        };
        let read = message(read(&head, &frame, Protocol::V5, Some(size)));
        assert_eq!((&read.topic[..], read.pkid), (&b"a/b"[..], Some(77)));
        assert_eq!(read.fault, Some(WireFault::TooLarge { size: whole }));
        assert!(read.payload.len() >= HEAD_BYTES - 8 && read.payload.iter().all(|&byte| byte == b'x'));
    }

    proptest! {
        #[test]
        fn arbitrary_frames_never_panic(first in 0x30u8..0x40, body in prop::collection::vec(any::<u8>(), 0..120)) {
            let mut bytes = vec![first, u8::try_from(body.len()).unwrap()];
            bytes.extend_from_slice(&body);
            for protocol in [Protocol::V4, Protocol::V5] {
                if let Publish::Message(message) = read_one(&bytes, protocol) {
                    prop_assert!(message.payload.len() <= bytes.len());
                    prop_assert!(message.pkid != Some(0));
                }
            }
        }
    }
}
