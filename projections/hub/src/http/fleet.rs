//! How the gateways are doing: all of them in a row of numbers, and each in a word.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::App;
use super::api::items;
use super::problem::Problem;
use super::reading::{Asked, Reading};

/// What a gateway can be, the worst first. Each is one of them.
const STATES: [&str; 7] = ["forked", "contradicted", "silent", "gaps", "behind", "lost", "complete"];

/// Gateways with their state. An hour without a parcel is silence, as in the alert for Prometheus; what is on its way for a minute
/// is no backlog.
const STATED: &str = r#"SELECT *, CASE
        WHEN forked IS NOT NULL THEN 'forked'
        WHEN faults <> '[]' THEN 'contradicted'
        WHEN last_seen IS NULL OR last_seen < clock_timestamp() - interval '1 hour' THEN 'silent'
        WHEN gaps @? '$[*] ? (@.state == "asked")' THEN 'gaps'
        WHEN gaps @? '$[*] ? (@.state == "expected")' THEN 'behind'
        WHEN lag_events > 0 AND newest_time < clock_timestamp() - interval '1 minute' THEN 'behind'
        WHEN gaps <> '[]' THEN 'lost'
        ELSE 'complete' END AS state
    FROM gateway_lag"#;

/// `GET /api/v1/gateways`
pub(super) async fn gateways(State(app): State<App>, asked: Reading) -> Result<Response, Problem> {
    let Asked { gateway, state, .. } = &*asked;
    if let Some(unknown) = state.iter().flat_map(|list| list.split(',')).find(|word| !STATES.contains(word)) {
        let detail = format!("`state={unknown}` is none of {}", STATES.join(", "));
        return Err(Problem::bad_parameter(detail));
    }
    let (after, like, limit) = (asked.after.clone().unwrap_or_default(), asked.like(), asked.limit()?);
    let select = format!(
        "SELECT * FROM ({STATED}) stated
        WHERE gateway > $1 AND ($2::text IS NULL OR gateway = $2) AND ($3::text IS NULL OR gateway ILIKE $3)
            AND ($4::text IS NULL OR state = ANY(string_to_array($4, ',')))
        ORDER BY gateway LIMIT $5"
    );
    items(&app, &select, &[&after, gateway, &like, state, &limit]).await
}

/// `GET /api/v1/fleet`
pub(super) async fn fleet(State(app): State<App>, _: Reading) -> Result<Response, Problem> {
    let counts = STATES.map(|state| format!("count(*) FILTER (WHERE state = '{state}') AS {state}"));
    let sql = format!(
        "SELECT row_to_json(t)::text FROM (SELECT count(*) AS gateways, {},
            coalesce(sum(lag_events), 0) AS lag_events, coalesce(sum(events), 0) AS events FROM ({STATED}) stated) t",
        counts.join(", ")
    );
    let rows = app.readers.query(&sql, &[]).await.map_err(|why| Problem::database(&why))?;
    let body = rows.first().map_or_else(String::new, |row| row.get(0));
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, body).into_response())
}
