//! The hub as a process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fieldlog_sim::servers::postgres::PostgresServer;
use fieldlog_sim::servers::wait::block_until;
use fieldlog_sim::servers::{Process, free_port};
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::gateway::Post;

/// A running hub; killed when dropped.
pub struct Hub {
    process: Process,
    words: Arc<Mutex<String>>,
    config: PathBuf,
    _dir: TempDir,
    pub address: SocketAddr,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Hub {
    /// Starts one, and waits until it can store.
    pub fn start(name: &str, postgres: &PostgresServer) -> Hub {
        Hub::with(name, postgres, "")
    }

    /// The same, with these lines at the beginning of its configuration.
    pub fn with(name: &str, postgres: &PostgresServer, lines: &str) -> Hub {
        let mut hub = Hub::unready(name, postgres, lines);
        hub.wait_ready();
        hub
    }

    /// The same; it may not be able to store yet.
    pub fn unready(name: &str, postgres: &PostgresServer, lines: &str) -> Hub {
        let dir = tempfile::tempdir().unwrap();
        let (config, port) = (dir.path().join("hub.toml"), free_port());
        let lease = if lines.contains("lease_s") { "" } else { "lease_s = 3" };
        let text = format!(
            "name = \"{name}\"\n{lease}\n{lines}\n[http]\nlisten = \"127.0.0.1:{port}\"\n[postgres]\naddress = \"{}\"\n",
            postgres.address()
        );
        std::fs::write(&config, text).unwrap();
        let (process, words) = spawn(&config);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Hub { process, words, config, _dir: dir, address }
    }

    pub fn wait_ready(&mut self) {
        block_until("the hub", || {
            let ended = self.process.0.try_wait().unwrap();
            assert!(ended.is_none(), "the hub ends at once: {}", self.words());
            self.try_get("/readyz").filter(|answer| answer.status == 200)
        });
    }

    /// Its configuration file.
    pub fn config(&self) -> &str {
        self.config.to_str().unwrap()
    }

    /// What it has written to stderr.
    pub fn words(&self) -> String {
        self.words.lock().unwrap().clone()
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Waits for its end, and for all of its words; its exit code.
    pub fn ends(&mut self) -> i32 {
        let status = block_until("the end of the hub", || self.process.0.try_wait().unwrap());
        // Whoever reads them has then let go of them.
        block_until("its last words", || (Arc::strong_count(&self.words) == 1).then_some(()));
        status.code().unwrap()
    }

    /// Starts it again, with the same configuration.
    pub fn restart(&mut self) {
        (self.process, self.words) = spawn(&self.config);
        self.wait_ready();
    }

    /// Kills it and starts it again; it may not be able to store.
    pub fn restart_unready(&mut self) {
        self.kill();
        (self.process, self.words) = spawn(&self.config);
    }

    pub fn restart_after_kill(&mut self) {
        self.kill();
        self.restart();
    }

    /// Sends a parcel; `None` without an answer.
    pub fn try_post(&self, post: &Post) -> Option<Answer> {
        answer(send(self.address, post)?)
    }

    /// Sends a parcel; its answer.
    pub fn post(&self, post: &Post) -> Answer {
        self.try_post(post).unwrap_or_else(|| panic!("no answer: {}", self.words()))
    }

    /// Sends a parcel, which must be taken.
    pub fn take(&self, post: &Post) {
        let answer = self.post(post);
        assert_eq!(answer.status, 204, "{answer:?} {}", self.words());
    }

    /// Sends a parcel until it is taken.
    pub fn insist(&self, post: &Post) {
        block_until("a parcel that is taken", || self.try_post(post).filter(|answer| answer.status == 204));
    }

    pub fn try_get(&self, path: &str) -> Option<Answer> {
        self.exchange(&format!("GET {path} HTTP/1.1\r\n"), b"")
    }

    pub fn get(&self, path: &str) -> Answer {
        self.try_get(path).unwrap_or_else(|| panic!("no answer: {}", self.words()))
    }

    /// What it says of its sources.
    pub fn sources(&self) -> Vec<Json> {
        let answer = self.get("/api/v1/sources");
        let body: Json = serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"));
        body["items"].as_array().unwrap().clone()
    }

    /// A request without a body, with a token unless it is empty.
    pub fn call(&self, method: &str, path: &str, token: &str) -> Answer {
        call(self.address, method, path, token).unwrap()
    }

    /// Sends a command, with a token unless it is empty.
    pub fn command(&self, path: &str, token: &str, body: &str) -> Answer {
        let authorization = match token {
            "" => String::new(),
            token => format!("authorization: Bearer {token}\r\n"),
        };
        let kind = "content-type: application/json";
        let head =
            format!("POST {path} HTTP/1.1\r\n{authorization}{kind}\r\ncontent-length: {}\r\n", body.len());
        self.exchange(&head, body.as_bytes()).unwrap()
    }

    fn exchange(&self, head: &str, body: &[u8]) -> Option<Answer> {
        answer(request(self.address, head, body)?)
    }
}

/// Asks a hub that is not a [`Hub`], with a token unless it is empty.
pub fn get(address: SocketAddr, path: &str, token: &str) -> Option<Answer> {
    call(address, "GET", path, token)
}

fn call(address: SocketAddr, method: &str, path: &str, token: &str) -> Option<Answer> {
    let authorization = match token {
        "" => String::new(),
        token => format!("authorization: Bearer {token}\r\n"),
    };
    answer(request(address, &format!("{method} {path} HTTP/1.1\r\n{authorization}"), b"")?)
}

/// Sends a parcel, and leaves the answer in the connection.
pub fn send(address: SocketAddr, post: &Post) -> Option<TcpStream> {
    let mut head = format!("POST /events HTTP/1.1\r\ncontent-length: {}\r\n", post.body.len());
    for (name, value) in &post.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    request(address, &head, &post.body)
}

fn request(address: SocketAddr, head: &str, body: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let head = format!("{head}host: hub\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    // An early answer may close the way there.
    let _ = stream.write_all(body);
    Some(stream)
}

/// Reads an answer; `None` if there is none.
pub fn answer(mut stream: TcpStream) -> Option<Answer> {
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    read.ok().filter(|_| !answer.is_empty())?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
}

/// `fieldlog-hub`, with these arguments: exit code and stderr.
pub fn run(arguments: &[&str]) -> (i32, String) {
    let output = command().args(arguments).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fieldlog-hub"));
    command.env("NO_COLOR", "1").env_remove("FIELDLOG_LOG");
    command
}

fn spawn(config: &std::path::Path) -> (Process, Arc<Mutex<String>>) {
    let mut command = command();
    command.arg("run").arg("--config").arg(config);
    let mut child: Child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let words = Arc::new(Mutex::new(String::new()));
    let (stderr, heard) = (child.stderr.take().unwrap(), words.clone());
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let mut words = heard.lock().unwrap();
            words.push_str(&line);
            words.push('\n');
        }
    });
    (Process(child), words)
}
