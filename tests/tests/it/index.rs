//! The log's index: events by device and type, found without reading the whole log.

use std::ops::ControlFlow;
use std::path::Path;

use fieldlog::log::{Commit, FILE_NAME, Log, LogReader, Wanted};
use fieldlog::verify;
use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::stored::type_id;
use fieldlog_projections::{AttrId, DeviceId, Epoch, Fact, Seq, Value};
use fieldlog_tests::rng::Rng;
use redb::{Database, ReadableTable, ReadableTableMetadata, TableDefinition};

use crate::rig::{OPTIONS, scratch};

const INDEX: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("index");
/// Reports at long intervals.
const RARE: DeviceId = DeviceId(20);

/// A record of the log, as far as the index is concerned.
type Made = (Seq, u16, Option<DeviceId>);

struct Site {
    log: Log,
    rng: Rng,
    made: Vec<Made>,
}

impl Site {
    fn open(dir: &Path, seed: u64) -> Site {
        let log = Log::open(dir, OPTIONS, Epoch(5)).unwrap();
        let mut site = Site { log, rng: Rng::new(seed), made: Vec::new() };
        let discovered = |id| {
            let (name, source) = (format!("device{id}"), "test".into());
            Fact::DeviceDiscovered { device: DeviceId(id), name, source, parent: None, identity: None }
        };
        let mut facts = vec![Fact::AttributeNamed { attribute: AttrId(0), name: "text".into() }];
        facts.extend((0..=RARE.0).map(discovered));
        site.commit_facts(&facts);
        site
    }

    /// Opens the log again, after a clean close or without one.
    fn again(self, dir: &Path, clean: bool) -> Site {
        let Site { log, rng, made } = self;
        if clean {
            log.close().unwrap()
        } else {
            drop(log)
        }
        Site { log: Log::open(dir, OPTIONS, Epoch(5)).unwrap(), rng, made }
    }

    /// Commits `count` records of about 2 KB of the common devices.
    fn commit(&mut self, count: usize) {
        let facts: Vec<Fact> = (0..count).map(|_| self.fact()).collect();
        self.commit_facts(&facts);
    }

    fn fact(&mut self) -> Fact {
        let device = DeviceId(self.rng.below(20) as u32);
        match self.rng.below(50) {
            0 => Fact::DeviceRetired { device },
            1 => Fact::ConfigChanged { keys: Vec::new() },
            _ => {
                let text: String =
                    self.rng.bytes(2_000).iter().map(|byte| char::from(byte & 63 | 64)).collect();
                Fact::StateChanged { device, changes: vec![(AttrId(0), Value::Text(text.into()))] }
            }
        }
    }

    fn commit_facts(&mut self, facts: &[Fact]) {
        let mut body = RecordBuffer::after(self.log.last_time());
        facts.iter().for_each(|fact| body.push_fact(Envelope::default(), fact));
        let committed = self.log.append(&body, &[]).unwrap();
        let made = body.records(committed.first).map(|record| {
            let record = record.unwrap();
            (record.seq, record.kind.type_id, record.subject().unwrap())
        });
        self.made.extend(made);
    }

    /// Commits until this many more rows are full, and then a little.
    fn fill(&mut self, rows: u64) {
        let wanted = self.log.reader().index_size().unwrap().rows + rows;
        while self.log.reader().index_size().unwrap().rows < wanted {
            let count = if self.rng.chance(20) { 60 } else { self.rng.between(1, 12) };
            self.commit(count);
            assert!(self.log.head().0 < 100_000, "the index does not grow");
        }
        self.commit(30);
    }

    fn trim(&mut self, before: Seq) {
        let nothing = RecordBuffer::after(self.log.last_time());
        let commit = Commit { trim_before: Some(before), ..Commit::of(&nothing) };
        while self.log.commit(&commit).unwrap().trimmed.is_some() {}
        let first = self.log.reader().range().unwrap().unwrap().0;
        self.made.retain(|(seq, ..)| *seq >= first);
    }

