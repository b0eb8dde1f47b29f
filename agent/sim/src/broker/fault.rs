//! Faults on demand: a [`Script`] describes, as data, how the broker misbehaves on each connection.

use std::time::Duration;

use bytes::Bytes;
pub use rumqttc::v5::mqttbytes::v5::{PubAckReason, SubscribeReasonCode};

/// The broker's behaviour on its first, second, … accepted connection.
#[derive(Clone, Debug, Default)]
pub struct Script {
    connections: Vec<Behaviour>,
    repeat_last: bool,
}

impl Script {
    /// One behaviour per connection, in order of acceptance; further connections are served normally.
    pub fn new(connections: impl IntoIterator<Item = Behaviour>) -> Script {
        Script { connections: connections.into_iter().collect(), repeat_last: false }
    }

    /// Applies the last behaviour of the list to every later connection.
    pub fn repeat_last(self) -> Script {
        Script { repeat_last: true, ..self }
    }

    pub(crate) fn behaviour(&self, connection: usize) -> Behaviour {
        let beyond = if self.repeat_last { self.connections.last() } else { None };
        self.connections.get(connection).or(beyond).cloned().unwrap_or_default()
    }
}

/// The behaviour on one connection. The default is normal service.
#[derive(Clone, Debug, Default)]
pub struct Behaviour {
    /// Actions at points. Each is taken once; actions at the same point are taken in order.
    pub steps: Vec<(Point, Action)>,
    /// Number of PUBACKs that are recorded, then ignored.
    pub pubacks_ignored: u64,
    /// Sends every QoS 1 PUBLISH twice, the second time with DUP. The copies do not count in [`Point::Publishes`].
    pub duplicate_publishes: bool,
    /// Uses packet identifiers in this order instead of counting up.
    pub packet_ids: Option<PacketIds>,
    /// Gives redelivered messages new packet identifiers, as some brokers do.
    pub renumber: bool,
    /// Drops the client's stored session before answering CONNECT, so that no session is present.
    pub forget_session: bool,
    /// Server Keep Alive in CONNACK (MQTT 5), which the broker then enforces; 0: none.
    pub server_keep_alive: Option<u16>,
    /// Refuses CONNECT with this return code (3.1.1: 1–5) or reason code (5: 0x80 and above).
    pub refuse_connect: Option<u8>,
    /// Refuses every filter of every SUBSCRIBE with this code (3.1.1: always 0x80).
    pub refuse_subscribe: Option<SubscribeReasonCode>,
    /// Accepts the client's PUBLISHes but never acknowledges them.
    pub withhold_pubacks: bool,
    /// Rejects the client's PUBLISHes with this reason in the PUBACK (MQTT 5 only).
    pub refuse_publish: Option<PubAckReason>,
    /// Sends messages that exceed the client's Maximum Packet Size.
    pub ignore_packet_size_max: bool,
    /// Sends more messages than the client's Receive Maximum allows (as mosquitto 2.0.11 does).
    pub ignore_receive_max: bool,
}

impl Behaviour {
    /// Closes once `publishes` PUBLISHes are sent, without processing any PUBACK. Needs a window of at least this size.
    pub fn close_after_publishes(publishes: u64) -> Behaviour {
        let behaviour = Behaviour { pubacks_ignored: u64::MAX, ..Behaviour::default() };
        behaviour.then(Point::Publishes(publishes), Action::Close)
    }

    /// Ignores the first `pubacks` PUBACKs and closes on the last of them.
    pub fn close_after_ignored_pubacks(pubacks: u64) -> Behaviour {
        let behaviour = Behaviour { pubacks_ignored: pubacks, ..Behaviour::default() };
        behaviour.then(Point::PubAcks(pubacks), Action::Close)
    }

    /// Stops reading and writing, without closing, once `publishes` PUBLISHes are sent.
    pub fn half_open_after_publishes(publishes: u64) -> Behaviour {
        Behaviour::default().then(Point::Publishes(publishes), Action::HalfOpen)
    }

