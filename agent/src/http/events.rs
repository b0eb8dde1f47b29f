//! `/api/v1/events`: pages of the log, or one record.

use std::ops::ControlFlow;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use fieldlog_projections::{Seq, Time, View};
use fieldlog_wire::api::events::{EventAnswer, EventPage};

use super::App;
use super::answer::answer;
use super::body::{Page, encode};
use super::event::{Entry, Names, Selection, event_json};
use super::params::Params;
use super::position::At;
use super::problem::Problem;
use super::reads::{Cancel, Scanned, Stretch, scan, scan_for};
use crate::log::Wanted;
use crate::read_side::ReadSide;

const LIMIT_MAX: u64 = 10_000;
const LIMIT_DEFAULT: u64 = 500;
/// Maximum records visited for one answer; then `next` is set, however few matched.
pub(super) const RECORDS_MAX: u64 = 2_000_000;

/// The requested part of the log, without the filter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slice {
    pub(super) after: Option<Seq>,
    pub(super) from: Option<Time>,
    pub(super) to: Option<Time>,
    pub(super) limit: usize,
}

impl Slice {
    pub(super) fn from(params: &Params, limit_default: u64) -> Result<Slice, Problem> {
        let (from, to) = params.span()?;
        Ok(Slice { after: params.seq("after")?, from, to, limit: params.limit(LIMIT_MAX, limit_default)? })
    }

    /// Passes the entries that `select` makes from the slice's records, up to position `until`, to `put`, which returns
    /// whether the page is full. Returns where to continue, if there may be more. `select` must make nothing of records
    /// that are not `wanted`: they may be skipped.
    pub(super) fn read(
        self,
        side: &ReadSide,
        until: Seq,
        wanted: &Wanted,
        cancel: &Cancel,
        mut select: impl FnMut(&fieldlog_projections::Record<'_>) -> Result<Option<Entry>, Problem>,
        mut put: impl FnMut(&Entry, &Names) -> Result<bool, Problem>,
    ) -> Result<Option<Seq>, Problem> {
        let reader = &side.shared.reader;
        let sought = self.from.map(|from| reader.seek_time(from)).transpose()?.unwrap_or(Seq(1));
        let from = self.after.map_or(sought, |after| after.next().max(sought));
        // After a clock correction a record may have any log time; its moment never goes back.
        let moment = |record: &fieldlog_projections::Record<'_>| reader.moment(record.seq, record.time);
        let (mut names, mut last) = (Names::default(), None);
        let (mut count, mut full, mut more) = (0, false, false);
        let stretch = Stretch { from, until, records_max: RECORDS_MAX };
        let scanned = scan_for(reader, stretch, wanted, cancel, |record| {
            if self.to.is_some_and(|to| moment(record) >= to) {
                return Ok(ControlFlow::Break(()));
            }
            if self.from.is_some_and(|from| moment(record) < from) {
                return Ok(ControlFlow::Continue(()));
            }
            let Some(entry) = select(record)? else { return Ok(ControlFlow::Continue(())) };
            if full || count == self.limit {
                more = true;
                return Ok(ControlFlow::Break(()));
            }
            side.with_view(|view, _| names.learn(view, &entry));
            full = put(&entry, &names)?;
            (count, last) = (count + 1, Some(entry.seq));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(match scanned {
            Scanned::UpTo(last) => Some(last),
            _ if more => last,
            _ => None,
        })
    }
}

/// `GET /api/v1/events`
pub(super) async fn list(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let params = Params::of(&uri, &["after", "limit", "device", "command", "type", "actor", "from", "to"])?;
    let mut slice = Slice::from(&params, LIMIT_DEFAULT)?;
    let (at, selection) = app.with_view(|view, at| Ok((at, Selection::from(&params, &view.devices)?)))?;
    // Nothing before it needs to be read.
    slice.after = slice.after.max(Some(selection.before()));
    if let Some(known) = at.not_modified(&headers) {
        return Ok(known);
    }
    let (side, budget) = (app.side.clone(), app.budget.clone());
    let body = app
        .reads
        .long(move |cancel| {
            let gateway = side.config.borrow().gateway_id.clone();
            let mut rest = EventPage { position: at.into(), events: Vec::new(), next: None };
            let mut page = Page::begin(&budget, &rest)?;
            let select = |record: &fieldlog_projections::Record<'_>| {
                if selection.has(record)? { Entry::of(record).map(Some) } else { Ok(None) }
            };
            let put = |entry: &Entry, names: &Names| page.push(&event_json(entry, names, &gateway, at.epoch));
            rest.next = slice.read(&side, at.applied, &selection.wanted(), cancel, select, put)?;
            page.end(&rest)
        })
        .await?;
    Ok(answer(body, at))
}

/// `GET /api/v1/events/{seq}`
pub(super) async fn one(
    State(app): State<Arc<App>>,
    Path(seq): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    Params::of(&uri, &[])?;
    let seq = Seq(seq.parse().map_err(|_| no_such_event(format!("`{seq}` is not a sequence number")))?);
    let at = app.with_view(|_, at| Ok(at))?;
    if let Some(known) = at.not_modified(&headers) {
        return Ok(known);
    }
    let (side, budget) = (app.side.clone(), app.budget.clone());
    let body = app
        .reads
        .short(move |cancel| {
            let entry = find(&side, at, seq, cancel)?;
            let names = side.names(&entry);
            let gateway = side.config.borrow().gateway_id.clone();
            let event = event_json(&entry, &names, &gateway, at.epoch);
            encode(&budget, &EventAnswer { position: at.into(), event })
        })
        .await?;
    Ok(answer(body, at))
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

impl ReadSide {
    /// Calls `read` with the view locked.
    pub(super) fn with_view<T>(&self, read: impl FnOnce(&View, At) -> T) -> T {
        let view = self.shared.view.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let at = At::of(&self.shared, &view);
        read(&view, at)
    }

    /// The names that an entry needs.
    pub(super) fn names(&self, entry: &Entry) -> Names {
        let mut names = Names::default();
        self.with_view(|view, _| names.learn(view, entry));
        names
    }
}

impl App {
    /// Calls `read` with the view locked; only for quick look-ups.
    pub(super) fn with_view<T>(
        &self,
        read: impl FnOnce(&View, At) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        self.side.with_view(read)
    }
}
