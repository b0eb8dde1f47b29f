//! The writer: one thread that turns deliveries into committed records, and releases their acknowledgements only after
//! that.
//!
//! It never waits for a connection: it leaves acknowledgements in `PendingAcks` and wakes the connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::fold::FoldId;
use fieldlog_projections::view::FoldError;
use fieldlog_projections::{Aggregates, Fact, Named, Seq, Time};
use tokio::sync::oneshot;

use crate::alert::Alerting;
use crate::clock::Clock;
use crate::command::{Asked, Unreadable};
use crate::config::Config;
use crate::config::rules::RuleError;
use crate::in_hand::InHand;
use crate::log::acked::AckedRanges;
use crate::log::{Log, LogError};
use crate::message::{Delivery, Published};
use crate::observe::{Observer, Outcomes, RecordBatch};
use crate::rebuild;
use crate::retention::age::AgeClock;
use crate::retention::keeper::{Keeper, Orders};
use crate::retention::rollup::{JobError, RollupThread};
use crate::shared::Shared;
use crate::window::InflightWindow;
pub use administer::{Call, Code, Done, Filter, Order, Refused};
use commands::Commanding;
use commit::Committer;
pub(crate) use commit::journal_bounds;
use cursors::Cursors;
use pending::PendingAcks;
use snapshots::SnapshotWriter;

mod administer;
mod alerts;
mod commands;
mod commit;
mod cursors;
mod intake;
mod pending;
mod retention;
mod snapshots;

/// Interval of time-driven work: silence, held-back values, snapshots, clock steps.
const TICK: Duration = Duration::from_secs(1);
/// A moved cursor waits this long to share a commit; then it gets one of its own.
const CURSOR_PATIENCE: Duration = Duration::from_secs(10);
/// A message with a held-back value waits this long for another commit; then its value gets one of its own.
const HELD_PATIENCE: Duration = Duration::from_secs(5);
/// Inputs that are taken for one commit that somebody waits for, at most.
const INPUTS_PER_COMMIT_MAX: usize = 256;
/// A wall clock that is off by more than this has been set.
const CLOCK_STEP_MICROS: i64 = 2_000_000;

/// A new configuration.
#[derive(Debug)]
pub struct ConfigChange {
    /// The configuration.
    pub config: Config,
    /// The counters of its sources.
    pub outcomes: Vec<Arc<Outcomes>>,
    /// The keys that changed.
    pub keys: Vec<String>,
    /// Who has it loaded.
    pub actor: String,
}

/// The inputs of the writer.
#[derive(Debug)]
pub enum Input {
    /// Messages.
    Delivery(Delivery),
    /// A new configuration.
    Configure(Box<ConfigChange>),
    /// Somebody asks for something other than a command.
    Administer(Box<Order>),
    /// A sink has acknowledged more; stored with the next commit.
    Cursor {
        /// The sink.
        name: String,
        /// Its acknowledged ranges.
        acked: AckedRanges,
    },
    /// A sink refuses records permanently.
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
    /// Somebody asks for a command.
    Command(Box<Asked>),
    /// Somebody asks for what cannot be one.
    Unreadable(Box<Unreadable>),
    /// A source has published something for a command, or not.
    Published(Published),
    /// The sources are about to stop: from now on commit everything at once, because they wait for their
    /// acknowledgements and nothing more will arrive.
    Drain,
    /// Commit the batch, write a snapshot, close the log and end.
    Stop,
    /// Commit the batch, write a snapshot, and answer with its position.
    Snapshot(oneshot::Sender<Seq>),
}

/// The state of the writer.
pub struct Writer {
    log: Committer,
    shared: Arc<Shared>,
    observer: Observer,
    in_hand: InHand,
    config: Config,
    clock: Clock,
    snapshots: SnapshotWriter,
    batch: RecordBatch,
    pending: PendingAcks,
    windows: Vec<InflightWindow>,
    cursors: Cursors,
    keeper: Keeper,
    orders: Orders,
    rollup_thread: RollupThread,
    /// Deliveries that arrived while ingest was blocked; bounded by their sources' windows.
    parked: VecDeque<Delivery>,
    oldest: Option<Instant>,
    last_arrival: Instant,
    last_commit: Instant,
    last_tick: Instant,
    started: Instant,
    expected: (Instant, Time),
    ages: AgeClock,
    /// The doubted amount as stored in the log.
    doubted: u64,
    draining: bool,
    commanding: Commanding,
    alerting: Alerting,
    /// The batch has records of alerts.
    alerts_recorded: bool,
}

impl From<JobError> for WriterError {
    fn from(error: JobError) -> WriterError {
        match error {
            JobError::Log(error) => WriterError::Log(error),
            JobError::Fold(error) => WriterError::Fold(error),
            JobError::Panicked => WriterError::Panicked,
        }
    }
}

