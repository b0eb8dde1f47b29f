//! Random lives of many commands: whatever happens, what was promised holds, and the fold knows what the desk knows.

use std::collections::{BTreeMap, BTreeSet};

use fieldlog_projections::command::CommandState;
use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Event {
    /// Somebody asks: for the lamp, which property, idempotent, on_offline, with evidence.
    Ask(bool, usize, bool, usize, bool),
    /// The fate of one of the publications that are under way.
    Fate(usize, u8),
    /// A device reports what was asked for, or something else.
    Report(bool, usize, bool),
    Pass(u64),
    /// The wall clock is set by so many seconds.
    Set(i64),
    Trust(bool),
    Away(bool, usize),
    Room(usize),
    /// The agent dies; what it let go has reached the broker or not.
    Crash(bool),
    Reboot,
}

fn event() -> impl Strategy<Value = Event> {
    let flag = any::<bool>;
    prop_oneof![
        5 => (flag(), 0..2_usize, flag(), 0..3_usize, prop::bool::weighted(0.8)).prop_map(
            |(lamp, name, idempotent, offline, evidence)| Event::Ask(lamp, name, idempotent, offline, evidence)
        ),
        8 => (0..8_usize, 0..6_u8).prop_map(|(which, fate)| Event::Fate(which, fate)),
        4 => (flag(), 0..2_usize, flag()).prop_map(|(lamp, name, right)| Event::Report(lamp, name, right)),
        3 => (1..12_u64).prop_map(Event::Pass),
        1 => (-50..50_i64).prop_map(Event::Set),
        1 => flag().prop_map(Event::Trust),
        1 => (flag(), 0..3_usize).prop_map(|(lamp, how)| Event::Away(lamp, how)),
        1 => (0..3_usize).prop_map(Event::Room),
        1 => flag().prop_map(Event::Crash),
        1 => Just(Event::Reboot),
    ]
}

const NAMES: [&str; 2] = ["a", "b"];
const BOOTS: [[u8; 16]; 4] = [BOOT, [2; 16], [3; 16], [4; 16]];

/// What the broker knows: publications under way, and those that may have arrived.
#[derive(Default)]
struct Broker {
    seen: usize,
    /// Command, attempt, and whether it was written.
    under_way: Vec<(Seq, u32, bool)>,
    arrived: BTreeMap<Seq, usize>,
    boots: usize,
}

fn device(lamp: bool) -> DeviceId {
    if lamp { LAMP } else { DOOR }
}

impl Broker {
    fn happens(&mut self, scene: &mut Scene, event: &Event) {
        match *event {
            Event::Ask(lamp, name, idempotent, offline, evidence) => {
                let mut asked = request(NAMES[name]);
                asked.idempotent = idempotent;
                asked.on_offline = [OnOffline::Reject, OnOffline::Hold, OnOffline::LatestWins][offline];
                if !evidence {
                    asked.evidence = Evidence::None;
                }
                scene.ask(device(lamp), asked);
            }
            Event::Fate(which, fate) => self.fate(scene, which, fate),
            Event::Report(lamp, name, right) => {
                scene.report(device(lamp), NAMES[name], if right { "ON" } else { "OFF" });
            }
            Event::Pass(seconds) => scene.pass(seconds),
            Event::Set(seconds) => scene.set += seconds * SECOND,
            Event::Trust(trusted) => scene.trusted = trusted,
            Event::Away(lamp, how) => {
                let how = [Some(Availability::Online), Some(Availability::Offline), None][how];
                scene.away.insert(device(lamp), how);
            }
            Event::Room(room) => scene.room = [None, Some(1), Some(100)][room],
            Event::Crash(reached) => self.crash(scene, reached),
            Event::Reboot => {
                // The monotonic clock begins anew; the wall clock goes on.
                self.boots = (self.boots + 1).min(BOOTS.len() - 1);
                scene.booted = Duration::from_secs(3).saturating_sub(scene.passed);
                self.crash(scene, true);
            }
        }
        self.take(scene);
    }

