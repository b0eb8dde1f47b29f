//! Parcels from NATS JetStream. Each subject has a durable consumer of its own, and each hub consumes the subjects of its
//! share of the gateways. A message is acknowledged after the commit, and the server confirms that.
//!
//! The shares follow from the names of the processes that are alive, without any agreement. If two consume one subject
//! for a moment, their parcels meet at the gateway's fencing number, and nothing is stored twice.

mod call;
mod consume;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::stream::Stream;
use async_nats::{Client, ConnectOptions};
use futures_util::TryStreamExt;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::config::{Nats, read_secret};
use crate::intake::Intake;
use crate::metrics::Counters;
use crate::source::{Ended, owner};

pub(crate) use call::{Calls, Silence};

/// Between two looks at which subjects there are, and whose they are.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Where parcels go to.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) intake: Intake,
    pub(crate) counters: Arc<Counters>,
    /// The name of this process.
    pub(crate) name: String,
    /// Names of the processes whose leases run, in order.
    pub(crate) alive: watch::Receiver<Vec<String>>,
    /// A message that is not acknowledged for so long comes again.
    pub(crate) lease: Duration,
    /// Gets the connection, for requests.
    pub(crate) calls: Arc<watch::Sender<Option<Client>>>,
}

/// Tasks that consume, by subject; aborted when dropped. What one of them was at comes again.
#[derive(Default)]
struct Consumers(HashMap<String, AbortHandle>);

impl Drop for Consumers {
    fn drop(&mut self) {
        self.0.values().for_each(AbortHandle::abort);
    }
}

/// Consumes until `stopped`, and connects again as needed.
pub(crate) async fn serve(nats: Nats, parts: Parts, mut stopped: watch::Receiver<bool>) {
    let mut retry = Duration::from_millis(200);
    loop {
        let ended = tokio::select! {
            ended = consume_all(&nats, &parts, &mut retry) => ended,
            _ = stopped.wait_for(|stop| *stop) => return,
        };
        let Err(why) = ended;
        tracing::warn!("NATS {}: {why}; trying again in {} ms", nats.address, retry.as_millis());
        tokio::select! {
            () = tokio::time::sleep(retry) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        retry = (retry * 2).min(RETRY_MAX);
    }
}

/// Consumes over one connection.
async fn consume_all(
    nats: &Nats,
    parts: &Parts,
    retry: &mut Duration,
) -> Result<std::convert::Infallible, Ended> {
    let client = connect(nats).await?;
    parts.calls.send_replace(Some(client.clone()));
    let jetstream = ContextBuilder::new().timeout(ASK_TIMEOUT).ack_timeout(ASK_TIMEOUT).build(client);
    let stream = jetstream.get_stream_no_info(&nats.stream).await?;
    let mut consumers = Consumers::default();
    loop {
        let subjects = subjects(nats, &stream).await?;
        if consumers.0.is_empty() {
            *retry = Duration::from_millis(200);
        }
        let alive = parts.alive.borrow().clone();
        let mine: BTreeSet<&String> = subjects
            .iter()
            .filter(|subject| {
                let gateway = subject.split('.').nth(nats.gateway_token).unwrap_or_default();
                owner(&alive, gateway) == Some(&parts.name)
            })
            .collect();
        consumers.0.retain(|subject, task| {
            let keep = mine.contains(subject) && !task.is_finished();
            if !keep {
                task.abort();
            }
            keep
        });
        for subject in mine {
            if !consumers.0.contains_key(subject) {
                let task = consume::subject(stream.clone(), subject.clone(), parts.clone());
                consumers.0.insert(subject.clone(), tokio::spawn(task).abort_handle());
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The subjects that have messages.
async fn subjects(nats: &Nats, stream: &Stream<()>) -> Result<Vec<String>, Ended> {
    let info = stream.info_with_subjects(&nats.pattern).await.map_err(|error| {
        format!(
            "stream `{}` does not answer: check that it exists, and that this user may publish to $JS.API.> ({error})",
            nats.stream
        )
    })?;
    Ok(info.map_ok(|(subject, _)| subject).try_collect().await?)
}

async fn connect(nats: &Nats) -> Result<Client, Ended> {
    let mut options = ConnectOptions::new()
        .name("fieldlog-hub")
        .connection_timeout(CONNECT_TIMEOUT)
        .ignore_discovered_servers()
        .require_tls(nats.address.starts_with("tls://"));
    if let Some(file) = &nats.ca_file {
        options = options.add_root_certificates(file.clone());
    }
    if let Some(file) = &nats.credentials_file {
        options = options.credentials(&read_secret(file)?)?;
    }
    if let Some(file) = &nats.token_file {
        options = options.token(read_secret(file)?);
    }
    Ok(options.connect(&nats.address).await?)
}
