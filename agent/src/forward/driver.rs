//! Executes the plan: one task per sink.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use fieldlog_projections::{Seq, Time};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::pace::Pace;
use super::parcel::{Span, link_at};
use super::plan::Plan;
use super::refusals::Refusals;
use super::resend::Requests;
use super::size::Size;
use super::status::{Failure, SinkState, SinkStatus};
use super::{Outcome, Parcel, Transport, Unreachable};
use crate::clock::Clock;
use crate::config::{Order, RefusedPolicy};
use crate::log::LogError;
use crate::log::acked::AckedRanges;
use crate::net::backoff::{self, Backoff, Repeats};
use crate::shared::Shared;
use crate::writer::Input;
use fieldlog_wire::{Lane, Manifest};

mod again;
mod answers;
mod refused;
mod send;
mod start;
mod unreadable;

/// How often an acknowledged cursor is passed to the writer, for its next commit. A commit with a cursor writes 28 KB
/// instead of 24 KB. After a crash, the parcels of this time are sent twice.
const CURSOR_EVERY: Duration = Duration::from_secs(2);

/// How long a stop waits for the answers to parcels in flight; parcels answered later are sent again after the next
/// start.
const ANSWERS_MAX: Duration = Duration::from_secs(2);
/// Delay before a range is tried again that is not in the view yet.
const NOT_YET: Duration = Duration::from_millis(100);

/// Settings of a sink.
#[derive(Clone, Debug)]
pub struct Service {
    /// The sink's name; also names its cursor.
    pub name: String,
    /// In which order.
    pub order: Order,
    /// Some events are sent ahead of the queue: `build` makes parcels for [`Lane::Priority`].
    pub priority: bool,
    /// Share of the bytes for the backlog while there are fresh events; 0 to 1.
    pub backlog_share: f64,
    /// Bytes per second; 0: no limit.
    pub bandwidth: u64,
    /// Most events in a parcel.
    pub events_max: u32,
    /// Most bytes of its events.
    pub bytes_max: usize,
    /// How long a fresh event may wait for others.
    pub delay: Duration,
    /// Most parcels under way.
    pub in_flight_max: usize,
    /// Longest wait between attempts.
    pub backoff_max: Duration,
    /// How to treat refused events.
    pub refused: RefusedPolicy,
}

/// The environment of a driver.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The log, the view and the position.
    pub shared: Arc<Shared>,
    /// The writer, for cursors and dead letters.
    pub writer: Sender<Input>,
    /// The public status.
    pub status: Arc<SinkStatus>,
    /// What the receiver asks for again.
    pub requests: Arc<Requests>,
    /// Where it gets the time from.
    pub clock: Clock,
    /// The sink's acknowledged ranges, if known better than from the log: the last cursor of a previous driver may
    /// still wait for a commit.
    pub known: Option<AckedRanges>,
}

/// Wait, lane, and first and last position of the next parcel.
type Due = (Duration, (Lane, Seq, Seq));

/// Why a connection ended.
enum End {
    Stopped,
    Lost(String),
    /// The log cannot be read; the writer will also find out.
    Log(LogError),
}

