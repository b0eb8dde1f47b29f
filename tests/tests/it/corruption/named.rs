//! Damage of known kinds, and the messages for the operator.

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use super::content::{SINKS, cursor};
use super::damage::{TABLES, find};
use super::*;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const CURSORS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("cursors");
const QUARANTINE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("quarantine");
const CORRECTIONS: TableDefinition<'_, u64, i64> = TableDefinition::new("corrections");
const SUMS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sums");

/// The bytes after a change in the store and a clean close.
fn changed(bytes: &[u8], change: impl FnOnce(&redb::WriteTransaction)) -> Vec<u8> {
    let disk = FaultDisk::with_content(bytes.to_vec(), Rng::new(1));
    let db = Database::builder().create_with_backend(disk.clone()).unwrap();
    let txn = db.begin_write().unwrap();
    change(&txn);
    txn.commit().unwrap();
    db.close().unwrap();
    disk.content()
}

fn assert_refused(bytes: Vec<u8>, parts: &[&str]) {
    let disk = FaultDisk::with_content(bytes, Rng::new(1));
    let mut before = disk.content();
    let error = Log::open_on(disk.clone(), Arc::default(), OPTIONS, Epoch(99)).unwrap_err();
    let words = lasting(&error);
    for part in parts.iter().chain(&["log.redb", "damaged", "`fieldlog verify`", "restore", "new epoch"]) {
        assert!(words.contains(part), "{part:?} is not in: {words}");
    }
    // Nothing was written except redb's open mark.
    let mut after = disk.content();
    before[9] = 0;
    after[9] = 0;
    assert!(before == after, "something was written: {words}");
}

#[test]
fn a_renamed_table_is_refused_by_name() {
    let original = original();
    for name in TABLES {
        let mut bytes = original.bytes.clone();
        for at in find(&bytes, name.as_bytes()) {
            // The next letter, so that the order of the tables stays.
            bytes[at + name.len() - 1] += 1;
        }
        if name == "sums" {
            // One spot of damage: all the rest is there, as in a log of an older version.
            assert_eq!(outcome(bytes, &original).0, Outcome::Same);
        } else {
            assert_refused(bytes, &[&format!("table \"{name}\"")]);
        }
    }
}

#[test]
fn a_changed_epoch_is_refused() {
    let original = original();
    let mut bytes = original.bytes.clone();
    let found = find(&bytes, &original.content.epoch.0.to_le_bytes());
    assert!(!found.is_empty());
    found.into_iter().for_each(|at| bytes[at] ^= 1);
    assert_refused(bytes, &["the epoch is", "and its copy is"]);
}

#[test]
fn what_else_is_in_meta_is_covered() {
    let original = original();
    let doubted = changed(&original.bytes, |txn| {
        txn.open_table(META).unwrap().insert("clock_doubted", 78).unwrap();
    });
    assert_refused(doubted, &["\"meta\""]);
    let correction = changed(&original.bytes, |txn| {
        let mut table = txn.open_table(CORRECTIONS).unwrap();
        let (at, after) = table.first().unwrap().map(|(at, after)| (at.value(), after.value())).unwrap();
        table.insert(at, after - 1).unwrap();
    });
    assert_refused(correction, &["\"corrections\""]);
}

#[test]
fn an_emptied_quarantine_is_refused() {
    let original = original();
    let rows = original.content.quarantine.len();
    let emptied = changed(&original.bytes, |txn| {
        txn.open_table(QUARANTINE).unwrap().retain(|_, _| false).unwrap();
    });
    assert_refused(emptied, &["table \"quarantine\"", &format!("had {rows} rows"), "have 0"]);
    let one_less = changed(&original.bytes, |txn| {
        txn.open_table(QUARANTINE).unwrap().pop_last().unwrap().unwrap();
    });
    assert_refused(one_less, &["table \"quarantine\"", &format!("have {}", rows - 1)]);
}

#[test]
fn a_log_whose_list_of_tables_is_lost_is_not_made_anew() {
    let original = original();
    let emptied = changed(&original.bytes, |txn| {
        let names: Vec<_> = txn.list_tables().unwrap().collect();
        names.into_iter().for_each(|name| assert!(txn.delete_table(name).unwrap()));
    });
    assert_refused(emptied, &["no tables"]);
}

#[test]
fn a_damaged_cursor_is_lost_and_the_others_are_not() {
    let original = original();
    for at in 0..20 {
        let damaged = changed(&original.bytes, |txn| {
            let mut table = txn.open_table(CURSORS).unwrap();
            let mut stored = table.get("cloud").unwrap().unwrap().value().to_vec();
            let at = at % stored.len();
            stored[at] = stored[at].wrapping_add(1 + at as u8);
            table.insert("cloud", stored.as_slice()).unwrap();
        });
        assert_eq!(outcome(damaged.clone(), &original).0, Outcome::CursorsLost, "byte {at}");
        let log = open_on(&FaultDisk::with_content(damaged, Rng::new(1))).unwrap();
        let words = log.reader().cursor("cloud").unwrap_err().to_string();
        for part in
            ["sink \"cloud\"", "sends it everything in the log again", "same identity", "`fieldlog verify`"]
        {
            assert!(words.contains(part), "{part:?} is not in: {words}");
        }
    }
}

