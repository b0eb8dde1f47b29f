//! What has become of the parcels, as JSON. PostgreSQL writes the rows itself.

use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{RequestPartsExt, Router};
use fieldlog_projections::Time;
use fieldlog_wire::json::parse_time;
use serde::Deserialize;
use tokio::time::Instant;
use tokio_postgres::types::ToSql;

use super::App;
use super::problem::Problem;
use crate::changes::WINDOWS_S;
use crate::follow::{STORES, Standing};
use crate::text;
use crate::token::{Admission, Scope, admit};

const LIMIT: i64 = 100;
const LIMIT_MAX: i64 = 10_000;
/// How long `min_seq` is waited for, and how often the tables are looked at meanwhile.
const WAIT_MAX: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);

const COMPLETE_UPTO: &str = "
    SELECT coalesce((SELECT min((r ->> 0)::bigint) - 1 FROM jsonb_array_elements(l.missing) r
        WHERE NOT EXISTS (SELECT FROM gaps x WHERE x.log = l.log AND x.state = 'lost'
            AND x.first <= (r ->> 0)::bigint AND x.last >= (r ->> 1)::bigint)), l.newest)
    FROM gateways g JOIN logs l USING (log) WHERE g.gateway = $1";

/// The routes below `/api/v1`.
pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/gateways", get(gateways))
        .route("/gateways/{gateway}", get(gateway))
        .route("/gateways/{gateway}/resume", post(resume))
        .route("/devices", get(devices))
        .route("/history", get(history))
        .route("/aggregates", get(aggregates))
        .route("/events", get(events))
        .route("/commands", get(commands))
        .route("/stores", get(stores))
        .fallback(|| async {
            let detail = "look into the README for what there is below /api/v1";
            Problem::new(StatusCode::NOT_FOUND, "no-such-path", "No such path", detail)
        })
}

/// What a request may ask for; not every path uses everything.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Asked {
    gateway: Option<String>,
    device: Option<String>,
    attribute: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    state: Option<String>,
    q: Option<String>,
    length_s: Option<u32>,
    from: Option<String>,
    to: Option<String>,
    /// The last item of the page before.
    after: Option<String>,
    limit: Option<i64>,
    min_seq: Option<i64>,
}

/// A request that may read, with what it asks for.
pub(super) struct Reading(Asked);

impl FromRequestParts<App> for Reading {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Reading, Problem> {
        allow(parts, app, Scope::Read)?;
        let asked: Result<Query<Asked>, QueryRejection> = parts.extract().await;
        let Query(asked) = asked.map_err(|error| Problem::bad_parameter(error.body_text()))?;
        let reading = Reading(asked);
        reading.wait(app).await?;
        Ok(reading)
    }
}

/// A request that may decide about gateways.
struct Deciding;

impl FromRequestParts<App> for Deciding {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Deciding, Problem> {
        allow(parts, app, Scope::Admin).map(|()| Deciding)
    }
}

/// Looks at the token.
pub(super) fn allow(parts: &Parts, app: &App, scope: Scope) -> Result<(), Problem> {
    match admit(&app.tokens, &parts.headers, scope) {
        Admission::Admitted => Ok(()),
        Admission::Unknown => {
            let detail = "send a token of the configuration, as `Authorization: Bearer TOKEN`";
            Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "A token is needed", detail))
        }
        Admission::Forbidden => {
            let detail = format!("the token needs the scope \"{}\"", scope.word());
            Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", "The token does not allow this", detail))
        }
    }
}

impl Reading {
    fn need<'a>(&'a self, name: &str, value: &'a Option<String>) -> Result<&'a str, Problem> {
        value.as_deref().ok_or_else(|| Problem::bad_parameter(format!("`{name}` is needed")))
    }

    fn limit(&self) -> Result<i64, Problem> {
        let limit = self.0.limit.unwrap_or(LIMIT);
        if (1..=LIMIT_MAX).contains(&limit) {
            return Ok(limit);
        }
        Err(Problem::bad_parameter(format!("`limit={limit}` is not 1 to {LIMIT_MAX}")))
    }

    fn after_seq(&self) -> Result<i64, Problem> {
        let text = self.0.after.as_deref().unwrap_or("0");
        text.parse().map_err(|_| Problem::bad_parameter(format!("`after={text}` is not a position")))
    }