    /// Never answers CONNECT.
    pub fn never_answer() -> Behaviour {
        Behaviour::default().then(Point::Connect, Action::HalfOpen)
    }

    /// Refuses CONNECT with `code`.
    pub fn refuse(code: u8) -> Behaviour {
        Behaviour { refuse_connect: Some(code), ..Behaviour::default() }
    }

    /// Writes `bytes` once `publishes` PUBLISHes are sent.
    pub fn raw_after_publishes(publishes: u64, bytes: impl Into<Bytes>) -> Behaviour {
        Behaviour::default().then(Point::Publishes(publishes), Action::Write(bytes.into()))
    }

    /// Adds a step.
    pub fn then(mut self, at: Point, action: Action) -> Behaviour {
        self.steps.push((at, action));
        self
    }
}

/// A point in the life of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// CONNECT has been read and not answered yet.
    Connect,
    /// CONNACK has been sent.
    ConnAck,
    /// A SUBACK has been sent.
    SubAck,
    /// This many PUBLISHes, including redeliveries, have been sent on this connection.
    Publishes(u64),
    /// This many PUBACKs have been received on this connection.
    PubAcks(u64),
    /// This many PUBLISHes have been received on this connection.
    Received(u64),
}

/// The action at a [`Point`]. Pending output is flushed first.
#[derive(Clone, Debug)]
pub enum Action {
    /// Close in an orderly way: the client reads everything sent so far, then end of file.
    Close,
    /// Reset the connection; the client may lose data that it has not read.
    Reset,
    /// Send DISCONNECT with this reason code (MQTT 5 only) and close.
    Disconnect(u8),
    /// Stop reading and writing, and leave the connection open until the broker shuts down.
    HalfOpen,
    /// Write these bytes as they are.
    Write(Bytes),
    /// Read and write nothing for this long.
    Delay(Duration),
}

/// The order of packet identifiers. An identifier in use is skipped.
#[derive(Clone, Debug)]
pub enum PacketIds {
    /// These, repeatedly.
    Sequence(Vec<u16>),
    /// From 65535 down.
    Descending,
    /// In an order that depends only on the seed.
    Random {
        /// Any number.
        seed: u64,
    },
}

impl PacketIds {
    /// The `n`th identifier; 0 when there is none.
    fn nth(&self, n: u64) -> u16 {
        match self {
            PacketIds::Sequence(ids) if ids.is_empty() => 0,
            PacketIds::Sequence(ids) => ids[(n % ids.len() as u64) as usize],
            PacketIds::Descending => u16::MAX - (n % u64::from(u16::MAX)) as u16,
            PacketIds::Random { seed } => (mix(seed ^ mix(n)) >> 48) as u16,
        }
    }
}

