//! Thinning: aggregates outlive the records they came from.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use fieldlog::clock::Clock;
use fieldlog::log::{Commit, FILE_NAME, Log};
use fieldlog::retention::rollup::{Job, roll_up};
use fieldlog::verify::{self, verify};
use fieldlog_projections::chunk::RecordBuffer;
use fieldlog_projections::{AttrId, DeviceId, Epoch, Fact, Seq, Time, Value};
use fieldlog_tests::agent::Agent;
use fieldlog_tests::rng::Rng;
use fieldlog_tests::wait::until;
use redb::{Database, ReadableTable, TableDefinition};
use serde_json::Value as Json;

use crate::history::{DAY_S, HOUR_S, at, config, introduce};
use crate::rig::{OPTIONS, scratch};

const ROLLUPS: TableDefinition<'_, (u64, u32), &[u8]> = TableDefinition::new("archive");

/// Values of `device` and `attribute` whose sum is exact in any order.
fn changed(device: u32, values: &[(u32, f64)]) -> Fact {
    let changes = values.iter().map(|(attr, value)| (AttrId(*attr), Value::Float(*value))).collect();
    Fact::StateChanged { device: DeviceId(device), changes }
}

/// A log of two devices that report every other minute, from `begin_s` to `end_s`; one is retired in between.
fn fill(dir: &Path, begin_s: i64, end_s: i64, seed: u64) {
    let mut rng = Rng::new(seed);
    let mut log = Log::open(dir, OPTIONS, Epoch(7)).unwrap();
    let mut body = RecordBuffer::after(Time(0));
    introduce(&mut body, begin_s, &["meter", "old/lamp"], &["power", "energy"]);
    let retired_s = begin_s + (end_s - begin_s) / 4;
    for second in (begin_s..end_s).step_by(120) {
        let quarter = |rng: &mut Rng| rng.below(4_000) as f64 / 4.0 - 200.0;
        body.push_fact(at(second), &changed(0, &[(0, quarter(&mut rng)), (1, quarter(&mut rng))]));
        if second < retired_s {
            body.push_fact(at(second), &changed(1, &[(0, quarter(&mut rng))]));
        } else if second < retired_s + 120 {
            body.push_fact(at(second), &Fact::DeviceRetired { device: DeviceId(1) });
        }
        if body.len() > 30 {
            log.append(&body, &[]).unwrap();
            body = RecordBuffer::after(log.last_time());
        }
    }
    log.append(&body, &[]).unwrap();
    log.close().unwrap();
}

/// Aggregates from the begin on.
async fn aggregates(agent: &Agent, device: &str, attribute: &str, window_s: i64) -> Json {
    let query = format!("attribute={attribute}&window_s={window_s}&from=2000-01-01T00:00:00Z");
    let mut answer = agent.json(&format!("/api/v1/devices/{device}/aggregates?{query}")).await;
    // Whether a bucket is open depends on the time of the request.
    for bucket in answer["buckets"].as_array_mut().unwrap() {
        bucket.as_object_mut().unwrap().remove("open");
    }
    answer
}

const SERIES: [(&str, &str); 3] = [("meter", "power"), ("meter", "energy"), ("old%2Flamp", "power")];

/// The buckets of all series, for several window lengths.
async fn all(agent: &Agent) -> BTreeMap<(&'static str, &'static str, i64), Json> {
    let mut all = BTreeMap::new();
    for (device, attribute) in SERIES {
        for window_s in [60, 1_800, HOUR_S, 2 * HOUR_S, 6 * HOUR_S, DAY_S, 7 * DAY_S] {
            let answer = aggregates(agent, device, attribute, window_s).await;
            all.insert((device, attribute, window_s), answer);
        }
    }
    all
}

/// Waits until most of the four days that are older than one are deleted; the last chunk of them stays.
async fn trimmed(agent: &Agent) {
    until("a trimmed log", || agent.first() > Seq(3_000)).await;
}

fn buckets_from<'a>(answer: &'a Json, from: &str) -> Vec<&'a Json> {
    let buckets = answer["buckets"].as_array().unwrap();
    buckets.iter().filter(|bucket| bucket["start"].as_str().unwrap() >= from).collect()
}

/// An agent whose log begins five days ago and has a snapshot at its end, so that its front can be trimmed.
async fn five_days(dir: &Path) -> Agent {
    let seed = Clock::system().wall().0 as u64;
    println!("seed {seed}");
    let now_s = Clock::system().wall().0 / 1_000_000;
    fill(dir, now_s - 5 * DAY_S, now_s - 300, seed);
    Agent::start(config(dir, "", "")).await.stop().await;
    Agent::start(config(dir, "", "")).await
}

