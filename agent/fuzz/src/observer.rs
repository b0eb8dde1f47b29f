//! The whole observer: messages through the rules of a configuration, with elapsing time, commits, and restarts.
//!
//! The input is a world's number, and steps: one byte for the kind, and its data. A message has its source (in the
//! byte's bits), the length of its topic, the length of its payload in two bytes, topic and payload.

use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use fieldlog::config::Config;
use fieldlog::message::{Message, SourceId, WireFault};
use fieldlog::observe::{Heard, Observer, Outcomes, RecordBatch};
use fieldlog::trial::Trial;
use fieldlog_projections::chunk::{Chunk, Fill, Place, RecordBuffer};
use fieldlog_projections::{Epoch, Fact, Seq, Time, View, snapshot, stored};

use crate::json::check_value;
use crate::{byte, choice, worlds};

/// Maximum length of a quarantine reason, in bytes, including the mark that it was truncated.
const REASON_MAX: usize = 1_024 + 8;
/// Steps of one input.
const STEPS_MAX: usize = 64;
/// 2026-11-28T12:00:00Z.
const NOW: Time = Time(1_795_867_200_000_000);

/// In a step's byte: something other than a message.
const OTHER: u8 = 0x40;
/// The message is retained.
const RETAINED: u8 = 0x80;

/// See the module.
pub fn run(data: &[u8]) {
    let mut data = data;
    let worlds = worlds::all();
    let world = &worlds[choice(&mut data, worlds.len())];
    // For one source, compare with `fieldlog try`.
    let mut trial = match world.config.sources.as_slice() {
        [_] => Trial::new(world.config.clone(), None, NOW, worlds::ZONE).ok(),
        _ => None,
    };
    let mut run = Run::new(&world.config);
    for _ in 0..STEPS_MAX {
        if data.is_empty() {
            break;
        }
        let step = byte(&mut data);
        if step & OTHER != 0 {
            run.other(step, byte(&mut data));
            continue;
        }
        let (topic, payload) = (usize::from(byte(&mut data)), choice(&mut data, 1 << 16));
        let (topic, rest) = data.split_at(topic.min(data.len()));
        let (payload, rest) = rest.split_at(payload.min(rest.len()));
        data = rest;
        let source = usize::from(step & 0x3f) % world.config.sources.len();
        if let (Some(trial), Ok(topic)) = (&mut trial, std::str::from_utf8(topic)) {
            let lines =
                trial.observe(topic, payload, step & RETAINED != 0).expect("records that can be read back");
            assert!(!lines.is_empty(), "nothing is said of a message");
        }
        run.message(source, topic, payload, step & RETAINED != 0, None);
    }
    run.stop();
}

struct Run<'c> {
    config: &'c Config,
    observer: Observer,
    outcomes: Vec<Arc<Outcomes>>,
    view: View,
    /// What is not committed yet.
    batch: RecordBatch,
    /// Folded from the chunks, as at a start.
    again: View,
    now: Time,
}

