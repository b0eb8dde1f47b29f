//! A log with every kind of content, and a copy of that content.

use super::*;

use std::io;
use std::sync::atomic::AtomicBool;

use fieldlog::log::DiskStats;
use fieldlog::recovery::{self, RecoveryError};
use fieldlog::retention::rollup::{Job, roll_up};
use fieldlog::snapshots::SnapshotStore;
use fieldlog_projections::chunk::RecordBuffer;
use fieldlog_projections::{Seq, Time, View, Window, snapshot};
use redb::StorageBackend;

use crate::crash::files::save;
use crate::crash::records::Kept;
use crate::rig::scratch;

pub const PAGE: usize = 4096;

/// A closed log.
pub struct Original {
    pub bytes: Vec<u8>,
    /// Numbers of the pages that are read when all content is read.
    pub live: Vec<usize>,
    pub content: Content,
    pub snapshots: SnapshotStore,
    _dir: tempfile::TempDir,
}

/// The readable content of a log.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    pub epoch: Epoch,
    pub head: Seq,
    pub records: Vec<Kept>,
    /// The moments of the records.
    moments: Vec<Time>,
    pub cursors: BTreeMap<String, Vec<u8>>,
    pub cursors_lost: BTreeSet<String>,
    pub quarantine: Vec<(Seq, Vec<u8>)>,
    archive: Vec<String>,
    doubted: u64,
    pub view: View,
}

pub const SINKS: [&str; 3] = ["cloud", "site", "history"];

fn windows() -> Vec<Window> {
    vec![Window { length_s: 60, keep: 5 }]
}

/// Cursors as the forwarder writes them.
pub fn cursor(upto: u8) -> Vec<u8> {
    vec![1, upto, 1, upto + 10, upto + 20]
}

impl Content {
    pub fn of(log: &Log, snapshots: &SnapshotStore) -> Result<Content, String> {
        let reader = log.reader();
        let recovered = recovery::recover(snapshots, &reader, log.epoch(), &windows());
        let recovered = recovered.map_err(|error| match error {
            RecoveryError::Log(error) => lasting(&error),
            other => other.to_string(),
        })?;
        let records = records(&reader)?;
        let (cursors, cursors_lost) = cursors(&reader)?;
        Ok(Content {
            epoch: log.epoch(),
            head: log.head(),
            moments: records.iter().map(|record| reader.moment(record.seq, record.time)).collect(),
            records,
            cursors,
            cursors_lost,
            quarantine: quarantine(&reader)?,
            archive: archive(&reader)?,
            doubted: reader.clock_doubted().map_err(|error| lasting(&error))?,
            view: recovered.view,
        })
    }

    /// The result for a reader that expects `self` and finds `found`.
    pub fn held_against(&self, found: &Content) -> Outcome {
        let parts = [
            (self.epoch == found.epoch, "epoch"),
            (self.head == found.head, "head"),
            (self.records == found.records, "records"),
            (self.moments == found.moments, "moments"),
            (self.quarantine == found.quarantine, "quarantine"),
            (self.archive == found.archive, "archive"),
            (self.doubted == found.doubted, "doubt of the clock"),
            (self.view == found.view, "view"),
        ];
        if let Some((_, name)) = parts.into_iter().find(|(same, _)| !same) {
            return Outcome::Different(name);
        }
        let wrong = found.cursors.iter().any(|(name, cursor)| self.cursors.get(name) != Some(cursor));
        match self.cursors.len() - found.cursors.len().min(self.cursors.len()) {
            _ if wrong => Outcome::Different("cursors"),
            0 => Outcome::Same,
            gone if gone == found.cursors_lost.len() => Outcome::CursorsLost,
            _ => Outcome::Different("cursors"),
        }
    }
}

fn records(reader: &LogReader) -> Result<Vec<Kept>, String> {
    let mut found = Vec::new();
    let scanned = reader.scan(Seq(1), |chunk| {
        found.extend(kept(chunk.records()));
        ControlFlow::<()>::Continue(())
    });
    scanned.map_err(|error| lasting(&error))?;
    Ok(found)
}

type Cursors = (BTreeMap<String, Vec<u8>>, BTreeSet<String>);

fn cursors(reader: &LogReader) -> Result<Cursors, String> {
    let found: BTreeMap<_, _> = reader.cursors().map_err(|error| lasting(&error))?.into_iter().collect();
    let mut lost: BTreeSet<String> = BTreeSet::new();
    lost.extend(reader.cursors_damaged().map_err(|error| lasting(&error))?);
    for name in SINKS {
        match reader.cursor(name) {
            Ok(cursor) => assert_eq!(cursor.as_ref(), found.get(name)),
            Err(LogError::Cursor { .. }) => assert!(lost.contains(name)),
            Err(error) => return Err(lasting(&error)),
        }
    }
    Ok((found, lost))
}