/// The finalizer of SplitMix64: every input bit reaches every output bit.
fn mix(seed: u64) -> u64 {
    let a = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let b = (a ^ (a >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let c = (b ^ (b >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    c ^ (c >> 31)
}

/// The progress of a connection in its [`PacketIds`].
#[derive(Debug)]
pub(crate) struct PacketIdCursor {
    ids: PacketIds,
    next: u64,
}

impl PacketIdCursor {
    pub(crate) fn new(ids: PacketIds) -> PacketIdCursor {
        PacketIdCursor { ids, next: 0 }
    }

    /// The next identifier that is not `in_use`; `None` when a full round found none.
    pub(crate) fn take(&mut self, in_use: impl Fn(u16) -> bool) -> Option<u16> {
        for _ in 0..=u16::MAX {
            let id = self.ids.nth(self.next);
            self.next += 1;
            if id != 0 && !in_use(id) {
                return Some(id);
            }
        }
        None
    }
}

/// The progress of a connection.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) connacked: bool,
    pub(crate) subacks: u64,
    pub(crate) publishes: u64,
    pub(crate) pubacks: u64,
    pub(crate) received: u64,
}

impl Progress {
    fn has_reached(&self, point: Point) -> bool {
        match point {
            Point::Connect => true,
            Point::ConnAck => self.connacked,
            Point::SubAck => self.subacks > 0,
            Point::Publishes(n) => self.connacked && self.publishes >= n,
            Point::PubAcks(n) => self.connacked && self.pubacks >= n,
            Point::Received(n) => self.connacked && self.received >= n,
        }
    }
}

/// The remaining steps of a [`Behaviour`].
#[derive(Debug)]
pub(crate) struct Steps(Vec<(Point, Action)>);

impl Steps {
    pub(crate) fn new(steps: Vec<(Point, Action)>) -> Steps {
        Steps(steps)
    }

    /// The next action that is due.
    pub(crate) fn take_due(&mut self, progress: &Progress) -> Option<Action> {
        let due = self.0.iter().position(|(point, _)| progress.has_reached(*point))?;
        Some(self.0.remove(due).1)
    }

    /// How many PUBLISHes may be sent before a step is due.
    pub(crate) fn publishes_max(&self) -> u64 {
        let publishes = self.0.iter().filter_map(|(point, _)| match point {
            Point::Publishes(n) => Some(*n),
            _ => None,
        });
        publishes.min().unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep_alives(script: &Script, connections: usize) -> Vec<Option<u16>> {
        (0..connections).map(|n| script.behaviour(n).server_keep_alive).collect()
    }

    #[test]
    fn a_script_ends_or_repeats_its_last_behaviour() {
        let with = |n| Behaviour { server_keep_alive: Some(n), ..Behaviour::default() };
        let script = Script::new([with(1), with(2)]);
        assert_eq!(keep_alives(&script, 4), [Some(1), Some(2), None, None]);
        assert_eq!(keep_alives(&script.repeat_last(), 4), [Some(1), Some(2), Some(2), Some(2)]);
        assert_eq!(keep_alives(&Script::default().repeat_last(), 1), [None]);
    }

    #[test]
    fn steps_are_taken_once_and_when_due() {
        let behaviour = Behaviour::half_open_after_publishes(3).then(Point::PubAcks(1), Action::Close);
        let mut steps = Steps::new(behaviour.steps);
        let mut progress = Progress { connacked: true, publishes: 2, ..Progress::default() };
        assert_eq!(steps.publishes_max(), 3);
        assert!(steps.take_due(&progress).is_none());
        progress.pubacks = 1;
        assert!(matches!(steps.take_due(&progress), Some(Action::Close)));
        assert!(steps.take_due(&progress).is_none());
        progress.publishes = 3;
        assert!(matches!(steps.take_due(&progress), Some(Action::HalfOpen)));
        assert_eq!(steps.publishes_max(), u64::MAX);
    }

    #[test]
    fn packet_ids_follow_their_order_and_skip_those_in_use() {
        let take = |ids: PacketIds, n: usize| -> Vec<Option<u16>> {
            let mut cursor = PacketIdCursor::new(ids);
            (0..n).map(|_| cursor.take(|id| id == 7)).collect()
        };
        assert_eq!(take(PacketIds::Sequence(vec![9, 7, 3]), 3), [Some(9), Some(3), Some(9)]);
        assert_eq!(take(PacketIds::Sequence(vec![7]), 1), [None]);
        assert_eq!(take(PacketIds::Sequence(vec![]), 1), [None]);
        assert_eq!(take(PacketIds::Descending, 2), [Some(65535), Some(65534)]);
        assert_eq!(take(PacketIds::Descending, 65535).last().copied().flatten(), Some(65535));
        let random = take(PacketIds::Random { seed: 1 }, 20);
        assert_eq!(random, take(PacketIds::Random { seed: 1 }, 20));
        assert_ne!(random, take(PacketIds::Random { seed: 2 }, 20));
    }
}
