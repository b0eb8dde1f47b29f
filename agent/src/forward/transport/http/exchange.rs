//! One request and its answer, on a connection that is reused for the next.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::FutureExt;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION,
    RETRY_AFTER, USER_AGENT,
};
use hyper::http::request::Builder;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::{Instant, timeout};

use fieldlog_projections::Time;
use fieldlog_wire::resend;

use super::HttpTarget;
use super::answer::{Answer, retry_after};
use crate::forward::envelope::{self, Payload};
use crate::forward::resend::Requests;
use crate::forward::{Outcome, Pace, Parcel, SLOW, Unreachable};
use crate::net::connect::{self, Endpoint};
use crate::net::failure::{ConnectError, causes};
use crate::net::secret;

/// Larger bodies are compressed on a blocking thread.
const INLINE_BYTES_MAX: usize = 64 * 1024;

/// Compressing smaller bodies saves nothing.
const GZIP_BYTES_MIN: usize = 512;

/// Servers and middleboxes drop connections that are idle for this long, some without closing them.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// A longer answer is not read to its end.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Maximum characters of an answer's body in messages.
const WORDS_MAX: usize = 200;

/// Machine-readable answers (RFC 9457).
const PROBLEM_JSON: &str = "application/problem+json";

/// The fields that are read from such an answer.
#[derive(serde::Deserialize)]
struct Problem {
    #[serde(rename = "type")]
    kind: Option<String>,
    detail: Option<String>,
}

/// Posts parcels to one server.
pub(super) struct Client {
    target: HttpTarget,
    /// For the `Host` field.
    authority: String,
    /// The URL for messages, without path and query, which may contain a secret.
    name: String,
    /// `None`: must be read again.
    authorization: Option<HeaderValue>,
    /// Where what the server asks for again goes; `None` if it gets no parcels.
    requests: Option<Arc<Requests>>,
    kept: Option<Connection>,
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    used: Instant,
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A body to send.
#[derive(Clone)]
struct Content {
    bytes: Bytes,
    gzip: bool,
}

impl Client {
    pub(super) async fn open(target: HttpTarget, requests: Arc<Requests>) -> Result<Client, Unreachable> {
        let mut client = Client::new(target, Some(requests));
        client.authorize().map_err(|why| Unreachable { why, pace: Pace::Slow })?;
        client.kept = Some(client.connect().await?);
        Ok(client)
    }

    /// Not connected yet.
    pub(super) fn new(target: HttpTarget, requests: Option<Arc<Requests>>) -> Client {
        let authority = target.sink.authority();
        // Without the path, which may contain a secret.
        let name = target.sink.origin();
        Client { target, authority, name, authorization: None, requests, kept: None }
    }

    /// Names a key, which only sinks have.
    fn see(&self, key: &str) -> String {
        self.requests.as_ref().map(|_| format!(" (see `{key}`)")).unwrap_or_default()
    }

    fn authorize(&mut self) -> Result<(), String> {
        let Some(file) = &self.target.sink.token_file else { return Ok(()) };
        let name = &self.name;
        let token = secret::read("token_file", file).map_err(|error| format!("{name}: {error}"))?;
        let mut value = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| format!("{name}: `token_file` {} holds no token", file.display()))?;
        value.set_sensitive(true);
        self.authorization = Some(value);
        Ok(())
    }

    /// Sends a parcel and waits for its outcome.
    pub(super) async fn send(&mut self, parcel: Arc<Parcel>) -> Outcome {
        if self.authorization.is_none()
            && let Err(why) = self.authorize()
        {
            return Outcome::Busy { after: Some(SLOW), why };
        }
        let content = content(Arc::clone(&parcel), self.target.sink.gzip).await;
        let mut request = self.request(envelope::content_type(&parcel), &parcel.identity(), &content);
        for (name, value) in parcel.fields() {
            request = request.header(format!("fieldlog-{name}"), value);
        }
        self.ask(request, &content).await
    }

    /// Posts what is no parcel.
    pub(super) async fn post(&mut self, content_type: &'static str, identity: &str, body: Bytes) -> Outcome {
        if self.authorization.is_none()
            && let Err(why) = self.authorize()
        {
            return Outcome::Busy { after: Some(SLOW), why };
        }
        let content = Content { bytes: body, gzip: false };
        let request = self.request(content_type, identity, &content);
        self.ask(request, &content).await
    }

    async fn ask(&mut self, request: Builder, content: &Content) -> Outcome {
        let request = match request.body(Full::new(content.bytes.clone())) {
            Ok(request) => request,
            Err(error) => {
                let why = format!("{}: no request can be made: {error}", self.name);
                return Outcome::Busy { after: Some(SLOW), why };
            }
        };
        match self.exchange(request).await {
            Ok(answer) => {
                if matches!(answer.status, 401 | 403) {
                    // An operator may have replaced the token before the next attempt.
                    self.authorization = None;
                }
                if let (Some(request), Some(requests)) = (&answer.request, &self.requests) {
                    requests.take(request);
                }
                answer.outcome(&self.name, content.bytes.len())
            }
            Err(why) => Outcome::Lost { why },
        }
    }

