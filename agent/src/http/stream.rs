//! `/api/v1/events/stream`: events as they are applied, as server-sent events.
//!
//! A stream has no queue of its own: it is a position in the log, and reads on from there when the view has moved. A slow
//! client holds nothing but that position.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use fieldlog_projections::Seq;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use super::event::{Entry, EventJson, Filter};
use super::events::encode;
use super::params::Params;
use super::position::{At, parse_tag};
use super::problem::Problem;
use super::reads::{Scanned, Stretch, scan};
use super::{App, STREAMS_MAX, stopped};
use crate::writer::Position;

/// Silence after which a comment is sent, so that both ends and what is between them see a live connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a client should wait before it connects again.
const RETRY: Duration = Duration::from_secs(3);
/// Events read ahead of the client.
const EVENTS_AHEAD: usize = 256;
/// Records looked at in one read; with a filter, few of them may be events.
const RECORDS_PER_READ: u64 = 50_000;

const LAST_EVENT_ID: &str = "last-event-id";

/// One stream.
struct Tail {
    app: Arc<App>,
    filter: Filter,
    /// Everything up to here has been sent, or is not wanted.
    cursor: Seq,
    ready: VecDeque<Event>,
    position: watch::Receiver<Position>,
    stop: watch::Receiver<bool>,
    /// When something is to be sent even if nothing happens.
    silent_until: Instant,
    _permit: OwnedSemaphorePermit,
}

/// `GET /api/v1/events/stream`
pub(super) async fn stream(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let params = Params::of(&uri, &["device", "type", "after"])?;
    let permit = app.streams.clone().try_acquire_owned().map_err(|_| {
        Problem::busy(format!(
            "{STREAMS_MAX} event streams are open, which is the most there may be; close one"
        ))
    })?;
    let after = params.seq("after")?;
    let (at, filter) = app.with_view(|view, at| Ok((at, Filter::from(&params, &view.devices)?)))?;
    let first = oldest(&app).await?;
    let last_id = headers.get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or(""));
    let begin = Begin::decide(at, first, last_id, after);
    let tail = Tail {
        filter,
        cursor: begin.cursor,
        ready: begin.events(at).into(),
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
    let mut response = Sse::new(events).into_response();
    // Proxies that buffer answers would hold events back.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn oldest(app: &App) -> Result<Seq, Problem> {
    let side = app.side.clone();
    app.reads.short(move |_| Ok(side.shared.reader.range()?.map_or(Seq(1), |(first, _)| first))).await
}

/// Where a stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Begin {
    cursor: Seq,
    /// The client's position means nothing here: it has to read the state anew.
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

    /// What is sent before the first event. The id without data tells the client where it is, should the connection
    /// break before anything happens.
    fn events(self, at: At) -> Vec<Event> {
        let id = format!("{}-{}", at.epoch, self.cursor);
        let hello = Event::default().retry(RETRY).id(&id);
        let position = serde_json::to_string(&at).unwrap_or_default();
        let reset = || Event::default().event("reset").id(&id).data(format!("{{\"position\":{position}}}"));
        if self.reset { vec![hello, reset()] } else { vec![hello] }
    }
}

impl Tail {
    /// The next event; `None` ends the stream.
    async fn next(&mut self) -> Option<Event> {
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
                return Some(Event::default().comment("keep-alive").id(self.id(self.cursor)));
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

    fn id(&self, seq: Seq) -> String {
        format!("{}-{seq}", self.app.side.shared.epoch)
    }

    /// Reads on from the cursor. A log that cannot be read ends the stream; the writer is the one to say why.
    async fn read(&mut self, until: Seq) -> Option<()> {
        let (side, filter) = (self.app.side.clone(), self.filter.clone());
        let stretch = Stretch { from: self.cursor.next(), until, records_max: RECORDS_PER_READ };
        let read = self.app.reads.short(move |cancel| {
            let mut entries = Vec::new();
            let scanned = scan(&side.shared.reader, stretch, cancel, |record| {
                if filter.wants(record)? {
                    entries.push(Entry::of(record)?);
                }
                let full = entries.len() == EVENTS_AHEAD;
                Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            let cursor = match (scanned, entries.last()) {
                (Scanned::UpTo(last), _) => last,
                (Scanned::Enough, Some(last)) => last.seq,
                _ => stretch.until,
            };
            let (names, epoch) = (side.names(&entries), side.shared.epoch);
            let gateway = side.config.borrow().gateway_id.clone();
            let write = |entry: &Entry| -> Result<Event, Problem> {
                let json = encode(&EventJson::new(entry, &names, &gateway, epoch))?;
                let json = String::from_utf8(json).map_err(|e| Problem::internal(e.to_string()))?;
                Ok(Event::default().id(format!("{epoch}-{}", entry.seq)).event(entry.kind()).data(json))
            };
            let events = entries.iter().map(write).collect::<Result<VecDeque<_>, _>>()?;
            Ok((cursor, events))
        });
        let (cursor, events) = read.await.ok()?;
        (self.cursor, self.ready) = (cursor, events);
        Some(())
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
        // Trimmed, of another epoch, from the future, or nothing that we sent.
        check(None, Some(8), 100, true);
        check(Some("0000000000000002-50"), None, 100, true);
        check(Some("0000000000000001-101"), None, 100, true);
        check(Some("50"), None, 100, true);
    }
}
