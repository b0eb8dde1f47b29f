//! `fieldlog repair`: what is intact is saved at its position, what is lost is said, and receivers see a new epoch.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use fieldlog::client::Failure;
use fieldlog::log::{Commit, JOURNAL_FILE_NAME, JournalBounds, Log};
use fieldlog::recovery;
use fieldlog::repair::{Repaired, repair};
use fieldlog::snapshots::SnapshotStore;
use fieldlog::verify::verify;
use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::command::CommandState;
use fieldlog_projections::{AttrId, DeviceId, Epoch, Fact, Seq, Time, Value, View, stored};
use fieldlog_sim::servers::skip;
use fieldlog_tests::process::Process;
use fieldlog_tests::receiver::Receiver;
use fieldlog_tests::rng::Rng;
use fieldlog_tests::wait::until;

use super::history::{EPOCH, History, Kind, make};
use super::*;
use crate::corruption::content::PAGE;
use crate::corruption::damage::{TABLES, find};
use crate::crash::records::{Kept, kept};
use crate::rig::{OPTIONS, scratch};

const WALL: Time = Time(1_763_999_000_000_000);

/// A damaged data directory and what it had.
struct Damaged {
    dir: TempDir,
    history: History,
    whole: Vec<u8>,
}

impl Damaged {
    fn of(kind: Kind, damage: impl FnOnce(&mut Vec<u8>)) -> Damaged {
        let dir = scratch();
        let history = make(dir.path(), kind);
        let whole = std::fs::read(dir.path().join(FILE_NAME)).unwrap();
        let damaged = Damaged { dir, history, whole };
        damaged.damage(damage);
        damaged
    }

    fn damage(&self, damage: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.whole.clone();
        damage(&mut bytes);
        std::fs::write(self.dir.path().join(FILE_NAME), bytes).unwrap();
    }

    fn repair(&self) -> Result<Option<Repaired>, Failure> {
        let before = std::fs::read(self.dir.path().join(FILE_NAME)).unwrap();
        let repaired = repair(self.dir.path(), WALL, "uid:7");
        let name = match &repaired {
            Ok(Some(repaired)) => repaired.kept.clone(),
            _ => FILE_NAME.to_owned(),
        };
        assert!(
            std::fs::read(self.dir.path().join(name)).unwrap() == before,
            "the damaged log is not what it was"
        );
        assert!(!self.dir.path().join("repair.unfinished").exists());
        repaired
    }

    /// The epoch is known from the log or from a snapshot.
    fn check_previous(&self, previous: Option<Epoch>) {
        let mut snapshots = SnapshotStore::of(self.dir.path()).dir().read_dir().unwrap();
        let known =
            snapshots.any(|entry| entry.unwrap().file_name().to_str().unwrap().contains(&EPOCH.to_string()));
        assert!(previous == Some(EPOCH) || previous.is_none() && !known, "{previous:?}");
    }

    /// Repairs it, and checks what is to hold in any case. Returns also the records of the new log, and its state.
    fn repaired(&self) -> (Repaired, BTreeMap<Seq, Kept>, View) {
        let repaired = self.repair().unwrap().expect("it was damaged");
        let report = verify(self.dir.path()).unwrap();
        assert_eq!(report.fault, None, "{repaired}");
        assert_eq!(report.epoch, repaired.epoch);
        self.check_previous(repaired.previous);
        let log = Log::open(self.dir.path(), OPTIONS, Epoch(0)).unwrap();
        let snapshots = SnapshotStore::of(self.dir.path());
        let recovered = recovery::recover(&snapshots, &log.reader(), log.epoch(), &[]).unwrap();
        assert_eq!((recovered.lost, recovered.view.seq), (None, log.head()), "{:?}", recovered.notes);
        let mut records = BTreeMap::new();
        let scanned = log.reader().scan(Seq(1), |chunk| {
            records.extend(kept(chunk.records()).into_iter().map(|record| (record.seq, record)));
            ControlFlow::<()>::Continue(())
        });
        scanned.unwrap();
        assert!(log.reader().cursors().unwrap().is_empty(), "nothing of the new epoch is acknowledged");
        let saved = self.check_records(&repaired, &records);
        assert_eq!(repaired.saved, saved);
        self.check_quarantine(&repaired, &log);
        (repaired, records, recovered.view)
    }

