//! A log that has reached `retention.bytes_max`.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use fieldlog::verify::verify;
use fieldlog_projections::{Fact, Seq};
use fieldlog_tests::agent::Agent;
use fieldlog_tests::proxy::{Fault, Proxy};
use fieldlog_tests::receiver::Receiver;
use fieldlog_tests::wait::until;

use super::site::{Site, arrived, assert_complete, http, random};

const MIB: usize = 1 << 20;

/// Room for all that a test posts, so that it can be recorded before the log becomes too large by a reload.
fn room() -> String {
    retention("block").replace(&format!("bytes_max = {MIB}"), "bytes_max = 100000000")
}

fn retention(when_full: &str) -> String {
    format!(
        "[retention]\nbytes_max = {MIB}\nhistory_min_s = 0\nfree_bytes_min = 0\nwhen_full = \"{when_full}\"\n\
         [snapshots]\nevents = 1000\n"
    )
}

fn blocked(agent: &Agent) -> Option<String> {
    agent.handle.shared.stats.blocked()
}

fn first(agent: &Agent) -> u64 {
    agent.first().0
}

#[tokio::test]
async fn block_leaves_messages_at_the_broker() {
    let mut rng = random();
    let receiver = Receiver::http().await;
    let proxy = Proxy::start(receiver.address(), Fault::Refuse).await;
    let mut site = Site::new().await;
    let config = site.config(&(retention("block") + &http(proxy.address, "")));
    let agent = site.start(&site.config(&(room() + &http(proxy.address, "")))).await;
    site.post_bytes(&mut rng, 2 * MIB);
    site.recorded().await;
    agent.reload(config.clone()).await;
    until("the end of acknowledging", || blocked(&agent).is_some()).await;
    let why = blocked(&agent).unwrap();
    assert!(why.contains("retention.bytes_max") && why.contains("cloud"), "{why}");
    site.post(100);
    until("a full window", || site.session().in_flight == 20).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let session = site.session();
    assert_eq!(
        (session.in_flight, session.queued),
        (20, 80),
        "messages were acknowledged that nobody stored"
    );
    assert_eq!(first(&agent), 1);

    // It can be stopped and started like this, too.
    agent.stop().await;
    let agent = site.start(&config).await;
    until("the end of acknowledging", || blocked(&agent).is_some()).await;

    proxy.set(Fault::Pass);
    until("messages taken again", || blocked(&agent).is_none()).await;
    site.recorded().await;
    arrived(&agent, &receiver).await;
    until("a trimmed log", || first(&agent) > 1).await;
    arrived(&agent, &receiver).await;
    let head = agent.head();
    let data_dir = agent.stop().await;
    let (log, _) = receiver.stop().await;
    assert_complete(&log, head);
    assert_eq!(verify(&data_dir).unwrap().fault, None);
}

/// Slow progress of a sink must not let the log grow.
#[tokio::test]
async fn a_sink_that_crawls_makes_no_room() {
    let mut rng = random();
    let receiver = Receiver::http().await;
    let mut site = Site::new().await;
    let slow = http(receiver.address(), "parcel_events_max = 50\nbandwidth_bytes_per_s = 100000");
    let agent = site.start(&site.config(&(room() + &slow))).await;
    site.post_bytes(&mut rng, 3 * MIB);
    site.recorded().await;
    agent.reload(site.config(&(retention("block") + &slow))).await;
    until("the end of acknowledging", || blocked(&agent).is_some()).await;
    site.post(100);
    until("a full window", || site.session().in_flight == 20).await;
    until("a trimmed log", || first(&agent) > 1).await;
    assert!(blocked(&agent).is_some(), "trimmed to {}, and taken for enough", first(&agent));
    until("a full window", || site.session().queued == 80).await;
    let fast = http(receiver.address(), "");
    agent.reload(site.config(&(retention("block") + &fast))).await;
    until("messages taken again", || blocked(&agent).is_none()).await;
    site.recorded().await;
    arrived(&agent, &receiver).await;
    agent.stop().await;
    assert!(receiver.stop().await.0.is_clean());
}

#[tokio::test]
async fn drop_oldest_says_what_is_gone() {
    drop_oldest("").await;
}

