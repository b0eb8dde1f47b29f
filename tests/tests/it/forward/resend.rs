//! Gaps that heal: an upstream has acknowledged what it did not keep, and the hub asks the gateway for it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fieldlog_sim::servers::postgres::PostgresServer;
use fieldlog_tests::agent::Agent;
use fieldlog_tests::logbook::Logbook;
use fieldlog_tests::nats::{JETSTREAM, NatsServer};
use fieldlog_tests::process::free_port;
use fieldlog_tests::wait::{until, until_some};
use serde_json::{Value as Json, json};

use super::damaged::damage;
use super::hub::{Hub, assert_tables, rows};
use super::lying::Liar;
use super::site::{Site, forwarded, http, random, sink};

const PATIENCE: &str = "gap_patience_s = 1";

fn complete(postgres: &PostgresServer, head: u64) -> bool {
    rows(postgres, "position, missing", "FROM logs") == [json!([head, []])]
}

/// The gaps as the API shows them.
fn gaps(postgres: &PostgresServer) -> Vec<Json> {
    let shown = rows(postgres, "gaps", "FROM gateway_lag");
    shown.first().map_or_else(Vec::new, |row| row[0].as_array().unwrap().clone())
}

fn positions(gaps: &[Json]) -> BTreeSet<u64> {
    let number = |gap: &Json, end: &str| gap[end].as_u64().unwrap();
    gaps.iter().flat_map(|gap| number(gap, "first")..=number(gap, "last")).collect()
}

async fn posted(site: &mut Site, agent: &Agent, count: usize) {
    site.post(count);
    site.recorded().await;
    forwarded(agent).await;
}

#[tokio::test]
async fn what_a_relay_has_kept_to_itself_is_sent_again_over_http() {
    let Some(postgres) = PostgresServer::start() else { return };
    let mut rng = random();
    let port = free_port();
    let mut hub = Hub::start(&postgres, port, PATIENCE);
    let liar = Liar::start(SocketAddr::from(([127, 0, 0, 1], port)), rng.fork(), 30).await;
    let mut site = Site::new().await;
    let sink = http(liar.address, "format = \"compact\"\nparcel_events_max = 10");
    let agent = site.start(&site.config(&sink)).await;
    for _ in 0..8 {
        posted(&mut site, &agent, rng.between(5, 60)).await;
    }
    let acked = agent.handle.sinks.views()[0].status.details().acked;
    *liar.honest.lock().unwrap() = true;
    let kept = liar.kept.lock().unwrap().clone();
    assert!(!kept.is_empty());
    // A gateway is asked when it sends something. What a hub has asked for, the next one knows.
    for _ in 0..3 {
        site.post_for(Duration::from_millis(rng.between(300, 1_500) as u64)).await;
        hub.kill_and_restart();
    }
    until("tables without gaps", || {
        site.post(1);
        complete(&postgres, agent.head())
    })
    .await;
    site.recorded().await;
    forwarded(&agent).await;
    until("no gaps", || complete(&postgres, agent.head()) && gaps(&postgres).is_empty()).await;
    let view = agent.handle.sinks.views().remove(0);
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    assert!(count(&view.status.resend_requests) > 0);
    assert!(count(&view.status.events_resent) >= kept.len() as u64);
    assert_eq!(count(&view.status.events_acked), agent.head(), "what is sent again is counted apart");
    let details = view.status.details();
    assert_eq!(details.resend_events, 0);
    assert!(details.acked.contiguous() >= acked.contiguous());
    let status = agent.json("/status").await;
    assert_eq!(status["sinks"][0]["events_resent"], count(&view.status.events_resent));
    let epoch = agent.handle.shared.epoch;
    assert_tables(&postgres, "test", epoch, &Logbook::read(&agent.stop().await));
}

#[tokio::test]
async fn what_a_stream_has_lost_is_sent_again_over_nats() {
    let Some(postgres) = PostgresServer::start() else { return };
    let Some(server) = NatsServer::start(JETSTREAM) else { return };
    let address = format!("nats://127.0.0.1:{}", server.port);
    let mut site = Site::new().await;
    let lines = "create_stream = true\nparcel_events_max = 20\n[sink.commands]\n";
    let agent = site.start(&site.config(&sink(&address, lines))).await;
    posted(&mut site, &agent, 100).await;
    let jetstream = async_nats::jetstream::new(async_nats::connect(&address).await.unwrap());
    let mut stream = jetstream.get_stream("FIELDLOG").await.unwrap();
    // It remembers the ids of what is gone, and drops what comes again with one of them.
    let last = stream.info().await.unwrap().state.last_sequence;
    for sequence in 1..last {
        stream.delete_message(sequence).await.unwrap();
    }
    let hub = format!("{PATIENCE}\n[[nats]]\naddress = \"{address}\"");
    let _hub = Hub::start(&postgres, free_port(), &hub);
    until("the tables", || !postgres.sql("SELECT to_regclass('fieldlog.logs')").trim().is_empty()).await;
    let head = agent.head();
    until("tables without gaps", || complete(&postgres, head) && gaps(&postgres).is_empty()).await;
    let view = agent.handle.sinks.views().remove(0);
    assert_eq!(view.status.resend_requests.load(Ordering::Relaxed), 1, "once is enough");
    // Live events still go their way behind what was sent again.
    posted(&mut site, &agent, 20).await;
    let head = agent.head();
    until("the newest events", || complete(&postgres, head)).await;
    let epoch = agent.handle.shared.epoch;
    assert_tables(&postgres, "test", epoch, &Logbook::read(&agent.stop().await));
}

