//! Messages that the agent publishes to a source's broker, and their acknowledgements.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{OUT_BYTES_MAX, SourceSession};
use crate::message::{Fate, Publication, Tracked};
use crate::mqtt::failure::{Failure, reason};
use crate::mqtt::frame::Frame;
use crate::mqtt::handshake::{self, Manner, Welcome, detail_of};

/// Publications that wait for their PUBACK, at most; fewer if the broker wants fewer.
const IN_FLIGHT_MAX: u16 = 64;

/// Packet identifiers of publications begin here; those of the SUBSCRIBEs count up from 1 and are never so many.
const PKID_MIN: u16 = 0x8000;

/// What has been published on a connection and is not acknowledged yet.
#[derive(Debug)]
pub(super) struct Outgoing {
    in_flight: BTreeMap<u16, Tracked>,
    max: usize,
    last: u16,
}

impl Outgoing {
    pub(super) fn new(welcome: &Welcome) -> Outgoing {
        let max = welcome.receive_max.unwrap_or(u16::MAX).min(IN_FLIGHT_MAX);
        Outgoing { in_flight: BTreeMap::new(), max: usize::from(max), last: PKID_MIN }
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
    pub(super) fn publish(&mut self) -> Result<(), Failure> {
        while self.connection.unwritten() < OUT_BYTES_MAX
            && self.outgoing.in_flight.len() < self.outgoing.max
            && let Some(publication) = self.outbox.pop()
        {
            self.publish_one(&publication)?;
        }
        Ok(())
    }

    fn publish_one(&mut self, publication: &Publication) -> Result<(), Failure> {
        let Publication { topic, payload, tracked } = publication;
        let protocol = self.source.config.protocol;
        let Some(tracked) = tracked else {
            self.connection
                .send(|out| handshake::publish(topic, payload, Manner::default(), protocol, out))?;
            self.source.status.published.add(1);
            return Ok(());
        };
        let (now, wall) = (self.source.clock.now(), self.source.clock.wall());
        if now >= tracked.deadline || wall >= tracked.expires {
            self.outbox.report(tracked, Fate::TooLate);
            return Ok(());
        }
        let pkid = (tracked.qos > 0).then(|| self.outgoing.next());
        // What the broker holds for the device must not outlive the command either; it counts in whole seconds.
        let left = tracked.deadline.saturating_duration_since(now).as_secs().max(1);
        let manner = Manner { pkid, retain: false, expiry_s: Some(u32::try_from(left).unwrap_or(u32::MAX)) };
        self.connection.send(|out| handshake::publish(topic, payload, manner, protocol, out))?;
        self.source.status.published.add(1);
        if let Some(pkid) = pkid {
            self.outgoing.in_flight.insert(pkid, *tracked);
        }
        self.outbox.report(tracked, Fate::Written);
        Ok(())
    }

    /// Takes a PUBACK: an identifier, and with MQTT 5 a reason if it is no plain success.
    pub(super) fn take_puback(&mut self, chunk: &Bytes, frame: &Frame) -> Result<(), Failure> {
        let body = &chunk[frame.body.clone()];
        let &[high, low, ref rest @ ..] = body else { return Err(Failure::Malformed("PUBACK")) };
        // That of the host application's state is none of these.
        let Some(tracked) = self.outgoing.in_flight.remove(&u16::from_be_bytes([high, low])) else {
            return Ok(());
        };
        let fate = match rest.first().copied().unwrap_or(0) {
            code if code < 0x80 => Fate::Acknowledged,
            code => {
                let detail = detail_of(&chunk.slice(frame.whole.clone()));
                Fate::Refused(format!("the broker refuses it: {}{detail}", reason(code)))
            }
        };
        self.outbox.report(&tracked, fate);
        // There is room for what waits.
        self.publish()
    }

    /// The connection is gone: what was not acknowledged may have arrived or not, what was not written has not.
    pub(super) fn lose_publications(&mut self) {
        self.outbox.close();
        for tracked in std::mem::take(&mut self.outgoing.in_flight).values() {
            self.outbox.report(tracked, Fate::Lost);
        }
    }
}
