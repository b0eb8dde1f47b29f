//! Commands through the writer, without a broker: what counts as evidence, which is nothing that may have been sent before
//! the command was published; and what a clean stop leaves.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use fieldlog::command::Asked;
use fieldlog::config::Config;
use fieldlog::log::Log;
use fieldlog::message::{Delivery, Fate, Published, SourceId, Tracked};
use fieldlog::recovery;
use fieldlog::snapshots::SnapshotStore;
use fieldlog::writer::{ConfigChange, Input};
use fieldlog_projections::{Epoch, Seq};
use fieldlog_tests::fault_disk::FaultDisk;
use fieldlog_tests::rng::Rng;
use fieldlog_tests::wait::block_until;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::rig::{OPTIONS, Rig, clock, config, message, pass, scratch};

/// Where the value of a message comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    /// The device has just sent it.
    Device,
    /// The broker sends it again.
    Again,
    /// The broker may have had it in its queue.
    Queue,
    /// The broker retains it.
    Retained,
}

struct Scene {
    inputs: Sender<Input>,
    rig: Rig,
    config: Config,
}

fn commanded() -> Config {
    let text = "gateway_id = \"test\"\ndata_dir = \"unused\"\n[[source]]\nname = \"s\"\naddress = \"mqtt://broker.example\"\n\
                [[source.command]]\nattribute = \"level\"\ntype = \"integer\"\ntopic = \"cmnd/{device}\"\n\
                [[source.command]]\nattribute = \"step\"\ntype = \"integer\"\ntopic = \"step/{device}\"\n\
                idempotent = false\nevidence = \"none\"\n\
                [[source.subscription]]\ntopic = \"d/+device\"\ndecoder = \"json\"\n";
    let mut config = config(1);
    config.sources[0].commands = Config::from_toml(text, "test").unwrap().sources.remove(0).commands;
    config.log.commit_bytes_max = 1;
    config
}

impl Scene {
    fn reports(&self, value: u32, from: From) {
        let acks = self.rig.connections[0].clone();
        acks.begin(1);
        let mut message = message("d/lamp", format!("{{\"level\":{value}}}"), 1);
        (message.dup, message.retain) = (from == From::Again, from == From::Retained);
        let (source, received, may_be_old) = (SourceId(0), clock().wall(), from == From::Queue);
        let delivery = Delivery { source, received, acks, messages: vec![message], may_be_old };
        self.inputs.send(Input::Delivery(delivery)).unwrap();
    }

    /// Everything before this is committed and in the view.
    fn settle(&self) {
        let (reply, answer) = oneshot::channel();
        self.inputs.send(Input::Snapshot(reply)).unwrap();
        answer.blocking_recv().unwrap();
    }

    /// Asks for a level, and returns the command once its publication is in the outbox.
    fn ask(&self, value: u32) -> Tracked {
        self.request("level", value);
        block_until("its publication", || self.rig.outboxes[0].pop()).tracked().unwrap()
    }

    fn request(&self, attribute: &str, value: u32) -> Seq {
        let body = json!({"attribute": attribute, "value": value, "ttl_s": 600, "idempotency_key": format!("{attribute}{value}")});
        let (reply, answer) = oneshot::channel();
        let asked = Asked {
            actor: "uid:0".into(),
            device: "lamp".into(),
            only: Default::default(),
            body: serde_json::from_value(body).unwrap(),
            patient: false,
            ttl_max_s: None,
            traceparent: None,
            reply,
        };
        self.inputs.send(Input::Command(Box::new(asked))).unwrap();
        answer.blocking_recv().unwrap().unwrap().command
    }

    fn ends(&self, of: &Tracked, fate: Fate) {
        let published = Published { command: of.command, attempt: of.attempt, fate };
        self.inputs.send(Input::Published(published)).unwrap();
    }

    fn state(&self, command: Seq) -> &'static str {
        self.settle();
        let view = self.rig.shared.view.read().unwrap();
        view.commands.get(command).unwrap().state.word()
    }

    /// The log takes messages from now on, or they wait.
    fn blocks(&self, blocked: bool) {
        let mut config = self.config.clone();
        config.retention.free_bytes_min = if blocked { u64::MAX } else { 0 };
        let outcomes = vec![Default::default()];
        let change = ConfigChange { config, outcomes, keys: Vec::new(), actor: String::new() };
        self.inputs.send(Input::Configure(Box::new(change))).unwrap();
        block_until("the end of taking messages, or of that", || {
            pass(Duration::from_secs(1));
            (self.rig.shared.stats.blocked().is_some() == blocked).then_some(())
        });
    }
}

