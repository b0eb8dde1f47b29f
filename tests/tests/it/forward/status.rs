//! The status of sinks, which must be the same in `/status`, in the metrics and in systemd's status line.

use fieldlog::daemon::status_line;
use fieldlog::verify::{Agreement, verify_against};
use fieldlog_tests::agent::Agent;
use fieldlog_tests::proxy::{Fault, Proxy};
use fieldlog_tests::receiver::Receiver;
use fieldlog_tests::wait::until;

use super::site::{Site, arrived, http};

async fn sink(agent: &Agent) -> serde_json::Value {
    agent.json("/status").await["sinks"][0].clone()
}

fn metric(text: &str, name: &str) -> f64 {
    let line =
        text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_sink_that_is_away_and_comes_back() {
    let receiver = Receiver::http().await;
    let proxy = Proxy::start(receiver.address(), Fault::Refuse).await;
    let mut site = Site::new().await;
    let agent = site.start(&site.config(&http(proxy.address, ""))).await;
    site.post(300);
    site.recorded().await;
    until("a failure", || status_line(&agent.handle).contains("backing off until 20")).await;

    let line = status_line(&agent.handle);
    assert!(
        line.contains("sink cloud backing off until") && line.contains(&proxy.address.to_string()),
        "{line}"
    );
    let (sent, metrics) = (sink(&agent).await, agent.get("/metrics").await);
    let behind = sent["backlog_events"].as_u64().unwrap();
    assert!(behind >= 300 && line.contains(&format!("({behind} events, ")), "{line} {sent}");
    let bytes = sent["backlog_bytes"].as_u64().unwrap();
    assert_eq!(bytes, agent.handle.shared.reader.stored_bytes().unwrap());
    assert!(line.contains(&format!("{bytes} bytes, ")) && line.contains(" s behind, 0.0/s)"), "{line}");
    assert!(sent["backlog_oldest"].is_string() && sent["last_error_at"].is_string(), "{sent}");
    assert_eq!(sent["connected"], false);
    for (name, value) in [
        ("fieldlog_sink_up{", 0.0),
        ("fieldlog_forward_backlog_events{", behind as f64),
        ("fieldlog_forward_backlog_bytes{", bytes as f64),
        ("fieldlog_forward_events_per_second{", 0.0),
    ] {
        assert_eq!(metric(&metrics, name), value, "{name}");
    }
    assert!(metric(&metrics, "fieldlog_forward_backlog_oldest_timestamp_seconds{") > 1e9);
    assert!(metric(&metrics, "fieldlog_sink_last_error_timestamp_seconds{") > 1e9);

    proxy.set(Fault::Pass);
    arrived(&agent, &receiver).await;
    until("a rate", || agent.handle.sinks.views()[0].status.events_per_s() > 0.0).await;
    let (sent, line) = (sink(&agent).await, status_line(&agent.handle));
    assert_eq!((&sent["state"], &sent["backlog_bytes"]), (&"connected".into(), &0.into()), "{sent}");
    assert!(sent["events_per_s"].as_f64().unwrap() > 0.0, "{sent}");
    assert!(
        line.contains("sink cloud connected (nothing behind, ") && line.contains(", last error at 20"),
        "{line}"
    );
    let metrics = agent.get("/metrics").await;
    assert_eq!(metric(&metrics, "fieldlog_sink_state{sink=\"cloud\",state=\"connected\"}"), 1.0);
    assert!(metric(&metrics, "fieldlog_forward_events_per_second{") > 0.0);

    // Compares the log with the receiver's anchor.
    let data_dir = agent.stop().await;
    let (log, _) = receiver.stop().await;
    let anchor = log.anchor.unwrap();
    assert!(log.to_string().contains(&format!("anchor {anchor}\n")), "{log}");
    let report = verify_against(&data_dir, &[anchor]).unwrap();
    assert_eq!(report.anchors, [(anchor, Agreement::Agrees)]);
    let (name, acked, link) = &report.sinks[0];
    assert_eq!((name.as_str(), *acked, *link), ("cloud", anchor.seq, Some(anchor.link)), "{report:?}");
}
