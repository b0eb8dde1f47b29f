//! Hostile HTTP clients at an agent in a separate process, with the memory limit of its unit.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use fieldlog_tests::process::{Process, free_port};
use fieldlog_tests::wait::until_some;
use serde_json::Value as Json;

use crate::daemon::Site;

/// `MemoryMax=` of the unit.
const MEMORY_BYTES_MAX: u64 = 256 << 20;
/// Events of 1 MB, the maximum with the default limits; two copies of all would exceed the memory.
const LARGE_EVENTS: u32 = 130;
/// Number of events in a page, more than the buffers of a socket hold.
const EVENTS_OF_A_PAGE: u32 = 3;
const ATTRIBUTES: u32 = 250;
const TEXT_BYTES: usize = 4_000;
/// A client that reads nothing for this long is disconnected.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(60);

struct Victim {
    process: Process,
    address: SocketAddr,
}

/// An answer to one request.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Victim {
    async fn start(site: &mut Site) -> Victim {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let path = site.configure_usual();
        let text = std::fs::read_to_string(&path).unwrap().replace("127.0.0.1:0", &address.to_string());
        std::fs::write(&path, text).unwrap();
        let process = site.run(&path);
        site.ready().await;
        Victim { process, address }
    }

    /// Its peak memory, in bytes.
    fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    fn check_memory(&self, after: &str) {
        let peak = self.peak();
        println!("peak memory after {after}: {:.1} MiB", peak as f64 / 1_048_576.0);
        assert!(peak < MEMORY_BYTES_MAX, "{after}: {peak} bytes");
    }

    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// Sends a request without reading the answer.
    fn ask(&self, path: &str) -> TcpStream {
        let mut socket = self.connect();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).unwrap();
        socket
    }

    fn get(&self, path: &str) -> Answer {
        let mut bytes = Vec::new();
        self.ask(path).read_to_end(&mut bytes).unwrap_or_else(|error| panic!("{path}: {error}"));
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("a whole head");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: bytes.split_off(end + 4) }
    }

    /// Follows a list to its end; returns the sequence numbers.
    fn follow(&self, path: &str, member: &str, param: &str) -> Vec<u64> {
        let (mut seqs, mut query) = (Vec::new(), String::new());
        loop {
            let answer = self.get(&format!("{path}{query}"));
            assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
            let page: Json = serde_json::from_slice(&answer.body).unwrap();
            let items = page[member].as_array().unwrap();
            seqs.extend(items.iter().map(|item| item["seq"].as_u64().unwrap()));
            let Some(next) = page["next"].as_u64() else { return seqs };
            query = format!("?{param}={next}");
        }
    }

    /// Checks that health is answered quickly.
    fn check_health(&self, when: &str) {
        for path in ["/livez", "/readyz", "/metrics"] {
            let begin = Instant::now();
            assert_eq!(self.get(path).status, 200, "{path} {when}");
            assert!(begin.elapsed() < Duration::from_secs(5), "{path} {when} took {:?}", begin.elapsed());
        }
    }
}

/// A state of 1 MB with all values changed.
fn large(n: u32) -> String {
    let value = |a: u32| format!("\"attribute{a}\":\"{n:08}{}\"", "x".repeat(TEXT_BYTES - 8));
    format!("{{{}}}", (0..ATTRIBUTES).map(value).collect::<Vec<_>>().join(","))
}

