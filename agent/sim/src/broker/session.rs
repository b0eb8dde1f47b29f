//! One client's subscriptions, waiting messages and unacknowledged messages. It may outlive its connection.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

use crate::broker::message::{Message, Outgoing, Qos, Will};
use crate::broker::outbox::Outbox;
use crate::broker::topic;
use crate::broker::wire::Filter;

/// A QoS 1 message that was sent and not acknowledged.
#[derive(Debug)]
struct InFlight {
    serial: u64,
    /// 0 if it gets one at its redelivery.
    pkid: u16,
    outgoing: Outgoing,
}

/// The connection that serves a session.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) connection: usize,
    pub(crate) wake: Arc<Notify>,
    pub(crate) will: Option<Will>,
}

#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) attached: Option<Attachment>,
    /// How long it outlives its connection; `None`: for ever.
    pub(crate) expiry: Option<Duration>,
    /// When it ends, once it has no connection.
    pub(crate) expires: Option<Instant>,
    subscriptions: Vec<Filter>,
    queue: VecDeque<Outgoing>,
    in_flight: VecDeque<InFlight>,
    /// How many of `in_flight`, from the front, have been sent on the current connection.
    sent: usize,
    pkids: HashSet<u16>,
    last_pkid: u16,
    next_serial: u64,
}

impl Session {
    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub(crate) fn attach(&mut self, attachment: Attachment, expiry: Option<Duration>) {
        self.attached = Some(attachment);
        self.expiry = expiry;
        self.expires = None;
    }

    /// The connection is gone: unacknowledged messages are sent again on the next one.
    pub(crate) fn detach(&mut self) -> Option<Attachment> {
        self.sent = 0;
        self.queue.retain(|outgoing| outgoing.qos != Qos::AtMostOnce);
        self.attached.take()
    }

    /// Forgets the packet identifiers in flight, so that redelivery uses new ones.
    pub(crate) fn renumber(&mut self) {
        self.pkids.clear();
        for in_flight in &mut self.in_flight {
            in_flight.pkid = 0;
        }
    }

    /// Adds or replaces a subscription; returns whether it is new.
    pub(crate) fn subscribe(&mut self, filter: Filter) -> bool {
        match self.subscriptions.iter_mut().find(|old| old.path == filter.path) {
            Some(old) => {
                *old = filter;
                false
            }
            None => {
                self.subscriptions.push(filter);
                true
            }
        }
    }

    /// Returns whether the subscription existed.
    pub(crate) fn unsubscribe(&mut self, path: &str) -> bool {
        let before = self.subscriptions.len();
        self.subscriptions.retain(|filter| filter.path != path);
        self.subscriptions.len() < before
    }

    /// Queues a published message if a subscription matches: once, however many match. `own` is set if this client
    /// published it. Returns how many messages were dropped.
    pub(crate) fn offer(&mut self, message: &Arc<Message>, own: bool, queue_max: usize) -> u64 {
        let mut matched: Option<Outgoing> = None;
        for filter in &self.subscriptions {
            if own && filter.no_local || !topic::matches(&filter.path, &message.topic) {
                continue;
            }
            let outgoing = matched.get_or_insert_with(|| Outgoing {
                message: Arc::clone(message),
                subscription_ids: Vec::new(),
                qos: Qos::AtMostOnce,
                retain: false,
            });
            outgoing.qos = outgoing.qos.max(filter.qos.min(message.qos));
            outgoing.retain |= filter.retain_as_published && message.retain;
            outgoing.subscription_ids.extend(filter.id);
        }
        matched.map_or(0, |outgoing| self.enqueue(outgoing, queue_max))
    }

    /// Queues a retained message for a new subscription.
    pub(crate) fn offer_retained(
        &mut self,
        message: &Arc<Message>,
        filter: &Filter,
        queue_max: usize,
    ) -> u64 {
        let outgoing = Outgoing {
            message: Arc::clone(message),
            subscription_ids: filter.id.into_iter().collect(),
            qos: filter.qos.min(message.qos),
            retain: true,
        };
        self.enqueue(outgoing, queue_max)
    }

