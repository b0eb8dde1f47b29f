//! The sources of a running agent: their numbers, counters, and connection tasks.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::config::{Config, SourceConfig};
use crate::ingest::{self, InboxGone, SourceStatus};
use crate::message::{Outbox, SourceId};
use crate::observe::Outcomes;
use crate::sorted;
use crate::writer::Input;

/// All sources that this process has had, by number. A source keeps its number when the configuration changes; a
/// removed one stays, without rules.
#[derive(Debug)]
pub struct Sources {
    entries: Mutex<Vec<Entry>>,
    clock: Clock,
}

#[derive(Debug)]
struct Entry {
    view: SourceView,
    task: Option<Task>,
    /// Number of the newest configuration change; anything that an older one would start is outdated.
    change: u64,
    /// Held while a connection is replaced, so that there are never two with one client id.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Entry {
    fn new(config: &SourceConfig) -> Entry {
        Entry { view: SourceView::new(config), task: None, change: 0, turn: Arc::default() }
    }
}

#[derive(Debug)]
struct Task {
    stop: watch::Sender<bool>,
    handle: JoinHandle<Result<(), InboxGone>>,
}

/// The public view of a source.
#[derive(Clone, Debug)]
pub struct SourceView {
    /// Its name.
    pub name: String,
    /// `mqtt://host:port`.
    pub address: String,
    /// Whether it is still in the configuration.
    pub configured: bool,
    /// Its host id, if it is a Sparkplug host application.
    pub host_id: Option<String>,
    /// The outcomes of its messages.
    pub outcomes: Arc<Outcomes>,
    /// The status of its connection.
    pub status: Arc<SourceStatus>,
}

impl SourceView {
    fn new(config: &SourceConfig) -> SourceView {
        let outbox = Arc::<Outbox>::default();
        SourceView {
            name: config.name.clone(),
            address: address(config),
            configured: true,
            host_id: host_id(config),
            outcomes: Arc::new(Outcomes { outbox: outbox.clone(), ..Outcomes::default() }),
            status: Arc::new(SourceStatus::with_outbox(outbox)),
        }
    }
}

fn host_id(config: &SourceConfig) -> Option<String> {
    config.sparkplug.as_ref().map(|host| host.host_id.clone())
}

fn address(config: &SourceConfig) -> String {
    let scheme = if config.address.tls { "mqtts" } else { "mqtt" };
    format!("{scheme}://{}:{}", config.address.host, config.address.port)
}

