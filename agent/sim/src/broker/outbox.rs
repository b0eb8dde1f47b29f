//! The output of one connection, and the PUBACKs expected for it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::time::Instant;

use crate::broker::fault::PacketIdCursor;
use crate::broker::message::{Message, Outgoing, Qos};
use crate::broker::wire::Version;
use crate::broker::wire::encode::{self, Delivery, PACKET_BYTES_MAX};

/// PUBLISHes are encoded ahead of the socket up to this many bytes, so that one write carries many of them.
const AHEAD_BYTES_MAX: usize = 64 * 1024;

/// A PUBLISH whose PUBACK has not arrived on this connection.
#[derive(Debug)]
pub(crate) struct Awaited {
    pub(crate) pkid: u16,
    pub(crate) serial: u64,
    pub(crate) message: Arc<Message>,
}

#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) bytes: BytesMut,
    version: Version,
    window: usize,
    packet_bytes_max: u32,
    duplicates: bool,
    pkids: Option<PacketIdCursor>,
    awaited: VecDeque<Awaited>,
    /// PUBLISHes written on this connection, without scripted duplicates.
    pub(crate) publishes: u64,
    /// Bound of `publishes`, until the next step of the script.
    pub(crate) publishes_max: u64,
}

impl Outbox {
    pub(crate) fn new(version: Version, window: u16, packet_bytes_max: u32) -> Outbox {
        Outbox {
            bytes: BytesMut::new(),
            version,
            window: usize::from(window),
            packet_bytes_max,
            duplicates: false,
            pkids: None,
            awaited: VecDeque::new(),
            publishes: 0,
            publishes_max: u64::MAX,
        }
    }

    pub(crate) fn duplicate_publishes(&mut self) {
        self.duplicates = true;
    }

    pub(crate) fn ignore_packet_size_max(&mut self) {
        self.packet_bytes_max = PACKET_BYTES_MAX;
    }

    pub(crate) fn number_by(&mut self, pkids: PacketIdCursor) {
        self.pkids = Some(pkids);
    }

    /// Maximum unacknowledged QoS 1 messages of the client.
    pub(crate) fn window(&self) -> usize {
        self.window
    }

    /// Whether another PUBLISH may be added now.
    pub(crate) fn has_room(&self) -> bool {
        self.publishes < self.publishes_max && self.bytes.len() < AHEAD_BYTES_MAX
    }

    /// The script's next packet identifier, if it has any.
    pub(crate) fn scripted_pkid(&mut self, in_use: impl Fn(u16) -> bool) -> Option<u16> {
        self.pkids.as_mut()?.take(in_use)
    }

    /// Adds a PUBLISH; `false` if it is too large for the client.
    pub(crate) fn publish(
        &mut self,
        outgoing: &Outgoing,
        pkid: u16,
        serial: u64,
        dup: bool,
        now: Instant,
    ) -> bool {
        if !self.write(outgoing, pkid, serial, dup, now) {
            return false;
        }
        self.publishes += 1;
        if self.duplicates && outgoing.qos > Qos::AtMostOnce {
            self.write(outgoing, pkid, serial, true, now);
        }
        true
    }

    fn write(&mut self, outgoing: &Outgoing, pkid: u16, serial: u64, dup: bool, now: Instant) -> bool {
        let delivery = Delivery {
            message: &outgoing.message,
            subscription_ids: &outgoing.subscription_ids,
            qos: outgoing.qos,
            retain: outgoing.retain,
            dup,
            pkid,
        };
        let written = encode::publish(self.version, &delivery, self.packet_bytes_max, now, &mut self.bytes);
        if written && outgoing.qos > Qos::AtMostOnce {
            self.awaited.push_back(Awaited { pkid, serial, message: Arc::clone(&outgoing.message) });
        }
        written
    }

    /// The PUBLISH for a PUBACK of `pkid`, and whether it is the next one in order.
    pub(crate) fn take_awaited(&mut self, pkid: u16) -> Option<(Awaited, bool)> {
        let index = self.awaited.iter().position(|awaited| awaited.pkid == pkid)?;
        Some((self.awaited.remove(index)?, index == 0))
    }
}
