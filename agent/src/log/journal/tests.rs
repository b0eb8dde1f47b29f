use std::sync::Arc;
use std::sync::atomic::Ordering;

use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::{Epoch, Fact, Seq, Time};
use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::block::BLOCK;
use crate::log::{Commit, JournalBounds, Log, LogError, LogOptions, LogReader};

const BOUNDS: JournalBounds = JournalBounds { move_bytes: 1 << 20 };
const RING: u32 = 8;

/// A disk whose content survives its log.
#[derive(Clone, Debug, Default)]
struct Shared(Arc<InMemoryBackend>);

impl StorageBackend for Shared {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.0.write(offset, data)
    }
}

/// A log on a disk of its own, with a journal.
struct Rig {
    store: Shared,
    ring: Shared,
}

impl Rig {
    fn new() -> (Rig, Log) {
        let rig = Rig { store: Shared::default(), ring: Shared::default() };
        let mut log = rig.open().unwrap();
        log.use_journal_on(rig.ring.clone(), RING, BOUNDS).unwrap();
        // The first record is in redb.
        append(&mut log, 1);
        (rig, log)
    }

    fn open(&self) -> Result<Log, LogError> {
        let options = LogOptions { cache_bytes: 1 << 20, quick_repair: false, quarantine_records_max: 10 };
        let ring = self.ring.clone();
        let ring = (ring.len().unwrap() > 0).then(|| Arc::new(ring) as Arc<_>);
        Log::open_beside(self.store.clone(), || Ok(ring), Arc::default(), options, Epoch(7))
    }

    /// What is on the disk now, as a crash leaves it.
    fn crashed(&self) -> Rig {
        Rig { store: copy(&self.store), ring: copy(&self.ring) }
    }

    fn damage(&self, block: u64) {
        self.ring.write(block * BLOCK as u64 + 100, &[0xff; 8]).unwrap();
    }
}

fn copy(disk: &Shared) -> Shared {
    let mut bytes = vec![0; disk.len().unwrap() as usize];
    disk.read(0, &mut bytes).unwrap();
    let copy = Shared::default();
    copy.set_len(bytes.len() as u64).unwrap();
    copy.write(0, &bytes).unwrap();
    copy
}

fn records(log: &Log, count: usize, text: usize) -> RecordBuffer {
    let mut records = RecordBuffer::after(log.last_time());
    for n in 0..count {
        let keys = vec!["x".repeat(text)];
        records.push_fact(
            Envelope { wall: Time(n as i64), ..Envelope::default() },
            &Fact::ConfigChanged { keys },
        );
    }
    records
}

fn append(log: &mut Log, count: usize) {
    let records = records(log, count, 10);
    log.append(&records, &[]).unwrap();
}

fn journal_commits(log: &Log) -> u64 {
    log.disk().journal_commits.load(Ordering::Relaxed)
}

/// Positions that a scan from `from` finds.
fn seen(reader: &LogReader, from: u64) -> Vec<u64> {
    let mut seen = Vec::new();
    let ended = reader.scan(Seq(from), |chunk| {
        seen.extend(chunk.records().map(|record| record.unwrap().seq.0));
        std::ops::ControlFlow::<()>::Continue(())
    });
    assert_eq!(ended.unwrap(), None);
    seen
}

#[test]
fn readers_see_what_only_the_journal_has() {
    let (_, mut log) = Rig::new();
    let reader = log.reader();
    for count in [1, 3, 2] {
        append(&mut log, count);
    }
    assert_eq!(journal_commits(&log), 3);
    let check = |expected_moved| {
        assert_eq!(log.is_journal_empty(), expected_moved);
        assert_eq!(seen(&reader, 1), (1..=7).collect::<Vec<_>>());
        assert_eq!(reader.range().unwrap(), Some((Seq(1), Seq(7))));
        assert_eq!(seen(&reader, 6).last(), Some(&7));
        assert!(seen(&reader, 8).is_empty());
        assert!(reader.time_of(Seq(4)).unwrap().is_some());
    };
    check(false);
    // Commits in the journal are not chunks yet, so a trim before one of them ends before all of them.
    assert_eq!(reader.begin_of_chunk(Seq(6)).unwrap(), Seq(1));
    log.move_journal().unwrap();
    let check_moved = seen(&reader, 1);
    assert!(log.is_journal_empty());
    assert_eq!(check_moved, (1..=7).collect::<Vec<_>>());
}

