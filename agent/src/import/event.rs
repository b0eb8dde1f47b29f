//! One line of an export.

use std::collections::BTreeMap;

use fieldlog_projections::fact::{Availability, AvailabilityCause};
use fieldlog_projections::{Epoch, Seq, Time, Value};
use fieldlog_wire::api::events::Event;
use fieldlog_wire::api::position::parse_epoch;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The types that can be imported.
const TYPES: &str = "state_changed,action_fired,history_reported,availability_changed";

/// An event that can be imported.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Imported {
    pub(super) gateway: String,
    pub(super) epoch: Epoch,
    pub(super) seq: Seq,
    pub(super) time: Time,
    pub(super) wall: Time,
    pub(super) device_time: Option<Time>,
    pub(super) device: String,
    pub(super) said: Said,
}

/// What a device said.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    Changed(Vec<(String, Value)>),
    Reported(Vec<(String, Value)>),
    Fired([(String, Value); 1]),
    Available(Availability, AvailabilityCause),
}

impl Said {
    pub(super) fn values(&self) -> &[(String, Value)] {
        match self {
            Said::Changed(values) | Said::Reported(values) => values,
            Said::Fired(value) => value,
            Said::Available(..) => &[],
        }
    }
}

#[derive(Deserialize)]
struct Changes<'a> {
    #[serde(borrow)]
    changes: BTreeMap<String, &'a RawValue>,
}

#[derive(Deserialize)]
struct Action<'a> {
    attribute: String,
    #[serde(borrow)]
    value: &'a RawValue,
}

#[derive(Deserialize)]
struct Available {
    availability: String,
    cause: String,
}

impl Imported {
    /// Reads a line, or says why it cannot be imported.
    pub(super) fn parse(line: &[u8]) -> Result<Imported, String> {
        let event: Event<'_, Box<RawValue>> = serde_json::from_slice(line)
            .map_err(|error| format!("this is no event of an export: {error}"))?;
        let mut id = event.id.rsplitn(3, '/');
        let seq = id.next().and_then(|seq| seq.parse().ok()).map(Seq);
        let epoch = id.next().and_then(parse_epoch);
        let (Some(seq), Some(epoch), Some(gateway)) = (seq, epoch, id.next()) else {
            return Err(format!("the id `{}` is not GATEWAY/EPOCH/SEQUENCE", event.id));
        };
        if seq != event.seq || seq == Seq(0) {
            return Err(format!(
                "the id `{}` and the sequence {} contradict each other",
                event.id, event.seq
            ));
        }
        let said = said(&event.kind, event.data.get())?;
        let device = event.device.as_deref().filter(|device| !device.is_empty());
        let device = device.ok_or("the event has no device")?;
        Ok(Imported {
            gateway: gateway.to_owned(),
            epoch,
            seq,
            time: event.time.0,
            wall: event.wall_time.unwrap_or(event.time).0,
            device_time: event.device_time.map(|time| time.0),
            device: device.to_owned(),
            said,
        })
    }
}

fn said(kind: &str, data: &str) -> Result<Said, String> {
    let changes = || {
        let Changes { changes } = read(kind, data)?;
        changes
            .into_iter()
            .map(|(name, raw)| Ok((name, value(raw.get())?)))
            .collect::<Result<Vec<_>, String>>()
    };
    match kind {
        "state_changed" => changes().map(Said::Changed),
        "history_reported" => changes().map(Said::Reported),
        "action_fired" => {
            let Action { attribute, value: raw } = read(kind, data)?;
            Ok(Said::Fired([(attribute, value(raw.get())?)]))
        }
        "availability_changed" => {
            let Available { availability, cause } = read(kind, data)?;
            let availability = match availability.as_str() {
                "online" => Availability::Online,
                "offline" => Availability::Offline,
                "unknown" => Availability::Unknown,
                other => return Err(format!("there is no availability `{other}`")),
            };
            let cause = match cause.as_str() {
                "topic" => AvailabilityCause::Topic,
                "silence" => AvailabilityCause::Silence,
                other => return Err(format!("there is no cause `{other}` of an availability")),
            };
            Ok(Said::Available(availability, cause))
        }
        other => Err(format!(
            "an event of the type `{other}` is about its own log or gateway and cannot be imported; export with --type {TYPES}"
        )),
    }
}

fn read<'a, T: Deserialize<'a>>(kind: &str, data: &'a str) -> Result<T, String> {
    serde_json::from_str(data).map_err(|error| format!("this is not the content of `{kind}`: {error}"))
}

/// A value as it was recorded. Text that is JSON is taken for text; an export does not tell.
fn value(raw: &str) -> Result<Value, String> {
    let bad = |error: serde_json::Error| error.to_string();
    match raw.as_bytes().first() {
        Some(b'"') => Ok(Value::Text(serde_json::from_str::<String>(raw).map_err(bad)?.into())),
        Some(b'{' | b'[') => Ok(Value::Json(raw.into())),
        Some(b'n') => Ok(Value::Null),
        Some(b't' | b'f') => Ok(Value::Bool(raw == "true")),
        _ if raw.contains(['.', 'e', 'E']) => Ok(Value::Float(serde_json::from_str(raw).map_err(bad)?)),
        _ => match (raw.parse(), raw.parse()) {
            (Ok(int), _) => Ok(Value::Int(int)),
            (_, Ok(uint)) => Ok(Value::Uint(uint)),
            _ => Err(format!("the number {raw} is larger than any that is recorded")),
        },
    }
}
