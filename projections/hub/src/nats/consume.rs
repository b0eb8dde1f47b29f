//! Consumes one subject.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::Stream;
use async_nats::jetstream::{AckKind, Message};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::claim::Consumers;
use crate::parcel::Parcel;
use crate::source::{Ended, Fate, Parts};

/// Messages that are worked on at once.
const AT_ONCE: usize = 16;
/// With more messages still to be read, what is missing is probably among them.
const BEHIND: u64 = 4 * AT_ONCE as u64;
/// How long the server waits for a first message.
const WAIT: Duration = Duration::from_secs(20);
/// After this time a parcel that could not be stored comes again.
const AGAIN: Duration = Duration::from_secs(1);
/// So often a stopped subject is looked at again.
const STOPPED: Duration = Duration::from_secs(60);
/// So often it is looked whose the consumer is.
const OWNER_EVERY: Duration = Duration::from_secs(30);

/// Consumes a subject of a source until something fails; it is begun again then.
pub(super) async fn subject(
    source: Arc<str>,
    stream: Stream<()>,
    subject: String,
    consumers: Consumers,
    parts: Parts,
) {
    loop {
        let good = || parts.standings.set(&source, |standing| _ = standing.stopped.remove(&subject));
        let outcome = messages(&stream, &subject, &consumers, &parts, good).await;
        let why = match &outcome {
            Ok(why) => why.clone(),
            Err(error) => error.to_string(),
        };
        parts.standings.set(&source, |standing| standing.stop(&subject, &why));
        if outcome.is_err() {
            tracing::warn!("{subject}: {why}");
            return;
        }
        // What is not acknowledged stays in the stream, for as long as the stream keeps it.
        tracing::error!("{subject} is not consumed any more: {why}");
        tokio::time::sleep(STOPPED).await;
    }
}

/// Consumes until a log is stopped, or the consumer belongs to others; returns why. `good` is called whenever messages were
/// stored, or none are there.
async fn messages(
    stream: &Stream<()>,
    subject: &str,
    consumers: &Consumers,
    parts: &Parts,
    good: impl Fn(),
) -> Result<String, Ended> {
    let config = pull::Config {
        filter_subject: subject.to_owned(),
        ack_policy: AckPolicy::Explicit,
        ack_wait: parts.lease.max(Duration::from_secs(5)),
        max_ack_pending: 4 * AT_ONCE as i64,
        ..pull::Config::default()
    };
    let consumer = match consumers.claim(stream, subject, config).await? {
        Ok(consumer) => consumer,
        Err(why) => return Ok(why),
    };
    let mut looked = Instant::now();
    loop {
        // Another database may have taken it over at the same moment, or after somebody has deleted it.
        if looked.elapsed() > OWNER_EVERY {
            looked = Instant::now();
            if let Some(why) = consumers.refuse(&consumer.get_info().await?) {
                return Ok(why);
            }
        }
        let batch = consumer.fetch().max_messages(AT_ONCE).expires(WAIT).messages().await?;
        let messages: Vec<Message> = batch.try_collect().await?;
        let fates = stream::iter(messages.into_iter().map(|message| one(message, parts)));
        let fates: Vec<Result<Fate, Ended>> = fates.buffered(AT_ONCE).collect().await;
        for fate in fates {
            if let Fate::Stopped(why) = fate? {
                return Ok(why);
            }
        }
        good();
    }
}

/// Stores one message and acknowledges it.
async fn one(message: Message, parts: &Parts) -> Result<Fate, Ended> {
    let fate = store(&message, parts).await;
    match &fate {
        // Waits for the server's confirmation: an acknowledgement that is lost brings the parcel again.
        Fate::Done => message.double_ack().await?,
        Fate::Again | Fate::Stopped(_) => message.ack_with(AckKind::Nak(Some(AGAIN))).await?,
    }
    Ok(fate)
}

async fn store(message: &Message, parts: &Parts) -> Fate {
    let (payload, headers) = (message.payload.clone(), message.headers.clone().unwrap_or_default());
    let whence = format!("the subject {}", message.subject);
    let is_behind = message.info().is_ok_and(|info| info.pending > BEHIND);
    let read = move || Parcel::read(&payload, |name| header(&headers, name));
    // One that is no parcel would come again for ever; it stays in the stream.
    parts.store(message.payload.len(), &whence, is_behind, read).await
}

/// A field of a manifest, with any capitalisation of its header.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let wanted = format!("fieldlog-{name}");
    let found = headers.iter().find(|(header, _)| header.to_string().eq_ignore_ascii_case(&wanted));
    found.and_then(|(_, values)| values.first()).map(async_nats::HeaderValue::as_str)
}
