//! What a gateway sends, read and checked, with its events ready to be stored. Pure.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};

use fieldlog_projections::{Seq, Time};
use fieldlog_wire::Manifest;
use fieldlog_wire::account::Arrival;
use fieldlog_wire::json::parse_time;
use fieldlog_wire::received::{Malformed, Received};
use fieldlog_wire::resend;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::text;

/// What the agent allows for a gateway's id.
const GATEWAY_BYTES_MAX: usize = 128;
/// What every event's type begins and ends with.
const TYPE: (&str, &str) = ("io.fieldlog.", ".v1");

/// A parcel.
#[derive(Debug)]
pub struct Parcel {
    /// Its events, in order.
    pub events: Vec<Event>,
    /// Position and digest of each. The digest has only what never changes about an event: device ids in it do, when a
    /// device is renamed.
    digests: Vec<(Seq, u64)>,
    /// Positions that the gateway has no records of any more, as it says with this parcel.
    pub(crate) lost: Option<(Seq, Seq)>,
    received: Received,
}

/// An event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its position.
    pub seq: Seq,
    /// Log time.
    pub recorded: Time,
    /// The device's own time, if it has said one, else log time.
    pub time: Time,
    /// Its type, such as `state_changed`.
    pub kind: Box<str>,
    /// The device that it is about.
    pub device: Option<Box<str>>,
    /// Its content, as JSON that PostgreSQL can take apart.
    pub data: Box<str>,
}

/// The attributes of a CloudEvent that are used.
#[derive(Deserialize)]
struct CloudEvent<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    subject: Option<Cow<'a, str>>,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(borrow)]
    recordedtime: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl Parcel {
    /// Reads a message. If the manifest is not part of it, `field` finds its fields by their names without prefix.
    ///
    /// # Errors
    /// [`ParcelError`] if it is not a parcel, or an event in it is not one of fieldlog.
    pub fn read<'a>(body: &[u8], field: impl Fn(&str) -> Option<&'a str>) -> Result<Parcel, ParcelError> {
        let mut received = Received::read(body, &field)?;
        let manifest = &received.manifest;
        let gateway = &*manifest.gateway;
        let is_named = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if gateway.len() > GATEWAY_BYTES_MAX || !gateway.bytes().all(is_named) {
            return Err(ParcelError::Gateway { gateway: gateway.chars().take(80).collect() });
        }
        if manifest.last.0.max(manifest.head.0) > i64::MAX as u64 {
            return Err(ParcelError::Position);
        }
        let events =
            received.texts().map(|(seq, line)| Event::read(seq, line)).collect::<Result<Vec<_>, _>>()?;
        let lost = resend::lost(&received.manifest, field(resend::FIELD));
        let digests = events.iter().map(|event| (event.seq, event.digest())).collect();
        // The events have everything that is needed of them.
        received.lines = Vec::new();
        Ok(Parcel { events, digests, lost, received })
    }

    /// Its manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.received.manifest
    }

    /// The first position at which it has another event than these.
    pub(crate) fn contradicts(&self, events: &[&Event]) -> Option<Seq> {
        let other = events.iter().find(|known| {
            let at = self.digests.binary_search_by_key(&known.seq, |(seq, _)| *seq);
            at.is_ok_and(|at| self.digests[at].1 != known.digest())
        });
        other.map(|event| event.seq)
    }

    /// What the account is told of it.
    pub fn arrival(&self) -> Arrival<'_> {
        Arrival { events: &self.digests, ..self.received.arrival() }
    }
}

impl Event {
    fn read(seq: Seq, line: &[u8]) -> Result<Event, ParcelError> {
        let event: CloudEvent<'_> =
            serde_json::from_slice(line).map_err(|source| ParcelError::Event { seq, source })?;
        let time = |field: &'static str, text: &str| {
            parse_time(text).ok_or_else(|| ParcelError::Time {
                seq,
                field,
                text: text.chars().take(80).collect(),
            })
        };
        let kind = event.kind.strip_prefix(TYPE.0).and_then(|kind| kind.strip_suffix(TYPE.1));
        Ok(Event {
            seq,
            recorded: time("recordedtime", &event.recordedtime)?,
            time: time("time", &event.time)?,
            kind: text::text(kind.unwrap_or(&event.kind)).into(),
            device: event.subject.map(|subject| text::text(&subject).into()),
            data: text::document(event.data.get()).into(),
        })
    }

    /// Of what never changes about it.
    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.recorded, &self.kind).hash(&mut hasher);
        hasher.finish()
    }
}

/// Why a message is not a parcel.
#[derive(Debug, thiserror::Error)]
pub enum ParcelError {
    /// It has no form that a gateway sends.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The gateway's id is none.
    #[error("`{gateway}` cannot be the id of a gateway: letters, digits, `.`, `-` and `_`, up to 128")]
    Gateway {
        /// The id, truncated.
        gateway: String,
    },
    /// A position that no log reaches.
    #[error("its positions are beyond 2^63")]
    Position,
    /// An event is none.
    #[error("the event at sequence {seq} is not one of fieldlog: {source}")]
    Event {
        /// Its position.
        seq: Seq,
        /// Why.
        source: serde_json::Error,
    },
    /// A time of an event is none.
    #[error("`{field}` of the event at sequence {seq} is `{text}`, which is no time")]
    Time {
        /// Its position.
        seq: Seq,
        /// Which attribute.
        field: &'static str,
        /// Its text, truncated.
        text: String,
    },
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn read(gateway: &str, events: &[&str]) -> Result<Parcel, ParcelError> {
        let (count, link) = (events.len().to_string(), "0".repeat(64));
        let fields = HashMap::from([
            ("gateway", gateway),
            ("epoch", "00000000000000aa"),
            ("first", "7"),
            ("last", "9"),
            ("lane", "live"),
            ("before", &link),
            ("after", &link),
            ("head", "9"),
            ("events", &count),
        ]);
        Parcel::read(format!("[{}]", events.join(",")).as_bytes(), |name| fields.get(name).copied())
    }

    fn event(seq: u64, more: &str) -> String {
        format!(
            r#"{{"id":"gw/00000000000000aa/{seq}","type":"io.fieldlog.state_changed.v1",
            "recordedtime":"2026-01-02T03:04:05.000006Z","data":{{"changes":{{"on":true}}}}{more}}}"#
        )
    }

    #[test]
    fn events_are_read_from_their_attributes() {
        let time = r#","time":"2026-01-02T03:00:00Z","subject":"hall/lamp""#;
        let parcel = read("gw", &[&event(7, time), &event(9, time)]).unwrap();
        let expected = Event {
            seq: Seq(9),
            recorded: Time(1_767_323_045_000_006),
            time: Time(1_767_322_800_000_000),
            kind: "state_changed".into(),
            device: Some("hall/lamp".into()),
            data: r#"{"changes":{"on":true}}"#.into(),
        };
        assert_eq!(parcel.events[1], expected);
        assert_eq!(parcel.arrival().events.iter().map(|(seq, _)| seq.0).collect::<Vec<_>>(), [7, 9]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |result: Result<Parcel, ParcelError>, words: &str| {
            let said = result.unwrap_err().to_string();
            assert!(said.contains(words), "{said}");
        };
        check(
            read("gw", &[&event(7, "")]),
            "the event at sequence 7 is not one of fieldlog: missing field `time`",
        );
        check(read("gw", &[&event(7, r#","time":"noon""#)]), "`time` of the event at sequence 7 is `noon`");
        check(read("a/b", &[]), "`a/b` cannot be the id of a gateway");
        check(Parcel::read(b"hello", |_| None), "neither a compact parcel nor JSON");
    }
}