    /// Times from and to, without bounds if they are not given.
    fn times(&self) -> Result<(jiff::Timestamp, jiff::Timestamp), Problem> {
        let time = |name: &str, value: &Option<String>, none: Time| match value {
            None => Ok(text::time(none)),
            Some(text) => parse_time(text).map(text::time).ok_or_else(|| {
                Problem::bad_parameter(format!("`{name}={text}` is not a time like 2026-01-02T03:04:05Z"))
            }),
        };
        Ok((time("from", &self.0.from, Time(i64::MIN))?, time("to", &self.0.to, Time(i64::MAX))?))
    }

    /// Waits until the tables have everything of the gateway's newest log up to `min_seq` that is not lost.
    async fn wait(&self, app: &App) -> Result<(), Problem> {
        let Some(min_seq) = self.0.min_seq else { return Ok(()) };
        let gateway = self.need("gateway", &self.0.gateway)?;
        let begin = Instant::now();
        loop {
            let rows =
                app.readers.query(COMPLETE_UPTO, &[&gateway]).await.map_err(|why| Problem::database(&why))?;
            let position = rows.first().map_or(0, |row| row.get::<_, i64>(0));
            if position >= min_seq {
                return Ok(());
            }
            if begin.elapsed() > WAIT_MAX {
                let detail = format!(
                    "the tables have everything of `{gateway}` up to {position}, and `min_seq` is {min_seq}; ask again"
                );
                let title = "Not there yet";
                return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "behind", title, detail));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// The rows of `select` as `{"items": […]}`.
async fn items(app: &App, select: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Response, Problem> {
    let sql = format!("SELECT row_to_json(t)::text FROM ({select}) t");
    let rows = app.readers.query(&sql, values).await.map_err(|why| Problem::database(&why))?;
    let rows: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    let body = format!("{{\"items\":[{}]}}\n", rows.join(","));
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, body).into_response())
}

async fn gateways(State(app): State<App>, asked: Reading) -> Result<Response, Problem> {
    let (after, limit) = (asked.0.after.clone().unwrap_or_default(), asked.limit()?);
    let select = "SELECT * FROM gateway_lag WHERE gateway > $1 ORDER BY gateway LIMIT $2";
    items(&app, select, &[&after, &limit]).await
}

/// All logs of a gateway, the newest first.
async fn gateway(
    State(app): State<App>,
    Path(gateway): Path<String>,
    _: Reading,
) -> Result<Response, Problem> {
    let select =
        "SELECT gateway, epoch, position, chain, newest, head, missing, events, duplicates, faults, forked,
            first_seen, last_seen, newest_time
        FROM logs WHERE gateway = $1 ORDER BY log DESC";
    items(&app, select, &[&gateway]).await
}

/// Takes parcels again of a gateway whose log is stopped.
async fn resume(
    State(app): State<App>,
    Path(gateway): Path<String>,
    _: Deciding,
) -> Result<Response, Problem> {
    let resumed = app.readers.resume(&gateway).await.map_err(|why| Problem::database(&why))?;
    if resumed == 0 {
        let detail = format!("`{gateway}` has no log that is stopped");
        return Err(Problem::new(StatusCode::NOT_FOUND, "not-stopped", "Nothing is stopped", detail));
    }
    tracing::info!("gateway {gateway}: its parcels are taken again, as somebody with an admin token wants");
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn devices(State(app): State<App>, asked: Reading) -> Result<Response, Problem> {
    let Asked { gateway, device, q, after, .. } = &asked.0;
    // Device ids begin after the first slash: a gateway's id has none.
    let (after_gateway, after_device) =
        after.as_deref().and_then(|after| after.split_once('/')).unwrap_or_default();
    let like =
        q.as_deref().map(|q| format!("%{}%", q.replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_")));
    let select = "SELECT * FROM current_devices
        WHERE ($1::text IS NULL OR gateway = $1) AND ($2::text IS NULL OR device = $2)
            AND ($3::text IS NULL OR device ILIKE $3 OR description::text ILIKE $3)
            AND (gateway, device) > ($4, $5)
        ORDER BY gateway, device LIMIT $6";
    let limit = asked.limit()?;
    items(&app, select, &[gateway, device, &like, &after_gateway, &after_device, &limit]).await
}

async fn history(State(app): State<App>, asked: Reading) -> Result<Response, Problem> {
    let gateway = asked.need("gateway", &asked.0.gateway)?;
    let device = asked.need("device", &asked.0.device)?;
    let attribute = asked.need("attribute", &asked.0.attribute)?;
    let (from, to) = asked.times()?;
    let select = "SELECT e.seq, e.recorded, e.time, e.data -> 'changes' -> $3 AS value
        FROM gateways g JOIN events e USING (log)
        WHERE g.gateway = $1 AND e.device = $2 AND e.type = 'state_changed' AND e.recorded >= $4 AND e.recorded < $5
            AND e.seq > $6 AND (e.data -> 'changes' -> $3) IS NOT NULL
        ORDER BY e.seq LIMIT $7";
    let (after, limit) = (asked.after_seq()?, asked.limit()?);
    items(&app, select, &[&gateway, &device, &attribute, &from, &to, &after, &limit]).await
}

async fn aggregates(State(app): State<App>, asked: Reading) -> Result<Response, Problem> {
    let gateway = asked.need("gateway", &asked.0.gateway)?;
    let device = asked.need("device", &asked.0.device)?;
    let attribute = asked.need("attribute", &asked.0.attribute)?;
    let length_s = asked.0.length_s.unwrap_or(WINDOWS_S[0]);
    if !WINDOWS_S.contains(&length_s) {
        return Err(Problem::bad_parameter(format!("`length_s={length_s}` is not 60, 3600 or 86400")));
    }
    let (from, to) = asked.times()?;
    let select = "SELECT start, count, min, max, mean, sum, last FROM gateway_aggregates
        WHERE gateway = $1 AND device = $2 AND attribute = $3 AND length_s = $4 AND start >= $5 AND start < $6
        ORDER BY start LIMIT $7";
    let (length_s, limit) = (length_s as i32, asked.limit()?);
    items(&app, select, &[&gateway, &device, &attribute, &length_s, &from, &to, &limit]).await
}

async fn events(State(app): State<App>, asked: Reading) -> Result<Response, Problem> {
    let gateway = asked.need("gateway", &asked.0.gateway)?;
    let Asked { device, kind, .. } = &asked.0;
    let (from, to) = asked.times()?;
    let select = "SELECT e.seq, e.recorded, e.time, e.type, e.device, e.data
        FROM gateways g JOIN events e USING (log)
        WHERE g.gateway = $1 AND ($2::text IS NULL OR e.device = $2) AND ($3::text IS NULL OR e.type = $3)
            AND e.recorded >= $4 AND e.recorded < $5 AND e.seq > $6
        ORDER BY e.seq LIMIT $7";
    let (after, limit) = (asked.after_seq()?, asked.limit()?);
    items(&app, select, &[&gateway, device, kind, &from, &to, &after, &limit]).await
}

/// The stores that follow the tables, as far as this process's gateways go.
async fn stores(State(app): State<App>, _: Reading) -> Response {
    #[derive(serde::Serialize)]
    struct Store {
        store: &'static str,
        #[serde(flatten)]
        standing: Standing,
    }
    let items = STORES.map(|store| Store { store, standing: app.board.of(store) });
    let headers = [(header::CACHE_CONTROL, "no-store")];
    (headers, axum::Json(serde_json::json!({ "items": items }))).into_response()
}

async fn commands(State(app): State<App>, asked: Reading) -> Result<Response, Problem> {
    let gateway = asked.need("gateway", &asked.0.gateway)?;
    let Asked { device, state, .. } = &asked.0;
    let select = "SELECT c.command, c.device, c.request, c.requested, c.state, c.step, c.seq, c.changed
        FROM gateways g JOIN commands c USING (log)
        WHERE g.gateway = $1 AND ($2::text IS NULL OR c.device = $2) AND ($3::text IS NULL OR c.state = $3)
            AND c.command > $4
        ORDER BY c.command LIMIT $5";
    let (after, limit) = (asked.after_seq()?, asked.limit()?);
    items(&app, select, &[&gateway, device, state, &after, &limit]).await
}
