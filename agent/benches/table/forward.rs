//! Forwarding: drains the log of the long run into `fieldlog receive`, and into a server that only counts.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fieldlog_sim::servers::free_port;

use crate::agent::Agent;
use crate::counter::Counter;
use crate::receiver::{Receiver, broker};
use crate::stub::{Feed, Stub};
use crate::{EVENTS, Table, median, record};

/// Nothing listens there, so the source stays disconnected.
const NO_SOURCE: u16 = 1;
/// The large backlog, in events.
const MANY: u64 = 10_000_000;
/// The small one.
const FEW: u64 = 10_000;
/// Messages per second while a backlog drains.
const LIVE_RATE: u64 = 200;
/// Maximum time for a drain, even on a busy machine.
const DRAIN_MAX: Duration = Duration::from_secs(120);

/// Measures with the log of the long run in `data`.
pub fn measure(data: &Path, feed: &Feed, table: &mut Table) {
    rss(&data.join("many"), feed, table);
    let port = free_port();
    let gzip = http_sink("gzip", port, "json", "gzip = true\n");
    drain_http(data, "1 M drained over HTTP, JSON with gzip", port, ("gzip", &gzip), table);
    drain_mqtt(data, "compact", table);
    drain_mqtt(data, "json", table);
    wire(data, table);
    live(data, feed, table);
}

/// A large backlog and a small one on the same log, and a link that comes back.
fn rss(data: &Path, feed: &Feed, table: &mut Table) {
    record(data, feed, MANY);
    let port = free_port();
    let compact = http_sink("compact", port, "compact", "");
    let many = drain_http(data, "10 M drained over HTTP, compact", port, ("compact", &compact), table);
    link_back(data, feed, port, &compact, table);
    let few = drain_few(data, feed, port, &compact);
    let (many, grown) = (many as f64 / 1e6, (many as f64 - few as f64) / 1e6);
    let text = format!("{many:.1} MB, {grown:+.1} MB");
    table.row("peak RSS while 10 M drain, more than for 10 k", text, "± 3 MB", grown.abs() <= 3.0);
}

fn http_sink(name: &str, port: u16, format: &str, more: &str) -> String {
    format!(
        "[[sink]]\nname = \"{name}\"\naddress = \"http://127.0.0.1:{port}/\"\nformat = \"{format}\"\n\
         backoff_max_s = 1\n{more}"
    )
}

/// The whole log from READY to an empty backlog; returns the agent's peak RSS.
fn drain_http(data: &Path, what: &str, port: u16, sink: (&str, &str), table: &mut Table) -> u64 {
    let receiver = Receiver::http(port, false);
    let agent = Agent::start_with(data, NO_SOURCE, 1000, sink.1);
    let (events, took) = drained(&agent, sink.0);
    let usage = agent.usage();
    agent.stop();
    receiver.stop_complete();
    let rate = events as f64 / took.as_secs_f64();
    let cpu = usage.cpu_s * 1e6 / events as f64;
    let text = format!("{rate:.0} events/s, {cpu:.2} µs CPU each");
    table.row(what, text, "≥ 200,000/s", rate >= 200e3);
    usage.peak_rss
}

