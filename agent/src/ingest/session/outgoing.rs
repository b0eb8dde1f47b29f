//! Messages that the agent publishes to a source's broker, and their acknowledgements.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::{OUT_BYTES_MAX, SourceSession};
use crate::message::{Fate, Manner, Publication, Tracked};
use crate::mqtt::failure::{Failure, reason};
use crate::mqtt::frame::Frame;
use crate::mqtt::handshake::{self, Welcome, detail_of};

/// Publications that wait for their PUBACK, at most; fewer if the broker wants fewer.
const IN_FLIGHT_MAX: u16 = 64;

/// Packet identifiers of publications begin here; those of the SUBSCRIBEs count up from 1 and are never so many.
const PKID_MIN: u16 = 0x8000;

/// What has been published on a connection and is not acknowledged yet.
#[derive(Debug)]
pub(super) struct Outgoing {
    in_flight: BTreeMap<u16, Manner>,
    max: usize,
    last: u16,
    /// Largest packet and best quality of service that the broker takes.
    bytes_max: usize,
    qos_max: u8,
    /// A packet on its way into the output.
    packet: BytesMut,
    /// There is room again for what waits.
    pub(super) has_room: bool,
}

impl Outgoing {
    pub(super) fn new(welcome: &Welcome) -> Outgoing {
        let max = welcome.receive_max.unwrap_or(u16::MAX).min(IN_FLIGHT_MAX);
        let bytes_max = welcome.packet_bytes_max.and_then(|max| usize::try_from(max).ok());
        Outgoing {
            in_flight: BTreeMap::new(),
            max: usize::from(max),
            last: PKID_MIN,
            bytes_max: bytes_max.unwrap_or(usize::MAX),
            qos_max: welcome.qos_max.unwrap_or(1),
            packet: BytesMut::new(),
            has_room: false,
        }
    }

    /// An identifier that is free; never the one of the host application's state.
    fn next(&mut self) -> u16 {
        loop {
            self.last = if self.last >= u16::MAX - 1 { PKID_MIN } else { self.last + 1 };
            if !self.in_flight.contains_key(&self.last) {
                return self.last;
            }
        }
    }
}

impl<F> SourceSession<'_, F> {
    /// Writes what others in the agent want published.
    pub(super) fn publish(&mut self) {
        self.outgoing.has_room = false;
        while self.connection.unwritten() < OUT_BYTES_MAX
            && self.outgoing.in_flight.len() < self.outgoing.max
            && let Some(publication) = self.outbox.pop()
        {
            self.publish_one(&publication);
        }
    }

    fn publish_one(&mut self, publication: &Publication) {
        let Publication { topic, manner, .. } = publication;
        let (qos, retain, expiry_s, traceparent) = match manner {
            Manner::Untracked => (0, false, None, None),
            Manner::Retained(_) => (1, true, None, None),
            Manner::Command(tracked) => match self.left_of(tracked) {
                Some(left_s) => (tracked.qos, false, Some(left_s), tracked.traceparent),
                None => return self.outbox.report(manner, Fate::TooLate),
            },
        };
        let pkid = (qos.min(self.outgoing.qos_max) > 0).then(|| self.outgoing.next());
        let how = handshake::Manner { pkid, retain, expiry_s, traceparent };
        if let Err(why) = self.write(publication, how) {
            if *manner == Manner::Untracked {
                let source = &self.source.config.name;
                tracing::warn!(%source, topic, "a message is not published: {why}");
            }
            self.outbox.report(manner, Fate::Refused(why));
            return;
        }
        self.outbox.report(manner, Fate::Written);
        match (pkid, manner) {
            (Some(pkid), manner) => drop(self.outgoing.in_flight.insert(pkid, manner.clone())),
            // The broker takes QoS 0 only, so nothing more will be known.
            (None, Manner::Retained(_)) => self.outbox.report(manner, Fate::Acknowledged),
            (None, _) => {}
        }
    }

    /// Seconds that are left of a command's time; `None` if it is over. What the broker holds for the device must not outlive
    /// the command either; it counts in whole seconds.
    fn left_of(&self, tracked: &Tracked) -> Option<u32> {
        let (now, wall) = (self.source.clock.now(), self.source.clock.wall());
        if now >= tracked.deadline || wall >= tracked.expires {
            return None;
        }
        let left = tracked.deadline.saturating_duration_since(now).as_secs().max(1);
        Some(u32::try_from(left).unwrap_or(u32::MAX))
    }

    /// Puts a publication into the output. Otherwise it says why it cannot be sent: the broker would end the connection over it.
    fn write(&mut self, publication: &Publication, manner: handshake::Manner) -> Result<(), String> {
        let Publication { topic, payload, .. } = publication;
        let (packet, max) = (&mut self.outgoing.packet, self.outgoing.bytes_max);
        // A command is not refused for its trace context: without it, the packet may be small enough.
        for manner in [manner, handshake::Manner { traceparent: None, ..manner }] {
            packet.clear();
            handshake::publish(topic, payload, manner, self.source.config.protocol, packet)
                .map_err(|failure| format!("it cannot be written as an MQTT packet: {failure}"))?;
            if packet.len() <= max {
                break;
            }
        }
        if packet.len() > max {
            return Err(format!(
                "its packet has {} bytes, and the broker takes at most {max}; raise the broker's maximum packet size, \
                 or send less",
                packet.len()
            ));
        }
        self.connection.send(|out| out.extend_from_slice(packet));
        self.source.status.published.add(1);
        Ok(())
    }

    /// Takes a PUBACK: an identifier, and with MQTT 5 a reason if it is no plain success.
    pub(super) fn take_puback(&mut self, chunk: &Bytes, frame: &Frame) -> Result<(), Failure> {
        let body = &chunk[frame.body.clone()];
        let &[high, low, ref rest @ ..] = body else { return Err(Failure::Malformed("PUBACK")) };
        // That of the host application's state is none of these.
        let Some(manner) = self.outgoing.in_flight.remove(&u16::from_be_bytes([high, low])) else {
            return Ok(());
        };
        let fate = match rest.first().copied().unwrap_or(0) {
            code if code < 0x80 => Fate::Acknowledged,
            code => {
                let detail = detail_of(&chunk.slice(frame.whole.clone()));
                Fate::Refused(format!("the broker refuses it: {}{detail}", reason(code)))
            }
        };
        self.outbox.report(&manner, fate);
        // What waits is published once the messages that were read with this are delivered: they are older than that.
        self.outgoing.has_room = true;
        Ok(())
    }

    /// The connection is gone: what was not acknowledged may have arrived or not, what was not written has not.
    pub(super) fn lose_publications(&mut self) {
        self.outbox.close();
        for manner in std::mem::take(&mut self.outgoing.in_flight).values() {
            self.outbox.report(manner, Fate::Lost);
        }
    }
}
