//! `/livez`, `/readyz` and `/version`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fieldlog_projections::{Time, View};
use serde::Serialize;

use super::App;
use crate::ingest::status::State as Connection;
use crate::read_side::ReadSide;

/// The writer's loop comes round at least once a second; after this long without it, it is stuck.
const BEAT_MAX_MICROS: i64 = 10_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Pass,
    Warn,
    Fail,
}

#[derive(Clone, Debug, Serialize)]
struct Check {
    status: Outcome,
    output: String,
}

#[derive(Serialize)]
struct Health {
    status: Outcome,
    checks: BTreeMap<String, Check>,
}

impl Check {
    fn new(status: Outcome, output: impl Into<String>) -> Check {
        Check { status, output: output.into() }
    }
}

/// Whether the writer's loop comes round.
fn writer(side: &ReadSide) -> Check {
    // Before its first round, the start counts.
    let beat = Time(side.shared.stats.beat.load(Ordering::Relaxed)).max(side.started);
    let age = side.now().micros_since(beat);
    if age > BEAT_MAX_MICROS {
        let output = format!(
            "the writer has not come round for {} s; the disk hangs, or it has ended",
            age / 1_000_000
        );
        Check::new(Outcome::Fail, output)
    } else {
        Check::new(Outcome::Pass, "the writer is at work")
    }
}

/// A broker that is away is no reason to restart: what it holds for us comes when it is back.
fn sources(side: &ReadSide) -> impl Iterator<Item = (String, Check)> {
    side.sources.views().into_iter().map(|source| {
        let details = source.status.details();
        let status = match details.state {
            Connection::Connected { .. } if details.refused.is_empty() && details.warnings.is_empty() => {
                Outcome::Pass
            }
            _ => Outcome::Warn,
        };
        let mut output = details.state.to_string();
        for (filter, reason) in &details.refused {
            output.push_str(&format!("; the broker refuses {filter}: {reason}"));
        }
        for more in details.warnings.iter().chain(&details.advice) {
            output.push_str(&format!("; {more}"));
        }
        (format!("source:{}", source.name), Check::new(status, output))
    })
}

/// Whether the folds beside the devices have answers.
fn folds(side: &ReadSide) -> impl Iterator<Item = (String, Check)> {
    let progress = &side.shared.rebuild;
    let (rebuilt, applied) = (progress.folds(), progress.applied.load(Ordering::Relaxed));
    let stale = side.with_view(|view, _| view.stale().to_vec());
    View::FOLDS.iter().map(move |fold| {
        let name = fold.name;
        let check = if rebuilt.contains(fold) {
            Check::new(Outcome::Warn, format!("{name} are being rebuilt, sequence {applied}"))
        } else if stale.contains(fold) {
            let output = format!(
                "{name} could not be rebuilt, the agent's log says why; restart fieldlog to try again"
            );
            Check::new(Outcome::Warn, output)
        } else {
            Check::new(Outcome::Pass, format!("{name} are up to date"))
        };
        (name.into(), check)
    })
}

fn report(checks: BTreeMap<String, Check>) -> Response {
    let status = checks.values().map(|check| check.status).max().unwrap_or(Outcome::Pass);
    let code = if status == Outcome::Fail { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let body = serde_json::to_vec(&Health { status, checks }).unwrap_or_default();
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/health+json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (code, headers, body).into_response()
}

/// `GET /livez`: restart when it fails.
pub(super) async fn live(State(app): State<Arc<App>>) -> Response {
    report(BTreeMap::from([("writer".into(), writer(&app.side))]))
}

/// `GET /readyz`: answers are current. The replay is over before anything is served.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    let side = &app.side;
    let mut checks: BTreeMap<String, Check> = sources(side).collect();
    checks.insert("writer".into(), writer(side));
    checks.extend(folds(side));
    if *app.stop.borrow() {
        checks.insert("agent".into(), Check::new(Outcome::Fail, "fieldlog is being stopped"));
    }
    report(checks)
}

/// `GET /version`
pub(super) async fn version() -> Response {
    let body = format!("{{\"name\":\"fieldlog\",\"version\":\"{}\"}}", env!("CARGO_PKG_VERSION"));
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}
