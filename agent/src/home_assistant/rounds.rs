//! What is to be published next. Each round goes through the gateway and its devices and finds what differs from what was
//! published last; of what changes meanwhile, the newest wins. The view is locked for a few devices at a time. Blocking.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use fieldlog_projections::fact::Availability;
use fieldlog_projections::{DeviceId, Seq};

use super::choice::Choice;
use super::device::{self, Known};
use super::document::Announcer;
use super::gateway::{GatewayState, SinkState};
use super::kept::Kept;
use crate::forward::backlog::Backlog;
use crate::read_side::{ReadSide, count_devices};
use crate::retention::reserve::free_bytes;
use crate::sorted;

/// Between two looks at the gateway and all announcements.
const REFRESH: Duration = Duration::from_secs(30);
/// Messages that are made at a time.
const BATCH: usize = 32;
/// Devices that are looked at while the view is locked.
const SLICE: u32 = 8;
/// Devices that are announced, at most.
const DEVICES_MAX: usize = 1_000;
const MIB: u64 = 1 << 20;

/// A retained message; an empty payload takes the topic back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
}

/// What the broker of the source has been told of a device.
#[derive(Clone, Debug)]
struct Told {
    name: Arc<str>,
    config: u64,
    state: u64,
    /// What the state was made of.
    seq: Seq,
    availability: Availability,
    attributes: usize,
    /// The round in which the device was last there.
    round: u64,
}

/// The rounds, and what was published in them.
#[derive(Debug)]
pub(super) struct Rounds {
    announcer: Announcer,
    choice: Choice,
    source: String,
    devices: BTreeMap<DeviceId, Told>,
    /// The gateway's announcement and state.
    gateway: (u64, u64),
    round: u64,
    /// The next device of a round that is not finished.
    cursor: Option<u32>,
    /// Everything is looked at in this round, not only what has changed.
    whole: bool,
    refresh_due: Option<Instant>,
    seen: Option<Seq>,
    sample: Option<(u64, Instant)>,
    beyond: bool,
}

impl Rounds {
    pub(super) fn new(announcer: Announcer, choice: Choice, source: &str) -> Rounds {
        Rounds {
            announcer,
            choice,
            source: source.to_owned(),
            devices: BTreeMap::new(),
            gateway: (0, 0),
            round: 0,
            cursor: None,
            whole: false,
            refresh_due: None,
            seen: None,
            sample: None,
            beyond: false,
        }
    }

    /// Has everything published again: the broker may have lost it.
    pub(super) fn begin_anew(&mut self) {
        self.devices.clear();
        (self.gateway, self.cursor, self.refresh_due) = ((0, 0), None, None);
    }

    /// The next messages; the round goes on with the next call if there is more.
    pub(super) fn next(&mut self, side: &ReadSide, kept: &mut Kept, now: Instant) -> Vec<Outgoing> {
        let mut out = Vec::new();
        if self.cursor.is_none() && !self.begin(side, now, &mut out) {
            return out;
        }
        if self.choice.is_empty() {
            self.cursor = None;
        }
        while let Some(first) = self.cursor.filter(|_| out.len() < BATCH) {
            self.slice(side, first, &mut out);
        }
        if self.cursor.is_none() {
            self.end(kept, &mut out);
        }
        for message in out.iter().filter(|message| !message.payload.is_empty()) {
            kept.add(&self.source, &message.topic);
        }
        out
    }

    /// Whether a round is under way.
    pub(super) fn has_more(&self) -> bool {
        self.cursor.is_some()
    }

    /// Begins a round if one is due.
    fn begin(&mut self, side: &ReadSide, now: Instant, out: &mut Vec<Outgoing>) -> bool {
        self.whole = self.refresh_due.is_none_or(|due| now >= due);
        let position = side.shared.position.borrow().applied;
        if !self.whole && self.seen == Some(position) {
            return false;
        }
        (self.seen, self.cursor) = (Some(position), Some(0));
        self.round += 1;
        if self.whole {
            self.refresh_due = Some(now + REFRESH);
            self.gateway(side, now, out);
        }
        true
    }

    fn gateway(&mut self, side: &ReadSide, now: Instant, out: &mut Vec<Outgoing>) {
        let state = self.gateway_state(side, now);
        let sinks: Vec<String> = state.sinks.keys().cloned().collect();
        let topics = &self.announcer.topics;
        let config = self.announcer.gateway_config(&sinks);
        if changed(&mut self.gateway.0, &config) {
            out.push(Outgoing { topic: topics.config(), payload: config });
        }
        // Nothing in it can fail.
        let state = serde_json::to_vec(&state).unwrap_or_default();
        // Without a will, what is published says that the gateway is there.
        if changed(&mut self.gateway.1, &state) || self.announcer.will.is_none() {
            out.push(Outgoing { topic: topics.status(), payload: state });
        }
    }

