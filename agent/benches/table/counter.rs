//! An HTTP server that acknowledges every parcel unread, counts bytes, and records the age of live events.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Counters of arrivals.
#[derive(Default)]
pub struct Counts {
    /// Number of events, from the parcels' headers.
    pub events: u64,
    /// All bytes read, including headers.
    pub bytes: u64,
    /// Age of each live event on arrival, in milliseconds since its log time; only of plain JSON.
    pub live_ms: Vec<f64>,
}

/// The server; its threads end with the connections of the agent.
pub struct Counter {
    counts: Arc<Mutex<Counts>>,
    port: u16,
}

impl Counter {
    pub fn start() -> Counter {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let counts = Arc::new(Mutex::new(Counts::default()));
        let shared = counts.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counts = shared.clone();
                std::thread::spawn(move || serve(stream, &counts));
            }
        });
        Counter { counts, port }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers until the client leaves.
fn serve(stream: TcpStream, counts: &Mutex<Counts>) {
    stream.set_nodelay(true).expect("nodelay");
    let mut out = stream.try_clone().expect("a second handle");
    let mut input = BufReader::new(stream);
    while let Some(request) = Request::read(&mut input) {
        let ages = if request.live { ages_ms(&request.body) } else { Vec::new() };
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.events += request.events;
        counts.bytes += (request.head_bytes + request.body.len()) as u64;
        counts.live_ms.extend(ages);
        drop(counts);
        if out.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").is_err() {
            return;
        }
    }
}

struct Request {
    head_bytes: usize,
    events: u64,
    live: bool,
    body: Vec<u8>,
}

impl Request {
    /// `None` once the connection is closed.
    fn read(input: &mut impl BufRead) -> Option<Request> {
        let mut request = Request { head_bytes: 0, events: 0, live: false, body: Vec::new() };
        let mut length = 0;
        loop {
            let mut line = String::new();
            request.head_bytes += input.read_line(&mut line).ok().filter(|n| *n > 0)?;
            if line.trim().is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or(("", ""));
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().expect("a length"),
                "fieldlog-events" => request.events = value.trim().parse().expect("a number"),
                "fieldlog-lane" => request.live = value.trim() == "live",
                _ => {}
            }
        }
        assert!(length > 0, "a parcel says how long it is");
        request.body.resize(length, 0);
        input.read_exact(&mut request.body).ok()?;
        Some(request)
    }
}

fn ages_ms(body: &[u8]) -> Vec<f64> {
    let now: jiff::Timestamp = SystemTime::now().try_into().expect("a clock");
    let text = String::from_utf8_lossy(body);
    let times = text.split("\"recordedtime\":\"").skip(1).filter_map(|rest| rest.split('"').next());
    times
        .map(|time| {
            let time: jiff::Timestamp = time.parse().expect("RFC 3339");
            now.duration_since(time).as_secs_f64() * 1e3
        })
        .collect()
}
