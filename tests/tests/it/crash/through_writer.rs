//! Points that use the whole writer: deliveries in, acknowledgements out.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;

use fieldlog::config::Config;
use fieldlog::log::Log;
use fieldlog::message::{Delivery, SourceId};
use fieldlog::recovery::{self, past::state_at};
use fieldlog::snapshots::SnapshotStore;
use fieldlog::writer::{Input, WriterError};
use fieldlog_projections::{Epoch, Fact, Seq, Value, View, snapshot};
use fieldlog_tests::fault_disk::FaultDisk;
use fieldlog_tests::rng::Rng;

use super::{Tally, add, come_back, files, open, plan_fault};
use crate::rig::{ALL_OF_PAST, Rig, clock, config, message, scratch};

/// Messages sent and acknowledged, over all runs.
struct Model {
    epoch: Option<Epoch>,
    sent: Vec<Sent>,
    acked: BTreeSet<usize>,
    /// The view of the last writer that ended.
    before: Option<View>,
    store: SnapshotStore,
    config: Config,
}

/// One message; its number is its index in the list, and part of its record.
#[derive(Clone, Copy)]
struct Sent {
    source: usize,
    device: usize,
    /// Not JSON: goes into quarantine.
    junk: bool,
}

pub fn point(rng: &mut Rng, tally: &Tally) {
    let disk = FaultDisk::new(rng.fork());
    let dir = scratch();
    let mut model = Model {
        epoch: None,
        sent: Vec::new(),
        acked: BTreeSet::new(),
        before: None,
        store: SnapshotStore::open(dir.path()).unwrap(),
        config: some_config(rng),
    };
    for _ in 0..rng.between(2, 5) {
        if rng.chance(90) {
            let operations = *rng.pick(&[12, 60, 300]);
            plan_fault(&disk, rng, operations);
        }
        life(&disk, rng, &mut model, tally);
        add(&tally.faults, usize::from(disk.fired()));
        come_back(&disk, rng);
        let view = model.before.clone().unwrap_or_default();
        files::spoil(&model.store, model.epoch, &view, rng);
    }
    life(&disk, rng, &mut model, tally);
    disk.crash(0);
    let log = open(&disk, false, rng, tally).expect("opens after a clean stop");
    model.check(&log);
    assert_eq!(model.acked.len(), model.sent.len(), "a writer on a good disk acknowledges everything");
    add(&tally.acks, model.acked.len());
    add(&tally.records, log.head().0 as usize);
}

fn some_config(rng: &mut Rng) -> Config {
    let mut config = config(1 + rng.below(2));
    for source in &mut config.sources {
        source.receive_window = *rng.pick(&[1, 3, 8, 1_000]);
    }
    config.log.commit_bytes_max = *rng.pick(&[1, 300, 4_000, 1_000_000]);
    config.snapshots.events = *rng.pick(&[30, 1_000_000, 1_000_000]);
    config
}

fn life(disk: &FaultDisk, rng: &mut Rng, model: &mut Model, tally: &Tally) {
    let log = match open(disk, rng.chance(25), rng, tally) {
        Ok(log) => log,
        Err(error) => {
            assert!(disk.fired(), "the log does not open on a disk without faults: {error}");
            add(&tally.failed_opens, 1);
            return;
        }
    };
    if disk.fired() {
        disk.cut();
        return;
    }
    let recovered = disk.unharmed(|| {
        model.check(&log);
        let windows = fieldlog::config::windows(&model.config.aggregates);
        recovery::recover(&model.store, &log.reader(), log.epoch(), &windows).unwrap()
    });
    add(&tally.snapshots_used, usize::from(recovered.snapshot > Seq(0)));
    add(&tally.snapshots_passed_over, recovered.notes.len());
    let rig = Rig::new(log, recovered.view, &model.config, &model.store);
    model.live(rig, disk, rng, tally);
}

impl Model {
    /// Lets the writer work through some messages in this thread.
    fn live(&mut self, mut rig: Rig, disk: &FaultDisk, rng: &mut Rng, tally: &Tally) {
        let (inputs, inbox) = channel();
        let mut in_flight = vec![Vec::new(); rig.connections.len()];
        for delivery in self.deliveries(&rig, rng, &mut in_flight) {
            inputs.send(Input::Delivery(delivery)).unwrap();
        }
        // The writer takes this for the end of the agent and stops, if the disk permits.
        drop(inputs);
        let ended = rig.boot().and_then(|writer| writer.run(&inbox));
        for (source, acks) in rig.connections.iter().enumerate() {
            let mut pkids = Vec::new();
            acks.drain_into(&mut pkids);
            let sent = &in_flight[source];
            assert!(pkids.iter().zip(1..).all(|(pkid, n)| *pkid == n), "not in the order of arrival");
            assert!(pkids.len() <= sent.len(), "something was acknowledged that was never sent");
            self.acked.extend(&sent[..pkids.len()]);
            if ended.is_ok() {
                assert_eq!(pkids.len(), sent.len(), "a clean stop leaves a message without an answer");
                assert_eq!(rig.outstanding[source].load(Ordering::Relaxed), 0);
            }
        }
        if let Err(error) = ended {
            assert!(disk.fired(), "the writer ends on a disk without faults: {error}");
            assert!(matches!(error, WriterError::Log(_)), "{error}");
            add(&tally.failed_commits, 1);
        }
        disk.cut();
        self.before = Some(rig.end());
    }

