//! Messages waiting for a commit, by live connection, and their acknowledgements.

use std::sync::Arc;

use crate::message::{Acks, Delivery, SourceId};

/// The messages that wait for a commit.
#[derive(Default)]
pub(super) struct PendingAcks {
    connections: Vec<Pending>,
}

/// Messages of one connection.
pub(super) struct Pending {
    acks: Arc<Acks>,
    /// Where they came from.
    pub(super) source: SourceId,
    /// Number of messages, with and without an acknowledgement.
    pub(super) messages: usize,
    packet_ids: Vec<u16>,
}

impl Pending {
    /// Number of acknowledgements that the broker waits for.
    pub(super) fn in_flight(&self) -> usize {
        self.packet_ids.len()
    }
}

impl PendingAcks {
    /// Adds the messages of a delivery; returns how many acknowledgements its connection now waits for.
    pub(super) fn add(&mut self, delivery: &Delivery) -> usize {
        let known = self.connections.iter().position(|c| Arc::ptr_eq(&c.acks, &delivery.acks));
        let at = known.unwrap_or_else(|| {
            let acks = delivery.acks.clone();
            self.connections.push(Pending {
                acks,
                source: delivery.source,
                messages: 0,
                packet_ids: Vec::new(),
            });
            self.connections.len() - 1
        });
        let connection = &mut self.connections[at];
        connection.messages += delivery.messages.len();
        connection.packet_ids.extend(delivery.messages.iter().filter_map(|m| m.pkid));
        connection.in_flight()
    }

    /// The waiting messages of each connection.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Pending> {
        self.connections.iter()
    }

    /// Releases everything: it is durable, or there was nothing to store. Returns the number of messages.
    pub(super) fn release(&mut self) -> usize {
        let mut released = 0;
        for connection in self.connections.iter_mut().filter(|connection| connection.messages > 0) {
            released += connection.messages;
            connection.acks.release(connection.messages, &connection.packet_ids);
            connection.messages = 0;
            connection.packet_ids.clear();
        }
        // A closed connection has dropped its side.
        self.connections.retain(|connection| Arc::strong_count(&connection.acks) > 1);
        released
    }
}
