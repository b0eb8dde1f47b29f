//! `/api/v1/quarantine`: payloads that could not be decoded, and why.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Uri, header};
use axum::response::Response;
use fieldlog_projections::{Fact, Seq};

use super::App;
use super::answer::answer;
use super::body::{Page, Pieces};
use super::event::Entry;
use super::events::find;
use super::params::Params;
use super::problem::Problem;
use fieldlog_wire::api::quarantine::{QuarantinePage, Quarantined};
use fieldlog_wire::json::Rfc3339;

const LIMIT_MAX: u64 = 1_000;
const LIMIT_DEFAULT: u64 = 100;

fn item(entry: Entry) -> Option<Quarantined<'static>> {
    let (seq, at) = (entry.seq, Rfc3339(entry.time));
    let one = |source: String, topic: String, reason: String, size| {
        let (source, topic, reason) = (source.into(), topic.into(), reason.into());
        Quarantined { seq, at, source, topic, reason, size, count: None, first_at: None, last_at: None }
    };
    match entry.fact {
        Fact::InputQuarantined { source, topic, reason, size } => Some(one(source, topic, reason, size)),
        Fact::QuarantineSummarised { source, topic, reason, size, count, first, last } => Some(Quarantined {
            count: Some(count),
            first_at: Some(Rfc3339(first)),
            last_at: Some(Rfc3339(last)),
            ..one(source, topic, reason, size)
        }),
        _ => None,
    }
}

/// `GET /api/v1/quarantine`: the newest first.
pub(super) async fn list(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    let params = Params::of(&uri, &["limit", "before"])?;
    let (limit, before) = (params.limit(LIMIT_MAX, LIMIT_DEFAULT)?, params.seq("before")?);
    let at = app.with_view(|_, at| Ok(at))?;
    let (side, budget) = (app.side.clone(), app.budget.clone());
    let body = app
        .reads
        .long(move |cancel| {
            // Records committed after the position was taken are not in this answer.
            let end = before.map_or(at.applied.next(), |before| before.min(at.applied.next()));
            let kept = side.shared.reader.quarantine(usize::MAX)?;
            // A payload can outlive its record.
            let first = side.shared.reader.range()?.map_or(Seq(1), |(first, _)| first);
            let mut kept = kept.into_iter().filter(|seq| (first..end).contains(seq)).peekable();
            let mut rest = QuarantinePage { position: at.into(), quarantine: Vec::new(), next: None };
            let mut page = Page::begin(&budget, &rest)?;
            let mut last = None;
            for seq in kept.by_ref().take(limit) {
                last = Some(seq);
                let item = item(find(&side, at, seq, cancel)?);
                if item.map_or(Ok(false), |item| page.push(&item))? {
                    break;
                }
            }
            rest.next = last.filter(|_| kept.peek().is_some());
            page.end(&rest)
        })
        .await?;
    Ok(answer(body, at))
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
    let (side, budget) = (app.side.clone(), app.budget.clone());
    let read = move |_: &_| {
        let Some(payload) = side.shared.reader.quarantined(number)? else { return Ok(None) };
        let mut pieces = Pieces::new(&budget);
        pieces.put(&payload)?;
        Ok(Some(pieces))
    };
    let payload = app.reads.short(read).await?.ok_or_else(missing)?;
    let disposition = format!("attachment; filename=\"quarantine-{number}.bin\"");
    let mut response = Response::new(Body::new(payload));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if let Ok(value) = HeaderValue::from_str(&disposition) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}
