//! NATS JetStream sinks: one message per parcel, strictly one after the other.
//!
//! Each message states the expected last sequence of its subject. The server refuses it otherwise, no matter how much
//! later, so the stream gets no duplicates even after its duplicate window. At each connection the subject's last
//! message is read: what it covers is acknowledged and not sent again.

mod commands;
mod failure;
mod stream;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::message::PublishMessage;
use async_nats::{Client, ConnectOptions, Event, HeaderMap};
use fieldlog_projections::Epoch;
use tokio::time::timeout;

use crate::config::NatsSink;
use crate::forward::commands::Upstream;
use crate::forward::envelope::{self, Payload};
use crate::forward::queue::{FAREWELL, Jobs, Queue};
use crate::forward::transport::Target;
use crate::forward::{Outcome, Pace, Parcel, Transport, Unreachable};
use crate::net::failure::causes;
use crate::net::secret;
use crate::net::tls::client_config;
use commands::Commands;
use fieldlog_wire::Manifest;
use stream::Subject;

/// Address and settings. `connect_timeout` covers TCP, TLS and each query to JetStream; `answer_timeout` the time from
/// a message to its acknowledgement.
pub type NatsTarget = Target<NatsSink>;

/// A connection to a server.
pub struct Nats {
    queue: Queue,
    stored: Option<Manifest>,
    news: Arc<News>,
}

impl NatsTarget {
    /// Connects, finds or creates the stream, and reads what it holds of `gateway`'s log `epoch`. Commands of the server
    /// go to `upstream`, which there is if they are switched on.
    pub async fn open(
        &self,
        gateway: &str,
        epoch: Epoch,
        upstream: Option<&Arc<Upstream>>,
    ) -> Result<Nats, Unreachable> {
        let news = Arc::new(News::default());
        let client = self.connect(&news).await?;
        let jetstream = ContextBuilder::new()
            .timeout(self.connect_timeout)
            .ack_timeout(self.answer_timeout)
            .build(client.clone());
        let asked = self.ask(&jetstream, gateway, epoch).await;
        // The server does not answer a forbidden request; it reports an error separately.
        let subjects = asked.map_err(|error| match news.complaint() {
            Some(complaint) => Unreachable { why: format!("{} ({complaint})", error.why), pace: Pace::Slow },
            None => error,
        })?;
        let stored =
            subjects.iter().filter(|subject| subject.stored.is_some()).max_by_key(|subject| subject.last);
        let stored = stored.and_then(|subject| subject.stored.clone());
        let commands = match upstream.zip(self.sink.commands.as_ref()) {
            Some((upstream, config)) => Some(Commands::start(self, config, &client, upstream).await?),
            None => None,
        };
        let publisher =
            Publisher { target: self.clone(), client, jetstream, subjects, news: news.clone(), commands };
        Ok(Nats { queue: Queue::start(|jobs| publisher.serve(jobs)), stored, news })
    }

    /// Connects, and looks at nothing.
    pub async fn log_in(&self) -> Result<(), Unreachable> {
        self.connect(&Arc::default()).await.map(drop)
    }

    /// The queries before the first message.
    async fn ask(
        &self,
        jetstream: &Context,
        gateway: &str,
        epoch: Epoch,
    ) -> Result<Vec<Subject>, Unreachable> {
        let stream = stream::find(self, jetstream).await?;
        let mut subjects = Vec::new();
        for name in stream::subjects(&self.sink.subject, gateway, epoch) {
            subjects.push(Subject::read(self, &stream, name, gateway, epoch).await?);
        }
        Ok(subjects)
    }

    async fn connect(&self, news: &Arc<News>) -> Result<Client, Unreachable> {
        let url = self.sink.url();
        let bad = |why: String| Unreachable { why: format!("{url}: {why}"), pace: Pace::Slow };
        let told = Arc::clone(news);
        let mut options = ConnectOptions::new()
            .name("fieldlog")
            .connection_timeout(self.connect_timeout)
            .ping_interval(Duration::from_secs(20))
            .ignore_discovered_servers()
            // The driver reconnects: each attempt queries again what is stored.
            .max_reconnects(1)
            .event_callback(move |event| {
                told.hear(event);
                std::future::ready(())
            });
        if self.sink.address.tls {
            let tls = client_config(&self.sink.tls).map_err(|error| bad(error.to_string()))?;
            options = options.require_tls(true).tls_client_config(tls);
        }
        if let Some(file) = &self.sink.credentials_file {
            let text = secret::read("credentials_file", file).map_err(|error| bad(error.to_string()))?;
            options = options.credentials(&text).map_err(|error| {
                bad(format!("`credentials_file` {} is not one of NATS: {error}", file.display()))
            })?;
        }
        if let Some(file) = &self.sink.token_file {
            options =
                options.token(secret::read("token_file", file).map_err(|error| bad(error.to_string()))?);
        }
        if let (Some(user), Some(file)) = (&self.sink.username, &self.sink.password_file) {
            let password = secret::read("password_file", file).map_err(|error| bad(error.to_string()))?;
            options = options.user_and_password(user.clone(), password);
        }
        // A host name may have several addresses, each of which takes time.
        let connecting = timeout(self.connect_timeout * 3, options.connect(&url)).await;
        let late = |_| Unreachable {
            why: format!("{url}: no connection within {} s", self.connect_timeout.as_secs_f32() * 3.0),
            pace: Pace::Unreached,
        };
        connecting.map_err(late)?.map_err(|error| failure::connect(&url, &error))
    }
}