/// Waits until the sink has everything; returns the amount and the time it took.
fn drained(agent: &Agent, sink: &str) -> (u64, Duration) {
    let begin = Instant::now();
    loop {
        let status = agent.sink(sink);
        // Before the first connection the backlog is unknown and reported as 0.
        let acked = status["events_acked"].as_u64().unwrap_or(0);
        if acked > 0 && status["backlog_events"] == 0 {
            return (acked, begin.elapsed());
        }
        assert!(begin.elapsed() < DRAIN_MAX, "the backlog is not drained: {status}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Records events without a sink, and keeps running.
fn record_unsent(data: &Path, feed: &Feed, events: u64, sinks: &str) -> Agent {
    let stub = Stub::start();
    let agent = Agent::start_with(data, stub.port(), 1000, sinks);
    let before = agent.status()["position"]["applied"].as_u64().unwrap_or(0);
    stub.feed(feed, events);
    agent.wait_for_events(before + events);
    agent
}

/// A receiver that starts late: time from its first accepted connection to the first acknowledged parcel.
fn link_back(data: &Path, feed: &Feed, port: u16, sinks: &str, table: &mut Table) {
    let mut times = Vec::new();
    for _ in 0..3 {
        let agent = record_unsent(data, feed, FEW, sinks);
        // Long enough for the back-off to reach its maximum.
        std::thread::sleep(Duration::from_millis(2500));
        let acked_before = agent.sink("compact")["events_acked"].as_u64();
        assert_eq!(acked_before, Some(0), "nobody was there to acknowledge");
        let receiver = Receiver::http(port, true);
        let begin = Instant::now();
        while agent.sink("compact")["events_acked"] == 0 {
            assert!(begin.elapsed() < DRAIN_MAX, "nothing arrives");
            std::thread::sleep(Duration::from_millis(2));
        }
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        drained(&agent, "compact");
        agent.stop();
        receiver.stop_complete();
    }
    let worst = times.iter().copied().fold(0.0, f64::max);
    let text = format!("{:.0} ms, worst {worst:.0} ms", median(&mut times));
    table.row("first parcel acknowledged once the link is back", text, "≤ 1 s", worst <= 1e3);
}

/// Peak RSS of an agent that starts on the same log with a small backlog.
fn drain_few(data: &Path, feed: &Feed, port: u16, sinks: &str) -> u64 {
    record_unsent(data, feed, FEW, sinks).stop();
    let receiver = Receiver::http(port, true);
    let agent = Agent::start_with(data, NO_SOURCE, 1000, sinks);
    let (events, _) = drained(&agent, "compact");
    assert!((FEW..2 * FEW).contains(&events), "{events} instead of about {FEW}");
    let peak = agent.usage().peak_rss;
    agent.stop();
    receiver.stop_complete();
    peak
}

fn drain_mqtt(data: &Path, format: &str, table: &mut Table) {
    let what = format!("1 M drained over MQTT through mosquitto, {format}");
    let Some(broker) = broker() else {
        table.info(&what, "mosquitto is not installed");
        return;
    };
    let receiver = Receiver::mqtt(broker.port);
    let sink = format!(
        "[[sink]]\nname = \"{format}\"\naddress = \"mqtt://127.0.0.1:{}\"\nformat = \"{format}\"\n",
        broker.port
    );
    let agent = Agent::start_with(data, NO_SOURCE, 1000, &sink);
    let begin = Instant::now();
    let (events, took) = drained(&agent, format);
    while receiver.events() < events {
        assert!(begin.elapsed() < DRAIN_MAX, "the receiver has {} of {events}", receiver.events());
        std::thread::sleep(Duration::from_millis(20));
    }
    let received = events as f64 / begin.elapsed().as_secs_f64();
    agent.stop();
    receiver.stop_complete();
    let rate = events as f64 / took.as_secs_f64();
    let text = format!("{rate:.0} events/s, received {received:.0}/s");
    table.row(&what, text, "≥ 150,000/s", received >= 150e3);
}

/// Bytes sent by the agent, including HTTP headers, with parcels of a backlog.
fn wire(data: &Path, table: &mut Table) {
    let mut sizes = Vec::new();
    for (name, format, more) in
        [("wire1", "json", "gzip = false\n"), ("wire2", "json", "gzip = true\n"), ("wire3", "compact", "")]
    {
        let counter = Counter::start();
        let agent = Agent::start_with(data, NO_SOURCE, 1000, &http_sink(name, counter.port(), format, more));
        let begin = Instant::now();
        while counter.counts().events < EVENTS / 10 {
            assert!(begin.elapsed() < DRAIN_MAX, "nothing arrives");
            std::thread::sleep(Duration::from_millis(10));
        }
        agent.stop();
        let counts = counter.counts();
        sizes.push(format!("{:.1}", counts.bytes as f64 / counts.events as f64));
    }
    table.info("bytes sent per event: JSON, JSON with gzip, compact", sizes.join(", "));
}

/// Fresh events while the backlog drains: their age on arrival.
fn live(data: &Path, feed: &Feed, table: &mut Table) {
    let (stub, counter, stop) = (Stub::start(), Counter::start(), AtomicBool::new(false));
    let sink = http_sink("live", counter.port(), "json", "gzip = false\n");
    let (took, backlog) = std::thread::scope(|scope| {
        let source = scope.spawn(|| stub.trickle(feed, LIVE_RATE, &stop));
        let agent = Agent::start_with(data, stub.port(), 1000, &sink);
        let begin = Instant::now();
        // The rest of the backlog is at most one second of fresh events.
        while agent.sink("live")["connected"] != true
            || agent.sink("live")["backlog_events"].as_u64() > Some(LIVE_RATE)
        {
            if begin.elapsed() > DRAIN_MAX {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let took = begin.elapsed();
        let backlog = agent.sink("live")["events_acked"].as_u64().unwrap_or(0);
        stop.store(true, Ordering::Relaxed);
        source.join().expect("the source");
        agent.stop();
        (took, backlog)
    });
    let mut ages = std::mem::take(&mut counter.counts().live_ms);
    if ages.is_empty() {
        table.info("live events while 1 M drain", "too few to tell");
        return;
    }
    ages.sort_by(f64::total_cmp);
    let p99 = ages[(ages.len() * 99 / 100).min(ages.len() - 1)];
    let text = format!("p99 {p99:.0} ms, p50 {:.0} ms ({} events)", ages[ages.len() / 2], ages.len());
    table.row("live events while 1 M drain: age on arrival", text, "≤ 250 ms", p99 <= 250.0);
    let rate = backlog as f64 / took.as_secs_f64();
    table.info("that backlog beside 200 live events/s, plain JSON", format!("{rate:.0} events/s"));
}
