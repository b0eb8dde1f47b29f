//! `/api/v1/session`: a browser logs in with a token, asks what it may do, and logs out.

use std::sync::Arc;

use axum::Extension;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fieldlog_wire::api::session::{Grant, LoginBody, SessionAnswer};

use super::App;
use super::administer::bad;
use super::commands::is_json;
use super::gate::{Client, look_at};
use super::problem::Problem;
use super::session::{self, LIFETIME};

/// Largest body, in bytes.
const BODY_BYTES_MAX: usize = 8 * 1024;

/// `GET /api/v1/session`
pub(super) async fn show(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    answer(session::grant(&app, &headers), None)
}

/// `POST /api/v1/session`
pub(super) async fn login(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    request: Request,
) -> Result<Response, Problem> {
    let headers = request.headers().clone();
    let body = to_bytes(request.into_body(), BODY_BYTES_MAX).await.unwrap_or_default();
    // Without the parser's words, which may have the token in them.
    let body: Option<LoginBody> = serde_json::from_slice(&body).ok().filter(|_| is_json(&headers));
    let LoginBody { token } = body.ok_or_else(|| {
        bad("send a body like {\"token\": \"the token\"}, with `Content-Type: application/json`")
    })?;
    let granted = look_at(&app, token.as_bytes(), client.0)?.ok_or_else(|| {
        let detail = "the token is none of those in `http.token_file`, `http.command_token_file` and `http.admin_token_file`";
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "The token is not known", detail)
    })?;
    close(&app, &headers);
    let id = app.credentials.sessions.open(granted, app.side.clock.now());
    let id = id.map_err(|error| Problem::internal(format!("there are no random numbers: {error}")))?;
    Ok(answer(Some(granted), Some(cookie(&app, &id, LIFETIME.as_secs()))))
}

/// `DELETE /api/v1/session`
pub(super) async fn logout(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    close(&app, &headers);
    answer(None, Some(cookie(&app, "", 0)))
}

/// Ends the session of a request.
fn close(app: &App, headers: &HeaderMap) {
    if let Some(id) = session::id(app, headers) {
        app.credentials.sessions.close(id);
    }
}

fn cookie(app: &App, id: &str, seconds: u64) -> String {
    let secure = if app.credentials.secure { "; Secure" } else { "" };
    format!("{}={id}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}", session::name(app))
}

fn answer(scope: Option<Grant>, cookie: Option<String>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    let body = serde_json::to_vec(&SessionAnswer { scope }).unwrap_or_default();
    let mut response = (headers, body).into_response();
    // A gateway id has only characters that a cookie's name may have.
    if let Some(cookie) = cookie.and_then(|cookie| HeaderValue::try_from(cookie).ok()) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}
