//! How a notice gets to the other side: retained at the broker of a source, or posted to a server.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::news::Notice;
use crate::clock::Clock;
use crate::config::NotifyTarget;
use crate::forward::Outcome;
use crate::forward::transport::http::Poster;
use crate::message::{Fate, Manner, Outbox, Publication, Receipt};
use crate::net::backoff::Pace;
use crate::sources::Sources;

/// Content type of one CloudEvent.
const CONTENT_TYPE: &str = "application/cloudevents+json";
/// Limit for connecting to a server, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Limit for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// What became of an attempt.
pub(super) enum Told {
    /// The other side has it.
    Taken,
    /// The source is not connected.
    Away,
    /// It will never be taken.
    Refused(String),
    /// To be tried again.
    Failed { why: String, pace: Pace, after: Option<Duration> },
}

/// A way to the other side.
pub(super) enum Way {
    Mqtt { outbox: Option<Arc<Outbox>>, topic: String, clock: Clock },
    Webhook(Box<Poster>),
}

impl Way {
    pub(super) fn new(target: &NotifyTarget, sources: &Sources, clock: &Clock) -> Way {
        match target {
            NotifyTarget::Mqtt { source, topic } => {
                let view = sources.views().into_iter().find(|view| view.name == *source);
                let outbox = view.map(|view| view.outcomes.outbox.clone());
                Way::Mqtt { outbox, topic: topic.clone(), clock: clock.clone() }
            }
            NotifyTarget::Webhook(server) => {
                Way::Webhook(Box::new(Poster::new(server, CONNECT_TIMEOUT, ANSWER_TIMEOUT)))
            }
        }
    }

    pub(super) async fn tell(&mut self, notice: &Notice) -> Told {
        match self {
            Way::Mqtt { outbox: None, .. } => Told::Away,
            Way::Mqtt { outbox: Some(outbox), topic, clock } => {
                let topic = topic.replace("{rule}", &notice.rule).replace("{subject}", &notice.subject);
                publish(outbox, topic, notice.body.clone(), clock).await
            }
            Way::Webhook(poster) => match poster.post(CONTENT_TYPE, &notice.id, notice.body.clone()).await {
                Outcome::Acked => Told::Taken,
                Outcome::Refused { why } | Outcome::TooLarge { why } | Outcome::Forked { why } => {
                    Told::Refused(why)
                }
                Outcome::Busy { after, why } => Told::Failed { why, pace: Pace::Soon, after },
                Outcome::Lost { why } => Told::Failed { why, pace: Pace::Soon, after: None },
            },
        }
    }
}

async fn publish(outbox: &Outbox, topic: String, payload: Bytes, clock: &Clock) -> Told {
    let receipt = Receipt::default();
    let publication = Publication { topic, payload, manner: Manner::Retained(receipt.clone()) };
    if outbox.publish(publication).is_err() {
        return Told::Away;
    }
    let failed = |why: String, pace| Told::Failed { why, pace, after: None };
    match clock.within(ANSWER_TIMEOUT, receipt.fate()).await {
        Some(Fate::Acknowledged) => Told::Taken,
        Some(Fate::Refused(why)) => failed(why, Pace::Slow),
        Some(_) => {
            failed("the connection ended before the broker had acknowledged it".to_owned(), Pace::Soon)
        }
        None => failed(
            format!("the broker has not acknowledged it within {} s", ANSWER_TIMEOUT.as_secs()),
            Pace::Soon,
        ),
    }
}
