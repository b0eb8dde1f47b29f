//! OpenSearch's API: not OpenSearch itself, but an imitation that keeps everything in memory (`pip install osmem-server`).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{Process, free_port, from_python, skip};

/// A running server; killed when dropped.
pub struct OpenSearchServer {
    process: Process,
    program: String,
    /// Its port on 127.0.0.1.
    pub port: u16,
}

impl OpenSearchServer {
    /// Starts one; `None` if it is not installed.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start() -> Option<OpenSearchServer> {
        let Some(program) = from_python("import osmem_server as o; print(o.resolve_binary(None))") else {
            skip("osmem-server is not installed");
            return None;
        };
        let port = free_port();
        let mut server = OpenSearchServer { process: spawn(&program, port), program, port };
        server.process.wait_listening("osmem-server", port);
        Some(server)
    }

    /// How to connect to it.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A request; status and content of its answer.
    ///
    /// # Panics
    /// Without an answer.
    pub fn call(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let length = body.len();
        // HTTP/1.0: the answer ends with the connection, and is not in chunks.
        let head = format!(
            "{method} {path} HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
    }

    /// SIGKILL, and a start on the same port, without any data.
    ///
    /// # Panics
    /// If it does not start.
    pub fn replace(&mut self) {
        self.process.kill();
        self.process = spawn(&self.program, self.port);
        self.process.wait_listening("osmem-server", self.port);
    }
}

fn spawn(program: &str, port: u16) -> Process {
    let mut command = Command::new(program);
    command.args(["-addr", &format!("127.0.0.1:{port}"), "-no-stdin-watch"]);
    Process(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}
