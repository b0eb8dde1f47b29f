//! Prints what the hub can do, measured on this machine: `cargo bench -p fieldlog-hub`; with `-- events`, `-- quiet`,
//! `-- lag`, `-- memory`, `-- stores`, `-- rebuild` or `-- cost` only that.
//!
//! Hubs and PostgreSQL are real processes, run as in production; the parcels are those of gateways, made before they are
//! sent. All run on one machine and share its processors with the client that sends.

mod client;
mod fleet;
mod hub;
mod limits;
mod measured;
mod stores;
mod usage;

use std::time::{Duration, Instant};

use fieldlog_sim::servers::postgres::PostgresServer;

use fleet::{Fleet, Kind};
use measured::Measured;
use usage::cpu_seconds;

/// Events of most rows.
const EVENTS: usize = 1_000_000;
/// How long the rows with a given rate take.
const STEADY: Duration = Duration::from_secs(40);
/// What differs from the settings that PostgreSQL has by itself.
const SETTINGS: [&str; 4] =
    ["shared_buffers=1GB", "max_wal_size=8GB", "checkpoint_timeout=15min", "wal_compression=lz4"];

/// The table, printed row by row, so that earlier figures survive an aborted run.
#[derive(Default)]
pub struct Table {
    missed: u32,
}

impl Table {
    /// A figure with a target.
    pub fn row(&mut self, what: &str, measured: &str, target: &str, met: bool) {
        self.missed += u32::from(!met);
        println!("{what:<66} {measured:>48}   {target:<12} {}", if met { "met" } else { "NOT MET" });
    }

    /// A figure to know.
    pub fn info(&mut self, what: &str, measured: &str) {
        println!("{what:<66} {measured:>48}");
    }
}

fn main() {
    // `cargo test` runs benches with --test; measuring there would only cost time.
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        println!("table: measures only under `cargo bench`");
        return;
    }
    let asked: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |row: &str| asked.is_empty() || asked.iter().any(|asked| asked == row);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    println!("PostgreSQL with fsync and synchronous_commit on, and {}", SETTINGS.join(", "));
    println!("{}\n", fleet::describe());
    let mut table = Table::default();
    runtime.block_on(async {
        if wanted("events") {
            events(&mut table, Kind::Busy).await;
        }
        if wanted("quiet") {
            events(&mut table, Kind::Quiet).await;
        }
        if wanted("lag") {
            lag(&mut table).await;
        }
        if wanted("memory") {
            memory(&mut table).await;
        }
        if wanted("stores") {
            stores::measure(&mut table).await;
        }
        if wanted("rebuild") {
            rebuild(&mut table).await;
        }
        if wanted("cost") {
            cost(&mut table).await;
        }
    });
    println!("\n{} not met", table.missed);
}

/// A PostgreSQL with nothing in it.
pub fn postgres() -> PostgresServer {
    PostgresServer::with(&SETTINGS).expect("PostgreSQL (apt install postgresql)")
}

/// How fast a backlog goes into PostgreSQL, and what is left of that without a hub.
async fn events(table: &mut Table, kind: Kind) {
    let parcels = Fleet::new(kind).parcels(EVENTS, fleet::PARCEL_EVENTS);
    let events = parcels.events() as f64;
    for hubs in [1, 2] {
        let measured = Measured::of(&parcels, hubs, "").await;
        let name = format!("{} with {hubs} hub{}", kind.name(), if hubs == 1 { "" } else { "s" });
        let what = format!("{name}: events, state and aggregates into PostgreSQL");
        let rate = events / measured.took.as_secs_f64();
        let text = format!("{rate:.0} events/s");
        match kind {
            Kind::Busy => table.row(&what, &text, "≥ 100,000/s", rate >= 100e3),
            Kind::Quiet => table.info(&what, &text),
        }
        measured.print_cost(table, &name, events);
        if hubs == 1 {
            measured.print_rows(table, &name, events);
        }
    }
    if kind == Kind::Busy {
        limits::measure(table, &parcels).await;
    }
}

/// How long an event takes to its commit at 20,000 events a second.
async fn lag(table: &mut Table) {
    const RATE: usize = 20_000;
    let mut fleet = Fleet::new(Kind::Busy);
    // A parcel of each gateway every half second.
    let each = RATE / 2 / fleet.gateways();
    let parcels = fleet.parcels(RATE * STEADY.as_secs() as usize, each);
    let measured = Measured::steady(&parcels, Duration::from_millis(500)).await;
    let name = format!("{RATE} events/s for {} s, a parcel each 0.5 s", STEADY.as_secs());
    table.info(&format!("{name}: from sending to the answer, p50 / p99 / max"), &measured.latencies());
    measured.print_cost(table, &name, parcels.events() as f64);
}

/// That the hub's memory does not grow with what it has stored.
async fn memory(table: &mut Table) {
    for millions in [1, 5] {
        let parcels = Fleet::new(Kind::Busy).parcels(millions * 1_000_000, fleet::PARCEL_EVENTS);
        let measured = Measured::of(&parcels, 1, "").await;
        let what = format!("peak memory of a hub, {millions} M events");
        table.info(&what, &format!("{:.0} MB", measured.peak_rss as f64 / 1e6));
    }
}

/// How long it takes to make the tables anew.
async fn rebuild(table: &mut Table) {
    const MILLIONS: usize = 10;
    let parcels = Fleet::new(Kind::Busy).parcels(MILLIONS * 1_000_000, fleet::PARCEL_EVENTS);
    let measured = Measured::of(&parcels, 1, "").await;
    let hub = &measured.hubs[0];
    let before = cpu_seconds(measured.postgres.pid());
    let begin = Instant::now();
    hub.rebuild("postgres");
    let (took, cpu) = (begin.elapsed().as_secs_f64(), cpu_seconds(measured.postgres.pid()) - before);
    let events = parcels.events() as f64;
    let (rate, cpu) = (events / took, cpu * 1e6 / events);
    table.info(
        &format!("the tables of {MILLIONS} M events made anew beside those in use"),
        &format!("{took:.0} s, {rate:.0} events/s, {cpu:.1} µs of PostgreSQL"),
    );
}

/// What many quiet gateways cost that send what they have every second.
async fn cost(table: &mut Table) {
    let gateways = Fleet::new(Kind::Quiet).gateways();
    for (period_s, each) in [(1, 1), (10, 10)] {
        let parcels = Fleet::new(Kind::Quiet).parcels(gateways * STEADY.as_secs() as usize, each);
        let measured = Measured::steady(&parcels, Duration::from_secs(period_s)).await;
        let name = format!("{gateways} gateways at 1 event/s, a parcel each {period_s} s");
        measured.print_cost(table, &name, parcels.events() as f64);
        let processors = (measured.hub_cpu_s + measured.postgres_cpu_s) / measured.took.as_secs_f64();
        table.info(&format!("{name}: of one processor"), &format!("{:.1} %", processors * 100.0));
        table.info(&format!("{name}: p50 / p99 / max to the answer"), &measured.latencies());
    }
}
