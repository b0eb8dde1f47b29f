//! CONNECT, CONNACK, SUBSCRIBE and related messages: everything sent once per connection.

use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fieldlog_projections::{TraceParent, trace};
use rumqttc::mqttbytes::{self as mqtt4, v4};
use rumqttc::v5::mqttbytes::{self as mqtt5, v5};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::config::{Protocol, WillConfig};
use crate::mqtt::failure::{Failure, reason};
use crate::mqtt::frame::{Frame, VariableInt, one_frame, variable_int};
use crate::net::connect::Wire;
use crate::net::secret;

/// Some brokers accept no more filters in one SUBSCRIBE.
const FILTERS_PER_PACKET: usize = 8;

const CONNACK: u8 = 2;

/// The settings of our CONNECT.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hello<'a> {
    pub(crate) protocol: Protocol,
    pub(crate) client_id: &'a str,
    pub(crate) username: Option<&'a str>,
    pub(crate) password_file: Option<&'a Path>,
    pub(crate) keep_alive: Duration,
    /// How long the broker must keep the session; `None`: a clean one that ends with the connection.
    pub(crate) session_expiry: Option<Duration>,
    pub(crate) receive_window: u16,
    pub(crate) packet_bytes_max: u32,
    pub(crate) will: Option<&'a WillConfig>,
}

/// The broker's CONNACK; with MQTT 3.1.1 only the first field.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Welcome {
    pub(crate) session_present: bool,
    pub(crate) server_keep_alive: Option<u16>,
    pub(crate) assigned_client_id: Option<String>,
    pub(crate) qos_max: Option<u8>,
    pub(crate) session_expiry_s: Option<u32>,
    pub(crate) no_wildcards: bool,
    /// Maximum messages that it accepts unacknowledged.
    pub(crate) receive_max: Option<u16>,
    /// Maximum packet that it accepts, including the fixed header.
    pub(crate) packet_bytes_max: Option<u32>,
}

/// Sends CONNECT and waits for the answer. Bytes that follow the CONNACK stay in `input`.
pub(crate) async fn introduce(
    stream: &mut dyn Wire,
    hello: &Hello<'_>,
    input: &mut BytesMut,
) -> Result<Welcome, Failure> {
    let mut out = BytesMut::new();
    connect(hello, password(hello)?, &mut out)?;
    stream.write_all(&out).await.map_err(Failure::Io)?;
    stream.flush().await.map_err(Failure::Io)?;
    loop {
        if let Some((packet, frame)) = one_frame(input)? {
            return connack(&packet, &frame, hello.protocol);
        }
        if stream.read_buf(input).await.map_err(Failure::Io)? == 0 {
            return Err(Failure::Closed);
        }
    }
}

fn password(hello: &Hello<'_>) -> Result<String, Failure> {
    let Some(file) = hello.password_file else { return Ok(String::new()) };
    Ok(secret::read("password_file", file)?)
}

fn connect(hello: &Hello<'_>, password: String, out: &mut BytesMut) -> Result<(), Failure> {
    let keep_alive = u16::try_from(hello.keep_alive.as_secs().max(1)).unwrap_or(u16::MAX);
    let username = hello.username.unwrap_or_default().to_owned();
    let client_id = hello.client_id.to_owned();
    match hello.protocol {
        Protocol::V4 => {
            let login = v4::Login { username, password };
            let last_will = hello.will.map(|will| {
                v4::LastWill::new(&will.topic, will.offline.as_bytes(), mqtt4::QoS::AtLeastOnce, true)
            });
            let packet = v4::Connect {
                protocol: mqtt4::Protocol::V4,
                keep_alive,
                client_id,
                clean_session: hello.session_expiry.is_none(),
                last_will,
                login: Some(login),
            };
            packet.write(out)?;
        }
        Protocol::V5 => {
            let login = v5::Login { username, password };
            let will = hello.will.map(|will| {
                v5::LastWill::new(&will.topic, will.offline.as_bytes(), mqtt5::QoS::AtLeastOnce, true, None)
            });
            let properties = v5::ConnectProperties {
                session_expiry_interval: hello.session_expiry.map(seconds),
                receive_maximum: Some(hello.receive_window),
                max_packet_size: Some(hello.packet_bytes_max),
                ..v5::ConnectProperties::new()
            };
            let packet = v5::Connect {
                keep_alive,
                client_id,
                clean_start: hello.session_expiry.is_none(),
                properties: Some(properties),
            };
            packet.write(&will, &Some(login), out)?;
        }
    }
    Ok(())
}

