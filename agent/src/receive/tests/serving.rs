//! The whole receiver: HTTP on a free port, the output file, the state.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::*;
use crate::receive::{Handle, Out, ReceiveError, ReceiveOptions, run};
use fieldlog_wire::Lane;
use fieldlog_wire::ledger::Report;

pub(super) struct Running {
    pub(super) handle: Handle,
    shutdown: watch::Sender<bool>,
    task: JoinHandle<Result<Report, ReceiveError>>,
}

impl Running {
    pub(super) async fn start(options: ReceiveOptions) -> Running {
        let (shutdown, stopped) = watch::channel(false);
        let (ready, handle) = oneshot::channel();
        let task = tokio::spawn(run(options, stopped, |handle| {
            let _ = ready.send(handle);
        }));
        Running { handle: handle.await.unwrap(), shutdown, task }
    }

    pub(super) async fn stop(self) -> Report {
        self.shutdown.send_replace(true);
        self.task.await.unwrap().unwrap()
    }
}

fn options(dir: &Path) -> ReceiveOptions {
    ReceiveOptions {
        http: Some("127.0.0.1:0".parse().unwrap()),
        out: Out::File(dir.join("events.ndjson")),
        state: Some(dir.join("state")),
        parcel_bytes_max: 1 << 20,
        ..ReceiveOptions::default()
    }
}

/// Sends a request; returns status and body of the answer.
async fn request(address: SocketAddr, head: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("{head}Host: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    // A receiver that refuses may close before it has read everything.
    let _ = stream.write_all(body).await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

async fn post(address: SocketAddr, parcel: &Parcel, gzip: bool) -> (u16, String) {
    let mut head = "POST /in HTTP/1.1\r\n".to_owned();
    let mut body = parcel.compact.to_vec();
    if body.is_empty() {
        parcel.manifest.fields().iter().for_each(|(n, v)| head += &format!("Fieldlog-{n}: {v}\r\n"));
        body = batch(parcel);
    }
    if gzip {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&body).unwrap();
        body = encoder.finish().unwrap();
        head += "Content-Encoding: gzip\r\n";
    }
    request(address, &head, &body).await
}

pub(super) fn ids(path: &Path) -> Vec<String> {
    let id = |line: &str| {
        serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_str().unwrap().to_owned()
    };
    std::fs::read_to_string(path).unwrap().lines().map(id).collect()
}

pub(super) fn expected(range: impl Iterator<Item = u64>) -> Vec<String> {
    range.map(|seq| format!("plant-7/{EPOCH}/{seq}")).collect()
}

#[tokio::test]
async fn over_http_each_event_becomes_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(2_000);
    let json = fixture.parcels(Filter::default(), Format::Json, Seq(1), 500);
    let compact = fixture.parcels(Filter::default(), Format::Compact, Seq(1), 700);
    let running = Running::start(options(dir.path())).await;
    let http = running.handle.http.unwrap();
    for (at, parcel) in json.iter().take(3).enumerate() {
        assert_eq!(post(http, parcel, at % 2 == 0).await, (204, String::new()));
    }
    for parcel in &compact {
        assert_eq!(post(http, parcel, false).await.0, 204);
    }
    assert_eq!(post(http, &compact[0], false).await.0, 204);
    let (status, body) = request(http, "GET /report HTTP/1.1\r\n", b"").await;
    let report: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &report["logs"][0]["gateway"]), (200, &"plant-7".into()));
    assert_eq!(running.handle.events(), fixture.log.head().0);
    let report = running.stop().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.logs[0].counts.duplicate_parcels, 3);
    assert_eq!(ids(&dir.path().join("events.ndjson")), expected(1..=fixture.log.head().0));
}

#[tokio::test]
async fn what_cannot_be_taken_is_answered_so() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(options(dir.path())).await;
    let http = running.handle.http.unwrap();
    let check = async |head: &str, body: &[u8], status: u16, part: &str| {
        let (found, words) = request(http, head, body).await;
        assert_eq!(found, status, "{words}");
        assert!(words.contains(part), "{words}");
    };
    let zeros = vec![0; (1 << 20) + 1];
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    bomb.write_all(&zeros).unwrap();
    let bomb = bomb.finish().unwrap();
    check("POST / HTTP/1.1\r\n", &zeros, 413, "").await;
    check("POST / HTTP/1.1\r\nContent-Encoding: gzip\r\n", &bomb, 413, "1048576").await;
    check("POST / HTTP/1.1\r\nContent-Encoding: gzip\r\n", b"no", 400, "gzip").await;
    check("POST / HTTP/1.1\r\nContent-Encoding: br\r\n", b"no", 415, "gzip").await;
    check("POST / HTTP/1.1\r\n", b"[]", 400, "`gateway`").await;
    check("GET / HTTP/1.1\r\n", b"", 405, "/report").await;
    let report = running.stop().await;
    assert_eq!((report.malformed, report.is_clean()), (1, false));
}

