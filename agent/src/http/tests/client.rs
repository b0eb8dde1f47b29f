//! A minimal HTTP client for the tests.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value as Json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// Far longer than anything in the tests takes.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Debug)]
pub enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    pub fn json(&self) -> Json {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

async fn connect(target: &Target) -> Box<dyn Socket> {
    match target {
        Target::Tcp(address) => Box::new(TcpStream::connect(address).await.unwrap()),
        Target::Unix(path) => Box::new(UnixStream::connect(path).await.unwrap()),
    }
}

/// Sends a request; `headers` may replace `Host`.
pub async fn send(target: &Target, method: &str, path: &str, headers: &[(&str, &str)]) -> Box<dyn Socket> {
    let mut socket = connect(target).await;
    let mut request = format!("{method} {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        request.push_str("Host: localhost\r\n");
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("Connection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    socket
}

pub async fn request(target: &Target, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut socket = send(target, method, path, headers).await;
    let mut bytes = Vec::new();
    tokio::time::timeout(PATIENCE, socket.read_to_end(&mut bytes)).await.unwrap().unwrap();
    parse(&bytes)
}

/// Sends JSON.
pub async fn post(target: &Target, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let length = body.len().to_string();
    let json = [("Content-Type", "application/json"), ("Content-Length", length.as_str())];
    let mut socket = send(target, "POST", path, &[headers, &json].concat()).await;
    socket.write_all(body.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    tokio::time::timeout(PATIENCE, socket.read_to_end(&mut bytes)).await.unwrap().unwrap();
    parse(&bytes)
}

pub async fn get(target: &Target, path: &str, headers: &[(&str, &str)]) -> Answer {
    request(target, "GET", path, headers).await
}

fn parse(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("a whole head");
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: bytes[end + 4..].to_vec() }
}

/// An event stream being read.
pub struct Events {
    socket: Box<dyn Socket>,
    text: String,
}

impl Events {
    pub async fn open(target: &Target, path: &str, headers: &[(&str, &str)]) -> Events {
        let socket = send(target, "GET", path, headers).await;
        let mut events = Events { socket, text: String::new() };
        let head = events.until("\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(head.contains("content-type: text/event-stream"), "{head}");
        events
    }

    /// The text up to and including `end`.
    async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.text.find(end) {
                let rest = self.text.split_off(at + end.len());
                return std::mem::replace(&mut self.text, rest);
            }
            assert!(self.more().await, "the stream ended: {}", self.text);
        }
    }

    async fn more(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let read = tokio::time::timeout(PATIENCE, self.socket.read(&mut buffer)).await.unwrap().unwrap();
        self.text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        read > 0
    }

    /// The next event, without the sizes of the chunks it came in.
    pub async fn next(&mut self) -> String {
        let block = self.until("\n\n").await;
        let lines = block.lines().map(str::trim_end);
        let fields = lines.filter(|line| line.contains(':'));
        fields.collect::<Vec<_>>().join("\n")
    }

    /// The next event, however many chunks it came in.
    pub async fn whole(&mut self) -> String {
        let block = self.until("\n\n").await;
        let size = |line: &str| !line.is_empty() && line.bytes().all(|b| b.is_ascii_hexdigit());
        let lines = block.split("\r\n").filter(|line| !size(line));
        lines.collect()
    }

    /// Reads until the server ends the stream.
    pub async fn ended(mut self) {
        while self.more().await {}
    }
}
