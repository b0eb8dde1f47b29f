//! State shared by all connections: sessions, retained messages, counters. Always behind one short lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use rumqttc::v5::mqttbytes::v5::RetainForwardRule;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

use crate::broker::message::{Message, Will};
use crate::broker::outbox::{Awaited, Outbox};
use crate::broker::session::{Attachment, Session};
use crate::broker::topic;
use crate::broker::wire::{Connect, Filter};
use crate::broker::{Acked, SessionInfo, Stats};

/// A will that waits for its delay, or for its client to come back.
#[derive(Debug)]
struct DelayedWill {
    client_id: String,
    due: Instant,
    will: Will,
}

#[derive(Debug)]
pub(crate) struct Router {
    sessions: HashMap<String, Session>,
    retained: BTreeMap<String, Arc<Message>>,
    wills: Vec<DelayedWill>,
    queue_max: usize,
    pub(crate) stats: Stats,
    /// `None` if acknowledgements are not recorded.
    pub(crate) acked: Option<Vec<Acked>>,
}

/// The answer to a CONNECT.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) session_present: bool,
    /// Notified when there may be something to send, or the session was taken over.
    pub(crate) wake: Arc<Notify>,
}

impl Router {
    pub(crate) fn new(queue_max: usize, record_acks: bool) -> Router {
        Router {
            sessions: HashMap::new(),
            retained: BTreeMap::new(),
            wills: Vec::new(),
            queue_max,
            stats: Stats::default(),
            acked: record_acks.then(Vec::new),
        }
    }

    /// Gives the client's session to `connection`, taking it from any other.
    pub(crate) fn attach(&mut self, connect: &mut Connect, connection: usize, now: Instant) -> Attached {
        let client_id = connect.client_id.clone();
        let mut old = self.sessions.remove(&client_id);
        if let Some(attachment) = old.as_mut().and_then(Session::detach) {
            attachment.wake.notify_one();
            self.will_of_lost_connection(&client_id, attachment.will, None, now);
        }
        let old = old.filter(|old| !connect.clean_start && old.expires.is_none_or(|expires| expires > now));
        self.settle_wills(&client_id, old.is_some());
        let wake = Arc::new(Notify::new());
        let session_present = old.is_some();
        let mut session = old.unwrap_or_default();
        let attachment = Attachment { connection, wake: Arc::clone(&wake), will: connect.will.take() };
        session.attach(attachment, expiry(connect.session_expiry_s));
        self.sessions.insert(client_id, session);
        Attached { session_present, wake }
    }

    /// Drops the session of a client, as a broker without persistence does when it restarts.
    pub(crate) fn forget(&mut self, client_id: &str) {
        if let Some(attachment) = self.sessions.remove(client_id).and_then(|mut session| session.detach()) {
            attachment.wake.notify_one();
        }
    }

    pub(crate) fn renumber(&mut self, client_id: &str) {
        if let Some(session) = self.sessions.get_mut(client_id) {
            session.renumber();
        }
    }

    /// The session of `client_id`, if `connection` still has it.
    fn session(&mut self, client_id: &str, connection: usize) -> Result<&mut Session, TakenOver> {
        let session = self.sessions.get_mut(client_id).ok_or(TakenOver)?;
        let attached = session.attached.as_ref().is_some_and(|attached| attached.connection == connection);
        if attached { Ok(session) } else { Err(TakenOver) }
    }

    /// Detaches a connection from its session. `expiry_s` replaces the value from CONNECT.
    pub(crate) fn detach(
        &mut self,
        client_id: &str,
        connection: usize,
        publish_will: bool,
        expiry_s: Option<u32>,
        now: Instant,
    ) {
        let Ok(session) = self.session(client_id, connection) else {
            return;
        };
        if let Some(expiry_s) = expiry_s {
            session.expiry = expiry(expiry_s);
        }
        let session_expiry = session.expiry;
        session.expires = session_expiry.map(|expiry| now + expiry);
        let will = session.detach().and_then(|attachment| attachment.will).filter(|_| publish_will);
        if session_expiry == Some(Duration::ZERO) {
            self.sessions.remove(client_id);
        }
        self.will_of_lost_connection(client_id, will, session_expiry, now);
    }

    /// A will is published after its delay or at the end of its session, whichever is first.
    fn will_of_lost_connection(
        &mut self,
        client_id: &str,
        will: Option<Will>,
        session_expiry: Option<Duration>,
        now: Instant,
    ) {
        let Some(will) = will else { return };
        let delay = session_expiry.map_or(will.delay, |expiry| expiry.min(will.delay));
        if delay.is_zero() {
            self.publish(will.message, None);
        } else {
            self.wills.push(DelayedWill { client_id: client_id.to_owned(), due: now + delay, will });
        }
    }

    /// The client is back: if its session continues, its will is dropped; if it ended, the will is published.
    fn settle_wills(&mut self, client_id: &str, resumed: bool) {
        let mine = self.wills.extract_if(.., |will| will.client_id == client_id).collect::<Vec<_>>();
        for delayed in mine.into_iter().filter(|_| !resumed) {
            self.publish(delayed.will.message, None);
        }
    }

