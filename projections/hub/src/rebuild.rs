//! `fieldlog-hub rebuild --store postgres`: makes the read models anew from the events, in a second schema beside the one in
//! use, which goes on to be written and read. The two change places when little is left to do.

use std::fmt;
use std::time::{Duration, Instant};

use crate::config::{Config, Postgres};
use crate::postgres::{self, Link, LogToFill, Names, Partitions, RebuildError, RowStatements};

/// With so many events left, nobody is held up for long.
const LAG_MAX: i64 = 5_000;
/// Between two words about how far it is.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// How far a rebuild is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    /// Events that the next schema has.
    done: i64,
    /// Events that the one in use has.
    all: i64,
}

/// What has come of a rebuild.
#[derive(Clone, Debug)]
pub struct Rebuilt {
    /// Events that the new tables have.
    pub events: i64,
    /// The schema that has the old tables.
    pub before: String,
    /// Views outside that go on to show the old tables.
    pub views: Vec<String>,
}

impl fmt::Display for Rebuilt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rebuilt { events, before, views } = self;
        write!(
            f,
            "the new tables are in use, made from {events} events. The old ones are in the schema `{before}`; remove them with \
             `DROP SCHEMA {before} CASCADE` when nothing needs them any more"
        )?;
        if !views.is_empty() {
            write!(f, ". These views show the old tables until they are made anew: {}", views.join(", "))?;
        }
        Ok(())
    }
}

/// Rebuilds, or goes on with it.
///
/// # Errors
/// Why it did not; it can be started again, and goes on.
pub async fn rebuild(config: &Config) -> Result<Rebuilt, String> {
    work(config).await.map_err(|error| error.to_string())
}

/// Removes what a rebuild that has not ended has left; `false` if there is nothing.
///
/// # Errors
/// Why it is still there.
pub async fn abandon(config: &Config) -> Result<bool, String> {
    let names = Names::of(&config.postgres.schema);
    let mut link = open(config, &names.now).await?;
    names.abandon(&mut link.client).await.map_err(|error| error.to_string())
}

/// Why a rebuild has ended early.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Connect(String),
    #[error("{0}")]
    Rebuild(#[from] RebuildError),
}

impl From<String> for Failure {
    fn from(why: String) -> Failure {
        Failure::Connect(why)
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Failure {
        Failure::Rebuild(error.into())
    }
}

async fn open(config: &Config, schema: &str) -> Result<Link, String> {
    let postgres = Postgres { schema: schema.to_owned(), ..config.postgres.clone() };
    Link::open(&postgres, config.lease).await.map_err(|error| error.to_string())
}

async fn work(config: &Config) -> Result<Rebuilt, Failure> {
    let names = Names::of(&config.postgres.schema);
    // One reads while the other one writes.
    let (reader, mut writer) = (open(config, &names.now).await?, open(config, &names.next).await?);
    names.begin(&mut writer.client).await?;
    let views = names.views_of_others(&writer.client).await?;
    let statements = RowStatements::prepare(&writer.client).await?;
    let mut partitions = Partitions::default();
    let mut clock = Clock::new();
    loop {
        let logs = names.logs(&writer.client).await?;
        let mut progress = Progress::of(&logs);
        clock.say(progress);
        if progress.all - progress.done <= LAG_MAX {
            writer.client.batch_execute("ANALYZE devices, device_state, aggregates, events").await?;
            names.swap(&mut writer.client, &statements, &mut partitions).await?;
            return Ok(Rebuilt { events: progress.all, before: names.before, views });
        }
        for log in logs {
            let mut from = log.filled.unwrap_or(0);
            if log.filled.is_none() {
                names.seed(&mut writer.client, log.log).await?;
            }
            let mut piece = names.read(&reader.client, log.log, from).await?;
            while piece.to > from {
                let (written, next) = tokio::join!(
                    postgres::fill(&mut writer.client, &statements, &mut partitions, log.log, &piece),
                    names.read(&reader.client, log.log, piece.to),
                );
                written?;
                progress.done += piece.to - from;
                clock.say(progress);
                from = piece.to;
                piece = next?;
            }
        }
    }
}

impl Progress {
    fn of(logs: &[LogToFill]) -> Progress {
        let done = logs.iter().filter_map(|log| log.filled).sum();
        Progress { done, all: logs.iter().map(|log| log.events).sum() }
    }
}

/// Says now and then how far it is.
struct Clock {
    began: Instant,
    /// What an earlier process had done.
    at: Option<i64>,
    said: Option<Instant>,
}

impl Clock {
    fn new() -> Clock {
        Clock { began: Instant::now(), at: None, said: None }
    }

    fn say(&mut self, progress: Progress) {
        let at = *self.at.get_or_insert(progress.done);
        if self.said.is_some_and(|said| said.elapsed() < SAY_EVERY) {
            return;
        }
        self.said = Some(Instant::now());
        tracing::info!("{}", words(progress, at, self.began.elapsed()));
    }
}

/// How far it is, how fast it goes and how long it will take: `at` events were done before `elapsed` began.
fn words(progress: Progress, at: i64, elapsed: Duration) -> String {
    let Progress { done, all } = progress;
    let percent = if all == 0 { 100.0 } else { done as f64 * 100.0 / all as f64 };
    let mut words = format!("{done} of {all} events are in the new tables ({percent:.0} %)");
    let rate = (done - at) as f64 / elapsed.as_secs_f64().max(0.001);
    if rate >= 1.0 && done < all {
        words += &format!(", {rate:.0} a second, about {:.0} s left", (all - done) as f64 / rate);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_said_with_rate_and_rest() {
        let ten = Duration::from_secs(10);
        assert_eq!(
            words(Progress { done: 300_000, all: 1_000_000 }, 100_000, ten),
            "300000 of 1000000 events are in the new tables (30 %), 20000 a second, about 35 s left"
        );
        assert_eq!(words(Progress::default(), 0, ten), "0 of 0 events are in the new tables (100 %)");
        assert_eq!(
            words(Progress { done: 5, all: 10 }, 5, ten),
            "5 of 10 events are in the new tables (50 %)"
        );
    }
}
