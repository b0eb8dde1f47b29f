//! Parcels from NATS JetStream, by a durable consumer. A message is acknowledged after its lines are written.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::{self, Message};
use async_nats::{ConnectOptions, HeaderMap};
use futures_util::StreamExt;
use tokio::sync::watch;

use super::{AcceptError, Receiver};

/// Maximum unacknowledged messages from the server.
const WINDOW: i64 = 64;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// The stream to consume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsOptions {
    /// `nats://host:port`.
    pub server: String,
    /// The stream.
    pub stream: String,
    /// Subjects of it.
    pub subject: String,
    /// Name of the durable consumer.
    pub consumer: String,
}

/// Why consuming ended; it is then restarted.
type Ended = Box<dyn std::error::Error + Send + Sync>;

/// Receives until `stopped`, reconnecting as needed.
pub(super) async fn serve(options: NatsOptions, receiver: Arc<Receiver>, mut stopped: watch::Receiver<bool>) {
    let mut retry = RETRY_MIN;
    loop {
        let Err(why) = consume(&options, &receiver, &mut retry, &mut stopped).await else { return };
        tracing::warn!("NATS {}: {why}; trying again in {} ms", options.server, retry.as_millis());
        tokio::select! {
            () = tokio::time::sleep(retry) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        retry = (retry * 2).min(RETRY_MAX);
    }
}

/// Consumes over one connection; `Ok` when told to stop, or when nothing can be written any more.
async fn consume(
    options: &NatsOptions,
    receiver: &Arc<Receiver>,
    retry: &mut Duration,
    stopped: &mut watch::Receiver<bool>,
) -> Result<(), Ended> {
    let mut messages = tokio::select! {
        messages = subscribe(options) => messages?,
        _ = stopped.wait_for(|stop| *stop) => return Ok(()),
    };
    *retry = RETRY_MIN;
    loop {
        // A message being written is completed and acknowledged.
        let message = tokio::select! {
            message = messages.next() => message.ok_or("the server ended the consumer")??,
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        };
        let (Message { message: parcel, .. }, taker) = (message.clone(), receiver.clone());
        let taken = tokio::task::spawn_blocking(move || {
            let headers = parcel.headers.unwrap_or_default();
            taker.accept(&parcel.payload, |name| header(&headers, name))
        });
        match taken.await? {
            Ok(()) => {}
            Err(AcceptError::Store) => return Ok(()),
            // Otherwise it would be sent again for ever; it is counted and stays in the report.
            Err(error) => tracing::warn!("a message on {} was not accepted: {error}", message.subject),
        }
        // Waits for the server's confirmation: an acknowledgement lost at a stop would bring the parcel again.
        message.double_ack().await?;
    }
}

async fn subscribe(options: &NatsOptions) -> Result<pull::Stream, Ended> {
    let connect = ConnectOptions::new().connection_timeout(CONNECT_TIMEOUT).name("fieldlog-receive");
    let jetstream = jetstream::new(connect.connect(&options.server).await?);
    let stream = jetstream.get_stream(&options.stream).await?;
    let config = pull::Config {
        durable_name: Some(options.consumer.clone()),
        filter_subject: options.subject.clone(),
        ack_policy: AckPolicy::Explicit,
        max_ack_pending: WINDOW,
        ..pull::Config::default()
    };
    let consumer = stream.get_or_create_consumer(&options.consumer, config).await?;
    let messages = consumer.messages().await?;
    tracing::info!("NATS {}: consuming {} of stream {}", options.server, options.subject, options.stream);
    Ok(messages)
}

/// A field of a manifest, with any capitalisation of its header.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let wanted = format!("fieldlog-{name}");
    let found = headers.iter().find(|(header, _)| header.to_string().eq_ignore_ascii_case(&wanted));
    found.and_then(|(_, values)| values.first()).map(async_nats::HeaderValue::as_str)
}
