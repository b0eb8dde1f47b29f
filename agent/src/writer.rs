//! The writer: one thread that turns deliveries into committed records, and only then lets their acknowledgements go.
//!
//! It never waits for a connection: acknowledgements are left in [`Acks`], and the connection is woken.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use fieldlog_projections::chunk::{Body, Envelope};
use fieldlog_projections::view::FoldError;
use fieldlog_projections::{Aggregates, Fact, Seq, Time};
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::config::Config;
use crate::config::rules::RuleError;
use crate::in_hand::{self, InHand, Treatment};
use crate::log::acked::AckedRanges;
use crate::log::{Commit, Log, LogError};
use crate::message::{Acks, Delivery, Message, SourceId};
use crate::observe::{Batch, Observer, Outcomes};
use crate::rebuild;
use crate::retention::age::AgeClock;
use crate::retention::keeper::{Keeper, Orders};
use crate::retention::thin::{Job, ThinError, Thinner};
use crate::shared::{CursorCut, Shared, WriterStats};
use crate::window::{Budget, Due, InflightWindow, Waiting};
use snapshots::SnapshotWriter;

mod snapshots;

/// How often time itself is looked at: silence, held-back values, snapshots, clock steps.
const TICK: Duration = Duration::from_secs(1);
/// A moved cursor waits this long for a commit to go with; then it has one of its own.
const CURSOR_PATIENCE: Duration = Duration::from_secs(10);
/// A wall clock that is further than this from where it should be has been set.
const CLOCK_STEP_MICROS: i64 = 2_000_000;

/// What the writer can be told.
#[derive(Debug)]
pub enum Input {
    /// Messages.
    Delivery(Delivery),
    /// A new configuration, with the counters of its sources and the keys that changed.
    Configure(Box<Config>, Vec<Arc<Outcomes>>, Vec<String>),
    /// A sink has acknowledged more; stored with the next commit.
    Cursor {
        /// The sink.
        name: String,
        /// What it has.
        acked: AckedRanges,
    },
    /// A sink refuses records for good.
    DeadLetter {
        /// The sink.
        sink: String,
        /// First position.
        first: Seq,
        /// Last position.
        last: Seq,
        /// Why.
        reason: String,
    },
    /// The sources are about to stop: from now on commit everything at once, because they wait for their acknowledgements
    /// and nothing more will come to wait for.
    Drain,
    /// Commit what waits, write a snapshot, close the log and end.
    Stop,
    /// Commit what waits, write a snapshot, and answer with its position.
    Snapshot(oneshot::Sender<Seq>),
}

/// The writer's own state.
pub struct Writer {
    log: Log,
    shared: Arc<Shared>,
    observer: Observer,
    in_hand: InHand,
    config: Config,
    clock: Clock,
    snapshots: SnapshotWriter,
    batch: Batch,
    /// Messages of each live connection that wait for the commit.
    held: Vec<Held>,
    windows: Vec<InflightWindow>,
    /// What each sink has, as far as it is known.
    cursors: BTreeMap<String, AckedRanges>,
    /// Sinks whose cursor has moved since it was last stored, and since when.
    moved: BTreeSet<String>,
    moved_since: Option<Instant>,
    keeper: Keeper,
    orders: Orders,
    thinner: Thinner,
    /// Deliveries that came while the log takes no more; their sources' windows bound them.
    parked: VecDeque<Delivery>,
    oldest: Option<Instant>,
    last_arrival: Instant,
    last_commit: Instant,
    last_tick: Instant,
    expected: (Instant, Time),
    ages: AgeClock,
    /// What the log has of `ages`.
    doubted: u64,
    draining: bool,
}

struct Held {
    acks: Arc<Acks>,
    source: SourceId,
    messages: usize,
    pkids: Vec<u16>,
}

impl From<ThinError> for WriterError {
    fn from(error: ThinError) -> WriterError {
        match error {
            ThinError::Log(error) => WriterError::Log(error),
            ThinError::Fold(error) => WriterError::Fold(error),
            ThinError::Panicked => WriterError::Panicked,
        }
    }
}