/// Serves one sink until told to stop; returns what it has acknowledged. `open` opens a connection, `build` builds a
/// parcel from the log (blocking).
pub async fn drive<T, O, F, B>(
    service: Service,
    parts: Parts,
    mut open: O,
    build: B,
    mut shutdown: watch::Receiver<bool>,
) -> AckedRanges
where
    T: Transport,
    O: FnMut() -> F,
    F: Future<Output = Result<T, Unreachable>>,
    B: Fn(Span) -> Result<Option<Parcel>, LogError> + Clone + Send + 'static,
{
    let (acked, lost_end) = start::start(&service, &parts);
    let cursor_sent = parts.clock.now();
    let mut driver = SinkDriver {
        plan: Plan::new(acked, service.order, service.backlog_share),
        size: Size::new(service.events_max, service.bytes_max),
        refusals: Refusals::new(service.refused),
        lost_end,
        service,
        parts,
        build,
        cursor_sent,
        cursor: None,
        repeats: Repeats::default(),
    };
    driver.show(None);
    if let Some(why) = &driver.lost_end {
        driver.note(why.clone());
    }
    let mut backoff = Backoff::new(driver.service.backoff_max);
    loop {
        driver.parts.status.update(|d| d.state = SinkState::Connecting);
        let opened = tokio::select! {
            opened = open() => opened,
            () = stopped(&mut shutdown) => break,
        };
        let begin = driver.parts.clock.now();
        let (why, pace, lived) = match opened {
            Ok(transport) => match driver.serve(transport, &mut shutdown).await {
                End::Stopped => break,
                End::Log(error) => (error.to_string(), backoff::Pace::Slow, Duration::ZERO),
                End::Lost(why) => (why, backoff::Pace::Soon, driver.parts.clock.since(begin)),
            },
            Err(error) => (error.why, error.pace, Duration::ZERO),
        };
        let wait = backoff.next(pace, lived, backoff::random());
        driver.report(why, wait);
        tokio::select! {
            () = driver.parts.clock.sleep(wait) => {}
            () = driver.parts.status.retry.notified() => {}
            () = stopped(&mut shutdown) => break,
        }
    }
    driver.store_cursor();
    driver.parts.status.update(|d| d.state = SinkState::Stopped);
    driver.plan.acked().clone()
}

async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// A sink and its progress.
struct SinkDriver<B> {
    service: Service,
    parts: Parts,
    plan: Plan,
    build: B,
    size: Size,
    cursor_sent: Instant,
    /// The cursor as last sent.
    cursor: Option<AckedRanges>,
    repeats: Repeats,
    refusals: Refusals,
    /// A warning for the operator that the log has lost its end.
    lost_end: Option<String>,
}

