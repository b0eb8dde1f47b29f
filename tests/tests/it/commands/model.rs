//! Random lives of a whole writer, compared with a model that is told the same: messages, commands with every outcome,
//! snapshots, restarts, crashes in the middle of commits, records deleted by age, and folds rebuilt.
//!
//! After each event the view must be what the model says, what is published must be what the model expects, and as long as
//! nothing is deleted, the view must be what a fold of the log from its beginning makes.
//!
//! `FIELDLOG_SEED=n` replays the run of one seed; `FIELDLOG_MODEL_RUNS=n` sets their number.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use fieldlog::command::declared::Code;
use fieldlog::command::{Accepted, Asked};
use fieldlog::config::{Config, WindowConfig};
use fieldlog::log::Log;
use fieldlog::message::{Delivery, Fate, Published, SourceId, Tracked};
use fieldlog::snapshots::SnapshotStore;
use fieldlog::writer::{Input, WriterError};
use fieldlog::{rebuild, recovery};
use fieldlog_projections::command::CommandState;
use fieldlog_projections::{Aggregates, Commands, Descriptions, Epoch, Seq, Sessions, Value, View};
use fieldlog_tests::fault_disk::{Fault, FaultDisk, On, Plan};
use fieldlog_tests::rng::Rng;
use fieldlog_tests::wait::block_until;
use reference::{Asks, Came, Lane, Reference};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::rig::{OPTIONS, Rig, clock, config, message, pass, scratch};

mod reference;

const SEED: u64 = 1;
const RUNS: u64 = 60;
const EVENTS: usize = 50;

/// Attributes that can be set: as they are declared, and what the model knows of that.
const DECLARED: [(&str, bool, bool, bool); 4] = [
    // Name, idempotent, held while the source is away, with evidence.
    ("level", true, false, true),
    ("mode", true, true, true),
    ("step", false, true, true),
    ("beep", false, false, false),
];
const DEVICES: usize = 2;
/// All of these are multiples of the time that passes at once, less some.
const TTL_S: u64 = 500;
const CONFIRM_S: u64 = 100;
const PASS_S: u64 = 200;

/// What happened in all runs: without it, a run proves nothing.
#[derive(Debug, Default)]
struct Tally {
    events: usize,
    commands: usize,
    ended: BTreeMap<&'static str, usize>,
    crashes: usize,
    torn: usize,
    snapshots: usize,
    rebuilt: usize,
    trimmed: usize,
    compared_with_log: usize,
}

#[test]
fn whatever_happens_the_view_and_what_is_published_are_those_of_the_model() {
    let environment = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let mut tally = Tally::default();
    if let Some(seed) = environment("FIELDLOG_SEED") {
        run(seed, &mut tally);
        println!("{tally:?}");
        return;
    }
    let runs = environment("FIELDLOG_MODEL_RUNS").unwrap_or(RUNS);
    for seed in SEED..SEED + runs {
        let replay = Replay(seed);
        run(seed, &mut tally);
        drop(replay);
    }
    println!("{tally:?}");
    if runs >= RUNS {
        let happened = [
            tally.crashes,
            tally.torn,
            tally.snapshots,
            tally.rebuilt,
            tally.trimmed,
            tally.compared_with_log,
        ];
        assert!(happened.into_iter().all(|count| count >= 20), "{tally:?}");
        let ends = ["applied", "failed", "expired", "superseded", "unconfirmed", "unknown", "acknowledged"];
        assert!(ends.iter().all(|end| tally.ended.get(end).is_some_and(|count| *count >= 10)), "{tally:?}");
    }
}

/// Prints how to replay the run that panicked.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "replay this run with FIELDLOG_SEED={} cargo test -p fieldlog-tests commands::model",
                self.0
            );
        }
    }
}

fn run(seed: u64, tally: &mut Tally) {
    let mut rng = Rng::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let disk = FaultDisk::new(rng.fork());
    let dir = scratch();
    let mut world = World::new(disk, dir);
    let mut life = Life::begin(&mut world, tally);
    for _ in 0..EVENTS {
        tally.events += 1;
        life = life.event(&mut world, &mut rng, tally);
        life.check(&mut world, tally);
    }
    for command in world.reference.commands.values() {
        tally.commands += 1;
        *tally.ended.entry(command.state.word()).or_default() += 1;
    }
    life.stop(&mut world);
}