impl<'c> Run<'c> {
    fn new(config: &'c Config) -> Run<'c> {
        let outcomes: Vec<Arc<Outcomes>> = config.sources.iter().map(|_| Arc::default()).collect();
        let view = View::new(fieldlog::config::windows(&config.aggregates));
        let observer = observer(config, &view, &outcomes, NOW);
        let batch = RecordBatch { records: RecordBuffer::after(view.time), ..RecordBatch::default() };
        Run { config, observer, outcomes, again: view.clone(), view, batch, now: NOW }
    }

    fn message(
        &mut self,
        source: usize,
        topic: &[u8],
        payload: &[u8],
        retain: bool,
        fault: Option<WireFault>,
    ) {
        let message = Message {
            topic: Bytes::copy_from_slice(topic),
            payload: Bytes::copy_from_slice(payload),
            retain,
            dup: false,
            pkid: None,
            fault,
        };
        let before = Counts::of(&self.outcomes[source]);
        let (records, quarantined) = (self.batch.records.len(), self.batch.quarantine.len());
        self.observer.observe(SourceId(source as u16), &message, self.now, &mut self.batch);
        let counts = Counts::of(&self.outcomes[source]).since(before);
        let new = self.batch.records.len() - records;
        assert_eq!(counts.messages, 1);
        // It had exactly one outcome: recorded, one of the others, or waiting for an earlier message.
        let others = [counts.unchanged, counts.ignored, counts.quarantined].iter().sum::<u64>();
        assert!(others <= 1, "counted twice: {counts:?}");
        let recorded = counts.events > 0 || counts.waiting > 0;
        // Of a message that one rule refuses, others may record something.
        let partly = recorded && counts.quarantined == 1;
        assert!(
            partly || (others == 0) == recorded,
            "neither recorded nor anything else, or both: {counts:?}"
        );
        assert!(counts.quarantined == 1 || self.batch.quarantine.len() == quarantined || new > 0);
        if counts.ignored == 1 {
            assert_eq!(new, 0, "records of a message that is ignored");
        }
        if counts.quarantined == 1 {
            let kept = self.batch.quarantine.len() > quarantined;
            assert!(kept || counts.summarised == 1, "lost: {counts:?}");
        }
        for (_, payload) in &self.batch.quarantine {
            assert!(payload.len() <= self.config.limits.quarantine_payload_bytes_max);
        }
    }

    /// What is not a message.
    fn other(&mut self, step: u8, by: u8) {
        let Run { observer, batch, now, .. } = self;
        match step & 7 {
            0 => self.commit(),
            1 => {
                now.0 += i64::from(by) * 1_000_000;
                observer.tick(*now, batch);
            }
            2 => {
                let before = *now;
                now.0 += (i64::from(by) - 128) * 60_000_000;
                observer.clock_stepped(before, *now);
            }
            3 => observer.connection(SourceId(0), u64::from(by), *now, batch),
            4 => {
                self.stop();
                self.observer = observer_again(self.config, &self.view, &self.outcomes, self.now);
            }
            5 => {
                self.commit();
                // A crash: the observer is not told.
                self.observer = observer_again(self.config, &self.view, &self.outcomes, self.now);
            }
            6 => {
                if observer.awaits_commit() {
                    observer.record_awaited(*now, batch);
                    assert!(!observer.awaits_commit());
                }
            }
            _ => {
                let fault = match by & 1 {
                    0 => WireFault::TooLarge { size: u64::from(by) << 20 },
                    _ => WireFault::Malformed("a reason"),
                };
                self.message(0, b"a/topic", &[by; 80], by & 2 != 0, Some(fault));
            }
        }
    }

    fn stop(&mut self) {
        self.observer.pause(self.now, &mut self.batch);
        self.observer.finish(self.now, &mut self.batch);
        assert!(!self.observer.awaits_commit(), "a message waits for a commit after the end");
        self.commit();
        let bytes = snapshot::encode(&self.view, Epoch::default()).expect("a snapshot");
        let windows = fieldlog::config::windows(&self.config.aggregates);
        let read = snapshot::read(Cursor::new(bytes), &windows).expect("a snapshot can be read");
        assert!(read == self.view, "a snapshot is another state");
    }

    /// Makes the batch durable, as the log would.
    fn commit(&mut self) {
        let first = self.view.seq.next();
        for (index, _) in self.batch.quarantine.drain(..) {
            assert!(index < self.batch.records.len(), "bytes in quarantine without a record");
        }
        if !self.batch.records.is_empty() {
            let (view, again) = (&mut self.view, &mut self.again);
            view.apply_records(self.batch.records.records(first), Seq(u64::MAX))
                .expect("records can be folded");
            let store = |_: Seq, bytes: &[u8]| {
                let mut scratch = Vec::new();
                again.apply_chunk(&Chunk::parse(bytes, &mut scratch).expect("a chunk can be read"))
            };
            let fill = Fill { large: 4_096, small: 512 };
            self.batch
                .records
                .chunks(first, Place::default(), fill, &mut 1_024, store)
                .expect("chunks can be folded");
            assert!(self.view == self.again, "the chunks are another state");
        }
        for record in self.batch.records.records(first) {
            let record = record.expect("a record can be read");
            let fact = record.fact().expect("a fact can be read");
            let mut bytes = Vec::new();
            let kind = stored::encode(&fact, &mut bytes);
            assert!(
                stored::decode(kind, &bytes).as_ref() == Ok(&fact),
                "{fact:?} is another fact when it is read"
            );
            self.check_fact(&fact);
        }
        self.batch.records.clear();
        self.observer.committed(self.view.seq, self.view.seq);
        self.check_state();
    }

    fn check_fact(&self, fact: &Fact) {
        let limits = &self.config.limits;
        let text_max = limits.text_bytes_max;
        match fact {
            Fact::StateChanged { changes, .. } | Fact::HistoryReported { changes, .. } => {
                assert!(!changes.is_empty(), "a change of nothing");
                changes.iter().for_each(|(_, value)| check_value(value.borrow(), text_max));
            }
            Fact::ActionFired { value, .. } => check_value(value.borrow(), text_max),
            Fact::InputQuarantined { reason, .. } | Fact::QuarantineSummarised { reason, .. } => {
                assert!(
                    !reason.is_empty() && reason.len() <= REASON_MAX,
                    "a reason of {} bytes",
                    reason.len()
                );
            }
            _ => {}
        }
    }

    fn check_state(&self) {
        let limits = &self.config.limits;
        let there = self.view.devices.iter().filter(|(_, device)| !device.retired).count();
        assert!(there <= limits.devices_max, "{there} devices");
        for (_, device) in self.view.devices.iter() {
            let called = device.called();
            assert!(
                !called.is_empty() && called.len() <= limits.name_bytes_max,
                "a device called {called:?}"
            );
            let attributes = device.attributes.len();
            assert!(attributes <= limits.attributes_per_device_max, "{called} has {attributes} attributes");
        }
        for name in self.view.devices.attribute_names() {
            assert!(!name.is_empty() && name.len() <= limits.name_bytes_max, "an attribute called {name:?}");
        }
        let state = self.observer.state_use();
        assert!(state.bytes <= state.bytes_max, "{state:?}");
    }
}

fn observer(config: &Config, view: &View, outcomes: &[Arc<Outcomes>], now: Time) -> Observer {
    let mut observer = Observer::new(config, view, Arc::new(Heard::default()), outcomes, now).expect("rules");
    observer.set_zone(worlds::ZONE);
    observer
}

/// A new observer after a start, from the log.
fn observer_again(config: &Config, view: &View, outcomes: &[Arc<Outcomes>], now: Time) -> Observer {
    let mut observer = observer(config, view, outcomes, now);
    observer.committed(view.seq, view.seq);
    observer
}

/// The counters of a source.
#[derive(Clone, Copy, Debug)]
struct Counts {
    messages: u64,
    events: u64,
    unchanged: u64,
    ignored: u64,
    quarantined: u64,
    summarised: u64,
    waiting: u64,
}

impl Counts {
    fn of(outcomes: &Outcomes) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            messages: read(&outcomes.messages),
            events: read(&outcomes.events),
            unchanged: read(&outcomes.unchanged),
            ignored: read(&outcomes.ignored),
            quarantined: read(&outcomes.quarantined),
            summarised: read(&outcomes.summarised),
            waiting: read(&outcomes.sparkplug.reordered),
        }
    }

    fn since(self, before: Counts) -> Counts {
        Counts {
            messages: self.messages - before.messages,
            events: self.events - before.events,
            unchanged: self.unchanged - before.unchanged,
            ignored: self.ignored - before.ignored,
            quarantined: self.quarantined - before.quarantined,
            summarised: self.summarised - before.summarised,
            waiting: self.waiting - before.waiting,
        }
    }
}