    /// Each record is what it was, or stands in a range that is said to be lost. Returns how many are what they were.
    fn check_records(&self, repaired: &Repaired, records: &BTreeMap<Seq, Kept>) -> u64 {
        let mut saved = 0;
        for (seq, record) in records.range(..repaired.begun) {
            let was = self.history.records.get(seq.0 as usize - 1);
            let lost = repaired.lost.iter().find(|(first, last)| (first..=last).contains(&seq));
            let Some((first, last)) = lost else {
                assert_eq!(Some(record), was, "{repaired}");
                saved += 1;
                continue;
            };
            match stored::decode(record.kind, &record.payload).unwrap() {
                Fact::Gap { first: from, last: to, lost_by } => {
                    assert_eq!((from, to, lost_by.len()), (*first, *last, 0));
                }
                Fact::DeviceDiscovered { .. } | Fact::AttributeNamed { .. } | Fact::ClockCorrected { .. } => {
                }
                other => panic!("{other:?} at {seq}: {repaired}"),
            }
        }
        let facts: Vec<Fact> = records
            .range(repaired.begun..)
            .map(|(_, record)| stored::decode(record.kind, &record.payload).unwrap())
            .collect();
        let Fact::EpochBegun { previous, reason } = &facts[0] else { panic!("{facts:?}") };
        assert_eq!(*previous, repaired.previous);
        assert!(reason.contains("fieldlog repair"), "{reason}");
        assert!(
            matches!(&facts[1], Fact::Administered { actor, call, .. } if actor == "uid:7" && call == "repair")
        );
        let said = facts.iter().filter_map(|fact| match fact {
            Fact::Gap { first, last, .. } => Some((*first, *last)),
            _ => None,
        });
        assert_eq!(said.collect::<Vec<_>>(), repaired.lost);
        saved
    }

    fn check_quarantine(&self, repaired: &Repaired, log: &Log) {
        let reader = log.reader();
        let found = reader.quarantine(usize::MAX).unwrap();
        assert_eq!(found.len() as u64, repaired.beside.quarantine);
        for seq in found {
            assert!(self.history.quarantined.contains(&seq));
            assert_eq!(reader.quarantined(seq).unwrap().unwrap(), b"{\"broken\"");
        }
    }
}

/// Where there may be chunks.
fn chunks(bytes: &[u8]) -> Vec<usize> {
    [find(bytes, b"FL\x01\x01"), find(bytes, b"FL\x01\x00")].concat()
}

/// Where the chunk that has a record begins in the file, and its length until the next one.
pub(super) fn chunk_of(bytes: &[u8], seq: u64) -> (usize, Seq, Seq) {
    let starts = chunks(bytes).into_iter();
    let header = |at: usize| {
        let number = |from: usize| u64::from_le_bytes(bytes[at + from..at + from + 8].try_into().unwrap());
        let count = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap());
        (at, Seq(number(16)), Seq(number(16) + u64::from(count) - 1))
    };
    // Of those that have it, the longest is in use.
    let holding = starts.map(header).filter(|(_, first, last)| (first.0..=last.0).contains(&seq));
    holding.max_by_key(|(_, first, last)| last.0 - first.0).unwrap()
}