impl Writer {
    /// A writer that continues `log`, whose head is the position of `shared.view`.
    pub fn new(log: Log, shared: Arc<Shared>, observer: Observer, config: Config, clock: Clock) -> Writer {
        let (now, wall) = (clock.now(), clock.wall());
        let reader = log.reader();
        // Both were read a moment ago, when the log was opened.
        let last_wall = reader.last_wall().unwrap_or(Some(log.last_time()));
        let doubted = reader.clock_doubted().unwrap_or(0);
        let batch = RecordBatch { records: RecordBuffer::after(log.last_time()), ..RecordBatch::default() };
        let snapshots = SnapshotWriter::new(shared.clone(), &config.snapshots, clock.clone());
        // The first iteration may be a second away, and an earlier check must not find the writer stuck.
        shared.stats.beat.store(wall.0, Ordering::Relaxed);
        let cursors = Cursors::stored(&log, &shared.stats, now);
        shared.stats.state.note(observer.state_use());
        Writer {
            observer,
            in_hand: InHand::default(),
            windows: windows(&config),
            log: Committer::new(log, shared.clone(), clock.clone()),
            clock,
            snapshots,
            batch,
            pending: PendingAcks::default(),
            cursors,
            keeper: Keeper::new(&config),
            orders: Orders::default(),
            rollup_thread: RollupThread::default(),
            parked: VecDeque::new(),
            oldest: None,
            last_arrival: now,
            last_commit: now,
            last_tick: now,
            started: now,
            expected: (now, wall),
            ages: AgeClock::new(wall, last_wall, doubted, now),
            doubted,
            draining: false,
            commanding: Commanding::default(),
            alerting: Alerting::new(&config.alerts, config.limits.alerts_max),
            alerts_recorded: false,
            shared,
            config,
        }
    }

    /// Keeps a note of the messages in hand.
    #[must_use]
    pub fn with_in_hand(self, in_hand: InHand) -> Writer {
        Writer { in_hand, ..self }
    }

    /// Appends a fact about the agent itself and commits it at once.
    ///
    /// # Errors
    /// [`WriterError`]
    pub fn record(&mut self, fact: &Fact) -> Result<(), WriterError> {
        let wall = self.clock.wall();
        self.batch.records.push_fact(Envelope { wall, ..Envelope::default() }, fact);
        self.commit(None)
    }

    /// Works until told to stop, then leaves a snapshot and a closed log.
    ///
    /// # Errors
    /// [`WriterError`]: uncommitted messages were not acknowledged, and will not be.
    pub fn run(mut self, inputs: &Receiver<Input>) -> Result<(), WriterError> {
        let worked = self.work(inputs);
        let mut in_hand = std::mem::take(&mut self.in_hand);
        let stopped = worked.and_then(|()| self.stop());
        // No message is to blame for an end with a reason. After a panic this is not reached.
        in_hand.withdraw();
        stopped
    }

