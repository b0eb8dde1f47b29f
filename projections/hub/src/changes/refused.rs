//! Messages that a gateway could not read.

use std::borrow::Cow;

use fieldlog_projections::{Seq, Time};
use serde::Deserialize;

use crate::parcel::Event;
use crate::text;

/// A message that a gateway could not read, or several that are recorded as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Position.
    pub seq: Seq,
    /// Log time.
    pub recorded: Time,
    /// Where it came from, and what was wrong with it.
    pub text: Box<str>,
}

#[derive(Deserialize)]
struct Quarantined<'a> {
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(borrow)]
    reason: Cow<'a, str>,
}

impl Refused {
    /// `None` if the event has another form.
    pub(super) fn read(event: &Event) -> Option<Refused> {
        let Quarantined { source, topic, reason } = serde_json::from_str(&event.data).ok()?;
        let words = format!("{source} · {topic} · {reason}");
        Some(Refused { seq: event.seq, recorded: event.recorded, text: text::text(&words).into() })
    }
}
