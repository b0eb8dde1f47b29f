//! A disk that is full, for real: the agent ends and says why, and goes on where it was once there is room.

use std::collections::HashSet;
use std::time::Duration;

use fieldlog_projections::Value;
use fieldlog_sim::broker::Qos;
use fieldlog_tests::logbook::Logbook;
use fieldlog_tests::tmpfs::Tmpfs;
use fieldlog_tests::wait::{PATIENCE, until};

use crate::daemon::Site;

/// Text that does not compress.
fn noise(seed: u64, length: usize) -> String {
    let mut state = seed;
    let mut letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + (state >> 33).to_le_bytes()[0] % 90)
    };
    (0..length).map(|_| letter()).filter(|c| !matches!(c, '"' | '\\')).collect()
}

#[tokio::test]
async fn the_agent_ends_when_the_disk_is_full_and_goes_on_when_it_is_not() {
    let mut site = Site::new().await;
    let Some(tmpfs) = Tmpfs::mount(&site.data_dir(), "4M") else { return };
    // Without the watermark, which would stop it before.
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
    for part in ["No space left on device", "the broker keeps what was not acknowledged", "free space"] {
        assert!(ended.words.contains(part), "{part:?} is not in: {}", ended.words);
    }
    let acked_before = site.broker.acked().len();
    assert!(acked_before > 0);

    // Still full: it says so again, and loses nothing.
    let ended = site.run(&config).ended().await;
    assert_eq!(ended.code, 74, "{}", ended.words);

    tmpfs.grow("64M");
    let process = site.run(&config);
    until("all PUBACKs", || {
        let session = site.broker.session("fieldlog-test-plant");
        session.is_some_and(|s| s.connected && s.queued + s.in_flight == 0)
    })
    .await;
    process.signal("TERM");
    let ended = process.ended().await;
    assert_eq!(ended.code, 0, "{}", ended.words);
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
