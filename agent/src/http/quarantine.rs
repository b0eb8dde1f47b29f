//! `/api/v1/quarantine`: payloads that could not be decoded, and why.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use fieldlog_projections::{Fact, Seq};
use serde::Serialize;

use super::App;
use super::event::Entry;
use super::events::{encode, find};
use super::json::Rfc3339;
use super::params::Params;
use super::position::{At, Validator};
use super::problem::Problem;
use super::routes::answer;

const LIMIT_MAX: u64 = 1_000;
const LIMIT_DEFAULT: u64 = 100;

#[derive(Serialize)]
struct Page {
    position: At,
    quarantine: Vec<Item>,
}

#[derive(Serialize)]
struct Item {
    seq: Seq,
    at: Rfc3339,
    source: String,
    topic: String,
    reason: String,
    size: u64,
}

impl Item {
    fn of(entry: Entry) -> Option<Item> {
        let (seq, at) = (entry.seq, Rfc3339(entry.time));
        match entry.fact {
            Fact::InputQuarantined { source, topic, reason, size } => {
                Some(Item { seq, at, source, topic, reason, size })
            }
            _ => None,
        }
    }
}

/// `GET /api/v1/quarantine`: the newest first.
pub(super) async fn list(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    let limit = Params::of(&uri, &["limit"])?.limit(LIMIT_MAX, LIMIT_DEFAULT)?;
    let at = app.with_view(|_, at| Ok(at))?;
    let side = app.side.clone();
    let body = app
        .reads
        .long(move |cancel| {
            let kept = side.shared.reader.quarantine(limit)?;
            let mut quarantine = Vec::new();
            // What was committed after the position was taken is not in this answer.
            for seq in kept.into_iter().filter(|seq| *seq <= at.applied) {
                quarantine.extend(Item::of(find(&side, at, seq, cancel)?));
            }
            encode(&Page { position: at, quarantine })
        })
        .await?;
    Ok(answer(body, at, Validator::Weak))
}

/// `GET /api/v1/quarantine/{seq}`: the bytes.
pub(super) async fn payload(
    State(app): State<Arc<App>>,
    Path(seq): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    Params::of(&uri, &[])?;
    let missing = || {
        let detail = format!(
            "no payload is kept for sequence {seq}; /api/v1/quarantine lists those that are. The oldest give way when \
             there are more than `limits.quarantine_records_max`"
        );
        Problem::not_found("no-such-payload", "No such payload", detail)
    };
    let number = Seq(seq.parse().map_err(|_| missing())?);
    let side = app.side.clone();
    let bytes = app.reads.short(move |_| Ok(side.shared.reader.quarantined(number)?)).await?;
    let bytes = bytes.ok_or_else(missing)?;
    let disposition = format!("attachment; filename=\"quarantine-{number}.bin\"");
    let mut response = bytes.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if let Ok(value) = HeaderValue::from_str(&disposition) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}
