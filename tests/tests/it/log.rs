//! Tests of the log alone.

use std::ops::ControlFlow;
use std::path::Path;

use fieldlog::log::{FILE_NAME, Log, LogError, LogOptions, LogReader};
use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::{AttrId, DeviceId, Epoch, Fact, Seq, Time, Value, View};
use fieldlog_tests::rng::Rng;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::crash::records::{Kept, kept, make};
use crate::rig::{OPTIONS, scratch};

const CHUNKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("chunks");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

fn open(dir: &Path) -> Result<Log, LogError> {
    Log::open(dir, OPTIONS, Epoch(5))
}

/// A log of commits of random sizes, and its records.
fn filled(dir: &Path, seed: u64, commits: usize) -> (Log, Vec<Kept>) {
    let mut rng = Rng::new(seed);
    let mut log = open(dir).unwrap();
    let (mut view, mut records) = (View::default(), Vec::new());
    for _ in 0..commits {
        let count = if rng.chance(10) { rng.between(200, 600) } else { rng.between(1, 30) };
        let made = make(&mut rng, &view, count, 60);
        let committed = log.append(&made.body, &made.quarantine).unwrap();
        view.apply_records(made.body.records(committed.first), committed.last).unwrap();
        records.extend(kept(made.body.records(committed.first)));
    }
    (log, records)
}

fn scan(reader: &LogReader, from: Seq) -> Vec<Kept> {
    let mut found = Vec::new();
    let all = reader.scan(from, |chunk| {
        found.extend(kept(chunk.records()));
        ControlFlow::<()>::Continue(())
    });
    assert_eq!(all.unwrap(), None);
    found
}

#[test]
fn a_scan_from_any_position_gives_everything_from_there_on() {
    let dir = scratch();
    let (log, records) = filled(dir.path(), 1, 300);
    let reader = log.reader();
    let starts = reader.range().unwrap().unwrap();
    assert_eq!(starts, (Seq(1), log.head()));
    let mut rng = Rng::new(2);
    let head = log.head().0;
    let some = (0..60).map(|_| rng.below(head as usize) as u64);
    for from in some.chain([0, 1, 2, head - 1, head]) {
        let found = scan(&reader, Seq(from));
        assert!(found[0].seq.0 <= from.max(1), "it begins behind {from}");
        assert!(found == records[found[0].seq.0 as usize - 1..], "from {from}");
    }
    assert!(scan(&reader, Seq(head + 1)).is_empty());
    assert!(scan(&reader, Seq(u64::MAX)).is_empty());
    let stopped = reader.scan(Seq(1), |chunk| ControlFlow::Break(chunk.header.first));
    assert_eq!(stopped.unwrap(), Some(Seq(1)));
}

#[test]
fn a_scan_follows_a_log_that_grows_under_it() {
    let dir = scratch();
    let (mut log, mut records) = filled(dir.path(), 3, 20);
    let reader = log.reader();
    let mut rng = Rng::new(4);
    let mut at = Seq(1);
    for _ in 0..100 {
        let mut body = RecordBuffer::after(log.last_time());
        for _ in 0..rng.between(1, 20) {
            body.push_fact(Envelope::default(), &Fact::ConfigChanged { keys: Vec::new() });
        }
        let committed = log.append(&body, &[]).unwrap();
        records.extend(kept(body.records(committed.first)));
        let new: Vec<Kept> = scan(&reader, at).into_iter().filter(|record| record.seq >= at).collect();
        assert!(new == records[at.0 as usize - 1..]);
        at = log.head().next();
    }
}

