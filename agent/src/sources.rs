//! The sources of a running agent: their numbers, their counters, and the tasks that keep them connected.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::{Config, SourceConfig};
use crate::ingest::{self, InboxGone, SourceStatus};
use crate::message::SourceId;
use crate::observe::Outcomes;
use crate::writer::Input;

/// All sources that this process has had, by number. A source keeps its number when the configuration changes; one that
/// was removed stays, without rules.
#[derive(Debug)]
pub struct Sources {
    entries: Mutex<Vec<Entry>>,
}

#[derive(Debug)]
struct Entry {
    view: SourceView,
    task: Option<Task>,
}

#[derive(Debug)]
struct Task {
    stop: watch::Sender<bool>,
    handle: JoinHandle<Result<(), InboxGone>>,
}

/// What the read side sees of a source.
#[derive(Clone, Debug)]
pub struct SourceView {
    /// Its name.
    pub name: String,
    /// `mqtt://host:port`.
    pub address: String,
    /// Still in the configuration.
    pub configured: bool,
    /// What became of its messages.
    pub outcomes: Arc<Outcomes>,
    /// What its connection does.
    pub status: Arc<SourceStatus>,
}

impl SourceView {
    fn new(config: &SourceConfig) -> SourceView {
        SourceView {
            name: config.name.clone(),
            address: address(config),
            configured: true,
            outcomes: Arc::default(),
            status: Arc::default(),
        }
    }
}

fn address(config: &SourceConfig) -> String {
    let scheme = if config.address.tls { "mqtts" } else { "mqtt" };
    format!("{scheme}://{}:{}", config.address.host, config.address.port)
}

impl Sources {
    /// The sources of a configuration, none connected yet.
    pub fn new(config: &Config) -> Sources {
        let entries = config.sources.iter().map(|s| Entry { view: SourceView::new(s), task: None });
        Sources { entries: Mutex::new(entries.collect()) }
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
        for source in &config.sources {
            self.start_one(source, inputs);
        }
    }

    fn start_one(&self, config: &SourceConfig, inputs: &Sender<Input>) {
        let mut entries = self.entries();
        let Some(number) = entries.iter().position(|e| e.view.name == config.name) else { return };
        let (stop, stopping) = watch::channel(false);
        let inputs = inputs.clone();
        // The channel has no bound of its own: ingest delivers at most `outstanding_max` messages of a source before it
        // stops reading from the broker.
        let deliver = move |delivery| inputs.send(Input::Delivery(delivery)).map_err(|_| InboxGone);
        let status = entries[number].view.status.clone();
        let run = ingest::run(SourceId(number as u16), config.clone(), deliver, status, stopping);
        entries[number].task = Some(Task { stop, handle: tokio::spawn(run) });
    }

    /// Takes over a new configuration and returns it with its sources in the order of their numbers; those that were
    /// removed stand in it without rules.
    pub fn configure(&self, new: &Config) -> Config {
        let mut entries = self.entries();
        let mut by_name: BTreeMap<&str, &SourceConfig> =
            new.sources.iter().map(|s| (s.name.as_str(), s)).collect();
        let mut ordered = Vec::new();
        for entry in entries.iter_mut() {
            match by_name.remove(entry.view.name.as_str()) {
                Some(source) => {
                    (entry.view.configured, entry.view.address) = (true, address(source));
                    ordered.push(source.clone());
                }
                None => {
                    entry.view.configured = false;
                    ordered.push(SourceConfig::removed(&entry.view.name));
                }
            }
        }
        for source in new.sources.iter().filter(|s| by_name.contains_key(s.name.as_str())) {
            entries.push(Entry { view: SourceView::new(source), task: None });
            ordered.push(source.clone());
        }
        Config { sources: ordered, ..new.clone() }
    }

    /// Reconnects the sources whose configuration differs, connects new ones, disconnects those that are gone.
    pub fn restart_changed(self: &Arc<Self>, old: &Config, new: &Config, inputs: &Sender<Input>) {
        let find = |config: &Config, name: &str| config.sources.iter().find(|s| s.name == name).cloned();
        let names: Vec<String> = self.entries().iter().map(|e| e.view.name.clone()).collect();
        for name in names {
            let (before, after) = (find(old, &name), find(new, &name));
            if before == after {
                continue;
            }
            let task = self.entries().iter_mut().find(|e| e.view.name == name).and_then(|e| e.task.take());
            let (sources, inputs) = (self.clone(), inputs.clone());
            // The old connection says good-bye first: two with one client id would throw each other out.
            tokio::spawn(async move {
                if let Some(task) = task {
                    task.end().await;
                }
                if let Some(config) = after {
                    sources.start_one(&config, &inputs);
                }
            });
        }
    }

    /// Disconnects all sources cleanly.
    pub async fn stop(&self) {
        let tasks: Vec<Task> = self.entries().iter_mut().filter_map(|e| e.task.take()).collect();
        for task in &tasks {
            task.stop.send_replace(true);
        }
        for task in tasks {
            task.end().await;
        }
    }

    /// Ends what is left at once.
    pub fn abort(&self) {
        for task in self.entries().iter_mut().filter_map(|e| e.task.take()) {
            task.handle.abort();
        }
    }
}

impl Task {
    async fn end(self) {
        self.stop.send_replace(true);
        // Its error says that the writer is gone, which is being dealt with.
        let _ = self.handle.await;
    }
}