/// The log as written by a version without checksums.
fn without_checksums(original: &Original) -> Vec<u8> {
    changed(&original.bytes, |txn| {
        txn.delete_table(SUMS).unwrap();
        let mut cursors = txn.open_table(CURSORS).unwrap();
        for (name, cursor) in &original.content.cursors {
            cursors.insert(name.as_str(), cursor.as_slice()).unwrap();
        }
        let mut quarantine = txn.open_table(QUARANTINE).unwrap();
        for (seq, payload) in &original.content.quarantine {
            quarantine.insert(seq.0, payload.as_slice()).unwrap();
        }
    })
}

#[test]
fn a_log_without_checksums_is_read_and_gains_them() {
    let original = original();
    let old = without_checksums(&original);
    assert_eq!(outcome(old.clone(), &original).0, Outcome::Same);
    let disk = FaultDisk::with_content(old, Rng::new(1));
    for _ in 0..2 {
        let log = Log::open_on(disk.clone(), Arc::default(), OPTIONS, Epoch(99)).unwrap();
        let content = Content::of(&log, &original.snapshots).unwrap();
        assert_eq!(original.content.held_against(&content), Outcome::Same);
        log.close().unwrap();
    }
    let db = Database::builder()
        .create_with_backend(FaultDisk::with_content(disk.content(), Rng::new(1)))
        .unwrap();
    let txn = db.begin_read().unwrap();
    assert_eq!(txn.open_table(SUMS).unwrap().len().unwrap(), 2);
    let cursors = txn.open_table(CURSORS).unwrap();
    assert!(SINKS.iter().all(|name| cursors.get(name).unwrap().unwrap().value()[0] == 0xc1));
}

#[test]
fn a_log_that_an_older_version_has_gone_on_with_is_read() {
    let original = original();
    let disk = FaultDisk::with_content(original.bytes.clone(), Rng::new(1));
    // That version leaves the `closed` row as it is.
    let kept = Database::builder().create_with_backend(disk.clone()).unwrap();
    let row =
        kept.begin_read().unwrap().open_table(SUMS).unwrap().get("closed").unwrap().unwrap().value().to_vec();
    kept.close().unwrap();
    let mut log = Log::open_on(disk.clone(), Arc::default(), OPTIONS, Epoch(99)).unwrap();
    let made = crate::crash::records::make(&mut Rng::new(3), &original.content.view, 10, 20);
    log.append(&made.body, &[(0, b"raw".to_vec())]).unwrap();
    let head = log.head();
    log.close().unwrap();
    let seq = fieldlog_projections::Seq(head.0 - 9);
    let bytes = changed(&disk.content(), |txn| {
        txn.open_table(SUMS).unwrap().insert("closed", row.as_slice()).unwrap();
        txn.open_table(QUARANTINE).unwrap().insert(seq.0, b"raw".as_slice()).unwrap();
        txn.open_table(CURSORS).unwrap().insert("cloud", cursor(121).as_slice()).unwrap();
    });
    let disk = FaultDisk::with_content(bytes, Rng::new(1));
    for _ in 0..2 {
        let log = Log::open_on(disk.clone(), Arc::default(), OPTIONS, Epoch(99)).unwrap();
        assert_eq!((log.head(), log.epoch()), (head, original.content.epoch));
        assert_eq!(log.reader().quarantined(seq).unwrap().unwrap(), b"raw");
        assert_eq!(log.reader().cursor("cloud").unwrap().unwrap(), cursor(121));
        log.close().unwrap();
    }
}

#[test]
fn a_commit_after_a_clean_close_costs_no_more_than_the_next() {
    let disk = FaultDisk::new(Rng::new(1));
    let open = || {
        let stats = Arc::new(fieldlog::log::DiskStats::default());
        (Log::open_on(disk.clone(), stats.clone(), OPTIONS, Epoch(99)).unwrap(), stats)
    };
    let written = |log: &mut Log, stats: &fieldlog::log::DiskStats, count: u64| {
        let before = stats.bytes_written.load(Ordering::Relaxed);
        for _ in 0..count {
            let mut body = fieldlog_projections::chunk::RecordBuffer::after(log.last_time());
            body.push_fact(
                Default::default(),
                &fieldlog_projections::Fact::ConfigChanged { keys: Vec::new() },
            );
            log.append(&body, &[]).unwrap();
        }
        (stats.bytes_written.load(Ordering::Relaxed) - before) / count
    };
    let (mut log, stats) = open();
    let new = written(&mut log, &stats, 500);
    log.close().unwrap();
    let (mut log, stats) = open();
    let first = written(&mut log, &stats, 1);
    let then = written(&mut log, &stats, 500);
    println!("bytes per commit: {new} in a new log, {first} first after a clean close, {then} then");
    // One page for the deleted row, and one for its place in the list of tables.
    assert!(first <= then + 6 * 4096, "{first} {then}");
    assert!(then.abs_diff(new) <= 2 * 4096, "{then} {new}");
}
