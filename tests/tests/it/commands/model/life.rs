//! One run after another of a writer without a network, and what the reference has to say of it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use fieldlog::command::Accepted;
use fieldlog::command::declared::Code;
use fieldlog::message::{Fate, Published, Tracked};
use fieldlog::snapshots::SnapshotStore;
use fieldlog::writer::{Input, WriterError};
use fieldlog::{rebuild, recovery};
use fieldlog_projections::command::CommandState;
use fieldlog_projections::{Aggregates, Commands, Descriptions, Seq, Sessions, Settings, Value, View};
use fieldlog_tests::fault_disk::{Fault, On, Plan};
use fieldlog_tests::rng::Rng;
use fieldlog_tests::wait::block_until;
use tokio::sync::oneshot;

use super::reference::{Asks, Came, Lane};
use super::{DECLARED, DEVICES, PASS_S, Tally, World};
use crate::rig::{Rig, clock, pass};

/// A running agent, without a network.
pub(super) struct Life {
    rig: Rig,
    inputs: Sender<Input>,
    writer: JoinHandle<Result<(), WriterError>>,
    /// Publications that the connection has, and whether they are written.
    under_way: Vec<(Tracked, bool)>,
    connection: u64,
}

impl Life {
    /// The first run: two devices, and a command whose repetition later shows that everything before it is done.
    pub(super) fn begin(world: &mut World, tally: &mut Tally) -> Life {
        let mut life = Life::start(world, None);
        let mut rng = Rng::new(0);
        for device in 0..DEVICES {
            for (attribute, ..) in DECLARED {
                let (input, _) = world.report(&life.rig, (device, attribute), 0, &mut rng);
                life.inputs.send(input).unwrap();
                world.reference.values.insert((device, attribute), 0);
            }
        }
        life.settle_with_snapshot();
        let (_, idempotent, held, evidence) = DECLARED[3];
        world.asked.push(Asks { lane: (0, "beep"), target: 9, idempotent, held, evidence });
        world.reference.connects(true);
        life.asks(world, 0);
        life.check(world, tally);
        life
    }

    fn start(world: &mut World, torn: Option<&Torn>) -> Life {
        let log = world.open();
        let store = SnapshotStore::open(world.dir.path()).unwrap();
        let windows = fieldlog::config::windows(&world.config.aggregates);
        let recovered = recovery::recover(&store, &log.reader(), log.epoch(), &windows).unwrap();
        if let Some(torn) = torn {
            torn.adopt(&recovered.view, world);
        }
        let mut rig = Rig::new(log, recovered.view, &world.config, &store);
        let (inputs, inbox) = channel();
        rig.outboxes[0].open(1, clock().wall());
        let writer = rig.boot().unwrap();
        let writer = std::thread::spawn(move || writer.run(&inbox));
        Life { rig, inputs, writer, under_way: Vec::new(), connection: 1 }
    }

    fn settle_with_snapshot(&self) {
        let (reply, answer) = oneshot::channel();
        self.inputs.send(Input::Snapshot(reply)).unwrap();
        answer.blocking_recv().unwrap();
    }

    /// Everything that was sent before is done, recorded and committed. A repeated command is answered after a commit, and
    /// what that commit lets go is done when the next one is answered.
    fn settle(&self, world: &World) {
        for _ in 0..2 {
            let (reply, answer) = oneshot::channel();
            self.inputs.send(world.ask(0, reply)).unwrap();
            assert!(answer.blocking_recv().unwrap().unwrap().repeated);
        }
    }

    fn asks(&self, world: &mut World, n: usize) {
        let (reply, answer) = oneshot::channel();
        self.inputs.send(world.ask(n, reply)).unwrap();
        let asks = world.asked[n];
        match answer.blocking_recv().unwrap() {
            Ok(Accepted { command, repeated }) => {
                assert!(!repeated && (asks.held || world.reference.connected));
                world.reference.ask(command, asks);
            }
            Err(rejected) => {
                assert_eq!(rejected.code, Code::SourceAway, "{rejected:?}");
                assert!(!asks.held && !world.reference.connected);
            }
        }
    }

