//! Converts from the MQTT 5 codec to the packets of this broker.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rumqttc::v5::mqttbytes::v5::{
    ConnectProperties, Disconnect, DisconnectReasonCode as Reason, Filter as WireFilter, LastWill,
    LastWillProperties, Packet as Wire, Publish, PublishProperties, check,
};
use rumqttc::v5::mqttbytes::{Error as CodecError, QoS};
use tokio::time::Instant;

use super::{Connect, ConnectError, Filter, Packet, Version, Violation};
use crate::broker::message::{Message, Qos, Will};
use crate::broker::topic;

fn read(mut frame: BytesMut) -> Result<Wire, CodecError> {
    Wire::read(&mut frame, None)
}

fn refused(code: Reason) -> ConnectError {
    ConnectError::Refused { version: Version::V5, code: code as u8 }
}

pub(super) fn connect(frame: BytesMut) -> Result<Connect, ConnectError> {
    let Ok(Wire::Connect(connect, will, login)) = read(frame) else {
        return Err(refused(Reason::MalformedPacket));
    };
    let properties = connect.properties.unwrap_or_else(ConnectProperties::new);
    let receive_max = properties.receive_maximum.unwrap_or(u16::MAX);
    let packet_bytes_max = properties.max_packet_size.unwrap_or(u32::MAX);
    if receive_max == 0 || packet_bytes_max == 0 {
        return Err(refused(Reason::ProtocolError));
    }
    if properties.authentication_method.is_some() {
        return Err(ConnectError::Refused { version: Version::V5, code: BAD_AUTHENTICATION_METHOD });
    }
    let (username, password) = login.map(|login| (login.username, login.password)).unwrap_or_default();
    Ok(Connect {
        version: Version::V5,
        client_id: connect.client_id,
        clean_start: connect.clean_start,
        keep_alive_s: connect.keep_alive,
        session_expiry_s: properties.session_expiry_interval.unwrap_or(0),
        receive_max,
        packet_bytes_max,
        will: will.map(self::will).transpose()?,
        username,
        password,
    })
}

/// A CONNACK code that DISCONNECT does not have.
const BAD_AUTHENTICATION_METHOD: u8 = 0x8C;

fn will(will: LastWill) -> Result<Will, ConnectError> {
    let qos = qos(will.qos).ok_or_else(|| refused(Reason::QoSNotSupported))?;
    let topic = topic_name(&will.topic).map_err(|violation| refused(violation.reason))?;
    let properties = will.properties;
    let delay_s = properties.as_ref().and_then(|properties| properties.delay_interval).unwrap_or(0);
    let properties = properties.map(publish_properties);
    let message = message(topic, will.message, qos, will.retain, properties);
    Ok(Will { message, delay: Duration::from_secs(u64::from(delay_s)) })
}

fn publish_properties(will: LastWillProperties) -> PublishProperties {
    PublishProperties {
        payload_format_indicator: will.payload_format_indicator,
        message_expiry_interval: will.message_expiry_interval,
        response_topic: will.response_topic,
        correlation_data: will.correlation_data,
        user_properties: will.user_properties,
        content_type: will.content_type,
        ..PublishProperties::default()
    }
}

fn qos(qos: QoS) -> Option<Qos> {
    match qos {
        QoS::AtMostOnce => Some(Qos::AtMostOnce),
        QoS::AtLeastOnce => Some(Qos::AtLeastOnce),
        QoS::ExactlyOnce => None,
    }
}

fn topic_name(bytes: &[u8]) -> Result<String, Violation> {
    let name = std::str::from_utf8(bytes).map_err(Violation::malformed)?;
    if !topic::is_valid_name(name) {
        return Err(Violation::new(Reason::TopicNameInvalid, "PUBLISH to an invalid topic"));
    }
    Ok(name.to_owned())
}

fn message(
    topic: String,
    payload: Bytes,
    qos: Qos,
    retain: bool,
    mut properties: Option<PublishProperties>,
) -> Message {
    let expiry_s = properties.as_mut().and_then(|properties| properties.message_expiry_interval.take());
    let expires = expiry_s.map(|s| Instant::now() + Duration::from_secs(u64::from(s)));
    Message { topic, payload, qos, retain, properties, expires }
}

pub(super) fn packet(frame: BytesMut) -> Result<Packet, Violation> {
    // The codec does not support the short forms of DISCONNECT.
    if frame[0] == 0xE0 {
        return disconnect(frame.freeze());
    }
    match read(frame).map_err(Violation::malformed)? {
        Wire::Publish(packet) => publish(packet),
        Wire::PubAck(ack) => Ok(Packet::PubAck { pkid: ack.pkid }),
        Wire::Subscribe(subscribe) => {
            let id = subscribe.properties.and_then(|properties| properties.id);
            let filters = subscribe.filters.into_iter().map(|filter| self::filter(filter, id)).collect();
            Ok(Packet::Subscribe { pkid: subscribe.pkid, filters })
        }
        Wire::Unsubscribe(unsubscribe) => {
            Ok(Packet::Unsubscribe { pkid: unsubscribe.pkid, filters: unsubscribe.filters })
        }
        Wire::PingReq(_) => Ok(Packet::PingReq),
        _ => Err(Violation::new(Reason::ProtocolError, "a packet that a client must not send here")),
    }
}

fn disconnect(frame: Bytes) -> Result<Packet, Violation> {
    let disconnect = match frame.as_ref() {
        [_, 0] => Disconnect::new(Reason::NormalDisconnection),
        [_, 1, reason] => Disconnect::new(Reason::try_from(*reason).map_err(Violation::malformed)?),
        _ => {
            let header = check(frame.iter(), None).map_err(Violation::malformed)?;
            Disconnect::read(header, frame).map_err(Violation::malformed)?
        }
    };
    Ok(Packet::Disconnect {
        publish_will: disconnect.reason_code != Reason::NormalDisconnection,
        session_expiry_s: disconnect.properties.and_then(|properties| properties.session_expiry_interval),
    })
}

fn publish(packet: Publish) -> Result<Packet, Violation> {
    let qos = qos(packet.qos).ok_or_else(|| Violation::new(Reason::QoSNotSupported, "PUBLISH with QoS 2"))?;
    if packet.properties.as_ref().is_some_and(|properties| properties.topic_alias.is_some()) {
        return Err(Violation::new(Reason::TopicAliasInvalid, "PUBLISH with a topic alias"));
    }
    let topic = topic_name(&packet.topic)?;
    let message = message(topic, packet.payload, qos, packet.retain, packet.properties);
    Ok(Packet::Publish { message, pkid: packet.pkid })
}

fn filter(filter: WireFilter, id: Option<usize>) -> Filter {
    Filter {
        path: filter.path,
        qos: qos(filter.qos).unwrap_or(Qos::AtLeastOnce),
        no_local: filter.nolocal,
        retain_as_published: filter.preserve_retain,
        retain_handling: filter.retain_forward_rule,
        id,
    }
}
