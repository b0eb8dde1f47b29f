//! Two histories with one identity: what a receiver says of them.

use std::path::Path;

use fieldlog_tests::process::free_port;

use super::parts::{Keeper, Verdict};
use super::site::{Site, forwarded, http};

/// A receiver over HTTP, and the sink for it.
async fn receiver() -> (Keeper, String) {
    let address = format!("127.0.0.1:{}", free_port());
    (Keeper::start("--http", &address).await, http(address.parse().unwrap(), ""))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Runs an agent for some events; returns the last position.
async fn run(site: &mut Site, sink: &str, events: usize) -> u64 {
    let agent = site.start(&site.config(sink)).await;
    site.post(events);
    site.recorded().await;
    forwarded(&agent).await;
    let head = agent.head();
    agent.stop().await;
    head
}

/// Nothing is missing, and yet it is not well: the first contradiction is right behind what both histories share.
fn assert_forked(verdict: &Verdict, common: u64) {
    assert_eq!(verdict.code, 1, "{}", verdict.printed);
    assert!(verdict.log.missing.is_empty(), "{}", verdict.printed);
    let first = verdict.printed.lines().find(|line| line.contains("FORK")).unwrap();
    let at: u64 = first.trim().strip_prefix("FORK at ").unwrap().split(':').next().unwrap().parse().unwrap();
    assert!(at > common, "{first}, and up to {common} it is one history");
    assert!(first.contains("a backup was restored, or two gateways share an id"), "{first}");
    let advice = verdict.printed.lines().find(|line| line.contains("move its log away")).unwrap_or_default();
    assert!(advice.contains("gateway_id"), "{}", verdict.printed);
}

#[tokio::test]
async fn a_restored_backup_is_reported_as_a_fork() {
    let (keeper, sink) = receiver().await;
    let mut site = Site::new().await;
    let common = run(&mut site, &sink, 50).await;
    let (data, backup) = (site.dir.path().join("data"), site.dir.path().join("backup"));
    copy(&data, &backup);
    run(&mut site, &sink, 50).await;
    std::fs::remove_dir_all(&data).unwrap();
    copy(&backup, &data);
    run(&mut site, &sink, 70).await;
    assert_forked(&keeper.stop().await, common);
}

#[tokio::test]
async fn a_cloned_gateway_is_reported_as_a_fork() {
    let (keeper, sink) = receiver().await;
    let mut original = Site::new().await;
    let common = run(&mut original, &sink, 50).await;
    let mut clone = Site::new().await;
    copy(&original.dir.path().join("data"), &clone.dir.path().join("data"));
    let one = original.start(&original.config(&sink)).await;
    let other = clone.start(&clone.config(&sink)).await;
    for round in 0..5 {
        original.post(5 + round);
        clone.post(7);
        original.recorded().await;
        clone.recorded().await;
        forwarded(&one).await;
        forwarded(&other).await;
    }
    one.stop().await;
    other.stop().await;
    assert_forked(&keeper.stop().await, common);
}
