//! Sparkplug without the observer: payloads with the values of their metrics, and the session of an edge node.

use bytes::Bytes;
use fieldlog::sparkplug::payload::Certificate;
use fieldlog::sparkplug::property::Properties;
use fieldlog::sparkplug::session::{HELD_BYTES_MAX, HELD_MAX, NodeSession, Reason, This, Trust};
use fieldlog::sparkplug::topic::{SparkplugTopic, is_sparkplug};
use fieldlog::sparkplug::value::value;
use fieldlog_projections::Time;

use crate::json::check_value;
use crate::{TEXT_MAX, byte};

/// The first byte selects a payload, a topic or the steps of a session, which follows.
pub fn run(data: &[u8]) {
    let mut data = data;
    match byte(&mut data) % 4 {
        0 => session(data),
        1 => topic(data),
        _ => payload(data),
    }
}

fn payload(data: &[u8]) {
    let Ok(payload) = Certificate::decode(Bytes::copy_from_slice(data)) else { return };
    payload.birth();
    for metric in &payload.metrics {
        if let Ok(said) = Properties::read(metric) {
            assert!(said.bad_quality.is_none_or(|quality| !(192..256).contains(&quality)));
            assert!([said.min, said.max].into_iter().flatten().all(f64::is_finite));
        }
        let Some(raw) = &metric.value else { continue };
        if let Ok(value) = value(metric.datatype.unwrap_or_default(), raw, TEXT_MAX) {
            check_value(value.borrow(), TEXT_MAX);
        }
    }
}

fn topic(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(topic) = SparkplugTopic::parse(text) else { return };
    assert!(is_sparkplug(data));
    let levels = [Some(topic.group), Some(topic.node), topic.device];
    assert!(levels.iter().flatten().all(|level| !level.is_empty() && !level.contains('/')));
}

/// A waiting message: its index among all, and its number.
type Waiting = (usize, u8);

/// The state of the session as seen from outside.
#[derive(Default)]
struct Told {
    /// Messages given to the session that wait in it.
    held: Vec<usize>,
    /// The number of the last message that was accepted with full trust.
    last: Option<u8>,
}

impl Told {
    /// A message comes out of the session.
    fn out(&mut self, (place, seq): Waiting, trust: Trust) {
        let known = self.held.iter().position(|held| *held == place);
        self.held.remove(known.expect("a message came out twice, or was never in"));
        self.taken(seq, trust);
    }

    fn taken(&mut self, seq: u8, trust: Trust) {
        match trust {
            Trust::Full => {
                let last = self.last.expect("full trust before a birth");
                assert_eq!(seq, last.wrapping_add(1), "full trust in a message out of order");
                self.last = Some(seq);
            }
            Trust::NamesOnly => self.last = None,
        }
    }

    fn all_out(&mut self, messages: Vec<(Waiting, Trust)>) {
        messages.into_iter().for_each(|(message, trust)| self.out(message, trust));
    }
}

fn session(data: &[u8]) {
    let mut data = data;
    let mut session: NodeSession<Waiting> = match byte(&mut data) {
        0..64 => NodeSession::restored(true, Some(1), None, Time(0)),
        64..128 => NodeSession::restored(false, Some(1), None, Time(0)),
        _ => NodeSession::default(),
    };
    let (mut told, mut now, mut asked) = (Told::default(), Time(0), Vec::new());
    for place in 0.. {
        if data.is_empty() {
            break;
        }
        let step = byte(&mut data);
        let seq = byte(&mut data);
        match step % 16 {
            0 => {
                let birth = (step & 0x80 == 0).then_some(u64::from(step >> 4));
                let taken = session.born(birth, seq, now);
                assert_eq!((taken.this, taken.then.len()), (This::Apply(Trust::Full), 0));
                told = Told { held: Vec::new(), last: Some(seq) };
                asked.clear();
                assert!(session.is_alive() && !session.is_stale());
            }
            1 => {
                if session.died((step & 0x80 == 0).then_some(u64::from(step >> 4))) {
                    told = Told::default();
                    assert!(!session.is_alive() && session.held() == 0);
                }
            }
            2 => told.all_out(session.elapse(now, 2_000_000)),
            3 => told.all_out(session.give_up()),
            4 => told.all_out(session.reconnected(now)),
            5 => session.doubt(Reason::UnknownMetric),
            6 => session.miss(Reason::NoBirth),
            7 => {
                now = Time(i64::from(seq) * 1_000_000);
                session.clock_stepped(now);
                asked.clear();
            }
            8 => now.0 += i64::from(seq) * 300_000,
            9 => {
                if session.ask(now).is_some() {
                    let soon = asked.last().is_some_and(|last: &Time| now.micros_since(*last) < 10_000_000);
                    assert!(!soon, "asked for births twice in ten seconds");
                    asked.push(now);
                }
            }
            kind => {
                let bytes = if step >= 0xf0 { HELD_BYTES_MAX / 2 } else { usize::from(seq) };
                let mut held = false;
                let hold = || {
                    held = kind != 10;
                    held.then_some(((place, seq), bytes))
                };
                let taken = session.take(seq, now, hold);
                match taken.this {
                    This::Apply(trust) => told.taken(seq, trust),
                    This::Held => told.held.push(place),
                    This::Drop => assert!(!session.is_alive()),
                }
                assert!(held || taken.this != This::Held);
                told.all_out(taken.then);
            }
        }
        assert_eq!(session.held(), told.held.len(), "a message was lost");
        assert!(session.held() <= HELD_MAX && session.held_bytes() <= HELD_BYTES_MAX);
        assert_eq!(session.due(2_000_000).is_some(), session.held() > 0);
    }
}