pub(crate) fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

fn connack(packet: &Bytes, frame: &Frame, protocol: Protocol) -> Result<Welcome, Failure> {
    if frame.packet_type() != CONNACK {
        return Err(Failure::Unexpected(match frame.packet_type() {
            15 => "a request for extended authentication (AUTH), which fieldlog does not support",
            _ => "another packet before CONNACK",
        }));
    }
    let &[flags, code, ref properties @ ..] = &packet[frame.body.clone()] else {
        return Err(Failure::Malformed("CONNACK"));
    };
    let session_present = flags & 1 == 1;
    match (protocol, code) {
        (Protocol::V4, 0) => Ok(Welcome { session_present, ..Welcome::default() }),
        (Protocol::V4, code) => Err(Failure::Refused { code: code_of_v4(code), detail: String::new() }),
        // A broker that supports only MQTT 3.1.1 sends a CONNACK without properties, even without their length.
        (Protocol::V5, _) if properties.is_empty() => Err(Failure::Mqtt5Unknown),
        (Protocol::V5, 0) => welcome(packet),
        (Protocol::V5, code) => Err(Failure::Refused { code, detail: detail_of(packet) }),
    }
}

fn code_of_v4(code: u8) -> u8 {
    match code {
        1 => 0x84,
        2 => 0x85,
        3 => 0x88,
        4 => 0x86,
        5 => 0x87,
        _ => 0x80,
    }
}

fn welcome(packet: &Bytes) -> Result<Welcome, Failure> {
    let Ok(v5::Packet::ConnAck(connack)) = v5::Packet::read(&mut BytesMut::from(&packet[..]), None) else {
        return Err(Failure::Malformed("CONNACK"));
    };
    let mut welcome = Welcome { session_present: connack.session_present, ..Welcome::default() };
    if let Some(properties) = connack.properties {
        welcome.server_keep_alive = properties.server_keep_alive;
        welcome.assigned_client_id = properties.assigned_client_identifier;
        welcome.qos_max = properties.max_qos;
        welcome.session_expiry_s = properties.session_expiry_interval;
        welcome.receive_max = properties.receive_max;
        welcome.packet_bytes_max = properties.max_packet_size;
        welcome.no_wildcards = properties.wildcard_subscription_available == Some(0);
    }
    Ok(welcome)
}

/// The broker's reason string in a CONNACK, PUBACK or DISCONNECT of MQTT 5, if any; truncated, since it is untrusted.
pub(crate) fn detail_of(packet: &Bytes) -> String {
    let (text, server) = match v5::Packet::read(&mut BytesMut::from(&packet[..]), None) {
        Ok(v5::Packet::ConnAck(v5::ConnAck { properties: Some(said), .. })) => {
            (said.reason_string, said.server_reference)
        }
        Ok(v5::Packet::Disconnect(v5::Disconnect { properties: Some(said), .. })) => {
            (said.reason_string, said.server_reference)
        }
        Ok(v5::Packet::PubAck(v5::PubAck { properties: Some(said), .. })) => (said.reason_string, None),
        _ => (None, None),
    };
    let text = text.map(|text| format!(", \"{}\"", printable(&text))).unwrap_or_default();
    let server =
        server.map(|server| format!(", it names the server {}", printable(&server))).unwrap_or_default();
    text + &server
}

fn printable(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(200).collect()
}

/// A SUBSCRIBE waiting for its SUBACK.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Subscription {
    pkid: u16,
    filters: Vec<(String, u8)>,
}

