//! The reference of the metrics: what a hub with a gateway, a source and both stores shows on `/metrics`.

use std::path::Path;

use fieldlog_sim::servers::metrics::{check, read};
use fieldlog_sim::servers::postgres::PostgresServer;
use fieldlog_sim::servers::tansu::Tansu;
use fieldlog_sim::servers::wait::until;
use fieldlog_wire::Lane;

use crate::gateway::{Form, Gateway, random};
use crate::hub::Hub;
use crate::kafka::{Topic, client, source};

const HEAD: &str = "# Metrics of the hub

<!-- Made by `FIELDLOG_WRITE=1 cargo test -p fieldlog-hub --test it metrics` of what a hub shows. -->

What `/metrics` of [the hub](hub.md) has for Prometheus, in the OpenMetrics format. A counter only grows, until the process is
restarted. What is said of gateways is the same in every process of a database; all else concerns the process that shows it. Metrics of
sources and stores are there for those that are configured.
";

/// Metrics whose names begin with a word here are in a section of their own.
const SECTIONS: [(&str, &[&str]); 4] = [
    ("Gateways", &["gateway"]),
    ("Parcels and requests", &["parcels", "events", "resend", "commands", "batch"]),
    ("Sources", &["source"]),
    ("Stores", &["store"]),
];

#[tokio::test]
async fn the_reference_of_the_metrics_is_what_a_hub_shows() {
    let Some(postgres) = PostgresServer::start() else { return };
    let Some(kafka) = Tansu::start() else { return };
    let _topic = Topic::create(&client(&kafka).await, "fieldlog").await;
    let stores =
        "[redis]\naddress = \"redis://127.0.0.1:1\"\n[opensearch]\naddress = \"http://127.0.0.1:1\"\n";
    let hub = Hub::with("one", &postgres, &format!("lease_s = 3\n{}{stores}", source(&kafka, "fieldlog")));
    let gateway = Gateway::new("plant", Form::Compact, 3, random());
    hub.take(&gateway.parcel((1, gateway.head()), Lane::Live));
    let shown = || hub.get("/metrics").body;
    until("a value of every metric", || {
        let metrics = read(&shown());
        let without = ["fieldlog_hub_events", "fieldlog_hub_batch_seconds"];
        metrics.iter().all(|metric| !metric.labels.is_empty() || without.contains(&&*metric.name))
    })
    .await;
    let shown = shown();
    assert_eq!(check(&shown).unwrap_or_default(), "", "promtool");

    let metrics = read(&shown);
    let mut text = HEAD.to_owned();
    let mut said = 0;
    for (title, words) in SECTIONS {
        text += &format!("\n## {title}\n\n| metric | type | unit | labels | |\n|---|---|---|---|---|\n");
        for metric in &metrics {
            let first = metric.name.trim_start_matches("fieldlog_hub_").split('_').next().unwrap();
            if words.contains(&first) {
                said += 1;
                text += &metric.row();
            }
        }
    }
    assert_eq!(said, metrics.len(), "a metric has no section here: {metrics:?}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src/hub-metrics.md");
    if std::env::var_os("FIELDLOG_WRITE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let is = std::fs::read_to_string(&path).unwrap_or_default();
    let line = is.lines().zip(text.lines()).find(|(is, ought)| is != ought);
    assert!(
        is == text,
        "docs/src/hub-metrics.md is out of date at {line:?}; write it anew with FIELDLOG_WRITE=1"
    );
}
