//! `run` and `verify` with a log that is lost, damaged or truncated.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fieldlog::log::{JournalBounds, Log, LogError};
use fieldlog::lost;
use fieldlog::snapshots::SnapshotStore;
use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::{Epoch, Fact, Seq, Time, View};
use fieldlog_sim::servers::skip;
use fieldlog_tests::logbook::Logbook;
use fieldlog_tests::process::{Process, call};
use fieldlog_tests::rng::Rng;

use crate::daemon::Site;
use crate::rig::{OPTIONS, scratch};

/// Everything in a directory: content and modification times.
fn seen(dir: &Path) -> BTreeMap<PathBuf, (Option<Vec<u8>>, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        let metadata = fs::metadata(&path).unwrap();
        if metadata.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let content = metadata.is_file().then(|| fs::read(&path).unwrap());
        found.insert(path, (content, metadata.modified().unwrap()));
    }
    found
}

/// Runs `fieldlog verify`, which must change nothing; returns exit code and output.
fn verify(data_dir: &Path) -> (i32, String) {
    let before = if data_dir.exists() { seen(data_dir) } else { BTreeMap::new() };
    let (code, out, err) = call(&["verify", "--data-dir", data_dir.to_str().unwrap()]);
    let after = if data_dir.exists() { seen(data_dir) } else { BTreeMap::new() };
    assert!(before == after, "verify has changed something: {out}{err}");
    assert!(!err.contains("panicked"), "{err}");
    (code, out + &err)
}

#[track_caller]
fn assert_says(words: &str, parts: &[&str]) {
    for part in parts {
        assert!(words.contains(part), "{part:?} is not in: {words}");
    }
}

