//! How much may wait for the log before a source stops reading. This is the only back-pressure: the socket fills, and
//! the broker holds the rest.

use std::collections::VecDeque;

/// Room for QoS 0 messages beside the receive window, which does not count them.
const SPARE_MESSAGES: usize = 1000;

/// Maximum payload and framing bytes of one source waiting for their commit; one packet being read comes on top.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// Maximum messages of a source in the writer before the source stops reading; one read may exceed it. This also bounds
/// the deliveries in the writer's queue, each of which has at least one message.
pub fn outstanding_max(receive_window: u16) -> usize {
    usize::from(receive_window) + SPARE_MESSAGES
}

/// What a source has passed to the writer, over all its connections.
#[derive(Debug)]
pub(super) struct Window {
    messages_max: usize,
    bytes_max: usize,
    deliveries: VecDeque<(usize, usize)>,
    messages: usize,
    bytes: usize,
}

impl Window {
    pub(super) fn new(receive_window: u16) -> Window {
        Window {
            messages_max: outstanding_max(receive_window),
            bytes_max: BYTES_MAX,
            deliveries: VecDeque::new(),
            messages: 0,
            bytes: 0,
        }
    }

    /// A delivery of this many messages, which keeps this many bytes alive, was passed on.
    pub(super) fn push(&mut self, messages: usize, bytes: usize) {
        self.deliveries.push_back((messages, bytes));
        self.messages += messages;
        self.bytes += bytes;
    }

    /// Whether more may be read while `outstanding` messages are not committed. The writer releases in order, so these
    /// are the last ones.
    pub(super) fn is_open(&mut self, outstanding: usize) -> bool {
        while let Some(&(messages, bytes)) = self.deliveries.front() {
            if self.messages - messages < outstanding {
                break;
            }
            self.messages -= messages;
            self.bytes -= bytes;
            self.deliveries.pop_front();
        }
        outstanding < self.messages_max && self.bytes < self.bytes_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_close_the_window_and_commits_open_it() {
        let mut window = Window::new(10);
        window.push(1009, 1);
        assert!(window.is_open(1009));
        window.push(1, 1);
        assert!(!window.is_open(1010));
        assert!(window.is_open(1));
        assert_eq!((window.deliveries.len(), window.bytes), (1, 1));
        assert!(window.is_open(0));
        assert_eq!((window.deliveries.len(), window.messages, window.bytes), (0, 0, 0));
    }

    #[test]
    fn bytes_close_it_before_messages_do() {
        let mut window = Window::new(1000);
        for _ in 0..8 {
            window.push(1, 1024 * 1024);
        }
        assert!(!window.is_open(8));
        // Half a delivery cannot be released: its bytes live as long as its last message.
        assert!(window.is_open(7));
        window.push(2, BYTES_MAX);
        assert!(!window.is_open(1));
        assert!(window.is_open(0));
    }
}
