//! What a batch of events changes in the read models. Pure.
//!
//! The result does not depend on the order in which parcels arrive: the newest position wins, and buckets are merged. So
//! a backlog may come after fresh events, as it does with `live first`.

use std::collections::BTreeMap;

use fieldlog_projections::aggregates::start_s;
use fieldlog_projections::{Bucket, Seq, Time};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::parcel::Event;
use crate::text;

mod command;
mod device;
mod refused;

pub use command::Command;
pub use device::{Available, Described, Device, Found};
pub use refused::Refused;

/// Lengths of the windows of aggregates, in seconds, each a multiple of the one before.
pub const WINDOWS_S: [u32; 3] = [60, 3_600, 86_400];

/// Types of events that are a sign of life of their device, as the gateway's own fold of the devices has it.
const TOUCHING: [&str; 7] = [
    "state_changed",
    "availability_changed",
    "device_discovered",
    "device_renamed",
    "device_retired",
    "action_fired",
    "history_reported",
];
/// Types of events that describe.
const DESCRIBING: [&str; 2] = ["device_described", "attribute_described"];

/// Types of events that say that a message could not be read.
const REFUSING: [&str; 2] = ["input_quarantined", "quarantine_summarised"];

/// Changes of one log.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// By id.
    pub devices: BTreeMap<Box<str>, Device>,
    /// By the position of the request.
    pub commands: BTreeMap<Seq, Command>,
    /// Messages that the gateway could not read.
    pub refused: Vec<Refused>,
    /// Log time of the newest event, with its position.
    pub newest: Option<(Seq, Time)>,
    /// The newest start of the agent: its position, and the agent's version.
    pub booted: Option<(Seq, Box<str>)>,
}

/// Changes of one attribute.
#[derive(Clone, Debug)]
pub struct Attribute {
    /// Its newest value.
    pub newest: Newest,
    /// By the start of the shortest window, in seconds since 1970.
    minutes: BTreeMap<i64, Window>,
}

/// The newest value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub struct Newest {
    /// Position of its event.
    pub seq: Seq,
    /// Log time of it.
    pub time: Time,
    /// As JSON that `jsonb` takes; `null` after it was removed.
    pub value: Box<str>,
    /// The same, if it is a number.
    pub number: Option<f64>,
}

/// The numbers of one window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// As the gateway's own aggregates have them.
    pub bucket: Bucket,
    /// Position of `bucket.last`.
    pub last_seq: Seq,
}

/// Content of a `booted`.
#[derive(Deserialize)]
struct Booted {
    version: Box<str>,
}

/// Content of a `state_changed`.
#[derive(Deserialize)]
struct StateChanged<'a> {
    #[serde(borrow)]
    changes: BTreeMap<Box<str>, &'a RawValue>,
}

impl Changes {
    /// Adds an event; each only once.
    pub fn add(&mut self, event: &Event) {
        let at = (event.seq, event.recorded);
        self.newest = self.newest.max(Some(at));
        if event.kind.starts_with("command_") {
            return command::add(&mut self.commands, event);
        }
        let kind = &*event.kind;
        if kind == "booted" {
            if let Ok(Booted { version }) = serde_json::from_str(&event.data) {
                self.booted = self.booted.take().max(Some((event.seq, version)));
            }
            return;
        }
        if REFUSING.contains(&kind) {
            self.refused.extend(Refused::read(event));
            return;
        }
        let Some(id) = &event.device else { return };
        let touches = TOUCHING.contains(&kind);
        if !touches && !DESCRIBING.contains(&kind) {
            return;
        }
        let device = self.devices.entry(id.clone()).or_default();
        if touches {
            device.touch(event);
        }
        // Content of another form is kept as an event and changes nothing: a newer gateway may have sent it.
        if kind != "state_changed" {
            device.learn(event);
        } else if let Ok(state) = serde_json::from_str::<StateChanged<'_>>(&event.data) {
            for (attribute, value) in state.changes {
                device.change(&attribute, event, value.get());
            }
        }
    }
}

impl Attribute {
    /// From the first change.
    pub(crate) fn new(event: &Event, json: &str) -> Attribute {
        let (value, number) = text::value(json);
        let newest =
            Newest { seq: event.seq, time: event.recorded, value: value.into_owned().into(), number };
        let mut attribute = Attribute { newest, minutes: BTreeMap::new() };
        attribute.count(event, number);
        attribute
    }

    /// Adds a change.
    pub(crate) fn add(&mut self, event: &Event, json: &str) {
        let (value, number) = text::value(json);
        if event.seq > self.newest.seq {
            self.newest =
                Newest { seq: event.seq, time: event.recorded, value: value.into_owned().into(), number };
        }
        self.count(event, number);
    }

    fn count(&mut self, event: &Event, number: Option<f64>) {
        let Some(number) = number else { return };
        let start_s = start_s(event.recorded, WINDOWS_S[0]);
        let new = Window { bucket: Bucket::new(start_s, number), last_seq: event.seq };
        self.minutes.entry(start_s).and_modify(|window| window.merge(&new)).or_insert(new);
    }

    /// Its windows of all lengths, with their lengths.
    pub fn windows(&self) -> impl Iterator<Item = (u32, Window)> {
        let mut longer: BTreeMap<(u32, i64), Window> = BTreeMap::new();
        for window in self.minutes.values() {
            for length_s in WINDOWS_S {
                let start_s = start_s(Time::from_secs(window.bucket.start_s), length_s);
                let new = Window { bucket: Bucket { start_s, ..window.bucket }, ..*window };
                longer.entry((length_s, start_s)).and_modify(|known| known.merge(window)).or_insert(new);
            }
        }
        longer.into_iter().map(|((length_s, _), window)| (length_s, window))
    }
}

impl Window {
    /// Merges numbers of the same window, whichever came first.
    fn merge(&mut self, other: &Window) {
        let last = if other.last_seq > self.last_seq { other } else { &*self };
        let (last, last_seq) = (last.bucket.last, last.last_seq);
        self.bucket.merge(&other.bucket);
        self.bucket.last = last;
        self.last_seq = last_seq;
    }
}

#[cfg(test)]
mod tests;
