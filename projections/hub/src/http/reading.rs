//! What a request asks for, and whether it may.

use std::fmt::Display;
use std::ops::Deref;
use std::str::FromStr;
use std::time::Duration;

use axum::RequestPartsExt;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use fieldlog_projections::Time;
use fieldlog_wire::json::parse_time;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
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
    #[serde(deserialize_with = "given")]
    pub(super) gateway: Option<String>,
    #[serde(deserialize_with = "given")]
    pub(super) device: Option<String>,
    #[serde(deserialize_with = "given")]
    pub(super) attribute: Option<String>,
    #[serde(rename = "type", deserialize_with = "given")]
    pub(super) kind: Option<String>,
    #[serde(deserialize_with = "given")]
    pub(super) state: Option<String>,
    #[serde(deserialize_with = "given")]
    pub(super) q: Option<String>,
    #[serde(deserialize_with = "given")]
    pub(super) length_s: Option<u32>,
    #[serde(deserialize_with = "given")]
    from: Option<String>,
    #[serde(deserialize_with = "given")]
    to: Option<String>,
    /// The last item of the page before.
    #[serde(deserialize_with = "given")]
    pub(super) after: Option<String>,
    /// The position that the items come before, the newest first.
    #[serde(deserialize_with = "given")]
    before: Option<String>,
    #[serde(deserialize_with = "given")]
    limit: Option<i64>,
    #[serde(deserialize_with = "given")]
    min_seq: Option<String>,
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

impl Deref for Reading {
    type Target = Asked;

    fn deref(&self) -> &Asked {
        &self.0
    }
}

/// An empty one counts as absent. None has U+0000, which PostgreSQL refuses.
fn given<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let value = String::deserialize(deserializer)?;
    if value.is_empty() {
        return Ok(None);
    }
    text::text(&value).parse().map(Some).map_err(D::Error::custom)
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

    /// The position that the items come before, and how they are ordered: the newest first if it is given.
    pub(super) fn before_seq(&self) -> Result<(i64, &'static str), Problem> {
        let before = self.0.before.as_deref().map(|text| position("before", text)).transpose()?;
        Ok(before.map_or((i64::MAX, "ASC"), |before| (before, "DESC")))
    }

    /// What text has to be like to have `q` in it.
    pub(super) fn like(&self) -> Option<String> {
        let escaped = |q: &str| q.replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_");
        self.0.q.as_deref().map(|q| format!("%{}%", escaped(q)))
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
