//! Prints the figures that fieldlog is held to, measured on this machine: `cargo bench -p fieldlog`; with `-- core`,
//! `-- journal`, `-- index`, `-- past`, `-- forward` or `-- commands` only those about recording, the journal, finding
//! events, past states, forwarding or commands.
//!
//! The agent is the release binary, run as in production. A stub broker in this process feeds it as fast as its window
//! allows; `mosquitto_sub`, fed by the same stub in the same run, is the yardstick for the speed of this machine.

mod agent;
mod commands;
mod counter;
mod formats;
mod forward;
mod index;
mod journal;
mod past;
mod receiver;
mod rollup;
mod stub;
mod yardstick;

use std::time::Duration;

use agent::{Agent, Boot};
use stub::{Feed, Stub};

/// Events of the long run; the log for replay and boot has this many.
const EVENTS: u64 = 1_000_000;

/// The table, printed row by row, so that earlier figures survive an aborted run.
#[derive(Default)]
struct Table {
    missed: u32,
}

impl Table {
    /// A figure with a target.
    fn row(&mut self, what: &str, measured: impl AsRef<str>, target: &str, met: bool) {
        self.missed += u32::from(!met);
        let measured = measured.as_ref();
        println!("{what:<56} {measured:>44}   {target:<14} {}", if met { "met" } else { "NOT MET" });
    }

    /// A figure to know.
    fn info(&mut self, what: &str, measured: impl AsRef<str>) {
        println!("{what:<56} {:>44}", measured.as_ref());
    }
}