#[tokio::test]
async fn aggregates_are_the_same_when_their_records_are_gone() {
    let dir = scratch();
    let agent = five_days(dir.path()).await;
    let before = all(&agent).await;
    assert!(before.values().all(|answer| answer.get("complete_from").is_none()));

    agent.reload(config(dir.path(), "age_days = 1\nthin_to_s = 3600", "")).await;
    trimmed(&agent).await;
    let reader = &agent.handle.shared.reader;
    let upto = reader.rollups_end().unwrap().unwrap().period.last;
    assert!(agent.first() <= upto.next());
    let after = all(&agent).await;
    let mut incomplete = 0;
    for (key, answer) in &after {
        let whole = &before[key];
        let Some(from) = answer["complete_from"].as_str() else {
            // Five days are still in memory, and the hours of the lamp.
            let remembered = key.2 == DAY_S || (key.0 != "meter" && key.2 == HOUR_S);
            let source = if remembered { "memory" } else { "archive+log" };
            assert_eq!(
                (&answer["buckets"], &answer["source"]),
                (&whole["buckets"], &source.into()),
                "{key:?}"
            );
            continue;
        };
        assert!(key.2 < HOUR_S, "{key:?} is complete in the archive");
        assert_eq!(answer["source"], "log");
        assert_eq!(buckets_from(answer, from), buckets_from(whole, from), "{key:?}");
        assert!(buckets_from(whole, from).len() < whole["buckets"].as_array().unwrap().len());
        incomplete += 1;
    }
    assert_eq!(incomplete, 2 * SERIES.len(), "the archive cannot be divided into shorter windows");

    let status = agent.json("/status").await["log"]["archive"].clone();
    assert_eq!(status["upto_seq"], upto.0);
    assert!(status["rows"].as_u64().unwrap() > 80 && status["bytes"].as_u64().unwrap() > 5_000, "{status}");
    let metrics = agent.get("/metrics").await;
    assert!(metrics.contains(&format!("fieldlog_archive_last_sequence {}", upto.0)), "{metrics}");
    println!("{status}");

    // Memory is folded again from the rest of the log, and reports this, also after a start from its snapshot.
    let minutes = "[[aggregates]]\nwindow_s = 1200\nkeep = 1000";
    let thinned = "age_days = 1\nthin_to_s = 3600";
    agent.reload(config(dir.path(), thinned, minutes)).await;
    until("other windows", || {
        !agent.handle.shared.rebuild.running()
            && agent.view(|view| view.aggregates.windows().first().is_some_and(|w| w.length_s == 1_200))
    })
    .await;
    check_memory(&agent).await;
    agent.stop().await;
    let agent = Agent::start(config(dir.path(), thinned, minutes)).await;
    assert!(!agent.handle.shared.rebuild.running());
    check_memory(&agent).await;
    assert_eq!(
        aggregates(&agent, "meter", "power", HOUR_S).await["buckets"],
        before[&("meter", "power", HOUR_S)]["buckets"]
    );
    agent.stop().await;

    let report = verify(dir.path()).unwrap();
    assert_eq!((report.fault.clone(), report.rollups.range), (None, Some((Seq(1), upto))));
    let mut words = Vec::new();
    verify::print(&report, &mut words).unwrap();
    let words = String::from_utf8(words).unwrap();
    assert!(
        words.contains(&format!("archive aggregates of 1 to {upto} in {} rows", report.rollups.rows)),
        "{words}"
    );
}

async fn check_memory(agent: &Agent) {
    let memory = agent.json("/api/v1/devices/meter/aggregates?attribute=power&window_s=1200").await;
    assert_eq!(memory["source"], "memory");
    let from = memory["complete_from"].as_str().expect("the records before are deleted").to_owned();
    assert!(buckets_from(&memory, &from).len() > 60);
    let log = agent
        .json(&format!("/api/v1/devices/meter/aggregates?attribute=power&window_s=1200&from={from}"))
        .await;
    assert_eq!((&log["source"], log.get("complete_from")), (&"memory".into(), None));
    let earlier = aggregates(agent, "meter", "power", 1_200).await;
    assert_eq!((&earlier["source"], earlier["complete_from"].as_str()), (&"log".into(), Some(&*from)));
}

#[tokio::test]
async fn without_thinning_an_answer_says_from_when_on_it_is_complete() {
    let dir = scratch();
    let agent = five_days(dir.path()).await;
    let before = aggregates(&agent, "meter", "power", HOUR_S).await;
    agent.reload(config(dir.path(), "age_days = 1", "")).await;
    trimmed(&agent).await;
    let after = aggregates(&agent, "meter", "power", HOUR_S).await;
    assert_eq!(after["source"], "log");
    let from = after["complete_from"].as_str().expect("four days are gone");
    assert!(buckets_from(&after, from).len() >= 23);
    assert_eq!(buckets_from(&after, from), buckets_from(&before, from));
    let partly = |answer: &Json| answer["buckets"].as_array().unwrap().len();
    assert!(partly(&after) < partly(&before) - 70);
    agent.stop().await;
}

