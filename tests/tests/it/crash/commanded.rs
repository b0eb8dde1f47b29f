//! Points that ask for commands: what was answered is there, and what must not be published twice is not.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::mpsc::channel;

use fieldlog::command::{Accepted, Asked};
use fieldlog::config::Config;
use fieldlog::log::Log;
use fieldlog::message::{Delivery, SourceId};
use fieldlog::recovery;
use fieldlog::snapshots::SnapshotStore;
use fieldlog::writer::{Input, WriterError};
use fieldlog_projections::command::{CommandState, Progress};
use fieldlog_projections::{Fact, Seq};
use fieldlog_tests::fault_disk::FaultDisk;
use fieldlog_tests::rng::Rng;
use serde_json::json;
use tokio::sync::oneshot;

use super::{Tally, add, come_back, open, plan_fault};
use crate::rig::{Rig, clock, config, message, scratch};

const DEVICES: usize = 3;
/// The first is idempotent, the second not.
const ATTRIBUTES: [&str; 2] = ["level", "step"];

/// What clients and broker know.
struct Model {
    /// By their number, which is their key: device and attribute.
    asked: Vec<(usize, &'static str)>,
    accepted: BTreeMap<usize, Seq>,
    published: Vec<(Seq, u32)>,
    store: SnapshotStore,
    config: Config,
}

pub fn point(rng: &mut Rng, tally: &Tally) {
    let disk = FaultDisk::new(rng.fork());
    let dir = scratch();
    let store = SnapshotStore::open(dir.path()).unwrap();
    let mut model =
        Model { asked: vec![], accepted: BTreeMap::new(), published: vec![], store, config: commanded() };
    for _ in 0..rng.between(2, 5) {
        if rng.chance(90) {
            let operations = *rng.pick(&[12, 60, 300]);
            plan_fault(&disk, rng, operations);
        }
        life(&disk, rng, &mut model, tally);
        add(&tally.faults, usize::from(disk.fired()));
        come_back(&disk, rng);
    }
    life(&disk, rng, &mut model, tally);
    disk.crash(0);
    let log = open(&disk, false, rng, tally).expect("opens after a clean stop");
    model.check(&log, tally);
    assert_eq!(model.accepted.len(), model.asked.len(), "a writer on a good disk answers everything");
    add(&tally.commands_accepted, model.accepted.len());
    add(&tally.commands_published, model.published.len());
}

fn commanded() -> Config {
    let block = |attribute: &str, idempotent: bool| {
        format!(
            "[[source.command]]\nattribute = \"{attribute}\"\ntype = \"integer\"\nidempotent = {idempotent}\n\
             topic = \"cmnd/{{device}}\"\non_offline = \"hold\"\n"
        )
    };
    let text = format!(
        "gateway_id = \"test\"\ndata_dir = \"unused\"\n[[source]]\nname = \"s\"\naddress = \"mqtt://broker.example\"\n{}{}\
         [[source.subscription]]\ntopic = \"d/+device\"\ndecoder = \"json\"\n",
        block(ATTRIBUTES[0], true),
        block(ATTRIBUTES[1], false)
    );
    let mut config = config(1);
    config.sources[0].commands = Config::from_toml(&text, "test").unwrap().sources.remove(0).commands;
    config.snapshots.events = 30;
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
        model.check(&log, tally);
        let windows = fieldlog::config::windows(&model.config.aggregates);
        recovery::recover(&model.store, &log.reader(), log.epoch(), &windows).unwrap()
    });
    let rig = Rig::new(log, recovered.view, &model.config, &model.store);
    model.live(rig, disk, rng, tally);
}

