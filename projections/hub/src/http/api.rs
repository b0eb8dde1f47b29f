//! What has become of the parcels, as JSON. PostgreSQL writes the rows itself, in the form of
//! [`fieldlog_wire::api::hub`].

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use fieldlog_wire::api::hub::{Items, Source, Stopped, Store};
use tokio_postgres::types::ToSql;

use super::App;
use super::problem::Problem;
use super::reading::{Asked, Deciding, Part, Reading};
use crate::changes::WINDOWS_S;
use crate::follow::STORES;
use crate::source::Standing;

/// The rows of `select` as `{"items": […]}`.
pub(super) async fn items(
    app: &App,
    select: &str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Response, Problem> {
    let sql = format!("SELECT row_to_json(t)::text FROM ({select}) t");
    let rows = app.readers.query(&sql, values).await.map_err(|why| Problem::database(&why))?;
    let rows: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    let body = format!("{{\"items\":[{}]}}\n", rows.join(","));
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, body).into_response())
}

/// All logs of a gateway, the newest first.
pub(super) async fn gateway(
    State(app): State<App>,
    Part { gateway, .. }: Part,
    _: Reading,
) -> Result<Response, Problem> {
    let select =
        "SELECT gateway, epoch, position, chain, newest, head, missing, events, duplicates, faults, forked,
            first_seen, last_seen, newest_time, agent_version AS version
        FROM logs l WHERE gateway = $1
        ORDER BY EXISTS (SELECT FROM gateways g WHERE g.log = l.log) DESC, newest_time DESC NULLS LAST, log DESC";
    items(&app, select, &[&gateway]).await
}

