//! How long the stores that follow PostgreSQL take to begin anew.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use fieldlog_sim::servers::opensearch::OpenSearchServer;
use fieldlog_sim::servers::redis::RedisServer;
use serde_json::{Value, json};

use crate::fleet::{Fleet, Kind, PARCEL_EVENTS};
use crate::measured::Measured;
use crate::usage::cpu_seconds;
use crate::{EVENTS, Table};

/// The imitation of OpenSearch takes 1,000 to 2,000 events a second, whoever sends them, and 30 kB of memory for each.
const OPENSEARCH_EVENTS: usize = 100_000;
/// As the hub has them in a request.
const BULK_EVENTS: usize = 1_000;

/// Each store alone.
pub async fn measure(table: &mut Table) {
    match RedisServer::start() {
        Some(redis) => {
            let lines = format!("[redis]\naddress = \"{}\"\n", redis.address());
            // Which has the state of the devices, and none of the events before.
            begin_anew(table, "redis", "Redis", EVENTS, &lines).await;
        }
        None => println!("no figures of Redis: redis-server is needed"),
    }
    let Some(opensearch) = OpenSearchServer::start() else {
        println!("no figures of OpenSearch: osmem-server is needed");
        return;
    };
    let lines = format!("[opensearch]\naddress = \"{}\"\n", opensearch.address());
    let name = "an imitation of OpenSearch, osmem-server";
    let hub = begin_anew(table, "opensearch", name, OPENSEARCH_EVENTS, &lines).await;
    let alone = send_alone(&opensearch);
    table.info(
        &format!("{name}: the same events by one client alone"),
        &format!("{alone:.0} events/s; the hub has {:.0} % of that", hub * 100.0 / alone),
    );
}

/// Events a second that a store takes when it begins anew.
async fn begin_anew(table: &mut Table, store: &str, name: &str, events: usize, lines: &str) -> f64 {
    let parcels = Fleet::new(Kind::Busy).parcels(events, PARCEL_EVENTS);
    let measured = Measured::of(&parcels, 1, lines).await;
    let (hub, events) = (&measured.hubs[0], parcels.events() as f64);
    hub.follow(store, 1).await;
    let cpu_s = || cpu_seconds(hub.pid()) + cpu_seconds(measured.postgres.pid());
    let (begin, before) = (Instant::now(), cpu_s());
    hub.rebuild(store);
    hub.follow(store, 2).await;
    let (took, cpu) = (begin.elapsed().as_secs_f64(), (cpu_s() - before) * 1e6 / events);
    table.info(
        &format!("{name}: begun anew after {events} events"),
        &format!("{took:.1} s, {cpu:.1} µs of hub and PostgreSQL for each"),
    );
    events / took
}

/// Events a second that the server takes once more of a client that has them all ready, and nothing else to do.
fn send_alone(server: &OpenSearchServer) -> f64 {
    server.call("POST", "/fieldlog-*/_refresh", "");
    let (mut events, mut bodies) = (0, Vec::new());
    for gateway in 0..Fleet::new(Kind::Busy).gateways() {
        let of_gateway = json!({"term": {"gateway": format!("plant-{gateway:04}")}});
        let query = json!({"size": 10_000, "query": of_gateway}).to_string();
        let (_, found) = server.call("POST", "/fieldlog-events-*/_search", &query);
        let hits = found["hits"]["hits"].as_array().expect("documents");
        events += hits.len();
        bodies.extend(hits.chunks(BULK_EVENTS).map(bulk));
    }
    assert_eq!(events, OPENSEARCH_EVENTS);
    let stream = TcpStream::connect(("127.0.0.1", server.port)).expect("a connection");
    stream.set_nodelay(true).expect("nodelay");
    let mut stream = BufReader::new(stream);
    let begin = Instant::now();
    bodies.iter().for_each(|body| post(&mut stream, body));
    events as f64 / begin.elapsed().as_secs_f64()
}

fn bulk(hits: &[Value]) -> String {
    let mut body = String::new();
    for hit in hits {
        let source = &hit["_source"];
        let action = json!({"index": {
            "_index": hit["_index"], "_id": hit["_id"], "version": source["seq"], "version_type": "external_gte",
        }});
        write!(body, "{action}\n{source}\n").expect("a text");
    }
    body
}

fn post(stream: &mut BufReader<TcpStream>, body: &str) {
    let head = format!(
        "POST /_bulk HTTP/1.1\r\nhost: store\r\ncontent-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.get_mut().write_all(head.as_bytes()).expect("a connection");
    stream.get_mut().write_all(body.as_bytes()).expect("a connection");
    let answer = read(stream);
    assert!(answer.contains(r#""errors":false"#), "{}", answer.chars().take(300).collect::<String>());
}

/// An answer, with its length or in chunks.
fn read(stream: &mut BufReader<TcpStream>) -> String {
    let line = |stream: &mut BufReader<TcpStream>| {
        let mut line = String::new();
        stream.read_line(&mut line).expect("an answer");
        line.trim().to_ascii_lowercase()
    };
    let mut length = None;
    loop {
        let header = line(stream);
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse::<usize>().ok();
        }
        if header.is_empty() {
            break;
        }
    }
    let mut body = Vec::new();
    let mut more = |stream: &mut BufReader<TcpStream>, length: usize| {
        let at = body.len();
        body.resize(at + length, 0);
        stream.read_exact(&mut body[at..]).expect("an answer");
    };
    match length {
        Some(length) => more(stream, length),
        None => loop {
            let chunk = usize::from_str_radix(&line(stream), 16).expect("a chunk");
            more(stream, chunk);
            line(stream);
            if chunk == 0 {
                break;
            }
        },
    }
    String::from_utf8(body).expect("a text")
}
