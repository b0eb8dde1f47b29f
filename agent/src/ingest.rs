//! Ingest: one task per source keeps a session at its broker, turns PUBLISH packets into [`Delivery`]s for the writer, and
//! sends a PUBACK for those that the writer has released through [`Acks`], never earlier.
//!
//! The connection loop is our own; rumqttc's codecs read and write the packets outside the hot path. Each attempt uses
//! a new connection, which is dropped at its first error, because packet identifiers, half-read packets and unsent
//! acknowledgements must not reach the next one.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use fieldlog_projections::Time;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::SourceConfig;
use crate::config::rules;
use crate::message::{Acks, Delivery, SourceId};
use crate::mqtt::failure::Failure;
use crate::mqtt::handshake::{self, Hello, Welcome};
use crate::mqtt::open::open;
use crate::net::backoff::{self, Backoff, Pace, Repeats};
use crate::net::connect::Endpoint;
use session::{End, READ_BYTES, SourceSession, SourceTask};
use state::HostState;
use status::State;
use window::Window;

mod session;
mod state;
pub mod status;
mod window;

pub use status::SourceStatus;
pub use window::outstanding_max;

/// A connection that ends this soon after its CONNACK counts as failed.
const SHORT_LIVED: Duration = Duration::from_secs(5);

/// After this many in a row for the same reason, the operator is told.
const SHORT_LIVED_MAX: u32 = 3;