#[tokio::test]
async fn what_is_dropped_is_in_the_archive_first() {
    let (_site, data_dir) = drop_oldest("thin_to_s = 60\n").await;
    let report = verify(&data_dir).unwrap();
    assert_eq!((report.fault, report.rollups.gaps), (None, 0));
    let (begin, end) = report.rollups.range.unwrap();
    let (first, _) = report.range.unwrap();
    assert!(begin == Seq(1) && end.next() >= first, "{first} follows an archive of {begin} to {end}");
}

/// Returns the site, which keeps the data directory, and that directory.
async fn drop_oldest(thinning: &str) -> (Site, PathBuf) {
    let mut rng = random();
    let receiver = Receiver::http().await;
    let proxy = Proxy::start(receiver.address(), Fault::Refuse).await;
    let mut site = Site::new().await;
    let retention = retention("drop-oldest").replace("[snapshots]", &format!("{thinning}[snapshots]"));
    let config = site.config(&(retention + &http(proxy.address, "")));
    let agent = site.start(&config).await;
    site.post_bytes(&mut rng, 3 * MIB);
    site.recorded().await;
    until("a trimmed log", || first(&agent) > 1).await;
    assert_eq!(blocked(&agent), None);
    proxy.set(Fault::Pass);
    // Waits until its acknowledgements are beyond all trimming.
    until("the newest at the receiver", || receiver.newest() == agent.head() && agent.head() > 0).await;
    let known = || agent.handle.sinks.views()[0].status.details().acked.contiguous().0;
    until("the cursor at the head", || known() == agent.head() && receiver.newest() == agent.head()).await;
    let data_dir = agent.stop().await;
    let (log, lines) = receiver.stop().await;
    println!("{log}");
    assert_eq!(log.counts.faults, 0, "{log}");
    assert!(log.missing.first().is_some_and(|(first, _)| first.0 == 1), "{log}");
    let gaps = lines.lines().filter(|line| line.contains("\"io.fieldlog.gap.v1\"")).collect::<Vec<_>>();
    assert!(!gaps.is_empty(), "the receiver is not told of the gap");
    assert!(gaps.iter().all(|gap| gap.contains("cloud")), "{gaps:?}");
    // The missing events are exactly those in a gap record.
    let told = gaps.iter().map(|gap| {
        let event: serde_json::Value = serde_json::from_str(gap).unwrap();
        (event["data"]["last"].as_u64().unwrap(), event["id"].to_string())
    });
    let told: BTreeSet<_> = told.collect();
    let ends: BTreeSet<_> = told.iter().map(|(last, _)| last).collect();
    assert_eq!(ends.len(), told.len(), "a gap was recorded twice: {told:?}");
    let told = **ends.last().unwrap();
    assert!(
        log.missing.iter().all(|(_, last)| last.0 <= told),
        "missing {:?}, told up to {told}",
        log.missing
    );
    (site, data_dir)
}

#[tokio::test]
async fn without_sinks_the_oldest_goes() {
    let mut rng = random();
    let mut site = Site::new().await;
    let config = site.config(&retention("block"));
    let agent = site.start(&config).await;
    site.post(20);
    site.post_bytes(&mut rng, 3 * MIB);
    site.recorded().await;
    until("a trimmed log", || first(&agent) > 1).await;
    let before: Vec<_> = (0..20).map(|n| agent.value(&format!("d{n}"), "value")).collect();
    assert!(before.iter().all(Option::is_some), "{before:?}");
    let data_dir = agent.stop().await;

    let agent = site.start(&config).await;
    let after: Vec<_> = (0..20).map(|n| agent.value(&format!("d{n}"), "value")).collect();
    assert_eq!(before, after, "what is trimmed lives on in the snapshot");
    site.post(10);
    site.recorded().await;
    assert!(trimmed(&agent) + 1 >= first(&agent), "more is gone than is recorded");
    agent.stop().await;
    let report = verify(&data_dir).unwrap();
    assert_eq!(report.fault, None);
    let (first, last) = report.range.unwrap();
    assert!(first.0 > 1 && report.intact == last, "{report:?}");
}

/// The last position that a record says has been trimmed.
fn trimmed(agent: &Agent) -> u64 {
    let mut found = 0;
    let scanned = agent.handle.shared.reader.scan(Seq(first(agent)), |chunk| {
        for record in chunk.records() {
            if let Fact::Trimmed { last, .. } = record.unwrap().fact().unwrap() {
                found = found.max(last.0);
            }
        }
        ControlFlow::<()>::Continue(())
    });
    assert_eq!(scanned.unwrap(), None);
    found
}