#[test]
fn a_scan_goes_on_while_the_journal_moves() {
    let (_, mut log) = Rig::new();
    append(&mut log, 3);
    let reader = log.reader();
    let mut seen = Vec::new();
    let ended = reader.scan(Seq(1), |chunk| {
        seen.extend(chunk.records().map(|record| record.unwrap().seq.0));
        if seen.len() < 20 {
            if seen.len().is_multiple_of(2) {
                log.move_journal().unwrap();
            }
            append(&mut log, 2);
            append(&mut log, 1);
        }
        std::ops::ControlFlow::<()>::Continue(())
    });
    assert_eq!(ended.unwrap(), None);
    assert_eq!(seen, (1..=log.head().0).collect::<Vec<_>>());
    assert!(seen.len() >= 20);
}

#[test]
fn what_only_the_journal_has_is_there_after_a_crash() {
    let (rig, mut log) = Rig::new();
    let payloads = vec![(0, b"not JSON".to_vec())];
    let cursors = vec![("cloud".to_owned(), vec![1, 2, 3])];
    let buffer = records(&log, 2, 5);
    let all = Commit { quarantine: &payloads, cursors: &cursors, doubted: Some(9), ..Commit::of(&buffer) };
    log.commit(&all).unwrap();
    let check = |log: &Log| {
        let reader = log.reader();
        assert_eq!(log.head(), Seq(3));
        assert_eq!(reader.quarantined(Seq(2)).unwrap(), Some(b"not JSON".to_vec()));
        assert_eq!(reader.quarantine(5).unwrap(), [Seq(2)]);
        assert_eq!(reader.cursor("cloud").unwrap(), Some(vec![1, 2, 3]));
    };
    assert_eq!(journal_commits(&log), 1);
    check(&log);
    let after = rig.crashed().open().unwrap();
    assert_eq!(after.disk().journal_found.load(Ordering::Relaxed), 1);
    check(&after);
    assert_eq!((after.reader().clock_doubted().unwrap(), after.link()), (9, log.link()));
    let resolved = [Seq(2)];
    let empty = RecordBuffer::after(log.last_time());
    log.commit(&Commit { resolved: &resolved, ..Commit::of(&empty) }).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(journal_commits(&log), 2);
    for reader in [log.reader(), rig.crashed().open().unwrap().reader()] {
        if let Ok(found) = reader.quarantine(5) {
            assert_eq!((found, reader.quarantined(Seq(2)).unwrap()), (Vec::new(), None));
        }
    }
}

#[test]
fn the_ring_is_written_over_and_over() {
    let (rig, mut log) = Rig::new();
    for _ in 0..100 {
        append(&mut log, 1);
        let after = rig.crashed().open().unwrap();
        assert_eq!((after.head(), after.link()), (log.head(), log.link()));
    }
    assert!(journal_commits(&log) > 80, "{}", journal_commits(&log));
}

#[test]
fn a_commit_of_several_blocks_wraps_around() {
    let (rig, mut log) = Rig::new();
    for round in 0..20 {
        let buffer = records(&log, 1, 9_000 + round);
        log.append(&buffer, &[]).unwrap();
        let after = rig.crashed().open().unwrap();
        assert_eq!((after.head(), after.link()), (log.head(), log.link()), "round {round}");
    }
    assert!(journal_commits(&log) >= 10);
}

