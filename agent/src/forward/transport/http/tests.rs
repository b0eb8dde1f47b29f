//! The sink with a test server.

use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::config::{Address, TlsConfig};
use crate::forward::envelope::tests::parcel;
use crate::forward::envelope::{COMPACT, JSON, Payload};
use crate::forward::{Pace, SLOW};
use crate::ingest::tests::{PATIENCE, refusing_port};
use fieldlog_projections::Time;
use fieldlog_wire::Manifest;

fn target(port: u16) -> HttpTarget {
    Target {
        sink: HttpSink {
            address: Address { host: "127.0.0.1".into(), port, tls: false },
            path: "/in?key=1".into(),
            token_file: None,
            gzip: true,
            tls: TlsConfig::default(),
        },
        connect_timeout: Duration::from_secs(20),
        answer_timeout: Duration::from_secs(20),
        in_flight_max: 1,
    }
}

fn requests() -> Arc<Requests> {
    Arc::new(Requests::new("cloud", "gw-1", fieldlog_projections::Epoch(0x1f)))
}

/// The requests that the server got.
type Seen = Arc<Mutex<Vec<(HeaderMap, Uri, Bytes)>>>;

fn router(seen: &Seen, answer: impl Fn(&HeaderMap) -> Response + Clone + Send + Sync + 'static) -> Router {
    let seen = Arc::clone(seen);
    Router::new()
        .fallback(move |headers: HeaderMap, uri: Uri, body: Bytes| {
            let response = answer(&headers);
            seen.lock().unwrap().push((headers, uri, body));
            std::future::ready(response)
        })
        .layer(axum::extract::DefaultBodyLimit::disable())
}

/// A server with one fixed answer; returns its port.
async fn server(seen: &Seen, answer: impl Fn(&HeaderMap) -> Response + Clone + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = router(seen, answer);
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

async fn send(sink: &mut Http, parcel: Parcel) -> Outcome {
    timeout(PATIENCE, sink.send(Arc::new(parcel))).await.expect("no outcome")
}

async fn one(target: &HttpTarget) -> Outcome {
    send(&mut target.open(&requests()).await.unwrap(), parcel(1, 1)).await
}

fn unzipped(headers: &HeaderMap, body: &Bytes) -> Bytes {
    match headers.get("content-encoding") {
        Some(encoding) => {
            assert_eq!(encoding, "gzip");
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain).unwrap();
            plain.into()
        }
        None => body.clone(),
    }
}

#[tokio::test]
async fn a_parcel_arrives_as_it_was_sent() {
    let seen = Seen::default();
    let port = server(&seen, |_| StatusCode::ACCEPTED.into_response()).await;
    let mut sink = target(port).open(&requests()).await.unwrap();
    // Too small to compress, compressed inline, compressed on a blocking thread.
    let parcels = [parcel(1, 1), parcel(2, 101), parcel(102, 3000)];
    for parcel in &parcels {
        assert_eq!(send(&mut sink, parcel.clone()).await, Outcome::Acked);
    }
    let mut compact = parcel(3001, 3001);
    compact.compact = Bytes::from(vec![7; 1000]);
    assert_eq!(send(&mut sink, compact).await, Outcome::Acked);
    sink.close().await;

    let seen = seen.lock().unwrap();
    let gzip: Vec<_> = seen.iter().map(|(headers, ..)| headers.contains_key("content-encoding")).collect();
    assert_eq!(gzip, [false, true, true, false]);
    for (sent, (headers, uri, body)) in parcels.iter().zip(&*seen) {
        assert_eq!(uri, "/in?key=1");
        assert_eq!(headers["content-type"], JSON);
        assert_eq!(headers["idempotency-key"].to_str().unwrap(), sent.manifest.identity());
        assert_eq!(unzipped(headers, body), Payload::plain(sent).to_bytes());
        let field = |name: &str| headers.get(format!("fieldlog-{name}"))?.to_str().ok();
        assert_eq!(Manifest::read(field).ok(), Some(sent.manifest.clone()));
    }
    assert_eq!(seen[3].0["content-type"], COMPACT);
}

