//! The agent in this process, on a separate thread and runtime, started as by `fieldlog run`.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use fieldlog::clock::{Clock, TestClock};
use fieldlog::config::Config;
use fieldlog::ingest::status::Details;
use fieldlog::run::{self, Controls, Event, Handle, Reload, RunError};
use fieldlog::sources::SourceView;
use fieldlog_projections::{Seq, Value, View};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};

use crate::wait::{PATIENCE, until};

/// A running agent.
pub struct Agent {
    /// What it shows of itself.
    pub handle: Handle,
    data_dir: PathBuf,
    shutdown: watch::Sender<bool>,
    reload: mpsc::Sender<Reload>,
    thread: JoinHandle<Result<(), RunError>>,
}

impl Agent {
    /// Starts an agent and waits until it is ready; it may not be connected yet.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start(config: Config) -> Agent {
        Agent::start_at(config, Clock::system()).await
    }

    /// The same, with a clock controlled by the test.
    ///
    /// # Panics
    /// As [`Agent::start`].
    pub async fn start_at(config: Config, clock: Clock) -> Agent {
        let (shutdown, shutdown_rx) = watch::channel(false);
        let (reload, reload_rx) = mpsc::channel(1);
        let (ready, is_ready) = oneshot::channel();
        let data_dir = config.data_dir.clone();
        let thread = std::thread::spawn(move || {
            let controls = Controls { shutdown: shutdown_rx, reload: reload_rx };
            let mut ready = Some(ready);
            let report = |event: Event| {
                if let Event::Ready(handle) = event
                    && let Some(ready) = ready.take()
                {
                    let _ = ready.send(handle);
                }
            };
            let runtime = fieldlog::daemon::runtime().unwrap();
            runtime.block_on(run::run(config, clock, controls, report))
        });
        match tokio::time::timeout(PATIENCE, is_ready).await {
            Ok(Ok(handle)) => Agent { handle, data_dir, shutdown, reload, thread },
            Ok(Err(_)) => panic!("the agent does not start: {:?}", thread.join()),
            Err(_) => panic!("the agent is not ready after {PATIENCE:?}"),
        }
    }

    /// Gives it a new configuration.
    ///
    /// # Panics
    /// If it has ended.
    pub async fn reload(&self, config: Config) {
        self.reload.send(Reload { config, actor: "test".into() }).await.unwrap();
    }

    /// Stops it cleanly and returns its data directory.
    ///
    /// # Panics
    /// If it had failed.
    pub async fn stop(self) -> PathBuf {
        self.shutdown.send_replace(true);
        // Not joined immediately: the test's runtime may run a broker.
        until("the agent's end", || self.thread.is_finished()).await;
        self.thread.join().expect("the agent does not panic").expect("the agent stops without an error");
        self.data_dir
    }

    /// Its only source.
    ///
    /// # Panics
    /// If it has none.
    pub fn source(&self) -> SourceView {
        self.handle.sources.views().into_iter().next().unwrap()
    }

    /// The connection details of its only source.
    pub fn details(&self) -> Details {
        self.source().status.details()
    }

    /// Waits until the broker has accepted its only source and answered every subscription.
    pub async fn subscribed(&self) {
        let answered = |d: Details| d.granted.len() + d.refused.len() > 0;
        until("the subscriptions", || self.source().status.is_connected() && answered(self.details())).await;
    }

    /// Looks at the view.
    pub fn view<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        look(&self.handle.shared.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The current value of an attribute; `None` if there is none.
    pub fn value(&self, device: &str, attribute: &str) -> Option<Value> {
        self.view(|view| {
            let attr = view.devices.attribute_named(attribute)?;
            let (_, device) = view.devices.find(device)?;
            let found = device.attributes.iter().find(|a| a.id == attr)?;
            Some(found.value.clone()).filter(|value| *value != Value::Null)
        })
    }

    /// Position of the oldest record.
    ///
    /// # Panics
    /// If there is none.
    pub fn first(&self) -> Seq {
        self.handle.shared.reader.range().unwrap().unwrap().0
    }

    /// The answer to a GET of this path.
    ///
    /// # Panics
    /// If it does not listen, or the answer is not 200.
    pub async fn get(&self, path: &str) -> String {
        let mut socket = TcpStream::connect(self.handle.http.unwrap()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        body.to_owned()
    }

    /// The same, as JSON.
    ///
    /// # Panics
    /// As [`Agent::get`], or if the answer is not JSON.
    pub async fn json(&self, path: &str) -> serde_json::Value {
        serde_json::from_str(&self.get(path).await).unwrap()
    }

    /// What it answers to a POST of JSON: status and body.
    ///
    /// # Panics
    /// If it does not listen, or the answer is no JSON.
    pub async fn post(&self, path: &str, token: &str, body: &serde_json::Value) -> (u16, serde_json::Value) {
        post(self.handle.http.unwrap(), path, token, body).await
    }

    /// The same, with further lines of the head.
    pub async fn post_with(
        &self,
        path: &str,
        token: &str,
        lines: &str,
        body: &serde_json::Value,
    ) -> (u16, serde_json::Value) {
        post_with(self.handle.http.unwrap(), path, token, lines, body).await
    }

    /// Position of the last record.
    pub fn head(&self) -> u64 {
        self.handle.shared.position.borrow().applied.0
    }

    /// Advances the agent's clock, and waits until the writer has done what is due by then.
    pub async fn pass(&self, clock: &TestClock, time: Duration) {
        clock.advance(time);
        // The beat is at the start of an iteration, so a second one shows that the first is complete.
        for round in ["a round of the writer", "the next round of the writer"] {
            let now = clock.wall().0;
            until(round, || self.handle.shared.stats.beat.load(Ordering::Relaxed) > now).await;
        }
    }

    /// Commits by reason: delay, bytes, window.
    pub fn commits(&self) -> [u64; 3] {
        let stats = &self.handle.shared.stats;
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [get(&stats.commits_delay), get(&stats.commits_bytes), get(&stats.commits_window)]
    }
}

/// Sends JSON to an agent that listens there, with a token unless it is empty: status and answer.
///
/// # Panics
/// If it does not listen, or the answer is no JSON.
pub async fn post(
    address: SocketAddr,
    path: &str,
    token: &str,
    body: &serde_json::Value,
) -> (u16, serde_json::Value) {
    post_with(address, path, token, "", body).await
}

async fn post_with(
    address: SocketAddr,
    path: &str,
    token: &str,
    lines: &str,
    body: &serde_json::Value,
) -> (u16, serde_json::Value) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let body = body.to_string();
    let authorization = match token {
        "" => String::new(),
        token => format!("Authorization: Bearer {token}\r\n"),
    };
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n{authorization}{lines}\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let json = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"));
    (status, json)
}
