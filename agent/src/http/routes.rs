//! The routes.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::gate::{Gate, pass};
use super::problem::Problem;
use super::{App, Scope, Transport};
use super::{
    administer, aggregates, alerts, backup, commands, devices, diff, events, health, history, login, named,
    page, quarantine, sinks, snapshot, status, stream, why,
};
use crate::metrics;

/// All routes, for requests over `transport` with `scope`.
pub(super) fn router(app: Arc<App>, transport: Transport, scope: Scope) -> Router {
    Router::new()
        .route("/livez", get(health::live))
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/version", get(health::version))
        .route("/status", get(status::status))
        .route("/metrics", get(scrape))
        .route("/openapi.json", get(page::description))
        .route("/api/v1/devices", get(devices::list))
        .route("/api/v1/devices/{id}", get(devices::one))
        .route("/api/v1/devices/{id}/diff", get(diff::one))
        .route("/api/v1/diff", get(diff::all))
        .route("/api/v1/devices/{id}/history", get(history::list))
        .route("/api/v1/devices/{id}/attributes/{attribute}/why", get(why::why))
        .route("/api/v1/devices/{id}/aggregates", get(aggregates::list))
        .route("/api/v1/aggregates", get(named::list))
        .route("/api/v1/aggregates/{name}", get(named::one))
        .route("/api/v1/alerts", get(alerts::list))
        .route("/api/v1/devices/{id}/commands", get(commands::of_device).post(commands::ask))
        .route("/api/v1/devices/{id}/command-set", get(commands::set))
        .route("/api/v1/devices/{id}/twin", get(commands::twin))
        .route("/api/v1/devices/{id}/retire", post(administer::retire))
        .route("/api/v1/devices/{id}/forget", post(administer::forget))
        .route("/api/v1/devices/{id}/rename", post(administer::rename))
        .route("/api/v1/commands", get(commands::list))
        .route("/api/v1/commands/{id}", get(commands::one))
        .route("/api/v1/events", get(events::list))
        .route("/api/v1/events/stream", get(stream::stream))
        .route("/api/v1/events/{seq}", get(events::one))
        .route("/api/v1/backup", post(backup::make))
        .route("/api/v1/session", get(login::show).post(login::login).delete(login::logout))
        .route("/api/v1/snapshot", post(snapshot::make))
        .route("/api/v1/sinks/{name}/retry", post(sinks::retry))
        .route("/api/v1/quarantine", get(quarantine::list))
        .route("/api/v1/quarantine/requeue", post(administer::requeue))
        .route("/api/v1/quarantine/purge", post(administer::purge))
        .route("/api/v1/quarantine/{seq}", get(quarantine::payload).delete(administer::purge_one))
        .route("/api/v1/quarantine/{seq}/requeue", post(administer::requeue_one))
        .merge(page::router())
        .fallback(nothing)
        .layer(from_fn_with_state(Gate { app: app.clone(), transport, scope }, pass))
        .with_state(app)
}

async fn nothing(uri: Uri) -> Problem {
    let detail = format!(
        "there is nothing at {}; the API begins at /api/v1/devices, /api/v1/events and /status. A `/` in a device id is \
         written %2F",
        uri.path()
    );
    Problem::not_found("no-such-path", "No such path", detail)
}

/// `GET /metrics`
async fn scrape(axum::extract::State(app): axum::extract::State<Arc<App>>) -> Result<Response, Problem> {
    let side = app.side.clone();
    let text = app
        .reads
        .scrape(move |_| metrics::encode(&side).map_err(|e| Problem::internal(e.to_string())))
        .await?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE))], text).into_response())
}
