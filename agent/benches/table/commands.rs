//! Commands: how long one takes from the request to the device's broker, and how many a second go beside the events.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::agent::{Agent, TOKEN};
use super::stub::{Feed, Stub, packet};
use super::{Table, disk_sync_micros};

/// Devices that are told something.
const DEVICES: usize = 500;
/// Connections that ask at the same time.
const CLIENTS: usize = 16;

const CONFIG: &str = "[[source.command]]\nattribute = \"level\"\ntype = \"integer\"\ntopic = \"bench/{device}/set\"\n\
                      payload = \"{value}\"\n[limits]\ncommands_max = 1000000\n";

pub fn measure(feed: &Feed, table: &mut Table) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let sync_ms = disk_sync_micros(dir.path()) as f64 / 1e3;
    let stub = Stub::start();
    let agent = Agent::start_with(dir.path(), stub.port(), 1000, CONFIG);
    let devices = Devices::connect(&stub);
    agent.wait_for_events(DEVICES as u64);

    let alone = ask(&agent, &devices, 1, 200, None);
    let (p50, p99) = (quantile(&alone.times, 0.5), quantile(&alone.times, 0.99));
    let bound = 10.0 + 2.0 * sync_ms;
    table.row(
        "request to publication, one at a time, p50 / p99",
        format!("{p50:.2} / {p99:.2} ms (a synced write: {sync_ms:.2} ms)"),
        "≤ 10 ms + 2 s.",
        p99 <= bound,
    );

    let (commands, seconds) = (10_000, 10);
    let before = agent.usage().cpu_s;
    let flow = devices.flow(feed, 20_000);
    let busy = ask(&agent, &devices, CLIENTS, commands, Some(Duration::from_secs(seconds)));
    let events = flow.stop();
    let cpu = agent.usage().cpu_s - before;
    let rate = commands as f64 / busy.took.as_secs_f64();
    table.row(
        "commands a second beside 20,000 events/s",
        format!("{rate:.0}/s beside {:.0} events/s", events as f64 / busy.took.as_secs_f64()),
        "≥ 1,000/s",
        rate >= 990.0 && events as f64 >= 19_500.0 * busy.took.as_secs_f64(),
    );
    let (p50, p99) = (quantile(&busy.times, 0.5), quantile(&busy.times, 0.99));
    table.info("request to publication at that load, p50 / p99", format!("{p50:.2} / {p99:.2} ms"));
    table.info("CPU of the agent at that load", format!("{:.0} %", 100.0 * cpu / busy.took.as_secs_f64()));
    agent.stop();
}

/// What came of some commands.
struct Asked {
    /// From the request to its publication, in milliseconds.
    times: Vec<f64>,
    took: Duration,
}

/// Asks for so many commands over so many connections, evenly over a time if one is given.
fn ask(agent: &Agent, devices: &Devices, clients: usize, commands: usize, over: Option<Duration>) -> Asked {
    let begin = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let threads: Vec<JoinHandle<Vec<(u64, Instant)>>> = (0..clients)
        .map(|_| {
            let (next, http) = (next.clone(), agent.http());
            std::thread::spawn(move || {
                let mut stream = TcpStream::connect(("127.0.0.1", http)).expect("the agent's HTTP");
                stream.set_nodelay(true).expect("nodelay");
                let mut asked = Vec::new();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= commands as u64 {
                        return asked;
                    }
                    if let Some(over) = over {
                        let due = begin + over.mul_f64(n as f64 / commands as f64);
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    }
                    let value = run * 1_000_000 + n;
                    asked.push((value, Instant::now()));
                    post(&mut stream, n as usize % DEVICES, value);
                }
            })
        })
        .collect();
    let asked: HashMap<u64, Instant> =
        threads.into_iter().flat_map(|thread| thread.join().expect("a client")).collect();
    let took = begin.elapsed();
    let mut times = Vec::new();
    while times.len() < commands {
        let (value, at) = devices.published(Duration::from_secs(30));
        if let Some(since) = asked.get(&value) {
            times.push(at.saturating_duration_since(*since).as_secs_f64() * 1e3);
        }
    }
    Asked { times, took }
}

/// Values are never asked for twice.
static RUNS: AtomicU64 = AtomicU64::new(1);

fn post(stream: &mut TcpStream, device: usize, value: u64) {
    let body = format!(r#"{{"attribute":"level","value":{value},"ttl_s":60,"idempotency_key":"k{value}"}}"#);
    let request = format!(
        "POST /api/v1/devices/device{device:04}/commands HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let size = stream.read(&mut buffer).expect("an answer");
        assert!(size > 0, "the agent has hung up");
        answer.extend_from_slice(&buffer[..size]);
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            assert!(head.starts_with("HTTP/1.1 202") || head.starts_with("HTTP/1.1 200"), "{text}");
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned)
            });
            match length.map(|length| length.parse::<usize>().expect("a length")) {
                Some(length) if body.len() >= length => return,
                None if body.ends_with("0\r\n\r\n") => return,
                _ => {}
            }
        }
    }
}

