//! The writer on a failing disk: it ends, reports the reason, and acknowledges nothing more.

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::Duration;

use fieldlog::config::{HeldValues, Policy, RecordMode};
use fieldlog::log::acked::AckedRanges;
use fieldlog::log::{DiskStats, Log};
use fieldlog::message::{Delivery, SourceId};
use fieldlog::snapshots::SnapshotStore;
use fieldlog::writer::{Input, WriterError};
use fieldlog_projections::{Epoch, Seq, Value, View};
use fieldlog_tests::fault_disk::{Fault, FaultDisk, On, Plan};
use fieldlog_tests::rng::Rng;
use tokio::sync::oneshot;

use crate::rig::{OPTIONS, Rig, clock, config, message, pass, scratch};

/// Sends 50 messages one by one to a writer that commits each, with a fault planned before the 21st.
fn check(plan: Plan, words: &str) {
    let dir = scratch();
    let disk = FaultDisk::new(Rng::new(1));
    let mut config = config(1);
    config.log.commit_bytes_max = 1;
    let store = SnapshotStore::open(dir.path()).unwrap();
    let log = Log::open_on(disk.clone(), Default::default(), OPTIONS, Epoch(1)).unwrap();
    let mut rig = Rig::new(log, View::new(fieldlog::config::windows(&config.aggregates)), &config, &store);
    let writer = rig.boot().unwrap();
    let acks = rig.connections[0].clone();
    let (inputs, inbox) = channel();
    let deliver = |n: u16| {
        acks.begin(1);
        let messages = vec![message("d/one", format!("{{\"n\":{n}}}"), n)];
        let delivery = Delivery {
            source: SourceId(0),
            received: clock().wall(),
            acks: acks.clone(),
            messages,
            may_be_old: false,
        };
        // The writer may be gone before all of them are sent.
        let _ = inputs.send(Input::Delivery(delivery));
    };
    let mut released = Vec::new();
    let ended = std::thread::scope(|scope| {
        let running = scope.spawn(move || writer.run(&inbox).map(|()| "stopped"));
        (1..=20).for_each(deliver);
        while released.len() < 20 {
            acks.drain_into(&mut released);
            std::thread::yield_now();
        }
        disk.plan(plan);
        (21..=50).for_each(deliver);
        running.join().unwrap()
    });
    let error = ended.unwrap_err();
    assert!(matches!(error, WriterError::Log(_)));
    assert!(error.to_string().contains(words), "{error}");
    acks.drain_into(&mut released);
    let count = released.len();
    assert_eq!(released, (1..=count as u16).collect::<Vec<_>>());
    assert!(count < 50, "a failed commit was acknowledged");
    assert_eq!(acks.outstanding(), 50 - count);
    // All acknowledged records are there, plus at most the one ambiguous commit.
    drop(rig.end());
    disk.crash(0);
    let log = Log::open_on(disk.clone(), Default::default(), OPTIONS, Epoch(2)).unwrap();
    let framing = Seq(1 + 2);
    let records = log.head().0 - framing.0;
    assert!(records == count as u64 || records == count as u64 + 1, "{records} of {count}");
}

#[test]
fn a_failing_sync_ends_it() {
    check(Plan { on: On::Sync, nth: 1, fault: Fault::Error(ErrorKind::Other) }, "cannot commit to the log");
    check(Plan { on: On::Sync, nth: 3, fault: Fault::SyncLoses }, "sync failed");
    check(Plan { on: On::Sync, nth: 2, fault: Fault::SyncKeeps }, "sync failed");
}

#[test]
fn a_full_disk_ends_it() {
    let full = Fault::ErrorsFromNow(ErrorKind::StorageFull);
    check(Plan { on: On::Write, nth: 1, fault: full }, "Check the disk and its free space");
    check(Plan { on: On::Write, nth: 5, fault: full }, "no storage space");
}

#[test]
fn a_power_cut_ends_it() {
    check(Plan { on: On::Change, nth: 1, fault: Fault::PowerCut }, "cannot commit to the log");
}