/// What outlives the agent.
struct World {
    disk: FaultDisk,
    dir: TempDir,
    config: Config,
    reference: Reference,
    /// Commands by the number that is their key, as far as they were accepted.
    asked: Vec<Asks>,
    pkid: u16,
}

/// A running agent, without a network.
struct Life {
    rig: Rig,
    inputs: Sender<Input>,
    writer: JoinHandle<Result<(), WriterError>>,
    /// Publications that the connection has, and whether they are written.
    under_way: Vec<(Tracked, bool)>,
    connection: u64,
}

impl World {
    fn new(disk: FaultDisk, dir: TempDir) -> World {
        let blocks = DECLARED.map(|(name, idempotent, held, evidence)| {
            let offline = if held { "hold" } else { "reject" };
            let evidence = if evidence { "reported" } else { "none" };
            format!(
                "[[source.command]]\nattribute = {name:?}\ntype = \"integer\"\nidempotent = {idempotent}\n\
                 topic = \"cmnd/{{device}}/{name}\"\non_offline = {offline:?}\nevidence = {evidence:?}\n\
                 confirm_s = {CONFIRM_S}\n"
            )
        });
        let text = format!(
            "gateway_id = \"test\"\ndata_dir = \"unused\"\n[[source]]\nname = \"s\"\naddress = \"mqtt://broker.example\"\n{}\
             [[source.subscription]]\ntopic = \"d/+device\"\ndecoder = \"json\"\n",
            blocks.concat()
        );
        let mut config = config(1);
        config.sources[0].commands = Config::from_toml(&text, "test").unwrap().sources.remove(0).commands;
        config.aggregates = vec![WindowConfig { window_s: 60, keep: 5 }];
        config.log.commit_bytes_max = 4_096;
        config.retention.age = Some(Duration::from_secs(4 * PASS_S));
        config.retention.free_bytes_min = 0;
        config.data_dir = dir.path().to_owned();
        World { disk, dir, config, reference: Reference::default(), asked: Vec::new(), pkid: 0 }
    }

    fn ask(
        &self,
        n: usize,
        reply: oneshot::Sender<Result<Accepted, fieldlog::command::declared::Rejected>>,
    ) -> Input {
        let Asks { lane: (device, attribute), target, .. } = self.asked[n];
        let ttl_s = TTL_S;
        let body = json!({"attribute": attribute, "value": target, "ttl_s": ttl_s, "idempotency_key": n.to_string()});
        let body = serde_json::from_value(body).unwrap();
        let (actor, device, only) = ("uid:0".to_owned(), device.to_string(), Default::default());
        Input::Command(Box::new(Asked { actor, device, only, body, ttl_max_s: None, patient: false, reply }))
    }

    fn asks(rng: &mut Rng) -> Asks {
        let (name, idempotent, held, evidence) = *rng.pick(&DECLARED);
        Asks { lane: (rng.below(DEVICES), name), target: rng.below(3) as u64, idempotent, held, evidence }
    }

    fn report(
        &mut self,
        rig: &Rig,
        (device, attribute): (usize, &str),
        value: u64,
        rng: &mut Rng,
    ) -> (Input, bool) {
        let acks = rig.connections[0].clone();
        acks.begin(1);
        self.pkid = self.pkid % 60_000 + 1;
        // So that the log has several chunks, and its front can be deleted.
        let words: String = (0..100).map(|_| format!("{:016x}", rng.next_u64())).collect();
        let payload = format!("{{\"{attribute}\":{value},\"words\":\"{words}\"}}");
        let mut message = message(&format!("d/{device}"), payload, self.pkid);
        let may_be_old = rng.chance(15);
        message.dup = rng.chance(15);
        let fresh = !message.dup && !may_be_old;
        let (source, received) = (SourceId(0), clock().wall());
        (Input::Delivery(Delivery { source, received, acks, messages: vec![message], may_be_old }), fresh)
    }
}