    /// Asks about every device, type, and both, from several positions, and compares with what was committed; returns how
    /// many records were read for the rare device.
    fn check(&mut self) -> usize {
        let reader = self.log.reader();
        let devices = [DeviceId(0), DeviceId(13), RARE, DeviceId(99)].map(Some).into_iter().chain([None]);
        let types = [
            vec![],
            vec![type_id::STATE_CHANGED],
            vec![type_id::DEVICE_RETIRED, type_id::CONFIG_CHANGED],
            vec![type_id::BOOTED],
        ];
        let head = self.log.head().0;
        for device in devices {
            for types in &types {
                let wanted = Wanted { device, types: types.clone() };
                let from =
                    Seq(if self.rng.chance(50) { 1 } else { self.rng.below(head as usize + 2) as u64 });
                let fits = |(seq, kind, of): &Made| {
                    *seq >= from
                        && device.is_none_or(|d| *of == Some(d))
                        && (types.is_empty() || types.contains(kind))
                };
                let expected: Vec<Made> = self.made.iter().copied().filter(fits).collect();
                let mut found = read(&reader, from, &wanted).0;
                found.retain(fits);
                assert!(found == expected, "{wanted:?} from {from}: {} of {}", found.len(), expected.len());
                let before = Seq(if from > Seq(1) { from.0 } else { head + 1 });
                let newest =
                    self.made.iter().rev().find(|made| made.0 < before && fits(&(before, made.1, made.2)));
                assert_eq!(
                    newest_before(&reader, before, &wanted),
                    newest.copied(),
                    "{wanted:?} before {before}"
                );
            }
        }
        read(&reader, Seq(1), &Wanted { device: Some(RARE), types: vec![type_id::STATE_CHANGED] }).1
    }
}

/// All records that a reader gets, each once, and how many.
fn read(reader: &LogReader, from: Seq, wanted: &Wanted) -> (Vec<Made>, usize) {
    let (mut found, mut last, mut count): (Vec<Made>, _, _) = (Vec::new(), Seq(0), 0);
    let stopped = reader.scan_for(from, wanted, |chunk| {
        for record in chunk.records() {
            let record = record.unwrap();
            assert!(record.seq > last, "{} after {last}", record.seq);
            last = record.seq;
            count += 1;
            found.push((record.seq, record.kind.type_id, record.subject().unwrap()));
        }
        ControlFlow::<()>::Continue(())
    });
    assert_eq!(stopped.unwrap(), None);
    (found, count)
}

/// The newest record before a position that is wanted.
fn newest_before(reader: &LogReader, before: Seq, wanted: &Wanted) -> Option<Made> {
    let first = reader.range().unwrap()?.0;
    let mut at = before;
    while at > first {
        let (runs, begin) = reader.runs_before(at, wanted).unwrap();
        assert!(begin < at, "{begin} is not before {at}");
        for (first, end) in runs {
            let mut found = read(reader, first, &Wanted::default()).0;
            found.retain(|(seq, kind, device)| {
                (first..end).contains(seq)
                    && wanted.device.is_none_or(|wanted| *device == Some(wanted))
                    && (wanted.types.is_empty() || wanted.types.contains(kind))
            });
            if found.last().is_some() {
                return found.last().copied();
            }
        }
        at = begin;
    }
    None
}

/// Changes the file of a closed log.
fn change(dir: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let db = Database::create(dir.join(FILE_NAME)).unwrap();
    let txn = db.begin_write().unwrap();
    change(&txn);
    txn.commit().unwrap();
}

fn changed(device: DeviceId) -> Fact {
    Fact::StateChanged { device, changes: vec![(AttrId(0), Value::Null)] }
}