#[tokio::test]
async fn what_the_gateway_does_not_have_any_more_is_lost() {
    const MIB: usize = 1 << 20;
    let Some(postgres) = PostgresServer::start() else { return };
    let mut rng = random();
    let port = free_port();
    let _hub = Hub::start(&postgres, port, PATIENCE);
    let liar = Liar::start(SocketAddr::from(([127, 0, 0, 1], port)), rng.fork(), 30).await;
    let mut site = Site::new().await;
    let sink = http(liar.address, "parcel_events_max = 50");
    let room = |bytes: usize| {
        format!(
            "[retention]\nbytes_max = {bytes}\nhistory_min_s = 0\nfree_bytes_min = 0\n[snapshots]\nevents = 1000\n{sink}"
        )
    };
    let agent = site.start(&site.config(&room(100 * MIB))).await;
    for _ in 0..10 {
        site.post_bytes(&mut rng, MIB / 4);
        site.recorded().await;
        forwarded(&agent).await;
    }
    agent.reload(site.config(&room(MIB))).await;
    let mut kept = liar.kept.lock().unwrap().clone();
    until("a trimmed log", || {
        site.post(1);
        agent.first().0 > *kept.first().unwrap()
    })
    .await;
    site.recorded().await;
    forwarded(&agent).await;
    kept.extend(liar.kept.lock().unwrap().iter());
    *liar.honest.lock().unwrap() = true;
    let lost = until_some("what is lost, and nothing else", || {
        site.post(1);
        let gaps = gaps(&postgres);
        (!gaps.is_empty() && gaps.iter().all(|gap| gap["state"] == "lost")).then_some(gaps)
    })
    .await;
    assert!(positions(&lost).is_subset(&kept) && positions(&lost).iter().all(|seq| *seq < agent.first().0));
    let why = lost[0]["why"].as_str().unwrap();
    assert!(
        why.starts_with("the gateway does not have it any more; the first that it still has is "),
        "{why}"
    );
    let asks = |gaps: &[Json]| gaps.iter().map(|gap| gap["asks"].as_u64().unwrap()).collect::<Vec<_>>();
    let before = asks(&lost);
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        site.post(1);
    }
    assert_eq!(asks(&gaps(&postgres)), before, "it is not asked for again");
    site.recorded().await;
    forwarded(&agent).await;
    let head = agent.head();
    until("everything else", || {
        rows(&postgres, "newest, lag_events", "FROM gateway_lag") == [json!([head, 0])]
    })
    .await;
    agent.stop().await;
}

/// A damaged chunk stops a sink in strict order when its turn comes, and not when it is only asked for again.
#[tokio::test]
async fn what_is_damaged_stays_missing_and_stops_nothing() {
    let Some(postgres) = PostgresServer::start() else { return };
    let mut rng = random();
    let port = free_port();
    let _hub = Hub::start(&postgres, port, PATIENCE);
    let liar = Liar::start(SocketAddr::from(([127, 0, 0, 1], port)), rng.fork(), 100).await;
    let mut site = Site::new().await;
    let config = site.config(&http(liar.address, "order = \"strict\"\nparcel_events_max = 10"));
    let agent = site.start(&config).await;
    site.post_bytes(&mut rng, 300_000);
    site.recorded().await;
    forwarded(&agent).await;
    agent.stop().await;
    let (first, last) = damage(&site.data_dir());
    *liar.honest.lock().unwrap() = true;
    let agent = site.start(&config).await;
    until("everything that can be read", || {
        site.post(1);
        let gaps = gaps(&postgres);
        positions(&gaps) == (first..=last).collect() && gaps.iter().all(|gap| gap["state"] == "asked")
    })
    .await;
    site.recorded().await;
    forwarded(&agent).await;
    agent.stop().await;
}
