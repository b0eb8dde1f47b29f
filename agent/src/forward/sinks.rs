//! The sinks of a running agent: their drivers and their status.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fieldlog_projections::{Epoch, Time};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::backlog::Backlog;
use super::commands::Upstream;
use super::driver::{Parts, Service, drive};
use super::filter::Filter;
use super::parcel::{Builder, Format, Span};
use super::resend::Requests;
use super::status::{SinkStatus, moment};
use super::transport::{Any, Target};
use super::{Parcel, Unreachable};
use crate::clock::Clock;
use crate::config::{Config, SinkConfig, SinkFormat, SinkTarget};
use crate::log::acked::AckedRanges;
use crate::log::{LogError, LogReader};
use crate::shared::Shared;
use crate::writer::Input;
use fieldlog_projections::pattern::Patterns;
use fieldlog_wire::Lane;

/// The sinks by name.
#[derive(Debug)]
pub struct Sinks {
    entries: Mutex<BTreeMap<String, Entry>>,
    shared: Arc<Shared>,
    writer: Sender<Input>,
    gateway: Arc<str>,
    clock: Clock,
}

#[derive(Debug)]
struct Entry {
    config: SinkConfig,
    status: Arc<SinkStatus>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Option<AckedRanges>>,
}

/// The public view of a sink.
#[derive(Clone, Debug)]
pub struct SinkView {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub address: String,
    /// Retention waits for it.
    pub required: bool,
    /// Its status.
    pub status: Arc<SinkStatus>,
}

impl SinkView {
    /// A one-line summary. Blocking: reads the log if there is a backlog.
    pub fn summary(&self, reader: &LogReader, now: Time) -> String {
        let details = self.status.details();
        let behind = match Backlog::of(&details.acked, reader) {
            Ok(Backlog { events: 0, .. }) => "nothing behind".to_owned(),
            Ok(Backlog { events, bytes, oldest }) => {
                let age = oldest.map_or(0, |oldest| now.micros_since(oldest) / 1_000_000);
                format!("{events} events, {bytes} bytes, {age} s behind")
            }
            Err(error) => error.to_string(),
        };
        let mut line =
            format!("sink {} {} ({behind}, {:.1}/s)", self.name, details.state, self.status.events_per_s());
        if let Some(warning) = &details.warning {
            let _ = write!(line, ", {warning}");
        }
        if let (None, Some(failure)) = (details.state.waiting(), details.last_error) {
            let _ = write!(line, ", last error at {}: {}", moment(failure.at), failure.why);
        }
        line
    }
}