#[test]
fn a_question_reads_little_and_its_answer_is_complete() {
    let dir = scratch();
    let mut site = Site::open(dir.path(), 1);
    site.check();
    site.fill(2);
    site.commit_facts(&[changed(RARE)]);
    site.fill(2);
    for clean in [true, false, true] {
        let read = site.check();
        // The chunk that has it, and the part that is not indexed yet.
        assert!(read < site.made.len() / 3, "{read} of {}", site.made.len());
        site = site.again(dir.path(), clean);
        site.check();
        site.commit(3);
    }
    site.fill(1);
    site.check();
    assert_eq!(site.log.reader().check_index().unwrap(), None);
    let rows = site.log.reader().index_size().unwrap().rows;
    assert!(rows >= 5, "{rows}");
}

#[test]
fn rows_are_deleted_with_their_chunks() {
    let dir = scratch();
    let mut site = Site::open(dir.path(), 2);
    site.fill(4);
    let head = site.log.head().0;
    for part in [1, 3, 7, 9] {
        site.trim(Seq(head * part / 10));
        site.check();
        assert_eq!(site.log.reader().check_index().unwrap(), None);
    }
    let rows = site.log.reader().index_size().unwrap().rows;
    assert!(rows <= 2, "{rows} rows for a tenth of the log");
    site = site.again(dir.path(), true);
    site.fill(1);
    site.check();
}

#[test]
fn a_log_of_an_earlier_version_is_indexed_with_its_next_commits() {
    let dir = scratch();
    let mut site = Site::open(dir.path(), 3);
    site.commit_facts(&[changed(RARE)]);
    site.fill(4);
    let Site { log, rng, made } = site;
    log.close().unwrap();
    change(dir.path(), |txn| assert!(txn.delete_table(INDEX).unwrap()));
    let mut site = Site { log: Log::open(dir.path(), OPTIONS, Epoch(5)).unwrap(), rng, made };
    assert_eq!(site.check(), site.made.len(), "without an index everything is read");
    for row in 1..=4 {
        site.commit(1);
        assert_eq!(site.log.reader().index_size().unwrap().rows, row);
        site.check();
    }
    site.commit(1);
    let read = site.check();
    assert!(read < site.made.len() / 3, "{read} of {}", site.made.len());
    assert_eq!(site.log.reader().check_index().unwrap(), None);
}

#[test]
fn a_log_that_an_earlier_version_has_gone_on_with_is_indexed_from_there_on() {
    let dir = scratch();
    let mut site = Site::open(dir.path(), 4);
    site.fill(4);
    let Site { log, rng, made } = site;
    log.close().unwrap();
    // That version appends and trims without looking at the index.
    change(dir.path(), |txn| {
        let mut index = txn.open_table(INDEX).unwrap();
        for _ in 0..2 {
            assert!(index.pop_last().unwrap().is_some());
        }
    });
    let mut site = Site { log: Log::open(dir.path(), OPTIONS, Epoch(5)).unwrap(), rng, made };
    site.check();
    // Records that were never indexed are deleted before it was their turn.
    site.trim(Seq(site.log.head().0 * 3 / 4));
    site.check();
    site.commit(5);
    site.check();
    site.fill(2);
    site.check();
    assert_eq!(site.log.reader().check_index().unwrap(), None);
}

#[test]
fn a_damaged_row_is_read_around_and_made_anew_by_the_next_commit() {
    for which in 0..4 {
        let dir = scratch();
        let mut site = Site::open(dir.path(), 5);
        site.fill(4);
        let sound = rows(&site.log.reader());
        let Site { log, rng, made } = site;
        log.close().unwrap();
        let mut key = 0;
        change(dir.path(), |txn| {
            let mut index = txn.open_table(INDEX).unwrap();
            key = index.iter().unwrap().nth(which).unwrap().unwrap().0.value();
            let mut row = index.get(key).unwrap().unwrap().value().to_vec();
            let middle = row.len() / 2;
            row[middle] ^= 1;
            index.insert(key, row.as_slice()).unwrap();
            if which == 1 {
                // The one after it is lost altogether.
                let lost = index.range(key + 1..).unwrap().next().unwrap().unwrap().0.value();
                index.remove(lost).unwrap();
            }
        });
        let fault = verify::verify(dir.path()).unwrap().fault.unwrap();
        for part in
            ["the index", &format!("the row of sequence {key}"), "no event is lost", "makes the row anew"]
        {
            assert!(fault.contains(part), "{part:?} is not in: {fault}");
        }
        let mut site = Site { log: Log::open(dir.path(), OPTIONS, Epoch(5)).unwrap(), rng, made };
        site.check();
        site.commit(1);
        site.check();
        site.commit(1);
        assert_eq!(rows(&site.log.reader()), sound, "row {which}");
        let read = site.check();
        assert!(read < site.made.len() / 3, "{read} of {}", site.made.len());
        site.log.close().unwrap();
        assert_eq!(verify::verify(dir.path()).unwrap().fault, None);
    }
}