    /// Publications that the desk has let go, each after its step was recorded, none after its time.
    fn take(&mut self, scene: &Scene) {
        for sent in &scene.sent[self.seen..] {
            let tracked = sent.tracked().unwrap();
            let (command, attempt) = (tracked.command, tracked.attempt);
            let recorded = scene.facts.iter().filter(|(_, fact)| {
                matches!(fact, Fact::CommandProgressed { command: of, progress, .. }
                    if *of == command && *progress == Progress::Dispatched { attempt })
            });
            assert_eq!(recorded.count(), 1, "recorded before it is sent, once");
            let now = scene.now();
            assert!(now.at < tracked.deadline && now.wall < tracked.expires, "sent after its time");
            self.under_way.push((command, attempt, false));
        }
        self.seen = scene.sent.len();
    }

    fn fate(&mut self, scene: &mut Scene, which: usize, fate: u8) {
        if self.under_way.is_empty() {
            return;
        }
        let at = which % self.under_way.len();
        let (command, attempt, written) = self.under_way[at];
        let fate = match (written, fate) {
            (false, 0) => Fate::NotSent,
            (false, 1) => Fate::TooLate,
            (false, _) => Fate::Written,
            (true, 0) => Fate::Refused("no".into()),
            (true, 1) => Fate::Lost,
            (true, _) => Fate::Acknowledged,
        };
        if fate == Fate::Written {
            self.under_way[at].2 = true;
        } else {
            self.under_way.remove(at);
        }
        if matches!(fate, Fate::Lost | Fate::Acknowledged) {
            *self.arrived.entry(command).or_default() += 1;
        }
        scene.ends(command, attempt, fate);
    }

    fn crash(&mut self, scene: &mut Scene, reached: bool) {
        for (command, _, written) in self.under_way.drain(..) {
            if written || reached {
                *self.arrived.entry(command).or_default() += 1;
            }
        }
        scene.restart(BOOTS[self.boots]);
    }

    fn check(&self, scene: &Scene) {
        let view = scene.view();
        let (mut states, mut once) = (BTreeMap::new(), BTreeSet::new());
        for ((_, fact), at) in scene.facts.iter().zip(1..) {
            match fact {
                Fact::CommandRequested { request, .. } => {
                    states.insert(Seq(at), CommandState::Requested);
                    if !request.idempotent {
                        once.insert(Seq(at));
                    }
                }
                Fact::CommandProgressed { command, progress, .. } => {
                    let state = states.get_mut(command).expect("a step after its request");
                    assert!(!state.is_final(), "{command} goes on after its end: {progress:?}");
                    *state = progress.state();
                }
                _ => {}
            }
        }
        for (command, state) in &states {
            let folded = view.commands.get(*command).unwrap();
            assert_eq!(folded.state, *state);
            let desk = scene.desk.open.get(command);
            assert_eq!(desk.map(|open| open.state), (!folded.is_closed()).then_some(*state), "{command}");
            assert!(
                desk.is_none_or(|open| (open.cause, open.attempts) == (folded.changed.0, folded.attempts))
            );
            let arrived = self.arrived.get(command).copied().unwrap_or(0);
            assert!(arrived <= 1 || !once.contains(command), "{command} arrived {arrived} times");
            let never =
                [CommandState::Failed, CommandState::Expired, CommandState::Superseded].contains(state);
            assert!(!never || arrived == 0, "{command} is {}, and may have arrived", state.word());
        }
        assert_eq!(scene.desk.len(), view.commands.open().len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_to_commands_what_was_promised_holds(events in prop::collection::vec(event(), 1..60)) {
        let (mut scene, mut broker) = (Scene::new(), Broker::default());
        for event in &events {
            broker.happens(&mut scene, event);
            broker.check(&scene);
        }
        // In the end everything can be reached, or its time is over: nothing is left that somebody would have to drive.
        scene.away.clear();
        scene.room = Some(100);
        for _ in 0..200 {
            while !broker.under_way.is_empty() {
                broker.fate(&mut scene, 0, 5);
                broker.take(&scene);
            }
            scene.pass(u64::from(CONFIRM_S));
            broker.take(&scene);
        }
        broker.check(&scene);
        let driven: Vec<_> = scene.desk.open.values().filter(|open| open.state.is_driven()).collect();
        prop_assert!(driven.is_empty(), "{driven:?}");
    }
}