/// Runs `source` until `shutdown` becomes true (or its sender is dropped).
///
/// `deliver` must not block: a task that waits for the writer cannot receive the acknowledgements it waits for. At most
/// [`outstanding_max`] deliveries plus one are in flight at any time.
pub async fn run<F>(
    source: SourceId,
    config: SourceConfig,
    deliver: F,
    clock: Clock,
    status: Arc<SourceStatus>,
    shutdown: watch::Receiver<bool>,
) -> Result<(), InboxGone>
where
    F: FnMut(Delivery) -> Result<(), InboxGone> + Send + 'static,
{
    let mut source = SourceTask {
        id: source,
        filters: rules::filters_after(state::filters(&config), &config.rules),
        window: Window::new(config.receive_window),
        config,
        deliver,
        clock,
        status,
        shutdown,
    };
    // Messages of this source that the writer holds, over all connections: reconnecting must not widen the bound.
    let outstanding = Arc::default();
    let mut backoff = Backoff::new(source.config.backoff_max);
    let mut pattern = Pattern::default();
    let mut repeats = Repeats::default();
    loop {
        let attempt = attempt(&mut source, &outstanding).await;
        let failure = match attempt.end {
            End::Failed(failure) => failure,
            End::Stopped => return source.finish(Ok(())),
            End::InboxGone(gone) => return source.finish(Err(gone)),
        };
        let wait = backoff.next(failure.pace(), attempt.lived.unwrap_or_default(), backoff::random());
        let repeated = pattern.repeats(failure.label(), attempt.lived);
        if attempt.lived >= Some(backoff::STABLE) {
            repeats = Repeats::default();
        }
        let news = repeats.is_news(&format!("{} {repeated}", failure.label()));
        source.report(&failure, repeated, news, wait);
        tokio::select! {
            () = stopped(&mut source.shutdown) => return source.finish(Ok(())),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// One connection attempt and, if it succeeded, the connection.
struct Attempt {
    end: End,
    /// How long the connection lived after its CONNACK; `None` if there was none.
    lived: Option<Duration>,
}

async fn attempt<F>(source: &mut SourceTask<F>, outstanding: &Arc<AtomicUsize>) -> Attempt
where
    F: FnMut(Delivery) -> Result<(), InboxGone>,
{
    source.status.update(|details| details.state = State::Connecting);
    let host = HostState::of(&source.config, source.clock.wall());
    let (endpoint, hello) = (source.config.endpoint(), source.config.hello(host.as_ref()));
    let opened = tokio::select! {
        () = stopped(&mut source.shutdown) => return Attempt { end: End::Stopped, lived: None },
        opened = open(&endpoint, &hello, READ_BYTES) => opened,
    };
    let (stream, input, welcome) = match opened {
        Ok(opened) => opened,
        Err(failure) => return Attempt { end: End::Failed(failure), lived: None },
    };
    let accepted = Instant::now();
    source.accepted(&welcome);
    let acks = Acks::numbered(Arc::clone(outstanding), source.status.connections.get());
    let session = SourceSession::new(source, stream, input, &welcome, acks, host);
    let end = session.run(&welcome).await;
    Attempt { end, lived: Some(accepted.elapsed()) }
}

impl SourceConfig {
    fn endpoint(&self) -> Endpoint<'_> {
        Endpoint { address: &self.address, tls: &self.tls, connect_timeout: self.connect_timeout }
    }

    fn hello<'a>(&'a self, host: Option<&'a HostState>) -> Hello<'a> {
        Hello {
            protocol: self.protocol,
            client_id: &self.client_id,
            username: self.username.as_deref(),
            password_file: self.password_file.as_deref(),
            keep_alive: self.keep_alive,
            // A host application begins with a clean session, which ends with the connection.
            session_expiry: host.is_none().then_some(self.session_expiry),
            receive_window: self.receive_window,
            packet_bytes_max: self.packet_bytes_max,
            will: host.map(HostState::will).or(self.will.as_ref()),
        }
    }
}

impl<F> SourceTask<F> {
    fn accepted(&self, welcome: &Welcome) {
        let source = &self.config.name;
        tracing::info!(%source, session_present = welcome.session_present, "connected");
        let warnings = self.warnings(welcome);
        for warning in &warnings {
            tracing::warn!(%source, "{warning}");
        }
        self.status.connections.add(1);
        self.status.update(|details| {
            details.state = State::Connected { since: self.clock.wall() };
            details.session_present = welcome.session_present;
            details.client_id =
                welcome.assigned_client_id.clone().unwrap_or_else(|| self.config.client_id.clone());
            details.granted.clear();
            details.refused.clear();
            details.warnings = warnings;
        });
    }

    /// Features that the broker lacks, so that messages may be lost while this agent is away.
    fn warnings(&self, welcome: &Welcome) -> Vec<String> {
        let mut warnings = Vec::new();
        if welcome.qos_max == Some(0) && self.filters.iter().any(|(_, qos)| *qos > 0) {
            warnings.push(
                "the broker offers QoS 0 only: what it sends while this agent is away is lost".to_owned(),
            );
        }
        if self.config.sparkplug.is_some() && !self.config.rules.is_empty() {
            warnings.push(
                "this source is a Sparkplug host application, whose session is not kept: what its other subscriptions \
                 are sent while this agent is away is lost. Give them a [[source]] of their own at the same address"
                    .to_owned(),
            );
        }
        let asked = handshake::seconds(self.config.session_expiry);
        if let Some(kept) = welcome.session_expiry_s.filter(|kept| *kept < asked) {
            warnings.push(format!(
                "the broker keeps the session for {kept} s instead of `session_expiry_s` = {asked}"
            ));
        }
        warnings
    }

    fn report(&self, failure: &Failure, repeated: bool, news: bool, wait: Duration) {
        let (source, label) = (&self.config.name, failure.label());
        let why = failure.chain(&self.config.client_id);
        let wait_s = wait.as_secs_f32();
        let advice = match (repeated, failure.pace()) {
            (true, _) => Some(failure.advice(&self.config)),
            (false, Pace::Slow) => Some(why.clone()),
            (false, Pace::Soon | Pace::Unreached) => None,
        };
        match &advice {
            _ if !news => {}
            Some(advice) => {
                let why = (*advice != why).then_some(&*why);
                tracing::error!(%source, label, wait_s, why, "{advice}");
            }
            None => tracing::warn!(%source, label, wait_s, "{why}"),
        }
        let until =
            Time(self.clock.wall().0.saturating_add(i64::try_from(wait.as_micros()).unwrap_or(i64::MAX)));
        self.status.update(|details| {
            *details.failures.entry(label).or_default() += 1;
            details.last_error = Some(why.clone());
            details.advice = advice;
            details.session_present = false;
            details.state = State::BackingOff { until, why };
        });
    }

    fn finish(&self, outcome: Result<(), InboxGone>) -> Result<(), InboxGone> {
        self.status.update(|details| details.state = State::Stopped);
        outcome
    }
}

/// Detects connections that keep ending for the same reason right after they were accepted.
#[derive(Debug, Default)]
struct Pattern {
    label: &'static str,
    count: u32,
}

impl Pattern {
    fn repeats(&mut self, label: &'static str, lived: Option<Duration>) -> bool {
        match lived {
            Some(lived) if lived < SHORT_LIVED => {
                self.count = if self.label == label { self.count + 1 } else { 1 };
                self.label = label;
            }
            Some(_) => self.count = 0,
            // An attempt in between that did not get that far does not affect the pattern.
            None => return false,
        }
        self.count >= SHORT_LIVED_MAX
    }
}

/// Returns once `shutdown` is true or its sender is gone.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// The writer has stopped and accepts no more deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("the writer has stopped; its own message says why")]
pub struct InboxGone;

#[cfg(test)]
pub(crate) mod tests;