    fn request(&self, content_type: &'static str, identity: &str, content: &Content) -> Builder {
        let mut request = Request::post(&self.target.sink.path)
            .header(HOST, &self.authority)
            .header(USER_AGENT, concat!("fieldlog/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, content_type)
            .header("idempotency-key", identity);
        if content.gzip {
            request = request.header(CONTENT_ENCODING, "gzip");
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        request
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, String> {
        if let Some(kept) = self.kept.take()
            && kept.used.elapsed() < IDLE_MAX
            && !kept.sender.is_closed()
            && let Ok(answer) = self.attempt(kept, request.clone()).await?
        {
            return Ok(answer);
        }
        // The server may have closed the persistent connection at this moment; the parcel's identity makes repeating
        // safe.
        let fresh = self.connect().await.map_err(|unreachable| unreachable.why)?;
        self.attempt(fresh, request).await?.map_err(|error| {
            format!("{}: the connection broke before it had answered: {}", self.name, causes(&error))
        })
    }

    /// The outer error is final, the inner one is that of the connection.
    async fn attempt(
        &mut self,
        mut connection: Connection,
        request: Request<Full<Bytes>>,
    ) -> Result<Result<Answer, hyper::Error>, String> {
        let limit = self.target.answer_timeout;
        let exchange = async {
            connection.sender.ready().await?;
            let response = connection.sender.send_request(request).await?;
            Ok(read(response).await)
        };
        let answered = timeout(limit, exchange).await;
        let answered = answered.map_err(|_| {
            let (name, seconds) = (&self.name, limit.as_secs_f32());
            format!("{name} has not answered within {seconds} s{}", self.see("answer_timeout_s"))
        })?;
        Ok(answered.map(|(answer, complete)| {
            if complete {
                connection.used = Instant::now();
                self.kept = Some(connection);
            }
            answer
        }))
    }

    async fn connect(&self) -> Result<Connection, Unreachable> {
        let name = &self.name;
        let limit = self.target.connect_timeout;
        let endpoint = Endpoint {
            address: &self.target.sink.address,
            tls: &self.target.sink.tls,
            connect_timeout: limit,
        };
        let failed = |error: &ConnectError| Unreachable {
            why: format!("{name}: {}", causes(error)),
            pace: error.pace(),
        };
        let late = |_| {
            let seconds = limit.as_secs_f32();
            let why = format!("{name}: no connection within {seconds} s{}", self.see("connect_timeout_s"));
            Unreachable { why, pace: Pace::Unreached }
        };
        let stream = timeout(limit, connect::connect(&endpoint)).await.map_err(late)?;
        let stream = stream.map_err(|error| failed(&error))?;
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Unreachable { why: format!("{name}: {}", causes(&error)), pace: Pace::Soon })?;
        // Its error, if any, is returned to the request in flight.
        let driver = tokio::spawn(async { drop(connection.await) }.boxed()).abort_handle();
        Ok(Connection { sender, used: Instant::now(), driver })
    }
}

/// Reads an answer; also returns whether it was read to its end, so that the connection can be reused.
async fn read(response: Response<hyper::body::Incoming>) -> (Answer, bool) {
    let headers = response.headers();
    let mut answer = Answer {
        status: response.status().as_u16(),
        retry_after: field(headers, &RETRY_AFTER).and_then(|text| retry_after(text, now())),
        location: field(headers, &LOCATION).map(printable),
        words: String::new(),
        problem: None,
        request: None,
    };
    let is = |wanted: &str| field(headers, &CONTENT_TYPE).is_some_and(|kind| kind.starts_with(wanted));
    let (is_problem, is_request) = (is(PROBLEM_JSON), is(resend::CONTENT_TYPE));
    let Ok(body) = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await else {
        // The status is known in any case.
        return (answer, false);
    };
    let body = body.to_bytes();
    if answer.status < 300 {
        answer.request = is_request.then_some(body);
    } else {
        let problem = is_problem.then(|| serde_json::from_slice::<Problem>(&body).ok()).flatten();
        let words = problem.as_ref().and_then(|problem| problem.detail.clone());
        answer.words = printable(words.unwrap_or_else(|| String::from_utf8_lossy(&body).into()).trim());
        answer.problem = problem.and_then(|problem| problem.kind);
    }
    (answer, true)
}

fn field<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn printable(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(WORDS_MAX).collect()
}

fn now() -> Time {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX))
}

async fn content(parcel: Arc<Parcel>, gzip: bool) -> Content {
    let plain = Payload::plain(&parcel);
    let size = plain.len();
    // The compact format is already compressed.
    if !gzip || !parcel.compact.is_empty() || size < GZIP_BYTES_MIN {
        return Content { bytes: plain.to_bytes(), gzip: false };
    }
    let bytes = plain.to_bytes();
    let uncompressed = Content { bytes: bytes.clone(), gzip: false };
    let compressed = match size {
        0..=INLINE_BYTES_MAX => compress(&bytes),
        // An error means that the runtime is shutting down.
        _ => spawn_blocking(move || compress(&bytes)).await.ok().flatten(),
    };
    compressed.map_or(uncompressed, |bytes| Content { bytes, gzip: true })
}

fn compress(bytes: &[u8]) -> Option<Bytes> {
    let out = BytesMut::with_capacity(bytes.len() / 4).writer();
    let mut encoder = GzEncoder::new(out, Compression::fast());
    // Writing to memory cannot fail.
    encoder.write_all(bytes).ok()?;
    Some(encoder.finish().ok()?.into_inner().freeze())
}
