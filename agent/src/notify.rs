//! Tells of alerts, by MQTT and to webhooks. The log is the queue: a task for each `[[notify]]` reads the events from there
//! and passes them on one after the other, so that nothing here holds up the writer or needs memory.
//!
//! After a start each is told of the alerts that are open, and goes on with what comes. By MQTT what happened in the last
//! day comes again, too: an alert that ended just before the agent did must not stay at the broker as raised.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::clock::Clock;
use crate::config::{Config, NotifyConfig, NotifyTarget};
use crate::net::backoff::{Backoff, Repeats, random};
use crate::shared::Shared;
use crate::sources::Sources;
use news::{News, Notice};
use way::{Told, Way};

mod news;
mod way;

/// Longest wait between attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// All who are told.
#[derive(Debug)]
pub struct Notifiers {
    entries: Mutex<BTreeMap<String, Entry>>,
    parts: Parts,
}

/// What a task needs.
#[derive(Clone, Debug)]
struct Parts {
    shared: Arc<Shared>,
    sources: Arc<Sources>,
    gateway: Arc<str>,
    clock: Clock,
}

#[derive(Debug)]
struct Entry {
    config: NotifyConfig,
    status: Arc<NotifyStatus>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// The public view of one who is told.
#[derive(Clone, Debug)]
pub struct NotifyView {
    /// Its name.
    pub name: String,
    /// Where it is told.
    pub target: String,
    /// Its counters.
    pub status: Arc<NotifyStatus>,
}

/// Counters, since the start.
#[derive(Debug, Default)]
pub struct NotifyStatus {
    /// Events that were passed on.
    pub told: AtomicU64,
    /// Attempts that failed.
    pub failures: AtomicU64,
    /// Events that the other side refuses, which are not tried again.
    pub refused: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl NotifyStatus {
    /// Why the last attempt failed; `None` if it did not.
    pub fn last_error(&self) -> Option<String> {
        self.error().clone()
    }

    fn error(&self) -> MutexGuard<'_, Option<String>> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notifiers {
    /// Nobody yet.
    pub fn new(shared: Arc<Shared>, sources: Arc<Sources>, gateway: &str, clock: Clock) -> Notifiers {
        let parts = Parts { shared, sources, gateway: gateway.into(), clock };
        Notifiers { entries: Mutex::default(), parts }
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those who are told, by name.
    pub fn views(&self) -> Vec<NotifyView> {
        let view = |(name, entry): (&String, &Entry)| NotifyView {
            name: name.clone(),
            target: entry.config.target.to_string(),
            status: entry.status.clone(),
        };
        self.entries().iter().map(view).collect()
    }

    /// Starts new ones, stops removed ones, restarts changed ones.
    pub async fn configure(&self, config: &Config) {
        let gone: Vec<Entry> = {
            let mut entries = self.entries();
            let stays = |entry: &Entry| config.notify.contains(&entry.config);
            let gone: Vec<String> =
                entries.iter().filter(|(_, entry)| !stays(entry)).map(|(name, _)| name.clone()).collect();
            gone.iter().filter_map(|name| entries.remove(name)).collect()
        };
        end(gone).await;
        for notify in &config.notify {
            let mut entries = self.entries();
            if !entries.contains_key(&notify.name) {
                entries.insert(notify.name.clone(), self.start(notify));
            }
        }
    }

    /// Stops all.
    pub async fn stop(&self) {
        let entries = std::mem::take(&mut *self.entries());
        end(entries.into_values().collect()).await;
    }

    fn start(&self, config: &NotifyConfig) -> Entry {
        let (stop, stopping) = watch::channel(false);
        let status = Arc::<NotifyStatus>::default();
        let task = tokio::spawn(run(config.clone(), self.parts.clone(), status.clone(), stopping).boxed());
        Entry { config: config.clone(), status, stop, task }
    }
}

async fn end(entries: Vec<Entry>) {
    for entry in &entries {
        entry.stop.send_replace(true);
    }
    for entry in entries {
        if let Err(error) = entry.task.await {
            tracing::error!(notify = %entry.config.name, "its task failed: {error}");
        }
    }
}

async fn run(
    config: NotifyConfig,
    parts: Parts,
    status: Arc<NotifyStatus>,
    mut stopping: watch::Receiver<bool>,
) {
    let work = async {
        let mut changes = parts.shared.alerts.subscribe();
        let again = matches!(config.target, NotifyTarget::Mqtt { .. });
        let mut news = News::new(parts.shared.clone(), &parts.gateway);
        let mut teller = Teller {
            way: Way::new(&config.target, &parts.sources, &parts.clock),
            name: &config.name,
            clock: &parts.clock,
            status: &status,
            backoff: Backoff::new(BACKOFF_MAX),
            repeats: Repeats::default(),
        };
        let wall = parts.clock.wall();
        let mut notices = blocking(&mut news, move |news| news.begin(again, wall)).await;
        loop {
            for notice in &notices {
                teller.tell(notice).await;
            }
            notices = blocking(&mut news, News::next).await;
            if notices.is_empty() && changes.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = work => {}
        _ = stopping.wait_for(|stop| *stop) => {}
    }
}

/// Reads the log on a thread that may wait for the disk.
async fn blocking(
    news: &mut News,
    read: impl FnOnce(&mut News) -> Vec<Notice> + Send + 'static,
) -> Vec<Notice> {
    let mut taken = news.take();
    let done = spawn_blocking(move || {
        let notices = read(&mut taken);
        (taken, notices)
    });
    match done.await {
        Ok((back, notices)) => {
            *news = back;
            notices
        }
        // The runtime is shutting down.
        Err(_) => std::future::pending().await,
    }
}

/// Passes notices on, as often as it takes.
struct Teller<'a> {
    way: Way,
    name: &'a str,
    clock: &'a Clock,
    status: &'a NotifyStatus,
    backoff: Backoff,
    repeats: Repeats,
}

impl Teller<'_> {
    async fn tell(&mut self, notice: &Notice) {
        loop {
            let (why, pace, after) = match self.way.tell(notice).await {
                Told::Taken => {
                    self.status.told.fetch_add(1, Ordering::Relaxed);
                    *self.status.error() = None;
                    (self.backoff, self.repeats) = (Backoff::new(BACKOFF_MAX), Repeats::default());
                    return;
                }
                // Its source says so itself.
                Told::Away => {
                    self.clock.sleep(Duration::from_secs(1)).await;
                    continue;
                }
                Told::Refused(why) => {
                    self.status.refused.fetch_add(1, Ordering::Relaxed);
                    self.failed(&format!("{why}; it is not tried again"));
                    return;
                }
                Told::Failed { why, pace, after } => (why, pace, after),
            };
            self.failed(&why);
            let wait = self.backoff.next(pace, Duration::ZERO, random());
            self.clock.sleep(after.unwrap_or_default().min(BACKOFF_MAX).max(wait)).await;
        }
    }

    fn failed(&mut self, why: &str) {
        self.status.failures.fetch_add(1, Ordering::Relaxed);
        if self.repeats.is_news(why) {
            tracing::warn!(notify = %self.name, "an alert could not be told of: {why}");
        }
        *self.status.error() = Some(why.to_owned());
    }
}
