//! The receive window: a broker that fills it at once must not block the agent, and a window smaller than ours must not
//! cost a commit delay each time it fills.

use std::time::Duration;

use fieldlog::config::Config;
use fieldlog_projections::Value;
use fieldlog_sim::broker::{Broker, Options, Qos};
use fieldlog_tests::agent::Agent;
use fieldlog_tests::logbook::Logbook;
use fieldlog_tests::mosquitto::Mosquitto;
use fieldlog_tests::publisher::{Post, Publisher};
use fieldlog_tests::wait::until;
use tempfile::TempDir;

fn config(dir: &TempDir, port: u16, log: &str, source: &str) -> Config {
    let text = format!(
        "gateway_id = \"test\"\ndata_dir = {:?}\n[log]\n{log}\n[http]\nlisten = \"127.0.0.1:0\"\n\
         [[source]]\nname = \"plant\"\naddress = \"mqtt://127.0.0.1:{port}\"\n{source}\n\
         [[source.subscription]]\ntopic = \"t/+device/+attribute\"\ndecoder = \"scalar\"\n",
        dir.path()
    );
    Config::from_toml(&text, "test").unwrap()
}

/// All messages wait at the broker when the window opens. Neither age nor size triggers a commit in time, so each full
/// window must be committed because nothing more can arrive; otherwise both sides would wait.
async fn fill(window: u16, messages: u64) {
    let options = Options { inflight_max: window, record_acks: true, ..Options::default() };
    let broker = Broker::bind("127.0.0.1:0", options).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let log = "commit_delay_ms = 10000\ncommit_bytes_max = 16777216";
    let source = format!("receive_window = {window}\nclient_id = \"window\"");
    let agent = Agent::start(config(&dir, broker.local_addr().port(), log, &source)).await;
    agent.subscribed().await;
    for n in 0..messages {
        broker.publish(&format!("t/d{}/n", n % 1000), n.to_string(), false, Qos::AtLeastOnce).unwrap();
    }
    let full = messages / u64::from(window) * u64::from(window);
    let status = agent.source().status;
    until("the full windows", || status.pubacks.get() >= full).await;
    let [delay, bytes, by_window] = agent.commits();
    assert_eq!((delay, bytes), (0, 0), "{by_window} commits for a full window");
    assert_eq!(by_window, messages / u64::from(window));
    // The rest does not fill a window.
    until("the rest", || status.received_qos1.get() == messages).await;
    let log = Logbook::read(&agent.stop().await);
    assert_eq!(log.changes().count() as u64, messages);
    // A clean stop leaves nothing to redeliver.
    until("the last PUBACKs", || broker.stats().pubacks_in == messages).await;
    let stats = broker.stats();
    assert_eq!((stats.stray_acks, stats.misordered_acks), (0, 0), "{stats:?}");
    broker.shutdown().await;
}

#[tokio::test]
async fn a_window_of_20_is_filled_many_times() {
    fill(20, 20 * 150 + 7).await;
}

#[tokio::test]
async fn a_window_of_1000_is_filled_many_times() {
    fill(1000, 1000 * 20 + 7).await;
}

#[tokio::test]
async fn a_window_of_20000_is_filled_several_times() {
    fill(20_000, 20_000 * 4 + 7).await;
}

/// The limits of a default configuration, which commits by size before such a window is full.
#[tokio::test]
async fn the_largest_window_with_the_default_budget() {
    const MESSAGES: u64 = 90_000;
    let options = Options { inflight_max: 0, ..Options::default() };
    let broker = Broker::bind("127.0.0.1:0", options).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent::start(config(&dir, broker.local_addr().port(), "", "receive_window = 65535")).await;
    agent.subscribed().await;
    for n in 0..MESSAGES {
        broker.publish(&format!("t/d{}/n", n % 1000), n.to_string(), false, Qos::AtLeastOnce).unwrap();
    }
    until("all PUBACKs", || agent.source().status.pubacks.get() == MESSAGES).await;
    let log = Logbook::read(&agent.stop().await);
    assert_eq!(log.changes().count() as u64, MESSAGES);
    broker.shutdown().await;
}

const MESSAGES: u64 = 2000;

/// Without learning the broker's window, every hundredth message would take a commit delay. Three full windows teach
/// it; a busy machine may need some more.
fn assert_learnt(commits: [u64; 3]) {
    println!("commits by delay, bytes, full window: {commits:?}");
    assert!(commits[0] < 50, "{commits:?}");
}

/// Many brokers send 20 messages and then wait, without announcing it.
#[tokio::test]
async fn a_smaller_window_than_ours_is_learnt() {
    let broker =
        Broker::bind("127.0.0.1:0", Options { inflight_max: 20, ..Options::default() }).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir, broker.local_addr().port(), "", "");
    let defaults = (config.sources[0].receive_window, config.log.commit_delay);
    assert_eq!(defaults, (1000, Duration::from_millis(320)));
    let agent = Agent::start(config).await;
    agent.subscribed().await;
    for n in 0..MESSAGES {
        broker.publish(&format!("t/d{}/n", n % 100), n.to_string(), false, Qos::AtLeastOnce).unwrap();
    }
    until("all PUBACKs", || agent.source().status.pubacks.get() == MESSAGES).await;
    let commits = agent.commits();
    assert_learnt(commits);
    assert!(commits[2] >= 50, "{commits:?}");
    let log = Logbook::read(&agent.stop().await);
    assert_eq!(log.changes().count() as u64, MESSAGES);
    broker.shutdown().await;
}

/// mosquitto starts with 20; the rest depends on its version: 2.0.11 sends up to 20 more for each acknowledgement.
#[tokio::test]
async fn a_burst_through_mosquitto_does_not_wait_out_the_delay() {
    for protocol in [4, 5] {
        let Some(mosquitto) = Mosquitto::start("max_inflight_messages 20") else { return };
        let dir = tempfile::tempdir().unwrap();
        let config = config(&dir, mosquitto.port, "", &format!("protocol = {protocol}"));
        let agent = Agent::start(config).await;
        agent.subscribed().await;
        let publisher = Publisher::start(mosquitto.port);
        publisher.post((0..MESSAGES).map(|n| Post::new(format!("t/d{}/n", n % 100), n.to_string())));
        let last = Some(Value::Int(MESSAGES as i64 - 1));
        until("the last message", || agent.value(&format!("d{}", (MESSAGES - 1) % 100), "n") == last).await;
        assert_learnt(agent.commits());
        let log = Logbook::read(&agent.stop().await);
        assert_eq!(log.changes().count() as u64, MESSAGES);
    }
}
