//! A data directory that the first binary has written; `tests/fixtures/first-release/make.sh` says which and how. Its records
//! and sections of snapshots are upcast when they are read, and it refuses what it cannot read.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use fieldlog::config::Config;
use fieldlog::log::{FILE_NAME, Log};
use fieldlog::verify::verify;
use fieldlog_projections::snapshot::HEADER_BYTES;
use fieldlog_projections::stored::type_id::{DEVICE_DISCOVERED, STATE_CHANGED};
use fieldlog_projections::{Epoch, Kind, Seq, Value};
use fieldlog_sim::broker::{Broker, Options, Qos};
use fieldlog_tests::agent::Agent;
use fieldlog_tests::wait::until;
use redb::{Database, ReadableDatabase, TableDefinition};
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::rig::{OPTIONS, scratch};

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/first-release");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// The last record that the first release has written, and the one that its snapshot ends with.
const HEAD: Seq = Seq(21);
const SNAPSHOT: Seq = Seq(13);

fn copied() -> TempDir {
    let dir = scratch();
    fs::create_dir(dir.path().join("snapshots")).unwrap();
    for file in [FILE_NAME.to_owned(), format!("snapshots/{}", snapshot().file_name().unwrap().display())] {
        fs::copy(Path::new(DIR).join(&file), dir.path().join(&file)).unwrap();
    }
    dir
}

fn snapshot() -> PathBuf {
    let mut all = fs::read_dir(Path::new(DIR).join("snapshots")).unwrap();
    all.next().unwrap().unwrap().path()
}

/// What the first release answered, about [`HEAD`].
fn answered(name: &str) -> Json {
    serde_json::from_slice(&fs::read(Path::new(DIR).join(name)).unwrap()).unwrap()
}

/// The configuration that the first release ran with, for another broker.
fn config(dir: &Path, broker: &Broker, log: &str) -> Config {
    let text = format!(
        "data_dir = {dir:?}\ngateway_id = \"first\"\n[log]\ncommit_delay_ms = 20\n{log}\n[http]\nlisten = \"127.0.0.1:0\"\n\
         [[aggregates]]\nwindow_s = 60\nkeep = 5\n[[source]]\nname = \"plant\"\naddress = \"mqtt://{}\"\n\
         [[source.subscription]]\ntopic = \"plant/+area/+device\"\ndevice = \"{{area}}/{{device}}\"\ndecoder = \"json\"\n",
        broker.local_addr()
    );
    Config::from_toml(&text, "test.toml").unwrap()
}

async fn broker() -> Broker {
    Broker::bind("127.0.0.1:0", Options::default()).await.unwrap()
}

/// Kind and payload of each record.
fn stored(dir: &Path) -> Vec<(Kind, Vec<u8>)> {
    let log = Log::open_untouched(dir, OPTIONS).unwrap();
    let mut stored = Vec::new();
    let scanned = log.reader().scan(Seq(1), |chunk| {
        stored.extend(chunk.records().map(|record| record.map(|r| (r.kind, r.payload.to_vec())).unwrap()));
        ControlFlow::<()>::Continue(())
    });
    scanned.unwrap();
    stored
}

fn versions(stored: &[(Kind, Vec<u8>)], type_id: u16) -> Vec<u8> {
    stored.iter().filter(|(kind, _)| kind.type_id == type_id).map(|(kind, _)| kind.version).collect()
}

/// Compares a device with what the first release answered about it; members that it did not have yet do not count.
fn check_device(now: &Json, file: &str) {
    let before = answered(file);
    for (member, value) in before["device"].as_object().unwrap() {
        // These depend on when somebody asks, or on what has arrived since the start.
        if !["heard_at", "data_age_s"].contains(&&**member) {
            assert_eq!(now["device"][member], *value, "{file} {member}");
        }
    }
}

#[test]
fn it_has_first_versions_of_records_and_sections() {
    let dir = copied();
    let stored = stored(dir.path());
    assert_eq!(stored.len() as u64, HEAD.0);
    assert_eq!(versions(&stored, DEVICE_DISCOVERED), [1, 1, 1], "today's is version 2");
    assert!(!versions(&stored, STATE_CHANGED).is_empty());
    let bytes = fs::read(snapshot()).unwrap();
    assert_eq!(bytes[4..6], [1, 0], "layout");
    // The boot id and the quality of the clock come first.
    assert_eq!(bytes[HEADER_BYTES + 17], 1, "version of the devices; today's is 3");
    let report = verify(dir.path()).unwrap();
    assert_eq!(report.fault, None);
}

