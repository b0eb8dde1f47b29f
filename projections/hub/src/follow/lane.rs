//! Follows some of the logs, one after the other.

use std::collections::HashMap;

use tokio::time::Instant;

use super::{Cursor, Fault, Parts, READ_EVERY, Store, connect};
use crate::postgres::{Link, Log, Snapshot, step};

/// Steps of one log before others have their turn.
const STEPS_MAX: usize = 16;

/// A connection to the store, and one to PostgreSQL.
pub(super) struct Lane<S> {
    store: S,
    parts: Parts,
    link: Option<Link>,
    /// By number of the log, with the time of the store's last answer. It says itself if that is no longer so.
    cursors: HashMap<i32, (Cursor, Instant)>,
    /// The log at which the last pass has ended.
    last: i32,
    attempts: u64,
}

/// What has come of a pass.
#[derive(Default)]
pub(super) struct Pass {
    /// Events of the logs in PostgreSQL.
    pub(super) events: i64,
    /// How many of them the store lacks.
    pub(super) lag_events: i64,
    /// A log that another process has written with this fencing number.
    pub(super) fenced: Option<(Log, i64)>,
}

impl<S: Store> Lane<S> {
    pub(super) fn new(store: S, parts: &Parts) -> Lane<S> {
        Lane { store, parts: parts.clone(), link: None, cursors: HashMap::new(), last: 0, attempts: 0 }
    }

    /// Documents that the store would not take as they are.
    pub(super) fn reduced(&self) -> u64 {
        self.store.reduced()
    }

    /// Knows nothing of the store any more.
    pub(super) fn clear(&mut self) {
        self.cursors.clear();
    }

    /// Follows these logs, in order of their numbers, until all have had their turn or it is too late; at least one.
    pub(super) async fn pass(
        &mut self,
        mut logs: Vec<Log>,
        generation: i64,
        until: Instant,
    ) -> Result<Pass, String> {
        self.cursors.retain(|number, _| logs.iter().any(|log| log.log == *number));
        let first = logs.partition_point(|log| log.log <= self.last);
        logs.rotate_left(first);
        let mut pass = Pass::default();
        for log in &logs {
            match self.follow(log, generation, until).await {
                Ok(()) => {}
                Err(Fault::Failed(why)) => return Err(why),
                Err(fault) => {
                    self.cursors.remove(&log.log);
                    if let Fault::Fenced(number) = fault {
                        pass.fenced = Some((log.clone(), number));
                    }
                }
            }
            self.last = log.log;
            if Instant::now() >= until {
                break;
            }
        }
        for log in &logs {
            let known = self.cursors.get(&log.log).filter(|(cursor, _)| cursor.generation == generation);
            let arrival = known.map_or(0, |(cursor, _)| cursor.arrival);
            pass.lag_events += (log.events - arrival).max(0);
            pass.events += log.events;
        }
        Ok(pass)
    }

    async fn follow(&mut self, log: &Log, generation: i64, until: Instant) -> Result<(), Fault> {
        let (known, mut heard) = match self.cursors.get(&log.log) {
            Some((cursor, heard)) if heard.elapsed() < READ_EVERY => (Some(cursor.clone()), *heard),
            _ => (self.store.cursor(log).await?, Instant::now()),
        };
        let is_of = |cursor: &Cursor| {
            cursor.is_complete
                && (cursor.generation, cursor.log, &cursor.epoch) == (generation, log.log, &log.epoch)
                && cursor.arrival <= log.events
        };
        let mut cursor = match known {
            Some(cursor) if is_of(&cursor) => cursor,
            other => {
                heard = Instant::now();
                self.begin(log, other.as_ref(), generation).await?
            }
        };
        for _ in 0..STEPS_MAX {
            if cursor.arrival >= log.events {
                break;
            }
            let link = connect(&mut self.link, &self.parts).await.map_err(Fault::Failed)?;
            let step = step(&mut link.client, log.log, cursor.arrival).await?;
            let to = Cursor { arrival: step.to, ..cursor.clone() };
            cursor = self.store.put(log, &cursor, to, &step).await?;
            heard = Instant::now();
            if heard >= until {
                break;
            }
        }
        self.cursors.insert(log.log, (cursor, heard));
        Ok(())
    }

    /// Writes all devices as they are now, and begins to follow from there.
    async fn begin(&mut self, log: &Log, from: Option<&Cursor>, generation: i64) -> Result<Cursor, Fault> {
        self.attempts += 1;
        let to = Cursor {
            generation,
            epoch: log.epoch.clone(),
            log: log.log,
            arrival: 0,
            is_complete: false,
            mark: self.attempts.to_string(),
        };
        let link = connect(&mut self.link, &self.parts).await.map_err(Fault::Failed)?;
        let begun = self.store.begin(log, from, to).await?;
        // Each page has a transaction of its own: PostgreSQL ends one that waits for a slow store. What changes between them
        // has arrived after the first one.
        let (mut last, mut first) = (String::new(), None);
        loop {
            let snapshot = Snapshot::begin(&mut link.client, log.log).await?;
            let (devices, as_of) = (snapshot.page(&last).await?, snapshot.as_of);
            drop(snapshot);
            first.get_or_insert(as_of);
            // What is current are the devices of the newest log.
            let Some(device) = devices.last().filter(|_| log.is_newest) else { break };
            last.clone_from(&device.device);
            self.store.page(log, &begun, &devices, as_of).await?;
        }
        let arrival = if S::HAS_EVENTS { 0 } else { first.unwrap_or(0) };
        let to = Cursor { arrival, is_complete: true, ..begun.clone() };
        self.store.complete(log, &begun, to).await
    }
}
