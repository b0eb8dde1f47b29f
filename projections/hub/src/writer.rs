//! A writer: takes parcels, and puts what is new in them into the store, many parcels in one transaction.
//!
//! A parcel is answered after the commit that has its events and its positions. Nothing that this process remembers
//! counts: if a commit fails, or its outcome is unknown, the accounts are read again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fieldlog_projections::Epoch;
use fieldlog_wire::Lane;
use fieldlog_wire::account::{Fault, Taken};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::changes::Changes;
use crate::config::Postgres;
use crate::intake::{Intake, Job, Refusal};
use crate::metrics::Counters;
use crate::parcel::{Event, Parcel};
use crate::postgres::{
    self, Batch, Entry, Held, Link, Partitions, Statements, WriteError, hold, other_event, write,
};
use crate::text;

/// A batch has at most about so many events, and so many parcels.
const EVENTS_MAX: usize = 20_000;
const PARCELS_MAX: usize = 256;
/// A batch with fewer events waits for more, but not for long: a transaction costs as much as a hundred events.
const EVENTS_ENOUGH: usize = 2_000;
const GATHER: Duration = Duration::from_millis(20);

/// A log, by its gateway and epoch.
type Log = (Arc<str>, Epoch);

/// Starts all writers, which end with the last handle of what they take from.
pub(crate) fn start(
    postgres: &Postgres,
    lease: Duration,
    hub: &watch::Receiver<Option<Arc<str>>>,
    counters: &Arc<Counters>,
) -> (Intake, JoinSet<()>) {
    let (intake, receivers) = Intake::new(postgres.writers);
    let mut writers = JoinSet::new();
    for jobs in receivers {
        writers.spawn(Writer::new(postgres.clone(), lease, hub.clone(), counters.clone()).run(jobs));
    }
    (intake, writers)
}

/// A writer's settings and state.
struct Writer {
    postgres: Postgres,
    lease: Duration,
    /// The name under which this process holds gateways; `None` while it has none.
    hub: watch::Receiver<Option<Arc<str>>>,
    counters: Arc<Counters>,
    open: Option<Open>,
    partitions: Partitions,
    held: HashMap<Log, Held>,
    /// The `hub` of what is held.
    held_as: Option<Arc<str>>,
}

/// What became of one parcel: `None` if it is stored, else why its log is stopped.
type Outcome = Option<String>;

/// What entering a parcel has led to.
enum Entered {
    /// It is taken; this is what is new in it.
    Taken(Taken),
    /// It contradicts what has arrived; its log is stopped from now on.
    Forked(String),
    /// Its log is stopped already.
    Stopped(String),
}

/// A connection with its prepared statements.
struct Open {
    link: Link,
    statements: Statements,
}

/// Why a batch was not written.
enum Failure {
    /// Others write for these.
    Lost(BTreeSet<Arc<str>>),
    /// The database does not answer, or does not take it.
    Failed(String),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Failure {
        Failure::Failed(postgres::chain(&error))
    }
}

impl Writer {
    /// A writer that is not connected yet.
    fn new(
        postgres: Postgres,
        lease: Duration,
        hub: watch::Receiver<Option<Arc<str>>>,
        counters: Arc<Counters>,
    ) -> Writer {
        Writer {
            postgres,
            lease,
            hub,
            counters,
            open: None,
            partitions: Partitions::default(),
            held: HashMap::new(),
            held_as: None,
        }
    }

