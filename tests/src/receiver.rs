//! The reference receiver in this process.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::PathBuf;

use fieldlog::receive::{self, Handle, MqttOptions, Out, ReceiveError, ReceiveOptions};
use fieldlog_wire::ledger::{LogReport, Report};
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::publisher::{Post, Publisher};
use crate::wait::until;

/// A running receiver.
pub struct Receiver {
    /// What it shows of itself.
    pub handle: Handle,
    dir: TempDir,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<Report, ReceiveError>>,
}

impl Receiver {
    /// One that serves HTTP.
    pub async fn http() -> Receiver {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Receiver::start(ReceiveOptions { http: Some(address), ..ReceiveOptions::default() }).await
    }

    /// One that subscribes at a broker on this machine; subscribed when this returns. The message that tests this is
    /// not a parcel, and counts as malformed.
    pub async fn mqtt(port: u16) -> Receiver {
        let topics = vec!["fieldlog/+/events".into()];
        let mqtt = MqttOptions::parse(&format!("mqtt://127.0.0.1:{port}"), topics, "receiver").unwrap();
        let receiver =
            Receiver::start(ReceiveOptions { mqtt: Some(mqtt), ..ReceiveOptions::default() }).await;
        let publisher = Publisher::start(port);
        until("the receiver's subscription", || {
            publisher.post([Post::new("fieldlog/nobody/events", "no parcel")]);
            receiver.handle.report().malformed > 0
        })
        .await;
        receiver
    }

    /// One that consumes the stream `FIELDLOG` of a server on this machine, from the beginning for each new `consumer`.
    pub async fn nats(port: u16, consumer: &str) -> Receiver {
        let nats = receive::NatsOptions {
            server: format!("nats://127.0.0.1:{port}"),
            stream: "FIELDLOG".into(),
            subject: "fieldlog.*.events".into(),
            consumer: consumer.into(),
        };
        Receiver::start(ReceiveOptions { nats: Some(nats), ..ReceiveOptions::default() }).await
    }

    async fn start(options: ReceiveOptions) -> Receiver {
        let dir = tempfile::tempdir().unwrap();
        let options = ReceiveOptions { out: Out::File(dir.path().join("lines")), ..options };
        let (stop, stopped) = watch::channel(false);
        let (ready, is_ready) = oneshot::channel();
        let task = tokio::spawn(receive::run(options, stopped, |handle| {
            let _ = ready.send(handle);
        }));
        Receiver { handle: is_ready.await.unwrap(), dir, stop, task }
    }

    /// Where HTTP is served.
    ///
    /// # Panics
    /// If it is not.
    pub fn address(&self) -> SocketAddr {
        self.handle.http.unwrap()
    }

    /// The report on the only log; `None` if nothing has arrived.
    ///
    /// # Panics
    /// If there are several.
    pub fn log(&self) -> Option<LogReport> {
        let report = self.handle.report();
        assert!(report.logs.len() <= 1, "{report}");
        report.logs.into_iter().next()
    }

    /// The last position up to which nothing is missing.
    pub fn contiguous(&self) -> u64 {
        self.log().map_or(0, |log| log.contiguous.0)
    }

    /// The newest position that has arrived.
    pub fn newest(&self) -> u64 {
        self.log().map_or(0, |log| log.newest.0)
    }

    /// Stops it; returns the only log's report and the lines.
    ///
    /// # Panics
    /// If it had failed.
    pub async fn stop(self) -> (LogReport, String) {
        let log = self.log().unwrap();
        self.stop.send_replace(true);
        self.task.await.unwrap().unwrap();
        let lines: PathBuf = self.dir.path().join("lines");
        (log, std::fs::read_to_string(lines).unwrap())
    }
}
