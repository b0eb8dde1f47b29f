//! `/api/v1/events/stream`: events as they are applied, as server-sent events.
//!
//! A stream has no queue of its own: it is a position in the log, and reads on from there when the view has moved. A
//! slow client holds that position and a few events read ahead; one that reads nothing is disconnected (`patience`),
//! and resumes with the id of its last event.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::Response;
use fieldlog_projections::Seq;
use fieldlog_wire::api::events::{Omitted, Reset};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use super::body::{Budget, NoRoom, Pieces};
use super::event::{Entry, Selection, event_json};
use super::params::Params;
use super::position::{At, parse_tag};
use super::problem::Problem;
use super::reads::{Cancel, Scanned, Stretch, scan_for};
use super::{App, STREAMS_MAX, stopped};
use crate::read_side::ReadSide;
use crate::shared::Position;

/// Silence after which a comment is sent, so that both ends and the network see a live connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a client should wait before it connects again.
const RETRY: Duration = Duration::from_secs(3);
/// Maximum events read ahead, and their bytes: the event that reaches the limit is the last.
const EVENTS_AHEAD: usize = 256;
const BYTES_AHEAD: usize = 64 * 1024;
/// How long a stream waits while other answers use all of the bytes.
const ROOM_WAIT: Duration = Duration::from_millis(500);
/// Maximum records visited in one read; with a filter, few of them may match.
const RECORDS_PER_READ: u64 = 50_000;

const LAST_EVENT_ID: &str = "last-event-id";

/// One stream.
struct Tail {
    app: Arc<App>,
    selection: Selection,
    /// Everything up to here was sent or did not match.
    cursor: Seq,
    ready: VecDeque<Bytes>,
    position: watch::Receiver<Position>,
    stop: watch::Receiver<bool>,
    /// When a comment must be sent if nothing happens.
    silent_until: Instant,
    _permit: OwnedSemaphorePermit,
}

/// `GET /api/v1/events/stream`
pub(super) async fn stream(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let params = Params::of(&uri, &["device", "command", "type", "actor", "after"])?;
    let permit = app.streams.clone().try_acquire_owned().map_err(|_| {
        Problem::busy(format!(
            "{STREAMS_MAX} event streams are open, which is the most there may be; close one"
        ))
    })?;
    let after = params.seq("after")?;
    let (at, selection) = app.with_view(|view, at| Ok((at, Selection::from(&params, &view.devices)?)))?;
    let first = oldest(&app).await?;
    let last_id = headers.get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or(""));
    // Who follows a command wants its whole life, and most of it is over when the answer with its id has arrived.
    let after = after.or_else(|| selection.follows_command().then(|| selection.before()));
    let begin = Begin::decide(at, first, last_id, after);
    let tail = Tail {
        selection,
        cursor: begin.cursor,
        ready: VecDeque::from([begin.events(at).into()]),
        position: app.side.shared.position.subscribe(),
        stop: app.stop.clone(),
        silent_until: Instant::now() + KEEP_ALIVE,
        _permit: permit,
        app,
    };
    let events = futures_util::stream::unfold(tail, async |mut tail| {
        let event = tail.next().await?;
        Some((Ok::<_, Infallible>(event), tail))
    });
    let mut response = Response::new(Body::from_stream(events));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // Proxies that buffer answers would delay events.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn oldest(app: &App) -> Result<Seq, Problem> {
    let side = app.side.clone();
    app.reads.short(move |_| Ok(side.shared.reader.range()?.map_or(Seq(1), |(first, _)| first))).await
}

/// The start of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Begin {
    cursor: Seq,
    /// The client's position is not in this log: the client must read the state again.
    reset: bool,
}

impl Begin {
    fn decide(at: At, first: Seq, last_id: Option<&str>, after: Option<Seq>) -> Begin {
        let head = Begin { cursor: at.applied, reset: false };
        let (epoch, seq) = match (last_id, after) {
            (None | Some(""), None) => return head,
            (None | Some(""), Some(after)) => (at.epoch, after),
            (Some(id), _) => match parse_tag(id) {
                Some(tag) => tag,
                None => return Begin { reset: true, ..head },
            },
        };
        let known = epoch == at.epoch && seq <= at.applied && seq.next() >= first;
        if known { Begin { cursor: seq, reset: false } } else { Begin { reset: true, ..head } }
    }

    /// Text sent before the first event. The id without data tells the client its position, in case the connection
    /// breaks before the first event.
    fn events(self, at: At) -> String {
        let id = format!("{}-{}", at.epoch, self.cursor);
        let hello = format!("retry: {}\nid: {id}\n\n", RETRY.as_millis());
        if !self.reset {
            return hello;
        }
        let reset = serde_json::to_string(&Reset { position: at.into() }).unwrap_or_default();
        format!("{hello}event: reset\nid: {id}\ndata: {reset}\n\n")
    }
}

/// The result of one read.
struct Ahead {
    /// Everything up to here is in `events` or did not match.
    cursor: Seq,
    events: VecDeque<Bytes>,
    /// There is more, but no room for it.
    no_room: bool,
}

