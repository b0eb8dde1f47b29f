//! Redis and OpenSearch follow the tables: each store has a cursor for each log, kept in the store itself, that moves
//! together with what was written, or after it if that may be written twice.
//!
//! A process follows the gateways that it holds, with their fencing numbers. What follows is always read from PostgreSQL,
//! so a store can be lost, and begins anew: with all devices, and OpenSearch also with all events.

mod board;
mod lane;
mod opensearch;
mod redis;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::{Config, Postgres};
use crate::metrics::Counters;
use crate::postgres::{self, DeviceRow, FollowError, Link, Log, Step, adopt, chain, generation, led};

pub(crate) use board::{Board, Standing, State};
use lane::Lane;

/// Names of the stores, as the table `stores` has them.
pub const STORES: [&str; 2] = [redis::NAME, opensearch::NAME];

/// Between two looks at what this process has stored.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// After which the tables are read in any case: another process may have left gateways, or somebody wants to begin anew.
const ROUND_EVERY: Duration = Duration::from_secs(2);
/// After which a cursor is read again: a store that has nothing to do may be away, or have lost something.
const READ_EVERY: Duration = Duration::from_secs(10);
/// A round takes hardly longer, so that others see how far it is. What is left has its turn in the next one.
const ROUND_MAX: Duration = Duration::from_secs(1);
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
    /// Logs that are followed at once, each over connections of its own.
    const LANES: usize;

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
        tasks.spawn(Follower::new(|| redis::Redis::new(redis.clone()), parts.clone()).run());
    }
    if let Some(opensearch) = &config.opensearch {
        tasks.spawn(Follower::new(|| opensearch::OpenSearch::new(opensearch.clone()), parts).run());
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
    /// A log has always the same one, by its number.
    lanes: Vec<Lane<S>>,
    parts: Parts,
    link: Option<Link>,
}

impl<S: Store> Follower<S> {
    fn new(store: impl Fn() -> S, parts: Parts) -> Follower<S> {
        let lanes = (0..S::LANES).map(|_| Lane::new(store(), &parts)).collect();
        Follower { lanes, parts, link: None }
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
            let reduced = self.lanes.iter().map(Lane::reduced).sum();
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
                    self.lanes.iter_mut().for_each(Lane::clear);
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

    /// Follows the logs for a while. A log whose writing is fenced does not hold up the others.
    async fn round(&mut self) -> Result<Standing, String> {
        let hub = self.parts.hub.borrow().clone();
        let hub = hub.ok_or("this process has no lease in PostgreSQL")?;
        let text = |error: tokio_postgres::Error| format!("PostgreSQL: {}", chain(&error));
        let client = &connect(&mut self.link, &self.parts).await?.client;
        adopt(client, &hub).await.map_err(text)?;
        let generation = generation(client, S::NAME).await.map_err(text)?;
        let mut logs = led(client, &hub).await.map_err(text)?;
        logs.retain(|log| S::HAS_EVENTS || log.is_newest);
        let until = Instant::now() + ROUND_MAX;
        let count = self.lanes.len() as i32;
        let lanes = self.lanes.iter_mut().zip(0..).map(|(lane, number)| {
            let logs = logs.iter().filter(|log| log.log % count == number).cloned().collect();
            lane.pass(logs, generation, until)
        });
        let mut standing = Standing { gateways: logs.len(), generation, ..Standing::default() };
        let mut fenced = None;
        for pass in futures_util::future::join_all(lanes).await {
            let pass = pass?;
            standing.lag_events += pass.lag_events;
            standing.events += pass.events;
            fenced = fenced.or(pass.fenced);
        }
        if let Some((Log { gateway, fence, .. }, number)) = fenced {
            let client = &connect(&mut self.link, &self.parts).await?.client;
            // Whoever has a newer number has it from PostgreSQL, unless that was restored from a backup.
            let led = led(client, &hub).await.map_err(text)?;
            if led.iter().any(|log| log.gateway == gateway && log.fence == fence) {
                return Err(format!(
                    "gateway {gateway}: it was written with the fencing number {number}, and PostgreSQL says {fence}; if \
                     PostgreSQL was restored from a backup, delete what the store has of this gateway, and it begins anew"
                ));
            }
        }
        Ok(standing)
    }
}

/// The connection to PostgreSQL, opened if there is none.
async fn connect<'a>(link: &'a mut Option<Link>, parts: &Parts) -> Result<&'a mut Link, String> {
    let open = match link.take().filter(|link| !link.client.is_closed()) {
        Some(open) => open,
        None => Link::open(&parts.postgres, parts.lease).await.map_err(|error| error.to_string())?,
    };
    Ok(link.insert(open))
}

impl From<FollowError> for Fault {
    fn from(error: FollowError) -> Fault {
        Fault::Failed(error.to_string())
    }
}

#[cfg(test)]
mod tests;
