//! Hands messages to the connection of a source, and waits until its broker has them.

use std::time::Duration;

use bytes::Bytes;

use super::rounds::Outgoing;
use crate::clock::Clock;
use crate::message::{Fate, Manner, Outbox, Publication, Receipt};

/// Limit for the broker's acknowledgement.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// What became of messages.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    /// Which ones the broker has.
    pub(super) taken: Vec<bool>,
    /// Why it has not got the last of those that it has not.
    pub(super) failed: Option<String>,
    /// It refuses all of these, so nothing is gained by sending them again.
    pub(super) is_lasting: bool,
}

pub(super) async fn deliver(outbox: &Outbox, clock: &Clock, messages: &[Outgoing]) -> Delivered {
    let mut waiting = Vec::with_capacity(messages.len());
    for Outgoing { topic, payload } in messages {
        let receipt = Receipt::default();
        let manner = Manner::Retained(receipt.clone());
        let publication =
            Publication { topic: topic.clone(), payload: Bytes::copy_from_slice(payload), manner };
        waiting.push(outbox.publish(publication).map(|()| receipt));
    }
    let mut delivered = Delivered { is_lasting: true, ..Delivered::default() };
    for (receipt, message) in waiting.into_iter().zip(messages) {
        let fate = match receipt {
            Ok(receipt) => clock.within(ANSWER_TIMEOUT, receipt.fate()).await,
            Err(_) => Some(Fate::NotSent),
        };
        delivered.taken.push(fate == Some(Fate::Acknowledged));
        let why = match fate {
            Some(Fate::Acknowledged) => continue,
            Some(Fate::Refused(why)) => format!("{}: {why}", message.topic),
            other => {
                delivered.is_lasting = false;
                match other {
                    Some(_) => "the connection ended before the broker had acknowledged it".to_owned(),
                    None => {
                        format!("the broker has not acknowledged it within {} s", ANSWER_TIMEOUT.as_secs())
                    }
                }
            }
        };
        delivered.failed = Some(why);
    }
    delivered
}
