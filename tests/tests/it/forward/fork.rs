//! Two histories with one identity, and the receiver's report on them.

use std::path::Path;

use fieldlog::forward::status::SinkState;
use fieldlog_tests::agent::Agent;
use fieldlog_tests::process::free_port;
use fieldlog_tests::wait::until;

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

fn sink_state(agent: &Agent) -> SinkState {
    agent.handle.sinks.views()[0].status.details().state
}

/// Waits until the agent knows that its receiver has another history, and checks the operator's view.
async fn forked(agent: &Agent, common: u64) {
    until("a fork", || sink_state(agent).label() == "forked").await;
    let view = agent.handle.sinks.views().remove(0);
    let words = view.summary(&agent.handle.shared.reader, fieldlog::clock::Clock::system().wall());
    for part in ["forked: the receiver has another history", "409", "gateway_id", "move its log away"] {
        assert!(words.contains(part), "{part}: {words}");
    }
    let details = view.status.details();
    // It does not count as delivered, so that retention keeps it.
    assert!(
        details.acked.contiguous().0 <= common && details.acked.contiguous().0 < agent.head(),
        "{details:?}"
    );
    assert_eq!(details.last_error.unwrap().why, details.state.waiting().unwrap().1);
}

/// Nothing is missing, but the report shows a fork: the first contradiction is right after the common part.
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
    let agent = site.start(&site.config(&sink)).await;
    site.post(70);
    site.recorded().await;
    forked(&agent, common).await;
    // It is tried again and stays forked; the receiver reports it once.
    let until_when = sink_state(&agent).waiting().unwrap().0;
    until("a further attempt", || sink_state(&agent).waiting().is_some_and(|(at, _)| at > until_when)).await;
    assert_eq!(sink_state(&agent).label(), "forked");
    agent.stop().await;
    let verdict = keeper.stop().await;
    assert_forked(&verdict, common);
    assert_eq!(verdict.log.counts.faults, 1, "{}", verdict.printed);
    assert!(verdict.printed.contains("parcels were refused, as they are of another history"));
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
    }
    // The first history is not affected.
    let has_all =
        |agent: &Agent| agent.handle.sinks.views()[0].status.details().acked.contiguous().0 == agent.head();
    until("one of them delivered", || has_all(&one) || has_all(&other)).await;
    forked(if has_all(&one) { &other } else { &one }, common).await;
    one.stop().await;
    other.stop().await;
    assert_forked(&keeper.stop().await, common);
}
