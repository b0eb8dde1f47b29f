//! The reference of the metrics: what an agent with a device, a sink and a Sparkplug host shows on `/metrics`.

use std::fmt::Write;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;

use fieldlog::clock::Clock;
use fieldlog::config::Config;
use fieldlog::run::{self, Controls, Event};
use fieldlog_sim::broker::{Broker, Options, Qos};
use fieldlog_sim::servers::metrics::{check, read};
use fieldlog_sim::servers::wait::block_until;
use tokio::sync::{mpsc, watch};

const HEAD: &str = "# Metrics

<!-- Made by `FIELDLOG_WRITE=1 cargo test -p fieldlog --test book` of what an agent shows. -->

What `/metrics` has for Prometheus, in the OpenMetrics format. [Look at it](look.md#prometheus-and-grafana) says how to scrape it.
A counter only grows, until the agent is restarted. Times are Unix times. Metrics of Sparkplug are there if a source has
`[source.sparkplug]`, those of sinks if there is a sink. Some have no value at times: what is not known is left out.
";

/// Metrics whose names begin with a word here are in a section of their own.
const SECTIONS: [(&str, &[&str]); 10] = [
    ("Sources", &["mqtt", "source"]),
    ("Messages", &["ingest", "messages"]),
    ("Sparkplug", &["sparkplug"]),
    ("Log and disk", &["log", "store", "journal", "archive"]),
    (
        "State",
        &["devices", "device", "attribute", "descriptions", "state", "projection", "fold", "aggregates"],
    ),
    ("Snapshots", &["snapshot", "snapshots"]),
    ("Commands", &["commands", "command"]),
    ("Alerts", &["alerts", "notifications", "notification"]),
    ("Sinks", &["sink", "forward"]),
    ("Agent and process", &["build", "start", "writer", "process"]),
];

/// Samples that are there only after something has happened.
const LATE: [&str; 6] = [
    "alerts_raised_total{",
    "mqtt_failures_total{",
    "attribute_info{",
    "sink_waiting_until_timestamp_seconds{",
    "sink_last_error_timestamp_seconds{",
    "forward_backlog_oldest_timestamp_seconds{",
];

pub fn page() -> String {
    let shown = scrape();
    assert_eq!(check(&shown).unwrap_or_default(), "", "promtool");
    let metrics = read(&shown);
    let mut text = HEAD.to_owned();
    let mut said = 0;
    for (title, words) in SECTIONS {
        writeln!(text, "\n## {title}\n\n| metric | type | unit | labels | |\n|---|---|---|---|---|").unwrap();
        for metric in &metrics {
            let first = metric.name.trim_start_matches("fieldlog_").split('_').next().unwrap();
            if words.contains(&first) {
                said += 1;
                text += &metric.row();
            }
        }
    }
    let names: Vec<&str> = metrics.iter().map(|metric| &*metric.name).collect();
    assert_eq!(said, metrics.len(), "a metric has no section here: {names:?}");
    text
}

/// What the agent shows once everything has a value that can have one.
fn scrape() -> String {
    // The broker and the agent have a thread each, as this one waits for answers.
    let (bound, broker) = channel();
    std::thread::spawn(move || {
        fieldlog::daemon::runtime().unwrap().block_on(async {
            let broker = Arc::new(Broker::bind("127.0.0.1:0", Options::default()).await.unwrap());
            bound.send(broker.clone()).unwrap();
            std::future::pending::<()>().await;
        });
    });
    let broker = broker.recv().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), broker.local_addr());
    let (stop, shutdown) = watch::channel(false);
    let (_reload, reload) = mpsc::channel(1);
    let (ready, is_ready) = channel();
    let report = move |event: Event| {
        if let Event::Ready(handle) = event {
            ready.send(handle.http.unwrap()).unwrap();
        }
    };
    let agent = std::thread::spawn(move || {
        let controls = Controls { shutdown, reload };
        fieldlog::daemon::runtime().unwrap().block_on(run::run(config, Clock::system(), controls, report))
    });
    let address = is_ready.recv().unwrap();
    let text = block_until("a value of every metric", || {
        broker.publish("wled/lamp/g", "7", true, Qos::AtLeastOnce).unwrap();
        let text = get(address);
        let has = |metric: &&str| {
            text.lines()
                .any(|line| line.strip_prefix("fieldlog_").is_some_and(|line| line.starts_with(*metric)))
        };
        LATE.iter().all(has).then(|| text.clone())
    });
    stop.send_replace(true);
    agent.join().unwrap().unwrap();
    text
}

fn config(data_dir: &Path, broker: SocketAddr) -> Config {
    let text = format!(
        r#"
        gateway_id = "book"
        data_dir = {data_dir:?}
        [http]
        listen = "127.0.0.1:0"
        [[source]]
        name = "home"
        address = "mqtt://{broker}"
        [[source.subscription]]
        preset = "wled"
        [[source.describe]]
        name = "Lamp"
        area = "Hall"
        model = "M"
        manufacturer = "E"
        [[source.describe]]
        attributes = ["brightness"]
        name = "Light"
        unit = "lx"
        device_class = "illuminance"
        [[source]]
        name = "plant"
        address = "mqtt://{broker}"
        [source.sparkplug]
        [[source]]
        name = "away"
        address = "mqtt://127.0.0.1:1"
        [[source.subscription]]
        preset = "wled"
        [[sink]]
        name = "cloud"
        address = "mqtt://127.0.0.1:1"
        [[alert]]
        name = "dark"
        on = "attribute"
        attribute = "brightness"
        below = 1000.0
        [[notify]]
        name = "broker"
        mqtt = "home"
        "#
    );
    Config::from_toml(&text, "book").unwrap_or_else(|faults| panic!("{faults}"))
}

fn get(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}