#[tokio::test]
async fn todays_agent_has_its_state_and_goes_on() {
    let (dir, broker) = (copied(), broker().await);
    let before = stored(dir.path());
    let configured = config(dir.path(), &broker, "");
    let agent = Agent::start(configured.clone()).await;
    let stats = &agent.handle.shared.stats;
    assert_eq!(
        stats.snapshot_seq.load(std::sync::atomic::Ordering::Relaxed),
        SNAPSHOT.0,
        "its snapshot is used"
    );
    assert!(!agent.view(|view| view.is_stale(fieldlog_projections::Aggregates::ID)), "with its aggregates");
    let past = format!("?at={HEAD}");
    for (id, file) in
        [("hall%2Fpress", "press.json"), ("hall%2Foven", "oven.json"), ("yard%2Fpump", "pump.json")]
    {
        check_device(&agent.json(&format!("/api/v1/devices/{id}")).await, file);
        check_device(&agent.json(&format!("/api/v1/devices/{id}{past}")).await, file);
    }
    let aggregates = agent.json("/api/v1/devices/hall%2Fpress/aggregates?attribute=pressure").await;
    let (mut now, mut then) = (aggregates["buckets"].clone(), answered("aggregates.json")["buckets"].clone());
    for buckets in [&mut now, &mut then] {
        buckets.as_array_mut().unwrap().iter_mut().for_each(|bucket| bucket["open"] = Json::Null);
    }
    assert_eq!((now, &aggregates["source"]), (then, &Json::from("memory")));

    // A device that it knew sends something: it is the same device, and now has a namespace.
    agent.subscribed().await;
    broker.publish("plant/hall/press", r#"{"pressure": 6.5}"#, false, Qos::AtLeastOnce).unwrap();
    until("the event", || agent.value("hall/press", "pressure") == Some(Value::Float(6.5))).await;
    agent.stop().await;
    let after = stored(dir.path());
    assert_eq!(after[..before.len()], before, "old records stay as they are");
    assert_eq!(versions(&after, DEVICE_DISCOVERED), [1, 1, 1, 2]);

    // The next start is from today's snapshot, and without any from the log: to the same state.
    let agent = Agent::start(configured.clone()).await;
    assert_eq!(
        agent.handle.shared.stats.snapshot_seq.load(std::sync::atomic::Ordering::Relaxed),
        after.len() as u64
    );
    let state = agent.view(|view| {
        let (id, press) = view.devices.find("hall/press").unwrap();
        (id, press.namespace().map(str::to_owned), press.attributes.clone(), press.events)
    });
    assert_eq!(state.1.as_deref(), Some("plant"));
    agent.stop().await;
    fs::remove_dir_all(dir.path().join("snapshots")).unwrap();
    let agent = Agent::start(configured).await;
    let folded = agent.view(|view| {
        let (id, press) = view.devices.find("hall/press").unwrap();
        (id, press.namespace().map(str::to_owned), press.attributes.clone(), press.events)
    });
    assert_eq!(folded, state);
    agent.stop().await;
}

/// What the first release makes of a log, as its source has it: it reads this number in this table before anything else.
fn opened_by_first_release(dir: &Path) -> Result<(), String> {
    let db = Database::open(dir.join(FILE_NAME)).unwrap();
    let meta = db.begin_read().unwrap().open_table(META).unwrap();
    match meta.get("format").unwrap().map(|format| format.value()) {
        Some(1) => Ok(()),
        Some(found) => Err(format!(
            "the log has format {found}, this fieldlog knows format 1; install the version that wrote it, or a later one"
        )),
        None => Err("not a fieldlog log".to_owned()),
    }
}

#[tokio::test]
async fn the_first_release_refuses_a_log_with_a_journal_and_takes_one_without() {
    let (dir, broker) = (copied(), broker().await);
    assert_eq!(opened_by_first_release(dir.path()), Ok(()));
    let words = "the log has format 2, this fieldlog knows format 1; install the version that wrote it, or a later one";
    for (journal, expected) in [(true, Err(words.to_owned())), (false, Ok(()))] {
        let config = config(dir.path(), &broker, &format!("journal = {journal}"));
        let agent = Agent::start(config).await;
        if journal && agent.handle.shared.stats.no_journal.get().is_some() {
            println!("skipped: this file system has no journal");
            return;
        }
        agent.stop().await;
        assert_eq!(opened_by_first_release(dir.path()), expected);
    }
    assert_eq!(
        Log::open(dir.path(), OPTIONS, Epoch(0)).unwrap().reader().range().unwrap().unwrap().0,
        Seq(1)
    );
}
