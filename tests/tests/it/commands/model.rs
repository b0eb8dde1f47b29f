//! Random lives of a whole writer, compared with a model that is told the same: messages, commands with every outcome,
//! snapshots, restarts, crashes in the middle of commits, with and without a journal, records deleted by age, and folds
//! rebuilt.
//!
//! After each event the view must be what the model says, what is published must be what the model expects, and as long as
//! nothing is deleted, the view must be what a fold of the log from its beginning makes.
//!
//! `FIELDLOG_SEED=n` replays the run of one seed; `FIELDLOG_MODEL_RUNS=n` sets their number.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fieldlog::command::declared::Rejected;
use fieldlog::command::{Accepted, Asked};
use fieldlog::config::{Config, WindowConfig};
use fieldlog::log::{JournalBounds, Log};
use fieldlog::message::{Delivery, SourceId};
use fieldlog::writer::Input;
use fieldlog_projections::Epoch;
use fieldlog_tests::fault_disk::FaultDisk;
use fieldlog_tests::rng::Rng;
use life::Life;
use reference::{Asks, Reference};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::rig::{OPTIONS, Rig, clock, config, message, scratch};

mod life;
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
    lives: usize,
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
        World { disk, dir, config, reference: Reference::default(), asked: Vec::new(), pkid: 0, lives: 0 }
    }

    fn ask(&self, n: usize, reply: oneshot::Sender<Result<Accepted, Rejected>>) -> Input {
        let Asks { lane: (device, attribute), target, .. } = self.asked[n];
        let ttl_s = TTL_S;
        let body = json!({"attribute": attribute, "value": target, "ttl_s": ttl_s, "idempotency_key": n.to_string()});
        let body = serde_json::from_value(body).unwrap();
        let (actor, device, only) = ("uid:0".to_owned(), device.to_string(), Default::default());
        Input::Command(Box::new(Asked {
            actor,
            device,
            only,
            body,
            ttl_max_s: None,
            traceparent: None,
            patient: false,
            reply,
        }))
    }

    /// Opens the log, with a small journal beside it in three runs of four.
    fn open(&mut self) -> Log {
        let ring = self.disk.beside();
        let there = !ring.content().is_empty();
        let beside = || Ok(there.then(|| Arc::new(ring.clone()) as Arc<_>));
        let disk = self.disk.clone();
        let mut log = Log::open_beside(disk, beside, Default::default(), OPTIONS, Epoch(1)).unwrap();
        self.lives += 1;
        match [(0, 0), (3, 300), (8, 4_000), (40, 60_000)][self.lives % 4] {
            (0, _) => log.give_up_journal().unwrap(),
            (blocks, move_bytes) => {
                log.use_journal_on(ring, blocks, JournalBounds { move_bytes }).unwrap();
            }
        }
        log
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
