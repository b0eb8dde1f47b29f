//! Converts from the MQTT 3.1.1 codec to the packets of this broker.

use std::time::Duration;

use bytes::BytesMut;
use rumqttc::mqttbytes::v4::{LastWill, Packet as Wire, Publish, SubscribeFilter};
use rumqttc::mqttbytes::{Error as CodecError, QoS};
use rumqttc::v5::mqttbytes::v5::{DisconnectReasonCode as Reason, RetainForwardRule};

use super::{Connect, ConnectError, Filter, Packet, Version, Violation};
use crate::broker::message::{Message, Qos, Will};
use crate::broker::topic;

fn read(mut frame: BytesMut) -> Result<Wire, CodecError> {
    let bytes = frame.len();
    Wire::read(&mut frame, bytes)
}

pub(super) fn connect(frame: BytesMut) -> Result<Connect, ConnectError> {
    let Ok(Wire::Connect(connect)) = read(frame) else {
        return Err(ConnectError::NotMqtt);
    };
    if connect.client_id.is_empty() && !connect.clean_session {
        return Err(ConnectError::Refused { version: Version::V311, code: 2 });
    }
    let will = connect.last_will.map(will).transpose()?;
    let login = connect.login.map(|login| (login.username, login.password));
    let (username, password) = login.unwrap_or_default();
    Ok(Connect {
        version: Version::V311,
        client_id: connect.client_id,
        clean_start: connect.clean_session,
        keep_alive_s: connect.keep_alive,
        session_expiry_s: if connect.clean_session { 0 } else { u32::MAX },
        receive_max: u16::MAX,
        packet_bytes_max: u32::MAX,
        will,
        username,
        password,
    })
}

fn will(will: LastWill) -> Result<Will, ConnectError> {
    if !topic::is_valid_name(&will.topic) {
        return Err(ConnectError::NotMqtt);
    }
    let message = Message {
        topic: will.topic,
        payload: will.message,
        qos: granted(will.qos),
        retain: will.retain,
        properties: None,
        expires: None,
    };
    Ok(Will { message, delay: Duration::ZERO })
}

/// The requested QoS, or the highest that this broker supports.
fn granted(qos: QoS) -> Qos {
    if qos == QoS::AtMostOnce { Qos::AtMostOnce } else { Qos::AtLeastOnce }
}

pub(super) fn packet(frame: BytesMut) -> Result<Packet, Violation> {
    match read(frame).map_err(Violation::malformed)? {
        Wire::Publish(packet) => publish(packet),
        Wire::PubAck(ack) => Ok(Packet::PubAck { pkid: ack.pkid }),
        Wire::Subscribe(subscribe) => Ok(Packet::Subscribe {
            pkid: subscribe.pkid,
            filters: subscribe.filters.into_iter().map(filter).collect(),
        }),
        Wire::Unsubscribe(unsubscribe) => {
            Ok(Packet::Unsubscribe { pkid: unsubscribe.pkid, filters: unsubscribe.topics })
        }
        Wire::PingReq => Ok(Packet::PingReq),
        Wire::Disconnect => Ok(Packet::Disconnect { publish_will: false, session_expiry_s: None }),
        _ => Err(Violation::new(Reason::ProtocolError, "a packet that a client must not send here")),
    }
}

fn publish(packet: Publish) -> Result<Packet, Violation> {
    if packet.qos == QoS::ExactlyOnce {
        return Err(Violation::new(Reason::QoSNotSupported, "PUBLISH with QoS 2"));
    }
    if !topic::is_valid_name(&packet.topic) {
        return Err(Violation::new(Reason::TopicNameInvalid, "PUBLISH to an invalid topic"));
    }
    let message = Message {
        topic: packet.topic,
        payload: packet.payload,
        qos: granted(packet.qos),
        retain: packet.retain,
        properties: None,
        expires: None,
    };
    Ok(Packet::Publish { message, pkid: packet.pkid })
}

fn filter(filter: SubscribeFilter) -> Filter {
    Filter {
        path: filter.path,
        qos: granted(filter.qos),
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainForwardRule::OnEverySubscribe,
        id: None,
    }
}
