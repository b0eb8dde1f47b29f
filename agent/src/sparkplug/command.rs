//! Commands of a host application to edge nodes. They are QoS 0, not retained, and without `seq`.

use bytes::Bytes;
use fieldlog_projections::Time;
use prost::Message;

use super::NAMESPACE;
use super::payload::{Metric, Payload, Raw};
use super::state::millis;
use super::value::BOOLEAN;

/// The metric that an edge node listens to (section 5.17). It has no alias, even where others have one.
pub const REBIRTH: &str = "Node Control/Rebirth";

/// Asks an edge node for its birth certificates: topic and payload.
pub fn rebirth(group: &str, node: &str, at: Time) -> (String, Bytes) {
    let metric = Metric {
        name: Some(REBIRTH.to_owned()),
        timestamp: Some(millis(at)),
        datatype: Some(BOOLEAN),
        value: Some(Raw::Bool(true)),
        ..Metric::default()
    };
    let metrics = vec![metric.encode_to_vec().into()];
    let payload = Payload { timestamp: Some(millis(at)), metrics, ..Payload::default() };
    (format!("{NAMESPACE}/{group}/NCMD/{node}"), payload.encode_to_vec().into())
}
