//! Carries out the plan: one task per sink.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use fieldlog_projections::{Seq, Time};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use super::pace::{Pace, Pause};
use super::parcel::link_at;
use super::plan::Plan;
use super::refusals::Refusals;
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

mod refused;
mod start;
mod unreadable;

/// How often an acknowledged cursor is given to the writer, for its next commit. A commit with a cursor writes 4 KB more than
/// the 24 KB that it writes anyway; what is sent twice after a crash is these seconds' worth.
const CURSOR_EVERY: Duration = Duration::from_secs(2);

/// How long a stop waits for the answers to what is under way: what is answered later comes twice after the next start.
const ANSWERS_MAX: Duration = Duration::from_secs(2);
/// How soon a range is looked at again that the view does not have yet.
const NOT_YET: Duration = Duration::from_millis(100);

/// How a sink wants to be served.
#[derive(Clone, Debug)]
pub struct Service {
    /// The sink's name; also names its cursor.
    pub name: String,
    /// In which order.
    pub order: Order,
    /// Some events go ahead of their turn: `build` makes parcels for [`Lane::Priority`].
    pub early: bool,
    /// Share of the bytes for the backlog while there are fresh events, too; 0 to 1.
    pub backlog_share: f64,
    /// Bytes per second, 0 for no limit.
    pub bandwidth: u64,
    /// Most events in a parcel.
    pub events_max: u32,
    /// Most bytes of its events.
    pub bytes_max: usize,
    /// How long a fresh event may wait for company.
    pub delay: Duration,
    /// Most parcels under way.
    pub in_flight_max: usize,
    /// Longest wait between attempts.
    pub backoff_max: Duration,
    /// What becomes of events that the sink refuses.
    pub refused: RefusedPolicy,
}

/// What a driver works with.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The log, the view and the position.
    pub shared: Arc<Shared>,
    /// The writer, for cursors and dead letters.
    pub writer: Sender<Input>,
    /// What others see.
    pub status: Arc<SinkStatus>,
    /// Where it gets the time from.
    pub clock: Clock,
    /// What the sink has, if that is known better than from the log: what a driver before this one has last stored may
    /// still wait for a commit.
    pub known: Option<AckedRanges>,
}

/// What there is to send: a range of the log, at most so many events of it.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Which stream it goes into.
    pub lane: Lane,
    /// First position.
    pub first: Seq,
    /// Last position at the most.
    pub last: Seq,
    /// Newest position of the log.
    pub head: Seq,
    /// Most events.
    pub events_max: u32,
    /// Most bytes of these.
    pub bytes_max: usize,
}

/// How long until a parcel may go, its lane, and from where to where.
type Due = (Duration, (Lane, Seq, Seq));

/// Why a connection ended.
enum End {
    Stopped,
    Lost(String),
    /// The log cannot be read; the writer will find out, too.
    Log(LogError),
}

