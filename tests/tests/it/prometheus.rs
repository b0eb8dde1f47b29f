//! What `config/prometheus` and `config/grafana` have, in a real Prometheus that scrapes a demo.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use fieldlog_sim::servers::installed;
use fieldlog_sim::servers::prometheus::PrometheusServer;
use fieldlog_tests::process::Process;
use fieldlog_tests::wait::until_some;
use serde_json::Value;

fn config(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(config(name)).unwrap()
}

/// The expressions of a dashboard, for one instance and an interval as Grafana would choose.
fn expressions(dashboard: &str) -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read(dashboard)).unwrap();
    let targets = dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| {
        let targets = panel["targets"].as_array().unwrap();
        targets.iter().map(|target| target["expr"].as_str().unwrap().to_owned())
    });
    targets.map(|expr| expr.replace("$__rate_interval", "1m").replace("$instance", "any")).collect()
}

/// The names of metrics in expressions, without those of hubs, which a test of the hub knows.
fn names(texts: &str) -> BTreeSet<&str> {
    texts
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("fieldlog_") && !word.starts_with("fieldlog_hub_"))
        .collect()
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn rules_and_dashboards_fit_what_an_agent_says() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Process::demo(&["--fresh", "--port", "0", "--dir", dir.path().to_str().unwrap()]);
    let page = "status page http://127.0.0.1:";
    let port = until_some("the status page", || {
        let printed = demo.printed();
        let (_, rest) = printed.split_once(page)?;
        rest.split_once('/').map(|(port, _)| port.parse::<u16>().unwrap())
    })
    .await;
    let rules = std::fs::canonicalize(config("prometheus/fieldlog.rules.yml")).unwrap();
    let Some(prometheus) = PrometheusServer::start(port, &rules) else { return };

    let json = |path: &str| serde_json::from_str::<Value>(&prometheus.get(path)).unwrap_or_default();
    let query = |expr: &str| json(&format!("/api/v1/query?query={}", encoded(expr)));
    let value = |expr: &str| {
        let answer = query(expr);
        answer["data"]["result"][0]["value"][1].as_str().map(|value| value.parse::<f64>().unwrap())
    };
    // The whole text is accepted: a line that is not would fail the scrape.
    until_some("a scrape", || value("up{job=\"fieldlog\"} == 1")).await;
    let samples = value("scrape_samples_scraped{job=\"fieldlog\"}").unwrap();
    assert!(samples > 150.0, "{samples}");

    let dashboards = ["grafana/gateway.json", "grafana/fleet.json"].map(expressions).concat();
    for expr in &dashboards {
        let answer = query(expr);
        assert_eq!(answer["status"], "success", "{expr}: {answer}");
    }
    let metadata = prometheus.get("/api/v1/label/__name__/values");
    let known: BTreeSet<String> = serde_json::from_str::<Value>(&metadata).unwrap()["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    // Only there while something waits, or once something has failed.
    let seldom = ["fieldlog_forward_backlog_oldest_timestamp_seconds", "fieldlog_mqtt_failures_total"];
    let texts = format!("{} {}", dashboards.join(" "), read("prometheus/fieldlog.rules.yml"));
    let unknown: Vec<&str> =
        names(&texts).into_iter().filter(|name| !known.contains(*name) && !seldom.contains(name)).collect();
    assert!(unknown.is_empty(), "no metrics of the agent: {unknown:?}");

    let groups = until_some("an evaluation of the rules", || {
        let groups = json("/api/v1/rules")["data"]["groups"].as_array()?.clone();
        let rules = || groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
        rules().all(|rule| rule["health"] == "ok").then(|| rules().count())
    });
    assert_eq!(groups.await, read("prometheus/fieldlog.rules.yml").matches("- alert:").count());
}

#[test]
fn each_alert_fires_when_it_should() {
    if !installed("promtool", "--version") {
        return;
    }
    for arguments in [["check", "config", "prometheus.yml"], ["test", "rules", "fieldlog.rules.test.yml"]] {
        let output =
            Command::new("promtool").args(arguments).current_dir(config("prometheus")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
    // Every alert is in a test.
    let tests = read("prometheus/fieldlog.rules.test.yml");
    for line in read("prometheus/fieldlog.rules.yml").lines() {
        let Some((_, alert)) = line.split_once("- alert: ") else { continue };
        assert!(
            tests.contains(&format!("alertname: {alert}"))
                || tests.contains(&format!("alertname=\"{alert}\"")),
            "{alert}"
        );
    }
}