#[test]
fn large_commits_go_to_the_log() {
    let (_, mut log) = Rig::new();
    append(&mut log, 1);
    assert_eq!((journal_commits(&log), log.is_journal_empty()), (1, false));
    let large = records(&log, 1, 40_000);
    log.append(&large, &[]).unwrap();
    assert_eq!((journal_commits(&log), log.is_journal_empty()), (1, true), "it takes the smaller one along");
}

#[test]
fn a_torn_end_is_an_end_and_a_torn_middle_is_damage() {
    let (rig, mut log) = Rig::new();
    append(&mut log, 1);
    append(&mut log, 1);
    append(&mut log, 1);
    let torn = rig.crashed();
    torn.damage(2);
    assert_eq!(torn.open().unwrap().head(), Seq(3));
    let check = |block: u64| {
        let damaged = rig.crashed();
        damaged.damage(block);
        let words = damaged.open().unwrap_err().to_string();
        let later = block + 1;
        let expected =
            format!("block {block} cannot be read, but block {later}, which was written after it, can");
        assert!(words.contains(&expected), "{words}");
        assert!(damaged.open().is_err(), "and it stays so");
    };
    check(1);
    check(0);
}

#[test]
fn a_commit_whose_first_block_is_torn_is_an_end() {
    let (rig, mut log) = Rig::new();
    append(&mut log, 1);
    let buffer = records(&log, 1, 9_000);
    log.append(&buffer, &[]).unwrap();
    let torn = rig.crashed();
    torn.damage(1);
    let mut after = torn.open().unwrap();
    assert_eq!(after.head(), Seq(2));
    // What is left of it does not count, nor look like damage, when others are written before it.
    after.use_journal_on(torn.ring.clone(), RING, BOUNDS).unwrap();
    append(&mut after, 1);
    for _ in 0..3 {
        append(&mut after, 1);
        let again = torn.crashed().open().unwrap();
        assert_eq!((again.head(), again.link()), (after.head(), after.link()));
    }
}

#[test]
fn a_missing_journal_is_damage_unless_the_log_was_closed() {
    let (rig, mut log) = Rig::new();
    append(&mut log, 1);
    let without = rig.crashed();
    without.ring.set_len(0).unwrap();
    let error = without.open().unwrap_err();
    assert!(error.is_lasting());
    let words = error.to_string();
    for part in
        ["the file \"journal\" beside log.redb", "the file is missing", "`fieldlog verify`", "restore"]
    {
        assert!(words.contains(part), "{part:?} is not in: {words}");
    }
    let cut = rig.crashed();
    cut.ring.set_len(4096).unwrap();
    let words = cut.open().unwrap_err().to_string();
    assert!(words.contains("it has 4096 bytes, and must have 32768"), "{words}");
    log.close().unwrap();
    rig.ring.set_len(0).unwrap();
    assert_eq!(rig.open().unwrap().head(), Seq(2));
}

#[test]
fn a_journal_of_another_log_is_not_read() {
    let (rig, mut log) = Rig::new();
    append(&mut log, 1);
    let other = Rig { store: copy(&rig.store), ring: Shared::default() };
    other.ring.set_len(u64::from(RING) * BLOCK as u64).unwrap();
    // Its own blocks are not there, so its newest records are lost, and nobody else's are taken for them.
    let mut bytes = [0; BLOCK];
    rig.ring.read(0, &mut bytes).unwrap();
    bytes[8] ^= 1;
    other.ring.write(0, &bytes).unwrap();
    assert_eq!(other.open().unwrap().head(), Seq(1));
}

#[test]
fn a_log_that_gave_its_journal_up_has_the_format_of_before() {
    let (rig, mut log) = Rig::new();
    append(&mut log, 1);
    log.give_up_journal().unwrap();
    append(&mut log, 1);
    let plain = rig.crashed();
    plain.ring.set_len(0).unwrap();
    let log = plain.open().unwrap();
    assert_eq!((log.head(), log.format().unwrap()), (Seq(3), 1));
    let (rig, _log) = Rig::new();
    assert_eq!(rig.crashed().open().unwrap().format().unwrap(), 2);
}