/// Writes the SUBSCRIBE packets for `filters`.
pub(crate) fn subscribe(
    filters: &[(String, u8)],
    welcome: &Welcome,
    protocol: Protocol,
    out: &mut BytesMut,
) -> Result<Vec<Subscription>, Failure> {
    let wild: Vec<_> =
        filters.iter().map(|(filter, _)| filter.as_str()).filter(|filter| is_wild(filter)).collect();
    if welcome.no_wildcards && !wild.is_empty() {
        return Err(Failure::NoWildcards { filters: wild.join(", ") });
    }
    let mut waiting = Vec::new();
    for (pkid, filters) in (1..=u16::MAX).zip(filters.chunks(FILTERS_PER_PACKET)) {
        match protocol {
            Protocol::V4 => subscribe_v4(pkid, filters, out)?,
            Protocol::V5 => subscribe_v5(pkid, filters, welcome.session_present, out)?,
        }
        waiting.push(Subscription { pkid, filters: filters.to_vec() });
    }
    Ok(waiting)
}

fn is_wild(filter: &str) -> bool {
    filter.split('/').any(|level| level == "+" || level == "#")
}

fn subscribe_v4(pkid: u16, filters: &[(String, u8)], out: &mut BytesMut) -> Result<(), Failure> {
    let qos = |qos: u8| if qos == 0 { mqtt4::QoS::AtMostOnce } else { mqtt4::QoS::AtLeastOnce };
    let filters =
        filters.iter().map(|(path, wanted)| v4::SubscribeFilter { path: path.clone(), qos: qos(*wanted) });
    v4::Subscribe { pkid, filters: filters.collect() }.write(out)?;
    Ok(())
}

/// Writes the SUBSCRIBE for a topic of requests, with QoS 1. With MQTT 5 each message shows whether it is retained, also
/// one that is not delivered because of that, and what was retained before comes only with a new subscription.
pub(crate) fn subscribe_to_requests(
    filter: &str,
    pkid: u16,
    protocol: Protocol,
    out: &mut BytesMut,
) -> Result<Vec<Subscription>, Failure> {
    let filters = vec![(filter.to_owned(), 1)];
    match protocol {
        Protocol::V4 => subscribe_v4(pkid, &filters, out)?,
        Protocol::V5 => {
            let filter = v5::Filter {
                path: filter.to_owned(),
                qos: mqtt5::QoS::AtLeastOnce,
                preserve_retain: true,
                retain_forward_rule: v5::RetainForwardRule::OnNewSubscribe,
                ..v5::Filter::default()
            };
            v5::Subscribe { pkid, filters: vec![filter], properties: None }.write(out)?;
        }
    }
    Ok(vec![Subscription { pkid, filters }])
}

fn subscribe_v5(
    pkid: u16,
    filters: &[(String, u8)],
    session_present: bool,
    out: &mut BytesMut,
) -> Result<(), Failure> {
    let qos = |qos: u8| if qos == 0 { mqtt5::QoS::AtMostOnce } else { mqtt5::QoS::AtLeastOnce };
    // A kept session has queued every change, so the retained messages would be no news.
    let retain_forward_rule = if session_present {
        v5::RetainForwardRule::OnNewSubscribe
    } else {
        v5::RetainForwardRule::OnEverySubscribe
    };
    let filter = |(path, wanted): &(String, u8)| v5::Filter {
        path: path.clone(),
        qos: qos(*wanted),
        retain_forward_rule: retain_forward_rule.clone(),
        ..v5::Filter::default()
    };
    v5::Subscribe { pkid, filters: filters.iter().map(filter).collect(), properties: None }.write(out)?;
    Ok(())
}