#[tokio::test]
async fn answers_decide_what_becomes_of_a_parcel() {
    let seen = Seen::default();
    let port = server(&seen, |_| {
        (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "7")], "slow\ndown").into_response()
    })
    .await;
    let Outcome::Busy { after, why } = one(&target(port)).await else { panic!() };
    assert_eq!(after, Some(Duration::from_secs(7)));
    assert_eq!(why, format!("http://127.0.0.1:{port} answers 429 Too Many Requests, \"slowdown\""));

    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3600);
    let at = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap();
    let port = server(&seen, move |_| {
        (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", at.clone())]).into_response()
    })
    .await;
    let Outcome::Busy { after: Some(after), .. } = one(&target(port)).await else { panic!() };
    assert!(after > Duration::from_secs(3000) && after <= Duration::from_secs(3600), "{after:?}");

    let port = server(&seen, |_| StatusCode::PAYLOAD_TOO_LARGE.into_response()).await;
    assert!(matches!(one(&target(port)).await, Outcome::TooLarge { .. }));
    let port = server(&seen, |_| StatusCode::INTERNAL_SERVER_ERROR.into_response()).await;
    assert!(matches!(one(&target(port)).await, Outcome::Busy { after: None, .. }));
    let port = server(&seen, |_| StatusCode::UNPROCESSABLE_ENTITY.into_response()).await;
    assert!(matches!(one(&target(port)).await, Outcome::Refused { .. }));
}

/// Whatever else an answer has in its body is ignored.
#[tokio::test]
async fn an_answer_may_ask_for_something_again() {
    use fieldlog_projections::Seq;
    use fieldlog_wire::resend::CONTENT_TYPE;

    let seen = Seen::default();
    let body = |gateway: &str| {
        format!(
            "{{\"resend\":{{\"gateway\":\"{gateway}\",\"epoch\":\"000000000000001f\",\"ranges\":[[3,9]]}}}}"
        )
    };
    for (kind, body, asks) in [
        (CONTENT_TYPE, body("gw-1"), true),
        (CONTENT_TYPE, body("gw-2"), false),
        (CONTENT_TYPE, "{}".into(), false),
        ("application/json", body("gw-1"), false),
    ] {
        let words = body.clone();
        let port = server(&seen, move |_| ([("content-type", kind)], body.clone()).into_response()).await;
        let requests = requests();
        let mut sink = target(port).open(&requests).await.unwrap();
        let mut again = parcel(3, 9);
        again.resent = Some(crate::forward::Resent { asked: Seq(2), at: Time(77) });
        assert_eq!(send(&mut sink, again.clone()).await, Outcome::Acked);
        let next = timeout(Duration::from_millis(50), requests.next()).await.ok();
        assert_eq!(next, asks.then(|| vec![(Seq(3), Seq(9))]), "{kind} {words}");
    }
    let seen = seen.lock().unwrap();
    let (headers, ..) = &seen[0];
    assert_eq!(headers["fieldlog-resend"], "2");
    assert_eq!(headers["idempotency-key"], "gw-1/000000000000001f/3-9/resend/77");
}

#[tokio::test]
async fn a_token_is_sent_and_read_again_when_refused() {
    let seen = Seen::default();
    let port =
        server(&seen, |headers| match headers.get("authorization").map(hyper::http::HeaderValue::as_bytes) {
            Some(b"Bearer second") => StatusCode::OK.into_response(),
            _ => StatusCode::UNAUTHORIZED.into_response(),
        })
        .await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let write = |token: &str| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(&file, token).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("first\n");
    let mut target = target(port);
    target.sink.token_file = Some(file.clone());
    let mut sink = target.open(&requests()).await.unwrap();
    let Outcome::Busy { after: Some(SLOW), why } = send(&mut sink, parcel(1, 1)).await else { panic!() };
    assert!(why.contains("401 Unauthorized") && why.contains("`token_file`"), "{why}");
    write("second\n");
    assert_eq!(send(&mut sink, parcel(1, 1)).await, Outcome::Acked);

    std::fs::remove_file(&file).unwrap();
    let unreachable = target.open(&requests()).await.err().unwrap();
    assert!(
        unreachable.pace == Pace::Slow && unreachable.why.contains("cannot read `token_file`"),
        "{unreachable}"
    );
}