impl Sources {
    /// The sources of a configuration, not connected yet.
    pub fn new(config: &Config, clock: Clock) -> Sources {
        let entries = config.sources.iter().map(Entry::new);
        Sources { entries: Mutex::new(entries.collect()), clock }
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The configured sources.
    pub fn views(&self) -> Vec<SourceView> {
        self.entries().iter().map(|e| e.view.clone()).filter(|v| v.configured).collect()
    }

    /// The counters of every source by number.
    pub fn outcomes(&self) -> Vec<Arc<Outcomes>> {
        self.entries().iter().map(|e| e.view.outcomes.clone()).collect()
    }

    /// Connects all sources.
    pub fn start(&self, config: &Config, inputs: &Sender<Input>) {
        let mut entries = self.entries();
        for source in &config.sources {
            self.start_one(&mut entries, source, inputs);
        }
    }

    fn start_one(&self, entries: &mut [Entry], config: &SourceConfig, inputs: &Sender<Input>) {
        let Some(number) = entries.iter().position(|e| e.view.name == config.name) else { return };
        let (stop, stopping) = watch::channel(false);
        let (inputs, reports) = (inputs.clone(), inputs.clone());
        // The channel has no bound of its own: ingest delivers at most `outstanding_max` messages of a source before it
        // stops reading from the broker.
        let deliver = move |delivery| inputs.send(Input::Delivery(delivery)).map_err(|_| InboxGone);
        let status = entries[number].view.status.clone();
        status.outbox.on_published(move |published| {
            let _ = reports.send(Input::Published(published));
        });
        let run = ingest::run(
            SourceId(number as u16),
            config.clone(),
            deliver,
            self.clock.clone(),
            status,
            stopping,
        );
        entries[number].task = Some(Task { stop, handle: tokio::spawn(run.boxed()) });
    }

    /// Applies a new configuration and returns it with its sources in the order of their numbers; removed ones are
    /// included without rules.
    pub fn configure(&self, new: &Config) -> Config {
        let mut entries = self.entries();
        let mut by_name = sorted::map(new.sources.iter().map(|s| (s.name.as_str(), s)));
        let mut ordered = Vec::new();
        for entry in entries.iter_mut() {
            match by_name.remove(entry.view.name.as_str()) {
                Some(source) => {
                    (entry.view.configured, entry.view.address) = (true, address(source));
                    entry.view.host_id = host_id(source);
                    ordered.push(source.clone());
                }
                None => {
                    entry.view.configured = false;
                    ordered.push(SourceConfig::removed(&entry.view.name));
                }
            }
        }
        for source in new.sources.iter().filter(|s| by_name.contains_key(s.name.as_str())) {
            entries.push(Entry::new(source));
            ordered.push(source.clone());
        }
        Config { sources: ordered, ..new.clone() }
    }

    /// Reconnects sources with a changed configuration, connects new ones, disconnects removed ones.
    pub fn restart_changed(self: &Arc<Self>, old: &Config, new: &Config, inputs: &Sender<Input>) {
        let find = |config: &Config, name: &str| config.sources.iter().find(|s| s.name == name).cloned();
        let mut entries = self.entries();
        for (number, entry) in entries.iter_mut().enumerate() {
            let (before, after) = (find(old, &entry.view.name), find(new, &entry.view.name));
            if same_subscriptions(before.as_ref(), after.as_ref()) {
                continue;
            }
            entry.change += 1;
            let exchange = Exchange { number, change: entry.change, after, turn: entry.turn.clone() };
            tokio::spawn(exchange.run(self.clone(), inputs.clone()));
        }
    }

    /// Disconnects all sources cleanly, and prevents new connections.
    pub async fn stop(&self) {
        let mut turns = Vec::new();
        for entry in self.entries().iter_mut() {
            entry.change += 1;
            entry.task.as_ref().inspect(|task| {
                task.stop.send_replace(true);
            });
            turns.push(entry.turn.clone());
        }
        for (number, turn) in turns.into_iter().enumerate() {
            let _turn = turn.lock().await;
            self.end_one(number).await;
        }
    }

    async fn end_one(&self, number: usize) {
        let task = self.entries().get_mut(number).and_then(|e| e.task.take());
        if let Some(task) = task {
            task.end().await;
        }
    }

    /// Aborts the remaining tasks.
    pub fn abort(&self) {
        for task in self.entries().iter_mut().filter_map(|e| e.task.take()) {
            task.handle.abort();
        }
    }
}

/// The replacement of a connection.
struct Exchange {
    number: usize,
    change: u64,
    after: Option<SourceConfig>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Exchange {
    /// The old connection disconnects first: two with one client id would disconnect each other.
    async fn run(self, sources: Arc<Sources>, inputs: Sender<Input>) {
        let _turn = self.turn.lock().await;
        sources.end_one(self.number).await;
        let mut entries = sources.entries();
        if entries.get(self.number).is_some_and(|entry| entry.change == self.change)
            && let Some(config) = &self.after
        {
            sources.start_one(&mut entries, config, &inputs);
        }
    }
}

/// Whether the connection can be kept: only settings behind it differ.
fn same_subscriptions(before: Option<&SourceConfig>, after: Option<&SourceConfig>) -> bool {
    match (before, after) {
        (Some(before), Some(after)) => {
            before.same_connection(after)
                && before.rules == after.rules
                && before.replies() == after.replies()
        }
        (before, after) => before.is_none() && after.is_none(),
    }
}

impl Task {
    async fn end(self) {
        self.stop.send_replace(true);
        // An error means that the writer has stopped, which is handled elsewhere.
        let _ = self.handle.await;
    }
}