/// Serves one sink until told to stop; returns what it has acknowledged. `open` makes a connection, `build` makes a parcel
/// from the log (blocking).
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
    B: Fn(Wanted) -> Result<Option<Parcel>, LogError> + Clone + Send + 'static,
{
    let (acked, lost_end) = start::start(&service, &parts);
    let cursor_sent = parts.clock.now();
    let mut link = Link {
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
    link.show(None);
    if let Some(why) = &link.lost_end {
        link.note(why.clone());
    }
    let mut backoff = Backoff::new(link.service.backoff_max);
    loop {
        link.parts.status.update(|d| d.state = SinkState::Connecting);
        let opened = tokio::select! {
            opened = open() => opened,
            () = stopped(&mut shutdown) => break,
        };
        let begin = link.parts.clock.now();
        let (why, pace, lived) = match opened {
            Ok(transport) => match link.serve(transport, &mut shutdown).await {
                End::Stopped => break,
                End::Log(error) => (error.to_string(), backoff::Pace::Slow, Duration::ZERO),
                End::Lost(why) => (why, backoff::Pace::Soon, link.parts.clock.since(begin)),
            },
            Err(error) => (error.why, error.pace, Duration::ZERO),
        };
        let wait = backoff.next(pace, lived, backoff::random());
        link.report(why, wait);
        tokio::select! {
            () = link.parts.clock.sleep(wait) => {}
            () = stopped(&mut shutdown) => break,
        }
    }
    link.store_cursor();
    link.parts.status.update(|d| d.state = SinkState::Stopped);
    link.plan.acked().clone()
}

async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// A sink and where it is.
struct Link<B> {
    service: Service,
    parts: Parts,
    plan: Plan,
    build: B,
    size: Size,
    cursor_sent: Instant,
    /// As it was sent last.
    cursor: Option<AckedRanges>,
    repeats: Repeats,
    refusals: Refusals,
    /// What an operator should know of a log that has lost its end, in words.
    lost_end: Option<String>,
}

impl<B> Link<B>
where
    B: Fn(Wanted) -> Result<Option<Parcel>, LogError> + Clone + Send + 'static,
{
    async fn serve<T: Transport>(&mut self, mut transport: T, shutdown: &mut watch::Receiver<bool>) -> End {
        let clock = self.parts.clock.clone();
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
                    let mut lost = self.take(done, &mut pace);
                    // What has been answered before the connection broke counts, and may say why it broke.
                    while let Some(done) = under_way.try_join_next() {
                        lost = self.take(done, &mut pace).or(lost);
                    }
                    if let Some(why) = lost {
                        break End::Lost(why);
                    }
                }
                why = transport.lost(), if under_way.is_empty() => break End::Lost(why),
                () = stopped(shutdown) => break End::Stopped,
                () = clock.sleep(wait), if wait < Duration::MAX => {}
                // Also when nothing more comes: a log that is full may be waiting for this cursor.
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
            // What is not answered by then is dropped, and comes again.
            let _ = clock.within(ANSWERS_MAX, answers).await;
        }
        under_way.abort_all();
        transport.close().await;
        end
    }

    /// Takes in the answers to what is under way, until there is nothing left or the connection is lost.
    async fn last_answers(&mut self, under_way: &mut JoinSet<(Arc<Parcel>, Outcome)>, pace: &mut Pace) {
        while let Some(done) = under_way.join_next().await {
            self.take(done, pace);
        }
    }

    fn connected<T: Transport>(&mut self, transport: &T, head: Seq) {
        match transport.stored().filter(|m| m.epoch == self.parts.shared.epoch) {
            Some(stored) if self.is_ours(stored) => {
                self.plan.acknowledged(stored.first, stored.last);
                if self.service.order == Order::Strict {
                    // What is stored last has everything before it.
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

    /// Whether what a sink has stored led to the same link here. What is trimmed here cannot be compared.
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

    /// The next range, and how long it has to wait.
    fn next_due(&self, head: Seq, pace: &mut Pace) -> Option<Due> {
        let now = self.parts.clock.now();
        let covering = self.sooner(self.offer_due(pace, now), self.covering_due(head, pace, now));
        let held = !pace.bucket.left(now).is_zero();
        let Some((first, last)) = self.service.early.then(|| self.plan.next_early(head, held)).flatten()
        else {
            return covering;
        };
        let early = pace.pause.left(now).max(pace.early.left(now));
        let others_first = |due: &Due| due.0 < early || (due.0.is_zero() && self.plan.turn_of_others());
        Some(covering.filter(others_first).unwrap_or((early, (Lane::Priority, first, last))))
    }

    /// The next range that is to be covered: it waits for the sink, for the bandwidth, and fresh events for company.
    fn covering_due(&self, head: Seq, pace: &mut Pace, now: Instant) -> Option<Due> {
        let Some(range) = self.plan.next(head) else {
            pace.fresh_since = None;
            return None;
        };
        let (lane, first, last) = range;
        let free = pace.pause.left(now).max(pace.bucket.left(now));
        let mut wait = pace.held(lane, now);
        if lane == Lane::Live && last.0 - first.0 + 1 < u64::from(self.size.events()) {
            let since = *pace.fresh_since.get_or_insert(now);
            let waited = now.saturating_duration_since(since);
            wait = wait.max(self.service.delay.saturating_sub(waited));
        }
        // What fresh events wait for is no reason for a backlog to wait.
        let held = pace.held(Lane::Backlog, now);
        if lane == Lane::Live
            && held < wait
            && let Some((first, last)) = self.plan.backlog()
        {
            return Some((free.max(held), (Lane::Backlog, first, last)));
        }
        Some((free.max(wait), range))
    }

    /// Sends the next parcel.
    async fn dispatch<T: Transport>(
        &mut self,
        (lane, first, last): (Lane, Seq, Seq),
        head: Seq,
        transport: &mut T,
        under_way: &mut JoinSet<(Arc<Parcel>, Outcome)>,
        pace: &mut Pace,
    ) -> Result<(), LogError> {
        let early = lane == Lane::Priority;
        if lane == Lane::Live {
            pace.fresh_since = None;
        }
        let (events_max, bytes_max) = (self.size.events(), self.size.bytes());
        let wanted = Wanted { lane, first, last, head, events_max, bytes_max };
        let build = self.build.clone();
        let built = match tokio::task::spawn_blocking(move || build(wanted)).await {
            Ok(Err(error)) => return self.set_aside(first, last, error),
            Ok(Ok(built)) => built,
            Err(error) => {
                tracing::error!(sink = %self.service.name, "making a parcel from sequence {first} on: {error}");
                None
            }
        };
        let Some(parcel) = built else {
            if early {
                self.plan.looked_through(first, last);
                return Ok(());
            }
            if self.is_trimmed(last) {
                self.plan.acknowledged(first, last);
                return Ok(());
            }
            // Not in the view yet.
            pace.hold_for(lane, self.service.delay.max(NOT_YET), self.parts.clock.now());
            return Ok(());
        };
        if parcel.manifest.first > first {
            // What was before is trimmed; a record in the log says so, and goes upstream like any other.
            self.plan.acknowledged(first, Seq(parcel.manifest.first.0 - 1));
        }
        if early {
            self.dispatch_early(parcel, transport, under_way, pace);
            return Ok(());
        }
        if self.plan.acked().is_refused(parcel.manifest.first) {
            self.offer(parcel, transport, under_way, pace);
            return Ok(());
        }
        if parcel.manifest.events == 0
            && parcel.manifest.last >= last
            && pace.hold(lane, self.parts.clock.now())
        {
            return Ok(());
        }
        pace.release(lane);
        let (first, last) = (parcel.manifest.first, parcel.manifest.last);
        self.plan.sent(lane, first, last, parcel.bytes() as u64, head);
        launch(parcel, transport, under_way, pace, self.parts.clock.now());
        Ok(())
    }

    /// Sends the early copies that were found, if any.
    fn dispatch_early<T: Transport>(
        &mut self,
        parcel: Parcel,
        transport: &mut T,
        under_way: &mut JoinSet<(Arc<Parcel>, Outcome)>,
        pace: &mut Pace,
    ) {
        self.plan.looking();
        if parcel.manifest.events == 0 {
            return self.plan.looked_through(parcel.manifest.first, parcel.manifest.last);
        }
        let now = self.parts.clock.now();
        pace.early.take(parcel.bytes() as u64, now);
        launch(parcel, transport, under_way, pace, now);
    }

    /// Takes in one finished task.
    fn take(&mut self, done: Result<(Arc<Parcel>, Outcome), JoinError>, pace: &mut Pace) -> Option<String> {
        match done {
            Ok((parcel, outcome)) => self.settle(&parcel, outcome, &mut pace.pause),
            // Its range would stay under way for ever; a new connection forgets what was.
            Err(error) => Some(format!("sending ended badly: {error}")),
        }
    }

    /// Takes in an answer; the reason if the connection is gone.
    fn settle(&mut self, parcel: &Parcel, outcome: Outcome, pause: &mut Pause) -> Option<String> {
        let early = parcel.manifest.lane == Lane::Priority;
        let status = self.parts.status.clone();
        match outcome {
            Outcome::Acked => {
                self.accepted(parcel, pause);
                return None;
            }
            Outcome::Lost { why } => {
                self.size.lost();
                return Some(why);
            }
            Outcome::Busy { after, why } => {
                self.failed(parcel);
                self.hold(after, why, pause);
            }
            Outcome::Forked { why } => {
                self.failed(parcel);
                self.forked(&why, pause);
            }
            Outcome::TooLarge { why } if parcel.manifest.events > 1 => {
                self.failed(parcel);
                self.size.too_large(parcel.size, self.parts.clock.now());
                self.note(why);
            }
            Outcome::Refused { why } if parcel.manifest.events > 1 => {
                self.failed(parcel);
                self.size.refused(parcel.manifest.events);
                self.note(why);
            }
            // What becomes of the event is decided when its turn has come.
            Outcome::TooLarge { .. } | Outcome::Refused { .. } if early => self.answered(parcel),
            Outcome::TooLarge { why } | Outcome::Refused { why } => self.refused(parcel, why, pause),
        }
        SinkStatus::add(&status.parcels_retried, 1);
        None
    }

    fn accepted(&mut self, parcel: &Parcel, pause: &mut Pause) {
        if parcel.manifest.events > 0 {
            self.taken(parcel);
        }
        self.answered(parcel);
        self.parts.status.acked(parcel);
        self.size.accepted(self.parts.clock.now());
        if !self.refusals.held() {
            *pause = Pause::default();
        }
    }

    /// The sink has said "not now", or is to be left alone for a while.
    fn hold(&self, after: Option<Duration>, why: String, pause: &mut Pause) {
        let now = self.parts.clock.now();
        pause.busy(after, self.service.backoff_max, now);
        self.parts.status.held(self.parts.clock.wall(), self.moment_after(pause.left(now)), why);
    }

    /// The sink has another history: nothing counts as delivered until an operator has found out which one is right.
    fn forked(&mut self, why: &str, pause: &mut Pause) {
        let now = self.parts.clock.now();
        pause.busy(Some(self.service.backoff_max), self.service.backoff_max, now);
        let why = format!(
            "{why}. Either this log was restored from a backup, or another gateway uses this `gateway_id` with a copy of it. \
             Nothing is counted as delivered meanwhile. Give each gateway a `gateway_id` of its own, or stop this agent, move its \
             log away and start it once with --new-epoch; if the receiver's state is what is wrong, mend that"
        );
        if self.repeats.is_news(&why) {
            tracing::error!(sink = %self.service.name, "{why}");
        }
        self.parts.status.forked(self.parts.clock.wall(), self.moment_after(pause.left(now)), why);
    }

    fn answered(&mut self, Parcel { manifest, .. }: &Parcel) {
        match manifest.lane {
            Lane::Priority => self.plan.looked_through(manifest.first, manifest.last),
            Lane::Live | Lane::Backlog => self.plan.acknowledged(manifest.first, manifest.last),
        }
    }

    fn failed(&mut self, Parcel { manifest, .. }: &Parcel) {
        match manifest.lane {
            Lane::Priority => self.plan.failed_early(),
            Lane::Live | Lane::Backlog => self.plan.failed(manifest.first, manifest.last),
        }
    }

    fn show(&self, warning: Option<String>) {
        let warnings = [warning, self.lost_end.clone(), self.unreadable_words(), self.refused_words()];
        let warnings: Vec<String> = warnings.into_iter().flatten().collect();
        self.parts.status.update(|d| {
            d.acked.clone_from(self.plan.acked());
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

    /// Whether the log begins behind a position.
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

/// Hands a parcel to the transport.
fn launch<T: Transport>(
    parcel: Parcel,
    transport: &mut T,
    under_way: &mut JoinSet<(Arc<Parcel>, Outcome)>,
    pace: &mut Pace,
    now: Instant,
) {
    pace.bucket.take(parcel.bytes() as u64, now);
    let parcel = Arc::new(parcel);
    let sending = transport.send(parcel.clone());
    under_way.spawn(async move { (parcel, sending.await) });
}

#[cfg(test)]
mod tests;