#[tokio::test]
async fn hostile_clients_get_no_more_than_the_unit_has() {
    let mut site = Site::new().await;
    let victim = Victim::start(&mut site).await;
    let trickle = tokio::task::spawn_blocking({
        let mut socket = victim.connect();
        move || {
            // A byte now and then, of a head that never ends.
            let begin = Instant::now();
            socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            socket.write_all(b"GET /livez HTTP/1.1\r\nX: ").unwrap();
            loop {
                let written = socket.write_all(b"x");
                match socket.read(&mut [0; 512]) {
                    Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    _ => return begin.elapsed(),
                }
                if written.is_err() {
                    return begin.elapsed();
                }
                assert!(begin.elapsed() < PATIENCE, "a head may take for ever");
            }
        }
    });

    // One that never reads its page. Its time runs during the rest of the test.
    for n in 0..EVENTS_OF_A_PAGE {
        site.publish("t/large/state", &large(n)).await;
    }
    let (mut forgotten, since) = (victim.ask("/api/v1/events"), Instant::now());

    for n in EVENTS_OF_A_PAGE..LARGE_EVENTS {
        site.publish("t/large/state", &large(n)).await;
    }
    for n in 0..20 {
        site.publish(&format!("t/{n}/state"), &format!("{{{}", "broken".repeat(1_000))).await;
    }
    victim.check_memory("recording");

    // One that reads everything, with default settings.
    let events = victim.follow("/api/v1/events", "events", "after");
    assert!(events.len() > LARGE_EVENTS as usize, "{} events", events.len());
    assert_eq!(events, (1..=events.len() as u64).collect::<Vec<_>>());
    let history = victim.follow("/api/v1/devices/large/history", "history", "after");
    assert!(history.len() >= LARGE_EVENTS as usize, "{} in the history", history.len());
    assert_eq!(victim.follow("/api/v1/quarantine", "quarantine", "before").len(), 20);
    victim.check_memory("reading all pages");

    // Many that request much and read nothing.
    let paths = [
        "/api/v1/events?limit=10000",
        "/api/v1/devices/large/history?limit=10000",
        "/api/v1/events/stream?after=0",
        "/api/v1/quarantine?limit=1000",
        "/api/v1/devices?limit=1000",
        "/api/v1/devices/large",
        "/api/v1/devices/large?at=100",
        "/api/v1/devices/large/aggregates?attribute=attribute1",
    ];
    let mut stalled: Vec<TcpStream> = (0..12).flat_map(|_| paths).map(|path| victim.ask(path)).collect();
    victim.check_health("while clients do not read");
    let busy = until_some("the bound over all answers", || {
        stalled.push(victim.ask(paths[0]));
        let answer = victim.get("/api/v1/events");
        (answer.status == 503).then_some(answer)
    });
    let busy = busy.await;
    assert!(busy.head.to_lowercase().contains("retry-after: 1"), "{}", busy.head);
    victim.check_memory("answers that nobody reads");
    drop(stalled);

    // Many that connect and send nothing.
    let idle: Vec<TcpStream> = (0..600).map(|_| victim.connect()).collect();
    victim.check_health("while 600 connections say nothing");
    drop(idle);
    // Many that wait for a position that never comes.
    let path = "/api/v1/devices?min_seq=99999999&min_seq_timeout_ms=10000";
    let waiting: Vec<TcpStream> = (0..64).map(|_| victim.ask(path)).collect();
    victim.check_health("while 64 requests wait for a position");
    drop(waiting);
    until_some("an answer after all of it", || (victim.get("/status").status == 200).then_some(())).await;
    site.publish("t/large/state", r#"{"after":1}"#).await;
    let cut_off = trickle.await.unwrap();
    println!("a head that does not end was cut off after {cut_off:?}");
    let cut_off_by = WRITE_TIMEOUT + Duration::from_secs(5);
    tokio::time::sleep(cut_off_by.saturating_sub(since.elapsed())).await;
    let mut taken = Vec::new();
    let read = forgotten.read_to_end(&mut taken);
    println!("a client that took nothing got {} bytes, then {read:?}", taken.len());
    assert!(!taken.ends_with(b"}"), "it got its whole answer after {:?}", since.elapsed());
    victim.check_memory("everything");
    victim.process.signal("TERM");
    let ended = victim.process.ended().await;
    assert_eq!(ended.code, 0, "{}", ended.words);
}
