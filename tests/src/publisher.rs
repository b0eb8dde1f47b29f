//! A publisher that knows which of its messages the broker has acknowledged, and which therefore must not be lost.

#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS};
use tokio::task::JoinHandle;

use crate::wait::until;

/// Maximum unacknowledged messages.
pub const IN_FLIGHT_MAX: u16 = 100;

/// A message to publish.
#[derive(Clone, Debug)]
pub struct Post {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// Retain flag.
    pub retain: bool,
}

impl Post {
    /// A message that is not retained.
    pub fn new(topic: impl Into<String>, payload: impl Into<Vec<u8>>) -> Post {
        Post { topic: topic.into(), payload: payload.into(), retain: false }
    }

    /// A retained message.
    pub fn retained(topic: impl Into<String>, payload: impl Into<Vec<u8>>) -> Post {
        Post { retain: true, ..Post::new(topic, payload) }
    }
}

/// Publishes with QoS 1, reconnecting as needed. Messages that were unacknowledged when a connection broke are not sent
/// again: whether they arrived is unknown.
pub struct Publisher {
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Post>,
    /// Passed to the client, not on the wire yet.
    handed: VecDeque<Post>,
    in_flight: HashMap<u16, Post>,
    acked: Vec<Post>,
    unknown: usize,
}

impl State {
    fn lost_connection(&mut self) {
        self.unknown += self.handed.len() + self.in_flight.len();
        self.handed.clear();
        self.in_flight.clear();
    }

    fn busy(&self) -> usize {
        self.handed.len() + self.in_flight.len()
    }
}

impl Publisher {
    /// Connects to a broker on this machine, and reconnects whenever the connection breaks.
    pub fn start(port: u16) -> Publisher {
        let state = Arc::default();
        let task = tokio::spawn(keep_connected(port, Arc::clone(&state)));
        Publisher { state, task }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Queues these for publishing.
    pub fn post(&self, posts: impl IntoIterator<Item = Post>) {
        self.state().waiting.extend(posts);
    }

    /// Number of messages waiting to be sent.
    pub fn waiting(&self) -> usize {
        self.state().waiting.len()
    }

    /// Waits until everything was sent and answered.
    pub async fn idle(&self) {
        until("the publisher's PUBACKs", || self.waiting() + self.state().busy() == 0).await;
    }

    /// The acknowledged messages, in order.
    pub fn acked(&self) -> Vec<Post> {
        self.state().acked.clone()
    }

    /// Number of messages in flight when a connection broke.
    pub fn unknown(&self) -> usize {
        self.state().unknown
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep_connected(port: u16, state: Arc<Mutex<State>>) {
    for number in 0.. {
        let mut options = MqttOptions::new(format!("publisher-{number}"), "127.0.0.1", port);
        options.set_inflight(IN_FLIGHT_MAX).set_max_packet_size(1 << 21, 1 << 26);
        let (client, events) = AsyncClient::new(options, usize::from(IN_FLIGHT_MAX));
        tokio::select! {
            () = feed(&client, &state) => {}
            () = poll(events, &state) => {}
        }
        state.lock().unwrap().lost_connection();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn feed(client: &AsyncClient, state: &Mutex<State>) {
    loop {
        let mut posts = Vec::new();
        {
            let mut state = state.lock().unwrap();
            while state.busy() < usize::from(IN_FLIGHT_MAX)
                && let Some(post) = state.waiting.pop_front()
            {
                state.handed.push_back(post.clone());
                posts.push(post);
            }
        }
        for post in posts {
            let sent = client.publish(post.topic, QoS::AtLeastOnce, post.retain, post.payload).await;
            if sent.is_err() {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn poll(mut events: EventLoop, state: &Mutex<State>) {
    while let Ok(event) = events.poll().await {
        let mut state = state.lock().unwrap();
        match event {
            Event::Outgoing(Outgoing::Publish(pkid)) => {
                let post = state.handed.pop_front().unwrap();
                state.in_flight.insert(pkid, post);
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                let post = state.in_flight.remove(&ack.pkid).unwrap();
                state.acked.push(post);
            }
            _ => {}
        }
    }
}
