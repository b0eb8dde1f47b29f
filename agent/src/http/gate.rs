//! What every request passes before its handler: method, host, token, how many at once, and the position it waits for.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::params::Params;
use super::problem::Problem;
use super::{App, REQUESTS_MAX, Transport, position};

/// What a router's requests are let in by.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    pub(super) app: Arc<App>,
    pub(super) transport: Transport,
}

/// Headers of every answer. The page adds its own content policy.
const HEADERS: [(HeaderName, &str); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
];

/// Lets a request in, or answers it with the problem it has.
pub(super) async fn pass(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let response = match admit(&gate, request, next).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    };
    let mut response = match response.extensions().get::<Problem>() {
        Some(problem) => problem.render(&path),
        None if response.status().is_client_error() => malformed(response.status()).render(&path),
        None => response,
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn admit(gate: &Gate, request: Request, next: Next) -> Result<Response, Problem> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(method_not_allowed());
    }
    // These must answer when everything else is too busy to.
    let probe = matches!(request.uri().path(), "/livez" | "/healthz");
    if gate.transport == Transport::Tcp {
        let hosts = &gate.app.side.config.borrow().http.hosts;
        check_host(request.uri(), request.headers(), hosts)?;
        let admitted = gate.app.token.as_ref().is_none_or(|token| token.admits(request.headers()));
        // The page itself holds no data; it asks for the token before it reads any.
        let page = request.uri().path() == "/" || request.uri().path().starts_with("/assets/");
        if !admitted && !probe && !page {
            return Err(unauthorized());
        }
    }
    if probe {
        return Ok(next.run(request).await);
    }
    let _permit = gate.app.requests.try_acquire().map_err(|_| {
        Problem::busy(format!(
            "{REQUESTS_MAX} requests are being answered, which is the most at a time; try again"
        ))
    })?;
    if request.uri().path() == "/status" || request.uri().path().starts_with("/api/") {
        position::reach(&gate.app, &Params::any(request.uri())?).await?;
    }
    Ok(next.run(request).await)
}

fn method_not_allowed() -> Problem {
    let detail = "everything here is read only; use GET or HEAD";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Read only", detail)
}

/// What the router refuses before a handler sees it.
fn malformed(status: StatusCode) -> Problem {
    let detail = "the path cannot be read; it must be percent-encoded UTF-8";
    Problem::new(status, "bad-request", "The request cannot be read", detail)
}

fn unauthorized() -> Problem {
    let detail = "send the token in `http.token_file` as `Authorization: Bearer <token>`";
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "A token is required", detail)
}

/// Refuses names that are not ours: a page elsewhere could have its own name resolved to this address and read us from
/// a browser (DNS rebinding).
fn check_host(uri: &Uri, headers: &HeaderMap, hosts: &[String]) -> Result<(), Problem> {
    let given = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or(""),
    };
    if host_allowed(host_of(given), hosts) {
        return Ok(());
    }
    let detail = format!(
        "`{given}` is not a name of this agent; use its IP address or localhost, or add the name to `http.hosts`"
    );
    Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "misdirected", "Not a name of this agent", detail))
}

/// The host of `host[:port]`.
fn host_of(authority: &str) -> &str {
    if let Some((address, _)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

fn host_allowed(host: &str, hosts: &[String]) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.parse::<IpAddr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_answered() {
        let hosts = vec!["gateway.lan".to_owned()];
        let check = |given: &str, allowed: bool| {
            assert_eq!(host_allowed(host_of(given), &hosts), allowed, "{given}");
        };
        check("127.0.0.1:8687", true);
        check("192.168.1.4", true);
        check("[::1]:8687", true);
        check("localhost:8687", true);
        check("Gateway.LAN", true);
        check("gateway.lan.", true);
        check("evil.example:8687", false);
        check("127.0.0.1.evil.example", false);
        check("", false);
        check("gateway.lan@evil.example", false);
    }
}