    pub(super) fn event(mut self, world: &mut World, rng: &mut Rng, tally: &mut Tally) -> Life {
        match rng.below(100) {
            0..24 => {
                let lane = (rng.below(DEVICES), rng.pick(&DECLARED).0);
                let value = rng.below(3) as u64;
                let (input, fresh) = world.report(&self.rig, lane, value, rng);
                self.inputs.send(input).unwrap();
                world.reference.reports(lane, value, fresh);
            }
            24..46 => {
                world.asked.push(World::asks(rng));
                self.asks(world, world.asked.len() - 1);
            }
            46..70 => self.publication(world, rng),
            70..78 => {
                pass(Duration::from_secs(PASS_S));
                self.settle(world);
                world.reference.pass(PASS_S);
            }
            78..83 => self.toggle_connection(world),
            83..87 => {
                self.settle_with_snapshot();
                tally.snapshots += 1;
            }
            87..91 => self.rebuild(rng, tally),
            91..94 => {
                self.stop(world);
                return Life::again(world);
            }
            94..97 => {
                world.disk.cut();
                tally.crashes += 1;
                return self.dies(world, rng);
            }
            _ => {
                tally.torn += 1;
                return self.loses_power(world, rng);
            }
        }
        self
    }

    /// Something becomes of a publication.
    fn publication(&mut self, world: &mut World, rng: &mut Rng) {
        if self.under_way.is_empty() {
            return;
        }
        let at = rng.below(self.under_way.len());
        let (tracked, written) = self.under_way.remove(at);
        let came = match (written, rng.below(10)) {
            (false, 0) => Came::NotSent,
            (false, 1) => Came::TooLate,
            (false, 2) => Came::Refused,
            (false, _) => Came::Written,
            (true, 0) => Came::Refused,
            (true, 1 | 2) => Came::Lost,
            (true, _) => Came::Acknowledged,
        };
        if came == Came::Written {
            self.under_way.push((tracked, true));
        }
        self.comes(world, &tracked, came);
    }

    fn comes(&self, world: &mut World, of: &Tracked, came: Came) {
        let fate = match came {
            Came::Written => Fate::Written,
            Came::Acknowledged => Fate::Acknowledged,
            Came::Refused => Fate::Refused("no".into()),
            Came::NotSent => Fate::NotSent,
            Came::TooLate => Fate::TooLate,
            Came::Lost => Fate::Lost,
        };
        let published = Published { command: of.command, attempt: of.attempt, fate };
        self.inputs.send(Input::Published(published)).unwrap();
        world.reference.publication(of.command, of.attempt, came);
    }

    fn toggle_connection(&mut self, world: &mut World) {
        if world.reference.connected {
            world.reference.connects(false);
            self.disconnects(world);
            return;
        }
        self.connection += 1;
        self.rig.outboxes[0].open(self.connection, clock().wall());
        // What waits is sent with the next look at the time.
        pass(Duration::from_secs(1));
        self.settle(world);
        world.reference.connects(true);
        world.reference.pass(1);
    }

    fn disconnects(&mut self, world: &mut World) {
        self.rig.outboxes[0].close();
        for (tracked, written) in std::mem::take(&mut self.under_way) {
            self.comes(world, &tracked, if written { Came::Lost } else { Came::NotSent });
        }
    }

    fn rebuild(&self, rng: &mut Rng, tally: &mut Tally) {
        // Of commands whose requests are deleted, only a snapshot knows.
        let folds = match self.first() {
            Seq(1) => vec![Commands::ID, Aggregates::ID, Descriptions::ID, Sessions::ID],
            _ => vec![Aggregates::ID],
        };
        let fold = *rng.pick(&folds);
        let windows = self.rig.shared.view.read().unwrap().aggregates.windows().to_vec();
        rebuild::start(&self.rig.shared, &[fold], Settings { windows, ..Settings::default() });
        block_until("the end of a rebuild", || (!self.rig.shared.rebuild.running()).then_some(()));
        assert_eq!(self.rig.shared.rebuild.failed(), []);
        tally.rebuilt += 1;
    }