/// A log of one day whose first part is archived.
fn thinned(dir: &Path) -> (Log, Vec<fieldlog::log::RolledUp>) {
    fill(dir, 20 * DAY_S, 21 * DAY_S, 1);
    let mut log = Log::open(dir, OPTIONS, Epoch(1)).unwrap();
    let periods = roll_up(&log.reader(), job(&log, Seq(200)), &AtomicBool::new(false)).unwrap();
    let nothing = RecordBuffer::after(log.last_time());
    log.commit(&Commit { rollups: &periods, ..Commit::of(&nothing) }).unwrap();
    (log, periods)
}

fn job(log: &Log, before: Seq) -> Job {
    Job { length_s: 3_600, before, head: (log.head(), log.last_time()) }
}

#[test]
fn a_window_that_has_ended_is_archived_whole_and_once() {
    let dir = scratch();
    let (log, periods) = thinned(dir.path());
    let last = periods.last().unwrap().period;
    assert!(last.last.next() >= Seq(200) && last.first < Seq(200), "{last:?}");
    // It continues past the records to be deleted, to the end of their window, so that it need not be written again.
    let again = roll_up(&log.reader(), job(&log, last.last.next()), &AtomicBool::new(false)).unwrap();
    assert!(again.is_empty());
    let more = roll_up(&log.reader(), job(&log, last.last.next().next()), &AtomicBool::new(false)).unwrap();
    assert_eq!((more.len(), more[0].period.first), (1, last.last.next()));
    assert_eq!(more[0].period.start_s, last.start_s + HOUR_S);
}

#[test]
fn a_log_without_an_archive_has_an_empty_one() {
    let dir = scratch();
    fill(dir.path(), 20 * DAY_S, 21 * DAY_S, 1);
    let log = Log::open(dir.path(), OPTIONS, Epoch(1)).unwrap();
    let reader = log.reader();
    assert_eq!(reader.rollups_end().unwrap(), None);
    assert_eq!(reader.rollups_size().unwrap(), Default::default());
    assert_eq!(reader.rollups_older(Time(i64::MAX)).unwrap(), None);
    assert_eq!(reader.scan_rollups(Seq(0), |_| Ok(ControlFlow::Break(()))).unwrap(), None);
    log.close().unwrap();
    assert_eq!(verify(dir.path()).unwrap().rollups, Default::default());
}

#[test]
fn what_is_too_old_leaves_the_archive_and_its_end_stays() {
    let dir = scratch();
    let (mut log, periods) = thinned(dir.path());
    let reader = log.reader();
    let size = reader.rollups_size().unwrap();
    let bytes: usize = periods.iter().flat_map(|p| &p.rows).map(Vec::len).sum();
    assert_eq!((size.rows, size.bytes), (periods.len() as u64, bytes as u64));
    assert_eq!(reader.rollups_older(periods[0].period.last_time).unwrap(), None);
    let nothing = RecordBuffer::after(log.last_time());
    for (time, kept) in [(periods[2].period.last_time, 2), (Time(i64::MAX), periods.len() - 1)] {
        let before = reader.rollups_older(time).unwrap();
        assert_eq!(before, Some(periods[kept].period.first));
        log.commit(&Commit { trim_rollups_before: before, ..Commit::of(&nothing) }).unwrap();
        let bytes: usize = periods[kept..].iter().flat_map(|p| &p.rows).map(Vec::len).sum();
        let size = reader.rollups_size().unwrap();
        assert_eq!((size.rows, size.bytes), ((periods.len() - kept) as u64, bytes as u64));
        assert_eq!(reader.rollups_end().unwrap().unwrap().period, periods.last().unwrap().period);
    }
    assert_eq!(reader.rollups_older(Time(i64::MAX)).unwrap(), None);
}

#[test]
fn a_damaged_row_is_named_and_never_counted() {
    let dir = scratch();
    let (log, periods) = thinned(dir.path());
    log.close().unwrap();
    let last = periods.last().unwrap().period.first.0;
    let db = Database::open(dir.path().join(FILE_NAME)).unwrap();
    let txn = db.begin_write().unwrap();
    {
        let mut table = txn.open_table(ROLLUPS).unwrap();
        let mut bytes = table.get((last, 0)).unwrap().unwrap().value().to_vec();
        *bytes.last_mut().unwrap() ^= 4;
        table.insert((last, 0), &bytes[..]).unwrap();
    }
    txn.commit().unwrap();
    db.close().unwrap();
    let report = verify(dir.path()).unwrap();
    let fault = report.fault.unwrap();
    assert!(
        fault.contains(&format!("the archive's row of sequence {last}: its checksum is wrong")),
        "{fault}"
    );
    assert_eq!(report.rollups.rows, periods.len() as u64 - 1);
    let log = Log::open(dir.path(), OPTIONS, Epoch(1)).unwrap();
    let error =
        roll_up(&log.reader(), job(&log, log.head()), &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(error.contains("damaged") && error.contains("retention.thin_to_s = 0"), "{error}");
}
