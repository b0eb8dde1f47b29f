//! The routes.

use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::routing::{get, post};

use super::problem::Problem;
use super::{App, api, commands, fleet, ingest, metrics, page, search};

/// All routes.
pub(super) fn router(app: App) -> Router {
    Router::new()
        .route("/events", post(ingest::parcel))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics::metrics))
        .route("/openapi.json", get(page::description))
        .route("/api/v1/gateways", get(fleet::gateways))
        .route("/api/v1/fleet", get(fleet::fleet))
        .route("/api/v1/gateways/{gateway}", get(api::gateway))
        .route("/api/v1/gateways/{gateway}/resume", post(api::resume))
        .route("/api/v1/gateways/{gateway}/devices/{device}/commands", post(commands::ask))
        .route("/api/v1/gateways/{gateway}/commands/{command}", get(commands::one))
        .route("/api/v1/devices", get(api::devices))
        .route("/api/v1/search", get(search::search))
        .route("/api/v1/state", get(api::state))
        .route("/api/v1/history", get(api::history))
        .route("/api/v1/aggregates", get(api::aggregates))
        .route("/api/v1/events", get(api::events))
        .route("/api/v1/commands", get(api::commands))
        .route("/api/v1/stores", get(api::stores))
        .route("/api/v1/sources", get(api::sources))
        .merge(page::router())
        .fallback(nothing)
        .method_not_allowed_fallback(not_allowed)
        .with_state(app)
}

async fn ready(State(app): State<App>) -> (StatusCode, &'static str) {
    if app.hub.borrow().is_some() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "there is no lease in PostgreSQL: nothing can be stored\n")
    }
}

async fn nothing(uri: Uri) -> Problem {
    let detail = format!(
        "there is nothing at {}; /openapi.json and the README say what there is. A `/` in a device id is written %2F",
        uri.path()
    );
    Problem::new(StatusCode::NOT_FOUND, "no-such-path", "No such path", detail)
}

async fn not_allowed(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} does not take {method}; `Allow` says what it takes", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "The path does not take this", detail)
}
