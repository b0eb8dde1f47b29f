//! Redis and OpenSearch follow the tables: each store has a cursor for each log, kept in the store itself, that moves
//! together with what was written, or after it if that may be written twice.
//!
//! A process follows the gateways that it holds, with their fencing numbers. What follows is always read from PostgreSQL,
//! so a store can be lost, and begins anew: with all devices, and OpenSearch also with all events.

mod board;
mod opensearch;
mod redis;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::{Config, Postgres};
use crate::metrics::Counters;
use crate::postgres::{
    self, DeviceRow, FollowError, Link, Log, Snapshot, Step, adopt, chain, generation, led, step,
};

pub(crate) use board::{Board, Standing, State};

/// Names of the stores, as the table `stores` has them.
pub const STORES: [&str; 2] = [redis::NAME, opensearch::NAME];

/// Between two looks at what this process has stored.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// After which the tables are read in any case: another process may have left gateways, or somebody wants to begin anew.
const ROUND_EVERY: Duration = Duration::from_secs(2);
/// After which the cursors are read again: a store that has nothing to do may be away, or have lost something.
const READ_EVERY: Duration = Duration::from_secs(10);
/// Steps of one log before others have their turn.
const STEPS_MAX: usize = 16;
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// How far a store has followed a log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cursor {
    generation: i64,
    epoch: String,
    log: i32,
    arrival: i64,
    /// Whether the devices of the beginning are there.
    is_complete: bool,
    /// How the store tells one version of the cursor from another.
    mark: String,
}

/// Why a store was not written.
#[derive(Debug)]
enum Fault {
    /// It is not at the cursor that this process has in mind: another one may have written, or the store has lost something.
    Moved,
    /// Another process has written with a newer fencing number.
    Fenced(i64),
    /// It does not answer, or refuses.
    Failed(String),
}

/// A store that follows. All of it is idempotent, or changes nothing unless the cursor is still `from`.
trait Store: Send + 'static {
    const NAME: &'static str;
    /// Whether it has all logs with all events, or only what is current.
    const HAS_EVENTS: bool;

    /// Reads the cursor of a log, or of its gateway.
    fn cursor(&mut self, log: &Log) -> impl Future<Output = Result<Option<Cursor>, Fault>> + Send;

    /// Begins anew with a cursor that is not complete.
    fn begin(
        &mut self,
        log: &Log,
        from: Option<&Cursor>,
        to: Cursor,
    ) -> impl Future<Output = Result<Cursor, Fault>> + Send;

    /// Writes devices of the beginning, as of this arrival.
    fn page(
        &mut self,
        log: &Log,
        at: &Cursor,
        devices: &[DeviceRow],
        as_of: i64,
    ) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Ends the beginning.
    fn complete(
        &mut self,
        log: &Log,
        from: &Cursor,
        to: Cursor,
    ) -> impl Future<Output = Result<Cursor, Fault>> + Send;

    /// Writes what has arrived since, and moves the cursor.
    fn put(
        &mut self,
        log: &Log,
        from: &Cursor,
        to: Cursor,
        step: &Step,
    ) -> impl Future<Output = Result<Cursor, Fault>> + Send;

    /// Documents that it would not take as they are.
    fn reduced(&self) -> u64;
}

/// What a follower needs besides its store.
#[derive(Clone)]
struct Parts {
    postgres: Postgres,
    lease: Duration,
    hub: watch::Receiver<Option<Arc<str>>>,
    counters: Arc<Counters>,
    board: Arc<Board>,
}

/// Starts the followers that are configured; they end with the returned set.
pub(crate) fn start(
    config: &Config,
    hub: &watch::Receiver<Option<Arc<str>>>,
    counters: &Arc<Counters>,
    board: &Arc<Board>,
) -> tokio::task::JoinSet<()> {
    let parts = Parts {
        postgres: config.postgres.clone(),
        lease: config.lease,
        hub: hub.clone(),
        counters: counters.clone(),
        board: board.clone(),
    };
    let mut tasks = tokio::task::JoinSet::new();
    if let Some(redis) = &config.redis {
        tasks.spawn(Follower::new(redis::Redis::new(redis.clone()), parts.clone()).run());
    }
    if let Some(opensearch) = &config.opensearch {
        tasks.spawn(Follower::new(opensearch::OpenSearch::new(opensearch.clone()), parts).run());
    }
    tasks
}