/// Takes parcels again of a gateway whose log is stopped.
pub(super) async fn resume(
    State(app): State<App>,
    Part { gateway, .. }: Part,
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

/// `GET /api/v1/devices`
pub(super) async fn devices(State(app): State<App>, asked: Reading) -> Result<Response, Problem> {
    let Asked { gateway, device, after, .. } = &*asked;
    // Device ids begin after the first slash: a gateway's id has none.
    let (after_gateway, after_device) =
        after.as_deref().and_then(|after| after.split_once('/')).unwrap_or_default();
    let select = "SELECT * FROM current_devices
        WHERE ($1::text IS NULL OR gateway = $1) AND ($2::text IS NULL OR device = $2)
            AND ($3::text IS NULL OR device ILIKE $3 OR description::text ILIKE $3)
            AND (gateway, device) > ($4, $5)
        ORDER BY gateway, device LIMIT $6";
    let (like, limit) = (asked.like(), asked.limit()?);
    items(&app, select, &[gateway, device, &like, &after_gateway, &after_device, &limit]).await
}

/// `GET /api/v1/state`
pub(super) async fn state(State(app): State<App>, asked: Reading) -> Result<Response, Problem> {
    let gateway = asked.need("gateway", &asked.gateway)?;
    let device = asked.need("device", &asked.device)?;
    let select = "SELECT attribute, value, seq, changed, description FROM current_state
        WHERE gateway = $1 AND device = $2 AND attribute > $3 ORDER BY attribute LIMIT $4";
    let (after, limit) = (asked.after.clone().unwrap_or_default(), asked.limit()?);
    items(&app, select, &[&gateway, &device, &after, &limit]).await
}

/// `GET /api/v1/history`
pub(super) async fn history(State(app): State<App>, asked: Reading) -> Result<Response, Problem> {
    let gateway = asked.need("gateway", &asked.gateway)?;
    let device = asked.need("device", &asked.device)?;
    let attribute = asked.need("attribute", &asked.attribute)?;
    let (from, to) = asked.times()?;
    let (before, order) = asked.before_seq()?;
    let select = format!(
        "SELECT e.seq, e.recorded, e.time, e.data -> 'changes' -> $3 AS value
        FROM gateways g JOIN events e USING (log)
        WHERE g.gateway = $1 AND e.device = $2 AND e.type = 'state_changed' AND e.recorded >= $4 AND e.recorded < $5
            AND e.seq > $6 AND e.seq < $7 AND (e.data -> 'changes' -> $3) IS NOT NULL
        ORDER BY e.seq {order} LIMIT $8"
    );
    let (after, limit) = (asked.after_seq()?, asked.limit()?);
    items(&app, &select, &[&gateway, &device, &attribute, &from, &to, &after, &before, &limit]).await
}

/// `GET /api/v1/aggregates`
pub(super) async fn aggregates(State(app): State<App>, asked: Reading) -> Result<Response, Problem> {
    let gateway = asked.need("gateway", &asked.gateway)?;
    let device = asked.need("device", &asked.device)?;
    let attribute = asked.need("attribute", &asked.attribute)?;
    let length_s = asked.length_s.unwrap_or(WINDOWS_S[0]);
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

/// `GET /api/v1/events`
pub(super) async fn events(State(app): State<App>, asked: Reading) -> Result<Response, Problem> {
    let gateway = asked.need("gateway", &asked.gateway)?;
    let Asked { device, kind, .. } = &*asked;
    let (from, to) = asked.times()?;
    let (before, order) = asked.before_seq()?;
    let select = format!(
        "SELECT e.seq, e.recorded, e.time, e.type, e.device, e.data
        FROM gateways g JOIN events e USING (log)
        WHERE g.gateway = $1 AND ($2::text IS NULL OR e.device = $2)
            AND ($3::text IS NULL OR e.type = ANY(string_to_array($3, ',')))
            AND e.recorded >= $4 AND e.recorded < $5 AND e.seq > $6 AND e.seq < $7
        ORDER BY e.seq {order} LIMIT $8"
    );
    let (after, limit) = (asked.after_seq()?, asked.limit()?);
    items(&app, &select, &[&gateway, device, kind, &from, &to, &after, &before, &limit]).await
}

/// The stores that follow the tables, as far as this process's gateways go.
pub(super) async fn stores(State(app): State<App>, _: Reading) -> Response {
    let store = |name: &'static str| {
        let standing = app.board.of(name);
        Store {
            store: name.into(),
            state: standing.state.word().into(),
            why: standing.why,
            gateways: standing.gateways,
            events: standing.events,
            lag_events: standing.lag_events,
            behind_s: standing.behind_s,
            eta_s: standing.eta_s,
            generation: standing.generation,
            reduced: standing.reduced,
        }
    };
    let items = STORES.map(store).into();
    let headers = [(header::CACHE_CONTROL, "no-store")];
    (headers, axum::Json(Items { items })).into_response()
}

/// The streams of parcels that this process is configured to read.
pub(super) async fn sources(State(app): State<App>, _: Reading) -> Response {
    let source = |(source, standing): (String, Standing)| {
        let (error_time, error) = standing.error.map(|(time, error)| (time.to_string(), error)).unzip();
        Source {
            source,
            state: standing.state.word().into(),
            error,
            error_time,
            stopped: standing.stopped.into_iter().map(|(subject, why)| Stopped { subject, why }).collect(),
            lag_records: standing.lag_records,
            incomplete_parcels: standing.incomplete,
        }
    };
    let items: Vec<Source<'_>> = app.standings.all().into_iter().map(source).collect();
    let headers = [(header::CACHE_CONTROL, "no-store")];
    (headers, axum::Json(Items { items })).into_response()
}

/// `GET /api/v1/commands`
pub(super) async fn commands(State(app): State<App>, asked: Reading) -> Result<Response, Problem> {
    let gateway = asked.need("gateway", &asked.gateway)?;
    let Asked { device, state, .. } = &*asked;
    let (before, order) = asked.before_seq()?;
    let select = format!(
        "SELECT c.command, c.device, c.request, c.requested, c.state, c.step, c.seq, c.changed
        FROM gateways g JOIN commands c USING (log)
        WHERE g.gateway = $1 AND ($2::text IS NULL OR c.device = $2) AND ($3::text IS NULL OR c.state = $3)
            AND c.command > $4 AND c.command < $5
        ORDER BY c.command {order} LIMIT $6"
    );
    let (after, limit) = (asked.after_seq()?, asked.limit()?);
    items(&app, &select, &[&gateway, device, state, &after, &before, &limit]).await
}