impl Life {
    /// The first run: two devices, and a command whose repetition later shows that everything before it is done.
    fn begin(world: &mut World, tally: &mut Tally) -> Life {
        let mut life = Life::start(world);
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

    fn start(world: &mut World) -> Life {
        let log = Log::open_on(world.disk.clone(), Default::default(), OPTIONS, Epoch(1)).unwrap();
        let store = SnapshotStore::open(world.dir.path()).unwrap();
        let windows = fieldlog::config::windows(&world.config.aggregates);
        let recovered = recovery::recover(&store, &log.reader(), log.epoch(), &windows, None).unwrap();
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

    fn event(mut self, world: &mut World, rng: &mut Rng, tally: &mut Tally) -> Life {
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
                return self.is_torn(world, rng);
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
        rebuild::start(&self.rig.shared, &[fold], windows);
        block_until("the end of a rebuild", || (!self.rig.shared.rebuild.running()).then_some(()));
        assert_eq!(self.rig.shared.rebuild.failed(), []);
        tally.rebuilt += 1;
    }

    fn first(&self) -> Seq {
        self.rig.shared.reader.range().unwrap().map_or(Seq(1), |(first, _)| first)
    }

    /// The agent is stopped, and its sources with it.
    fn stop(mut self, world: &mut World) {
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
        Life::start(world)
    }

    /// The power is gone while nothing happens; all of it was committed.
    fn dies(self, world: &mut World, rng: &mut Rng) -> Life {
        drop(self.inputs);
        // It notices with its next commit, which is that of its end.
        let _ = self.writer.join().unwrap();
        self.rig.end();
        world.disk.crash(*rng.pick(&[0, 50, 100]));
        world.reference.restarts();
        Life::start(world)
    }

    /// The power is gone in the middle of something: a part of it is there afterwards, from the first on.
    fn is_torn(self, world: &mut World, rng: &mut Rng) -> Life {
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
            .filter_map(|p| p.tracked)
            .collect();
        world.disk.cut();
        self.rig.end();
        world.disk.crash(*rng.pick(&[0, 50, 100]));
        let life = Life::start(world);
        life.adopt(world, &before, &reported, &accepted, &published);
        world.reference.restarts();
        life
    }

    /// What of the last moments the log has must be possible, and the reference continues from there.
    fn adopt(
        &self,
        world: &mut World,
        before: &BTreeMap<Lane, u64>,
        reported: &BTreeMap<Lane, Vec<u64>>,
        accepted: &[(usize, Seq)],
        published: &[Tracked],
    ) {
        let view = self.rig.shared.view.read().unwrap();
        for (lane, known) in before {
            let value = value(&view, *lane);
            let sent = reported.get(lane).map_or(&[][..], Vec::as_slice);
            assert!(
                value == *known || sent.contains(&value),
                "{lane:?} is {value}; it was {known}, then {sent:?}"
            );
            world.reference.values.insert(*lane, value);
        }
        for (n, command) in accepted {
            let key = view.commands.key("uid:0", &n.to_string());
            assert_eq!(key.map(|key| key.command), Some(*command), "{n} was accepted and is lost");
        }
        for tracked in published {
            let known = view.commands.get(tracked.command).map(|command| command.attempts);
            assert!(known >= Some(tracked.attempt), "{tracked:?} was published, and that is not recorded");
        }
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
                CommandState::Unknown => {
                    known == CommandState::Dispatched
                        || known == CommandState::Requested
                        || known == found.state
                }
                other => other == known,
            };
            assert!(may_follow, "{seq} was {known:?} and is {:?}", found.state);
            world.reference.learn(seq, *asks, found.state, found.attempts, found.unsent);
        }
    }

    fn check(&mut self, world: &mut World, tally: &mut Tally) {
        self.settle(world);
        let new: Vec<Tracked> = std::iter::from_fn(|| self.rig.outboxes[0].pop())
            .filter_map(|publication| publication.tracked)
            .collect();
        let mut published: Vec<(Seq, u32)> =
            new.iter().map(|tracked| (tracked.command, tracked.attempt)).collect();
        let mut expected = std::mem::take(&mut world.reference.published);
        (published.sort_unstable(), expected.sort_unstable());
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

fn value(view: &View, (device, attribute): Lane) -> u64 {
    let (_, device) = view.devices.find(&device.to_string()).unwrap();
    let attribute = view.devices.attribute_named(attribute).unwrap();
    match device.value(attribute).map(|slot| slot.value.clone()) {
        Some(Value::Int(value)) => u64::try_from(value).unwrap(),
        other => panic!("{other:?}"),
    }
}
