//! `/api/v1/events`: the log itself, page by page, or one record.

use std::ops::ControlFlow;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use fieldlog_projections::{Seq, Time, View};
use serde::Serialize;

use super::event::{Entry, EventJson, Filter, Names};
use super::params::Params;
use super::position::{At, Validator};
use super::problem::Problem;
use super::reads::{Cancel, Scanned, Stretch, scan};
use super::routes::answer;
use super::{App, ReadSide};

const LIMIT_MAX: u64 = 10_000;
const LIMIT_DEFAULT: u64 = 500;
/// Records visited for one answer; then `next` is given, however few were wanted.
pub(super) const RECORDS_MAX: u64 = 2_000_000;

#[derive(Serialize)]
struct Page<'a> {
    position: At,
    events: Vec<EventJson<'a>>,
    next: Option<Seq>,
}

#[derive(Serialize)]
struct One<'a> {
    position: At,
    event: EventJson<'a>,
}

/// What of the log a request asks for, apart from the filter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slice {
    pub(super) after: Option<Seq>,
    pub(super) from: Option<Time>,
    pub(super) to: Option<Time>,
    pub(super) limit: usize,
}

/// What was found of it.
pub(super) struct Found {
    pub(super) entries: Vec<Entry>,
    /// Where to go on, if there is or may be more.
    pub(super) next: Option<Seq>,
}

impl Slice {
    pub(super) fn from(params: &Params, limit_default: u64) -> Result<Slice, Problem> {
        let (from, to) = params.span()?;
        Ok(Slice { after: params.seq("after")?, from, to, limit: params.limit(LIMIT_MAX, limit_default)? })
    }

    /// The records of the slice that `take` makes entries of, up to position `until`.
    pub(super) fn read(
        self,
        side: &ReadSide,
        until: Seq,
        cancel: &Cancel,
        mut take: impl FnMut(&fieldlog_projections::Record<'_>) -> Result<Option<Entry>, Problem>,
    ) -> Result<Found, Problem> {
        let reader = &side.shared.reader;
        let sought = self.from.map(|from| reader.seek_time(from)).transpose()?.unwrap_or(Seq(1));
        let from = self.after.map_or(sought, |after| after.next().max(sought));
        let mut entries: Vec<Entry> = Vec::new();
        let mut more = false;
        // A clock that was corrected may have given a record any time; what it is sought by never goes back.
        let moment = |record: &fieldlog_projections::Record<'_>| reader.moment(record.seq, record.time);
        let scanned = scan(reader, Stretch { from, until, records_max: RECORDS_MAX }, cancel, |record| {
            if self.to.is_some_and(|to| moment(record) >= to) {
                return Ok(ControlFlow::Break(()));
            }
            if self.from.is_some_and(|from| moment(record) < from) {
                return Ok(ControlFlow::Continue(()));
            }
            let Some(entry) = take(record)? else { return Ok(ControlFlow::Continue(())) };
            if entries.len() == self.limit {
                more = true;
                return Ok(ControlFlow::Break(()));
            }
            entries.push(entry);
            Ok(ControlFlow::Continue(()))
        })?;
        let next = match scanned {
            Scanned::UpTo(last) => Some(last),
            _ if more => entries.last().map(|entry| entry.seq),
            _ => None,
        };
        Ok(Found { entries, next })
    }
}

/// `GET /api/v1/events`
pub(super) async fn list(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let params = Params::of(&uri, &["after", "limit", "device", "type", "from", "to"])?;
    let slice = Slice::from(&params, LIMIT_DEFAULT)?;
    let (at, filter) = app.with_view(|view, at| Ok((at, Filter::from(&params, &view.devices)?)))?;
    if let Some(known) = at.not_modified(&headers) {
        return Ok(known);
    }
    let side = app.side.clone();
    let body = app
        .reads
        .long(move |cancel| {
            let found = slice.read(&side, at.applied, cancel, |record| {
                if filter.wants(record)? { Entry::of(record).map(Some) } else { Ok(None) }
            })?;
            let names = side.names(&found.entries);
            let gateway = side.config.borrow().gateway_id.clone();
            let events =
                found.entries.iter().map(|e| EventJson::new(e, &names, &gateway, at.epoch)).collect();
            encode(&Page { position: at, events, next: found.next })
        })
        .await?;
    Ok(answer(body, at, Validator::Strong))
}

/// `GET /api/v1/events/{seq}`
pub(super) async fn one(
    State(app): State<Arc<App>>,
    Path(seq): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    Params::of(&uri, &[])?;
    let seq = Seq(seq.parse().map_err(|_| no_such_event(format!("`{seq}` is no sequence number")))?);
    let at = app.with_view(|_, at| Ok(at))?;
    if let Some(known) = at.not_modified(&headers) {
        return Ok(known);
    }
    let side = app.side.clone();
    let body = app
        .reads
        .short(move |cancel| {
            let entry = find(&side, at, seq, cancel)?;
            let names = side.names(std::slice::from_ref(&entry));
            let gateway = side.config.borrow().gateway_id.clone();
            encode(&One { position: at, event: EventJson::new(&entry, &names, &gateway, at.epoch) })
        })
        .await?;
    Ok(answer(body, at, Validator::Strong))
}

/// The record at a position.
pub(super) fn find(side: &ReadSide, at: At, seq: Seq, cancel: &Cancel) -> Result<Entry, Problem> {
    let mut found = None;
    let stretch = Stretch { from: seq, until: seq.min(at.applied), records_max: 1 };
    scan(&side.shared.reader, stretch, cancel, |record| {
        found = Some(Entry::of(record)?);
        Ok(ControlFlow::Break(()))
    })?;
    match found {
        Some(entry) if entry.seq == seq => Ok(entry),
        _ => {
            let first = side.shared.reader.range()?.map_or(Seq(1), |(first, _)| first);
            Err(no_such_event(format!("the log holds sequences {first} to {}", at.applied)))
        }
    }
}

fn no_such_event(detail: String) -> Problem {
    Problem::not_found("no-such-event", "No such event", detail)
}

/// JSON bytes.
pub(super) fn encode(body: &impl Serialize) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(body)
        .map_err(|error| Problem::internal(format!("the answer cannot be written: {error}")))
}

impl ReadSide {
    /// Calls `read` with the view locked.
    pub(super) fn with_view<T>(&self, read: impl FnOnce(&View, At) -> T) -> T {
        let view = self.shared.view.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let at = At::of(&self.shared, &view);
        read(&view, at)
    }

    /// The names that `entries` need.
    pub(super) fn names(&self, entries: &[Entry]) -> Names {
        self.with_view(|view, _| Names::of(&view.devices, entries.iter()))
    }
}

impl App {
    /// Calls `read` with the view locked; for what takes no longer than a look-up.
    pub(super) fn with_view<T>(
        &self,
        read: impl FnOnce(&View, At) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        self.side.with_view(read)
    }
}
