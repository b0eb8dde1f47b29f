//! The log of a site that grows over time: its devices and attributes are introduced one after the other.

use std::path::Path;

use fieldlog::log::acked::AckedRanges;
use fieldlog::log::{Commit, Log};
use fieldlog::snapshots::SnapshotStore;
use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::command::{CommandRequest, Evidence, OnOffline, Progress, Publish};
use fieldlog_projections::fact::Identity;
use fieldlog_projections::{AttrId, DeviceId, Epoch, Fact, Seq, Time, Value, View};
use fieldlog_tests::rng::Rng;

use crate::crash::records::{Kept, kept};
use crate::rig::OPTIONS;

pub const EPOCH: Epoch = Epoch(0xfeed_0000_0000_0011);
const BEGIN: Time = Time(1_763_892_000_000_000);
const ROUNDS: u32 = 300;

/// What the log had.
pub struct History {
    pub records: Vec<Kept>,
    pub view: View,
    /// The position of a command that is under way.
    pub command: Seq,
    pub quarantined: Vec<Seq>,
}

/// How to make one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kind {
    /// In which round a snapshot is written.
    pub snapshot: Option<u32>,
    /// In which round the records before the snapshot are deleted.
    pub trim: Option<u32>,
}

struct Maker {
    log: Log,
    rng: Rng,
    history: History,
    wall: Time,
    body: RecordBuffer,
    payloads: Vec<(usize, Vec<u8>)>,
}

/// Makes a log in a data directory, and closes it.
pub fn make(data_dir: &Path, kind: Kind) -> History {
    std::fs::create_dir_all(data_dir).unwrap();
    let log = Log::open(data_dir, OPTIONS, EPOCH).unwrap();
    let view = View::new(Vec::new());
    let history = History { records: Vec::new(), view, command: Seq(0), quarantined: Vec::new() };
    let body = RecordBuffer::after(Time(0));
    let mut maker = Maker { log, rng: Rng::new(3), history, wall: BEGIN, body, payloads: Vec::new() };
    let snapshots = SnapshotStore::open(data_dir).unwrap();
    let mut saved = Seq(0);
    for round in 0..ROUNDS {
        maker.round(round);
        if kind.snapshot == Some(round) {
            snapshots.save(&maker.history.view, EPOCH, 3).unwrap();
            saved = maker.history.view.seq;
        }
        if kind.trim == Some(round) {
            maker.trim(saved);
        }
    }
    maker.log.close().unwrap();
    maker.history
}

impl Maker {
    fn put(&mut self, fact: &Fact) -> Seq {
        self.wall.0 += 700_000 + self.rng.below(600_000) as i64;
        self.body.push_fact(Envelope { wall: self.wall, ..Envelope::default() }, fact);
        Seq(self.log.head().0 + self.body.len() as u64)
    }

    fn round(&mut self, round: u32) {
        let (devices, attributes) = (round / 8, round / 6);
        if round.is_multiple_of(8) {
            let identity = Identity { namespace: "plant".into(), name: format!("d{devices}") };
            self.put(&Fact::DeviceDiscovered {
                device: DeviceId(devices),
                name: format!("device-{devices}"),
                source: "plant".into(),
                parent: None,
                identity: Some(identity),
            });
        }
        if round.is_multiple_of(6) {
            self.put(&Fact::AttributeNamed {
                attribute: AttrId(attributes),
                name: format!("attribute-{attributes}"),
            });
        }
        for _ in 0..25 {
            let device = DeviceId(self.rng.below(devices as usize + 1) as u32);
            let attribute = AttrId(self.rng.below(attributes as usize + 1) as u32);
            let value = Value::Text(format!("{:x}", self.rng.next_u64()).into());
            self.put(&Fact::StateChanged { device, changes: vec![(attribute, value)] });
        }
        if round % 10 == 9 {
            let (source, topic) = ("plant".into(), "t".into());
            let reason = "not JSON".into();
            let at = self.put(&Fact::InputQuarantined { source, topic, reason, size: 9 });
            self.history.quarantined.push(at);
            self.payloads.push((self.body.len() - 1, b"{\"broken\"".to_vec()));
        }
        if round == ROUNDS - 5 {
            self.command();
        }
        self.commit(&[]);
        if round == ROUNDS / 2 {
            self.set_clock_back();
        }
    }

    /// A command that has been dispatched.
    fn command(&mut self) {
        let device = DeviceId(0);
        let request = CommandRequest {
            actor: "uid:0".into(),
            key: "key".into(),
            digest: [1; 16],
            reason: String::new(),
            name: "attribute-0".into(),
            operation: false,
            value: Value::Text("on".into()),
            expires: Time(self.wall.0 + 1_000_000_000_000),
            ttl_s: 1_000_000,
            booted_for: 1,
            remember_until: Time(self.wall.0 + 1_000_000_000_000),
            publish: Publish { source: "plant".into(), topic: "t".into(), payload: b"on".to_vec(), qos: 1 },
            idempotent: true,
            on_offline: OnOffline::Reject,
            confirm_s: 60,
            evidence: Evidence::None,
            traceparent: None,
        };
        let command = self.put(&Fact::CommandRequested { device, request: Box::new(request) });
        self.put(&Fact::CommandProgressed { device, command, progress: Progress::Dispatched { attempt: 1 } });
        self.history.command = command;
    }

    fn commit(&mut self, cursors: &[(String, Vec<u8>)]) {
        let commit = Commit { quarantine: &self.payloads, cursors, ..Commit::of(&self.body) };
        let committed = self.log.commit(&commit).unwrap();
        let History { view, records, .. } = &mut self.history;
        view.apply_records(self.body.records(committed.first), committed.last).unwrap();
        records.extend(kept(self.body.records(committed.first)));
        self.body.clear();
        self.payloads.clear();
    }

    fn set_clock_back(&mut self) {
        self.wall.0 -= 3_600_000_000;
        let by = Fact::ConfigChanged { keys: vec!["clock".into()] };
        let from = self.log.head().next();
        self.log.correct_clock(self.wall, &by).unwrap().unwrap();
        self.body = RecordBuffer::after(self.log.last_time());
        let History { view, records, .. } = &mut self.history;
        let scanned = self.log.reader().scan(from, |chunk| {
            let chunk = chunk.from_seq(from.max(chunk.header.first)).unwrap();
            view.apply_records(chunk.records(), chunk.header.last()).unwrap();
            records.extend(kept(chunk.records()));
            std::ops::ControlFlow::<()>::Continue(())
        });
        scanned.unwrap();
    }

    /// Deletes the records before a position, as retention does.
    fn trim(&mut self, before: Seq) {
        self.put(&Fact::Trimmed { first: Seq(1), last: Seq(before.0 - 1) });
        self.commit(&[("cloud".into(), AckedRanges::upto(before).encode())]);
        let nothing = RecordBuffer::after(self.log.last_time());
        let commit = Commit { trim_before: Some(before), ..Commit::of(&nothing) };
        while self.log.commit(&commit).unwrap().trimmed.is_some() {}
    }
}
