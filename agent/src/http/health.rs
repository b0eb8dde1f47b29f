//! `/livez`, `/readyz` and `/version`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fieldlog_projections::{Time, View};
use fieldlog_wire::api::health::{CONTENT_TYPE, Check, Health, Verdict, Version};

use super::App;
use crate::ingest::status::State as Connection;
use crate::read_side::ReadSide;
use crate::sorted;

/// The writer's loop iterates at least once a second; after this long it counts as stuck.
const BEAT_MAX_MICROS: i64 = 10_000_000;

fn check(status: Verdict, output: impl Into<String>) -> Check {
    Check { status, output: output.into() }
}

/// Whether the writer's loop is iterating.
fn writer(side: &ReadSide) -> Check {
    // Before its first iteration, the start counts.
    let beat = Time(side.shared.stats.beat.load(Ordering::Relaxed)).max(side.started);
    let age = side.now().micros_since(beat);
    if age > BEAT_MAX_MICROS {
        let output = format!(
            "the writer has not come round for {} s; the disk hangs, or it has ended",
            age / 1_000_000
        );
        check(Verdict::Fail, output)
    } else {
        check(Verdict::Pass, "the writer is at work")
    }
}

/// An unreachable broker is no reason to restart: its messages arrive when it is back.
fn sources(side: &ReadSide) -> impl Iterator<Item = (String, Check)> {
    side.sources.views().into_iter().map(|source| {
        let details = source.status.details();
        let status = match details.state {
            Connection::Connected { .. } if details.refused.is_empty() && details.warnings.is_empty() => {
                Verdict::Pass
            }
            _ => Verdict::Warn,
        };
        let mut output = details.state.to_string();
        for (filter, reason) in &details.refused {
            output.push_str(&format!("; the broker refuses {filter}: {reason}"));
        }
        for more in details.warnings.iter().chain(&details.advice) {
            output.push_str(&format!("; {more}"));
        }
        (format!("source:{}", source.name), check(status, output))
    })
}

/// Whether the folds beside the devices are ready. Does not lock the view, so a holder of the lock cannot block this.
fn folds(side: &ReadSide) -> impl Iterator<Item = (String, Check)> {
    let progress = &side.shared.rebuild;
    let (rebuilt, applied) = (progress.folds(), progress.applied.load(Ordering::Relaxed));
    let failed = progress.failed();
    View::FOLDS.iter().map(move |fold| {
        let name = fold.name;
        let found = if rebuilt.contains(fold) {
            check(Verdict::Warn, format!("{name} are being rebuilt, sequence {applied}"))
        } else if failed.contains(fold) {
            let output = format!(
                "{name} could not be rebuilt, the agent's log says why; restart fieldlog to try again"
            );
            check(Verdict::Warn, output)
        } else {
            check(Verdict::Pass, format!("{name} are up to date"))
        };
        (name.into(), found)
    })
}

fn report(checks: BTreeMap<String, Check>) -> Response {
    let health = Health::of(checks);
    let code = if health.status == Verdict::Fail { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let body = serde_json::to_vec(&health).unwrap_or_default();
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (code, headers, body).into_response()
}

/// `GET /livez`: restart the agent when it fails.
pub(super) async fn live(State(app): State<Arc<App>>) -> Response {
    report(sorted::map([("writer".into(), writer(&app.side))]))
}

/// `GET /readyz`: answers are current. The replay is finished before HTTP starts.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    let side = &app.side;
    let mut checks: BTreeMap<String, Check> = sorted::map(sources(side));
    checks.insert("writer".into(), writer(side));
    checks.extend(folds(side));
    if *app.stop.borrow() {
        checks.insert("agent".into(), check(Verdict::Fail, "fieldlog is being stopped"));
    }
    report(checks)
}

/// `GET /version`
pub(super) async fn version() -> Response {
    let version = Version { name: "fieldlog".into(), version: env!("CARGO_PKG_VERSION").into() };
    let body = serde_json::to_vec(&version).unwrap_or_default();
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}
