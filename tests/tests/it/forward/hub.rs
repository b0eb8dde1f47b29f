//! From the broker through the agent and its HTTP sink into the tables of a real PostgreSQL.

use std::process::{Command, Stdio};
use std::time::Duration;

use fieldlog_projections::Epoch;
use fieldlog_sim::servers::Process;
use fieldlog_sim::servers::postgres::PostgresServer;
use fieldlog_tests::binary;
use fieldlog_tests::logbook::Logbook;
use fieldlog_tests::process::free_port;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::site::{Site, forwarded, random, sink};

/// A hub as a process; killed when dropped.
pub struct Hub {
    dir: TempDir,
    process: Process,
}

impl Hub {
    /// Starts one on a port, with these lines in its configuration.
    pub fn start(postgres: &PostgresServer, port: u16, lines: &str) -> Hub {
        let dir = tempfile::tempdir().unwrap();
        let config = format!(
            "name = \"hub\"\n{lines}\n[http]\nlisten = \"127.0.0.1:{port}\"\n[postgres]\naddress = \"{}\"\n",
            postgres.address()
        );
        std::fs::write(dir.path().join("hub.toml"), config).unwrap();
        let process = spawn(&dir);
        Hub { dir, process }
    }

    /// SIGKILL, and another one on the same port.
    pub fn kill_and_restart(&mut self) {
        self.process.kill();
        self.process = spawn(&self.dir);
    }
}

fn spawn(dir: &TempDir) -> Process {
    let mut command = Command::new(binary::fieldlog_hub());
    command.args(["run", "--config"]).arg(dir.path().join("hub.toml"));
    Process(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// The rows of a query, each as a JSON array of its columns.
pub fn rows(postgres: &PostgresServer, columns: &str, rest: &str) -> Vec<Json> {
    let query = format!("SET search_path TO fieldlog; SELECT json_build_array({columns}) {rest}");
    postgres.sql(&query).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Checks that the tables have all of a gateway's log, and what it folds to.
pub fn assert_tables(postgres: &PostgresServer, gateway: &str, epoch: Epoch, log: &Logbook) {
    let head = log.records.len();
    let account = rows(
        postgres,
        "epoch, position, newest, events, missing, forked",
        &format!("FROM logs WHERE gateway = '{gateway}'"),
    );
    assert_eq!(account, [json!([epoch.to_string(), head, head, head, [], null])]);
    let stored = rows(
        postgres,
        "seq, extract(epoch FROM recorded)::text",
        &format!("FROM gateway_events WHERE gateway = '{gateway}' ORDER BY seq"),
    );
    assert_eq!(stored.len(), head);
    for (row, (seq, time, _)) in stored.iter().zip(&log.records) {
        let recorded = format!("{}.{:06}", time.0 / 1_000_000, time.0 % 1_000_000);
        assert_eq!(*row, json!([seq, recorded]));
    }
    let states: Vec<Json> = log
        .state()
        .into_iter()
        .flat_map(|(device, attributes)| attributes.into_iter().map(move |found| (device, found)))
        .map(|(device, (attribute, value))| json!([device, attribute, value.borrow().as_number().unwrap()]))
        .collect();
    let number = |row: Json| json!([row[0], row[1], row[2].as_f64()]);
    let found = rows(
        postgres,
        "device, attribute, number",
        &format!(
            "FROM current_state WHERE gateway = '{gateway}' ORDER BY device COLLATE \"C\", attribute COLLATE \"C\""
        ),
    );
    assert_eq!(found.into_iter().map(number).collect::<Vec<_>>(), states);
    let changes = log.changes().count();
    let counted = rows(
        postgres,
        "length_s, sum(count)",
        &format!("FROM gateway_aggregates WHERE gateway = '{gateway}' GROUP BY length_s ORDER BY length_s"),
    );
    assert_eq!(counted, [60, 3_600, 86_400].map(|length_s| json!([length_s, changes])));
}

#[tokio::test]
async fn the_tables_of_a_killed_hub_are_the_log() {
    let Some(postgres) = PostgresServer::start() else { return };
    let mut rng = random();
    for format in ["json", "compact"] {
        let port = free_port();
        let mut hub = Hub::start(&postgres, port, "");
        let mut site = Site::new().await;
        let lines = format!("format = \"{format}\"\nparcel_events_max = 20");
        let text = site.text(&sink(&format!("http://127.0.0.1:{port}/events"), &lines));
        let text = text.replace("\"test\"", &format!("\"{format}\""));
        let config = fieldlog::config::Config::from_toml(&text, "test").unwrap();
        let agent = site.start(&config).await;
        for _ in 0..6 {
            site.post_for(Duration::from_millis(300)).await;
            // Some parcels are under way.
            site.post(rng.between(50, 300));
            tokio::time::sleep(Duration::from_millis(rng.below(200) as u64)).await;
            hub.kill_and_restart();
        }
        site.post(10);
        site.recorded().await;
        forwarded(&agent).await;
        let epoch = agent.handle.shared.epoch;
        let log = Logbook::read(&agent.stop().await);
        assert_tables(&postgres, format, epoch, &log);
    }
}