impl Writer {
    /// A writer that continues `log` where `shared.view` is.
    pub fn new(log: Log, shared: Arc<Shared>, observer: Observer, config: Config, clock: Clock) -> Writer {
        let (now, wall) = (clock.now(), clock.wall());
        let reader = log.reader();
        // What cannot be read now has been read a moment ago, when the log was opened.
        let last_wall = reader.last_wall().unwrap_or(Some(log.last_time()));
        let doubted = reader.clock_doubted().unwrap_or(0);
        let batch = Batch { body: Body::after(log.last_time()), quarantine: Vec::new() };
        let snapshots = SnapshotWriter::new(shared.clone(), &config.snapshots, clock.clone());
        // The first time round the loop may be a second away, and whoever looks earlier must not find it stuck.
        shared.stats.beat.store(wall.0, Ordering::Relaxed);
        let cursors = stored_cursors(&log, &shared.stats);
        let moved: BTreeSet<String> =
            shared.stats.cursors_cut.get().into_iter().flat_map(|cut| cut.keys().cloned()).collect();
        shared.stats.state.note(observer.state_use());
        Writer {
            observer,
            in_hand: InHand::default(),
            windows: windows(&config),
            clock,
            snapshots,
            batch,
            held: Vec::new(),
            moved_since: (!moved.is_empty()).then_some(now),
            cursors,
            moved,
            keeper: Keeper::new(&config),
            orders: Orders::default(),
            thinner: Thinner::default(),
            parked: VecDeque::new(),
            oldest: None,
            last_arrival: now,
            last_commit: now,
            last_tick: now,
            expected: (now, wall),
            ages: AgeClock::new(wall, last_wall, doubted, now),
            doubted,
            draining: false,
            shared,
            log,
            config,
        }
    }

    /// Keeps a note of the messages in hand.
    #[must_use]
    pub fn with_in_hand(self, in_hand: InHand) -> Writer {
        Writer { in_hand, ..self }
    }

    /// Appends a fact of the agent's own and commits it at once.
    ///
    /// # Errors
    /// [`WriterError`]
    pub fn record(&mut self, fact: &Fact) -> Result<(), WriterError> {
        let wall = self.clock.wall();
        self.batch.body.push_fact(Envelope { wall, ..Envelope::default() }, fact);
        self.commit(None)
    }

    /// Works until told to stop, then leaves a snapshot and a closed log.
    ///
    /// # Errors
    /// [`WriterError`]: nothing that was not committed has been acknowledged, and nothing more will be.
    pub fn run(mut self, inputs: &Receiver<Input>) -> Result<(), WriterError> {
        let worked = self.work(inputs);
        let mut in_hand = std::mem::take(&mut self.in_hand);
        let stopped = worked.and_then(|()| self.stop());
        // An end that has a reason was caused by no message. After a panic this is not reached.
        in_hand.withdraw();
        stopped
    }