fn quarantine(reader: &LogReader) -> Result<Vec<(Seq, Vec<u8>)>, String> {
    let found = reader.quarantine(usize::MAX).map_err(|error| lasting(&error))?;
    let payload =
        |seq: Seq| Ok((seq, reader.quarantined(seq).map_err(|error| lasting(&error))?.unwrap_or_default()));
    found.into_iter().map(payload).collect()
}

fn archive(reader: &LogReader) -> Result<Vec<String>, String> {
    let mut rows = vec![format!("{:?}", reader.rollups_end().map_err(|error| lasting(&error))?)];
    rows.push(format!("{:?}", reader.rollups_size().map_err(|error| lasting(&error))?));
    let scanned = reader.scan_rollups(Seq(0), |row| {
        rows.push(format!("{:?} {} {:?}", row.period, row.part, row.series()?));
        Ok(ControlFlow::<()>::Continue(()))
    });
    scanned.map_err(|error| lasting(&error))?;
    Ok(rows)
}

/// Notes which pages are read.
#[derive(Clone, Debug)]
struct Watched {
    disk: FaultDisk,
    pages: Arc<Mutex<BTreeSet<usize>>>,
}

impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        // fieldlog checks small files by itself.
        if out.len() < 64 * PAGE {
            let pages = offset as usize / PAGE..(offset as usize + out.len()).div_ceil(PAGE);
            self.pages.lock().unwrap().extend(pages);
        }
        self.disk.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.write(offset, data)
    }
}

/// Creates the log: records, a trimmed front with an archive, quarantine, cursors, a corrected clock.
pub fn original() -> Original {
    let disk = FaultDisk::new(Rng::new(1));
    let mut log =
        Log::open_on(disk.clone(), Arc::new(DiskStats::default()), OPTIONS, Epoch(0x0123_4567_89ab_cdef))
            .unwrap();
    let mut rng = Rng::new(7);
    let mut view = View::new(windows());
    let dir = scratch();
    let snapshots = SnapshotStore::open(dir.path()).unwrap();
    for round in 0..120 {
        let made = make(&mut rng, &view, 25, 60);
        let cursors: Vec<_> = SINKS.iter().map(|name| ((*name).to_owned(), cursor(round))).collect();
        let with = if round % 10 == 0 { &cursors[..] } else { &[] };
        let commit = Commit { quarantine: &made.quarantine, cursors: with, ..Commit::of(&made.body) };
        let committed = log.commit(&commit).unwrap();
        view.apply_records(made.body.records(committed.first), committed.last).unwrap();
        if round == 60 {
            thin_out(&mut log);
            save(&snapshots, &snapshot::encode(&view, log.epoch()).unwrap(), view.seq, log.epoch());
        }
        if round == 90 {
            let before = log.last_time();
            let by = fieldlog_projections::Fact::ConfigChanged { keys: Vec::new() };
            log.correct_clock(Time(before.0 - 3_600_000_000), &by).unwrap().unwrap();
            let tail = log.reader();
            tail.scan(view.seq.next(), |chunk| {
                view.apply_records(chunk.records(), chunk.header.last()).unwrap();
                ControlFlow::<()>::Continue(())
            })
            .unwrap();
        }
    }
    let nothing = RecordBuffer::after(log.last_time());
    log.commit(&Commit {
        doubted: Some(77),
        cursors: &[("cloud".into(), cursor(120))],
        ..Commit::of(&nothing)
    })
    .unwrap();
    log.close().unwrap();
    let bytes = disk.content();
    let pages = Arc::new(Mutex::new(BTreeSet::new()));
    let watched = Watched { disk: FaultDisk::with_content(bytes.clone(), Rng::new(1)), pages: pages.clone() };
    let log = Log::open_on(watched, Arc::default(), OPTIONS, Epoch(99)).unwrap();
    let content = Content::of(&log, &snapshots).unwrap();
    drop(log);
    let live = pages.lock().unwrap().iter().copied().collect();
    Original { bytes, live, content, snapshots, _dir: dir }
}

/// Folds the content into the archive and deletes half of it.
fn thin_out(log: &mut Log) {
    let head = log.head();
    let (half, reader) = (Seq(head.0 / 2), log.reader());
    let job = Job { length_s: 3_600, before: half, head: (head, log.last_time()) };
    let nothing = RecordBuffer::after(log.last_time());
    loop {
        let periods = roll_up(&reader, job, &AtomicBool::new(false)).unwrap();
        let Some(last) = periods.last().map(|archived| archived.period.last) else { break };
        log.commit(&Commit { rollups: &periods, ..Commit::of(&nothing) }).unwrap();
        if last.next() >= half {
            break;
        }
    }
    while log.commit(&Commit { trim_before: Some(half), ..Commit::of(&nothing) }).unwrap().trimmed.is_some() {
    }
}