#[test]
fn an_intact_log_is_not_repaired() {
    let whole = Damaged::of(Kind::default(), |_| {});
    assert_eq!(whole.repair(), Ok(None));
    let (code, out, err) = call(&["repair", "--data-dir", text(whole.dir.path())]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_says(&out, &["nothing to repair", "nothing was changed"]);
}

/// The names come from a snapshot. Without one, what was introduced in the lost chunk has only a number.
#[test]
fn what_a_lost_chunk_introduced_is_introduced_again() {
    for snapshot in [Some(280), None] {
        let damaged = Damaged::of(Kind { snapshot, trim: None }, |bytes| {
            // In it is the introduction of a device, and of an attribute.
            let (at, ..) = chunk_of(bytes, 26 * 120 + 20);
            bytes[at + 100] ^= 1;
        });
        let (repaired, records, view) = damaged.repaired();
        let [(first, last)] = repaired.lost[..] else { panic!("{repaired}") };
        assert!((10..2_000).contains(&(last.0 - first.0)), "{repaired}");
        assert_eq!(repaired.saved, damaged.history.records.len() as u64 - (last.0 - first.0 + 1));
        assert_eq!(view.devices.len(), damaged.history.view.devices.len());
        let unnamed = view.devices.iter().filter(|(_, device)| device.name.starts_with("lost-")).count();
        assert_eq!(unnamed == 0, snapshot.is_some(), "{repaired}");
        assert_eq!(repaired.unnamed == 0, snapshot.is_some(), "{repaired}");
        if snapshot.is_some() {
            let name = |view: &View, n: u32| view.devices.get(DeviceId(n)).unwrap().name.clone();
            for n in 0..view.devices.len() as u32 {
                assert_eq!(name(&view, n), name(&damaged.history.view, n));
            }
            assert_eq!(view.devices.attribute_names(), damaged.history.view.devices.attribute_names());
        }
        assert_eq!(records[&first].time, records[&last].time);
    }
}

/// The time that a lost correction of the clock was set back to is known from the chunk after it.
#[test]
fn a_lost_correction_of_the_clock_is_made_again() {
    let whole = Damaged::of(Kind::default(), |_| {});
    let corrected = |record: &&Kept| record.kind.type_id == stored::type_id::CLOCK_CORRECTED;
    let seq = whole.history.records.iter().find(corrected).unwrap().seq;
    whole.damage(|bytes| {
        let (at, ..) = chunk_of(bytes, seq.0);
        bytes[at + 5] ^= 1;
    });
    let (repaired, records, _) = whole.repaired();
    let ahead = |seq: &Seq| {
        matches!(stored::decode(records[seq].kind, &records[seq].payload), Ok(Fact::ClockCorrected { .. }))
    };
    assert_eq!(records.keys().filter(|seq| ahead(seq)).count(), 1, "{repaired}");
    let log = Log::open(whole.dir.path(), OPTIONS, Epoch(0)).unwrap();
    let last = records.last_key_value().unwrap().1;
    // Moments never go back.
    let moments: Vec<Time> =
        records.values().map(|record| log.reader().moment(record.seq, record.time)).collect();
    assert!(moments.is_sorted() && moments.last() == Some(&last.time));
}

/// A trimmed log is folded from its snapshot, also if the chunk after it or around it is lost.
#[test]
fn a_trimmed_log_keeps_its_snapshot() {
    for (round, trimmed) in [(150, 100), (103, 100), (270, 250)] {
        let damaged = Damaged::of(Kind { snapshot: Some(trimmed), trim: Some(trimmed + 10) }, |bytes| {
            let (at, ..) = chunk_of(bytes, 25 * round + 10);
            bytes[at + 200] ^= 16;
        });
        let (repaired, records, view) = damaged.repaired();
        assert_eq!(repaired.lost.len(), 1, "{repaired}");
        assert!(repaired.range.0 > Seq(1) && records.keys().next() == Some(&repaired.range.0), "{repaired}");
        assert_eq!(view.devices.len(), damaged.history.view.devices.len(), "{repaired}");
        let attribute = |view: &View| view.devices.attribute_names().len();
        assert_eq!(attribute(&view), attribute(&damaged.history.view));
    }
}

/// Nothing but the log: no snapshot, and the front is gone.
#[test]
fn a_lost_front_without_a_snapshot_is_said_and_leaves_numbers() {
    let damaged = Damaged::of(Kind::default(), |bytes| {
        for seq in [1, 600, 1_100] {
            let (at, ..) = chunk_of(bytes, seq);
            bytes[at + 80] ^= 1;
        }
    });
    let (repaired, _, view) = damaged.repaired();
    assert_eq!(repaired.lost[0].0, Seq(1), "{repaired}");
    assert!(repaired.unnamed > 0);
    assert_eq!(view.devices.len(), damaged.history.view.devices.len());
}

/// A command that was under way is neither sent again nor said to have been sent.
#[test]
fn commands_under_way_are_unknown_afterwards() {
    let damaged = Damaged::of(Kind::default(), |bytes| {
        let (at, ..) = chunk_of(bytes, 100);
        bytes[at + 80] ^= 1;
    });
    let command = damaged.history.command;
    assert_eq!(damaged.history.view.commands.get(command).unwrap().state, CommandState::Dispatched);
    let (_, _, view) = damaged.repaired();
    assert_eq!(view.commands.get(command).unwrap().state, CommandState::Unknown);
}

#[test]
fn records_that_a_snapshot_has_and_the_log_has_lost_are_said() {
    let damaged = Damaged::of(Kind { snapshot: Some(299), trim: None }, |_| {});
    damaged.damage(|bytes| {
        let last = chunk_of(bytes, damaged.history.view.seq.0);
        for at in chunks(bytes) {
            // Also those that it has replaced.
            let first = u64::from_le_bytes(bytes[at + 16..at + 24].try_into().unwrap());
            if first == last.1.0 {
                bytes[at + 90] ^= 1;
            }
        }
    });
    let (repaired, records, _) = damaged.repaired();
    let (first, last) = repaired.lost_end.unwrap();
    assert_eq!((first, last), (repaired.range.1.next(), damaged.history.view.seq));
    let said = records.values().filter_map(|record| stored::decode(record.kind, &record.payload).ok());
    let said = said.filter(|fact| matches!(fact, Fact::RecordsLost { first: from, last: to, .. } if (*from, *to) == (first, last)));
    assert_eq!(said.count(), 1);
}

/// Damage of all kinds at random places. `FIELDLOG_SEED=n` replays one; `FIELDLOG_CORRUPTIONS=n` sets their number.
#[test]
fn what_is_intact_is_saved_whatever_the_damage() {
    let environment = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match environment("FIELDLOG_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..1 + environment("FIELDLOG_CORRUPTIONS").unwrap_or(60),
    };
    let (mut least, mut worst) = (u64::MAX, String::new());
    for seed in seeds {
        let mut rng = Rng::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let kind = Kind { snapshot: rng.chance(50).then_some(200), trim: None };
        let kind = Kind { trim: kind.snapshot.filter(|_| rng.chance(40)).map(|round| round + 20), ..kind };
        let mut words = String::new();
        let damaged = Damaged::of(kind, |bytes| words = damage(bytes, &mut rng));
        println!("seed {seed}: {kind:?} {words}");
        let all = damaged.history.records.len() as u64;
        match damaged.repair_again() {
            Ok(None) => assert_eq!(verify(damaged.dir.path()).unwrap().fault, None),
            Ok(Some(())) => {
                let (repaired, ..) = damaged.repaired();
                if !words.contains("cut") && kind.trim.is_none() && repaired.saved < least {
                    (least, worst) = (repaired.saved, format!("seed {seed}: {words}\n{repaired}"));
                }
                assert!(repaired.range.1.0 <= all, "{repaired}");
            }
            Err(failure) => {
                assert!(failure.code == 65 && words.contains("cut"), "seed {seed}: {words}: {failure:?}");
            }
        }
    }
    println!("worst: {worst}");
    // A page holds one chunk, and a larger page of the store four; damage in the tables hides nothing.
    assert!(least > 5_000, "{worst}");
}

impl Damaged {
    /// What a repair comes to, without making it.
    fn repair_again(&self) -> Result<Option<()>, Failure> {
        let copy = Damaged {
            dir: scratch(),
            history: History { records: Vec::new(), ..self.empty() },
            whole: Vec::new(),
        };
        let copied = std::process::Command::new("cp")
            .arg("-r")
            .arg(self.dir.path().join("."))
            .arg(copy.dir.path())
            .status();
        assert!(copied.unwrap().success());
        copy.repair().map(|repaired| repaired.map(drop))
    }

    fn empty(&self) -> History {
        History { records: Vec::new(), view: View::new(Vec::new()), command: Seq(0), quarantined: Vec::new() }
    }
}

/// Damages some bytes, and says how.
fn damage(bytes: &mut Vec<u8>, rng: &mut Rng) -> String {
    let page = |rng: &mut Rng, bytes: &[u8]| rng.below(bytes.len() / PAGE) * PAGE;
    let (at, other) = (page(rng, bytes), page(rng, bytes));
    match rng.below(8) {
        0 => {
            let at = rng.below(bytes.len());
            bytes[at] ^= 1 << rng.below(8);
            format!("a bit at {at}")
        }
        1 => {
            bytes[at..at + PAGE].fill(0);
            format!("the page at {at} zeroed")
        }
        2 => {
            let noise = rng.bytes(PAGE);
            bytes[at..at + PAGE].copy_from_slice(&noise);
            format!("noise in the page at {at}")
        }
        3 => {
            let content = bytes[at..at + PAGE].to_vec();
            bytes.copy_within(other..other + PAGE, at);
            bytes[other..other + PAGE].copy_from_slice(&content);
            format!("the pages at {at} and {other} exchanged")
        }
        4 => {
            let name = *rng.pick(&TABLES);
            find(bytes, name.as_bytes()).into_iter().for_each(|at| bytes[at] ^= 1);
            format!("the table {name} renamed")
        }
        5 => {
            // Both commit slots of the store.
            bytes[..512].fill(0xff);
            "the head of the file overwritten".to_owned()
        }
        6 => {
            bytes[at..(at + 5 * PAGE).min(other.max(at + 1))].fill(0xff);
            format!("pages from {at} on overwritten")
        }
        _ => {
            bytes.truncate(rng.below(bytes.len()));
            format!("cut to {}", bytes.len())
        }
    }
}

/// What only the journal has is saved at its position, beside damage in the log. If the journal is damaged, too, that is
/// said.
#[test]
fn what_only_the_journal_has_is_saved_or_said_to_be_lost() {
    for torn in [false, true] {
        let dir = scratch();
        let history = make(dir.path(), Kind::default());
        let mut log = Log::open(dir.path(), OPTIONS, EPOCH).unwrap();
        if let Err(why) = log.use_journal(dir.path(), JournalBounds { move_bytes: 1 << 20 }).unwrap() {
            return skip(&format!("there is no journal here: {why}"));
        }
        let mut written = Vec::new();
        for text in ["journal-one", "journal-two", "journal-three"] {
            let mut body = RecordBuffer::after(log.last_time());
            let changes = vec![(AttrId(0), Value::Text(text.into()))];
            body.push_fact(Envelope::default(), &Fact::StateChanged { device: DeviceId(0), changes });
            let committed = log.commit(&Commit::of(&body)).unwrap();
            written.extend(kept(body.records(committed.first)));
        }
        // As after a crash: nothing was moved.
        drop(log);
        let log = dir.path().join(FILE_NAME);
        let mut bytes = std::fs::read(&log).unwrap();
        let (at, ..) = chunk_of(&bytes, 3_000);
        bytes[at + 100] ^= 1;
        std::fs::write(&log, &bytes).unwrap();
        if torn {
            let journal = dir.path().join(JOURNAL_FILE_NAME);
            let mut ring = std::fs::read(&journal).unwrap();
            let at = ring.windows(11).position(|text| text == b"journal-two").unwrap();
            ring[at] ^= 1;
            std::fs::write(&journal, ring).unwrap();
        }

        let repaired = repair(dir.path(), WALL, "uid:7").unwrap().expect("it was damaged");
        let report = verify(dir.path()).unwrap();
        assert_eq!(report.fault, None, "{repaired}");
        let log = Log::open(dir.path(), OPTIONS, Epoch(0)).unwrap();
        let mut records = Vec::new();
        let scanned = log.reader().scan(Seq(1), |chunk| {
            records.extend(kept(chunk.records()));
            ControlFlow::<()>::Continue(())
        });
        scanned.unwrap();
        let in_log = history.records.len();
        assert!(
            records[in_log - 20..in_log] == history.records[in_log - 20..],
            "they stand at their positions"
        );
        let words = repaired.to_string();
        assert_eq!(
            (repaired.in_journal, repaired.journal_lost),
            if torn { (0, true) } else { (3, false) },
            "{words}"
        );
        if torn {
            assert!(
                words.contains("LOST       the journal cannot be read; it may have had the newest records"),
                "{words}"
            );
            assert_eq!(repaired.begun, Seq(in_log as u64 + 1));
        } else {
            assert!(words.contains("journal    3 of these records were only there"), "{words}");
            assert!(records[in_log..in_log + 3] == written, "as they were acknowledged");
        }
        let kept_as = dir.path().join(format!("{JOURNAL_FILE_NAME}.damaged-{}", repaired.epoch));
        assert!(kept_as.exists());
    }
}

/// Each lost position has a record, since positions have no holes. They are equal, so a large hole is small on the disk.
#[test]
fn a_record_for_each_lost_position_takes_less_than_a_tenth_of_a_byte() {
    let dir = scratch();
    let mut log = Log::open(dir.path(), OPTIONS, EPOCH).unwrap();
    let (first, last) = (Seq(5_000_000), Seq(5_099_999));
    let mut body = RecordBuffer::after(log.last_time());
    for _ in first.0..=last.0 {
        let envelope = Envelope { wall: WALL, ..Envelope::default() };
        body.push_fact(envelope, &Fact::Gap { first, last, lost_by: Vec::new() });
    }
    log.append(&body, &[]).unwrap();
    let stored = log.reader().stored_bytes().unwrap();
    println!("{stored} bytes for {} positions", body.len());
    assert!(stored < body.len() as u64 / 10, "{stored}");
}

/// The daemon names the command and does nothing by itself. Afterwards it goes on, and its receiver sees a new epoch,
/// whole and without a fork.
#[tokio::test]
async fn the_daemon_names_it_and_receivers_see_a_new_epoch() {
    let place = Place::of(&original());
    std::fs::remove_dir_all(place.data()).unwrap();
    let history = make(&place.data(), Kind { snapshot: Some(250), trim: None });
    let receiver = Receiver::http().await;
    let sink = format!("[[sink]]\nname = \"cloud\"\naddress = \"http://{}/\"\n", receiver.address());
    let config = place.config_with(&sink);
    let agent = Agent::start(Config::load(&config).unwrap().config).await;
    let head = agent.head();
    until("everything at the receiver", || receiver.contiguous() >= head).await;
    agent.stop().await;

    let mut bytes = std::fs::read(place.log()).unwrap();
    let (at, ..) = chunk_of(&bytes, 3_000);
    bytes[at + 100] ^= 1;
    std::fs::write(place.log(), &bytes).unwrap();
    // From its beginning, which the snapshot otherwise saves it.
    std::fs::remove_dir_all(place.data().join("snapshots")).unwrap();
    let with_source = format!(
        "{sink}[[source]]\nname = \"plant\"\naddress = \"mqtt://127.0.0.1:1\"\n[[source.subscription]]\npreset = \"tasmota\"\n"
    );
    let ended = Process::run(&place.config_with(&with_source), &[]).ended().await;
    assert_eq!(ended.code, 65, "{}", ended.words);
    assert_says(
        &ended.words,
        &["damaged at sequence", "`fieldlog repair`", "new epoch", "`fieldlog restore`"],
    );
    let after = std::fs::read(place.log()).unwrap();
    assert!(after[at..at + PAGE] == bytes[at..at + PAGE], "the daemon has changed the damaged chunk");
    assert_eq!(
        std::fs::read_dir(place.data()).unwrap().count(),
        3,
        "log, journal and snapshots, and nothing else"
    );

    let data = place.data();
    let (code, out, err) = call_beside(&["repair", "--data-dir", text(&data)]).await;
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert_says(&out, &["saved", "LOST ", "log.redb.damaged-", "repaired", "new epoch"]);
    let agent = Agent::start(Config::load(&place.config_with(&sink)).unwrap().config).await;
    let (epoch, head) = (agent.handle.shared.epoch, agent.head());
    let new = || receiver.handle.report().log("site", epoch).cloned();
    until("the new epoch at the receiver", || new().is_some_and(|log| log.contiguous.0 >= head)).await;
    agent.stop().await;
    let report = receiver.handle.report();
    assert!(report.is_clean() && report.logs.len() == 2, "{report}");
    assert!(head > history.records.len() as u64);
}
