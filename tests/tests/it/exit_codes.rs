//! Exit codes, on which systemd restarts or not, and the messages that operators read with them.

use std::path::Path;

use fieldlog::log::{Log, LogOptions};
use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::{Epoch, Fact};
use fieldlog_tests::process::{Ended, Process, call};
use tempfile::TempDir;

fn write(dir: &TempDir, data_dir: &Path, http: &str) -> std::path::PathBuf {
    let text = format!(
        "data_dir = {data_dir:?}\n[http]\nlisten = {http:?}\n[[source]]\nname = \"plant\"\n\
         address = \"mqtt://127.0.0.1:1\"\n[[source.subscription]]\npreset = \"tasmota\"\n"
    );
    let path = dir.path().join("fieldlog.toml");
    std::fs::write(&path, text).unwrap();
    path
}

async fn run_with(dir: &TempDir, data_dir: &Path) -> Ended {
    Process::run(&write(dir, data_dir, "127.0.0.1:0"), &[]).ended().await
}

/// Three mistakes, in three places.
const FAULTY: &str = "[log]\ncommit_delay_ms = 0\n[[source]]\nname = \"plant\"\naddress = \"127.0.0.1\"\nqos = 1\n\
                      [[source.subscription]]\npreset = \"tasmota\"\n";

fn assert_names_all_faults(words: &str) {
    for part in ["3 faults", "log.commit_delay_ms", "address", "qos"] {
        assert!(words.contains(part), "{part:?} is not in: {words}");
    }
}

#[tokio::test]
async fn a_faulty_configuration_ends_with_78_and_every_fault() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("fieldlog.toml");
    std::fs::write(&config, FAULTY).unwrap();
    let ended = Process::run(&config, &[]).ended().await;
    assert_eq!(ended.code, 78, "{}", ended.words);
    assert_names_all_faults(&ended.words);

    std::fs::remove_file(&config).unwrap();
    let ended = Process::run(&config, &[]).ended().await;
    assert_eq!(ended.code, 78, "{}", ended.words);
    assert!(ended.words.contains("cannot be read"), "{}", ended.words);
}

#[tokio::test]
async fn nothing_to_record_ends_with_78() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("fieldlog.toml");
    std::fs::write(&config, "gateway_id = \"test\"\n").unwrap();
    let ended = Process::run(&config, &[]).ended().await;
    assert_eq!(ended.code, 78, "{}", ended.words);
    assert!(ended.words.contains("[[source]]"), "{}", ended.words);
}

#[test]
fn check_config_says_what_is_good_and_what_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("fieldlog.toml");
    let name = config.to_str().unwrap();
    std::fs::write(&config, FAULTY).unwrap();
    let (code, out, err) = call(&["check-config", "--config", name]);
    assert_eq!((code, out.as_str()), (78, ""), "{err}");
    assert_names_all_faults(&err);

    write(&dir, Path::new("/var/lib/fieldlog"), "127.0.0.1:0");
    let (code, out, err) = call(&["check-config", "--config", name]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    for part in [name, ": good", "/var/lib/fieldlog", "source \"plant\": mqtt://127.0.0.1:1"] {
        assert!(out.contains(part), "{part:?} is not in: {out}");
    }

    // The output is an equivalent configuration.
    let (code, shown, _) = call(&["check-config", "--show", "--config", name]);
    assert_eq!(code, 0);
    std::fs::write(&config, &shown).unwrap();
    let (code, again, err) = call(&["check-config", "--show", "--config", name]);
    assert_eq!((code, again), (0, shown), "{err}");
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_used_ends_with_74() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for data_dir in [file.clone(), file.join("data")] {
        let ended = run_with(&dir, &data_dir).await;
        assert_eq!(ended.code, 74, "{}", ended.words);
        assert!(ended.words.contains(&*data_dir.to_string_lossy()), "{}", ended.words);
    }
    // A directory is in the place of the log.
    let data_dir = dir.path().join("data");
    std::fs::create_dir_all(data_dir.join("log.redb")).unwrap();
    let ended = run_with(&dir, &data_dir).await;
    assert_eq!(ended.code, 74, "{}", ended.words);
    assert!(ended.words.contains("log.redb"), "{}", ended.words);
}

#[tokio::test]
async fn a_log_that_is_none_ends_with_65_and_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log.redb");
    // More zeros than an interrupted creation leaves, so it is not taken for one.
    for content in [vec![b'x'; 10_000], vec![0; 2_000_000], b"short".to_vec()] {
        std::fs::write(&log, &content).unwrap();
        let ended = run_with(&dir, dir.path()).await;
        assert_eq!(ended.code, 65, "{}", ended.words);
        assert!(ended.words.contains("log.redb"), "{}", ended.words);
        assert_eq!(std::fs::read(&log).unwrap(), content, "nothing is repaired that is not ours");
    }
    std::fs::remove_file(&log).unwrap();
    let store = redb::Database::create(&log).unwrap();
    let transaction = store.begin_write().unwrap();
    transaction.open_table(redb::TableDefinition::<&str, u64>::new("meta")).unwrap();
    transaction.commit().unwrap();
    drop(store);
    let ended = run_with(&dir, dir.path()).await;
    assert_eq!(ended.code, 65, "{}", ended.words);
    assert!(ended.words.contains("not a fieldlog log"), "{}", ended.words);
}

/// Zeroed pages: redb panics at some of them, which must not be visible to the operator.
#[tokio::test]
async fn a_log_with_zeroed_pages_ends_with_65_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log.redb");
    let options = LogOptions { cache_bytes: 1 << 20, quick_repair: false, quarantine_records_max: 10 };
    let mut store = Log::open(dir.path(), options, Epoch(7)).unwrap();
    for n in 0..200 {
        let mut body = RecordBuffer::after(store.last_time());
        let keys = vec!["x".repeat(n); 20];
        body.push_fact(Envelope::default(), &Fact::ConfigChanged { keys });
        store.append(&body, &[]).unwrap();
    }
    store.close().unwrap();
    let whole = std::fs::read(&log).unwrap();
    let mut refused = 0;
    for page in 1..whole.len() / 4096 {
        let mut bytes = whole.clone();
        bytes[page * 4096..(page + 1) * 4096].fill(0);
        std::fs::write(&log, &bytes).unwrap();
        let (code, out, err) = call(&["correct-clock", "--data-dir", dir.path().to_str().unwrap()]);
        assert!(!err.contains("panicked"), "page {page}: {err}");
        match code {
            0 => assert!(out.contains("nothing to correct"), "page {page}: {out}"),
            65 => {
                refused += 1;
                for part in ["damaged", "restore", "new epoch"] {
                    assert!(err.contains(part), "page {page}: {part:?} is not in: {err}");
                }
            }
            code => panic!("page {page}: exit code {code}: {err}"),
        }
    }
    assert!(refused >= 3, "{refused} of {}", whole.len() / 4096);
}

#[tokio::test]
async fn a_port_that_is_taken_ends_with_69() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = write(&dir, &dir.path().join("data"), &address);
    let ended = Process::run(&config, &[]).ended().await;
    assert_eq!(ended.code, 69, "{}", ended.words);
    assert!(ended.words.contains("ERROR"), "{}", ended.words);
}
