//! What a request asks for, and whether it may.

use std::ops::Deref;
use std::time::Duration;

use axum::RequestPartsExt;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use fieldlog_projections::Time;
use fieldlog_wire::json::parse_time;
use serde::Deserialize;
use tokio::time::Instant;

use super::App;
use super::problem::Problem;
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

/// What a request may ask for; not every path uses everything.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Asked {
    pub(super) gateway: Option<String>,
    pub(super) device: Option<String>,
    pub(super) attribute: Option<String>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) state: Option<String>,
    pub(super) q: Option<String>,
    pub(super) length_s: Option<u32>,
    from: Option<String>,
    to: Option<String>,
    /// The last item of the page before.
    pub(super) after: Option<String>,
    limit: Option<i64>,
    min_seq: Option<String>,
}

/// A request that may read, with what it asks for.
pub(super) struct Reading(Asked);

impl FromRequestParts<App> for Reading {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Reading, Problem> {
        allow(parts, app, Scope::Read)?;
        let asked: Result<Query<Asked>, QueryRejection> = Query::try_from_uri(&given(&parts.uri));
        let Query(asked) = asked.map_err(|error| Problem::bad_parameter(error.body_text()))?;
        let reading = Reading(asked);
        reading.wait(app).await?;
        Ok(reading)
    }
}

impl Deref for Reading {
    type Target = Asked;

    fn deref(&self) -> &Asked {
        &self.0
    }
}

/// The query without parameters that are empty: they count as absent. No id has U+0000, which PostgreSQL refuses.
fn given(uri: &Uri) -> Uri {
    let query = uri.query().unwrap_or_default().replace("%00", "%EF%BF%BD");
    let given: Vec<&str> = query
        .split('&')
        .filter(|part| part.split_once('=').is_some_and(|(_, value)| !value.is_empty()))
        .collect();
    format!("/?{}", given.join("&")).parse().unwrap_or_else(|_| uri.clone())
}

/// The parameters in a path; not every path has all of them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Part {
    pub(super) gateway: String,
    pub(super) device: String,
    pub(super) command: String,
}

impl FromRequestParts<App> for Part {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Part, Problem> {
        let part: Result<Path<Part>, PathRejection> = parts.extract().await;
        let Path(part) = part.map_err(|error| Problem::bad_parameter(error.body_text()))?;
        let own = |value: String| text::text(&value).into_owned();
        Ok(Part { gateway: own(part.gateway), device: own(part.device), command: own(part.command) })
    }
}

/// A request that may decide about gateways.
pub(super) struct Deciding;

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
    pub(super) fn need<'a>(&'a self, name: &str, value: &'a Option<String>) -> Result<&'a str, Problem> {
        value.as_deref().ok_or_else(|| Problem::bad_parameter(format!("`{name}` is needed")))
    }

    pub(super) fn limit(&self) -> Result<i64, Problem> {
        let limit = self.0.limit.unwrap_or(LIMIT);
        if (1..=LIMIT_MAX).contains(&limit) {
            return Ok(limit);
        }
        Err(Problem::bad_parameter(format!("`limit={limit}` is not 1 to {LIMIT_MAX}")))
    }

    pub(super) fn after_seq(&self) -> Result<i64, Problem> {
        self.0.after.as_deref().map_or(Ok(0), |text| position("after", text))
    }

    /// Times from and to, without bounds if they are not given.
    pub(super) fn times(&self) -> Result<(jiff::Timestamp, jiff::Timestamp), Problem> {
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
        let Some(min_seq) = &self.0.min_seq else { return Ok(()) };
        let min_seq = position("min_seq", min_seq)?;
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

/// A position that a log can have.
pub(super) fn position(name: &str, text: &str) -> Result<i64, Problem> {
    let position = text.parse::<u64>().ok().and_then(|seq| i64::try_from(seq).ok());
    position.ok_or_else(|| Problem::bad_parameter(format!("`{name}={text}` is not a position")))
}
