//! Limits for clients: bytes, requests, connections. Health must always be answered.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::body::{ANSWER_BYTES_MAX, PAGE_BYTES};
use super::client::{Events, Socket};
use super::seats::{CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX};
use super::*;

const TEXT_BYTES: usize = 100_000;

fn text(n: u32) -> Value {
    Value::Text(format!("{n}{}", "x".repeat(TEXT_BYTES)).into())
}

/// Events of 100 KB, and their prerequisites; returns the last position.
fn commit_large(agent: &Agent, events: u32) -> u64 {
    agent.commit_house();
    agent.commit((0..events).map(|n| (100, changed(1, vec![(0, text(n))])))).0
}

/// All items of a list, page by page; each page is bounded by bytes.
async fn all(agent: &Agent, path: &str, member: &str, key: &str, param: &str) -> Vec<Json> {
    let (mut items, mut query) = (Vec::new(), String::new());
    loop {
        let answer = agent.get(&format!("{path}?limit=1000{query}")).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert!(answer.body.len() <= PAGE_BYTES + 2 * TEXT_BYTES, "{path}: {} bytes", answer.body.len());
        let length: usize = answer.header("content-length").unwrap().parse().unwrap();
        assert_eq!(length, answer.body.len());
        let page = answer.json();
        let found = page[member].as_array().unwrap();
        assert!(!found.is_empty(), "{path}: an empty page");
        items.extend(found.iter().map(|item| item[key].clone()));
        if page["next"].is_null() {
            return items;
        }
        assert_eq!(Some(&page["next"]), items.last(), "{path}");
        query = format!(
            "&{param}={}",
            page["next"].as_str().map_or(page["next"].to_string(), fieldlog_wire::json::percent)
        );
    }
}

#[tokio::test]
async fn pages_end_when_their_bytes_are_reached() {
    let agent = Agent::start().await;
    let head = commit_large(&agent, 60);
    let events = all(&agent, "/api/v1/events", "events", "seq", "after").await;
    assert_eq!(events, (1..=head).map(Json::from).collect::<Vec<_>>());
    let history = all(&agent, "/api/v1/devices/kitchen%2Flamp/history", "history", "seq", "after").await;
    let mine = [2, 5, 6, 7, 8].into_iter().chain(10..=head).map(Json::from);
    assert_eq!(history, mine.collect::<Vec<_>>());
    agent.stop().await;
}

#[tokio::test]
async fn large_devices_are_listed_a_few_at_a_time() {
    let agent = Agent::start().await;
    agent.commit([(0, named(0, "text"))]);
    agent.commit((0..30).map(|n| (1, discovered(n, &format!("d/{n:02}"), None))));
    agent.commit((0..30).map(|n| (2, changed(n, vec![(0, text(n))]))));
    let ids = all(&agent, "/api/v1/devices", "devices", "id", "after").await;
    assert_eq!(ids, (0..30).map(|n| format!("d/{n:02}").into()).collect::<Vec<Json>>());
    let first = agent.get("/api/v1/devices?limit=1000").await;
    assert!(
        first.header("link").is_some_and(|link| link.contains("after=d%2F")),
        "{:?}",
        first.header("link")
    );
    agent.stop().await;
}

#[tokio::test]
async fn the_quarantine_is_listed_backwards_page_by_page() {
    let agent = Agent::start().await;
    agent.commit_house();
    let long = "t/".repeat(60_000);
    for n in 0..20 {
        agent.commit_with([(100 + n, quarantined(&long))], &[(0, b"{x".to_vec())]);
    }
    // The log of the tests keeps ten payloads.
    let expected = (20..30).rev().map(Json::from).collect::<Vec<_>>();
    let path = "/api/v1/quarantine";
    assert_eq!(all(&agent, path, "quarantine", "seq", "before").await, expected);
    let two = agent.json("/api/v1/quarantine?limit=2&before=25").await;
    assert_eq!((seqs(&two["quarantine"]), &two["next"]), (vec![24, 23], &23.into()));
    let last = agent.json("/api/v1/quarantine?before=21").await;
    assert_eq!((seqs(&last["quarantine"]), &last["next"]), (vec![20], &Json::Null));
    agent.stop().await;
}

/// Sends requests for pages that are not read, until there is no room for more.
async fn take_all_room(agent: &Agent) -> Vec<Box<dyn Socket>> {
    let mut stalled = Vec::new();
    for _ in 0..100 {
        stalled.push(client::send(&agent.tcp, "GET", "/api/v1/events?after=9", &[]).await);
        let answer = agent.get("/api/v1/events?after=9").await;
        if answer.status == 503 {
            check_problem(&answer, "/api/v1/events", 503, "busy");
            assert_eq!(answer.header("retry-after"), Some("1"));
            return stalled;
        }
    }
    panic!("answers that nobody reads are not bounded");
}