    fn work(&mut self, inputs: &Receiver<Input>) -> Result<(), WriterError> {
        // Before the first message: a log that is full takes none.
        self.keep()?;
        self.restore_commands();
        loop {
            let input = inputs.recv_timeout(self.clock.block_for(self.wait()));
            self.shared.stats.beat.store(self.clock.wall().0, Ordering::Relaxed);
            match input {
                Ok(input) => {
                    if self.handle_all(input, inputs)? {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.clock.since(self.last_tick) >= TICK || self.deferred_due() {
                self.tick()?;
                self.log.log().still_there()?;
                self.keep()?;
            }
            self.drive_commands()?;
            self.record_alerts();
            self.shared.stats.state.note(self.observer.state_use());
            self.commit_if_due()?;
            self.store_cursors(CURSOR_PATIENCE)?;
        }
    }

    /// Takes an input. If somebody waits for a commit at once, those behind it are taken, too, for the same commit. True: stop.
    fn handle_all(&mut self, input: Input, inputs: &Receiver<Input>) -> Result<bool, WriterError> {
        let mut next = Some(input);
        let mut taken = 0;
        while let Some(input) = next {
            if self.handle(input)? {
                return Ok(true);
            }
            taken += 1;
            let more = self.commands_press() && taken < INPUTS_PER_COMMIT_MAX;
            next = if more { inputs.try_recv().ok() } else { None };
        }
        Ok(false)
    }

    /// Takes one input. True: stop.
    fn handle(&mut self, input: Input) -> Result<bool, WriterError> {
        match input {
            Input::Delivery(mut delivery) if self.orders.blocked.is_some() => {
                delivery.acks.park(delivery.pubacks());
                delivery.may_be_old = true;
                self.parked.push_back(delivery);
            }
            Input::Delivery(delivery) => self.accept(&delivery)?,
            Input::Configure(change) => self.configure(*change)?,
            Input::Administer(order) => self.administer(*order)?,
            Input::Cursor { name, acked } => self.cursors.advance(name, acked, self.clock.now()),
            Input::DeadLetter { sink, first, last, reason } => {
                let envelope = Envelope { wall: self.clock.wall(), ..Envelope::default() };
                let fact = Fact::DeadLettered { sink, first, last, reason };
                self.batch.records.push_fact(envelope, &fact);
            }
            Input::Command(asked) => self.ask(*asked)?,
            Input::Unreadable(unreadable) => self.note_unreadable(*unreadable),
            Input::Published(published) => self.publication_ended(published),
            Input::Snapshot(reply) => {
                self.commit_all()?;
                self.log.move_journal(Duration::ZERO)?;
                self.snapshots.begin();
                let _ = reply.send(self.log.log().head());
            }
            Input::Drain => self.draining = true,
            Input::Stop => return Ok(true),
        }
        Ok(false)
    }

    /// How long until something is due.
    fn wait(&self) -> Duration {
        let now = self.clock.now();
        let since = |moment| now.saturating_duration_since(moment);
        let tick = TICK.saturating_sub(since(self.last_tick));
        let commit = match self.oldest {
            Some(oldest) => self.commit_delay().saturating_sub(since(oldest)),
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

    fn tick(&mut self) -> Result<(), WriterError> {
        self.last_tick = self.clock.now();
        self.look_at_clock();
        self.in_hand.lived(self.last_tick.saturating_duration_since(self.started));
        self.observer.tick(self.clock.wall(), &mut self.batch);
        self.tick_commands();
        self.tick_alerts();
        self.snapshot_if_due()?;
        self.log.move_journal(self.config.log.journal_move)?;
        Ok(())
    }

    /// Records that the wall clock was set, if it was.
    fn look_at_clock(&mut self) {
        let (at, now) = (self.clock.now(), self.clock.wall());
        let passed = at.saturating_duration_since(self.expected.0);
        let expected = Time(self.expected.1.0 + passed.as_micros() as i64);
        if (now.0 - expected.0).abs() > CLOCK_STEP_MICROS {
            tracing::warn!(
                "the clock was changed by {} s; log time never goes back, and records also carry the wall clock time",
                (now.0 - expected.0) / 1_000_000
            );
            let envelope = Envelope { wall: now, ..Envelope::default() };
            self.batch.records.push_fact(envelope, &Fact::ClockStepped { expected, found: now });
            self.ages.stepped(now.0 - expected.0, at);
            self.observer.clock_stepped(expected, now);
        }
        self.expected = (at, now);
    }

    fn configure(&mut self, change: ConfigChange) -> Result<(), WriterError> {
        let ConfigChange { config, outcomes, keys, actor } = change;
        self.observer.configure(&config, &outcomes)?;
        let mut new = windows(&config);
        for (index, window) in self.windows.drain(..).enumerate() {
            let same = config.sources.get(index).map(|s| s.receive_window)
                == self.config.sources.get(index).map(|s| s.receive_window);
            if let (true, Some(slot)) = (same, new.get_mut(index)) {
                *slot = window;
            }
        }
        self.windows = new;
        self.alerting.configure(&config.alerts, config.limits.alerts_max);
        self.keeper = Keeper::new(&config);
        // Records to be deleted may have to be archived first now.
        self.orders.trim_before = None;
        self.log.keep_quarantined(config.limits.quarantine_records_max as u64);
        self.log.bound_journal(journal_bounds(&config.log));
        let (old, new) = (self.config.folds(), config.folds());
        self.config = config;
        let changed =
            [(Aggregates::ID, old.windows != new.windows), (Named::ID, old.declared != new.declared)];
        let folds: Vec<FoldId> = changed.iter().filter(|(_, changed)| *changed).map(|(id, _)| *id).collect();
        if !folds.is_empty() {
            rebuild::start(&self.shared, &folds, new);
        }
        if keys.is_empty() {
            return Ok(());
        }
        let cause = Some(self.administered(&actor, "reload", "", ""));
        let envelope = Envelope { wall: self.clock.wall(), cause, ..Envelope::default() };
        self.batch.records.push_fact(envelope, &Fact::ConfigChanged { keys });
        self.commit(None)
    }

    fn stop(mut self) -> Result<(), WriterError> {
        self.rollup_thread.stop();
        self.observer.finish(self.clock.wall(), &mut self.batch);
        self.observer.pause(self.clock.wall(), &mut self.batch);
        // What the sources said last: which publications were not sent.
        self.record_steps();
        self.commit_all()?;
        // The same of those that waited for this commit.
        self.record_steps();
        self.commit_all()?;
        self.store_cursors(Duration::ZERO)?;
        self.snapshots.finish();
        Ok(self.log.close()?)
    }
}

fn windows(config: &Config) -> Vec<InflightWindow> {
    config.sources.iter().map(|source| InflightWindow::new(source.receive_window)).collect()
}

/// Why the writer, and with it the process, had to end.
#[derive(Debug, thiserror::Error)]
pub enum WriterError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The fold of the committed records.
    #[error("cannot rebuild the state from the log: {0}")]
    Fold(#[from] FoldError),
    /// Rules that passed the configuration's checks but do not compile.
    #[error("the rules cannot be used: {0}")]
    Rules(#[from] RuleError),
    /// A bug.
    #[error("the writer panicked; the message above says where. Please report it")]
    Panicked,
}