/// The broker's answer for one filter.
pub(crate) type Answer = ((String, u8), Result<u8, &'static str>);

/// Parses a SUBACK and removes its SUBSCRIBE from the `waiting` list. Reason codes are parsed here because the codec
/// fails on unknown ones, which would end a connection that works for all other filters.
pub(crate) fn suback(
    body: &[u8],
    waiting: &mut Vec<Subscription>,
    protocol: Protocol,
) -> Result<Vec<Answer>, Failure> {
    let malformed = Failure::Malformed("SUBACK");
    let &[high, low, ref rest @ ..] = body else { return Err(malformed) };
    let codes = match (protocol, variable_int(rest)) {
        (Protocol::V4, _) => Some(rest),
        (Protocol::V5, VariableInt::Value { value, len }) => rest.get(len + value..),
        (Protocol::V5, _) => None,
    };
    let pkid = u16::from_be_bytes([high, low]);
    let Some(index) = waiting.iter().position(|subscription| subscription.pkid == pkid) else {
        return Err(Failure::Unexpected("a SUBACK for no pending subscription"));
    };
    let filters = waiting.swap_remove(index).filters;
    match codes {
        Some(codes) if codes.len() == filters.len() => {
            let granted = |&code: &u8| if code <= 2 { Ok(code) } else { Err(reason(code)) };
            Ok(filters.into_iter().zip(codes.iter().map(granted)).collect())
        }
        _ => Err(malformed),
    }
}

/// Writes a retained QoS 0 PUBLISH that says online or offline. QoS 0, because the next connection repeats the message
/// anyway, so tracking its acknowledgement is pointless.
pub(crate) fn announce(
    topic: &str,
    payload: &str,
    protocol: Protocol,
    out: &mut BytesMut,
) -> Result<(), Failure> {
    publish(topic, payload.as_bytes(), Manner { retain: true, ..Manner::default() }, protocol, out)
}

/// How a message is published.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    /// Packet identifier: with one it is of QoS 1, else of QoS 0.
    pub(crate) pkid: Option<u16>,
    /// Whether the broker keeps it.
    pub(crate) retain: bool,
    /// How long the broker may hold it, in seconds; MQTT 5 only.
    pub(crate) expiry_s: Option<u32>,
    /// The trace context that it has; MQTT 5 only.
    pub(crate) traceparent: Option<TraceParent>,
}

/// Writes a PUBLISH.
pub(crate) fn publish(
    topic: &str,
    payload: &[u8],
    manner: Manner,
    protocol: Protocol,
    out: &mut BytesMut,
) -> Result<(), Failure> {
    let Manner { pkid, retain, expiry_s, traceparent } = manner;
    match protocol {
        Protocol::V4 => {
            let qos = if pkid.is_some() { mqtt4::QoS::AtLeastOnce } else { mqtt4::QoS::AtMostOnce };
            let mut packet = v4::Publish::new(topic, qos, payload);
            (packet.retain, packet.pkid) = (retain, pkid.unwrap_or(0));
            packet.write(out)?;
        }
        Protocol::V5 => {
            let qos = if pkid.is_some() { mqtt5::QoS::AtLeastOnce } else { mqtt5::QoS::AtMostOnce };
            let has_any = expiry_s.is_some() || traceparent.is_some();
            let named = |parent: TraceParent| (trace::NAME.to_owned(), parent.to_string());
            let properties = has_any.then(|| v5::PublishProperties {
                message_expiry_interval: expiry_s,
                user_properties: traceparent.map(named).into_iter().collect(),
                ..v5::PublishProperties::default()
            });
            let mut packet = v5::Publish::new(topic, qos, Bytes::copy_from_slice(payload), properties);
            (packet.retain, packet.pkid) = (retain, pkid.unwrap_or(0));
            packet.write(out)?;
        }
    }
    Ok(())
}

/// Writes a DISCONNECT; MQTT 3.1.1 has only one, which means a clean end.
pub(crate) fn disconnect(
    code: v5::DisconnectReasonCode,
    protocol: Protocol,
    out: &mut BytesMut,
) -> Result<(), Failure> {
    match (protocol, code) {
        (Protocol::V5, code) => {
            v5::Packet::Disconnect(v5::Disconnect::new(code)).write(out, None)?;
        }
        (Protocol::V4, v5::DisconnectReasonCode::NormalDisconnection) => {
            v4::Disconnect.write(out)?;
        }
        // Any other end must look like a broken connection, or the will would not be published.
        (Protocol::V4, _) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests;