/// A site with a log and a snapshot from a stopped agent.
async fn stopped() -> (Site, PathBuf) {
    let mut site = Site::new().await;
    let config = site.configure_usual();
    let process = site.run(&config);
    site.ready().await;
    site.publish("t/a/state", r#"{"n":1}"#).await;
    process.signal("TERM");
    assert_eq!(process.ended().await.code, 0);
    (site, config)
}

fn snapshots(data_dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(data_dir.join("snapshots")).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What can be in the place of a log, with the expected messages.
fn losses() -> Vec<(Option<Vec<u8>>, &'static str)> {
    let fresh = tempfile::tempdir().unwrap();
    Log::open(fresh.path(), OPTIONS, Epoch(0)).unwrap().close().unwrap();
    let no_records = fs::read(fresh.path().join("log.redb")).unwrap();
    vec![
        (None, "is missing"),
        (Some(vec![]), "is empty"),
        (Some(vec![0; 70_000]), "is blank"),
        (Some(vec![0; 2 << 20]), "is blank"),
        (Some(no_records), "has no records"),
    ]
}

fn lose(data_dir: &Path, content: Option<&Vec<u8>>) {
    let log = data_dir.join("log.redb");
    match content {
        None => fs::remove_file(log).unwrap(),
        Some(content) => fs::write(log, content).unwrap(),
    }
}

#[tokio::test]
async fn a_lost_log_is_not_taken_for_a_new_one() {
    let (site, config) = stopped().await;
    let data_dir = site.data_dir();
    let kept = snapshots(&data_dir);
    for (content, absence) in losses() {
        lose(&data_dir, content.as_ref());
        let words = ["log.redb", absence, "1 snapshots", "Restore log.redb from a backup", "run --new-epoch"];
        let (code, said) = verify(&data_dir);
        assert_eq!(code, 65, "{said}");
        assert_says(&said, &words);
        let ended = Process::run(&config, &[]).ended().await;
        assert_eq!(ended.code, 65, "{}", ended.words);
        assert_says(&ended.words, &words);
        assert_eq!(snapshots(&data_dir), kept);
        if absence != "has no records" {
            let log = data_dir.join("log.redb");
            assert_eq!(log.exists().then(|| fs::read(log).unwrap()), content, "{absence}");
        }
    }
    // A snapshot that was set aside is equal proof.
    let snapshot = data_dir.join("snapshots").join(&kept[0]);
    fs::rename(&snapshot, snapshot.with_extension("ahead")).unwrap();
    lose(&data_dir, None);
    let ended = Process::run(&config, &[]).ended().await;
    assert_eq!(ended.code, 65, "{}", ended.words);
    assert!(!data_dir.join("log.redb").exists());
}

#[tokio::test]
async fn a_new_epoch_begins_when_it_is_told_to_and_keeps_the_old_snapshots() {
    for (content, absence) in losses() {
        let (site, config) = stopped().await;
        let data_dir = site.data_dir();
        let previous =
            SnapshotStore::open(&data_dir).unwrap().candidates().unwrap()[0].header.as_ref().unwrap().epoch;
        let old = snapshots(&data_dir);
        lose(&data_dir, content.as_ref());
        let process = Process::run_anew(&config);
        process.says("connected", 0).await;
        site.publish("t/a/state", r#"{"n":2}"#).await;
        process.signal("TERM");
        let ended = process.ended().await;
        assert_eq!(ended.code, 0, "{}", ended.words);
        assert_says(&ended.words, &["starting a new log", absence, &previous.to_string(), "*.old-epoch"]);

        let records = Logbook::read(&data_dir).records;
        let Fact::Administered { actor, call, .. } = &records[1].2 else { panic!("{:?}", records[1]) };
        assert_eq!((actor.as_str(), call.as_str()), (fieldlog::daemon::actor().as_str(), "new-epoch"));
        let (first, .., fact) = records[0].clone();
        let Fact::EpochBegun { previous: recorded, reason } = fact else { panic!("{fact:?}") };
        assert_eq!((first, recorded), (Seq(1), Some(previous)));
        assert!(reason.contains("--new-epoch") && reason.contains(absence), "{reason}");
        let now = snapshots(&data_dir);
        assert!(now.contains(&format!("{}.old-epoch", old[0])), "{now:?}");
        assert_eq!(now.len(), 2, "{now:?}");
        let (code, said) = verify(&data_dir);
        assert_eq!(code, 0, "{said}");
        assert_ne!(said.lines().next(), Some(&*format!("epoch   {previous}")));
    }
}

#[tokio::test]
async fn a_new_epoch_is_refused_while_there_is_a_log() {
    let (site, config) = stopped().await;
    let before = fs::read(site.data_dir().join("log.redb")).unwrap();
    let ended = Process::run_anew(&config).ended().await;
    assert_eq!(ended.code, 64, "{}", ended.words);
    assert_says(
        &ended.words,
        &["--new-epoch is refused", "log.redb", "start without --new-epoch", "move it away"],
    );
    assert_eq!(fs::read(site.data_dir().join("log.redb")).unwrap(), before);

    // Nor does a damaged log count as lost.
    fs::write(site.data_dir().join("log.redb"), vec![b'x'; 100_000]).unwrap();
    let ended = Process::run_anew(&config).ended().await;
    assert_eq!(ended.code, 65, "{}", ended.words);
    assert_says(
        &ended.words,
        &["log.redb", "`fieldlog restore`", "`fieldlog repair`", "move it away and start with --new-epoch"],
    );
}

#[test]
fn an_interrupted_new_epoch_counts_as_lost_and_can_be_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = SnapshotStore::open(dir.path()).unwrap();
    let view = view_at(9);
    store.save(&view, Epoch(5), 2).unwrap();
    // The file was created, but not its first record.
    Log::open(dir.path(), OPTIONS, Epoch(6)).unwrap().close().unwrap();
    let refused = fieldlog::lost::open(dir.path(), OPTIONS, Epoch(7)).unwrap_err().to_string();
    assert!(refused.contains("has no records"), "{refused}");
    let begun = fieldlog::lost::begin_anew(dir.path(), OPTIONS, Epoch(7), Time(1), "uid:0").unwrap();
    assert_eq!((begun.previous, begun.snapshots), (Some(Epoch(5)), 1));
    let log = fieldlog::lost::open(dir.path(), OPTIONS, Epoch(8)).unwrap();
    assert_eq!((log.epoch(), log.head()), (Epoch(7), Seq(2)));
}

#[test]
fn a_journal_without_its_log_shows_that_there_was_one() {
    let dir = scratch();
    let mut log = Log::open(dir.path(), OPTIONS, Epoch(1)).unwrap();
    let used = log.use_journal(dir.path(), JournalBounds { move_bytes: 1 << 20 }).unwrap();
    if let Err(why) = used {
        return skip(&format!("there is no journal here: {why}"));
    }
    drop(log);
    // As after a crash right at the first start: nothing is lost.
    lost::open(dir.path(), OPTIONS, Epoch(2)).unwrap().close().unwrap();
    fs::remove_file(dir.path().join("log.redb")).unwrap();
    let words = lost::open(dir.path(), OPTIONS, Epoch(2)).unwrap_err().to_string();
    assert_says(&words, &["is missing", "the journal of an earlier log is beside it", "--new-epoch"]);
    lost::begin_anew(dir.path(), OPTIONS, Epoch(3), Time(0), "uid 0").unwrap();
    assert_eq!(lost::open(dir.path(), OPTIONS, Epoch(4)).unwrap().head(), Seq(2));
    assert!(dir.path().join("journal.old-epoch").exists());
}

#[test]
fn pruning_leaves_snapshots_that_are_not_of_this_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let store = SnapshotStore::open(dir.path()).unwrap();
    let save = |epoch: u64, seq: u64| {
        let view = view_at(seq);
        store.save(&view, Epoch(epoch), 2).unwrap().0
    };
    let other = save(1, 500);
    let unreadable = store.dir().join("what.snap");
    fs::write(&unreadable, b"FLSN").unwrap();
    let ours: Vec<PathBuf> = (1..=4).map(|seq| save(2, seq)).collect();
    assert!(other.exists() && unreadable.exists());
    assert_eq!(ours.iter().map(|path| path.exists()).collect::<Vec<_>>(), [false, false, true, true]);
}

#[tokio::test]
async fn records_that_are_lost_from_the_end_are_counted_and_recorded() {
    let (mut site, config) = stopped().await;
    let data_dir = site.data_dir();
    let log = data_dir.join("log.redb");
    let backup = fs::read(&log).unwrap();
    let head = Logbook::read(&data_dir).records.last().unwrap().0;
    let process = site.run(&config);
    site.ready().await;
    for n in 2..9 {
        site.publish("t/a/state", &format!(r#"{{"n":{n}}}"#)).await;
    }
    process.signal("TERM");
    assert_eq!(process.ended().await.code, 0);
    let last = Logbook::read(&data_dir).records.last().unwrap().0;

    fs::write(&log, backup).unwrap();
    let (code, said) = verify(&data_dir);
    assert_eq!(code, 65, "{said}");
    assert_says(
        &said,
        &[&format!("a snapshot goes up to {last}, and the log ends at {head}: its newest records are gone")],
    );

    let process = site.run(&config);
    site.ready().await;
    process.signal("TERM");
    let ended = process.ended().await;
    let lost = format!(
        "{} acknowledged records are missing from the log: {} to {last}",
        last.0 - head.0,
        head.next()
    );
    assert_says(&ended.words, &[&lost, "restore the log from a backup"]);
    let book = Logbook::read(&data_dir);
    let found: Vec<_> = book.records.iter().filter(|r| matches!(r.2, Fact::RecordsLost { .. })).collect();
    let [(at, _, Fact::RecordsLost { first, last: to, reason })] = found[..] else { panic!("{found:?}") };
    assert_eq!((*at, *first, *to), (head.next(), head.next(), last));
    assert!(reason.contains("snapshot is ahead of the log"), "{reason}");
    drop(book);
    assert_eq!(verify(&data_dir).0, 0);
}

#[tokio::test]
async fn verify_changes_nothing_whatever_it_finds() {
    let (mut site, config) = stopped().await;
    let data_dir = site.data_dir();
    let (code, said) = verify(&data_dir);
    assert_eq!(code, 0, "{said}");

    let process = site.run(&config);
    site.ready().await;
    let (code, said) = {
        let (code, out, err) = call(&["verify", "--data-dir", data_dir.to_str().unwrap()]);
        (code, out + &err)
    };
    assert_eq!(code, 74, "{said}");
    assert_says(&said, &["in use by another process"]);
    site.publish("t/a/state", r#"{"n":2}"#).await;
    process.kill();
    let (code, said) = verify(&data_dir);
    assert_eq!(code, 0, "{said}");
    // The repair was in memory only, so it is still needed.
    let process = site.run(&config);
    site.ready().await;
    process.signal("TERM");
    assert_eq!(process.ended().await.code, 0);

    let nothing = tempfile::tempdir().unwrap();
    for (content, absence) in losses() {
        if let Some(content) = &content {
            fs::write(nothing.path().join("log.redb"), content).unwrap();
        }
        let (code, said) = verify(nothing.path());
        let expected = match absence {
            "is missing" => 74,
            "has no records" => 0,
            _ => 65,
        };
        assert_eq!(code, expected, "{said}");
        assert_says(&said, &[if expected == 0 { "records none" } else { absence }]);
    }
    assert_eq!(verify(&nothing.path().join("not here")).0, 74);
}

/// A log large enough to be damaged, with a payload in its quarantine.
fn large(dir: &Path) {
    let mut log = Log::open(dir, OPTIONS, Epoch(3)).unwrap();
    for n in 0..60_u64 {
        let mut body = RecordBuffer::after(log.last_time());
        let wall = Time::from_secs(n as i64);
        let envelope = Envelope { wall, device_time: None, cause: None };
        for _ in 0..100 {
            let reason =
                format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(body.len() as u32));
            body.push_fact(envelope, &Fact::RecordsLost { first: Seq(n), last: Seq(n), reason });
        }
        body.push_fact(
            envelope,
            &Fact::InputQuarantined { source: "s".into(), topic: "t".into(), reason: "r".into(), size: 9 },
        );
        log.append(&body, &[(100, format!("quarantined-payload-{n:03}").into_bytes())]).unwrap();
    }
    log.close().unwrap();
}

fn config_for(dir: &Path, data_dir: &Path) -> PathBuf {
    let config = dir.join("fieldlog.toml");
    let text = format!(
        "data_dir = {data_dir:?}\n[http]\nlisten = \"127.0.0.1:0\"\n[[source]]\nname = \"plant\"\n\
         address = \"mqtt://127.0.0.1:1\"\n[[source.subscription]]\npreset = \"tasmota\"\n"
    );
    fs::write(&config, text).unwrap();
    config
}

#[tokio::test]
async fn damage_ends_run_and_verify_with_65() {
    let dir = tempfile::tempdir().unwrap();
    large(dir.path());
    let config = config_for(dir.path(), dir.path());
    let path = dir.path().join("log.redb");
    let whole = fs::read(&path).unwrap();
    let (code, said) = verify(dir.path());
    assert_eq!(code, 0, "{said}");

    let chunk = whole.windows(3).position(|bytes| bytes == b"FL\x01").unwrap();
    let mut damaged = whole.clone();
    damaged[chunk + 500] ^= 1;
    fs::write(&path, &damaged).unwrap();
    let (code, said) = verify(dir.path());
    assert_eq!(code, 65, "{said}");
    assert_says(
        &said,
        &["DAMAGED: the chunk at sequence", "fieldlog restore", "in a new epoch (fieldlog repair)"],
    );
    let ended = Process::run(&config, &[]).ended().await;
    assert_eq!(ended.code, 65, "{}", ended.words);

    for len in [5_000, whole.len() / 2, whole.len() - 4096] {
        fs::write(&path, &whole[..len]).unwrap();
        let (code, said) = verify(dir.path());
        assert_eq!(code, 65, "cut to {len}: {said}");
        let ended = Process::run(&config, &[]).ended().await;
        assert_eq!(ended.code, 65, "cut to {len}: {}", ended.words);
    }
}

/// Content outside chunks has none of our checksums.
#[test]
fn damage_beside_the_records_is_found_by_the_stores_own_check() {
    let dir = tempfile::tempdir().unwrap();
    large(dir.path());
    let path = dir.path().join("log.redb");
    let whole = fs::read(&path).unwrap();
    let mark = b"quarantined-payload-059";
    let found: Vec<usize> =
        whole.windows(mark.len()).enumerate().filter(|(_, bytes)| bytes == mark).map(|(at, _)| at).collect();
    assert!(!found.is_empty());
    let mut damaged = whole.clone();
    found.iter().for_each(|at| damaged[at + 5] ^= 1);
    fs::write(&path, damaged).unwrap();
    let (code, said) = verify(dir.path());
    assert_eq!(code, 65, "{said}");
    assert_says(&said, &["DAMAGED", "cannot compare the log's pages with their checksums"]);
}

/// For any damage: what verify calls intact has all of its records and the chain.
#[test]
fn nothing_that_differs_passes_for_intact() {
    let seed = std::env::var("SEED").map_or(17, |text| text.parse().unwrap());
    eprintln!("SEED={seed}");
    let mut rng = Rng::new(seed);
    let dir = scratch();
    large(dir.path());
    let path = dir.path().join("log.redb");
    let whole = fs::read(&path).unwrap();
    let good = fieldlog::verify::verify(dir.path()).unwrap();
    assert!(good.is_good(), "{good:?}");
    let mut found = 0;
    for case in 0..100 {
        let mut damaged = whole.clone();
        let page = rng.below(whole.len() / 4096) * 4096;
        match rng.below(4) {
            0 => damaged[page..page + 4096].fill(0),
            1 => damaged.copy_within(page..page + 4096, rng.below(whole.len() / 4096) * 4096),
            2 => damaged[page + rng.below(4096)] ^= 1 << rng.below(8),
            _ => damaged.truncate(page + rng.below(4096)),
        }
        fs::write(&path, &damaged).unwrap();
        match fieldlog::verify::verify(dir.path()) {
            Ok(report) if report.is_good() => {
                assert_eq!((report.intact, report.link), (good.intact, good.link), "case {case}");
            }
            Ok(_) => found += 1,
            Err(error) => {
                assert!(
                    error.is_lasting() || matches!(error, LogError::Absent { .. }),
                    "case {case}: {error}"
                );
                found += 1;
            }
        }
        assert!(fs::read(&path).unwrap() == damaged, "case {case}: the file was changed");
    }
    assert!(found > 30, "{found}");
}

/// An empty view that claims to be at `seq`.
fn view_at(seq: u64) -> View {
    let mut view = View::new(Vec::new());
    view.seq = Seq(seq);
    view
}