impl<B> SinkDriver<B>
where
    B: Fn(Span) -> Result<Option<Parcel>, LogError> + Clone + Send + 'static,
{
    async fn serve<T: Transport>(&mut self, mut transport: T, shutdown: &mut watch::Receiver<bool>) -> End {
        let (clock, requests) = (self.parts.clock.clone(), self.parts.requests.clone());
        let status = self.parts.status.clone();
        let mut position = self.parts.shared.position.subscribe();
        self.connected(&transport, position.borrow_and_update().applied);
        let window = self.service.in_flight_max.min(transport.window()).max(1);
        let mut under_way: JoinSet<(Arc<Parcel>, Outcome)> = JoinSet::new();
        let mut pace = Pace::new(self.service.bandwidth, clock.now());
        let end = loop {
            let head = position.borrow_and_update().applied;
            self.show(transport.warning());
            let window = if self.refusals.held() { 1 } else { window };
            let next = if under_way.len() < window { self.next_due(head, &mut pace) } else { None };
            if let Some((due, range)) = next
                && due.is_zero()
            {
                match self.dispatch(range, head, &mut transport, &mut under_way, &mut pace).await {
                    Ok(()) => continue,
                    Err(error) => break End::Log(error),
                }
            }
            let wait = next.map_or(Duration::MAX, |(due, _)| due);
            tokio::select! {
                Some(done) = under_way.join_next() => {
                    let mut lost = self.finished(done, &mut pace);
                    // Answers received before the connection broke count, and may explain the loss.
                    while let Some(done) = under_way.try_join_next() {
                        lost = self.finished(done, &mut pace).or(lost);
                    }
                    if let Some(why) = lost {
                        break End::Lost(why);
                    }
                }
                why = transport.lost(), if under_way.is_empty() => break End::Lost(why),
                () = stopped(shutdown) => break End::Stopped,
                ranges = requests.next() => self.ask_again(&ranges),
                () = status.retry.notified() => {
                    pace.pause.end();
                    self.refusals.offer_now();
                }
                () = clock.sleep(wait), if wait < Duration::MAX => {}
                // Also without further answers: a full log may be waiting for this cursor.
                () = clock.sleep(CURSOR_EVERY.saturating_sub(clock.since(self.cursor_sent))),
                    if self.cursor_moved() => {}
                changed = position.changed() => {
                    if changed.is_err() {
                        break End::Stopped;
                    }
                }
            }
            self.store_cursor_now_and_then();
        };
        if matches!(end, End::Stopped) {
            let answers = self.last_answers(&mut under_way, &mut pace);
            // Parcels that are not answered by then are sent again later.
            let _ = clock.within(ANSWERS_MAX, answers).await;
        }
        under_way.abort_all();
        transport.close().await;
        end
    }

    fn connected<T: Transport>(&mut self, transport: &T, head: Seq) {
        match transport.stored().filter(|m| m.epoch == self.parts.shared.epoch) {
            Some(stored) if self.is_ours(stored) => {
                self.plan.acknowledged(stored.first, stored.last);
                if self.service.order == Order::Strict {
                    // What is stored last implies everything before it.
                    self.plan.acknowledged_but_refused(Seq(1), stored.last);
                }
            }
            Some(stored) => self.disown(stored.last),
            None => {}
        }
        self.plan.connected(head, u64::from(self.service.events_max));
        SinkStatus::add(&self.parts.status.connections, 1);
        self.repeats = Repeats::default();
        let since = self.parts.clock.wall();
        self.parts.status.update(|d| d.state = SinkState::Connected { since });
        tracing::info!(sink = %self.service.name, backlog = self.plan.acked().missing_count(head), "connected");
    }

    /// Whether the sink's stored parcel led to the same link here. Trimmed positions cannot be compared.
    fn is_ours(&self, stored: &Manifest) -> bool {
        let reader = &self.parts.shared.reader;
        match link_at(reader, stored.last) {
            Ok(Some(link)) => link == stored.after,
            Ok(None) => self.is_trimmed(stored.last),
            Err(_) => false,
        }
    }

    fn disown(&self, last: Seq) {
        let why = format!(
            "the sink has parcels up to sequence {last} that are not from this log: either the log was restored from a \
             backup, or another gateway uses this `gateway_id` and a copy of the log. Everything is sent; look for FORK in \
             the receiver's report"
        );
        tracing::error!(sink = %self.service.name, "{why}");
        self.note(why);
    }

    fn show(&self, warning: Option<String>) {
        let warnings = [warning, self.lost_end.clone(), self.unreadable_words(), self.refused_words()];
        let warnings: Vec<String> = warnings.into_iter().flatten().collect();
        self.parts.status.update(|d| {
            d.acked.clone_from(self.plan.acked());
            d.resend_events = self.plan.again_count();
            d.warning = (!warnings.is_empty()).then(|| warnings.join("; "));
        });
    }

    fn note(&self, why: String) {
        let at = self.parts.clock.wall();
        self.parts.status.update(|d| d.last_error = Some(Failure { at, why }));
    }

    fn moment_after(&self, wait: Duration) -> Time {
        Time(self.parts.clock.wall().0.saturating_add(wait.as_micros() as i64))
    }

    fn store_cursor_now_and_then(&mut self) {
        if self.cursor_moved() && self.parts.clock.since(self.cursor_sent) >= CURSOR_EVERY {
            self.store_cursor();
        }
    }

    /// Whether the log begins after a position.
    fn is_trimmed(&self, seq: Seq) -> bool {
        self.parts.shared.reader.range().is_ok_and(|range| range.is_some_and(|(first, _)| seq < first))
    }

    fn cursor_moved(&self) -> bool {
        self.cursor.as_ref() != Some(self.plan.acked())
    }

    fn store_cursor(&mut self) {
        self.cursor_sent = self.parts.clock.now();
        let (name, acked) = (self.service.name.clone(), self.plan.acked().clone());
        self.cursor = Some(acked.clone());
        let _ = self.parts.writer.send(Input::Cursor { name, acked });
    }

    fn report(&mut self, why: String, wait: Duration) {
        if self.repeats.is_news(&why) {
            tracing::warn!(sink = %self.service.name, "{why}; next attempt in {:.1} s", wait.as_secs_f64());
        }
        self.note(why.clone());
        let until = self.moment_after(wait);
        self.parts.status.update(|d| d.state = SinkState::BackingOff { until, why });
    }
}

#[cfg(test)]
mod tests;