fn scene(run: impl FnOnce(&Scene)) {
    let disk = FaultDisk::new(Rng::new(1));
    life(&disk, &scratch(), |scene| {
        scene.reports(0, From::Device);
        scene.settle();
        run(scene);
    });
}

/// One run of the agent on a disk, until it is stopped.
fn life(disk: &FaultDisk, dir: &TempDir, run: impl FnOnce(&Scene)) {
    let mut config = commanded();
    config.data_dir = dir.path().into();
    config.retention.free_bytes_min = 0;
    let store = SnapshotStore::open(dir.path()).unwrap();
    let log = Log::open_on(disk.clone(), Default::default(), OPTIONS, Epoch(1)).unwrap();
    let windows = fieldlog::config::windows(&config.aggregates);
    let recovered = recovery::recover(&store, &log.reader(), log.epoch(), &windows).unwrap();
    let mut rig = Rig::new(log, recovered.view, &config, &store);
    let writer = rig.boot().unwrap();
    let (inputs, inbox) = channel();
    let reports = inputs.clone();
    rig.outboxes[0].on_published(move |published| reports.send(Input::Published(published)).unwrap());
    rig.outboxes[0].open(1, clock().wall());
    let running = std::thread::spawn(move || writer.run(&inbox));
    let scene = Scene { inputs, rig, config };
    run(&scene);
    let Scene { inputs, rig, .. } = scene;
    // As the agent stops: the sources end, and tell what they have not sent.
    inputs.send(Input::Drain).unwrap();
    rig.outboxes[0].close();
    inputs.send(Input::Stop).unwrap();
    running.join().unwrap().unwrap();
    rig.end();
}

#[test]
fn what_the_broker_may_have_had_before_is_no_evidence() {
    for from in [From::Again, From::Queue, From::Retained] {
        scene(|scene| {
            let sent = scene.ask(5);
            scene.ends(&sent, Fate::Written);
            scene.reports(5, from);
            scene.ends(&sent, Fate::Acknowledged);
            assert_eq!(scene.state(sent.command), "acknowledged", "{from:?}");
            scene.reports(5, From::Device);
            assert_eq!(scene.state(sent.command), "applied", "{from:?}");
        });
    }
}

#[test]
fn what_waited_here_while_the_log_was_blocked_is_no_evidence() {
    scene(|scene| {
        let sent = scene.ask(5);
        scene.blocks(true);
        scene.reports(5, From::Device);
        scene.ends(&sent, Fate::Written);
        scene.blocks(false);
        assert_eq!(scene.state(sent.command), "dispatched");
        assert_eq!(scene.rig.outstanding[0].load(Ordering::Relaxed), 0, "it was recorded");
        scene.reports(5, From::Device);
        assert_eq!(scene.state(sent.command), "applied");
    });
}

#[test]
fn what_was_not_sent_when_the_agent_was_stopped_is_sent_by_the_next_run() {
    let (disk, dir) = (FaultDisk::new(Rng::new(1)), scratch());
    let (mut sent, mut waits) = (Seq(0), Seq(0));
    life(&disk, &dir, |scene| {
        scene.reports(0, From::Device);
        scene.settle();
        // One is given to the connection, which ends; another one waits for it.
        sent = scene.request("step", 1);
        let tracked = block_until("its publication", || scene.rig.outboxes[0].pop()).tracked().unwrap();
        scene.ends(&tracked, Fate::Written);
        scene.ends(&tracked, Fate::Lost);
        assert_eq!(scene.state(sent), "dispatched");
    });
    life(&disk, &dir, |scene| {
        block_until("what is known of the first", || (scene.state(sent) == "unknown").then_some(()));
        waits = scene.request("step", 2);
        block_until("its publication", || (scene.rig.outboxes[0].room() < 256).then_some(()));
        assert_eq!(scene.state(waits), "dispatched");
    });
    life(&disk, &dir, |scene| {
        let publication = block_until("its publication", || scene.rig.outboxes[0].pop());
        let tracked = publication.tracked().unwrap();
        assert_eq!((tracked.command, tracked.attempt), (waits, 2));
        scene.ends(&tracked, Fate::Written);
        scene.ends(&tracked, Fate::Acknowledged);
        assert_eq!(scene.state(waits), "acknowledged");
        assert_eq!((scene.rig.outboxes[0].pop(), scene.state(sent)), (None, "unknown"));
    });
}