    /// Messages still at the broker, and some new ones, split into reads.
    fn deliveries(&mut self, rig: &Rig, rng: &mut Rng, in_flight: &mut [Vec<usize>]) -> Vec<Delivery> {
        let again = (0..self.sent.len()).filter(|n| !self.acked.contains(n)).collect::<Vec<_>>();
        let first = self.sent.len();
        for _ in 0..rng.below(150) {
            let source = rng.below(rig.connections.len());
            // Each device belongs to one source, so that its order is that of the source.
            let device = rng.below(12) * rig.connections.len() + source;
            self.sent.push(Sent { source, device, junk: rng.chance(5) });
        }
        let mut deliveries: Vec<Delivery> = Vec::new();
        for n in again.into_iter().chain(first..self.sent.len()) {
            let sent = self.sent[n];
            in_flight[sent.source].push(n);
            let (topic, payload) = match sent.junk {
                true => (format!("d/junk{n}"), format!("junk {n}")),
                false => (format!("d/{}", sent.device), format!("{{\"n\":{n},\"on\":{}}}", n % 2 == 0)),
            };
            let mut message = message(&topic, payload, in_flight[sent.source].len() as u16);
            message.dup = n < first;
            let source = SourceId(sent.source as u16);
            match deliveries.last_mut() {
                Some(last) if last.source == source && rng.chance(60) => last.messages.push(message),
                _ => deliveries.push(Delivery {
                    source,
                    received: clock().wall(),
                    acks: rig.connections[sent.source].clone(),
                    messages: vec![message],
                    may_be_old: false,
                }),
            }
        }
        for delivery in &deliveries {
            delivery.acks.begin(delivery.messages.len());
        }
        deliveries
    }

    /// Checks everything that was promised, on a newly opened log.
    fn check(&mut self, log: &Log) {
        assert_eq!(*self.epoch.get_or_insert(log.epoch()), log.epoch(), "the epoch changed");
        let mut recorded = BTreeSet::new();
        let mut next = Seq(1);
        let view = self
            .before
            .clone()
            .unwrap_or_else(|| View::new(fieldlog::config::windows(&self.config.aggregates)));
        let names = recovery::recover(&self.store, &log.reader(), log.epoch(), view.aggregates.windows())
            .unwrap()
            .view
            .devices;
        let scanned = log.reader().scan(Seq(1), |chunk| {
            for record in chunk.records() {
                let record = record.unwrap();
                assert_eq!(record.seq, next, "not gapless from 1");
                next = next.next();
                match record.fact().unwrap() {
                    Fact::StateChanged { device, changes } => {
                        let device = &*names.get(device).unwrap().name;
                        recorded.extend(changes.iter().filter_map(|(_, value)| self.number(device, value)));
                    }
                    Fact::InputQuarantined { topic, .. } => {
                        recorded.insert(self.junk(log, record.seq, &topic));
                    }
                    _ => {}
                }
            }
            ControlFlow::<()>::Continue(())
        });
        assert_eq!(scanned.unwrap(), None);
        assert_eq!(next.0 - 1, log.head().0);
        let lost: Vec<_> = self.acked.difference(&recorded).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        assert!(log.head() >= view.seq, "the log is behind what the view had");
        let mut folded = View::new(view.aggregates.windows().to_vec());
        let failed = log.reader().scan(Seq(1), |chunk| match folded.apply_chunk_until(chunk, view.seq) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        });
        assert_eq!(failed.unwrap(), None);
        assert!(folded == view, "the view at {} is not what it was before the crash", view.seq);
        let then =
            state_at(&self.store, &log.reader(), log.epoch(), view.seq, ALL_OF_PAST, &|| false).unwrap();
        let bytes = |view: &View| snapshot::encode(&view.share_without_aggregates(), log.epoch()).unwrap();
        assert!(bytes(&then.view) == bytes(&view), "the past at {} is not what it was", view.seq);
    }

    /// The number of the message that a value came from.
    fn number(&self, device: &str, value: &Value) -> Option<usize> {
        let Value::Int(n) = value else { return None };
        let sent = self.sent.get(*n as usize).expect("a value that was never sent");
        assert!(!sent.junk && device == sent.device.to_string(), "a value that was never sent");
        Some(*n as usize)
    }

    fn junk(&self, log: &Log, seq: Seq, topic: &str) -> usize {
        let n: usize = topic.strip_prefix("d/junk").unwrap().parse().unwrap();
        assert!(self.sent[n].junk);
        if let Some(payload) = log.reader().quarantined(seq).unwrap() {
            assert_eq!(payload, format!("junk {n}").into_bytes());
        }
        n
    }
}