/// Makes a store begin anew, by the processes that follow it; they notice within seconds.
///
/// # Errors
/// Why it is not begun.
pub async fn rebuild(config: &Config, store: &str) -> Result<(), String> {
    let is_there = if store == redis::NAME { config.redis.is_some() } else { config.opensearch.is_some() };
    if !is_there {
        return Err(format!("the configuration has no [{store}]; name that of a hub which has"));
    }
    let link = Link::open(&config.postgres, config.lease).await.map_err(|error| error.to_string())?;
    postgres::begin_anew(&link.client, store).await.map_err(|error| {
        format!("PostgreSQL: {}; has `fieldlog-hub run` made the tables with this version?", chain(&error))
    })
}

/// Follows with one store.
struct Follower<S> {
    store: S,
    parts: Parts,
    link: Option<Link>,
    /// By number of the log. Only what the store has answered last; it says itself if that is no longer so.
    cursors: HashMap<i32, Cursor>,
    /// When that was forgotten.
    forgotten: Instant,
    attempts: u64,
}

impl<S: Store> Follower<S> {
    fn new(store: S, parts: Parts) -> Follower<S> {
        Follower { store, parts, link: None, cursors: HashMap::new(), forgotten: Instant::now(), attempts: 0 }
    }

    /// Follows until the task is ended.
    async fn run(mut self) {
        let mut back_off = BACK_OFF.0;
        let mut failing = false;
        // The tables are there when the first lease is.
        if self.parts.hub.wait_for(Option::is_some).await.is_err() {
            return;
        }
        loop {
            let stored = self.parts.counters.events.load(Ordering::Relaxed);
            let outcome = self.round().await;
            let reduced = self.store.reduced();
            match outcome {
                Ok(standing) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!("{}: follows again", S::NAME);
                    }
                    let is_live = standing.lag_events == 0;
                    self.parts.board.set(S::NAME, Standing { reduced, ..standing });
                    back_off = BACK_OFF.0;
                    if is_live {
                        self.idle(stored).await;
                    }
                }
                Err(why) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!("{}: {why}; trying again until it works", S::NAME);
                    }
                    self.cursors.clear();
                    self.parts.board.fail(S::NAME, &why, reduced);
                    tokio::time::sleep(back_off).await;
                    back_off = (back_off * 2).min(BACK_OFF.1);
                }
            }
        }
    }

    /// Waits until this process has stored something, but not for long.
    async fn idle(&self, stored: u64) {
        let begin = Instant::now();
        while begin.elapsed() < ROUND_EVERY && self.parts.counters.events.load(Ordering::Relaxed) == stored {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Follows each log for some steps. A log whose writing is fenced does not hold up the others.
    async fn round(&mut self) -> Result<Standing, String> {
        let hub = self.parts.hub.borrow().clone();
        let hub = hub.ok_or("this process has no lease in PostgreSQL")?;
        let text = |error: tokio_postgres::Error| format!("PostgreSQL: {}", chain(&error));
        let client = &self.connect().await?.client;
        adopt(client, &hub).await.map_err(text)?;
        let generation = generation(client, S::NAME).await.map_err(text)?;
        let mut logs = led(client, &hub).await.map_err(text)?;
        logs.retain(|log| S::HAS_EVENTS || log.is_newest);
        if self.forgotten.elapsed() > READ_EVERY {
            self.forgotten = Instant::now();
            self.cursors.clear();
        }
        self.cursors.retain(|number, _| logs.iter().any(|log| log.log == *number));
        let (mut standing, mut fenced) = (Standing { gateways: logs.len(), ..Standing::default() }, None);
        for log in &logs {
            match self.follow(log, generation).await {
                Ok(()) => {}
                Err(Fault::Failed(why)) => return Err(why),
                Err(fault) => {
                    self.cursors.remove(&log.log);
                    if let Fault::Fenced(number) = fault {
                        fenced = Some((log, number));
                    }
                }
            }
            let arrival = self.cursors.get(&log.log).map_or(0, |cursor| cursor.arrival);
            standing.lag_events += (log.events - arrival).max(0);
            standing.events += log.events;
        }
        if let Some((Log { gateway, fence, .. }, number)) = fenced {
            let client = &self.connect().await?.client;
            // Whoever has a newer number has it from PostgreSQL, unless that was restored from a backup.
            if led(client, &hub)
                .await
                .map_err(text)?
                .iter()
                .any(|log| log.gateway == *gateway && log.fence == *fence)
            {
                return Err(format!(
                    "gateway {gateway}: it was written with the fencing number {number}, and PostgreSQL says {fence}; if \
                     PostgreSQL was restored from a backup, delete what the store has of this gateway, and it begins anew"
                ));
            }
        }
        standing.generation = generation;
        Ok(standing)
    }

    async fn connect(&mut self) -> Result<&mut Link, String> {
        if self.link.as_ref().is_none_or(|link| link.client.is_closed()) {
            let link = Link::open(&self.parts.postgres, self.parts.lease).await;
            self.link = Some(link.map_err(|error| error.to_string())?);
        }
        self.link.as_mut().ok_or_else(|| "there is no connection to PostgreSQL".into())
    }

    async fn follow(&mut self, log: &Log, generation: i64) -> Result<(), Fault> {
        let known = match self.cursors.get(&log.log) {
            Some(cursor) => Some(cursor.clone()),
            None => self.store.cursor(log).await?,
        };
        let is_of = |cursor: &Cursor| {
            cursor.is_complete
                && (cursor.generation, cursor.log, &cursor.epoch) == (generation, log.log, &log.epoch)
                && cursor.arrival <= log.events
        };
        let mut cursor = match known {
            Some(cursor) if is_of(&cursor) => cursor,
            other => self.begin(log, other.as_ref(), generation).await?,
        };
        for _ in 0..STEPS_MAX {
            if cursor.arrival >= log.events {
                break;
            }
            let link = self.connect().await.map_err(Fault::Failed)?;
            let step = step(&mut link.client, log.log, cursor.arrival).await?;
            let to = Cursor { arrival: step.to, ..cursor.clone() };
            cursor = self.store.put(log, &cursor, to, &step).await?;
        }
        self.cursors.insert(log.log, cursor);
        Ok(())
    }

    /// Writes all devices as they are now, and begins to follow from there.
    async fn begin(&mut self, log: &Log, from: Option<&Cursor>, generation: i64) -> Result<Cursor, Fault> {
        self.connect().await.map_err(Fault::Failed)?;
        self.attempts += 1;
        let to = Cursor {
            generation,
            epoch: log.epoch.clone(),
            log: log.log,
            arrival: 0,
            is_complete: false,
            mark: self.attempts.to_string(),
        };
        let (store, Some(link)) = (&mut self.store, &mut self.link) else { return Err(Fault::Moved) };
        let begun = store.begin(log, from, to).await?;
        let snapshot = Snapshot::begin(&mut link.client, log.log).await?;
        let mut last = String::new();
        let mut devices = snapshot.page(&last).await?;
        // What is current are the devices of the newest log.
        while log.is_newest
            && let Some(device) = devices.last()
        {
            last.clone_from(&device.device);
            store.page(log, &begun, &devices, snapshot.as_of).await?;
            devices = snapshot.page(&last).await?;
        }
        let arrival = if S::HAS_EVENTS { 0 } else { snapshot.as_of };
        let to = Cursor { arrival, is_complete: true, ..begun.clone() };
        store.complete(log, &begun, to).await
    }
}

impl From<FollowError> for Fault {
    fn from(error: FollowError) -> Fault {
        Fault::Failed(error.to_string())
    }
}

#[cfg(test)]
mod tests;