#[tokio::test]
async fn after_a_kill_nothing_is_lost_and_nothing_written_twice() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(1_000);
    let parcels = fixture.parcels(Filter::default(), Format::Compact, Seq(1), 100);
    let running = Running::start(options(dir.path())).await;
    for parcel in [&parcels[0], &parcels[1], &parcels[3]] {
        assert_eq!(post(running.handle.http.unwrap(), parcel, false).await.0, 204);
    }
    let before = running.stop().await;
    // What a kill leaves: lines without a journal entry, and half a journal entry.
    let append = |name: &str, bytes: &[u8]| {
        std::fs::OpenOptions::new()
            .append(true)
            .open(dir.path().join(name))
            .unwrap()
            .write_all(bytes)
            .unwrap();
    };
    append("events.ndjson", b"{\"id\":\"half a li");
    append("state", b"{\"manifest\":{\"gate");
    let running = Running::start(options(dir.path())).await;
    let known = running.handle.report();
    assert_eq!(known, before);
    assert_eq!(known.logs[0].missing, vec![(Seq(201), Seq(300))]);
    for parcel in &parcels[2..] {
        assert_eq!(post(running.handle.http.unwrap(), parcel, false).await.0, 204);
    }
    let report = running.stop().await;
    assert!(report.is_clean(), "{report}");
    let log = &report.logs[0];
    assert_eq!((log.chained, log.recomputed), (fixture.log.head(), fixture.log.head()));
    let mut found = ids(&dir.path().join("events.ndjson"));
    found.sort_by_key(|id| id.rsplit('/').next().unwrap().parse::<u64>().unwrap());
    assert_eq!(found, expected(1..=fixture.log.head().0));
    // A third start has all of it.
    let running = Running::start(options(dir.path())).await;
    assert!(running.stop().await.is_clean());
    // Missing lines that were acknowledged are an error.
    std::fs::write(dir.path().join("events.ndjson"), b"").unwrap();
    let refused = run(options(dir.path()), watch::channel(false).1, |_| {}).await.unwrap_err();
    assert!(refused.to_string().contains("were written"), "{refused}");
}

#[tokio::test]
async fn after_a_restart_it_is_known_what_came_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(500);
    let head = fixture.log.head();
    let running = Running::start(options(dir.path())).await;
    let mut copied = Vec::new();
    for (format, device) in [(Format::Json, "*sensor 4"), (Format::Compact, "*sensor 5")] {
        let filter = Filter::new(&[device], &["state_changed"]).unwrap();
        let mut builder = fixture.builder(filter, format);
        let parcel = fixture.parcel_of(Lane::Priority, &mut builder, Seq(1), head, 1_000).unwrap();
        copied.extend(parcel.items.iter().map(|item| item.seq.0));
        for _ in 0..2 {
            assert_eq!(post(running.handle.http.unwrap(), &parcel, false).await.0, 204);
        }
    }
    copied.sort_unstable();
    let before = running.stop().await.logs.remove(0);
    assert_eq!((before.uncovered, before.newest), (copied.len() as u64, Seq(0)));
    let mut lines = ids(&dir.path().join("events.ndjson"));
    lines.sort_by_key(|id| id.rsplit('/').next().unwrap().parse::<u64>().unwrap());
    assert_eq!(lines, expected(copied.iter().copied()));

    let running = Running::start(options(dir.path())).await;
    assert_eq!(running.handle.report().logs[0].uncovered, copied.len() as u64);
    for parcel in fixture.parcels(Filter::default(), Format::Compact, Seq(1), 100) {
        assert_eq!(post(running.handle.http.unwrap(), &parcel, false).await.0, 204);
    }
    let report = running.stop().await;
    assert!(report.is_clean(), "{report}");
    let log = &report.logs[0];
    assert_eq!((log.recomputed, log.counts.events, log.uncovered), (head, head.0, 0));
    let mut lines = ids(&dir.path().join("events.ndjson"));
    lines.sort_by_key(|id| id.rsplit('/').next().unwrap().parse::<u64>().unwrap());
    assert_eq!(lines, expected(1..=head.0));
}

#[tokio::test]
async fn a_full_disk_stops_the_receiver_without_an_acknowledgement() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    let parcel = Fixture::new(20).parcels(Filter::default(), Format::Compact, Seq(1), 100).remove(0);
    let options = ReceiveOptions {
        http: Some("127.0.0.1:0".parse().unwrap()),
        out: Out::File("/dev/full".into()),
        ..ReceiveOptions::default()
    };
    let running = Running::start(options).await;
    assert_eq!(post(running.handle.http.unwrap(), &parcel, false).await.0, 503);
    let error = running.task.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("/dev/full") && error.contains("is sent again"), "{error}");
}

/// It is refused every time but reported once, and the first history continues.
#[tokio::test]
async fn another_history_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(300);
    let json = fixture.parcels(Filter::default(), Format::Json, Seq(1), 100);
    let mut other = json[1].clone();
    other.manifest.before = other.manifest.after;
    let at = json[0].manifest.last;
    let running = Running::start(options(dir.path())).await;
    let http = running.handle.http.unwrap();
    assert_eq!(post(http, &json[0], false).await.0, 204);
    for _ in 0..3 {
        let (status, body) = post(http, &other, true).await;
        let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &problem["type"]), (409, &fieldlog_wire::api::problem::FORK.into()));
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.starts_with(&format!("gateway plant-7: FORK at {at}: another history")), "{detail}");
    }
    assert_eq!(post(http, &json[1], false).await.0, 204);
    let check = |report: Report, refused: u64| {
        let log = &report.logs[0];
        assert_eq!((log.counts.faults, log.counts.refused_parcels), (1, refused), "{report}");
        assert_eq!((log.faults.len(), log.contiguous), (1, json[1].manifest.last), "{report}");
        assert_eq!(log.counts.duplicate_parcels, 0, "{report}");
    };
    check(running.stop().await, 3);
    // After a restart it is known that it was refused, but not how often.
    check(Running::start(options(dir.path())).await.stop().await, 1);
    assert_eq!(ids(&dir.path().join("events.ndjson")), expected(1..=json[1].manifest.last.0));
}
