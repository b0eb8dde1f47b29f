//! Faults on demand: a [`Script`] says, as data, how the broker misbehaves on each connection it accepts.

use std::time::Duration;

use bytes::Bytes;
pub use rumqttc::v5::mqttbytes::v5::{PubAckReason, SubscribeReasonCode};

/// What the broker does on its first, second, … accepted connection.
#[derive(Clone, Debug, Default)]
pub struct Script {
    connections: Vec<Behaviour>,
    repeat_last: bool,
}

impl Script {
    /// One behaviour for each connection, in order of acceptance; on connections beyond the list the broker behaves.
    pub fn new(connections: impl IntoIterator<Item = Behaviour>) -> Script {
        Script { connections: connections.into_iter().collect(), repeat_last: false }
    }

    /// The last behaviour of the list goes on for every later connection.
    pub fn repeat_last(self) -> Script {
        Script { repeat_last: true, ..self }
    }

    pub(crate) fn behaviour(&self, connection: usize) -> Behaviour {
        let beyond = if self.repeat_last { self.connections.last() } else { None };
        self.connections.get(connection).or(beyond).cloned().unwrap_or_default()
    }
}

/// How the broker treats one connection. The default is to behave.
#[derive(Clone, Debug, Default)]
pub struct Behaviour {
    /// What to do when a point is reached. Each step is taken once; steps at the same point in the order given.
    pub steps: Vec<(Point, Action)>,
    /// So many PUBACKs are recorded, then treated as if they had never arrived.
    pub pubacks_ignored: u64,
    /// Every QoS 1 PUBLISH goes out twice, the second time with DUP. The copies do not count in [`Point::Publishes`].
    pub duplicate_publishes: bool,
    /// Packet identifiers in this order instead of counting up.
    pub packet_ids: Option<PacketIds>,
    /// Redelivered messages get new packet identifiers, as some brokers do.
    pub renumber: bool,
    /// The stored session of the client is lost before CONNECT is answered, so that no session is present.
    pub forget_session: bool,
    /// Server Keep Alive in CONNACK (MQTT 5); the broker then enforces this one, and none when it is 0.
    pub server_keep_alive: Option<u16>,
    /// CONNECT is refused with this return code (3.1.1: 1–5) or reason code (5: 0x80 and above).
    pub refuse_connect: Option<u8>,
    /// Every filter of every SUBSCRIBE is refused with this code (3.1.1: always 0x80).
    pub refuse_subscribe: Option<SubscribeReasonCode>,
    /// PUBLISHes of the client are taken and never acknowledged.
    pub withhold_pubacks: bool,
    /// PUBLISHes of the client are not taken, and acknowledged with this reason (MQTT 5 only).
    pub refuse_publish: Option<PubAckReason>,
    /// Messages larger than the client's Maximum Packet Size are sent all the same.
    pub ignore_packet_size_max: bool,
    /// More messages are under way to the client than its Receive Maximum allows (mosquitto 2.0.11 does that).
    pub ignore_receive_max: bool,
}

impl Behaviour {
    /// Closes once `publishes` PUBLISHes are out; no PUBACK is processed. Needs a window of at least as many.
    pub fn close_after_publishes(publishes: u64) -> Behaviour {
        let behaviour = Behaviour { pubacks_ignored: u64::MAX, ..Behaviour::default() };
        behaviour.then(Point::Publishes(publishes), Action::Close)
    }

    /// Ignores the first `pubacks` PUBACKs and closes on the last of them.
    pub fn close_after_ignored_pubacks(pubacks: u64) -> Behaviour {
        let behaviour = Behaviour { pubacks_ignored: pubacks, ..Behaviour::default() };
        behaviour.then(Point::PubAcks(pubacks), Action::Close)
    }

    /// Stops reading and writing, without closing, once `publishes` PUBLISHes are out.
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

    /// Writes `bytes` once `publishes` PUBLISHes are out.
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
    /// CONNECT has been read and not yet answered.
    Connect,
    /// CONNACK has been sent.
    ConnAck,
    /// A SUBACK has been sent.
    SubAck,
    /// So many PUBLISHes, redeliveries included, have been sent on this connection.
    Publishes(u64),
    /// So many PUBACKs have been received on this connection.
    PubAcks(u64),
    /// So many PUBLISHes have been received on this connection.
    Received(u64),
}

/// What to do at a [`Point`]. What had been written before is flushed first.
#[derive(Clone, Debug)]
pub enum Action {
    /// Close in an orderly way: the client reads everything sent so far, then end of file.
    Close,
    /// Reset the connection; the client may lose what was sent and it has not read.
    Reset,
    /// Send DISCONNECT with this reason code (MQTT 5 only) and close.
    Disconnect(u8),
    /// Stop reading and writing, and leave the connection open until the broker shuts down.
    HalfOpen,
    /// Write these bytes as they are.
    Write(Bytes),
    /// Read and write nothing for so long.
    Delay(Duration),
}

/// The order in which packet identifiers are used. An identifier in use is passed over.
#[derive(Clone, Debug)]
pub enum PacketIds {
    /// These, again and again.
    Sequence(Vec<u16>),
    /// From 65535 down.
    Descending,
    /// In an order that depends on the seed only.
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

/// Where a connection is in its [`PacketIds`].
#[derive(Debug)]
pub(crate) struct PacketIdCursor {
    ids: PacketIds,
    next: u64,
}

impl PacketIdCursor {
    pub(crate) fn new(ids: PacketIds) -> PacketIdCursor {
        PacketIdCursor { ids, next: 0 }
    }

    /// The next identifier that is not `in_use`; `None` when a full round of tries found none.
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

/// How far a connection has come.
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

/// The steps of a [`Behaviour`] that are still to be taken.
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

    /// How many PUBLISHes may go out before a step is due; no more than that may be sent at once.
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