    fn first(&self) -> Seq {
        self.rig.shared.reader.range().unwrap().map_or(Seq(1), |(first, _)| first)
    }

    /// The agent is stopped, and its sources with it.
    pub(super) fn stop(mut self, world: &mut World) {
        self.inputs.send(Input::Drain).unwrap();
        world.reference.connects(false);
        self.disconnects(world);
        self.inputs.send(Input::Stop).unwrap();
        self.writer.join().unwrap().unwrap();
        self.rig.end();
        world.reference.restarts();
    }

    fn again(world: &mut World) -> Life {
        world.disk.restart();
        Life::start(world, None)
    }

    /// The power is gone while nothing happens; all of it was committed.
    fn dies(self, world: &mut World, rng: &mut Rng) -> Life {
        drop(self.inputs);
        // It notices with its next commit, which is that of its end.
        let _ = self.writer.join().unwrap();
        self.rig.end();
        world.disk.crash(*rng.pick(&[0, 50, 100]));
        world.reference.restarts();
        Life::start(world, None)
    }

    /// The power is gone in the middle of something: a part of it is there afterwards, from the first on.
    fn loses_power(self, world: &mut World, rng: &mut Rng) -> Life {
        let before = world.reference.values.clone();
        let mut reported: BTreeMap<Lane, Vec<u64>> = BTreeMap::new();
        let mut waiting = Vec::new();
        world.disk.plan(Plan { on: On::Change, nth: 1 + rng.below(40), fault: Fault::PowerCut });
        for _ in 0..rng.between(3, 10) {
            // The writer may be gone before all of it is sent.
            if rng.chance(50) {
                let lane = (rng.below(DEVICES), rng.pick(&DECLARED).0);
                let value = rng.below(3) as u64;
                let (input, _) = world.report(&self.rig, lane, value, rng);
                reported.entry(lane).or_default().push(value);
                let _ = self.inputs.send(input);
            } else {
                world.asked.push(World::asks(rng));
                let (reply, answer) = oneshot::channel();
                let n = world.asked.len() - 1;
                let _ = self.inputs.send(world.ask(n, reply));
                waiting.push((n, answer));
            }
        }
        drop(self.inputs);
        let _ = self.writer.join().unwrap();
        let accepted: Vec<(usize, Seq)> = waiting
            .into_iter()
            .filter_map(|(n, mut answer)| Some((n, answer.try_recv().ok()?.ok()?.command)))
            .collect();
        let published: Vec<Tracked> = self
            .rig
            .outboxes
            .iter()
            .flat_map(|o| std::iter::from_fn(|| o.pop()))
            .filter_map(|p| p.tracked())
            .collect();
        world.disk.cut();
        self.rig.end();
        world.disk.crash(*rng.pick(&[0, 50, 100]));
        let life = Life::start(world, Some(&Torn { before, reported, accepted, published }));
        world.reference.restarts();
        life
    }

    pub(super) fn check(&mut self, world: &mut World, tally: &mut Tally) {
        self.settle(world);
        let new: Vec<Tracked> = std::iter::from_fn(|| self.rig.outboxes[0].pop())
            .filter_map(|publication| publication.tracked())
            .collect();
        let mut published: Vec<(Seq, u32)> =
            new.iter().map(|tracked| (tracked.command, tracked.attempt)).collect();
        let mut expected = std::mem::take(&mut world.reference.published);
        published.sort_unstable();
        expected.sort_unstable();
        assert_eq!(published, expected, "published, and expected to be");
        self.under_way.extend(new.into_iter().map(|tracked| (tracked, false)));
        let view = self.rig.shared.view.read().unwrap().clone();
        for (seq, command) in &world.reference.commands {
            let found = view.commands.get(*seq).unwrap_or_else(|| panic!("{seq} is lost"));
            assert_eq!(
                (found.state, found.attempts, found.unsent, view.commands.is_open(*seq)),
                (command.state, command.attempts, command.unsent, Some(command.is_open())),
                "{seq}: found, and expected: {command:?}"
            );
        }
        assert_eq!(view.commands.open().len() + view.commands.ended().len(), world.reference.commands.len());
        for (lane, expected) in &world.reference.values {
            assert_eq!(value(&view, *lane), *expected, "{lane:?}");
        }
        self.compare_with_log(&view, tally);
    }

