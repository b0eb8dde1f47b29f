//! Announces the gateway, and devices if wished, to Home Assistant: retained messages at the broker of a source, made of the
//! view. Ingest and writer do not know of it, and without `[home_assistant]` there is no task.
//!
//! Retained messages outlive the configuration that wanted them, so what is retained is noted in a file first (`kept`),
//! and taken back when it is not wanted any more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::config::{Config, HomeAssistantTopics};
use crate::message::Outbox;
use crate::net::backoff::Repeats;
use crate::read_side::ReadSide;
use choice::Choice;
use deliver::deliver;
use document::Announcer;
use kept::Kept;
use rounds::{Outgoing, Rounds, taken_back};

mod choice;
mod classes;
mod deliver;
mod device;
mod document;
mod gateway;
mod kept;
mod rounds;
#[cfg(test)]
mod tests;

/// Between two rounds: the state of a device is published once in this time, at most.
const PAUSE: Duration = Duration::from_secs(1);

/// The task that announces, if there is one.
#[derive(Debug)]
pub struct HomeAssistant {
    side: Arc<ReadSide>,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    target: Option<Target>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// What is announced, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    source: String,
    announcer: Announcer,
    choice: Choice,
}

impl Target {
    fn of(config: &Config) -> Option<Target> {
        let home = config.home_assistant.as_ref()?;
        let source = config.sources.iter().find(|source| source.name == home.source)?;
        let announcer = Announcer {
            gateway: config.gateway_id.clone(),
            topics: HomeAssistantTopics::new(&config.gateway_id, &home.prefix),
            will: source.will.clone(),
        };
        Some(Target { source: home.source.clone(), announcer, choice: Choice::new(config, home) })
    }
}

impl HomeAssistant {
    /// Nothing is announced yet.
    pub fn new(side: Arc<ReadSide>) -> HomeAssistant {
        HomeAssistant { side, running: Mutex::default() }
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces what a configuration says from now on, and takes back what it does not.
    pub async fn configure(&self, config: &Config) {
        let target = Target::of(config);
        if self.running().as_ref().is_some_and(|running| running.target == target) {
            return;
        }
        self.stop().await;
        if target.is_none() && !Kept::is_in(&config.data_dir) {
            return;
        }
        let (stop, stopping) = watch::channel(false);
        let task = tokio::spawn(run(self.side.clone(), target.clone(), stopping));
        *self.running() = Some(Running { target, stop, task });
    }

    /// Stops announcing. What is retained stays: the will says that the gateway is gone.
    pub async fn stop(&self) {
        let Some(running) = self.running().take() else { return };
        running.stop.send_replace(true);
        if let Err(error) = running.task.await {
            tracing::error!("the task that announces to Home Assistant failed: {error}");
        }
    }
}

/// What goes to a thread that may wait for the disk, and comes back.
struct Book {
    kept: Kept,
    rounds: Option<Rounds>,
    /// The connection to whose broker all of it was told.
    connection: Option<u64>,
}

/// The next messages for the broker of one source.
struct Batch {
    source: String,
    outbox: Arc<Outbox>,
    messages: Vec<Outgoing>,
}

/// What is on a thread is waited for, so that there are never two who write the file.
async fn run(side: Arc<ReadSide>, target: Option<Target>, mut stopping: watch::Receiver<bool>) {
    let dir = side.config.borrow().data_dir.clone();
    let source = target.as_ref().map(|target| target.source.clone());
    let load = move || Book {
        kept: Kept::load(&dir),
        rounds: target.map(|target| Rounds::new(target.announcer, target.choice, &target.source)),
        connection: None,
    };
    let Ok(mut book) = spawn_blocking(load).await else { return };
    let mut repeats = Repeats::default();
    loop {
        let (side_of_thread, source_of_thread) = (side.clone(), source.clone());
        let work = move || {
            let batches = book.next(&side_of_thread, source_of_thread.as_deref());
            (book, batches)
        };
        // An error means that the runtime is shutting down.
        let Ok((back, batches)) = spawn_blocking(work).await else { return };
        book = back;
        if source.is_none() && book.kept.is_empty() {
            return;
        }
        let publish = async {
            for batch in &batches {
                book.publish(batch, &side, &mut repeats).await;
            }
            if !book.rounds.as_ref().is_some_and(Rounds::has_more) {
                side.clock.sleep(PAUSE).await;
            }
        };
        tokio::select! {
            () = publish => {}
            _ = stopping.wait_for(|stop| *stop) => return,
        }
    }
}

impl Book {
    /// Hands a batch to its source, and notes what became of it.
    async fn publish(&mut self, batch: &Batch, side: &ReadSide, repeats: &mut Repeats) {
        let delivered = deliver(&batch.outbox, &side.clock, &batch.messages).await;
        for (message, _) in batch.messages.iter().zip(delivered.taken).filter(|(_, taken)| *taken) {
            if message.payload.is_empty() {
                self.kept.remove(&batch.source, &message.topic);
            }
        }
        let Some(why) = delivered.failed else { return };
        self.connection = self.connection.filter(|_| delivered.is_lasting);
        if repeats.is_news(&why) {
            tracing::warn!(source = %batch.source, "something for Home Assistant is not published: {why}");
        }
    }

    /// What is to be published next. Blocking.
    fn next(&mut self, side: &ReadSide, source: Option<&str>) -> Vec<Batch> {
        let mut batches = Vec::new();
        let views = side.sources.views();
        let outbox = |source: &str| {
            views.iter().find(|view| view.name == source).map(|view| view.outcomes.outbox.clone())
        };
        let elsewhere: Vec<String> =
            self.kept.sources().filter(|name| Some(name.as_str()) != source).cloned().collect();
        for name in elsewhere {
            match outbox(&name) {
                None => self.kept.forget(&name),
                Some(outbox) if outbox.connection().is_some() => {
                    let messages = taken_back(&self.kept, &name, |_| true);
                    batches.push(Batch { source: name, outbox, messages });
                }
                Some(_) => {}
            }
        }
        if let (Some(rounds), Some(source)) = (&mut self.rounds, source)
            && let Some(outbox) = outbox(source)
            && let Some((connection, _)) = outbox.connection()
        {
            if self.connection.replace(connection) != Some(connection) {
                rounds.begin_anew();
            }
            let messages = rounds.next(side, &mut self.kept, side.clock.now());
            batches.push(Batch { source: source.to_owned(), outbox, messages });
        }
        self.kept.save();
        batches
    }
}