/// The devices, at the stub broker: they do what they are told at once.
struct Devices {
    stream: Arc<Mutex<TcpStream>>,
    published: Mutex<Receiver<(u64, Instant)>>,
    acked: Arc<AtomicU64>,
    /// Reports of the devices, which take their part of the window.
    reported: Arc<AtomicU64>,
}

impl Devices {
    fn connect(stub: &Stub) -> Devices {
        let stream = stub.accept();
        let mut reading = stream.try_clone().expect("a second handle");
        let stream = Arc::new(Mutex::new(stream));
        let (acked, reported) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (sender, published) = channel();
        let (writing, counting, reports) = (stream.clone(), acked.clone(), reported.clone());
        std::thread::spawn(move || serve(&mut reading, &writing, (&counting, &reports), &sender));
        let devices = Devices { stream, published: published.into(), acked, reported };
        devices.reported.store(DEVICES as u64, Ordering::Relaxed);
        for device in 0..DEVICES {
            devices.send(&Feed::one(&format!("bench/device{device:04}"), r#"{"level":0}"#, 1));
        }
        devices
    }

    fn send(&self, bytes: &[u8]) {
        self.stream.lock().expect("no panic").write_all(bytes).expect("the agent is there");
    }

    fn published(&self, wait: Duration) -> (u64, Instant) {
        self.published.lock().expect("no panic").recv_timeout(wait).expect("a publication in time")
    }

    /// Sends events at a steady rate until it is stopped.
    fn flow(&self, feed: &Feed, per_second: u64) -> Flow {
        let stop = Arc::new(AtomicBool::new(false));
        let (stream, stopping) = (self.stream.clone(), stop.clone());
        let packets: Vec<Vec<u8>> = feed.packets(100_000);
        let (acked, before) = (self.acked.clone(), self.acked.load(Ordering::Relaxed));
        let (counting, reported) = (acked.clone(), self.reported.clone());
        let reported_before = reported.load(Ordering::Relaxed);
        std::thread::spawn(move || {
            let begin = Instant::now();
            let mut sent = 0u64;
            while !stopping.load(Ordering::Relaxed) {
                let due = (begin.elapsed().as_secs_f64() * per_second as f64) as u64;
                let mut out = Vec::new();
                // The window, with room for what devices report.
                while sent < due
                    && sent.saturating_sub(acked.load(Ordering::Relaxed) - before) < 900
                    && out.len() < 65_536
                {
                    out.extend_from_slice(&packets[sent as usize % packets.len()]);
                    sent += 1;
                }
                stream.lock().expect("no panic").write_all(&out).expect("the agent is there");
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Flow { stop, acked: counting, before, reported: self.reported.clone(), reported_before }
    }
}

/// Events that go on being sent.
struct Flow {
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
    before: u64,
    reported: Arc<AtomicU64>,
    reported_before: u64,
}

impl Flow {
    /// How many of them were durable.
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let acked = self.acked.load(Ordering::Relaxed) - self.before;
        acked.saturating_sub(self.reported.load(Ordering::Relaxed) - self.reported_before)
    }
}

/// Reads what the agent sends: acknowledges what it publishes, and reports that it is done.
fn serve(
    reading: &mut TcpStream,
    writing: &Mutex<TcpStream>,
    (acked, reported): (&AtomicU64, &AtomicU64),
    published: &Sender<(u64, Instant)>,
) {
    loop {
        let packet = packet(reading);
        match packet[0] >> 4 {
            4 => {
                acked.fetch_add(1, Ordering::Relaxed);
            }
            3 => {
                let at = Instant::now();
                let body = &packet[if packet[1] & 0x80 == 0 { 2 } else { 3 }..];
                let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
                let topic = String::from_utf8_lossy(&body[2..2 + length]).into_owned();
                let pkid = [body[2 + length], body[3 + length]];
                let properties = usize::from(body[4 + length]);
                let value = String::from_utf8_lossy(&body[5 + length + properties..]).into_owned();
                let mut out = vec![0x40, 2, pkid[0], pkid[1]];
                out.extend(Feed::one(topic.trim_end_matches("/set"), &format!("{{\"level\":{value}}}"), 2));
                reported.fetch_add(1, Ordering::Relaxed);
                writing.lock().expect("no panic").write_all(&out).expect("the agent is there");
                if published.send((value.parse().expect("a number"), at)).is_err() {
                    return;
                }
            }
            12 => writing.lock().expect("no panic").write_all(&[0xd0, 0]).expect("the agent is there"),
            14 => return,
            _ => {}
        }
    }
}

fn quantile(times: &[f64], q: f64) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times[((times.len() - 1) as f64 * q).round() as usize]
}