/// Also commits that no message causes: cursors, trims, and the `closed` row.
#[test]
fn every_commit_is_counted() {
    const DAY: Duration = Duration::from_secs(86_400);
    let dir = scratch();
    let (disk, written) = (FaultDisk::new(Rng::new(1)), Arc::<DiskStats>::default());
    let mut config = config(1);
    config.log.commit_bytes_max = 1;
    config.retention.age = Some(DAY);
    let store = SnapshotStore::open(dir.path()).unwrap();
    let log = Log::open_on(disk.clone(), written.clone(), OPTIONS, Epoch(1)).unwrap();
    let mut rig = Rig::new(log, View::new(fieldlog::config::windows(&config.aggregates)), &config, &store);
    let shared = rig.shared.clone();
    let done = || written.commits.load(Ordering::Relaxed);
    let before = done();
    let writer = rig.boot().unwrap();
    let commits = || shared.stats.commits();
    assert_eq!(commits(), 1);
    let wait = |what: &str, is_there: &dyn Fn() -> bool| {
        for _ in 0..6_000 {
            if is_there() {
                return;
            }
            // An iteration of the writer shows that everything waiting for time has begun to wait.
            pass(Duration::from_secs(1));
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("{what}: still waiting after {} commits, {} counted", done() - before, commits());
    };
    let check = |what: &str| wait(what, &|| done() - before == commits());
    let (acks, mut released) = (rig.connections[0].clone(), Vec::new());
    std::thread::scope(|scope| {
        // A test that fails drops this, and the writer ends.
        let (inputs, inbox) = channel();
        let running = scope.spawn(move || writer.run(&inbox));
        for n in 1..=200 {
            acks.begin(1);
            // Incompressible, so that the log needs more than one chunk.
            let word = |k: u64| format!("{:x}", (u64::from(n) << 32 | k).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let words: String = (0..60).map(word).collect();
            let payload = format!("{{\"text\":\"{words}\"}}");
            let messages = vec![message("d/one", payload, n)];
            let received = clock().wall();
            let delivery =
                Delivery { source: SourceId(0), received, acks: acks.clone(), messages, may_be_old: false };
            inputs.send(Input::Delivery(delivery)).unwrap();
        }
        wait("messages", &|| acks.outstanding() == 0);
        check("messages");

        let counted = commits();
        let acked = AckedRanges::upto(Seq(3));
        inputs.send(Input::Cursor { name: "cloud".into(), acked }).unwrap();
        wait("a cursor", &|| shared.reader.cursor("cloud").unwrap().is_some() && commits() > counted);
        check("a cursor");

        let (reply, answer) = oneshot::channel();
        inputs.send(Input::Snapshot(reply)).unwrap();
        answer.blocking_recv().unwrap();
        wait("a snapshot", &|| shared.stats.snapshots.load(Ordering::Relaxed) == 1);
        let counted = commits();
        pass(2 * DAY);
        wait("a trim", &|| shared.reader.range().unwrap().is_some_and(|(first, _)| first > Seq(1)));
        wait("the trim's record and the trim", &|| commits() > counted + 1);
        check("a trim");

        inputs.send(Input::Stop).unwrap();
        running.join().unwrap().unwrap();
    });
    acks.drain_into(&mut released);
    assert_eq!(released.len(), 200);
    check("a stop");
}

/// A writer with a policy that holds every value of `t` back for an hour, on a disk that fails as soon as the second
/// value is acknowledged. Returns the content of the log afterwards, and how long the acknowledgement took.
fn held_then_dead(held: HeldValues, more: Option<&str>) -> (Option<Value>, Duration) {
    let dir = scratch();
    let disk = FaultDisk::new(Rng::new(1));
    let mut config = config(1);
    config.log.commit_delay = Duration::from_millis(200);
    config.sources[0].policies = vec![Policy {
        attributes: vec!["t".into()],
        devices: vec!["*".into()],
        deadband: 0.0,
        min_interval: Duration::from_secs(3_600),
        held,
        record: RecordMode::Change,
    }];
    let store = SnapshotStore::open(dir.path()).unwrap();
    let log = Log::open_on(disk.clone(), Default::default(), OPTIONS, Epoch(1)).unwrap();
    let mut rig = Rig::new(log, View::new(fieldlog::config::windows(&config.aggregates)), &config, &store);
    let writer = rig.boot().unwrap();
    let acks = rig.connections[0].clone();
    let mut passed = Duration::ZERO;
    std::thread::scope(|scope| {
        let (inputs, inbox) = channel();
        let running = scope.spawn(move || writer.run(&inbox));
        let deliver = |payload: &str, n: u16| {
            acks.begin(1);
            let messages = vec![message("d/one", payload.into(), n)];
            let received = clock().wall();
            let delivery =
                Delivery { source: SourceId(0), received, acks: acks.clone(), messages, may_be_old: false };
            inputs.send(Input::Delivery(delivery)).unwrap();
        };
        let mut acknowledged = |n: u16| {
            let mut released = Vec::new();
            passed = Duration::ZERO;
            for _ in 0..6_000 {
                acks.drain_into(&mut released);
                if released.contains(&n) {
                    return;
                }
                pass(Duration::from_millis(10));
                passed += Duration::from_millis(10);
                std::thread::sleep(Duration::from_millis(1));
            }
            panic!("no acknowledgement of {n}");
        };
        deliver(r#"{"t":1}"#, 1);
        acknowledged(1);
        deliver(r#"{"t":2}"#, 2);
        if let Some(payload) = more {
            deliver(payload, 3);
        }
        acknowledged(2);
        disk.plan(Plan { on: On::Change, nth: 1, fault: Fault::PowerCut });
        drop(inputs);
        let _ = running.join().unwrap();
    });
    drop(rig.end());
    disk.crash(0);
    let log = Log::open_on(disk, Default::default(), OPTIONS, Epoch(2)).unwrap();
    let mut view = View::new(Vec::new());
    let folded = log.reader().scan(Seq(1), |chunk| match view.apply_chunk(chunk) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    });
    assert!(folded.unwrap().is_none());
    let attribute = view.devices.attribute_named("t").unwrap();
    let (_, device) = view.devices.find("one").unwrap();
    (device.attributes.iter().find(|a| a.id == attribute).map(|a| a.value.clone()), passed)
}

#[test]
fn with_held_record_a_crash_after_the_acknowledgement_loses_no_value_that_was_held_back() {
    let (value, waited) = held_then_dead(HeldValues::Record, None);
    assert_eq!(value, Some(Value::Int(2)));
    // The clock may be ahead of the writer, but not behind it.
    assert!(waited >= Duration::from_secs(4), "{waited:?}: there was no event to commit for so long");
    // An event of another attribute causes the commit that includes the value.
    let (value, waited) = held_then_dead(HeldValues::Record, Some(r#"{"x":1}"#));
    assert_eq!(value, Some(Value::Int(2)));
    assert!(waited < Duration::from_secs(4), "{waited:?}");
    // The purpose of the default: no commit for it, and the value in memory is lost.
    assert_eq!(held_then_dead(HeldValues::Memory, None).0, Some(Value::Int(1)));
}