impl Tail {
    /// The next event, or a piece of it; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if *self.stop.borrow() {
                return None;
            }
            if let Some(event) = self.ready.pop_front() {
                self.silent_until = Instant::now() + KEEP_ALIVE;
                return Some(event);
            }
            if Instant::now() >= self.silent_until {
                self.silent_until = Instant::now() + KEEP_ALIVE;
                let id = format!("{}-{}", self.app.side.shared.epoch, self.cursor);
                return Some(format!(": keep-alive\nid: {id}\n\n").into());
            }
            let applied = self.position.borrow_and_update().applied;
            if applied > self.cursor {
                self.read(applied).await?;
                continue;
            }
            tokio::select! {
                () = stopped(&mut self.stop) => return None,
                moved = self.position.changed() => moved.ok()?,
                () = tokio::time::sleep_until(self.silent_until) => {}
            }
        }
    }

    /// Reads on from the cursor. If the log cannot be read, the stream ends; the writer reports the reason.
    async fn read(&mut self, until: Seq) -> Option<()> {
        let (side, selection, budget) =
            (self.app.side.clone(), self.selection.clone(), self.app.budget.clone());
        let stretch = Stretch { from: self.cursor.next(), until, records_max: RECORDS_PER_READ };
        let read =
            self.app.reads.short(move |cancel| Ahead::read(&side, &selection, &budget, stretch, cancel));
        let ahead = read.await.ok()?;
        (self.cursor, self.ready) = (ahead.cursor, ahead.events);
        if ahead.no_room && self.ready.is_empty() {
            tokio::select! {
                () = stopped(&mut self.stop) => {}
                () = tokio::time::sleep(ROOM_WAIT) => {}
            }
        }
        Some(())
    }
}

impl Ahead {
    fn read(
        side: &ReadSide,
        selection: &Selection,
        budget: &Budget,
        stretch: Stretch,
        cancel: &Cancel,
    ) -> Result<Ahead, Problem> {
        let before = Seq(stretch.from.0.saturating_sub(1));
        let mut ahead = Ahead { cursor: before, events: VecDeque::new(), no_room: false };
        let gateway = side.config.borrow().gateway_id.clone();
        let (mut count, mut bytes) = (0, 0);
        let scanned = scan_for(&side.shared.reader, stretch, &selection.wanted(), cancel, |record| {
            if !selection.has(record)? {
                return Ok(ControlFlow::Continue(()));
            }
            let entry = Entry::of(record)?;
            let Some(mut event) = event(side, &entry, &gateway, budget)? else {
                (ahead.no_room, ahead.cursor) = (true, Seq(record.seq.0 - 1));
                return Ok(ControlFlow::Break(()));
            };
            (count, bytes, ahead.cursor) = (count + 1, bytes + event.len(), record.seq);
            ahead.events.extend(std::iter::from_fn(|| event.pop()));
            let full = count == EVENTS_AHEAD || bytes >= BYTES_AHEAD;
            Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        match scanned {
            Scanned::All => ahead.cursor = stretch.until,
            Scanned::UpTo(last) => ahead.cursor = last,
            Scanned::Enough => {}
        }
        Ok(ahead)
    }
}

/// A serialised event; `None` if other answers use the bytes for it.
fn event(side: &ReadSide, entry: &Entry, gateway: &str, budget: &Budget) -> Result<Option<Pieces>, Problem> {
    let epoch = side.shared.epoch;
    let names = side.names(entry);
    let head = |kind: &str| format!("id: {epoch}-{}\nevent: {kind}\ndata: ", entry.seq);
    let mut pieces = Pieces::new(budget);
    let written = pieces
        .put(head(entry.kind()).as_bytes())
        .and_then(|()| pieces.json(&event_json(entry, &names, gateway, epoch)))
        .and_then(|()| pieces.put(b"\n\n"));
    match (written, pieces.no_room()) {
        (Ok(()), _) => Ok(Some(pieces)),
        (Err(_), Some(NoRoom::Now)) => Ok(None),
        // It would never fit, and must not block later events.
        (Err(_), Some(NoRoom::Ever)) => {
            let mut omitted = Pieces::new(budget);
            omitted.put(head("omitted").as_bytes())?;
            omitted.json(&Omitted { seq: entry.seq, kind: entry.kind().into() })?;
            omitted.put(b"\n\n")?;
            Ok(Some(omitted))
        }
        (Err(problem), None) => Err(problem),
    }
}

#[cfg(test)]
mod tests {
    use fieldlog_projections::Epoch;

    use super::*;

    #[test]
    fn a_stream_begins_where_the_client_left_off_or_says_that_it_cannot() {
        let at = At { epoch: Epoch(1), applied: Seq(100), head: Seq(100) };
        let check = |id: Option<&str>, after: Option<u64>, cursor: u64, reset: bool| {
            let begin = Begin::decide(at, Seq(10), id, after.map(Seq));
            assert_eq!(begin, Begin { cursor: Seq(cursor), reset }, "{id:?} {after:?}");
        };
        check(None, None, 100, false);
        check(Some(""), None, 100, false);
        check(Some("0000000000000001-50"), None, 50, false);
        check(Some("0000000000000001-50"), Some(20), 50, false);
        check(None, Some(20), 20, false);
        check(None, Some(9), 9, false);
        // Trimmed, of another epoch, in the future, or not an id of ours.
        check(None, Some(8), 100, true);
        check(Some("0000000000000002-50"), None, 100, true);
        check(Some("0000000000000001-101"), None, 100, true);
        check(Some("50"), None, 100, true);
    }
}