#[test]
fn seek_time_is_what_a_naive_scan_finds() {
    for seed in 0..4 {
        let dir = scratch();
        let (log, records) = filled(dir.path(), seed, 120);
        let reader = log.reader();
        let mut chunks = Vec::new();
        let all = reader.scan(Seq(1), |chunk| {
            chunks.push((chunk.header.first, chunk.header.base_time));
            ControlFlow::<()>::Continue(())
        });
        all.unwrap();
        let mut rng = Rng::new(seed);
        let near = |rng: &mut Rng| rng.pick(&records).time.0 + rng.below(3) as i64 - 1;
        for _ in 0..300 {
            let time = Time(near(&mut rng));
            let naive =
                chunks.iter().rev().find(|(_, base)| *base < time).map_or(Seq(1), |(first, _)| *first);
            let found = reader.seek_time(time).unwrap();
            assert_eq!(found, naive, "{time:?}");
            let first = records.iter().find(|record| record.time >= time);
            assert!(first.is_none_or(|record| record.seq >= found), "records from {time:?} on are missed");
        }
        assert_eq!(reader.seek_time(Time(i64::MIN)).unwrap(), Seq(1));
        assert_eq!(reader.seek_time(Time(i64::MAX)).unwrap(), chunks.last().unwrap().0);
    }
    let dir = scratch();
    assert_eq!(open(dir.path()).unwrap().reader().seek_time(Time(0)).unwrap(), Seq(1));
}

/// Bytes of all chunks of `events` events, with this many per commit.
fn chunk_bytes(events: usize, per_commit: usize) -> usize {
    let dir = scratch();
    let mut log = open(dir.path()).unwrap();
    let mut rng = Rng::new(1);
    let mut wall = Time(1_700_000_000_000_000);
    for _ in 0..events / per_commit {
        let mut body = RecordBuffer::after(log.last_time());
        for _ in 0..per_commit {
            wall.0 += rng.below(2_000_000) as i64;
            let device = DeviceId(rng.below(50) as u32);
            let value = |rng: &mut Rng| Value::Float(rng.below(5_000) as f64 / 100.0);
            let changes = vec![(AttrId(1), value(&mut rng)), (AttrId(2), value(&mut rng))];
            body.push_fact(Envelope { wall, ..Envelope::default() }, &Fact::StateChanged { device, changes });
        }
        log.append(&body, &[]).unwrap();
    }
    log.close().unwrap();
    let db = Database::open(dir.path().join(FILE_NAME)).unwrap();
    let chunks = db.begin_read().unwrap().open_table(CHUNKS).unwrap();
    chunks.iter().unwrap().map(|entry| entry.unwrap().1.value().len()).sum()
}

#[test]
fn a_quiet_log_is_as_dense_as_a_busy_one() {
    let quiet = chunk_bytes(5_000, 1);
    let busy = chunk_bytes(5_000, 500);
    assert!(quiet * 10 <= busy * 13, "{quiet} bytes one by one, {busy} in large commits");
}

#[test]
fn the_quarantine_keeps_the_newest_and_no_more() {
    let dir = scratch();
    let mut log = open(dir.path()).unwrap();
    let quarantined = |n: usize| Fact::InputQuarantined {
        source: "s".into(),
        topic: "t".into(),
        reason: "r".into(),
        size: n as u64,
    };
    for n in 0..8 {
        let mut body = RecordBuffer::after(log.last_time());
        (0..3).for_each(|m| body.push_fact(Envelope::default(), &quarantined(m)));
        let payloads = [(0, vec![n; 10]), (2, vec![n + 100; 10])];
        log.append(&body, &payloads).unwrap();
    }
    let reader = log.reader();
    let newest: Vec<Seq> = (3..8).rev().flat_map(|n| [Seq(n * 3 + 3), Seq(n * 3 + 1)]).collect();
    assert_eq!(reader.quarantine(100).unwrap(), newest);
    assert_eq!(reader.quarantine(3).unwrap(), newest[..3]);
    assert_eq!(reader.quarantined(Seq(24)).unwrap(), Some(vec![107; 10]));
    assert_eq!(reader.quarantined(Seq(1)).unwrap(), None);
    assert_eq!(reader.quarantined(Seq(23)).unwrap(), None);
    log.close().unwrap();
    drop(reader);
    let none = LogOptions { quarantine_records_max: 0, ..OPTIONS };
    let mut log = Log::open(dir.path(), none, Epoch(1)).unwrap();
    let mut body = RecordBuffer::after(log.last_time());
    body.push_fact(Envelope::default(), &quarantined(0));
    log.append(&body, &[(0, vec![1])]).unwrap();
    assert!(log.reader().quarantine(10).unwrap().is_empty());
}