impl Sinks {
    /// None yet.
    pub fn new(shared: Arc<Shared>, writer: Sender<Input>, gateway: &str, clock: Clock) -> Sinks {
        Sinks { entries: Mutex::default(), shared, writer, gateway: gateway.into(), clock }
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sinks, by name.
    pub fn views(&self) -> Vec<SinkView> {
        let view = |(name, entry): (&String, &Entry)| SinkView {
            name: name.clone(),
            address: entry.config.target.to_string(),
            required: entry.config.required,
            status: entry.status.clone(),
        };
        self.entries().iter().map(view).collect()
    }

    /// Starts new sinks, stops removed ones, restarts changed ones.
    pub async fn configure(&self, config: &Config) {
        let stale: Vec<Entry> = {
            let mut entries = self.entries();
            let gone: Vec<String> = entries
                .iter()
                .filter(|(name, entry)| !config.sinks.iter().any(|s| s.name == **name && *s == entry.config))
                .map(|(name, _)| name.clone())
                .collect();
            gone.iter().filter_map(|name| entries.remove(name)).collect()
        };
        // A restarted sink continues from what it has, not from the stored cursor, which may be older.
        let mut known = BTreeMap::new();
        stale.iter().for_each(Entry::tell_to_stop);
        for entry in stale {
            let name = entry.config.name.clone();
            known.extend(entry.end().await.map(|acked| (name, acked)));
        }
        for sink in &config.sinks {
            if !self.entries().contains_key(&sink.name) {
                let entry = self.start(sink, known.remove(&sink.name));
                self.entries().insert(sink.name.clone(), entry);
            }
        }
    }

    /// Stops all; unacknowledged events are sent after the next start.
    pub async fn stop(&self) {
        let entries = std::mem::take(&mut *self.entries());
        entries.values().for_each(Entry::tell_to_stop);
        for entry in entries.into_values() {
            entry.end().await;
        }
    }

    fn start(&self, sink: &SinkConfig, known: Option<AckedRanges>) -> Entry {
        let (stop, stopping) = watch::channel(false);
        let status = Arc::new(SinkStatus::new(self.clock.clone()));
        let requests = Requests::new(&sink.name, &self.gateway, self.shared.epoch);
        let parts = Parts {
            requests: Arc::new(requests),
            shared: self.shared.clone(),
            writer: self.writer.clone(),
            status: status.clone(),
            clock: self.clock.clone(),
            known,
        };
        let task = tokio::spawn(serve(sink.clone(), parts, self.gateway.clone(), stopping).boxed());
        Entry { config: sink.clone(), status, stop, task }
    }
}

impl Entry {
    fn tell_to_stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits for its end; returns what the sink has, if it was served.
    async fn end(self) -> Option<AckedRanges> {
        self.task.await.unwrap_or_else(|error| {
            tracing::error!(sink = %self.config.name, "the sink's task failed: {error}");
            None
        })
    }
}

impl Service {
    /// From the configuration.
    pub(super) fn of(sink: &SinkConfig) -> Service {
        Service {
            name: sink.name.clone(),
            order: sink.order,
            priority: !sink.priority.is_empty(),
            backlog_share: sink.backlog_share,
            bandwidth: sink.bandwidth_bytes_per_s.unwrap_or(0),
            events_max: sink.parcel_events_max,
            bytes_max: sink.parcel_bytes_max,
            delay: sink.parcel_delay,
            in_flight_max: usize::from(sink.in_flight_max),
            backoff_max: sink.backoff_max,
            refused: sink.refused,
        }
    }
}

/// Opens a connection to a sink.
type Open = Box<dyn FnMut() -> BoxFuture<'static, Result<Any, Unreachable>> + Send>;

/// Serves one sink over the transport of its address.
async fn serve(
    sink: SinkConfig,
    parts: Parts,
    gateway: Arc<str>,
    stopping: watch::Receiver<bool>,
) -> Option<AckedRanges> {
    let epoch = parts.shared.epoch;
    let service = Service::of(&sink);
    let build = match builder(&sink, &parts.shared, &gateway, epoch) {
        Ok(build) => build,
        Err(why) => {
            tracing::error!(sink = %sink.name, "{why}");
            return None;
        }
    };
    let open: Open = match &sink.target {
        SinkTarget::Mqtt(mqtt) => {
            let upstream = mqtt.commands.is_some().then(|| upstream(&sink, &gateway, &parts));
            let target = Arc::new(Target::of(&sink, mqtt));
            Box::new(move || {
                let (target, upstream) = (target.clone(), upstream.clone());
                async move { Ok(Any::new(target.open(upstream.as_ref()).await?)) }.boxed()
            })
        }
        SinkTarget::Http(http) => {
            let (target, requests) = (Arc::new(Target::of(&sink, http)), parts.requests.clone());
            Box::new(move || {
                let (target, requests) = (target.clone(), requests.clone());
                async move { Ok(Any::new(target.open(&requests).await?)) }.boxed()
            })
        }
        #[cfg(feature = "nats")]
        SinkTarget::Nats(nats) => {
            let upstream = nats.commands.is_some().then(|| upstream(&sink, &gateway, &parts));
            let target = Arc::new(Target::of(&sink, nats));
            Box::new(move || {
                let (target, gateway, upstream) = (target.clone(), gateway.clone(), upstream.clone());
                async move { Ok(Any::new(target.open(&gateway, epoch, upstream.as_ref()).await?)) }.boxed()
            })
        }
        #[cfg(feature = "kafka")]
        SinkTarget::Kafka(kafka) => {
            let target = Arc::new(Target::of(&sink, kafka));
            Box::new(move || {
                let target = target.clone();
                async move { Ok(Any::new(target.open().await?)) }.boxed()
            })
        }
        #[allow(unreachable_patterns)] // With all features there is none left.
        _ => {
            tracing::error!(
                sink = %sink.name,
                "this fieldlog was built without support for {}; nothing is sent there",
                sink.target
            );
            return None;
        }
    };
    let acked = drive(service, parts, open, build, stopping).await;
    Some(acked)
}

fn upstream(sink: &SinkConfig, gateway: &str, parts: &Parts) -> Arc<Upstream> {
    // The configuration's check has refused patterns that are none.
    let devices = Patterns::parse(&sink.filter.devices).unwrap_or_default();
    Upstream::new(
        &sink.name,
        devices,
        gateway,
        parts.shared.clone(),
        parts.writer.clone(),
        parts.requests.clone(),
        parts.clock.clone(),
    )
}

/// A builder of one sink's parcels from the log. Blocking.
pub(super) fn builder(
    sink: &SinkConfig,
    shared: &Arc<Shared>,
    gateway: &Arc<str>,
    epoch: Epoch,
) -> Result<impl Fn(Span) -> Result<Option<Parcel>, LogError> + Clone + Send + 'static, String> {
    let filter = Filter::new(&sink.filter.devices, &sink.filter.types).map_err(|e| e.to_string())?;
    let format = match sink.format {
        SinkFormat::Json => Format::Json,
        SinkFormat::Compact => Format::Compact,
    };
    let priority = Filter::new(&sink.filter.devices, &sink.priority).map_err(|e| e.to_string())?;
    let of = |filter| Arc::new(Mutex::new(Builder::new(gateway.clone(), epoch, filter, format)));
    let (covering, ahead) = (of(filter), of(priority));
    let shared = shared.clone();
    Ok(move |span: Span| {
        let builder = if span.lane == Lane::Priority { &ahead } else { &covering };
        let mut builder = builder.lock().unwrap_or_else(PoisonError::into_inner);
        builder.build(&shared.reader, &shared.view, &span)
    })
}