    /// When full, the oldest waiting message makes room for a QoS 1 message; a QoS 0 message is dropped.
    fn enqueue(&mut self, outgoing: Outgoing, queue_max: usize) -> u64 {
        let at_most_once = outgoing.qos == Qos::AtMostOnce;
        if at_most_once && self.attached.is_none() {
            return 0;
        }
        let full = self.queue.len() >= queue_max.max(1);
        if full && at_most_once {
            return 1;
        }
        if full {
            self.queue.pop_front();
        }
        self.queue.push_back(outgoing);
        if let Some(attached) = &self.attached {
            attached.wake.notify_one();
        }
        u64::from(full)
    }

    /// Fills `outbox`: first with messages to redeliver, in their original order, then with waiting ones. Returns how
    /// many messages were dropped because they had expired or were too large for the client.
    pub(crate) fn fill(&mut self, outbox: &mut Outbox, now: Instant) -> u64 {
        let mut dropped = 0;
        while outbox.has_room() {
            let sent = if self.sent < self.in_flight.len() {
                if self.sent >= outbox.window() {
                    break;
                }
                self.send_again(outbox, now)
            } else {
                match self.queue.front() {
                    None => break,
                    Some(next) if next.qos > Qos::AtMostOnce && self.sent >= outbox.window() => break,
                    Some(_) => self.send_next(outbox, now),
                }
            };
            dropped += u64::from(!sent);
        }
        dropped
    }

    fn send_again(&mut self, outbox: &mut Outbox, now: Instant) -> bool {
        if self.in_flight[self.sent].pkid == 0 {
            let pkid = self.take_pkid(outbox);
            self.in_flight[self.sent].pkid = pkid;
        }
        let InFlight { serial, pkid, outgoing } = &self.in_flight[self.sent];
        if outbox.publish(outgoing, *pkid, *serial, true, now) {
            self.sent += 1;
            return true;
        }
        self.forget(self.sent);
        false
    }

    fn send_next(&mut self, outbox: &mut Outbox, now: Instant) -> bool {
        let Some(outgoing) = self.queue.pop_front().filter(|next| !next.message.has_expired(now)) else {
            return false;
        };
        if outgoing.qos == Qos::AtMostOnce {
            return outbox.publish(&outgoing, 0, 0, false, now);
        }
        let pkid = self.take_pkid(outbox);
        self.next_serial += 1;
        let serial = self.next_serial;
        let sent = outbox.publish(&outgoing, pkid, serial, false, now);
        if sent {
            self.in_flight.push_back(InFlight { serial, pkid, outgoing });
            self.sent += 1;
        } else {
            self.pkids.remove(&pkid);
        }
        sent
    }

    /// An unused packet identifier. One exists, since the window is at most 65535.
    fn take_pkid(&mut self, outbox: &mut Outbox) -> u16 {
        let scripted = outbox.scripted_pkid(|pkid| self.pkids.contains(&pkid));
        let pkid = scripted.unwrap_or_else(|| {
            loop {
                self.last_pkid = self.last_pkid.checked_add(1).unwrap_or(1);
                if !self.pkids.contains(&self.last_pkid) {
                    return self.last_pkid;
                }
            }
        });
        self.pkids.insert(pkid);
        pkid
    }

    /// The message with this serial number has been acknowledged.
    pub(crate) fn acknowledge(&mut self, serial: u64) {
        let sent = self.in_flight.iter().take(self.sent);
        if let Some(index) = sent.into_iter().position(|in_flight| in_flight.serial == serial) {
            self.forget(index);
            self.sent -= 1;
        }
    }

    fn forget(&mut self, index: usize) {
        if let Some(in_flight) = self.in_flight.remove(index) {
            self.pkids.remove(&in_flight.pkid);
        }
    }
}