#[test]
fn a_log_is_continued_in_its_epoch() {
    let dir = scratch();
    let (log, records) = filled(dir.path(), 9, 50);
    assert_eq!(log.epoch(), Epoch(5));
    log.close().unwrap();
    let mut log = Log::open(dir.path(), OPTIONS, Epoch(77)).unwrap();
    assert_eq!(log.epoch(), Epoch(5));
    let nothing = log.append(&RecordBuffer::after(log.last_time()), &[]).unwrap();
    assert_eq!(nothing.last, log.head());
    let mut body = RecordBuffer::after(log.last_time());
    body.push_fact(Envelope::default(), &Fact::ConfigChanged { keys: Vec::new() });
    let committed = log.append(&body, &[]).unwrap();
    assert_eq!(committed.first.0, records.len() as u64 + 1);
    assert_eq!(scan(&log.reader(), Seq(1)).len(), records.len() + 1);
}

#[test]
fn a_record_as_large_as_a_packet_can_be_read_again() {
    let dir = scratch();
    let mut log = open(dir.path()).unwrap();
    let changes = (0..80)
        .map(|n| {
            (AttrId(n), Value::Text(String::from_utf8(vec![b'a' + n as u8 % 26; 1 << 20]).unwrap().into()))
        })
        .collect();
    let fact = Fact::StateChanged { device: DeviceId(0), changes };
    let mut body = RecordBuffer::after(Time(0));
    body.push_fact(Envelope::default(), &fact);
    log.append(&body, &[]).unwrap();
    log.close().unwrap();
    let log = open(dir.path()).unwrap();
    let found = scan(&log.reader(), Seq(1));
    assert!(found[0].payload.len() > 80 << 20);
}

