//! Hostile HTTP clients. Each runs on its own thread until told to stop.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fieldlog_tests::rng::Rng;

const PATHS: [&str; 12] = [
    "/api/v1/events?limit=10000",
    "/api/v1/events/stream?after=0",
    "/api/v1/quarantine?limit=1000",
    "/api/v1/devices?limit=1000",
    "/api/v1/devices/real",
    "/api/v1/devices/real?at=1",
    "/api/v1/devices/real/history?limit=10000",
    "/api/v1/devices/real/aggregates?attribute=number",
    "/status",
    "/metrics",
    "/",
    "/livez",
];
const PARAMS: [&str; 14] = [
    "limit=-1",
    "limit=99999999999999999999",
    "after=18446744073709551615",
    "before=0",
    "from=9999-12-31T23:59:59Z",
    "to=-9999-01-01T00:00:00Z",
    "at=NaN",
    "min_seq=1",
    "min_seq=18446744073709551615&min_seq_timeout_ms=1",
    "type=%00",
    "attribute=%ff%fe",
    "window_s=0",
    "%%%",
    "=&=&&&",
];

/// What a client does.
#[derive(Clone, Copy, Debug)]
pub enum Harm {
    SlowHeads,
    UnreadAnswers,
    Connections,
    Waiters,
    OddQueries,
    Garbage,
}

pub const HARMS: [Harm; 6] =
    [Harm::SlowHeads, Harm::UnreadAnswers, Harm::Connections, Harm::Waiters, Harm::OddQueries, Harm::Garbage];

/// Attacks until `stop`; returns the number of requests.
pub fn harm(what: Harm, port: u16, rng: &mut Rng, stop: &AtomicBool) -> usize {
    let mut open: Vec<TcpStream> = Vec::new();
    let mut made = 0;
    while !stop.load(Ordering::Relaxed) {
        let most = if matches!(what, Harm::Connections) { 300 } else { 40 };
        if open.len() >= most {
            let at = rng.below(open.len());
            open.swap_remove(at);
        }
        // A refused connection is also an answer.
        if let Some(stream) = begin(what, port, rng) {
            open.push(stream);
        }
        if matches!(what, Harm::SlowHeads) {
            open.retain_mut(|stream| stream.write_all(b"x").is_ok());
        }
        made += 1;
        std::thread::sleep(Duration::from_millis(rng.below(20) as u64));
    }
    made
}

fn begin(what: Harm, port: u16, rng: &mut Rng) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    stream.set_write_timeout(Some(Duration::from_secs(1))).ok()?;
    match what {
        Harm::Connections => {}
        Harm::SlowHeads => stream.write_all(b"GET /livez HTTP/1.1\r\nX: ").ok()?,
        Harm::UnreadAnswers => {
            let path: &&str = rng.pick(&PATHS);
            ask(&mut stream, path)?;
        }
        Harm::Waiters => {
            let path = format!("/api/v1/devices?min_seq={}&min_seq_timeout_ms=10000", u64::MAX / 2);
            ask(&mut stream, &path)?;
        }
        Harm::OddQueries => {
            let params: Vec<&str> = (0..rng.between(1, 4)).map(|_| *rng.pick(&PARAMS)).collect();
            let path = rng.pick(&PATHS).split('?').next()?;
            ask(&mut stream, &format!("{path}?{}", params.join("&")))?;
            let _ = stream.read(&mut [0; 4_096]);
        }
        Harm::Garbage => {
            let len = rng.below(4_000);
            stream.write_all(&rng.bytes(len)).ok()?;
        }
    }
    Some(stream)
}

fn ask(stream: &mut TcpStream, path: &str) -> Option<()> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).ok()
}
