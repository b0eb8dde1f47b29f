//! A real Prometheus (Debian's package `prometheus`).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use tempfile::TempDir;

use super::{Process, free_port, installed, quiet};

/// A running Prometheus; killed when dropped.
pub struct PrometheusServer {
    _process: Process,
    _dir: TempDir,
    port: u16,
}

impl PrometheusServer {
    /// Starts one that scrapes `port` of 127.0.0.1 each second as job `fieldlog`, with a file of rules; `None` if it is not
    /// installed.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(port: u16, rules: &Path) -> Option<PrometheusServer> {
        if !installed("prometheus", "--version") {
            return None;
        }
        let (dir, own) = (tempfile::tempdir().unwrap(), free_port());
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{rules:?}]\nscrape_configs:\n  - job_name: \
             fieldlog\n    static_configs: [{{targets: [\"127.0.0.1:{port}\"]}}]\n"
        );
        let file = dir.path().join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        let arguments = [
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", dir.path().join("data").display()),
            format!("--web.listen-address=127.0.0.1:{own}"),
        ];
        let mut process = Process(quiet("prometheus", |command| command.args(&arguments)).unwrap());
        process.wait_listening("prometheus", own);
        Some(PrometheusServer { _process: process, _dir: dir, port: own })
    }

    /// The body of the answer to `GET`.
    ///
    /// # Panics
    /// If there is none.
    pub fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    }
}
