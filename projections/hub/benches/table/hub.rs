//! A hub under measurement: the binary in a process of its own.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use fieldlog_sim::servers::postgres::PostgresServer;
use fieldlog_sim::servers::{Process, free_port};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LOOK_EVERY: Duration = Duration::from_millis(20);
const BINARY: &str = env!("CARGO_BIN_EXE_fieldlog-hub");

/// Killed when dropped.
pub struct Hub {
    process: Process,
    dir: TempDir,
    pub address: SocketAddr,
}

impl Hub {
    /// Starts one with these lines at the end of its configuration, and waits until it can store.
    pub async fn start(name: &str, postgres: &PostgresServer, lines: &str) -> Hub {
        let (dir, port) = (tempfile::tempdir().expect("a directory"), free_port());
        let text = format!(
            "name = \"{name}\"\n[http]\nlisten = \"127.0.0.1:{port}\"\n[postgres]\naddress = \"{}\"\n{lines}",
            postgres.address()
        );
        let config = dir.path().join("hub.toml");
        std::fs::write(&config, text).expect("a configuration");
        let mut command = Command::new(BINARY);
        command.args(["--log", "warn", "run", "--config"]).arg(&config).stdout(Stdio::null());
        let process = Process(command.spawn().expect("the hub"));
        let hub = Hub { process, dir, address: SocketAddr::from(([127, 0, 0, 1], port)) };
        while hub.get("/readyz").await.is_none_or(|(status, _)| status != 200) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        hub
    }

    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Makes a store begin anew.
    pub fn rebuild(&self, store: &str) {
        let config = self.dir.path().join("hub.toml");
        let status =
            Command::new(BINARY).args(["rebuild", "--store", store, "--config"]).arg(config).status();
        assert!(status.expect("the hub").success());
    }

    /// Waits until a store has all events in this generation.
    pub async fn follow(&self, store: &str, generation: u64) {
        let is_live = |item: &Value| {
            let is_done = item["state"] == "live" && item["lag_events"] == 0;
            item["store"] == store && item["generation"] == generation && is_done
        };
        loop {
            let (_, stores) = self.get("/api/v1/stores").await.expect("an answer");
            if stores["items"].as_array().expect("the stores").iter().any(is_live) {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn get(&self, path: &str) -> Option<(u16, Value)> {
        let mut stream = TcpStream::connect(self.address).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: hub\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, serde_json::from_str(body).unwrap_or_default()))
    }
}
