//! A really full disk: the agent exits with the reason, and continues once there is room.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use fieldlog::log::{Log, LogOptions};
use fieldlog_projections::{Epoch, Fact, Value};
use fieldlog_sim::broker::Qos;
use fieldlog_tests::logbook::Logbook;
use fieldlog_tests::process::Process;
use fieldlog_tests::tmpfs::Tmpfs;
use fieldlog_tests::wait::{PATIENCE, until};

use crate::daemon::Site;

/// Incompressible text.
fn noise(seed: u64, length: usize) -> String {
    let mut state = seed;
    let mut letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + (state >> 33).to_le_bytes()[0] % 90)
    };
    (0..length).map(|_| letter()).filter(|c| !matches!(c, '"' | '\\')).collect()
}

/// Waits until everything is acknowledged, and stops the agent.
async fn stop_drained(site: &Site, process: Process) {
    until("all PUBACKs", || {
        let session = site.broker.session("fieldlog-test-plant");
        session.is_some_and(|s| s.connected && s.queued + s.in_flight == 0)
    })
    .await;
    process.signal("TERM");
    let ended = process.ended().await;
    assert_eq!(ended.code, 0, "{}", ended.words);
}

#[tokio::test]
async fn the_agent_ends_when_the_disk_is_full_and_goes_on_when_it_is_not() {
    let mut site = Site::new().await;
    let Some(tmpfs) = Tmpfs::mount(&site.data_dir(), "4M") else { return };
    // Without the free space limit, which would stop it earlier.
    let config =
        site.configure(&format!("data_dir = {:?}", site.data_dir()), "[retention]\nfree_bytes_min = 0");
    let mut process = site.run(&config);
    site.ready().await;
    let begin = std::time::Instant::now();
    let mut published = 0;
    while process.is_running() {
        assert!(begin.elapsed() < PATIENCE, "the disk does not get full");
        let backlog = published - site.broker.stats().pubacks_in.min(published);
        if backlog < 500 {
            let payload = format!(r#"{{"n":{published},"noise":"{}"}}"#, noise(published, 1000));
            site.broker.publish(&format!("t/d{published}/state"), payload, false, Qos::AtLeastOnce).unwrap();
            published += 1;
        }
        if published % 50 == 0 || backlog >= 500 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let ended = process.ended().await;
    println!("{}", ended.words);
    assert_eq!(ended.code, 74, "{}", ended.words);
    for part in ["No space left on device", "the broker keeps every unacknowledged message", "free space"] {
        assert!(ended.words.contains(part), "{part:?} is not in: {}", ended.words);
    }
    let acked_before = site.broker.acked().len();
    assert!(acked_before > 0);

    // Still full: it reports this again, and loses nothing.
    let ended = site.run(&config).ended().await;
    assert_eq!(ended.code, 74, "{}", ended.words);

    tmpfs.grow("64M");
    let process = site.run(&config);
    stop_drained(&site, process).await;
    let log = Logbook::read(&site.data_dir());
    let recorded: HashSet<i64> = log
        .changes()
        .filter_map(|(_, _, attribute, value)| match value {
            Value::Int(n) if attribute == "n" => Some(*n),
            _ => None,
        })
        .collect();
    assert!(
        (0..published as i64).all(|n| recorded.contains(&n)),
        "of {published} {} are there",
        recorded.len()
    );
    log.assert_no_equal_values(&[]);
    drop(log);
}

const DROPPING: &str =
    "[retention]\nwhen_full = \"drop-oldest\"\nfree_bytes_min = 0\n[snapshots]\nevents = 2000\nkeep = 1";

/// The numbers in a log with a dropped front, and the number of records about dropping.
fn recorded(data_dir: &Path) -> (HashSet<i64>, usize) {
    let options = LogOptions { cache_bytes: 1 << 22, quick_repair: false, quarantine_records_max: 1000 };
    let log = Log::open(data_dir, options, Epoch(0)).unwrap();
    let (first, _) = log.reader().range().unwrap().unwrap();
    let (mut numbers, mut dropped) = (HashSet::new(), 0);
    let none = log.reader().scan(first, |chunk| {
        for record in chunk.records() {
            match record.unwrap().fact().unwrap() {
                Fact::StateChanged { changes, .. } => {
                    numbers.extend(changes.iter().filter_map(|(_, value)| match value {
                        Value::Int(n) => Some(*n),
                        _ => None,
                    }));
                }
                Fact::Gap { .. } | Fact::Trimmed { .. } => dropped += 1,
                _ => {}
            }
        }
        ControlFlow::<()>::Continue(())
    });
    assert_eq!(none.unwrap(), None);
    (numbers, dropped)
}

/// Publishes as fast as messages are accepted, until this many are acknowledged; restarts the agent when it ends, like
/// systemd. Returns how many were published, and how often the agent ended.
async fn flood(site: &Site, config: &Path, from: u64, acked_more: usize) -> (u64, usize) {
    let begin = std::time::Instant::now();
    let acked = site.broker.acked().len() + acked_more;
    let (mut published, mut ends) = (from, 0);
    let mut process = site.run(config);
    while site.broker.acked().len() < acked {
        assert!(begin.elapsed() < PATIENCE * 3, "{} of {acked} acknowledged", site.broker.acked().len());
        if !process.is_running() {
            let ended = process.ended().await;
            assert_eq!(ended.code, 74, "{}", ended.words);
            assert!(ended.words.contains("No space left on device"), "{}", ended.words);
            ends += 1;
            assert!(ends < 20, "it does not come back: {}", ended.words);
            process = site.run(config);
        }
        let backlog = published - site.broker.stats().pubacks_in.min(published);
        if backlog < 500 {
            let payload = format!(r#"{{"n":{published},"noise":"{}"}}"#, noise(published, 3_500));
            site.broker
                .publish(&format!("t/d{}/state", published % 50), payload, false, Qos::AtLeastOnce)
                .unwrap();
            published += 1;
        }
        if published % 50 == 0 || backlog >= 500 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    stop_drained(site, process).await;
    (published, ends)
}

#[tokio::test]
async fn drop_oldest_goes_on_for_ever_on_a_disk_without_a_watermark() {
    let site = Site::new().await;
    let Some(tmpfs) = Tmpfs::mount(&site.data_dir(), "20M") else { return };
    let config = site.configure(&format!("data_dir = {:?}", site.data_dir()), DROPPING);
    // Several times what fits, as fast as it goes.
    let (published, ends) = flood(&site, &config, 0, 6_000).await;
    println!("{published} messages, the agent ended {ends} times");
    assert_eq!(ends, 0, "the disk got full although the oldest may be dropped");
    let (numbers, dropped) = recorded(&site.data_dir());
    assert!(dropped > 0);
    let newest = published as i64 - 1;
    assert!((newest - 200..=newest).all(|n| numbers.contains(&n)), "the newest are not all there");
    assert!(site.data_dir().join("reserve").exists(), "dropping began so late that it needed the reserve");

    // The last byte is used. The reserve is released, the oldest records are dropped, and it works.
    tmpfs.fill_up();
    let (published, ends) = flood(&site, &config, published, 2_000).await;
    println!("with a disk that others have filled: the agent ended {ends} times");
    let (numbers, _) = recorded(&site.data_dir());
    let newest = published as i64 - 1;
    assert!((newest - 200..=newest).all(|n| numbers.contains(&n)), "the newest are not all there");
    assert!(!site.data_dir().join("reserve").exists());

    // With room again, the reserve is created again.
    tmpfs.grow("64M");
    let process = site.run(&config);
    until("the reserve", || site.data_dir().join("reserve").exists()).await;
    process.signal("TERM");
    assert_eq!(process.ended().await.code, 0);
}
