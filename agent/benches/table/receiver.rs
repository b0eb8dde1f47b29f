//! `fieldlog receive` and mosquitto, in processes of their own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::agent::BINARY;

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

pub struct Receiver {
    child: Child,
    http: u16,
}

impl Receiver {
    /// Returns once it listens. One that `joined_late` does not miss what others have had.
    pub fn http(port: u16, joined_late: bool) -> Receiver {
        Receiver::start(port, if joined_late { &["--joined-late"] } else { &[] })
    }

    /// Subscribes at a broker on that port.
    pub fn mqtt(port: u16) -> Receiver {
        let address = format!("mqtt://127.0.0.1:{port}");
        let receiver = Receiver::start(free_port(), &["--mqtt", &address, "--topic", "fieldlog/+/events"]);
        // It does not say when it has subscribed; too early would be seen as missing events.
        std::thread::sleep(Duration::from_secs(1));
        receiver
    }

    fn start(http: u16, more: &[&str]) -> Receiver {
        let child = Command::new(BINARY)
            .args(["--log", "error", "receive", "--out", "/dev/null", "--http"])
            .arg(format!("127.0.0.1:{http}"))
            .args(more)
            .stdout(Stdio::null())
            .spawn()
            .expect("the receiver starts");
        wait_for_port(http);
        Receiver { child, http }
    }

    /// Events that it has.
    pub fn events(&self) -> u64 {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http)).expect("the receiver's HTTP");
        stream
            .write_all(b"GET /report HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let report: serde_json::Value = serde_json::from_str(body.trim()).expect("a report");
        let logs = report["logs"].as_array().expect("logs");
        logs.iter().map(|log| log["events"].as_u64().expect("a count")).sum()
    }

    /// Ends it; its exit code says whether anything is missing or contradicts.
    pub fn stop_complete(mut self) {
        let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(told.is_ok_and(|s| s.success()), "kill -TERM");
        assert!(self.child.wait().expect("the receiver ends").success(), "the receiver misses something");
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // Already gone, unless a run was given up.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// mosquitto that holds back nothing and drops nothing.
pub struct Broker {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Broker {
    /// `None` if it is not installed.
    pub fn start() -> Option<Broker> {
        let (dir, port) = (tempfile::tempdir().expect("a temporary directory"), free_port());
        let config = dir.path().join("mosquitto.conf");
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type error\nlog_type warning\n\
             max_inflight_messages 0\nmax_queued_messages 0\nmax_queued_bytes 0\n"
        );
        std::fs::write(&config, text).expect("a configuration");
        let child = Command::new("mosquitto").arg("-c").arg(&config).spawn().ok()?;
        wait_for_port(port);
        Some(Broker { child, port, _dir: dir })
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_for_port(port: u16) {
    let begin = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begin.elapsed() < Duration::from_secs(20), "nobody listens on port {port}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