    fn gateway_state(&mut self, side: &ReadSide, now: Instant) -> GatewayState {
        let config = side.config.borrow().clone();
        let events = side.shared.stats.events.load(Ordering::Relaxed);
        let before = self.sample.replace((events, now));
        let rate = before.and_then(|(count, then)| {
            let seconds = now.saturating_duration_since(then).as_secs_f64();
            let rate = events.saturating_sub(count) as f64 * 60.0 / seconds;
            (seconds > 0.0).then(|| (rate * 10.0).round() / 10.0)
        });
        let sink = |view: crate::forward::sinks::SinkView| {
            let details = view.status.details();
            let backlog = Backlog::of(&details.acked, &side.shared.reader).ok();
            let state = SinkState {
                connected: details.state.connected_since().is_some(),
                backlog_events: backlog.map(|backlog| backlog.events),
            };
            (view.name, state)
        };
        let (seq, devices) = {
            let view = side.shared.view.read().unwrap_or_else(PoisonError::into_inner);
            (view.seq, count_devices(&view.devices))
        };
        let quarantine = side.shared.reader.quarantine(config.limits.quarantine_records_max);
        GatewayState {
            seq: seq.0,
            events_per_minute: rate,
            disk_free_mib: free_bytes(&config.data_dir).map(|bytes| bytes / MIB),
            written_mib_per_day: side.bytes_written_per_day().map(|bytes| bytes as u64 / MIB),
            alerts_open: side.open_alerts().map(|open| open.iter().sum()),
            quarantined: quarantine.ok().map(|found| found.len() as u64),
            devices_offline: devices.offline as u64,
            sinks: side.sinks.views().into_iter().map(sink).collect(),
        }
    }

    fn slice(&mut self, side: &ReadSide, first: u32, out: &mut Vec<Outgoing>) {
        let view = side.shared.view.read().unwrap_or_else(PoisonError::into_inner);
        let end = first.saturating_add(SLICE);
        self.cursor = ((end as usize) < view.devices.len()).then_some(end);
        for id in (first..end).map(DeviceId) {
            let Some(device) = view.devices.get(id) else { continue };
            if !self.choice.has(id, device, &view.descriptions) {
                continue;
            }
            let known = Known { id, device, devices: &view.devices, descriptions: &view.descriptions };
            self.device(&known, out);
        }
    }

    fn device(&mut self, known: &Known<'_>, out: &mut Vec<Outgoing>) {
        let name = &known.device.name;
        let before = self.devices.get(&known.id).filter(|told| told.name == *name);
        if before.is_none() && self.devices.len() >= DEVICES_MAX {
            if !std::mem::replace(&mut self.beyond, true) {
                tracing::warn!(
                    "more than {DEVICES_MAX} devices match home_assistant.devices; the others are not announced"
                );
            }
            return;
        }
        let (seq, availability) = (known.device.changed.0, known.availability());
        let attributes = known.device.attributes.len();
        let mut told = before.cloned().unwrap_or_else(|| Told {
            name: name.clone(),
            config: 0,
            state: 0,
            seq: Seq(0),
            availability,
            attributes: usize::MAX,
            round: 0,
        });
        let topics = &self.announcer.topics;
        if self.whole || told.attributes != attributes {
            let config = self.announcer.device_config(known);
            if changed(&mut told.config, &config) {
                out.push(Outgoing { topic: topics.device_config(name), payload: config });
            }
        }
        if (told.seq, told.availability) != (seq, availability) {
            let state = device::state(known);
            if changed(&mut told.state, &state) {
                out.push(Outgoing { topic: topics.device_state(name), payload: state });
            }
        }
        (told.seq, told.availability, told.attributes, told.round) =
            (seq, availability, attributes, self.round);
        self.devices.insert(known.id, told);
    }

    /// Takes back what is retained and not wanted any more.
    fn end(&mut self, kept: &Kept, out: &mut Vec<Outgoing>) {
        let round = self.round;
        self.devices.retain(|_, told| told.round == round);
        // All that is wanted is in there, unless it is on its way.
        if kept.at(&self.source).len() <= 2 + 2 * self.devices.len() && !self.whole {
            return;
        }
        let topics = &self.announcer.topics;
        let mut wanted = sorted::set([topics.config(), topics.status()]);
        for told in self.devices.values() {
            wanted.extend([topics.device_config(&told.name), topics.device_state(&told.name)]);
        }
        out.extend(taken_back(kept, &self.source, |topic| !wanted.contains(topic)));
    }
}

/// Takes back the topics at the broker of a source that are `unwanted`, some at a time; announcements first, so that nobody
/// reads an empty state.
pub(super) fn taken_back(kept: &Kept, source: &str, unwanted: impl Fn(&str) -> bool) -> Vec<Outgoing> {
    let topics = kept.at(source).filter(|topic| unwanted(topic));
    let (first, rest): (Vec<&String>, Vec<&String>) = topics.partition(|topic| topic.ends_with("/config"));
    let empty = |topic: &String| Outgoing { topic: topic.clone(), payload: Vec::new() };
    first.into_iter().chain(rest).take(BATCH).map(empty).collect()
}

/// Notes the hash of what is published; whether it is another than before.
fn changed(before: &mut u64, payload: &[u8]) -> bool {
    let mut hasher = DefaultHasher::new();
    payload.hash(&mut hasher);
    // 0 is that of nothing.
    let hash = hasher.finish().max(1);
    std::mem::replace(before, hash) != hash
}