fn main() {
    // `cargo test` runs benches with --test; measuring there would only cost time.
    if std::env::args().any(|a| a == "--test" || a == "--list") {
        println!("table: measures only under `cargo bench`");
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let feed = Feed::new(500, 200_000);
    println!(
        "feed: {} devices, {:.0} bytes of JSON per message, 4 values, all of them new",
        500,
        feed.payload_bytes()
    );
    println!(
        "this disk: {} µs for a synced write of 32 KiB; half of a commit's time or more",
        disk_sync_micros(dir.path())
    );
    println!();
    let asked = |part: &str| std::env::args().any(|a| a == part);
    let (core, journal) = (asked("core"), asked("journal"));
    let (index, past) = (asked("index"), asked("past"));
    let (forward, commands) = (asked("forward"), asked("commands"));
    let all = !core && !journal && !index && !past && !forward && !commands;
    let mut table = Table::default();
    if core || all {
        long_run(dir.path(), &feed, &mut table);
        replay(dir.path(), &mut table);
        boots(dir.path(), &mut table);
        rollup::measure(&mut table);
        formats::measure(&mut table);
        memory(&mut table);
        let size = std::fs::metadata(agent::BINARY).map_or(0, |m| m.len());
        table.row("binary, stripped", format!("{:.1} MB", size as f64 / 1e6), "≤ 12 MB", size <= 12_000_000);
    } else if forward {
        record(dir.path(), &feed, EVENTS);
    }
    if journal || all {
        journal::measure(&feed, &mut table);
    }
    if index || all {
        index::measure(&mut table);
    }
    if past || all {
        past::measure(&feed, &mut table);
    }
    if commands || all {
        commands::measure(&feed, &mut table);
    }
    if forward || all {
        forward::measure(dir.path(), &feed, &mut table);
    }
    println!("\n{} not met", table.missed);
}

/// Window 1,000: CPU per event, throughput, memory, bytes.
fn long_run(dir: &std::path::Path, feed: &Feed, table: &mut Table) {
    let mut costs = Vec::new();
    let mut yard = Vec::new();
    // Alternating, so that a machine that slows down slows both.
    for round in 0..3 {
        let data = if round == 0 { dir.to_path_buf() } else { dir.join(format!("round{round}")) };
        let stub = Stub::start();
        let agent = Agent::start(&data, stub.port(), 1000);
        let run = stub.feed(feed, EVENTS);
        agent.wait_for_events(EVENTS);
        let usage = agent.usage();
        let status = agent.status();
        costs.push(usage.cpu_s * 1e6 / EVENTS as f64);
        if round == 0 {
            let rate = EVENTS as f64 / run.as_secs_f64();
            table.row(
                "throughput, window 1,000",
                format!("{rate:.0} events/s"),
                "≥ 300,000/s",
                rate >= 300e3,
            );
            let peak = usage.peak_rss as f64 / 1e6;
            table.row("peak RSS during that run", format!("{peak:.1} MB"), "≤ 20 MB", peak <= 20.0);
            let written = status["log"]["bytes_per_event"].as_f64().unwrap_or(f64::NAN);
            table.info("bytes written to the disk per event", format!("{written:.1}"));
        }
        agent.stop();
        if round == 0 {
            let bytes = agent::blocks_bytes(&data.join("log.redb")) as f64 / EVENTS as f64;
            table.row("log on disk per event", format!("{bytes:.1} bytes"), "≤ 25 bytes", bytes <= 25.0);
        }
        if let Some(cost) = yardstick::mosquitto_sub(feed, EVENTS / 4) {
            yard.push(cost.cpu);
        }
    }
    let cpu = median(&mut costs);
    table.row("CPU per durable event, whole agent", format!("{cpu:.2} µs"), "≤ 2.5 µs", cpu <= 2.5);
    if yard.is_empty() {
        table.info("mosquitto_sub printing the same", "not installed");
    } else {
        let sub = median(&mut yard);
        table.info("mosquitto_sub printing the same", format!("{sub:.2} µs ({:.1} × ours)", sub / cpu));
    }
    let client = yardstick::rumqttc_manual_acks(feed, EVENTS / 4);
    table.info("rumqttc's client, one manual ack each, nothing stored", format!("{client:.2} µs"));
}

/// Records a log of this many events, without measuring.
fn record(dir: &std::path::Path, feed: &Feed, events: u64) {
    let stub = Stub::start();
    let agent = Agent::start(dir, stub.port(), 1000);
    stub.feed(feed, events);
    agent.wait_for_events(events);
    agent.stop();
}

/// How fast the log folds, without a snapshot.
fn replay(dir: &std::path::Path, table: &mut Table) {
    let mut rates = Vec::new();
    let mut cold = 0.0;
    for _ in 0..3 {
        let (events, took) = agent::replay(dir);
        rates.push(events as f64 / took.as_secs_f64());
        cold = events as f64;
    }
    let rate = median(&mut rates);
    table.row("replay", format!("{:.2} M events/s ({cold:.0} events)", rate / 1e6), "≥ 5 M/s", rate >= 5e6);
}

/// Memory that devices and attributes take, without aggregates and with them.
fn memory(table: &mut Table) {
    const DEVICES: usize = 10_000;
    const ATTRIBUTES: usize = 20;
    let resident = |devices: usize, aggregates: &str| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let stub = Stub::start();
        let more = format!("{aggregates}[limits]\nstate_bytes_max = 4000000000\n");
        let agent = Agent::start_with(dir.path(), stub.port(), 1000, &more);
        // Twice, so that each attribute has changed.
        let events = 2 * devices as u64;
        stub.feed(&Feed::wide(devices, ATTRIBUTES), events);
        agent.wait_for_events(events);
        let resident = agent.usage().rss;
        agent.stop();
        resident as f64
    };
    for (aggregates, what) in [
        ("", "with the default aggregates"),
        ("[[aggregates]]\nwindow_s = 86400\nkeep = 1\n", "with one window a day"),
    ] {
        let more = resident(DEVICES, aggregates) - resident(10, aggregates);
        let each = more / (DEVICES * ATTRIBUTES) as f64;
        table.info(
            &format!("memory of {DEVICES} devices of {ATTRIBUTES} numbers, {what}"),
            format!("{:.0} MB, {:.0} bytes per attribute", more / 1e6, each),
        );
    }
}

fn boots(dir: &std::path::Path, table: &mut Table) {
    let check = |boot: Boot, max: u64, target, what, table: &mut Table| {
        let took = boot.took;
        let text = format!("{} ms ({} replayed)", took.as_millis(), boot.replayed);
        table.row(what, text, target, took <= Duration::from_millis(max));
    };
    let clean = Agent::boot(dir);
    check(clean, 200, "≤ 200 ms", "boot after a clean stop, 1 M events", table);
    // The boot above was killed, and nothing was written after its own record, as after a power cut on a quiet gateway.
    // The store is not closed, and the next open checks it.
    let killed = Agent::boot(dir);
    check(killed, 500, "≤ 500 ms", "boot after kill -9, 1 M events", table);
}

/// Median time of a 32 KiB write with fdatasync, the lower bound for a commit.
fn disk_sync_micros(dir: &std::path::Path) -> u128 {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::create(dir.join("sync")).expect("a file");
    let block = vec![7; 32 * 1024];
    let mut times: Vec<u128> = (0..200)
        .map(|n| {
            let begin = std::time::Instant::now();
            file.write_all_at(&block, n % 32 * 32 * 1024)
                .and_then(|()| file.sync_data())
                .expect("a synced write");
            begin.elapsed().as_micros()
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
