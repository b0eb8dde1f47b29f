//! The packets the broker sends, in either protocol version.

use bytes::{BufMut, Bytes, BytesMut};
use rumqttc::mqttbytes::{QoS as QoS311, v4};
use rumqttc::v5::mqttbytes::QoS as QoS5;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnAckProperties, ConnectReturnCode, PubAck, PubAckReason, Publish, SubAck,
    SubscribeReasonCode, UnsubAck, UnsubAckReason,
};
use tokio::time::Instant;

use super::Version;
use crate::broker::message::{Message, Qos};

/// Maximum MQTT packet, including its fixed header.
pub(crate) const PACKET_BYTES_MAX: u32 = 268_435_455 + 5;

/// One delivery of a message.
pub(crate) struct Delivery<'a> {
    pub(crate) message: &'a Message,
    pub(crate) subscription_ids: &'a [usize],
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    pub(crate) pkid: u16,
}

/// The properties of a successful CONNACK; most exist only in MQTT 5.
pub(crate) struct Accepted {
    pub(crate) session_present: bool,
    pub(crate) packet_bytes_max: u32,
    pub(crate) assigned_client_id: Option<String>,
    pub(crate) server_keep_alive_s: Option<u16>,
}

/// The codecs write to memory and fail only on values that were checked before; if one fails, the whole packet is
/// dropped.
fn whole<E: std::fmt::Display>(
    out: &mut BytesMut,
    write: impl FnOnce(&mut BytesMut) -> Result<usize, E>,
) -> bool {
    let start = out.len();
    match write(out) {
        Ok(_) => true,
        Err(error) => {
            out.truncate(start);
            tracing::error!(%error, "a packet could not be encoded and was not sent");
            false
        }
    }
}

pub(crate) fn connack(version: Version, accepted: Accepted, out: &mut BytesMut) {
    let session_present = accepted.session_present;
    match version {
        Version::V311 => {
            let packet = v4::ConnAck::new(v4::ConnectReturnCode::Success, session_present);
            whole(out, |out| packet.write(out));
        }
        Version::V5 => {
            let properties = Some(connack_properties(accepted));
            let packet = ConnAck { session_present, code: ConnectReturnCode::Success, properties };
            whole(out, |out| packet.write(out));
        }
    }
}

fn connack_properties(accepted: Accepted) -> ConnAckProperties {
    ConnAckProperties {
        session_expiry_interval: None,
        receive_max: None,
        max_qos: Some(1),
        retain_available: None,
        max_packet_size: Some(accepted.packet_bytes_max),
        assigned_client_identifier: accepted.assigned_client_id,
        topic_alias_max: None,
        reason_string: None,
        user_properties: Vec::new(),
        wildcard_subscription_available: None,
        subscription_identifiers_available: None,
        shared_subscription_available: Some(0),
        server_keep_alive: accepted.server_keep_alive_s,
        response_information: None,
        server_reference: None,
        authentication_method: None,
        authentication_data: None,
    }
}

/// By hand, because a script may use a code that the codec does not know.
pub(crate) fn connack_refused(version: Version, code: u8, out: &mut BytesMut) {
    match version {
        Version::V311 => out.put_slice(&[0x20, 2, 0, code]),
        Version::V5 => out.put_slice(&[0x20, 3, 0, code, 0]),
    }
}

/// Writes a PUBLISH unless it is larger than `bytes_max`; returns whether it was written.
pub(crate) fn publish(
    version: Version,
    delivery: &Delivery<'_>,
    bytes_max: u32,
    now: Instant,
    out: &mut BytesMut,
) -> bool {
    let fits = |size: usize| u32::try_from(size).is_ok_and(|size| size <= bytes_max.min(PACKET_BYTES_MAX));
    match version {
        Version::V311 => {
            let packet = publish_311(delivery);
            fits(packet.size()) && whole(out, |out| packet.write(out))
        }
        Version::V5 => {
            let packet = publish_5(delivery, now);
            fits(packet.size()) && whole(out, |out| packet.write(out))
        }
    }
}

fn publish_311(delivery: &Delivery<'_>) -> v4::Publish {
    let qos = match delivery.qos {
        Qos::AtMostOnce => QoS311::AtMostOnce,
        Qos::AtLeastOnce => QoS311::AtLeastOnce,
    };
    let message = delivery.message;
    let mut packet = v4::Publish::from_bytes(message.topic.clone(), qos, message.payload.clone());
    packet.dup = delivery.dup;
    packet.retain = delivery.retain;
    packet.pkid = delivery.pkid;
    packet
}

fn publish_5(delivery: &Delivery<'_>, now: Instant) -> Publish {
    let message = delivery.message;
    let mut properties = message.properties.clone();
    if message.expires.is_some() || !delivery.subscription_ids.is_empty() {
        let properties = properties.get_or_insert_default();
        properties.message_expiry_interval = message.expires_in_s(now);
        properties.subscription_identifiers = delivery.subscription_ids.to_vec();
    }
    Publish {
        dup: delivery.dup,
        qos: match delivery.qos {
            Qos::AtMostOnce => QoS5::AtMostOnce,
            Qos::AtLeastOnce => QoS5::AtLeastOnce,
        },
        retain: delivery.retain,
        topic: Bytes::copy_from_slice(message.topic.as_bytes()),
        pkid: delivery.pkid,
        payload: message.payload.clone(),
        properties,
    }
}

pub(crate) fn puback(version: Version, pkid: u16, reason: PubAckReason, out: &mut BytesMut) {
    match version {
        Version::V311 => whole(out, |out| v4::PubAck::new(pkid).write(out)),
        Version::V5 => whole(out, |out| PubAck { pkid, reason, properties: None }.write(out)),
    };
}

pub(crate) fn suback(version: Version, pkid: u16, codes: Vec<SubscribeReasonCode>, out: &mut BytesMut) {
    match version {
        Version::V311 => {
            let packet = v4::SubAck::new(pkid, codes.into_iter().map(suback_code_311).collect());
            whole(out, |out| packet.write(out))
        }
        Version::V5 => {
            let packet = SubAck { pkid, return_codes: codes, properties: None };
            whole(out, |out| packet.write(out))
        }
    };
}

fn suback_code_311(code: SubscribeReasonCode) -> v4::SubscribeReasonCode {
    match code {
        SubscribeReasonCode::Success(QoS5::AtMostOnce) => {
            v4::SubscribeReasonCode::Success(QoS311::AtMostOnce)
        }
        SubscribeReasonCode::Success(_) => v4::SubscribeReasonCode::Success(QoS311::AtLeastOnce),
        _ => v4::SubscribeReasonCode::Failure,
    }
}

/// `existed` tells for each filter whether the subscription existed.
pub(crate) fn unsuback(version: Version, pkid: u16, existed: Vec<bool>, out: &mut BytesMut) {
    let reason = |existed| {
        if existed { UnsubAckReason::Success } else { UnsubAckReason::NoSubscriptionExisted }
    };
    match version {
        Version::V311 => whole(out, |out| v4::UnsubAck::new(pkid).write(out)),
        Version::V5 => {
            let reasons = existed.into_iter().map(reason).collect();
            whole(out, |out| UnsubAck { pkid, reasons, properties: None }.write(out))
        }
    };
}

pub(crate) fn pingresp(out: &mut BytesMut) {
    out.put_slice(&[0xD0, 0]);
}

/// MQTT 3.1.1 servers just close. By hand, because the codec writes a wrong length.
pub(crate) fn disconnect(version: Version, reason: u8, out: &mut BytesMut) {
    if version == Version::V5 {
        out.put_slice(&[0xE0, 2, reason, 0]);
    }
}