    /// As long as the log has everything, a fold of it is the view.
    fn compare_with_log(&self, view: &View, tally: &mut Tally) {
        let mut folded = View::new(view.aggregates.windows().to_vec());
        let read = self.rig.shared.reader.scan(Seq(1), |chunk| {
            if chunk.header.first > folded.seq.next() {
                return ControlFlow::Break(());
            }
            folded.apply_chunk_until(chunk, view.seq).unwrap();
            ControlFlow::Continue(())
        });
        if read.unwrap().is_none() {
            assert!(folded == *view, "the view is not what the log says: {folded:?}\n{view:?}");
            tally.compared_with_log += 1;
        } else {
            tally.trimmed += 1;
        }
    }
}

/// What happened before the power was gone, of which the log may have the first part.
struct Torn {
    before: BTreeMap<Lane, u64>,
    reported: BTreeMap<Lane, Vec<u64>>,
    accepted: Vec<(usize, Seq)>,
    published: Vec<Tracked>,
}

impl Torn {
    /// What the log has must be possible, and the reference continues from there.
    fn adopt(&self, view: &View, world: &mut World) {
        for (lane, known) in &self.before {
            let value = value(view, *lane);
            let sent = self.reported.get(lane).map_or(&[][..], Vec::as_slice);
            assert!(
                value == *known || sent.contains(&value),
                "{lane:?} is {value}; it was {known}, then {sent:?}"
            );
            world.reference.values.insert(*lane, value);
        }
        for (n, command) in &self.accepted {
            let key = view.commands.key("uid:0", &n.to_string());
            assert_eq!(key.map(|key| key.command), Some(*command), "{n} was accepted and is lost");
        }
        for tracked in &self.published {
            let known = view.commands.get(tracked.command).map(|command| command.attempts);
            assert!(known >= Some(tracked.attempt), "{tracked:?} was published, and that is not recorded");
        }
        let lost = world.reference.commands.keys().find(|seq| view.commands.get(**seq).is_none());
        assert_eq!(lost, None);
        for (n, asks) in world.asked.iter().enumerate() {
            let Some(seq) = view.commands.key("uid:0", &n.to_string()).map(|key| key.command) else {
                continue;
            };
            let found = view.commands.get(seq).unwrap();
            let known =
                world.reference.commands.get(&seq).map_or(CommandState::Requested, |known| known.state);
            let may_follow = match found.state {
                CommandState::Applied => {
                    asks.evidence && known.is_driven()
                        || !known.is_final() && known != CommandState::Acknowledged
                        || known == CommandState::Applied
                }
                CommandState::Superseded | CommandState::Dispatched => {
                    known == CommandState::Requested || known == found.state
                }
                other => other == known,
            };
            assert!(may_follow, "{seq} was {known:?} and is {:?}", found.state);
            world.reference.learn(seq, *asks, found.state, found.attempts, found.unsent);
        }
    }
}

fn value(view: &View, (device, attribute): Lane) -> u64 {
    let (_, device) = view.devices.find(&device.to_string()).unwrap();
    let attribute = view.devices.attribute_named(attribute).unwrap();
    match device.value(attribute).map(|slot| slot.value.clone()) {
        Some(Value::Int(value)) => u64::try_from(value).unwrap(),
        other => panic!("{other:?}"),
    }
}
