//! Parcels from NATS JetStream. Each subject has a durable consumer of its own, and each hub consumes the subjects of its
//! share of the gateways. A message is acknowledged after the commit, and the server confirms that.
//!
//! The shares follow from the names of the processes that are alive, without any agreement. If two consume one subject
//! for a moment, their parcels meet at the gateway's fencing number, and nothing is stored twice.

mod call;
mod claim;
mod consume;

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::stream::Stream;
use async_nats::{Client, ConnectOptions};
use futures_util::TryStreamExt;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::config::{Nats, Postgres, read_secret};
use crate::postgres::{Link, chain, identity};
use crate::source::{self, Ended, Parts, Standing};

pub(crate) use call::call;

/// Between two looks at which subjects there are, and whose they are.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// Tasks that consume, by subject; aborted when dropped. What one of them was at comes again.
#[derive(Default)]
struct Tasks(HashMap<String, AbortHandle>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.values().for_each(AbortHandle::abort);
    }
}

/// Consumes until `stopped`, and connects again as needed; `called` gets the connection, for requests.
pub(crate) async fn serve(
    nats: Nats,
    postgres: Postgres,
    parts: Parts,
    called: Arc<watch::Sender<Option<Client>>>,
    stopped: watch::Receiver<bool>,
) {
    let name = format!("{}, stream {}", nats.address, nats.stream);
    let run = || async {
        let Err(why) = consume_all(&nats, &postgres, &name, &parts, &called).await;
        why
    };
    source::keep(&name, &parts, stopped, run).await;
}

/// Consumes over one connection.
async fn consume_all(
    nats: &Nats,
    postgres: &Postgres,
    name: &str,
    parts: &Parts,
    called: &watch::Sender<Option<Client>>,
) -> Result<Infallible, Ended> {
    let client = connect(nats).await?;
    called.send_replace(Some(client.clone()));
    let jetstream = ContextBuilder::new().timeout(ASK_TIMEOUT).ack_timeout(ASK_TIMEOUT).build(client);
    let stream = jetstream.get_stream_no_info(&nats.stream).await?;
    let database = database(postgres, parts).await?;
    let own = claim::Consumers { name: nats.consumer.as_str().into(), database: database.into() };
    let source: Arc<str> = name.into();
    parts.standings.set(name, Standing::read);
    let mut tasks = Tasks::default();
    loop {
        let subjects = subjects(nats, &stream).await?;
        let alive = parts.alive.borrow().clone();
        let mine: BTreeSet<&String> = subjects
            .iter()
            .filter(|subject| {
                parts.is_mine(&alive, subject.split('.').nth(nats.gateway_token).unwrap_or_default())
            })
            .collect();
        tasks.0.retain(|subject, task| {
            let is_mine = mine.contains(subject);
            if !is_mine {
                task.abort();
                parts.standings.set(name, |standing| _ = standing.stopped.remove(subject));
            }
            is_mine && !task.is_finished()
        });
        for subject in mine {
            if !tasks.0.contains_key(subject) {
                let (source, subject) = (source.clone(), subject.clone());
                let task =
                    consume::subject(source, stream.clone(), subject.clone(), own.clone(), parts.clone());
                tasks.0.insert(subject, tokio::spawn(task).abort_handle());
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The id of the database. Its tables are there when this process has a lease.
async fn database(postgres: &Postgres, parts: &Parts) -> Result<String, Ended> {
    parts.hub.clone().wait_for(Option::is_some).await?;
    let link = Link::open(postgres, parts.lease).await?;
    identity(&link.client).await.map_err(|error| format!("PostgreSQL: {}", chain(&error)).into())
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