    /// When [`Router::expire`] is next due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let sessions = self.sessions.values().filter_map(|session| session.expires);
        sessions.chain(self.wills.iter().map(|will| will.due)).min()
    }

    /// Publishes the due wills and removes the expired sessions.
    pub(crate) fn expire(&mut self, now: Instant) {
        for delayed in self.wills.extract_if(.., |will| will.due <= now).collect::<Vec<_>>() {
            self.publish(delayed.will.message, None);
        }
        self.sessions.retain(|_, session| session.expires.is_none_or(|expires| expires > now));
    }

    /// Gives a message to every matching session. `from` is the client that published it.
    pub(crate) fn publish(&mut self, message: Message, from: Option<&str>) {
        let message = Arc::new(message);
        if message.retain {
            self.retain(&message);
        }
        for (client_id, session) in &mut self.sessions {
            let own = from == Some(client_id.as_str());
            self.stats.dropped += session.offer(&message, own, self.queue_max);
        }
    }

    fn retain(&mut self, message: &Message) {
        if message.payload.is_empty() {
            self.retained.remove(&message.topic);
        } else {
            // A copy, because it may stay long and the original keeps a whole read buffer alive.
            let payload = Bytes::copy_from_slice(&message.payload);
            let message = Message { payload, ..message.clone() };
            self.retained.insert(message.topic.clone(), Arc::new(message));
        }
    }

    /// A PUBLISH from a client.
    pub(crate) fn publish_from(
        &mut self,
        client_id: &str,
        connection: usize,
        message: Message,
    ) -> Result<(), TakenOver> {
        self.session(client_id, connection)?;
        self.stats.messages_in += 1;
        self.publish(message, Some(client_id));
        Ok(())
    }

    /// Subscribes to a valid filter, and queues the matching retained messages.
    pub(crate) fn subscribe(
        &mut self,
        client_id: &str,
        connection: usize,
        filter: &Filter,
        now: Instant,
    ) -> Result<(), TakenOver> {
        let new = self.session(client_id, connection)?.subscribe(filter.clone());
        let wanted = match filter.retain_handling {
            RetainForwardRule::OnEverySubscribe => true,
            RetainForwardRule::OnNewSubscribe => new,
            RetainForwardRule::Never => false,
        };
        let Some(session) = self.sessions.get_mut(client_id).filter(|_| wanted) else {
            return Ok(());
        };
        for (name, message) in &self.retained {
            if topic::matches(&filter.path, name) && !message.has_expired(now) {
                self.stats.dropped += session.offer_retained(message, filter, self.queue_max);
            }
        }
        Ok(())
    }

    /// Returns whether the subscription existed.
    pub(crate) fn unsubscribe(
        &mut self,
        client_id: &str,
        connection: usize,
        filter: &str,
    ) -> Result<bool, TakenOver> {
        Ok(self.session(client_id, connection)?.unsubscribe(filter))
    }

    /// Moves what may be sent to the client into `outbox`.
    pub(crate) fn fill(
        &mut self,
        client_id: &str,
        connection: usize,
        outbox: &mut Outbox,
        now: Instant,
    ) -> Result<(), TakenOver> {
        let before = outbox.publishes;
        let dropped = self.session(client_id, connection)?.fill(outbox, now);
        self.stats.dropped += dropped;
        self.stats.messages_out += outbox.publishes - before;
        Ok(())
    }

    /// A PUBACK. `found` is its PUBLISH and whether it came in order; `heed` is false if the script ignores it.
    pub(crate) fn acknowledge(
        &mut self,
        client_id: &str,
        connection: usize,
        found: Option<(Awaited, bool)>,
        heed: bool,
    ) -> Result<(), TakenOver> {
        self.stats.pubacks_in += 1;
        let Some((awaited, in_turn)) = found else {
            self.stats.stray_acks += 1;
            return Ok(());
        };
        self.stats.misordered_acks += u64::from(!in_turn);
        self.record(connection, &awaited);
        let session = self.session(client_id, connection)?;
        if heed {
            session.acknowledge(awaited.serial);
        }
        Ok(())
    }

    fn record(&mut self, connection: usize, awaited: &Awaited) {
        if let Some(acked) = &mut self.acked {
            let Message { topic, payload, .. } = awaited.message.as_ref();
            let (topic, payload) = (topic.clone(), Bytes::clone(payload));
            acked.push(Acked { connection, pkid: awaited.pkid, topic, payload });
        }
    }

    pub(crate) fn session_info(&self, client_id: &str) -> Option<SessionInfo> {
        self.sessions.get(client_id).map(|session| SessionInfo {
            connected: session.attached.is_some(),
            queued: session.queued(),
            in_flight: session.in_flight(),
        })
    }

    pub(crate) fn retained_count(&self) -> usize {
        self.retained.len()
    }
}

fn expiry(seconds: u32) -> Option<Duration> {
    (seconds != u32::MAX).then(|| Duration::from_secs(u64::from(seconds)))
}

/// The session now belongs to another connection, or is gone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TakenOver;