#[test]
fn a_damaged_chunk_does_not_keep_a_log_from_being_indexed() {
    let dir = scratch();
    let mut site = Site::open(dir.path(), 8);
    site.fill(2);
    let Site { log, rng, made } = site;
    log.close().unwrap();
    let (mut damaged, mut after) = (Seq(0), Seq(0));
    change(dir.path(), |txn| {
        let mut chunks = txn.open_table(TableDefinition::<u64, &[u8]>::new("chunks")).unwrap();
        let keys: Vec<u64> =
            chunks.iter().unwrap().skip(9).take(2).map(|chunk| chunk.unwrap().0.value()).collect();
        (damaged, after) = (Seq(keys[0]), Seq(keys[1]));
        let mut chunk = chunks.get(keys[0]).unwrap().unwrap().value().to_vec();
        chunk[200] ^= 1;
        chunks.insert(keys[0], chunk.as_slice()).unwrap();
        assert!(txn.delete_table(INDEX).unwrap());
    });
    let mut site = Site { log: Log::open(dir.path(), OPTIONS, Epoch(5)).unwrap(), rng, made };
    (0..4).for_each(|_| site.commit(1));
    let reader = site.log.reader();
    assert_eq!(reader.index_size().unwrap().rows, 2);
    // Whoever asks about that part is told; a question about another one is answered.
    for wanted in [
        Wanted { device: Some(RARE), types: Vec::new() },
        Wanted { device: None, types: vec![type_id::BOOTED] },
    ] {
        let all = |_: &fieldlog_projections::Chunk<'_>| ControlFlow::<()>::Continue(());
        let error = reader.scan_for(Seq(1), &wanted, all).unwrap_err().to_string();
        assert!(error.contains(&format!("the log is damaged at sequence {damaged}")), "{error}");
        let (_, count) = read(&reader, Seq(after.0 + 300), &wanted);
        assert!(count < site.made.len() / 2, "{count} of {}", site.made.len());
    }
}

#[test]
fn verify_finds_a_row_that_does_not_have_what_its_chunks_have() {
    let dir = scratch();
    let mut site = Site::open(dir.path(), 6);
    site.fill(1);
    site.log.close().unwrap();
    let first = {
        let other = scratch();
        let mut site = Site::open(other.path(), 7);
        site.fill(1);
        site.log.close().unwrap();
        let db = Database::open(other.path().join(FILE_NAME)).unwrap();
        let txn = redb::ReadableDatabase::begin_read(&db).unwrap();
        txn.open_table(INDEX).unwrap().first().unwrap().unwrap().1.value().to_vec()
    };
    change(dir.path(), |txn| {
        let mut index = txn.open_table(INDEX).unwrap();
        assert_eq!(index.len().unwrap(), 1);
        index.insert(1, first.as_slice()).unwrap();
    });
    let fault = verify::verify(dir.path()).unwrap().fault.unwrap();
    for part in ["does not have what the chunks from sequence 1 on have", "may not find"] {
        assert!(fault.contains(part), "{part:?} is not in: {fault}");
    }
}

fn rows(reader: &LogReader) -> u64 {
    assert_eq!(reader.check_index().unwrap(), None);
    reader.index_size().unwrap().rows
}