/// The operator's message when the log in `dir` is opened.
fn refusal(dir: &Path) -> String {
    open(dir).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn a_store_of_someone_else_is_refused_and_left_alone() {
    const OTHER: TableDefinition<'_, &str, &str> = TableDefinition::new("other");
    let dir = scratch();
    let path = dir.path().join(FILE_NAME);
    let db = Database::create(&path).unwrap();
    let txn = db.begin_write().unwrap();
    txn.open_table(OTHER).unwrap().insert("a", "b").unwrap();
    txn.commit().unwrap();
    db.close().unwrap();
    let words = refusal(dir.path());
    assert!(words.contains("not a fieldlog log") && words.contains("choose another data_dir"), "{words}");
    let db = Database::open(&path).unwrap();
    assert_eq!(db.begin_read().unwrap().list_tables().unwrap().count(), 1);
    drop(db);
    // Another program's table of the same name.
    let dir = scratch();
    const META_OTHER: TableDefinition<'_, u32, u32> = TableDefinition::new("meta");
    let db = Database::create(dir.path().join(FILE_NAME)).unwrap();
    let txn = db.begin_write().unwrap();
    txn.open_table(META_OTHER).unwrap().insert(1, 2).unwrap();
    txn.commit().unwrap();
    db.close().unwrap();
    assert!(refusal(dir.path()).contains("not a fieldlog log"));
}

#[test]
fn a_newer_format_is_refused() {
    let dir = scratch();
    open(dir.path()).unwrap().close().unwrap();
    let db = Database::open(dir.path().join(FILE_NAME)).unwrap();
    let txn = db.begin_write().unwrap();
    txn.open_table(META).unwrap().insert("format", 3).unwrap();
    txn.commit().unwrap();
    db.close().unwrap();
    let words = refusal(dir.path());
    assert!(
        words.contains("has format 3, but this version of fieldlog reads formats 1 and 2; install"),
        "{words}"
    );
}

#[test]
fn what_is_no_store_is_refused_by_name() {
    let dir = scratch();
    let path = dir.path().join(FILE_NAME);
    std::fs::write(&path, b"this is not a database, and it is somebody's only copy").unwrap();
    let words = refusal(dir.path());
    assert!(words.contains(&path.display().to_string()) && words.contains("Not a redb database"), "{words}");
    assert!(std::fs::read(&path).unwrap().starts_with(b"this is not"));
    // An empty first page alone is not an interrupted creation if there is content after it.
    let mut lost_head = vec![0; 73_728];
    lost_head[50_000] = 1;
    std::fs::write(&path, &lost_head).unwrap();
    assert!(refusal(dir.path()).contains("Not a redb database"));
    assert!(std::fs::read(&path).unwrap() == lost_head);
}

#[test]
fn an_interrupted_creation_is_made_anew() {
    for content in [vec![], vec![0; 73_728], [&b"red\0\0\0\0\0\0\x03"[..], &[0; 8_000]].concat()] {
        let dir = scratch();
        std::fs::write(dir.path().join(FILE_NAME), content).unwrap();
        assert_eq!(open(dir.path()).unwrap().head(), Seq(0));
    }
}

#[test]
fn a_directory_and_a_missing_one_are_refused_by_name() {
    let dir = scratch();
    let missing = dir.path().join("missing");
    let words = refusal(&missing);
    assert!(
        words.contains(&missing.display().to_string()) && words.contains("check that the directory exists")
    );
    std::fs::create_dir(dir.path().join(FILE_NAME)).unwrap();
    let words = refusal(dir.path());
    assert!(words.contains(FILE_NAME) && words.contains("check that the directory exists"), "{words}");
}

#[cfg(unix)]
#[test]
fn a_read_only_file_is_refused_by_name() {
    use std::os::unix::fs::PermissionsExt;
    let dir = scratch();
    open(dir.path()).unwrap().close().unwrap();
    let path = dir.path().join(FILE_NAME);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).unwrap();
    if std::fs::OpenOptions::new().write(true).open(&path).is_ok() {
        return; // root may write everything
    }
    let words = refusal(dir.path());
    assert!(words.contains("ermission denied") && words.contains("belongs to the user"), "{words}");
}

#[test]
fn a_log_in_use_is_refused() {
    let dir = scratch();
    let _log = open(dir.path()).unwrap();
    let words = refusal(dir.path());
    assert!(words.contains(FILE_NAME) && words.contains("in use by another process"), "{words}");
}

#[test]
fn a_damaged_chunk_stops_the_agent_with_its_position() {
    let dir = scratch();
    let (log, _) = filled(dir.path(), 6, 80);
    log.close().unwrap();
    let damage = |at: usize| {
        let db = Database::open(dir.path().join(FILE_NAME)).unwrap();
        let txn = db.begin_write().unwrap();
        let key = {
            let mut chunks = txn.open_table(CHUNKS).unwrap();
            let keys: Vec<u64> = chunks.iter().unwrap().map(|entry| entry.unwrap().0.value()).collect();
            let key = keys[at.min(keys.len() - 1)];
            let mut bytes = chunks.get(key).unwrap().unwrap().value().to_vec();
            *bytes.last_mut().unwrap() ^= 4;
            chunks.insert(key, &bytes[..]).unwrap();
            key
        };
        txn.commit().unwrap();
        db.close().unwrap();
        key
    };
    let key = damage(1);
    let log = open(dir.path()).unwrap();
    let error = log.reader().scan(Seq(1), |_| ControlFlow::<()>::Continue(())).unwrap_err().to_string();
    assert!(error.contains(&format!("damaged at sequence {key}")) && error.contains("backup"), "{error}");
    log.close().unwrap();
    let key = damage(usize::MAX);
    assert!(refusal(dir.path()).contains(&format!("damaged at sequence {key}")));
}
