//! The writer on a disk that fails: it ends, says why, and acknowledges nothing more.

use std::io::ErrorKind;
use std::sync::mpsc::channel;

use fieldlog::log::{Log, LogOptions};
use fieldlog::message::{Delivery, SourceId};
use fieldlog::snapshots::SnapshotStore;
use fieldlog::writer::{Input, WriterError};
use fieldlog_projections::{Epoch, Seq, View};
use fieldlog_tests::fault_disk::{Fault, FaultDisk, On, Plan};
use fieldlog_tests::rng::Rng;

use crate::rig::{Rig, clock, config, message, scratch};

const OPTIONS: LogOptions =
    LogOptions { cache_bytes: 1 << 20, quick_repair: false, quarantine_records_max: 10 };

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
        let delivery =
            Delivery { source: SourceId(0), received: clock().wall(), acks: acks.clone(), messages };
        // The writer may be gone before all of them are sent.
        let _ = inputs.send(Input::Delivery(delivery));
    };
    let mut released = Vec::new();
    let ended = std::thread::scope(|scope| {
        let running = scope.spawn(move || writer.run(&inbox).map(|()| "stopped"));
        (1..=20).for_each(deliver);
        while released.len() < 20 {
            acks.take(&mut released);
            std::thread::yield_now();
        }
        disk.plan(plan);
        (21..=50).for_each(deliver);
        running.join().unwrap()
    });
    let error = ended.unwrap_err();
    assert!(matches!(error, WriterError::Log(_)));
    assert!(error.to_string().contains(words), "{error}");
    acks.take(&mut released);
    let count = released.len();
    assert_eq!(released, (1..=count as u16).collect::<Vec<_>>());
    assert!(count < 50, "a failed commit was acknowledged");
    assert_eq!(acks.outstanding(), 50 - count);
    // All that was acknowledged is there, and at most the one ambiguous commit more.
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
    check(Plan { on: On::Write, nth: 1, fault: full }, "Check disk and free space");
    check(Plan { on: On::Write, nth: 5, fault: full }, "no storage space");
}

#[test]
fn a_power_cut_ends_it() {
    check(Plan { on: On::Change, nth: 1, fault: Fault::PowerCut }, "cannot commit to the log");
}
