//! Requests that no browser sends.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// Sends bytes as they are, and reads until the server closes.
async fn raw(agent: &Agent, request: &[u8]) -> String {
    let Target::Tcp(address) = agent.tcp.clone() else { unreachable!() };
    let mut socket = TcpStream::connect(address).await.unwrap();
    // The server may have answered and closed before it got everything.
    let _ = socket.write_all(request).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut answer)).await;
    let _ = read.expect("the server neither answers nor closes");
    String::from_utf8_lossy(&answer).into_owned()
}

fn get_with(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn a_request_names_exactly_one_host() {
    let agent = Agent::start().await;
    for headers in [
        "",
        "Host: [::1]evil\r\n",
        "Host: localhost\r\nHost: evil.example\r\n",
        "Host: localhost\r\nHost: localhost\r\n",
        "Host: evil.example@localhost\r\n",
        "Host: localhost:1:2\r\n",
        "Host: \u{fc}\r\n",
    ] {
        let answer = raw(&agent, &get_with("/status", headers)).await;
        assert!(
            answer.starts_with("HTTP/1.1 400") && answer.contains("\"code\":\"bad-host\""),
            "{headers:?}: {answer}"
        );
    }
    for (path, host, status) in [
        ("/status", "[::1]:1", 200),
        ("/status", "localhost:", 200),
        ("http://localhost/status", "evil.example", 200),
        ("http://evil.example/status", "localhost", 421),
    ] {
        let answer = raw(&agent, &get_with(path, &format!("Host: {host}\r\n"))).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path} {host}: {answer}");
    }
    agent.stop().await;
}

#[tokio::test]
async fn the_date_is_the_one_of_the_agents_clock() {
    let agent = Agent::start().await;
    for path in ["/livez", "/status", "/nothing", "/"] {
        assert_eq!(agent.get(path).await.header("date"), Some("Sun, 23 Nov 2025 11:30:00 GMT"), "{path}");
    }
    agent.stop().await;
}

#[tokio::test]
async fn heads_and_bodies_are_bounded() {
    let agent = Agent::start().await;
    agent.commit_house();
    let host = "Host: localhost\r\n";
    let long = "x".repeat(HEAD_BYTES_MAX * 4);
    let many: String = (0..200).map(|n| format!("X-{n}: 1\r\n")).collect();
    for (what, request, status) in [
        ("a long target", get_with(&format!("/{long}"), host), "4"),
        ("a long query", get_with(&format!("/api/v1/events?type={long}"), host), "4"),
        ("a long header", get_with("/livez", &format!("{host}X: {long}\r\n")), "431"),
        ("many headers", get_with("/livez", &format!("{host}{many}")), "431"),
        ("no HTTP", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n".to_vec(), "400"),
        ("a long body", get_with("/livez", &format!("{host}Content-Length: 99999999999\r\n")), "200"),
        (
            "lengths that differ",
            get_with("/livez", &format!("{host}Content-Length: 1\r\nContent-Length: 2\r\n")),
            "400",
        ),
        ("a chunked body", get_with("/livez", &format!("{host}Transfer-Encoding: chunked\r\n")), "200"),
    ] {
        let answer = raw(&agent, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{what}: {answer}");
    }
    assert_eq!(agent.get("/status").await.status, 200);
    agent.stop().await;
}

#[tokio::test]
async fn numbers_and_encodings_at_their_ends_are_answered() {
    let agent = Agent::start().await;
    agent.commit_house();
    let lamp = "/api/v1/devices/kitchen%2Flamp";
    let (most, more) = (u64::MAX, "18446744073709551616");
    for (path, status) in [
        (format!("/api/v1/events?limit={more}"), 400),
        (format!("/api/v1/events?after={most}"), 400),
        (format!("/api/v1/events?after={}", most - 1), 200),
        (format!("/api/v1/events?min_seq={most}&min_seq_timeout_ms=1"), 504),
        (format!("/api/v1/events?min_seq={more}"), 400),
        (format!("/api/v1/events?min_seq_timeout_ms={most}"), 400),
        (format!("/api/v1/events/{most}"), 404),
        (format!("/api/v1/events/{more}"), 404),
        ("/api/v1/events/-1".into(), 404),
        ("/api/v1/events/%00".into(), 404),
        ("/api/v1/events/%".into(), 404),
        ("/api/v1/events/%zz".into(), 404),
        ("/api/v1/events/%ff".into(), 400),
        ("/api/v1/events?device=%ff".into(), 404),
        ("/api/v1/events?device=%".into(), 404),
        ("/api/v1/events?type=%00".into(), 400),
        ("/api/v1/events?&&&".into(), 200),
        ("/api/v1/events?=".into(), 400),
        (format!("/api/v1/events?type={}", ["booted"; 2_000].join(",")), 200),
        ("/api/v1/events?from=9999-12-30T00:00:00Z".into(), 200),
        ("/api/v1/events?from=-009999-01-02T01:59:59Z&to=9999-12-30T00:00:00Z".into(), 200),
        ("/api/v1/events?from=99999-01-01T00:00:00Z".into(), 400),
        (format!("/api/v1/quarantine/{most}"), 404),
        (format!("/api/v1/quarantine?before={most}"), 400),
        (format!("/api/v1/quarantine?before={}", most - 1), 200),
        (format!("{lamp}?at={most}"), 400),
        (format!("{lamp}?at={more}"), 400),
        (format!("{lamp}?at=9999-12-30T00:00:00Z"), 200),
        (format!("{lamp}?at=-009999-01-02T01:59:59Z"), 404),
        (format!("{lamp}/history?after={}", most - 1), 200),
        (format!("{lamp}/aggregates?attribute=temperature&from=-009999-01-02T01:59:59Z"), 200),
        (format!("{lamp}/aggregates?attribute=temperature&to=-009999-01-02T01:59:59Z"), 200),
        (format!("{lamp}/aggregates?attribute=temperature&window_s=31536000&from=9999-12-30T00:00:00Z"), 200),
        (format!("{lamp}/aggregates?attribute=temperature&window_s={more}"), 400),
        (format!("/api/v1/devices/{}", "x".repeat(20_000)), 404),
        ("/assets/%2e%2e%2f%2e%2e%2fetc%2fpasswd".into(), 404),
    ] {
        let answer = agent.get(&path).await;
        let path = &path[..path.len().min(100)];
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_stream_id_that_is_garbage_resets_the_client() {
    let agent = Agent::start().await;
    agent.commit_house();
    let most = format!("000000000000feed-{}", u64::MAX);
    for id in
        ["x", "-", "000000000000feed-", "000000000000feed-99999999999999999999", &most, &"9".repeat(8_000)]
    {
        let mut events =
            client::Events::open(&agent.tcp, "/api/v1/events/stream", &[("Last-Event-ID", id)]).await;
        events.next().await;
        assert!(events.next().await.contains("event: reset"), "{id}");
    }
    agent.stop().await;
}
