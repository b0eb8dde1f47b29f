//! HTTP answers other than success.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fieldlog_projections::Fact;
use fieldlog_tests::http_message::Message;
use fieldlog_tests::logbook::Logbook;
use fieldlog_tests::wait::until;
use serde_json::Value;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::site::{Site, http};

/// A request: its time, its body as text, and the answer.
struct Asked {
    at: Instant,
    bytes: usize,
    status: u16,
}

/// The requests seen, and the accepted positions.
#[derive(Default)]
struct Seen {
    asked: Vec<Asked>,
    accepted: BTreeSet<u64>,
    again: usize,
}

/// Answers by number of the request and body: a status, and additional header lines.
type Answers = fn(usize, &str) -> (u16, &'static str);

async fn serve(answers: Answers) -> (SocketAddr, Arc<Mutex<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let shared = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(stream, answers, shared.clone()));
        }
    });
    (address, seen)
}

async fn converse(stream: TcpStream, answers: Answers, seen: Arc<Mutex<Seen>>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = Message::read(&mut stream).await {
        // Nothing is compressed here.
        let body = std::str::from_utf8(request.body()).unwrap();
        let (status, head) = {
            let mut seen = seen.lock().unwrap();
            let (status, head) = answers(seen.asked.len(), body);
            seen.asked.push(Asked { at: Instant::now(), bytes: body.len(), status });
            if status == 200 {
                for seq in positions(body) {
                    let fresh = seen.accepted.insert(seq);
                    seen.again += usize::from(!fresh);
                }
            }
            (status, head)
        };
        let answer = format!("HTTP/1.1 {status} So\r\ncontent-length: 0\r\n{head}\r\n");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn positions(body: &str) -> Vec<u64> {
    let events: Vec<Value> = serde_json::from_str(body).unwrap();
    events.iter().map(|event| event["sequence"].as_str().unwrap().parse().unwrap()).collect()
}

/// A sink with one uncompressed parcel at a time, which honours any wait used here.
fn patient(address: SocketAddr) -> String {
    http(address, "gzip = false\nin_flight_max = 1").replace("backoff_max_s = 1", "backoff_max_s = 10")
}

/// Messages that are forwarded before and after the one in between.
const HALF: usize = 1_000;

/// Forwards messages to a server with these answers; returns the requests once all but `lost` events have arrived.
async fn check(answers: Answers, poison: bool, lost: u64) -> (Seen, Logbook) {
    let (address, seen) = serve(answers).await;
    let mut site = Site::new().await;
    let agent = site.start(&site.config(&patient(address))).await;
    site.post(HALF);
    if poison {
        site.publish("t/d7/state", r#"{"text":"poison"}"#.into());
    }
    site.post(HALF);
    site.recorded().await;
    let all = || seen.lock().unwrap().accepted.len() as u64 + lost == agent.head();
    until("all events", all).await;
    let data_dir = agent.stop().await;
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    assert_eq!(seen.again, 0, "what was accepted came again");
    (seen, Logbook::read(&data_dir))
}

#[tokio::test]
async fn too_large_is_split() {
    const LIMIT: usize = 6_000;
    let answers: Answers = |_, body| (if body.len() > LIMIT { 413 } else { 200 }, "");
    let (seen, log) = check(answers, false, 0).await;
    let refused = seen.asked.iter().filter(|asked| asked.status == 413).count();
    assert!((1..=6).contains(&refused), "{refused} of {} parcels were too large", seen.asked.len());
    assert!(seen.asked.iter().all(|asked| (asked.status == 413) == (asked.bytes > LIMIT)));
    assert_eq!(log.count(|fact| matches!(fact, Fact::DeadLettered { .. })), 0);
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let answers: Answers = |number, _| match number {
        1 => (429, "retry-after: 2\r\n"),
        3 => (503, "retry-after: 1\r\n"),
        _ => (200, ""),
    };
    let (seen, _) = check(answers, false, 0).await;
    let wait = |number: usize| seen.asked[number + 1].at.duration_since(seen.asked[number].at);
    assert!(wait(1) >= Duration::from_millis(1_950), "{:?}", wait(1));
    // There may have been nothing more to say.
    if seen.asked.len() > 4 {
        assert!(wait(3) >= Duration::from_millis(950), "{:?}", wait(3));
    }
}

/// A server that asks for no wait, or one in the past, is not asked again and again.
#[tokio::test]
async fn retry_after_is_not_taken_at_its_word() {
    let answers: Answers = |number, _| match number {
        0 | 1 => (503, "retry-after: 0\r\n"),
        2 => (503, "retry-after: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
        _ => (200, ""),
    };
    let (seen, _) = check(answers, false, 0).await;
    for number in 0..3 {
        let wait = seen.asked[number + 1].at.duration_since(seen.asked[number].at);
        assert!(wait >= Duration::from_millis(950), "{wait:?} after answer {number}");
    }
}

/// `backoff_max_s`, here a second, limits the wait for any answer.
#[tokio::test]
async fn no_answer_holds_a_sink_for_longer_than_it_may() {
    let answers: Answers = |number, _| match number {
        0 => (503, "retry-after: 1000000000\r\n"),
        1 => (404, ""),
        2 => (302, "location: /elsewhere\r\n"),
        3 => (304, ""),
        _ => (200, ""),
    };
    let (address, seen) = serve(answers).await;
    let mut site = Site::new().await;
    let agent = site.start(&site.config(&http(address, "gzip = false\nin_flight_max = 1"))).await;
    site.post(10);
    until("an answer after the bad ones", || seen.lock().unwrap().asked.len() > 4).await;
    agent.stop().await;
    let seen = seen.lock().unwrap();
    for number in 0..4 {
        let wait = seen.asked[number + 1].at.duration_since(seen.asked[number].at);
        assert!(wait >= Duration::from_millis(950) && wait < Duration::from_secs(10), "{number}: {wait:?}");
    }
}

/// The sink is connected but accepts nothing: the operator must see why, and for how long.
#[tokio::test]
async fn a_sink_that_says_not_now_says_it_to_the_operator() {
    let answers: Answers = |number, _| if number == 0 { (429, "retry-after: 3\r\n") } else { (200, "") };
    let (address, _) = serve(answers).await;
    let mut site = Site::new().await;
    let agent = site.start(&site.config(&patient(address))).await;
    site.post(10);
    let view = agent.handle.sinks.views().remove(0);
    until("a sink that holds", || view.status.details().state.label() == "held").await;
    let state = view.status.details().state;
    let words = state.to_string();
    assert!(words.starts_with("connected, but told to wait until 20") && words.contains("429"), "{words}");
    let (until_when, _) = state.waiting().unwrap();
    let ahead = until_when.micros_since(state.connected_since().unwrap());
    assert!((2_000_000..60_000_000).contains(&ahead), "{words}");
    until("a sink that takes", || view.status.details().state.label() == "connected").await;
    assert!(view.status.details().last_error.unwrap().why.contains("429"));
    agent.stop().await;
}

/// An operator who has mended the receiver need not wait for the time that it has named.
#[tokio::test]
async fn a_sink_that_waits_tries_again_when_it_is_told_to() {
    const TOKEN: &str = "an-admin-token-of-a-test";
    let answers: Answers = |number, _| if number == 0 { (503, "retry-after: 900\r\n") } else { (200, "") };
    let (address, seen) = serve(answers).await;
    let mut site = Site::new().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), TOKEN).unwrap();
    let mut config = site.config(&patient(address).replace("backoff_max_s = 10", "backoff_max_s = 900"));
    config.http.admin_token_file = Some(file.path().into());
    let agent = site.start(&config).await;
    site.post(10);
    let view = agent.handle.sinks.views().remove(0);
    until("a sink that holds", || view.status.details().state.label() == "held").await;

    let path = "/api/v1/sinks/cloud/retry";
    let (status, done) = agent.post(path, TOKEN, &serde_json::json!({})).await;
    assert_eq!((status, &done["sink"]), (200, &"cloud".into()), "{done}");
    assert!(done["waited"].as_str().unwrap().contains("told to wait until"), "{done}");
    until("the events", || seen.lock().unwrap().accepted.len() as u64 == agent.head()).await;
    let (status, refused) = agent.post("/api/v1/sinks/clod/retry", TOKEN, &serde_json::json!({})).await;
    assert_eq!((status, &refused["code"]), (404, &"no-such-sink".into()));
    assert!(refused["detail"].as_str().unwrap().contains("Did you mean cloud?"), "{refused}");
    agent.stop().await;
}

#[tokio::test]
async fn a_poisoned_event_becomes_a_dead_letter() {
    let answers: Answers = |_, body| (if body.contains("poison") { 422 } else { 200 }, "");
    let (seen, log) = check(answers, true, 1).await;
    let mut dead = log.records.iter().filter_map(|(_, _, fact)| match fact {
        Fact::DeadLettered { sink, first, last, reason } => Some((sink, first.0, last.0, reason)),
        _ => None,
    });
    let (sink, first, last, reason) = dead.next().unwrap();
    assert_eq!((sink.as_str(), first), ("cloud", last));
    assert!(reason.contains("422"), "{reason}");
    assert_eq!(dead.next(), None);
    let poisoned = log.changes().find(|change| change.2 == "text").unwrap().0;
    assert_eq!(poisoned.0, first);
    assert!(!seen.accepted.contains(&first));
    let refused = seen.asked.iter().filter(|asked| asked.status == 422).count();
    assert!(refused < 40, "{refused} attempts to find one event");
}

/// Refused events keep the log and are offered again until an operator gives them up, which is recorded.
#[tokio::test]
async fn an_operator_gives_up_what_is_refused() {
    let answers: Answers = |_, body| (if body.contains("poison") { 422 } else { 200 }, "");
    let (address, seen) = serve(answers).await;
    let mut site = Site::new().await;
    let config =
        |more: &str| site.config(&http(address, &format!("gzip = false\nin_flight_max = 1\n{more}")));
    let (keep, release) = (config(""), config("refused = \"release\""));
    let agent = site.start(&keep).await;
    site.post(50);
    site.publish("t/d7/state", r#"{"text":"poison"}"#.into());
    site.post(50);
    site.recorded().await;
    let all_but_one = || seen.lock().unwrap().accepted.len() as u64 + 1 == agent.head();
    until("all events but one", all_but_one).await;
    let refused = || seen.lock().unwrap().asked.iter().filter(|asked| asked.status == 422).count();
    let before = refused();
    until("further offers", || refused() >= before + 2).await;
    let details = || agent.handle.sinks.views()[0].status.details();
    let poisoned = (1..).find(|seq| !seen.lock().unwrap().accepted.contains(seq)).unwrap();
    assert_eq!((details().acked.contiguous().0, details().acked.refused_count()), (poisoned - 1, 1));
    let words = details().warning.unwrap();
    assert!(words.contains("1 refused events") && words.contains("refused = \"release\""), "{words}");
    let status = agent.handle.sinks.views()[0]
        .summary(&agent.handle.shared.reader, fieldlog::clock::Clock::system().wall());
    assert!(status.contains("1 refused events"), "{status}");

    agent.reload(release).await;
    until("everything given up or delivered", || details().acked.contiguous().0 == agent.head()).await;
    assert_eq!(details().warning, None);
    let data_dir = agent.stop().await;
    let log = Logbook::read(&data_dir);
    let named = |fact: &Fact| matches!(fact, Fact::ConfigChanged { keys } if keys.iter().any(|k| k.ends_with("refused")));
    assert_eq!(log.count(named), 1);
    assert_eq!(log.count(|fact| matches!(fact, Fact::DeadLettered { .. })), 1);
    assert_eq!(log.cursor("cloud").unwrap().refused_count(), 0);
}
