//! What counts as evidence for a command: nothing that may have been sent before the command was published.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use fieldlog::command::Asked;
use fieldlog::config::Config;
use fieldlog::log::Log;
use fieldlog::message::{Delivery, Fate, Published, SourceId, Tracked};
use fieldlog::snapshots::SnapshotStore;
use fieldlog::writer::{ConfigChange, Input};
use fieldlog_projections::{Epoch, Seq, View};
use fieldlog_tests::fault_disk::FaultDisk;
use fieldlog_tests::rng::Rng;
use fieldlog_tests::wait::block_until;
use serde_json::json;
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
        let body =
            json!({"attribute": "level", "value": value, "ttl_s": 600, "idempotency_key": value.to_string()});
        let (reply, answer) = oneshot::channel();
        let asked = Asked {
            actor: "uid:0".into(),
            device: "lamp".into(),
            body: serde_json::from_value(body).unwrap(),
            patient: false,
            ttl_max_s: None,
            reply,
        };
        self.inputs.send(Input::Command(Box::new(asked))).unwrap();
        answer.blocking_recv().unwrap().unwrap();
        block_until("its publication", || self.rig.outboxes[0].pop()).tracked.unwrap()
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
    let dir = scratch();
    let mut config = commanded();
    config.data_dir = dir.path().into();
    config.retention.free_bytes_min = 0;
    let store = SnapshotStore::open(dir.path()).unwrap();
    let disk = FaultDisk::new(Rng::new(1));
    let log = Log::open_on(disk, Default::default(), OPTIONS, Epoch(1)).unwrap();
    let mut rig = Rig::new(log, View::new(fieldlog::config::windows(&config.aggregates)), &config, &store);
    let writer = rig.boot().unwrap();
    rig.outboxes[0].open(1, clock().wall());
    let (inputs, inbox) = channel();
    let running = std::thread::spawn(move || writer.run(&inbox));
    let scene = Scene { inputs, rig, config };
    scene.reports(0, From::Device);
    scene.settle();
    run(&scene);
    let Scene { inputs, rig, .. } = scene;
    drop(inputs);
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
        let known = scene.rig.shared.stats.commits();
        assert!(known > 0 && scene.rig.outstanding[0].load(Ordering::Relaxed) == 0, "it was recorded");
        scene.reports(5, From::Device);
        assert_eq!(scene.state(sent.command), "applied");
    });
}
