//! One run: parcels into an empty PostgreSQL, through one or more hubs, and what that took.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fieldlog_sim::servers::postgres::PostgresServer;

use crate::Table;
use crate::client::{send, send_steadily};
use crate::fleet::Parcels;
use crate::hub::Hub;
use crate::usage::{cpu_seconds, peak_rss};

/// What it took.
pub struct Measured {
    pub postgres: PostgresServer,
    pub hubs: Vec<Hub>,
    pub took: Duration,
    pub hub_cpu_s: f64,
    pub postgres_cpu_s: f64,
    /// Of one hub.
    pub peak_rss: u64,
    /// How long each parcel took, in order of that.
    waits: Vec<Duration>,
}

impl Measured {
    /// As fast as the hubs take it. `lines` are those of their configuration.
    pub async fn of(parcels: &Parcels, hubs: usize, lines: &str) -> Measured {
        Measured::run(parcels, hubs, lines, async |addresses: &[SocketAddr]| {
            send(addresses, parcels).await;
            Vec::new()
        })
        .await
    }

    /// A parcel of each gateway in every period, to one hub.
    pub async fn steady(parcels: &Parcels, period: Duration) -> Measured {
        Measured::run(parcels, 1, "", async |addresses: &[SocketAddr]| {
            send_steadily(addresses[0], parcels, period).await
        })
        .await
    }

    async fn run(
        parcels: &Parcels,
        hubs: usize,
        lines: &str,
        send: impl AsyncFnOnce(&[SocketAddr]) -> Vec<Duration>,
    ) -> Measured {
        let postgres = crate::postgres();
        let mut running = Vec::new();
        for number in 0..hubs {
            running.push(Hub::start(&format!("hub-{number}"), &postgres, lines).await);
        }
        let addresses: Vec<SocketAddr> = running.iter().map(|hub| hub.address).collect();
        let hub_cpu = || running.iter().map(|hub| cpu_seconds(hub.pid())).sum::<f64>();
        let (hub_before, postgres_before) = (hub_cpu(), cpu_seconds(postgres.pid()));
        let begin = Instant::now();
        let mut waits = send(&addresses).await;
        let took = begin.elapsed();
        waits.sort_unstable();
        let hub_cpu_s = hub_cpu() - hub_before;
        let postgres_cpu_s = cpu_seconds(postgres.pid()) - postgres_before;
        let expected = format!("{0}|{0}|0", parcels.events());
        let select = "SELECT (SELECT count(*) FROM fieldlog.events), sum(position),
            count(*) FILTER (WHERE missing::text <> '[]' OR duplicates > 0 OR forked IS NOT NULL) FROM fieldlog.logs";
        assert_eq!(postgres.sql(select).trim(), expected, "each event once");
        let peak_rss = running.iter().map(|hub| peak_rss(hub.pid())).max().unwrap_or_default();
        Measured { postgres, hubs: running, took, hub_cpu_s, postgres_cpu_s, peak_rss, waits }
    }

    pub fn print_cost(&self, table: &mut Table, name: &str, events: f64) {
        let micros = |seconds: f64| seconds * 1e6 / events;
        table.info(
            &format!("{name}: CPU per event, hub + PostgreSQL"),
            &format!("{:.1} + {:.1} µs", micros(self.hub_cpu_s), micros(self.postgres_cpu_s)),
        );
    }

    /// What lies in PostgreSQL.
    pub fn print_rows(&self, table: &mut Table, name: &str, events: f64) {
        let number = |query: &str| self.postgres.sql(query).trim().parse::<f64>().expect("a number");
        let tree = "SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('fieldlog.events') WHERE isleaf";
        let heap = "SELECT sum(pg_table_size(relid)) FROM pg_partition_tree('fieldlog.events') WHERE isleaf";
        let (all, heap) = (number(tree) / events, number(heap) / events);
        table.info(
            &format!("{name}: bytes per event in PostgreSQL, rows + indices"),
            &format!("{heap:.0} + {:.0}", all - heap),
        );
        let windows = number("SELECT count(*) FROM fieldlog.aggregates");
        let bytes = number("SELECT pg_total_relation_size('fieldlog.aggregates')");
        table.info(
            &format!("{name}: windows of aggregates per event, bytes of each"),
            &format!("{:.2}, {:.0}", windows / events, bytes / windows),
        );
    }

    /// The median, the 99th percentile and the longest.
    pub fn latencies(&self) -> String {
        let at = |part: f64| self.waits[((self.waits.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
        format!("{:.0} / {:.0} / {:.0} ms", at(0.5), at(0.99), at(1.0))
    }
}
