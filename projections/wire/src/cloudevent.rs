//! Records as CloudEvents 1.0 in JSON. The sender writes them, and the receiver produces the same bytes from the
//! compact format.

use std::fmt::Write as _;

use fieldlog_projections::stored::{Changes, KINDS, StoredError, type_id, type_name};
use fieldlog_projections::{Epoch, Fact, Record, Time};
use jiff::Timestamp;
use serde::ser::{Error as _, SerializeMap};
use serde::{Serialize, Serializer};

use crate::event::{Data, Naming};
use crate::json::{Rfc3339, Val};

/// Content type of a batch: a JSON array of events.
pub const BATCH_CONTENT_TYPE: &str = "application/cloudevents-batch+json";

/// Writes the events of one gateway and epoch; buffers are reused between events.
#[derive(Clone, Debug)]
pub struct CloudEvents {
    source: String,
    id_prefix: String,
    kinds: Vec<(u16, String)>,
    unknown: String,
    id: String,
    sequence: String,
    time: TimeText,
    recorded: TimeText,
}

#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    time: &'a str,
    datacontenttype: &'static str,
    sequence: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    partitionkey: Option<&'a str>,
    recordedtime: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    data: Payload<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Payload<'a> {
    Changes { changes: ChangesJson<'a> },
    Other(Data<'a>),
}

impl CloudEvents {
    /// A writer for events of this gateway and epoch.
    pub fn new(gateway: &str, epoch: Epoch) -> CloudEvents {
        let mut kinds: Vec<(u16, String)> =
            KINDS.iter().map(|(id, _, name)| (*id, format!("io.fieldlog.{name}.v1"))).collect();
        kinds.dedup();
        CloudEvents {
            source: format!("urn:fieldlog:{gateway}"),
            id_prefix: format!("{gateway}/{epoch}/"),
            kinds,
            unknown: "io.fieldlog.unknown.v1".into(),
            id: String::new(),
            sequence: String::new(),
            time: TimeText::default(),
            recorded: TimeText::default(),
        }
    }

    /// Appends a record as an event; `subject` is the name of its device.
    pub fn write(
        &mut self,
        record: &Record<'_>,
        subject: Option<&str>,
        names: &dyn Naming,
        out: &mut Vec<u8>,
    ) -> Result<(), StoredError> {
        self.id.clear();
        self.sequence.clear();
        let _ = write!(self.id, "{}{}", self.id_prefix, record.seq);
        let _ = write!(self.sequence, "{:020}", record.seq.0);
        let mut traceparent = None;
        let fact;
        let data = if record.kind.type_id == type_id::STATE_CHANGED && matches!(record.kind.version, 1 | 2) {
            Payload::Changes { changes: ChangesJson(Changes::parse(record.kind, record.payload)?, names) }
        } else {
            fact = match record.fact() {
                // Written by a newer fieldlog; the reader of the event may know the version.
                Err(StoredError::Newer { kind }) => Fact::Unknown { kind, payload: record.payload.to_vec() },
                other => other?,
            };
            if let Fact::CommandRequested { request, .. } = &fact {
                traceparent = request.traceparent.map(|parent| parent.to_string());
            }
            Payload::Other(Data::of(&fact, names))
        };
        let kind = self.kinds.iter().find(|(id, _)| *id == record.kind.type_id);
        let event = CloudEvent {
            specversion: "1.0",
            id: &self.id,
            source: &self.source,
            kind: kind.map_or(&self.unknown, |(_, name)| name),
            subject,
            time: self.time.of(record.device_time.unwrap_or(record.time)),
            datacontenttype: "application/json",
            sequence: &self.sequence,
            partitionkey: subject,
            recordedtime: self.recorded.of(record.time),
            traceparent,
            data,
        };
        // Writing to memory cannot fail, but decoding the changes can.
        serde_json::to_writer(out, &event).map_err(|_| StoredError::Payload { kind: record.kind })
    }
}

/// Name of a record's type, as used in filters and events.
pub fn kind_name(record: &Record<'_>) -> &'static str {
    type_name(record.kind.type_id).unwrap_or("unknown")
}

/// Changes as an object, directly from the stored bytes; removed attributes are null.
struct ChangesJson<'a>(Changes<'a>, &'a dyn Naming);

impl Serialize for ChangesJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let mut changes = self.0.clone();
        while let Some((attr, value)) = changes.next().map_err(S::Error::custom)? {
            map.serialize_entry(self.1.attribute(attr), &Val(value))?;
        }
        map.end()
    }
}

/// A time as text. Most events are in the same second as the previous one, so only the fraction is rewritten.
#[derive(Clone, Debug, Default)]
struct TimeText {
    second: Option<i64>,
    text: String,
}

/// Six digits and a `Z`.
const FRACTION: usize = 7;

impl TimeText {
    fn of(&mut self, time: Time) -> &str {
        let (second, micros) = (time.0.div_euclid(1_000_000), time.0.rem_euclid(1_000_000));
        if self.second != Some(second) {
            self.text.clear();
            let Ok(whole) = Timestamp::from_second(second) else {
                self.second = None;
                let _ = write!(self.text, "{}", Rfc3339(time));
                return &self.text;
            };
            let _ = write!(self.text, "{whole:.6}");
            self.second = Some(second);
        }
        self.text.truncate(self.text.len() - FRACTION);
        let _ = write!(self.text, "{micros:06}Z");
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn times_are_those_of_the_read_side(times in prop::collection::vec(any::<i64>(), 1..8), near in any::<bool>()) {
            let mut text = TimeText::default();
            for time in times {
                let time = Time(if near { time % 5_000_000 } else { time });
                prop_assert_eq!(format!("\"{}\"", text.of(time)), serde_json::to_string(&Rfc3339(time)).unwrap());
            }
        }
    }
}
