//! The checks before every handler: method, host, token or session, number of concurrent requests, and the position to wait for.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use fieldlog_projections::Time;
use fieldlog_wire::api::session::Grant;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

use super::attempts::FAILURES_MAX;
use super::params::Params;
use super::problem::Problem;
use super::seats::{CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX};
use super::token::bearer;
use super::{App, REQUESTS_MAX, Scope, Transport, host, min_seq, session};

/// Who asks for a change.
#[derive(Clone, Debug)]
pub(super) struct Actor(pub(super) Arc<str>);

/// Where a connection comes from; `None` over the Unix socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client(pub(super) Option<IpAddr>);

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
        // The page itself holds no data; it asks for the token before it reads any.
        let page = request.uri().path() == "/" || request.uri().path().starts_with("/assets/");
        if changes {
            check_origin(&gate.app, request.headers())?;
        }
        if !probe && !page && request.uri().path() != session::PATH {
            let granted = permit(&gate.app, &request, changes)?;
            request.extensions_mut().insert(Actor(format!("token:{}", granted.word()).into()));
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

/// What the token or the session of a request over TCP allows, which is enough for it.
fn permit(app: &App, request: &Request, changes: bool) -> Result<Grant, Problem> {
    let (path, headers) = (request.uri().path(), request.headers());
    let command = path.starts_with("/api/v1/devices/") && path.ends_with("/commands");
    let needed = match changes {
        true if command => Grant::Command,
        true => Grant::Admin,
        false => Grant::Read,
    };
    let tokens = app.credentials.tokens();
    if needed == Grant::Read && !tokens.guard_reading() {
        return Ok(Grant::Read);
    }
    if !tokens.give(needed) {
        return Err(no_token_for(needed));
    }
    let client = request.extensions().get::<Client>().and_then(|client| client.0);
    let shown = bearer(headers);
    let granted = match shown {
        Some(token) => look_at(app, token, client)?,
        None => session::grant(app, headers),
    };
    // A browser names the origin of what changes something, and sends the cookie by itself.
    if changes && shown.is_none() && granted.is_some() && !headers.contains_key(header::ORIGIN) {
        return Err(foreign("the request has a cookie and no `Origin`"));
    }
    granted
        .filter(|granted| *granted >= needed)
        .ok_or_else(|| not_permitted(needed, granted, shown.is_some()))
}

/// What a token allows. A wrong one counts against its sender.
pub(super) fn look_at(app: &App, token: &[u8], client: Option<IpAddr>) -> Result<Option<Grant>, Problem> {
    let (attempts, now) = (&app.credentials.attempts, app.side.clock.now());
    if let Some(wait) = client.and_then(|client| attempts.wait(client, now)) {
        let seconds = u16::try_from(wait.as_secs() + 1).unwrap_or(u16::MAX);
        let detail = format!(
            "{FAILURES_MAX} wrong tokens came from this address; the next one is looked at in {seconds} s"
        );
        let title = "Too many wrong tokens";
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-attempts", title, detail);
        return Err(problem.retry_after(seconds));
    }
    let granted = app.credentials.tokens().grant(token);
    if let (None, Some(client)) = (granted, client)
        && attempts.failed(client, now)
    {
        tracing::warn!(
            "{FAILURES_MAX} wrong tokens came over HTTP from {client}: until some time has passed, no token from there is \
             looked at. Correct the token of that client, or find out who it is"
        );
    }
    Ok(granted)
}

/// Refuses changes that the page of another site asks for.
fn check_origin(app: &App, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    let ours = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    // A proxy may speak HTTPS for an agent that does not.
    let plain = origin.strip_prefix("http://").filter(|_| !app.credentials.secure);
    match origin.strip_prefix("https://").or(plain) {
        Some(theirs) if theirs.eq_ignore_ascii_case(ours) => Ok(()),
        _ => Err(foreign(&format!("`Origin` is {origin:?}, and `Host` is {ours:?}"))),
    }
}

fn foreign(what: &str) -> Problem {
    let detail = format!(
        "{what}; what a browser sends here must come from this agent's own page. A proxy in front of it must leave `Host` as \
         it is"
    );
    Problem::new(StatusCode::FORBIDDEN, "cross-origin", "Not from the agent's own page", detail)
}

/// The settings with the tokens that allow this.
fn settings(needed: Grant) -> &'static str {
    match needed {
        Grant::Read => "`http.token_file`",
        Grant::Command => "`http.command_token_file` or `http.admin_token_file`",
        Grant::Admin => "`http.admin_token_file`",
    }
}

const TITLE: &str = "A token for changes is required";

fn no_token_for(needed: Grant) -> Problem {
    let (what, settings) = (
        if needed == Grant::Command { "no command can be sent" } else { "nothing can be changed" },
        settings(needed),
    );
    let detail = format!("over TCP {what} without {settings}; set it, or use the Unix socket");
    Problem::new(StatusCode::FORBIDDEN, "no-admin-token", TITLE, detail)
}

fn not_permitted(needed: Grant, granted: Option<Grant>, shown: bool) -> Problem {
    let settings = settings(needed);
    let (status, code, detail) = match granted {
        Some(granted) => {
            let (granted, needed) = (granted.word(), needed.word());
            let detail =
                format!("the token is for `{granted}`, and this needs `{needed}`: use the one in {settings}");
            (StatusCode::FORBIDDEN, "forbidden", detail)
        }
        None if shown && needed != Grant::Read => {
            let detail = format!("the token is not the one in {settings}, which this needs");
            (StatusCode::FORBIDDEN, "forbidden", detail)
        }
        None => {
            let detail = format!("send the token in {settings} as `Authorization: Bearer <token>`");
            (StatusCode::UNAUTHORIZED, "unauthorized", detail)
        }
    };
    let title = if needed == Grant::Read { "A token is required" } else { TITLE };
    Problem::new(status, code, title, detail)
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