/// Events that the client reports outside of answers.
#[derive(Default)]
struct News {
    /// The server's last error report; it refuses publications this way, without an answer.
    complaint: Mutex<Option<String>>,
    /// It refuses the subscription to commands, which is the only one.
    unsubscribed: OnceLock<String>,
    gone: tokio::sync::Notify,
}

impl News {
    fn hear(&self, event: Event) {
        match event {
            Event::Disconnected | Event::Closed => self.gone.notify_one(),
            Event::ServerError(error) => {
                let text = error.to_string();
                if text.to_ascii_lowercase().contains("subscription")
                    && self.unsubscribed.set(text.clone()).is_ok()
                {
                    tracing::warn!("{}", unsubscribed(&text));
                }
                *self.complaint.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
            }
            _ => {}
        }
    }

    fn complaint(&self) -> Option<String> {
        self.complaint.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn unsubscribed(said: &str) -> String {
    format!(
        "no command from upstream arrives: the NATS server refuses the subscription ({said}); allow it in the permissions of \
         this user, or remove [sink.commands]"
    )
}

/// The connection's task: it publishes parcels one after the other.
struct Publisher {
    target: NatsTarget,
    client: Client,
    jetstream: Context,
    subjects: Vec<Subject>,
    news: Arc<News>,
    /// Ends with the connection.
    commands: Option<Commands>,
}

impl Publisher {
    async fn serve(mut self, mut jobs: Jobs) {
        loop {
            let news = Arc::clone(&self.news);
            let job = tokio::select! {
                biased;
                () = news.gone.notified() => return jobs.lose(self.gone()),
                job = jobs.incoming.recv() => job,
            };
            let Some(job) = job else { break };
            let outcome = tokio::select! {
                biased;
                outcome = self.send(&job.parcel) => outcome,
                () = news.gone.notified() => Outcome::Lost { why: self.gone() },
            };
            if let Outcome::Lost { why } = outcome {
                return jobs.lose(why);
            }
            // The driver may have given up on it.
            let _ = job.reply.send(outcome);
        }
        self.commands = None;
        // Everything acknowledged is stored; draining is optional.
        let _ = timeout(FAREWELL, self.client.drain()).await;
    }

    fn gone(&self) -> String {
        let why = self.news.complaint().map(|text| format!(": {text}")).unwrap_or_default();
        format!("{}: the connection broke{why}", self.target.sink.url())
    }

    async fn send(&mut self, parcel: &Parcel) -> Outcome {
        let manifest = &parcel.manifest;
        let name = stream::subject(&self.target.sink.subject, manifest);
        let Some(subject) = self.subjects.iter_mut().find(|subject| subject.name == name) else {
            // Another epoch or gateway than queried when the connection was opened.
            return Outcome::Lost { why: format!("{}: `{name}` was not opened", self.target.sink.url()) };
        };
        if parcel.resent.is_none() && subject.holds(manifest) {
            return Outcome::Acked;
        }
        let message = PublishMessage::build()
            .headers(headers(parcel))
            .message_id(parcel.identity())
            .expected_stream(&self.target.sink.stream)
            .expected_last_subject_sequence(subject.last)
            .payload(Payload::plain(parcel).to_bytes());
        self.news.complaint();
        let published = match self.jetstream.send_publish(name, message).await {
            Ok(acknowledged) => acknowledged.await,
            Err(error) => Err(error),
        };
        match published {
            Ok(acknowledged) => {
                subject.last = acknowledged.sequence;
                subject.stored = Some(manifest.clone());
                Outcome::Acked
            }
            Err(error) => failure::publish(
                &self.target,
                &subject.name,
                &error,
                self.news.complaint(),
                self.client.max_payload(),
            ),
        }
    }
}

fn headers(parcel: &Parcel) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Content-Type", envelope::content_type(parcel));
    for (name, value) in parcel.fields() {
        headers.insert(header(name), value);
    }
    headers
}

/// Header names of NATS are case-sensitive.
fn header(field: &str) -> String {
    let (first, rest) = field.split_at(1);
    format!("Fieldlog-{}{rest}", first.to_ascii_uppercase())
}

impl Transport for Nats {
    fn send(&mut self, parcel: Arc<Parcel>) -> impl Future<Output = Outcome> + Send + 'static {
        self.queue.send(parcel)
    }

    fn lost(&mut self) -> impl Future<Output = String> + Send {
        self.queue.lost()
    }

    fn stored(&self) -> Option<&Manifest> {
        self.stored.as_ref()
    }

    fn warning(&self) -> Option<String> {
        self.news.unsubscribed.get().map(|said| unsubscribed(said))
    }

    fn close(self) -> impl Future<Output = ()> + Send {
        self.queue.close()
    }
}

#[cfg(test)]
pub(crate) mod tests;
