//! The agent stops during a backlog and continues from its cursor.

use std::time::Duration;

use fieldlog_tests::process::Process;
use fieldlog_tests::proxy::{Fault, Proxy};
use fieldlog_tests::receiver::Receiver;
use fieldlog_tests::wait::until;

use super::site::{Site, complete, http};

const BACKLOG: usize = 3_000;
const PARCEL: u64 = 50;
const STOPS: u64 = 3;
/// In each direction, so that there is nearly always a parcel in flight.
const DELAY: Duration = Duration::from_millis(40);

/// Slow enough that a backlog takes a while.
fn more() -> String {
    format!("parcel_events_max = {PARCEL}\nbandwidth_bytes_per_s = 300000")
}

#[tokio::test]
async fn stopped_and_started() {
    let receiver = Receiver::http().await;
    let proxy = Proxy::start(receiver.address(), Fault::Refuse).await;
    let mut site = Site::new().await;
    let config = site.config(&http(proxy.address, &more()));
    let agent = site.start(&config).await;
    site.post(BACKLOG);
    site.recorded().await;
    proxy.set(Fault::Delay(DELAY));
    let mut running = Some(agent);
    for part in 1..=STOPS {
        let agent = match running.take() {
            Some(agent) => agent,
            None => site.start(&config).await,
        };
        until("a part of the backlog", || receiver.handle.events() > part * BACKLOG as u64 / 5).await;
        agent.stop().await;
        assert!((receiver.handle.events() as usize) < BACKLOG, "too fast to be stopped in between");
    }
    let agent = site.start(&config).await;
    let (log, _) = complete(agent, receiver).await;
    assert_eq!((log.counts.duplicate_events, log.counts.duplicate_parcels), (0, 0), "{log}");
}

/// A reconfigured sink continues where it was, even if its cursor still waits for a commit.
#[tokio::test]
async fn reconfigured() {
    let receiver = Receiver::http().await;
    let proxy = Proxy::start(receiver.address(), Fault::Refuse).await;
    let mut site = Site::new().await;
    let config = |events: u64| {
        site.config(&http(
            proxy.address,
            &format!("parcel_events_max = {events}\nbandwidth_bytes_per_s = 300000"),
        ))
    };
    let configs: Vec<_> = (0..=STOPS).map(|n| config(PARCEL + n)).collect();
    let agent = site.start(&configs[0]).await;
    site.post(BACKLOG);
    site.recorded().await;
    proxy.set(Fault::Delay(DELAY));
    for (part, config) in (1..).zip(&configs[1..]) {
        until("a part of the backlog", || receiver.handle.events() > part * BACKLOG as u64 / 5).await;
        assert!((receiver.handle.events() as usize) < BACKLOG, "too fast to be changed in between");
        agent.reload(config.clone()).await;
    }
    let (log, _) = complete(agent, receiver).await;
    assert_eq!((log.counts.duplicate_events, log.counts.duplicate_parcels), (0, 0), "{log}");
}

#[tokio::test]
async fn killed() {
    let receiver = Receiver::http().await;
    let mut site = Site::new().await;
    let text = site.text(&http(receiver.address(), &more()));
    let path = site.dir.path().join("fieldlog.toml");
    std::fs::write(&path, &text).unwrap();
    // The session must exist before the first message, or that one is lost.
    site.start(&site.config("")).await.stop().await;
    for kill in 1..=4 {
        let process = Process::run(&path, &[]);
        site.post(600);
        until("a part of the messages", || receiver.handle.events() > kill * 400).await;
        assert_eq!(process.kill().code, -9);
    }
    let agent = site.start(&site.config(&http(receiver.address(), &more()))).await;
    site.recorded().await;
    complete(agent, receiver).await;
}
