//! A link that fails all the time, in varying ways.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fieldlog_tests::mosquitto::Mosquitto;
use fieldlog_tests::proxy::{Fault, Proxy};
use fieldlog_tests::receiver::Receiver;
use fieldlog_tests::wait::until;
use fieldlog_wire::ledger::LogReport;

use super::site::{Site, complete, http, position, random, sink};

pub const FLAPPING: Duration = Duration::from_secs(8);

/// A day with a new state of the link every five minutes; `FIELDLOG_FLAPS` makes it longer.
const FLAPS: usize = 288;

/// Lets messages arrive while the link flaps; at the end the receiver must have them all.
pub async fn check(
    receiver: Receiver,
    server: SocketAddr,
    sink: impl Fn(SocketAddr) -> String,
    recomputed: bool,
    in_order: bool,
) -> LogReport {
    let mut rng = random();
    let proxy = Proxy::start(server, Fault::Pass).await;
    let mut site = Site::new().await;
    let agent = site.start(&site.config(&sink(proxy.address))).await;
    tokio::join!(proxy.flap(&mut rng, FLAPPING), site.post_for(FLAPPING));
    site.recorded().await;
    let status = agent.handle.sinks.views()[0].status.clone();
    let (log, _) = complete(agent, receiver).await;
    let connections = status.connections.load(Ordering::Relaxed);
    println!("{connections} connections");
    assert!(connections > 1, "the faults did nothing");
    assert!(!recomputed || log.recomputed == log.contiguous, "{log}");
    assert!(!in_order || log.counts.out_of_order == 0, "{log}");
    log
}

#[tokio::test]
async fn http_with_json() {
    let receiver = Receiver::http().await;
    let server = receiver.address();
    check(receiver, server, |proxy| http(proxy, ""), false, false).await;
}

#[tokio::test]
async fn http_in_strict_order() {
    let receiver = Receiver::http().await;
    let server = receiver.address();
    let sink = |proxy| http(proxy, "order = \"strict\"\nformat = \"compact\"\nparcel_events_max = 20");
    check(receiver, server, sink, true, true).await;
}

/// Priority copies of nearly everything, also lost and repeated.
#[tokio::test]
async fn http_with_priorities() {
    let receiver = Receiver::http().await;
    let server = receiver.address();
    let more = "parcel_events_max = 20\npriority = [\"state_changed\", \"device_discovered\"]";
    check(receiver, server, |proxy| http(proxy, more), false, false).await;
}

#[tokio::test]
async fn mqtt_with_compact() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let receiver = Receiver::mqtt(mosquitto.port).await;
    let server = SocketAddr::from(([127, 0, 0, 1], mosquitto.port));
    let sink = |proxy: SocketAddr| sink(&format!("mqtt://{proxy}"), "format = \"compact\"\nkeep_alive_s = 5");
    check(receiver, server, sink, true, false).await;
}

/// A day of flapping, compressed: the link changes as often and as badly, only faster.
async fn check_day(receiver: Receiver, server: SocketAddr, sink: impl Fn(SocketAddr) -> String) -> String {
    let flaps = std::env::var("FIELDLOG_FLAPS").map_or(FLAPS, |text| text.parse().unwrap());
    let mut rng = random();
    let proxy = Proxy::start(server, Fault::Pass).await;
    let mut site = Site::new().await;
    let agent = site.start(&site.config(&sink(proxy.address))).await;
    for _ in 0..flaps {
        proxy.set(Fault::random(&mut rng));
        site.post(rng.below(30));
        tokio::time::sleep(Duration::from_millis(rng.between(20, 220) as u64)).await;
    }
    proxy.set(Fault::Pass);
    site.recorded().await;
    let status = agent.handle.sinks.views()[0].status.clone();
    let (log, lines) = complete(agent, receiver).await;
    let connections = status.connections.load(Ordering::Relaxed);
    println!("{flaps} changes of the link, {connections} connections, {} records", log.contiguous);
    assert!(connections > flaps as u64 / 50, "{connections} connections: the faults did nothing");
    // Within a lane, each parcel is later than the one before; so are the events of a device.
    assert_eq!(log.counts.out_of_order, 0, "{log}");
    lines
}

#[tokio::test]
async fn a_day_over_mqtt_live_first() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let receiver = Receiver::mqtt(mosquitto.port).await;
    let server = SocketAddr::from(([127, 0, 0, 1], mosquitto.port));
    check_day(receiver, server, |proxy| sink(&format!("mqtt://{proxy}"), "keep_alive_s = 5")).await;
}

#[tokio::test]
async fn a_day_over_http_in_strict_order() {
    let receiver = Receiver::http().await;
    let server = receiver.address();
    let strict = |proxy| http(proxy, "order = \"strict\"\nparcel_events_max = 20");
    let lines = check_day(receiver, server, strict).await;
    let positions: Vec<u64> = lines.lines().map(position).collect();
    assert!(positions.is_sorted(), "lines are not in the order of the log");
}

/// Fresh events do not wait for those recorded while the link was down.
#[tokio::test]
async fn live_events_go_first() {
    let receiver = Receiver::http().await;
    let proxy = Proxy::start(receiver.address(), Fault::Refuse).await;
    let mut site = Site::new().await;
    let more = "parcel_events_max = 50\nbandwidth_bytes_per_s = 200000\nbacklog_share = 0.5";
    let agent = site.start(&site.config(&http(proxy.address, more))).await;
    site.post(3_000);
    site.recorded().await;
    let backlog = agent.head();
    proxy.set(Fault::Pass);
    let begin = Instant::now();
    until("the link", || receiver.newest() > 0).await;
    let first = begin.elapsed();
    site.post(1);
    until("the live event", || receiver.newest() > backlog).await;
    let log = receiver.log().unwrap();
    println!("first parcel after {first:?}, live event after {:?}\n{log}", begin.elapsed());
    assert!(!log.missing.is_empty(), "the backlog was through before the live event came");
    // Back-off ends within a second; the rest is for a busy machine.
    assert!(first < Duration::from_secs(10), "{first:?}");
    complete(agent, receiver).await;
}
