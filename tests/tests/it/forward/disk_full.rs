//! A full disk while there is a backlog.

use std::collections::HashSet;

use fieldlog::config::Config;
use fieldlog_projections::Value;
use fieldlog_tests::logbook::Logbook;
use fieldlog_tests::process::Process;
use fieldlog_tests::proxy::{Fault, Proxy};
use fieldlog_tests::receiver::Receiver;
use fieldlog_tests::tmpfs::Tmpfs;

use super::site::{Site, arrived, assert_complete, assert_lines, http, random};

const MESSAGES: usize = 6_000;

#[tokio::test]
async fn the_backlog_goes_upstream_when_there_is_room_again() {
    let mut rng = random();
    let receiver = Receiver::http().await;
    let proxy = Proxy::start(receiver.address(), Fault::Refuse).await;
    let mut site = Site::new().await;
    let Some(disk) = Tmpfs::mount(&site.data_dir(), "4M") else { return };
    // Without the watermark, which would stop it before.
    let text = site.text(&("[retention]\nfree_bytes_min = 0\n".to_owned() + &http(proxy.address, "")));
    let path = site.dir.path().join("fieldlog.toml");
    std::fs::write(&path, &text).unwrap();
    let process = Process::run(&path, &[]);
    site.subscribed().await;
    site.post_bytes(&mut rng, MESSAGES * 1_000);
    let ended = process.ended().await;
    assert_eq!(ended.code, 74, "{}", ended.words);
    for part in ["No space left on device", "the broker keeps every unacknowledged message", "free space"] {
        assert!(ended.words.contains(part), "{part:?} is not in: {}", ended.words);
    }
    let session = site.session();
    let acknowledged = MESSAGES - session.queued - session.in_flight;
    println!("{acknowledged} messages acknowledged before the disk was full");
    assert!(acknowledged > 0 && session.queued > 0, "{session:?}");
    assert_eq!(receiver.handle.events(), 0);

    disk.grow("64M");
    proxy.set(Fault::Pass);
    let agent = site.start(&Config::load(&path).unwrap().config).await;
    assert!(agent.head() as usize >= acknowledged, "{} records, {acknowledged} acknowledged", agent.head());
    site.recorded().await;
    arrived(&agent, &receiver).await;
    let head = agent.head();
    agent.stop().await;
    let log = Logbook::read(&site.data_dir());
    let texts: HashSet<&str> = log
        .changes()
        .filter_map(|(_, _, _, value)| match value {
            Value::Text(text) => Some(&**text),
            _ => None,
        })
        .collect();
    assert_eq!(texts.len(), MESSAGES, "messages are missing");
    let (log, lines) = receiver.stop().await;
    assert_complete(&log, head);
    assert_lines(&lines, head);
}