#[tokio::test]
async fn clients_that_do_not_read_leave_room_for_small_answers() {
    let agent = Agent::start().await;
    let head = commit_large(&agent, 60);
    let stalled = take_all_room(&agent).await;
    for path in ["/livez", "/readyz", "/metrics", "/status", "/api/v1/events/1", "/api/v1/devices/bridge"] {
        assert_eq!(agent.get(path).await.status, 200, "{path}");
    }
    // A stream waits for room: it neither ends nor skips anything.
    let mut stream = Events::open(&agent.tcp, "/api/v1/events/stream?after=9", &[]).await;
    assert!(stream.next().await.contains("retry: "));
    drop(stalled);
    for seq in 10..=head {
        let event = stream.whole().await;
        assert!(event.contains(&format!("id: 000000000000feed-{seq}\n")), "{seq}: {}", &event[..100]);
        assert!(event.len() > TEXT_BYTES, "{seq}: {} bytes", event.len());
    }
    let page = agent.json("/api/v1/events?after=9").await;
    assert_eq!(page["events"][0]["seq"], 10);
    drop(stream);
    agent.stop().await;
}

#[tokio::test]
async fn an_event_that_fits_no_answer_is_passed_over() {
    let agent = Agent::start().await;
    agent.commit_house();
    let huge = Value::Text("x".repeat(ANSWER_BYTES_MAX + PAGE_BYTES).into());
    agent.commit([(100, changed(1, vec![(0, huge)])), (101, changed(1, vec![(0, Value::Int(1))]))]);
    let problem = agent.problem("/api/v1/events?after=9", 500, "too-large").await;
    assert!(problem["detail"].as_str().unwrap().contains("`after`"), "{problem}");
    agent.problem("/api/v1/events/10", 500, "too-large").await;
    let after = agent.json("/api/v1/events?after=10").await;
    assert_eq!(seqs(&after["events"]), [11]);
    let mut stream = Events::open(&agent.tcp, "/api/v1/events/stream?after=9", &[]).await;
    stream.next().await;
    let omitted = stream.next().await;
    assert!(
        omitted.contains("event: omitted") && omitted.contains("{\"seq\":10,\"type\":\"state_changed\"}"),
        "{omitted}"
    );
    assert!(stream.next().await.contains("id: 000000000000feed-11"));
    drop(stream);
    agent.stop().await;
}

#[tokio::test]
async fn whoever_waits_for_a_position_keeps_nobody_else_waiting() {
    let agent = Agent::start().await;
    let path = "/api/v1/devices?min_seq=99&min_seq_timeout_ms=10000";
    let mut waiting = Vec::new();
    for _ in 0..REQUESTS_MAX.max(WAITS_MAX) {
        waiting.push(client::send(&agent.tcp, "GET", path, &[]).await);
    }
    for attempt in 0.. {
        let answer = agent.get("/api/v1/devices?min_seq=99&min_seq_timeout_ms=1").await;
        if answer.status == 503 {
            check_problem(&answer, "/api/v1/devices", 503, "busy");
            break;
        }
        assert!(attempt < 200, "the waiting requests are not counted");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for path in ["/livez", "/readyz", "/metrics", "/status", "/api/v1/devices?min_seq=0"] {
        assert_eq!(agent.get(path).await.status, 200, "{path}");
    }
    // Waiting requests do not hold up a stop.
    agent.stop().await;
    let mut answer = Vec::new();
    waiting[0].read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\"code\":\"stopping\""), "{answer}");
}

#[tokio::test]
async fn too_many_requests_at_once_are_told_to_come_again() {
    let agent = Agent::start().await;
    let (locked, until_locked) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let side = agent.side.clone();
    let holder = std::thread::spawn(move || {
        // While the view is locked, no status can be built.
        let _view = side.shared.view.write().unwrap();
        locked.send(()).unwrap();
        released.recv().unwrap();
    });
    until_locked.recv().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..REQUESTS_MAX {
        waiting.push(client::send(&agent.tcp, "GET", "/status", &[]).await);
    }
    let busy = agent.get("/api/v1/nothing").await;
    let busy = if busy.status == 503 { busy } else { agent.get("/api/v1/nothing").await };
    check_problem(&busy, "/api/v1/nothing", 503, "busy");
    for path in ["/livez", "/readyz"] {
        assert_eq!(agent.get(path).await.status, 200, "{path}");
    }
    release.send(()).unwrap();
    holder.join().unwrap();
    let mut answer = Vec::new();
    waiting[0].read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    drop(waiting);
    agent.stop().await;
}

#[tokio::test]
async fn health_is_answered_however_many_connect_and_say_nothing() {
    let agent = Agent::start().await;
    let Target::Tcp(address) = agent.tcp.clone() else { unreachable!() };
    let mut idle = Vec::new();
    for n in 0..2 * CONNECTIONS_MAX {
        idle.push(TcpStream::connect(address).await.unwrap());
        if n % 64 == 0 {
            assert_eq!(agent.get("/livez").await.status, 200, "with {n} others");
        }
    }
    for path in ["/livez", "/healthz", "/readyz", "/metrics"] {
        let answer = agent.get(path).await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")), "{path}");
    }
    let refused = agent.get("/status").await;
    check_problem(&refused, "/status", 503, "busy");
    assert!(refused.text().contains("/livez, /readyz and /metrics"), "{}", refused.text());
    assert_eq!(client::get(&agent.unix, "/status", &[]).await.status, 200);
    // The first connections have kept their slots.
    let kept = &mut idle[CONNECTIONS_PER_ADDRESS_MAX - 8];
    kept.write_all(b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut head = [0; 12];
    kept.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    drop(idle);
    for attempt in 0.. {
        if agent.get("/status").await.status == 200 {
            break;
        }
        assert!(attempt < 200, "the places were not given back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    agent.stop().await;
}
