//! Whether the broker may still be delivering what it had queued for the session before this connection. Pure.
//!
//! MQTT does not say when that queue is empty, but it can be shown. A broker that has something queued keeps as many QoS 1
//! messages in flight as it may, and it takes our packets in order. So if it answers a PINGREQ while fewer are in flight
//! than once were on this connection, nothing waited behind them.

/// The session's queue at the broker, as far as one connection knows it.
#[derive(Debug)]
pub(super) struct SessionQueue {
    is_empty: bool,
    /// QoS 1 messages that were read, and PUBACKs for them that were written.
    read: usize,
    acked: usize,
    /// Most that were in flight at once; the broker may have at least one.
    most: usize,
    /// PUBACKs that were written before the PINGREQ that is not answered.
    asked: Option<usize>,
}

impl SessionQueue {
    /// That of a new connection, to a session that was kept or to a new one, which has no queue.
    pub(super) fn new(session_present: bool) -> SessionQueue {
        SessionQueue { is_empty: !session_present, read: 0, acked: 0, most: 1, asked: None }
    }

    /// What was read from now on was not in the queue.
    pub(super) fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// So many QoS 1 messages were read.
    pub(super) fn read(&mut self, messages: usize) {
        self.read += messages;
        self.most = self.most.max(self.read - self.acked);
    }

    /// So many of them were acknowledged.
    pub(super) fn acknowledged(&mut self, messages: usize) {
        self.acked = (self.acked + messages).min(self.read);
    }

    /// Whether to send a PINGREQ now, because its answer may show something.
    pub(super) fn asks(&mut self) -> bool {
        let asks = !self.is_empty && self.asked.is_none() && self.read - self.acked < self.most;
        if asks {
            self.asked = Some(self.acked);
        }
        asks
    }

    /// Every PINGREQ is answered.
    pub(super) fn answered(&mut self) {
        // What the broker had in flight when it answered is at most this.
        if self.asked.take().is_some_and(|acked| self.read - acked < self.most) {
            self.is_empty = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A broker that has `queued` messages and room for `window` in flight, and answers after it has sent what it can.
    fn rounds(queued: usize, window: usize) -> (usize, usize) {
        let (mut queue, mut left, mut read, mut rounds) = (SessionQueue::new(true), queued, 0, 0);
        while !queue.is_empty() {
            // With its CONNACK, and then after our PUBACKs.
            let asked_first = queue.asks();
            let sent = left.min(window);
            left -= sent;
            read += sent;
            queue.read(sent);
            if asked_first {
                queue.answered();
            }
            assert!(!queue.is_empty() || left == 0, "{queued} {window}: {left} are left");
            queue.acknowledged(sent);
            rounds += 1;
        }
        (read, rounds)
    }

    #[test]
    fn the_queue_is_empty_once_a_ping_is_answered_with_room_in_flight() {
        assert!(SessionQueue::new(false).is_empty());
        // Nothing is queued: the first answer says so.
        assert_eq!(rounds(0, 20), (0, 1));
        // The last round has room, and the first says nothing, because it may have been all that the broker may send.
        assert_eq!(rounds(5, 20), (5, 2));
        assert_eq!(rounds(20, 20), (20, 2));
        assert_eq!(rounds(50, 20), (50, 3));
        assert_eq!(rounds(3, 1), (3, 4));
    }

    #[test]
    fn messages_that_are_not_acknowledged_may_be_all_that_the_broker_may_send() {
        let mut queue = SessionQueue::new(true);
        assert!(queue.asks());
        queue.read(2);
        queue.answered();
        assert!(!queue.is_empty() && !queue.asks());
        // An acknowledgement that the broker had not seen when it was asked says nothing about its answer.
        queue.acknowledged(1);
        assert!(queue.asks());
        queue.acknowledged(1);
        queue.read(1);
        queue.answered();
        assert!(!queue.is_empty());
        assert!(queue.asks() && !queue.asks());
        queue.answered();
        assert!(queue.is_empty() && !queue.asks());
    }
}
