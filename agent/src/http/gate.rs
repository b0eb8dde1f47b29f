//! The checks before every handler: method, host, token, number of concurrent requests, and the position to wait for.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use fieldlog_projections::Time;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

use super::params::Params;
use super::problem::Problem;
use super::seats::{CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX};
use super::token::Tokens;
use super::{App, REQUESTS_MAX, Scope, Transport, host, min_seq};

/// Who asks for a change.
#[derive(Clone, Debug)]
pub(super) struct Actor(pub(super) Arc<str>);

/// The admission rules of a router.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    pub(super) app: Arc<App>,
    pub(super) transport: Transport,
    pub(super) scope: Scope,
}

/// Headers of every answer. The status page adds its own content policy.
const HEADERS: [(HeaderName, &str); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
];

/// Admits a request, or answers it with a problem.
pub(super) async fn pass(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let (path, method) = (request.uri().path().to_owned(), request.method().clone());
    let now = gate.app.side.now();
    let response = match admit(&gate, request, next).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    };
    let mut response = match response.extensions().get::<Problem>() {
        Some(problem) => problem.render(&path),
        None if response.status() == StatusCode::METHOD_NOT_ALLOWED => not_allowed(&method).render(&path),
        None if response.status().is_client_error() => malformed(response.status()).render(&path),
        None => response,
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    date(&mut response, now);
    response
}

async fn admit(gate: &Gate, mut request: Request, next: Next) -> Result<Response, Problem> {
    let changes = matches!(*request.method(), Method::POST | Method::DELETE)
        && request.uri().path().starts_with("/api/v1/");
    // These must answer when everything else is too busy to.
    let probe = matches!(request.uri().path(), "/livez" | "/healthz");
    let always = probe || matches!(request.uri().path(), "/readyz" | "/metrics");
    let host = host::named(request.uri(), request.headers(), request.version())?;
    if gate.transport == Transport::Tcp {
        let hosts = &gate.app.side.config.borrow().http.hosts;
        check_host(host, hosts)?;
        let tokens = &gate.app.tokens;
        let admitted = tokens.may_read(request.headers());
        // The page itself holds no data; it asks for the token before it reads any.
        let page = request.uri().path() == "/" || request.uri().path().starts_with("/assets/");
        if changes {
            let actor = admin(tokens, request.headers())?;
            request.extensions_mut().insert(actor);
        } else if !admitted && !probe && !page {
            return Err(unauthorized());
        }
    } else if changes && request.extensions().get::<Actor>().is_none() {
        return Err(no_peer());
    }
    if always {
        return Ok(next.run(request).await);
    }
    if gate.scope == Scope::Health {
        return Err(Problem::busy(format!(
            "{CONNECTIONS_MAX} connections are open, or {CONNECTIONS_PER_ADDRESS_MAX} from this address, which is the most \
             at a time; only /livez, /readyz and /metrics are answered now. Close connections and try again"
        )));
    }
    // A waiting request does not take a slot.
    let waits = request.uri().path() == "/status" || request.uri().path().starts_with("/api/");
    if waits && matches!(*request.method(), Method::GET | Method::HEAD | Method::POST | Method::DELETE) {
        min_seq::reach(&gate.app, &Params::any(request.uri())?).await?;
    }
    let _permit = gate.app.requests.try_acquire().map_err(|_| {
        Problem::busy(format!(
            "{REQUESTS_MAX} requests are being answered, which is the most at a time; try again"
        ))
    })?;
    Ok(next.run(request).await)
}

/// No handler takes the method. The router adds `Allow` to the answer.
fn not_allowed(method: &Method) -> Problem {
    let detail = format!(
        "this resource has no method {method}; the header `Allow` of this answer has those there are"
    );
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "Not a method of this resource",
        detail,
    )
}

/// Who asks for a change over TCP.
fn admin(tokens: &Tokens, headers: &HeaderMap) -> Result<Actor, Problem> {
    if tokens.may_change(headers) {
        return Ok(Actor("token:admin".into()));
    }
    let title = "A token for changes is required";
    if tokens.admin.is_none() {
        let detail =
            "over TCP nothing can be changed without `http.admin_token_file`; set it, or use the Unix socket";
        return Err(Problem::new(StatusCode::FORBIDDEN, "no-admin-token", title, detail));
    }
    if headers.contains_key(header::AUTHORIZATION) {
        let detail = "the token is not the one in `http.admin_token_file`, which changes need";
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", title, detail));
    }
    let detail = "send the token in `http.admin_token_file` as `Authorization: Bearer <token>`";
    Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", title, detail))
}

fn no_peer() -> Problem {
    let detail =
        "the kernel does not say which user is at the other end of the Unix socket; use TCP with a token";
    Problem::new(StatusCode::FORBIDDEN, "unknown-peer", "Who asks is not known", detail)
}

/// Problems for requests that the router rejects before a handler.
fn malformed(status: StatusCode) -> Problem {
    let detail = "the path cannot be read; it must be percent-encoded UTF-8";
    Problem::new(status, "bad-request", "The request cannot be read", detail)
}

fn unauthorized() -> Problem {
    let detail = "send the token in `http.token_file` as `Authorization: Bearer <token>`";
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "A token is required", detail)
}

/// Refuses foreign names: another site could resolve its own name to this address and read the API from a browser (DNS
/// rebinding).
fn check_host(host: &str, hosts: &[String]) -> Result<(), Problem> {
    if host::is_ours(host, hosts) {
        return Ok(());
    }
    let detail = format!(
        "`{host}` is not a name of this agent; use its IP address or localhost, or add the name to `http.hosts`"
    );
    Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "misdirected", "Not a name of this agent", detail))
}

/// Adds the date, unless the clock was never set or is out of the header's range.
fn date(response: &mut Response, now: Time) {
    let Some(timestamp) = Timestamp::from_microsecond(now.0).ok().filter(|_| now.0 >= 0) else { return };
    let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&timestamp).ok();
    if let Some(value) = text.and_then(|text| HeaderValue::from_str(&text).ok()) {
        response.headers_mut().insert(header::DATE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_no_clock_gives_no_date() {
        let check = |time: i64, expected: Option<&str>| {
            let mut response = Response::default();
            date(&mut response, Time(time));
            assert_eq!(response.headers().get(header::DATE).map(|v| v.to_str().unwrap()), expected, "{time}");
        };
        check(1_763_892_000_999_999, Some("Sun, 23 Nov 2025 10:00:00 GMT"));
        check(0, Some("Thu, 01 Jan 1970 00:00:00 GMT"));
        check(-1, None);
        check(i64::MIN, None);
        check(i64::MAX, None);
        // The first moment of the year 10000.
        check(253_402_300_800_000_000, None);
    }
}
