//! Accepts deliveries: observes every message once, and keeps its acknowledgement for the commit.

use std::panic::{self, AssertUnwindSafe};

use super::{Writer, WriterError};
use crate::in_hand::{self, Treatment};
use crate::message::{Delivery, Message};

impl Writer {
    /// Observes a delivery, whose messages then wait for a commit.
    pub(super) fn accept(&mut self, delivery: &Delivery) -> Result<(), WriterError> {
        let now = self.clock.now();
        if let Some(window) = self.windows.get_mut(usize::from(delivery.source.0)) {
            window.arrived(now.duration_since(self.last_commit));
        }
        self.last_arrival = now;
        self.oldest.get_or_insert(now);
        let connection = delivery.acks.connection();
        self.observer.connection(delivery.source, connection, delivery.received, &mut self.batch);
        self.in_hand.begin(&delivery.messages);
        self.observe_all(delivery)?;
        self.in_hand.observed(&delivery.messages);
        let in_flight = self.pending.add(delivery);
        if let Some(window) = self.windows.get_mut(usize::from(delivery.source.0)) {
            window.in_flight(in_flight);
        }
        Ok(())
    }

    /// Observes the messages of a delivery. A panic propagates, after the message that caused it has been noted.
    fn observe_all(&mut self, delivery: &Delivery) -> Result<(), WriterError> {
        let mut at = 0;
        let observed = panic::catch_unwind(AssertUnwindSafe(|| {
            delivery.messages.iter().enumerate().try_for_each(|(index, message)| {
                at = index;
                self.observe(delivery, message)
            })
        }));
        observed.unwrap_or_else(|panicked| {
            self.in_hand.panicked(&delivery.messages[at]);
            panic::resume_unwind(panicked)
        })
    }

    /// Observes one message, unless this process has died of it repeatedly.
    fn observe(&mut self, delivery: &Delivery, message: &Message) -> Result<(), WriterError> {
        let before = self.batch.records.len();
        self.observe_one(delivery, message)?;
        self.look_for_evidence(delivery, message, before);
        Ok(())
    }

    fn observe_one(&mut self, delivery: &Delivery, message: &Message) -> Result<(), WriterError> {
        let source = self.config.sources.get(usize::from(delivery.source.0)).map_or("", |s| s.name.as_str());
        match self.in_hand.treatment(source, message) {
            Treatment::Usual => {
                self.observer.observe(delivery.source, message, delivery.received, &mut self.batch);
            }
            Treatment::Unread { first } => {
                if first {
                    let topic = String::from_utf8_lossy(&message.topic);
                    tracing::error!("a message on {topic} of source {source} was {}", in_hand::REASON);
                }
                let (source, received) = (delivery.source, delivery.received);
                self.observer.refuse(source, message, in_hand::REASON, received, &mut self.batch);
            }
            Treatment::Alone(named) => return self.observe_alone(named, delivery, message),
        }
        Ok(())
    }

    /// Observes a message that this process may have died of. It gets a commit of its own, so that any death before it
    /// returns is due to this message.
    fn observe_alone(
        &mut self,
        named: in_hand::Named,
        delivery: &Delivery,
        message: &Message,
    ) -> Result<(), WriterError> {
        self.commit_all()?;
        self.in_hand.alone(named);
        self.observer.observe(delivery.source, message, delivery.received, &mut self.batch);
        self.commit_all()?;
        self.in_hand.survived();
        Ok(())
    }
}