#[tokio::test]
async fn one_connection_serves_many_parcels_in_order() {
    let seen = Seen::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let router = router(&seen, |_| StatusCode::OK.into_response());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
            let service = hyper_util::service::TowerToHyperService::new(router.clone());
            let io = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
        }
    });
    let mut sink = target(port).open(&requests()).await.unwrap();
    let under_way: Vec<_> = (1..=50).map(|n| tokio::spawn(sink.send(Arc::new(parcel(n, n))))).collect();
    for one in under_way {
        assert_eq!(timeout(PATIENCE, one).await.unwrap().unwrap(), Outcome::Acked);
    }
    let order: Vec<_> = seen
        .lock()
        .unwrap()
        .iter()
        .map(|(headers, ..)| headers["fieldlog-first"].to_str().unwrap().to_owned())
        .collect();
    assert_eq!(order, (1..=50).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

/// Reads the head of a request.
async fn request_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        let mut some = [0; 1024];
        let read = stream.read(&mut some).await.unwrap();
        assert_ne!(read, 0);
        head.extend_from_slice(&some[..read]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

#[tokio::test]
async fn a_connection_that_the_server_closes_when_idle_is_replaced() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        // The first connection is closed without an answer once the second request has arrived.
        let (mut first, _) = listener.accept().await.unwrap();
        request_head(&mut first).await;
        first.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        request_head(&mut first).await;
        drop(first);
        let (mut second, _) = listener.accept().await.unwrap();
        let head = request_head(&mut second).await;
        second.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        head
    });
    let mut sink = target(port).open(&requests()).await.unwrap();
    assert_eq!(send(&mut sink, parcel(1, 1)).await, Outcome::Acked);
    assert_eq!(send(&mut sink, parcel(2, 2)).await, Outcome::Acked);
    let head = server.await.unwrap();
    assert!(head.contains("fieldlog-first: 2\r\n"), "{head}");
}

#[tokio::test]
async fn a_reset_in_the_middle_loses_the_parcel() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            request_head(&mut stream).await;
            // Closing it with unread bytes resets the connection.
        }
    });
    let mut target = target(port);
    target.sink.gzip = false;
    let mut sink = target.open(&requests()).await.unwrap();
    let Outcome::Lost { why } = send(&mut sink, parcel(1, 50_000)).await else { panic!() };
    assert!(why.starts_with(&format!("http://127.0.0.1:{port}: ")), "{why}");
    assert_eq!(timeout(PATIENCE, sink.lost()).await.unwrap(), why);
    assert!(matches!(send(&mut sink, parcel(1, 1)).await, Outcome::Lost { .. }));
}

#[tokio::test]
async fn a_server_that_never_answers_is_lost() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut target = target(listener.local_addr().unwrap().port());
    target.answer_timeout = Duration::from_millis(200);
    let Outcome::Lost { why } = one(&target).await else { panic!() };
    assert!(why.contains("has not answered within 0.2 s"), "{why}");
    let (_taken, port) = refusing_port();
    let unreachable = self::target(port).open(&requests()).await.err().unwrap();
    assert!(
        unreachable.pace != Pace::Slow && unreachable.why.contains("cannot connect to 127.0.0.1:"),
        "{unreachable}"
    );
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn tls_is_checked_against_the_ca_file() {
    use fieldlog_sim::servers::tls::Certificates;

    let Some(certificates) = Certificates::make() else { return };
    let acceptor = certificates.acceptor();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = router(&Seen::default(), |_| StatusCode::OK.into_response());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let service = hyper_util::service::TowerToHyperService::new(router.clone());
            let io = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
        }
    });
    let mut target = target(port);
    target.sink.address = Address { host: "localhost".into(), port, tls: true };
    target.sink.tls.ca_file = Some(certificates.ca_file());
    let mut sink = target.open(&requests()).await.unwrap();
    assert_eq!(send(&mut sink, parcel(1, 20_000)).await, Outcome::Acked);
    target.sink.tls.server_name = Some("elsewhere".into());
    let unreachable = target.open(&requests()).await.err().unwrap();
    assert!(unreachable.why.contains("`elsewhere`"), "{unreachable}");
}
