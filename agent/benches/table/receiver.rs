//! `fieldlog receive` and mosquitto, in separate processes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use fieldlog_sim::servers::mosquitto::Mosquitto;
use fieldlog_sim::servers::{Process, free_port};

use crate::agent::BINARY;

pub struct Receiver {
    process: Process,
    http: u16,
}

impl Receiver {
    /// Returns once it listens. With `joined_late`, earlier events do not count as missing.
    pub fn http(port: u16, joined_late: bool) -> Receiver {
        Receiver::start(port, if joined_late { &["--joined-late"] } else { &[] })
    }

    /// Subscribes at a broker on that port.
    pub fn mqtt(port: u16) -> Receiver {
        let address = format!("mqtt://127.0.0.1:{port}");
        let receiver = Receiver::start(free_port(), &["--mqtt", &address, "--topic", "fieldlog/+/events"]);
        // It does not report its subscription; starting too early would show missing events.
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
        let mut process = Process(child);
        process.wait_listening("the receiver", http);
        Receiver { process, http }
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

    /// Stops it; its exit code tells whether anything is missing or contradictory.
    pub fn stop_complete(mut self) {
        self.process.signal("TERM");
        assert!(self.process.0.wait().expect("the receiver ends").success(), "the receiver misses something");
    }
}

/// mosquitto without limits and without persistence; `None` if it is not installed.
pub fn broker() -> Option<Mosquitto> {
    Mosquitto::start("persistence false\nmax_inflight_messages 0\nmax_queued_bytes 0")
}
