//! States at past moments of a long log, over HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::Table;
use super::agent::Agent;
use super::stub::{Feed, Stub};

/// Events of the log.
const EVENTS: u64 = 10_000_000;
/// Moments that are asked for, spread over the log.
const MOMENTS: u64 = 300;
const DEVICES: usize = 500;

/// What to ask for: by the number of the request, and the position.
type Path<'a> = &'a dyn Fn(u64, u64) -> String;

pub fn measure(feed: &Feed, table: &mut Table) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let stub = Stub::start();
    let more = "[retention]\nbytes_max = 1000000000\n";
    let agent = Agent::start_with(dir.path(), stub.port(), 1000, more);
    stub.feed(feed, EVENTS);
    agent.wait_for_events(EVENTS);
    let past = agent.status()["snapshot"]["past"].take();
    let (count, bytes) = (past["count"].as_u64().unwrap_or(0), past["bytes"].as_u64().unwrap_or(0));
    table.info(
        "snapshots of the past, 10 M events",
        format!("{count}, {:.1} KB each", bytes as f64 / 1e3 / count.max(1) as f64),
    );
    let one = |n: u64| format!("/api/v1/devices/device{:04}", n as usize * 7 % DEVICES);
    let checks: [(&str, u64, Path<'_>); 2] = [
        ("one device at any moment of 10 M events", 50, &|n, seq| format!("{}?at={seq}", one(n))),
        ("all 500 devices at any moment", 100, &|_, seq| format!("/api/v1/devices?limit=1000&at={seq}")),
    ];
    for (what, max_ms, path) in checks {
        let times = ask(&agent, MOMENTS, path);
        let target = format!("p99 ≤ {max_ms} ms");
        table.row(what, times.text(), &target, times.p99 <= Duration::from_millis(max_ms));
    }
    let infos: [(&str, u64, Path<'_>); 4] = [
        ("what is different about one device between two moments", MOMENTS, &|n, seq| {
            format!("{}/diff?from={}&to={seq}", one(n), seq / 2)
        }),
        ("what is different about all 500", MOMENTS, &|_, seq| {
            format!("/api/v1/diff?limit=1000&from={}&to={seq}", seq / 2)
        }),
        ("commands at any moment", MOMENTS, &|_, seq| format!("/api/v1/commands?at={seq}")),
        // All of this log is younger than an hour, so each of these reads it up to the moment.
        ("aggregates of one attribute, from 5 M records on average", 20, &|n, seq| {
            format!("{}/aggregates?attribute=temperature&at={seq}", one(n))
        }),
    ];
    for (what, moments, path) in infos {
        table.info(what, ask(&agent, moments, path).text());
    }
    agent.stop();
}

struct Times {
    median: Duration,
    p99: Duration,
    most: Duration,
    /// Time on a processor per answer, which does not depend on what else the machine does.
    cpu: Duration,
}

impl Times {
    fn text(&self) -> String {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let [median, p99, most, cpu] = [self.median, self.p99, self.most, self.cpu].map(ms);
        format!("p50 {median:.1}, p99 {p99:.1}, max {most:.1} ms, CPU {cpu:.1}")
    }
}

/// Asks at this many moments, each on a connection of its own.
fn ask(agent: &Agent, moments: u64, path: Path<'_>) -> Times {
    let before = agent.usage().cpu_s;
    let mut times: Vec<Duration> = (0..moments)
        .map(|n| {
            // A step that is coprime to the number of events visits all distances from a snapshot.
            let seq = 1_000 + n * 7_777_777 % (EVENTS - 1_000);
            let path = path(n, seq);
            let begin = Instant::now();
            let status = get(agent.http(), &path);
            assert_eq!(status, "200", "{path}");
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part).ceil() as usize];
    let cpu = Duration::from_secs_f64((agent.usage().cpu_s - before) / moments as f64);
    Times { median: at(0.5), p99: at(0.99), most: at(1.0), cpu }
}

/// Reads the whole answer; returns its status.
fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the agent's HTTP");
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}
