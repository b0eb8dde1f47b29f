//! Commands of a host application to edge nodes and devices. They are QoS 0, not retained, and without `seq`.

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
    (format!("{NAMESPACE}/{group}/NCMD/{node}"), payload(&metric, at))
}

/// How a metric is called: by its alias, if its birth has one (tck-id-payloads-alias-data-cmd-requirement).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called<'a> {
    /// By its alias.
    Alias(u64),
    /// By its name.
    Name(&'a str),
}

/// Topic and payload of the command that writes a metric of an edge node, `group/node`, or of a device,
/// `group/node/device`. `None` if the owner is neither.
pub fn write(
    owner: &str,
    called: Called<'_>,
    datatype: u32,
    value: Raw,
    at: Time,
) -> Option<(String, Bytes)> {
    let levels: Vec<&str> = owner.split('/').collect();
    let topic = match levels[..] {
        [group, node] => format!("{NAMESPACE}/{group}/NCMD/{node}"),
        [group, node, device] => format!("{NAMESPACE}/{group}/DCMD/{node}/{device}"),
        _ => return None,
    };
    let (alias, name) = match called {
        Called::Alias(alias) => (Some(alias), None),
        Called::Name(name) => (None, Some(name.to_owned())),
    };
    let metric = Metric {
        name,
        alias,
        timestamp: Some(millis(at)),
        // It should not be there (tck-id-payloads-metric-datatype-not-req), but common edge nodes cannot read a value
        // without it.
        datatype: Some(datatype),
        value: Some(value),
        ..Metric::default()
    };
    Some((topic, payload(&metric, at)))
}

/// A command that was made at one time, as it is published at another: its timestamps are those of the publication
/// (tck-id-topics-ncmd-timestamp). `None` if it is not what [`write()`] makes.
pub fn published_at(topic: &str, payload: &[u8], made: Time, at: Time) -> Option<Bytes> {
    let rest = topic.strip_prefix(NAMESPACE)?.strip_prefix('/')?;
    let verb = rest.split('/').nth(1)?;
    if !["NCMD", "DCMD"].contains(&verb) {
        return None;
    }
    let mut command = Payload::decode(payload).ok()?;
    let ours = |timestamp: Option<u64>| timestamp == Some(millis(made));
    if !ours(command.timestamp) || command.encode_to_vec() != payload {
        return None;
    }
    command.timestamp = Some(millis(at));
    for bytes in &mut command.metrics {
        let mut metric = Metric::decode(bytes.clone()).ok().filter(|metric| ours(metric.timestamp))?;
        metric.timestamp = Some(millis(at));
        *bytes = metric.encode_to_vec().into();
    }
    Some(command.encode_to_vec().into())
}

fn payload(metric: &Metric, at: Time) -> Bytes {
    let metrics = vec![metric.encode_to_vec().into()];
    Payload { timestamp: Some(millis(at)), metrics, ..Payload::default() }.encode_to_vec().into()
}
