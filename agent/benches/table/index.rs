//! Events of a rare device and of a rare type in a log of ten million, over HTTP, and the size of the index that finds
//! them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use fieldlog::log::{Log, LogOptions};
use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::{AttrId, DeviceId, Epoch, Fact, Time, Value};

use crate::agent::Agent;
use crate::{Table, median};

/// Events of the long log.
const EVENTS: u64 = 10_000_000;
/// Events of the log of many devices.
const MANY_EVENTS: u64 = 1_000_000;
/// Events in one commit.
const EACH: u64 = 1_000;
const STEP_MICROS: i64 = 10_000;

/// Events of three values of `devices` devices in turn, and three of one more device: near the beginning, in the middle
/// and near the end. Returns the log's stored bytes, and those of its index.
fn fill(dir: &Path, devices: u32, events: u64) -> (u64, u64) {
    let options = LogOptions { cache_bytes: 4 << 20, quick_repair: false, quarantine_records_max: 1000 };
    let mut log = Log::open(dir, options, Epoch(1)).expect("a log");
    let mut wall = Time::from_secs(1_700_000_000);
    let mut body = RecordBuffer::after(log.last_time());
    let named =
        |attribute| Fact::AttributeNamed { attribute: AttrId(attribute), name: format!("a{attribute}") };
    (0..3).for_each(|id| body.push_fact(Envelope::default(), &named(id)));
    for id in 0..=devices {
        let name = format!("device{id}");
        let (source, parent, identity) = ("bench".into(), None, None);
        let fact = Fact::DeviceDiscovered { device: DeviceId(id), name, source, parent, identity };
        body.push_fact(Envelope::default(), &fact);
    }
    log.append(&body, &[]).expect("a commit");
    for commit in 0..events / EACH {
        let mut body = RecordBuffer::after(log.last_time());
        for n in commit * EACH..(commit + 1) * EACH {
            wall.0 += STEP_MICROS;
            let rare = [events / 10, events / 2, events - events / 10].contains(&n);
            let device = if rare { devices } else { (n % u64::from(devices)) as u32 };
            let value = |salt: u64| Value::Float(20.0 + ((n * 7_919 + salt) % 100) as f64 / 10.0);
            let changes = (0..3).map(|id| (AttrId(id), value(u64::from(id) * 31))).collect();
            let fact = Fact::StateChanged { device: DeviceId(device), changes };
            body.push_fact(Envelope { wall, ..Envelope::default() }, &fact);
        }
        log.append(&body, &[]).expect("a commit");
    }
    let bytes = log.reader().stored_bytes().expect("the log's size");
    let index = log.reader().index_size().expect("the index's size").bytes;
    log.close().expect("a clean close");
    (bytes, index)
}

/// Asks for events; returns their number, whether these are all, and how long it took.
fn ask(http: u16, query: &str) -> (usize, bool, Duration) {
    let begin = Instant::now();
    let mut stream = TcpStream::connect(("127.0.0.1", http)).expect("the agent's HTTP");
    write!(stream, "GET /api/v1/events?{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let took = begin.elapsed();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let page: serde_json::Value =
        serde_json::from_str(body.trim()).unwrap_or_else(|e| panic!("{e}: {answer}"));
    (page["events"].as_array().map_or(0, Vec::len), page["next"].is_null(), took)
}

/// Measures a log of ten million events.
pub fn measure(table: &mut Table) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let share = |(bytes, index): (u64, u64)| 100.0 * index as f64 / bytes as f64;
    let part = share(fill(dir.path(), 500, EVENTS));
    table.row("index, of the log's bytes, 500 devices", format!("{part:.2} %"), "≤ 5 %", part <= 5.0);
    let agent = Agent::start(dir.path(), 1, 1000);
    for (what, query, expected) in [
        ("3 events of a device in 10 M events, over HTTP", "device=device500&type=state_changed", 3),
        ("1 event of a type in 10 M events, over HTTP", "type=booted", 1),
        ("the same for a type that is not there", "type=command_requested", 0),
    ] {
        let mut times = Vec::new();
        for _ in 0..51 {
            let (events, complete, took) = ask(agent.http(), query);
            assert!(events == expected && complete, "{query}: {events} events, complete: {complete}");
            times.push(took.as_secs_f64() * 1e3);
        }
        let (middle, most) = (median(&mut times), times[times.len() - 1]);
        let text = format!("{middle:.1} ms, at most {most:.1}");
        table.row(what, text, "≤ 20 ms", most <= 20.0);
    }
    agent.stop();
    let many = tempfile::tempdir().expect("a temporary directory");
    let part = share(fill(many.path(), 10_000, MANY_EVENTS));
    table.row("index, of the log's bytes, 10,000 devices", format!("{part:.2} %"), "≤ 5 %", part <= 5.0);
}