impl Model {
    /// Lets the writer work in this thread through what clients ask for and devices report.
    fn live(&mut self, mut rig: Rig, disk: &FaultDisk, rng: &mut Rng, tally: &Tally) {
        let (inputs, inbox) = channel();
        rig.outboxes[0].open(1, clock().wall());
        let names: Vec<String> = (0..DEVICES).map(|device| format!("d/{device}")).collect();
        for (name, attribute) in names.iter().flat_map(|name| ATTRIBUTES.map(|attribute| (name, attribute))) {
            inputs.send(self.report(&rig, name, 0, attribute)).unwrap();
        }
        // Devices and attributes are there for commands once they are committed.
        inputs.send(Input::Snapshot(oneshot::channel().0)).unwrap();
        let again: Vec<usize> = (0..self.asked.len()).filter(|n| !self.accepted.contains_key(n)).collect();
        let first = self.asked.len();
        let new = || (rng.below(DEVICES), *rng.pick(&ATTRIBUTES));
        self.asked.extend(std::iter::repeat_with(new).take(12));
        let mut waiting = Vec::new();
        for n in again.into_iter().chain(first..self.asked.len()) {
            // Some ask twice at once.
            for _ in 0..1 + usize::from(rng.chance(20)) {
                let (reply, answer) = oneshot::channel();
                inputs.send(Input::Command(Box::new(self.ask(n, reply)))).unwrap();
                waiting.push((n, answer));
            }
            if rng.chance(20) {
                let (device, attribute) = self.asked[rng.below(self.asked.len())];
                inputs.send(self.report(&rig, &names[device], rng.below(n + 1), attribute)).unwrap();
            }
        }
        // The writer takes this for the end of the agent and stops, if the disk permits.
        drop(inputs);
        let ended = rig.boot().and_then(|writer| writer.run(&inbox));
        for (n, mut answer) in waiting {
            match answer.try_recv() {
                Ok(Ok(Accepted { command, .. })) => {
                    let known = *self.accepted.entry(n).or_insert(command);
                    assert_eq!(known, command, "one key, two commands");
                }
                Ok(Err(rejected)) => panic!("{rejected:?}"),
                Err(_) => assert!(ended.is_err(), "a writer that stops cleanly answers everybody"),
            }
        }
        self.published.extend(std::iter::from_fn(|| rig.outboxes[0].pop()).filter_map(|publication| {
            let tracked = publication.tracked()?;
            Some((tracked.command, tracked.attempt))
        }));
        if let Err(error) = ended {
            assert!(disk.fired(), "the writer ends on a disk without faults: {error}");
            assert!(matches!(error, WriterError::Log(_)), "{error}");
            add(&tally.failed_commits, 1);
        }
        disk.cut();
        rig.end();
    }

    fn ask(
        &self,
        n: usize,
        reply: oneshot::Sender<Result<Accepted, fieldlog::command::declared::Rejected>>,
    ) -> Asked {
        let (device, attribute) = self.asked[n];
        let body =
            json!({"attribute": attribute, "value": n, "ttl_s": 600_000, "idempotency_key": n.to_string()});
        let body = serde_json::from_value(body).unwrap();
        Asked {
            actor: "uid:0".into(),
            device: device.to_string(),
            only: Default::default(),
            body,
            patient: false,
            ttl_max_s: None,
            traceparent: None,
            reply,
        }
    }

    fn report(&self, rig: &Rig, topic: &str, value: usize, attribute: &str) -> Input {
        let acks = rig.connections[0].clone();
        acks.begin(1);
        let messages = vec![message(topic, format!("{{\"{attribute}\":{value}}}"), 1)];
        Input::Delivery(Delivery {
            source: SourceId(0),
            received: clock().wall(),
            acks,
            messages,
            may_be_old: false,
        })
    }

    /// Checks everything that was promised, on a newly opened log.
    fn check(&self, log: &Log, tally: &Tally) {
        let (mut requests, mut dispatched) = (BTreeMap::new(), BTreeSet::new());
        let mut states: BTreeMap<Seq, CommandState> = BTreeMap::new();
        let scanned = log.reader().scan(Seq(1), |chunk| {
            for record in chunk.records() {
                let record = record.unwrap();
                match record.fact().unwrap() {
                    Fact::CommandRequested { request, .. } => {
                        let n: usize = request.key.parse().unwrap();
                        let before = requests.insert(n, record.seq);
                        assert_eq!(before, None, "one key, two commands in the log");
                        states.insert(record.seq, CommandState::Requested);
                    }
                    Fact::CommandProgressed { command, progress, .. } => {
                        let state = states.get_mut(&command).expect("a step after its request");
                        assert!(!state.is_final(), "{command} goes on after its end");
                        *state = progress.state();
                        if let Progress::Dispatched { attempt } = progress {
                            assert!(
                                dispatched.insert((command, attempt)),
                                "{command} is sent twice as {attempt}"
                            );
                        }
                    }
                    _ => {}
                }
            }
            ControlFlow::<()>::Continue(())
        });
        assert_eq!(scanned.unwrap(), None);
        for (n, command) in &self.accepted {
            assert_eq!(requests.get(n), Some(command), "{n} was accepted and is lost");
        }
        add(&tally.commands_unanswered, requests.keys().filter(|n| !self.accepted.contains_key(n)).count());
        let once: BTreeSet<Seq> =
            requests.iter().filter(|(n, _)| self.asked[**n].1 == "step").map(|(_, seq)| *seq).collect();
        for (command, attempt) in &self.published {
            assert!(
                dispatched.contains(&(*command, *attempt)),
                "{command} was published and that is not in the log"
            );
        }
        assert!(dispatched.iter().all(|(command, attempt)| *attempt == 1 || !once.contains(command)));
        let published = self.published.iter().filter(|(command, _)| once.contains(command));
        let published: Vec<_> = published.collect();
        assert_eq!(published.len(), published.iter().collect::<BTreeSet<_>>().len(), "published twice");
        let windows = fieldlog::config::windows(&self.config.aggregates);
        let view = recovery::recover(&self.store, &log.reader(), log.epoch(), &windows).unwrap().view;
        for (command, state) in states {
            assert_eq!(view.commands.get(command).map(|command| command.state), Some(state), "{command}");
        }
    }
}