    fn work(&mut self, inputs: &Receiver<Input>) -> Result<(), WriterError> {
        // Before the first message: a log that was blocked takes none.
        self.keep()?;
        loop {
            let input = inputs.recv_timeout(self.clock.block_for(self.wait()));
            self.shared.stats.beat.store(self.clock.wall().0, Ordering::Relaxed);
            match input {
                Ok(Input::Delivery(delivery)) if self.orders.blocked.is_some() => {
                    delivery.acks.park(delivery.pubacks());
                    self.parked.push_back(delivery);
                }
                Ok(Input::Delivery(delivery)) => self.take(&delivery)?,
                Ok(Input::Configure(config, outcomes, keys)) => self.configure(*config, &outcomes, keys)?,
                Ok(Input::Cursor { name, acked }) => self.move_cursor(name, acked),
                Ok(Input::DeadLetter { sink, first, last, reason }) => {
                    let envelope = Envelope { wall: self.clock.wall(), ..Envelope::default() };
                    let fact = Fact::DeadLettered { sink, first, last, reason };
                    self.batch.body.push_fact(envelope, &fact);
                }
                Ok(Input::Snapshot(reply)) => {
                    self.commit_all()?;
                    self.snapshots.begin();
                    let _ = reply.send(self.log.head());
                }
                Ok(Input::Drain) => self.draining = true,
                Ok(Input::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.clock.since(self.last_tick) >= TICK || self.deferred_due() {
                self.tick();
                self.log.still_there()?;
                self.keep()?;
            }
            self.shared.stats.state.note(self.observer.state_use());
            self.settle()?;
            self.store_cursors(CURSOR_PATIENCE)?;
        }
    }

    /// How long nothing is due.
    fn wait(&self) -> Duration {
        let now = self.clock.now();
        let since = |moment| now.saturating_duration_since(moment);
        let tick = TICK.saturating_sub(since(self.last_tick));
        let commit = match self.oldest {
            Some(oldest) => self.config.log.commit_delay.saturating_sub(since(oldest)),
            None => tick,
        };
        let deferred = match self.observer.deferred_until() {
            Some(due) => Duration::from_micros(due.micros_since(self.clock.wall()) as u64),
            None => tick,
        };
        tick.min(commit).min(deferred)
    }

    fn deferred_due(&self) -> bool {
        self.observer.deferred_until().is_some_and(|due| due <= self.clock.wall())
    }

    fn take(&mut self, delivery: &Delivery) -> Result<(), WriterError> {
        let now = self.clock.now();
        if let Some(window) = self.windows.get_mut(usize::from(delivery.source.0)) {
            window.arrived(now.duration_since(self.last_commit));
        }
        self.last_arrival = now;
        self.oldest.get_or_insert(now);
        self.in_hand.begin(&delivery.messages);
        self.observe_all(delivery)?;
        self.in_hand.observed(&delivery.messages);
        let held = match self.held.iter_mut().find(|h| Arc::ptr_eq(&h.acks, &delivery.acks)) {
            Some(held) => held,
            None => {
                let acks = delivery.acks.clone();
                self.held.push(Held { acks, source: delivery.source, messages: 0, pkids: Vec::new() });
                let last = self.held.len() - 1;
                &mut self.held[last]
            }
        };
        held.messages += delivery.messages.len();
        held.pkids.extend(delivery.messages.iter().filter_map(|m| m.pkid));
        let in_flight = held.pkids.len();
        if let Some(window) = self.windows.get_mut(usize::from(delivery.source.0)) {
            window.in_flight(in_flight);
        }
        Ok(())
    }

    /// Looks at the messages of a delivery. A panic goes on, with a note of the message that it came of.
    fn observe_all(&mut self, delivery: &Delivery) -> Result<(), WriterError> {
        let mut at = 0;
        let observed = panic::catch_unwind(AssertUnwindSafe(|| {
            delivery.messages.iter().enumerate().try_for_each(|(index, message)| {
                at = index;
                self.observe(delivery, message)
            })
        }));
        observed.unwrap_or_else(|panicked| {
            self.in_hand.panicked(&delivery.messages[at]);
            panic::resume_unwind(panicked)
        })
    }

    /// Looks at one message, unless this process has died of it.
    fn observe(&mut self, delivery: &Delivery, message: &Message) -> Result<(), WriterError> {
        let source = self.config.sources.get(usize::from(delivery.source.0)).map_or("", |s| s.name.as_str());
        match self.in_hand.treatment(source, message) {
            Treatment::Usual => {
                self.observer.observe(delivery.source, message, delivery.received, &mut self.batch);
            }
            Treatment::Unread { first } => {
                if first {
                    let topic = String::from_utf8_lossy(&message.topic);
                    tracing::error!("a message on {topic} of source {source} was {}", in_hand::REASON);
                }
                let (source, received) = (delivery.source, delivery.received);
                self.observer.refuse(source, message, in_hand::REASON, received, &mut self.batch);
            }
            Treatment::Alone(named) => return self.observe_alone(named, delivery, message),
        }
        Ok(())
    }

    /// Looks at a message that this process may have died of. It gets a commit of its own, so that whatever happens
    /// before it returns has to do with this message.
    fn observe_alone(
        &mut self,
        named: in_hand::Named,
        delivery: &Delivery,
        message: &Message,
    ) -> Result<(), WriterError> {
        self.commit_all()?;
        self.in_hand.alone(named);
        self.observer.observe(delivery.source, message, delivery.received, &mut self.batch);
        self.commit_all()?;
        self.in_hand.survived();
        Ok(())
    }

    /// Commits if it is time to.
    fn settle(&mut self) -> Result<(), WriterError> {
        if self.batch.body.is_empty() {
            // Nothing to store, and everything before is stored: the messages may go at once.
            self.release();
            return Ok(());
        }
        let now = self.clock.now();
        let age = now.saturating_duration_since(*self.oldest.get_or_insert(now));
        let bytes =
            self.batch.body.bytes() + self.batch.quarantine.iter().map(|(_, p)| p.len()).sum::<usize>();
        let window_full = self.held.iter().any(|held| {
            let window = self.windows.get(usize::from(held.source.0));
            window.is_some_and(|window| held.pkids.len() >= window.size())
        });
        let delay = if self.draining { Duration::ZERO } else { self.config.log.commit_delay };
        let budget = Budget { delay, bytes: self.config.log.commit_bytes_max };
        match budget.decide(Waiting { age, bytes, window_full }) {
            Ok(due) => self.commit(Some(due)),
            Err(_) => Ok(()),
        }
    }

    fn commit_all(&mut self) -> Result<(), WriterError> {
        if self.batch.body.is_empty() {
            self.release();
            return Ok(());
        }
        self.commit(None)
    }

    /// Commits, folds, publishes, acknowledges: in this order.
    fn commit(&mut self, due: Option<Due>) -> Result<(), WriterError> {
        let begin = self.clock.now();
        let cursors = self.take_moved();
        let doubted = self.ages.doubted(begin);
        let committed = self.log.commit(&Commit {
            doubted: (doubted != self.doubted).then_some(doubted),
            quarantine: &self.batch.quarantine,
            cursors: &cursors,
            trim_before: self.orders.trim_before,
            ..Commit::of(&self.batch.body)
        })?;
        // Before anything is acknowledged for it.
        self.log.still_there()?;
        self.doubted = doubted;
        if committed.trimmed.is_none() {
            self.orders.trim_before = None;
        }
        let took = self.clock.since(begin);
        self.shared.position.send_modify(|p| p.head = committed.last);
        {
            let mut view = self.shared.view.write().unwrap_or_else(PoisonError::into_inner);
            view.apply_records(self.batch.body.records(committed.first), committed.last)?;
        }
        self.shared.position.send_modify(|p| p.applied = committed.last);
        self.observer.committed(committed.last, self.acked_by_required());
        self.count(due, took);
        if let Some(due) = due {
            let idle = begin.saturating_duration_since(self.last_arrival);
            for held in &self.held {
                if let Some(window) = self.windows.get_mut(usize::from(held.source.0)) {
                    window.committed(due, held.pkids.len(), idle, self.config.log.commit_delay);
                }
            }
        }
        self.batch.body.clear();
        self.batch.quarantine.clear();
        self.release();
        self.last_commit = self.clock.now();
        self.snapshots.after(committed.last, self.last_commit, &self.config.snapshots);
        Ok(())
    }

    /// Keeps the log within its bounds: looks now and then, trims a slice, and blocks or unblocks.
    fn keep(&mut self) -> Result<(), WriterError> {
        self.archive()?;
        let now = self.clock.now();
        if self.keeper.is_due(now) {
            let shared = &self.shared;
            let aged = self.aged();
            let mut orders = self.keeper.look(
                &shared.reader,
                shared.epoch,
                &shared.snapshots,
                &self.cursors,
                (now, aged),
            )?;
            self.thin_first(&mut orders)?;
            self.announce(&orders);
            self.record_trimming(&orders)?;
            self.orders = orders;
            if self.orders.snapshot_due {
                self.snapshots.begin();
            }
        }
        if self.orders.trim_before.is_some() && self.batch.body.is_empty() {
            let empty = Body::after(self.log.last_time());
            let trim = Commit { trim_before: self.orders.trim_before, ..Commit::of(&empty) };
            if self.log.commit(&trim)?.trimmed.is_none() {
                self.orders.trim_before = None;
            }
        }
        while self.orders.blocked.is_none()
            && let Some(delivery) = self.parked.pop_front()
        {
            delivery.acks.unpark(delivery.pubacks());
            self.take(&delivery)?;
            self.settle()?;
        }
        Ok(())
    }

    /// Holds a trim back until the archive has what would go.
    fn thin_first(&mut self, orders: &mut Orders) -> Result<(), WriterError> {
        let (Some(length_s), Some(before)) = (self.config.retention.thin_to_s, orders.trim_before) else {
            return Ok(());
        };
        let archived = self.shared.reader.archive_end()?.map_or(Seq(0), |end| end.period.last);
        if archived.next() < before {
            orders.trim_before = None;
            let head = (self.log.head(), self.log.last_time());
            self.thinner.start(self.shared.reader.clone(), Job { length_s, before, head });
        }
        Ok(())
    }

    /// Stores what has been folded for the archive, and deletes from its front what is too old.
    fn archive(&mut self) -> Result<(), WriterError> {
        let periods = self.thinner.finished()?.unwrap_or_default();
        let too_old = match self.config.retention.thin_age {
            Some(age) if self.keeper.is_due(self.clock.now()) => {
                let before = Time(self.aged().0.saturating_sub(age.as_micros() as i64));
                self.shared.reader.archive_older(before)?
            }
            _ => None,
        };
        let empty = Body::after(self.log.last_time());
        self.log.commit(&Commit { archive: &periods, trim_archive_before: too_old, ..Commit::of(&empty) })?;
        if !periods.is_empty() {
            self.keeper.look_again();
        }
        Ok(())
    }

    /// What ages are counted from: the wall clock as the last tick has seen it, which tells a step from time that has passed.
    fn aged(&self) -> Time {
        let (at, now) = self.expected;
        self.ages.now(now, at)
    }

    fn announce(&self, orders: &Orders) {
        if orders.blocked != self.orders.blocked {
            match &orders.blocked {
                Some(why) => tracing::error!("no more messages are taken: {why}"),
                None => tracing::info!("messages are taken again"),
            }
            let mut blocked = self.shared.stats.blocked.lock().unwrap_or_else(PoisonError::into_inner);
            blocked.clone_from(&orders.blocked);
        }
    }

    /// What will be deleted is recorded before the first of it goes: a crash in between leaves a record of more than has
    /// gone, never of less.
    fn record_trimming(&mut self, orders: &Orders) -> Result<(), WriterError> {
        let (Some(before), Some((first, _))) = (orders.trim_before, self.shared.reader.range()?) else {
            return Ok(());
        };
        let last = Seq(before.0 - 1);
        if orders.lost_by.is_empty() {
            return self.record(&Fact::Trimmed { first, last });
        }
        let lost_by = orders.lost_by.clone();
        if orders.lost_from > first {
            self.record(&Fact::Trimmed { first, last: Seq(orders.lost_from.0 - 1) })?;
        }
        let first = first.max(orders.lost_from);
        tracing::warn!(
            "the log is full: records {first} to {last} are dropped, {} had not got them",
            lost_by.join(", ")
        );
        self.record(&Fact::Gap { first, last, lost_by })
    }

    /// The last record that every required sink has; any there will be if there is none.
    fn acked_by_required(&self) -> Seq {
        let required = self.config.sinks.iter().filter(|sink| sink.required);
        let acked = required.map(|sink| self.cursors.get(&sink.name).map_or(Seq(0), AckedRanges::contiguous));
        acked.min().unwrap_or(Seq(u64::MAX))
    }

    fn move_cursor(&mut self, name: String, acked: AckedRanges) {
        if self.cursors.get(&name) != Some(&acked) {
            self.cursors.insert(name.clone(), acked);
            self.moved.insert(name);
            self.moved_since.get_or_insert_with(|| self.clock.now());
        }
    }

    /// The cursors that have moved, as they are stored. A crash before the commit only means that some parcels are sent
    /// again, with the same identity.
    fn take_moved(&mut self) -> Vec<(String, Vec<u8>)> {
        self.moved_since = None;
        let moved = std::mem::take(&mut self.moved);
        moved.into_iter().filter_map(|name| Some((name.clone(), self.cursors.get(&name)?.encode()))).collect()
    }

    /// Stores cursors in a commit of their own when there has been no other for a while.
    fn store_cursors(&mut self, patience: Duration) -> Result<(), WriterError> {
        if self.moved_since.is_some_and(|since| self.clock.since(since) >= patience)
            && self.batch.body.is_empty()
        {
            let cursors = self.take_moved();
            let empty = Body::after(self.log.last_time());
            self.log.commit(&Commit { cursors: &cursors, ..Commit::of(&empty) })?;
        }
        Ok(())
    }

    fn count(&self, due: Option<Due>, took: Duration) {
        let stats = &self.shared.stats;
        let commits = match due {
            Some(Due::Delay) => &stats.commits_delay,
            Some(Due::Bytes) => &stats.commits_bytes,
            Some(Due::Window) => &stats.commits_window,
            None => &stats.commits_internal,
        };
        commits.fetch_add(1, Ordering::Relaxed);
        let micros = took.as_micros() as u64;
        stats.commit_micros.fetch_add(micros, Ordering::Relaxed);
        stats.commit_micros_max.fetch_max(micros, Ordering::Relaxed);
        stats.commit_duration.observe(took);
        stats.events.fetch_add(self.batch.body.len() as u64, Ordering::Relaxed);
        stats.event_bytes.fetch_add(self.batch.body.bytes() as u64, Ordering::Relaxed);
    }

    /// Lets the acknowledgements go.
    fn release(&mut self) {
        self.oldest = None;
        self.in_hand.committed();
        for held in self.held.iter_mut().filter(|held| held.messages > 0) {
            self.shared.stats.settled.fetch_add(held.messages as u64, Ordering::Relaxed);
            held.acks.release(held.messages, &held.pkids);
            held.messages = 0;
            held.pkids.clear();
        }
        // A connection that is gone has dropped its side.
        self.held.retain(|held| Arc::strong_count(&held.acks) > 1);
    }

    fn tick(&mut self) {
        self.last_tick = self.clock.now();
        let now = self.clock.wall();
        let passed = self.last_tick.saturating_duration_since(self.expected.0);
        let expected = Time(self.expected.1.0 + passed.as_micros() as i64);
        if (now.0 - expected.0).abs() > CLOCK_STEP_MICROS {
            tracing::warn!(
                "the clock was set by {} s; log time does not go back, records carry the wall clock beside it",
                (now.0 - expected.0) / 1_000_000
            );
            let envelope = Envelope { wall: now, ..Envelope::default() };
            self.batch.body.push_fact(envelope, &Fact::ClockStepped { expected, found: now });
            self.ages.stepped(now.0 - expected.0, self.last_tick);
            self.observer.clock_stepped(expected, now);
        }
        self.expected = (self.last_tick, now);
        self.observer.tick(now, &mut self.batch);
        self.snapshots.after(self.log.head(), self.last_tick, &self.config.snapshots);
    }

    fn configure(
        &mut self,
        config: Config,
        outcomes: &[Arc<Outcomes>],
        keys: Vec<String>,
    ) -> Result<(), WriterError> {
        self.observer.configure(&config, outcomes)?;
        let mut new = windows(&config);
        for (index, window) in self.windows.drain(..).enumerate() {
            let same = config.sources.get(index).map(|s| s.receive_window)
                == self.config.sources.get(index).map(|s| s.receive_window);
            if let (true, Some(slot)) = (same, new.get_mut(index)) {
                *slot = window;
            }
        }
        self.windows = new;
        self.keeper = Keeper::new(&config);
        // What was to go may have to be thinned first now.
        self.orders.trim_before = None;
        self.log.keep_quarantined(config.limits.quarantine_records_max as u64);
        let rebuild = config.aggregates != self.config.aggregates;
        self.config = config;
        if rebuild {
            let windows = crate::config::windows(&self.config.aggregates);
            rebuild::start(self.shared.clone(), &[Aggregates::ID], windows);
        }
        if keys.is_empty() { Ok(()) } else { self.record(&Fact::ConfigChanged { keys }) }
    }

    fn stop(mut self) -> Result<(), WriterError> {
        self.thinner.stop();
        self.observer.flush_deferred(Time(i64::MAX), self.clock.wall(), &mut self.batch);
        self.commit_all()?;
        self.store_cursors(Duration::ZERO)?;
        self.snapshots.finish();
        Ok(self.log.close()?)
    }
}

/// The stored cursors; what they say beyond the end of the log is forgotten, and noted. Those must be stored anew before the
/// log grows past them, or what it then gets would count as acknowledged.
fn stored_cursors(log: &Log, stats: &WriterStats) -> BTreeMap<String, AckedRanges> {
    let (mut cursors, mut cut) = (BTreeMap::new(), BTreeMap::new());
    let reader = log.reader();
    let stored = reader.cursors().unwrap_or_else(|error| {
        tracing::error!("no sink's cursor is known, and everything in the log is sent again: {error}");
        Vec::new()
    });
    // Each sink says so, too; here also those that are not configured any more.
    let damaged = reader.cursors_damaged().unwrap_or_default();
    damaged.iter().for_each(|name| tracing::error!("{}", LogError::Cursor { name: name.clone() }));
    let _ = stats.cursors_damaged.set(damaged.into_iter().collect());
    for (name, stored) in stored {
        let Some(mut acked) = AckedRanges::decode(&stored) else { continue };
        let (newest, head) = (acked.newest(), log.head());
        if acked.cut(head) {
            cut.insert(name.clone(), CursorCut { newest, head });
        }
        cursors.insert(name, acked);
    }
    // It is the first writer of this process that opens the log.
    let _ = stats.cursors_cut.set(cut);
    cursors
}

fn windows(config: &Config) -> Vec<InflightWindow> {
    config.sources.iter().map(|source| InflightWindow::new(source.receive_window)).collect()
}

/// Why the writer had to end. The process ends with it.
#[derive(Debug, thiserror::Error)]
pub enum WriterError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The fold of what was just committed.
    #[error("the log cannot be folded: {0}")]
    Fold(#[from] FoldError),
    /// Rules that passed the configuration's checks and still do not compile.
    #[error("the rules cannot be used: {0}")]
    Rules(#[from] RuleError),
    /// A bug.
    #[error("the writer panicked; the message above says where. Please report it")]
    Panicked,
}