    /// Writes until nobody can send any more.
    async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.recv().await {
            let mut batch = vec![first];
            let mut events = batch[0].parcel.events.len();
            let late = tokio::time::Instant::now() + GATHER;
            while events < EVENTS_MAX && batch.len() < PARCELS_MAX {
                let next = match jobs.try_recv() {
                    Err(_) if events < EVENTS_ENOUGH => {
                        tokio::time::timeout_at(late, jobs.recv()).await.unwrap_or_default()
                    }
                    now => now.ok(),
                };
                let Some(job) = next else { break };
                events += job.parcel.events.len();
                batch.push(job);
            }
            self.write(batch).await;
        }
    }

    /// Writes a batch. If the database does not take it, its halves are tried: one parcel must not hold up those of other
    /// gateways.
    async fn write(&mut self, batch: Vec<Job>) {
        let mut work = vec![batch];
        while let Some(mut batch) = work.pop() {
            let begin = Instant::now();
            match self.attempt(&batch).await {
                Ok(outcomes) => {
                    self.counters.batch_seconds.observe(begin.elapsed().as_secs_f64());
                    for (job, outcome) in batch.into_iter().zip(outcomes) {
                        self.answer(job, outcome.map_or(Ok(()), |why| Err(Refusal::Forked(why))));
                    }
                }
                Err(Failure::Lost(lost)) => {
                    self.let_go(&batch);
                    let of_lost = |job: &Job| lost.contains(&job.parcel.manifest().gateway);
                    let (refused, left): (Vec<Job>, Vec<Job>) = batch.into_iter().partition(of_lost);
                    for job in refused {
                        let why =
                            "the hub has lost this gateway to another one, or its own lease; send it again";
                        self.answer(job, Err(Refusal::Busy(why.into())));
                    }
                    work.extend(Some(left).filter(|left| !left.is_empty()));
                }
                Err(Failure::Failed(why)) => {
                    self.let_go(&batch);
                    if self.open.as_ref().is_none_or(|open| open.link.client.is_closed()) {
                        self.open = None;
                    } else if batch.len() > 1 {
                        let rest = batch.split_off(batch.len() / 2);
                        work.extend([rest, batch]);
                        continue;
                    }
                    tracing::warn!("{} parcels are not stored: {why}", batch.len());
                    for job in batch {
                        let why = format!("it cannot be stored at the moment: {why}");
                        self.answer(job, Err(Refusal::Busy(why)));
                    }
                }
            }
        }
    }

    /// Forgets what is known of the logs of a batch that was not written.
    fn let_go(&mut self, batch: &[Job]) {
        for job in batch {
            let manifest = job.parcel.manifest();
            self.held.remove(&(manifest.gateway.clone(), manifest.epoch));
        }
    }

    /// Enters the parcels into their accounts, and writes what is new.
    async fn attempt(&mut self, jobs: &[Job]) -> Result<Vec<Outcome>, Failure> {
        let hub = self.hub.borrow().clone();
        let Some(hub) = hub else {
            return Err(Failure::Failed("the hub has no lease in the database".into()));
        };
        if self.held_as.replace(hub.clone()).is_none_or(|before| before != hub) {
            self.held.clear();
        }
        self.connect().await?;
        let mut outcomes = Vec::new();
        let mut new: BTreeMap<Log, Vec<&Event>> = BTreeMap::new();
        for job in jobs {
            let manifest = job.parcel.manifest();
            let log = (manifest.gateway.clone(), manifest.epoch);
            if !new.contains_key(&log) {
                self.hold(&hub, &log).await?;
            }
            let pending = new.get(&log).map_or(&[][..], Vec::as_slice);
            match self.enter(&log, &job.parcel, pending).await? {
                Entered::Taken(taken) => {
                    let is_new = |event: &&Event| taken.is_new(event.seq);
                    new.entry(log).or_default().extend(job.parcel.events.iter().filter(is_new));
                    outcomes.push(None);
                }
                Entered::Forked(why) => {
                    new.entry(log).or_default();
                    outcomes.push(Some(why));
                }
                Entered::Stopped(why) => outcomes.push(Some(why)),
            }
        }
        self.store(&hub, &new).await?;
        for log in new.keys() {
            if let Some(held) = self.held.get_mut(log) {
                held.version += 1;
            }
        }
        Ok(outcomes)
    }

    async fn connect(&mut self) -> Result<&mut Open, Failure> {
        if self.open.as_ref().is_none_or(|open| open.link.client.is_closed()) {
            let link = Link::open(&self.postgres, self.lease);
            let link = link.await.map_err(|error| Failure::Failed(error.to_string()))?;
            let statements = Statements::prepare(&link.client).await?;
            self.open = Some(Open { link, statements });
        }
        self.open.as_mut().ok_or_else(|| Failure::Failed("there is no connection".into()))
    }

    /// Takes the gateway, unless it is held, and reads the account. That of a stopped log is always read: somebody may
    /// have lifted the stop.
    async fn hold(&mut self, hub: &str, log: &Log) -> Result<(), Failure> {
        if self.held.get(log).is_none_or(|held| held.forked.is_some()) {
            let client = &self.connect().await?.link.client;
            let held = hold(client, hub, &log.0, log.1).await;
            let held = held.map_err(|error| Failure::Failed(error.to_string()))?;
            self.held.insert(log.clone(), held);
        }
        Ok(())
    }

    /// Enters a parcel into its account. `pending` are the events of its log in this batch.
    async fn enter(&mut self, log: &Log, parcel: &Parcel, pending: &[&Event]) -> Result<Entered, Failure> {
        let (Some(held), Some(open)) = (self.held.get_mut(log), &self.open) else {
            return Err(Failure::Failed("there is no connection".into()));
        };
        if let Some(why) = &held.forked {
            return Ok(Entered::Stopped(why.clone()));
        }
        let manifest = parcel.manifest();
        let known = held.account.holes(manifest.first, manifest.last) != [(manifest.first, manifest.last)];
        let mut other = None;
        if known || manifest.lane == Lane::Priority || held.account.uncovered() > 0 {
            other = parcel.contradicts(pending);
            if other.is_none() {
                other = other_event(&open.link.client, held.log, parcel).await?;
            }
        }
        let entered = match other {
            Some(seq) => Err(held.account.refuse(manifest, Fault::Content { seq })),
            None => held.account.take_unless_forked(&parcel.arrival()),
        };
        match entered {
            Ok(taken) => {
                for fault in &taken.faults {
                    tracing::error!("{} epoch {}: {fault}", manifest.gateway, manifest.epoch);
                }
                Ok(Entered::Taken(taken))
            }
            Err(forked) => {
                let why = format!(
                    "{}; nothing more of this log is taken until somebody has found out which history is right",
                    forked.fault
                );
                tracing::error!("gateway {} epoch {} is stopped: {why}", manifest.gateway, manifest.epoch);
                held.forked = Some(why.clone());
                Ok(Entered::Forked(why))
            }
        }
    }

    async fn store(&mut self, hub: &str, new: &BTreeMap<Log, Vec<&Event>>) -> Result<(), Failure> {
        let (mut entries, mut events) = (Vec::new(), Vec::new());
        for (log, of_log) in new {
            let Some(held) = self.held.get(log) else { continue };
            let mut changes = Changes::default();
            of_log.iter().for_each(|event| changes.add(event));
            events.extend(of_log.iter().map(|event| (held.log, *event)));
            entries.push(Entry { gateway: &log.0, held, changes });
        }
        let Some(Open { link, statements }) = &mut self.open else {
            return Err(Failure::Failed("there is no connection".into()));
        };
        if entries.is_empty() {
            return Ok(());
        }
        let times = events.iter().map(|(_, event)| text::time(event.recorded));
        self.partitions.ensure(&mut link.client, times, Timestamp::now()).await?;
        let stored = events.len() as u64;
        let batch = Batch { hub, entries, events };
        match write(&mut link.client, statements, &batch).await {
            Ok(()) => {
                self.counters.events.fetch_add(stored, Ordering::Relaxed);
                Ok(())
            }
            Err(WriteError::Lost(lost)) => Err(Failure::Lost(lost)),
            Err(error) => Err(Failure::Failed(error.to_string())),
        }
    }

    fn answer(&self, job: Job, answer: Result<(), Refusal>) {
        let counters = &self.counters;
        match &answer {
            Ok(()) => counters.stored.fetch_add(1, Ordering::Relaxed),
            Err(Refusal::Forked(_)) => counters.forked.fetch_add(1, Ordering::Relaxed),
            Err(Refusal::Busy(_)) => counters.busy.fetch_add(1, Ordering::Relaxed),
        };
        // Whoever sent it may have given up.
        let _ = job.reply.send(answer);
    }
}
