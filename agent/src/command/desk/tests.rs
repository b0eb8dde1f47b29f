//! Lives of commands: given what is known, when something happens, then these steps and publications.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::command::{AcknowledgedBy, CommandRequest, Evidence, OnOffline, Progress, Publish};
use fieldlog_projections::fact::{Availability, ClockQuality};
use fieldlog_projections::{DeviceId, Fact, Seq, Time, TraceParent, Value, ValueRef, View};

use super::{Desk, Now, Step, World};
use crate::message::{Fate, Publication, Published};
use crate::sparkplug::command::{Called, write};
use crate::sparkplug::payload::Raw;

mod model;

const LAMP: DeviceId = DeviceId(0);
const DOOR: DeviceId = DeviceId(1);
const BOOT: [u8; 16] = [1; 16];
const SECOND: i64 = 1_000_000;
const TTL_S: u32 = 30;
const CONFIRM_S: u32 = 10;

/// A desk with everything around it: the log is a list of facts, the broker a list of publications.
struct Scene {
    desk: Desk,
    facts: Vec<(Option<Seq>, Fact)>,
    sent: Vec<Publication>,
    away: BTreeMap<DeviceId, Option<Availability>>,
    room: Option<usize>,
    begin: Instant,
    passed: Duration,
    /// How far the wall clock has been set, in microseconds.
    set: i64,
    trusted: bool,
    booted: Duration,
}

struct Around<'a>(&'a BTreeMap<DeviceId, Option<Availability>>, Option<usize>);

impl World for Around<'_> {
    fn availability(&self, device: DeviceId) -> Option<Availability> {
        self.0.get(&device).copied().unwrap_or(Some(Availability::Online))
    }

    fn room(&self, _: &str) -> Option<usize> {
        self.1
    }
}

fn request(name: &str) -> CommandRequest {
    CommandRequest {
        actor: "uid:1".into(),
        key: "k".into(),
        digest: [0; 16],
        reason: String::new(),
        name: name.into(),
        operation: false,
        value: Value::Text("ON".into()),
        expires: Time(0),
        ttl_s: TTL_S,
        booted_for: 0,
        remember_until: Time(i64::MAX),
        publish: Publish { source: "home".into(), topic: name.into(), payload: b"ON".to_vec(), qos: 1 },
        idempotent: true,
        on_offline: OnOffline::Reject,
        confirm_s: CONFIRM_S,
        evidence: Evidence::Reported {
            attribute: name.into(),
            target: Value::Text("ON".into()),
            tolerance: 0.0,
        },
        traceparent: None,
    }
}

fn once(name: &str) -> CommandRequest {
    CommandRequest { idempotent: false, ..request(name) }
}

fn held(name: &str, on_offline: OnOffline) -> CommandRequest {
    CommandRequest { on_offline, ..request(name) }
}

impl Scene {
    fn new() -> Scene {
        let mut scene = Scene {
            desk: Desk::default(),
            facts: Vec::new(),
            sent: Vec::new(),
            away: BTreeMap::new(),
            room: Some(100),
            begin: Instant::now(),
            passed: Duration::ZERO,
            set: 0,
            trusted: true,
            booted: Duration::from_secs(1_000),
        };
        for (device, name) in [(LAMP, "lamp"), (DOOR, "door")] {
            let (name, source) = (name.into(), "home".into());
            let fact = Fact::DeviceDiscovered { device, name, source, parent: None, identity: None };
            scene.facts.push((None, fact));
        }
        scene.boot(BOOT);
        scene
    }

    fn boot(&mut self, boot_id: [u8; 16]) {
        let fact = Fact::Booted { boot_id, version: "1".into(), clock: ClockQuality::Synchronised };
        self.facts.push((None, fact));
    }

    fn now(&self) -> Now {
        Now {
            at: self.begin + self.passed,
            wall: Time(1_700_000_000 * SECOND + self.passed.as_micros() as i64 + self.set),
            booted_for: (self.booted + self.passed).as_micros() as u64,
            trusted: self.trusted,
        }
    }

    fn head(&self) -> Seq {
        Seq(self.facts.len() as u64)
    }

    /// Records steps as the writer does, and publishes what they want published.
    fn record(&mut self, steps: Vec<Step>) {
        for step in steps {
            let Step { device, command, cause, progress, ends, publish } = step;
            assert!(!ends || !self.desk.open.contains_key(&command), "the last step of a command ends it");
            assert!(cause <= self.head(), "the cause of a step is recorded before it");
            self.facts.push((Some(cause), Fact::CommandProgressed { device, command, progress }));
            self.desk.recorded(command, self.head());
            self.sent.extend(publish.map(|(_, publication)| publication));
        }
    }

    fn ask(&mut self, device: DeviceId, request: CommandRequest) -> Seq {
        let now = self.now();
        let request = CommandRequest {
            expires: Time(now.wall.0 + i64::from(request.ttl_s) * SECOND),
            booted_for: now.booted_for,
            key: self.head().0.to_string(),
            ..request
        };
        self.facts.push((None, Fact::CommandRequested { device, request: Box::new(request.clone()) }));
        let (command, mut steps) = (self.head(), Vec::new());
        self.desk.accept(command, device, Arc::new(request), now, &mut steps);
        self.record(steps);
        self.dispatch();
        command
    }

    fn dispatch(&mut self) {
        let (now, mut steps) = (self.now(), Vec::new());
        self.desk.dispatch(&Around(&self.away, self.room), now, &mut steps);
        self.record(steps);
    }

    fn pass(&mut self, seconds: u64) {
        self.passed += Duration::from_secs(seconds);
        let (now, mut steps) = (self.now(), Vec::new());
        self.desk.tick(now, &mut steps);
        self.record(steps);
        self.dispatch();
    }

    fn ends(&mut self, command: Seq, attempt: u32, fate: Fate) {
        let (now, mut steps) = (self.now(), Vec::new());
        self.desk.published(Published { command, attempt, fate }, now, &mut steps);
        self.record(steps);
        self.dispatch();
    }

    fn report(&mut self, device: DeviceId, attribute: &str, value: &str) {
        let (record, mut steps) = (self.head(), Vec::new());
        self.desk.reported(device, attribute, ValueRef::Text(value), Some(record), &mut steps);
        self.record(steps);
        self.dispatch();
    }

    /// The agent ends at once and starts again; `boot_id` is the kernel's.
    fn restart(&mut self, boot_id: [u8; 16]) {
        let view = self.view();
        let now = self.now();
        self.boot(boot_id);
        let (desk, steps) = Desk::restore(&view.commands, boot_id, now);
        self.desk = desk;
        self.record(steps);
        self.dispatch();
    }

    fn view(&self) -> View {
        self.view_at(Time(SECOND))
    }

    /// What the facts make, the last of them recorded at this log time.
    fn view_at(&self, last: Time) -> View {
        let mut body = RecordBuffer::after(Time(0));
        for (n, (cause, fact)) in self.facts.iter().enumerate() {
            let wall = if n + 1 == self.facts.len() { last } else { Time(SECOND) };
            body.push_fact(Envelope { wall, cause: *cause, device_time: None }, fact);
        }
        let mut view = View::new(Vec::new());
        view.apply_records(body.records(Seq(1)), Seq(u64::MAX)).unwrap();
        view
    }

    /// The steps of a command, as their types are called.
    #[track_caller]
    fn life(&self, command: Seq, expected: &[&str]) {
        let steps = self.facts.iter().filter_map(|(_, fact)| match fact {
            Fact::CommandProgressed { command: of, progress, .. } if *of == command => {
                Some(progress.state().word())
            }
            _ => None,
        });
        assert_eq!(steps.collect::<Vec<_>>(), expected);
        let folded = self.view().commands.get(command).map(|command| command.state.word());
        assert_eq!(folded, Some(expected.last().copied().unwrap_or("requested")));
    }

    /// Topics that were published to.
    fn topics(&self) -> Vec<&str> {
        self.sent.iter().map(|publication| publication.topic.as_str()).collect()
    }
}

#[test]
fn a_report_after_the_publication_closes_a_command_and_one_before_does_not() {
    let mut scene = Scene::new();
    let command = scene.ask(LAMP, request("state"));
    assert_eq!(scene.topics(), ["state"]);
    // Read from the broker before the command was written: it says nothing about it.
    scene.report(LAMP, "state", "ON");
    scene.life(command, &["dispatched"]);
    scene.ends(command, 1, Fate::Written);
    scene.report(LAMP, "state", "OFF");
    scene.report(LAMP, "brightness", "ON");
    scene.report(DOOR, "state", "ON");
    scene.life(command, &["dispatched"]);
    scene.report(LAMP, "state", "ON");
    scene.life(command, &["dispatched", "applied"]);
    // Whatever comes late changes nothing.
    scene.ends(command, 1, Fate::Acknowledged);
    scene.report(LAMP, "state", "ON");
    scene.pass(100);
    scene.life(command, &["dispatched", "applied"]);
    assert!(scene.desk.is_idle());
}

#[test]
fn an_acknowledgement_is_not_evidence() {
    let mut scene = Scene::new();
    let command = scene.ask(LAMP, request("state"));
    scene.ends(command, 1, Fate::Written);
    scene.ends(command, 1, Fate::Acknowledged);
    scene.pass(u64::from(CONFIRM_S) - 1);
    scene.life(command, &["dispatched", "acknowledged"]);
    scene.pass(1);
    scene.life(command, &["dispatched", "acknowledged", "unconfirmed"]);
    scene.pass(1_000);
    scene.report(LAMP, "state", "ON");
    scene.life(command, &["dispatched", "acknowledged", "unconfirmed", "applied"]);
    assert_eq!(scene.topics(), ["state"]);
}

#[test]
fn a_broker_that_refuses_and_one_that_is_too_late_end_a_command() {
    for (fate, end) in [(Fate::Refused("not authorized".into()), "failed"), (Fate::TooLate, "expired")] {
        let mut scene = Scene::new();
        let command = scene.ask(LAMP, request("state"));
        if end == "failed" {
            scene.ends(command, 1, Fate::Written);
        }
        scene.ends(command, 1, fate);
        scene.life(command, &["dispatched", end]);
        assert!(scene.desk.is_idle());
    }
}

#[test]
fn what_was_not_written_is_sent_again_and_what_was_lost_only_if_twice_does_no_harm() {
    let check = |request: CommandRequest, fate: Fate, attempts: usize| {
        let mut scene = Scene::new();
        let command = scene.ask(LAMP, request);
        if fate == Fate::Lost {
            scene.ends(command, 1, Fate::Written);
        }
        scene.ends(command, 1, fate);
        assert_eq!(scene.sent.len(), attempts);
        let numbers: Vec<u32> = scene.sent.iter().map(|sent| sent.tracked().unwrap().attempt).collect();
        assert_eq!(numbers, (1..=attempts as u32).collect::<Vec<_>>());
        scene.pass(u64::from(TTL_S) + 1);
        assert_eq!(scene.sent.len(), attempts, "nothing is sent after its time");
    };
    check(request("state"), Fate::NotSent, 2);
    check(request("state"), Fate::Lost, 2);
    check(once("state"), Fate::NotSent, 2);
    check(once("state"), Fate::Lost, 1);
}

#[test]
fn a_command_that_may_have_been_lost_is_unconfirmed_in_time() {
    let mut scene = Scene::new();
    let command = scene.ask(LAMP, once("state"));
    scene.ends(command, 1, Fate::Written);
    scene.ends(command, 1, Fate::Lost);
    scene.pass(u64::from(CONFIRM_S));
    scene.life(command, &["dispatched", "unconfirmed"]);
}

#[test]
fn nothing_is_sent_after_its_time_by_either_clock() {
    let unreached = |change: &dyn Fn(&mut Scene)| {
        let mut scene = Scene::new();
        scene.room = None;
        let command = scene.ask(LAMP, request("state"));
        change(&mut scene);
        scene.room = Some(100);
        scene.pass(1);
        scene.life(command, &["expired"]);
        assert!(scene.sent.is_empty());
    };
    unreached(&|scene| scene.pass(u64::from(TTL_S)));
    // Set ahead: a clock that may be wrong keeps it from being sent.
    unreached(&|scene| scene.set = i64::from(TTL_S) * SECOND);
    // Set back: the monotonic clock has not forgotten.
    unreached(&|scene| {
        scene.set = -1_000 * SECOND;
        scene.pass(u64::from(TTL_S));
    });
}

#[test]
fn a_newer_command_takes_the_place_of_one_that_waits_and_not_of_one_that_was_sent() {
    let mut scene = Scene::new();
    let first = scene.ask(LAMP, request("state"));
    let second = scene.ask(LAMP, request("state"));
    let third = scene.ask(LAMP, request("state"));
    scene.life(second, &["superseded"]);
    assert_eq!(scene.sent.len(), 1, "one in flight for each property");
    let other = scene.ask(LAMP, request("brightness"));
    assert_eq!(scene.topics(), ["state", "brightness"]);
    scene.ends(first, 1, Fate::Written);
    scene.report(LAMP, "state", "ON");
    scene.life(first, &["dispatched", "applied"]);
    scene.life(third, &["dispatched"]);
    // What was reported before it was written is not its evidence.
    scene.report(LAMP, "state", "ON");
    scene.life(third, &["dispatched"]);
    scene.life(other, &["dispatched"]);
}

#[test]
fn what_is_held_is_sent_in_order_and_of_the_latest_only_the_last() {
    let away = |on_offline| {
        let mut scene = Scene::new();
        scene.away.insert(LAMP, Some(Availability::Offline));
        let commands: Vec<Seq> = (0..3).map(|_| scene.ask(LAMP, held("state", on_offline))).collect();
        assert!(scene.sent.is_empty());
        scene.away.clear();
        scene.pass(1);
        (scene, commands)
    };
    let (mut scene, commands) = away(OnOffline::Hold);
    for command in &commands {
        scene.life(*command, &["dispatched"]);
        scene.ends(*command, 1, Fate::Written);
        scene.report(LAMP, "state", "ON");
        scene.life(*command, &["dispatched", "applied"]);
    }
    let (scene, commands) = away(OnOffline::LatestWins);
    scene.life(commands[0], &["superseded"]);
    scene.life(commands[1], &["superseded"]);
    scene.life(commands[2], &["dispatched"]);
}

#[test]
fn a_device_that_goes_while_a_command_waits_fails_it_unless_it_is_held() {
    for (availability, on_offline, end) in [
        (Some(Availability::Offline), OnOffline::Reject, "failed"),
        (None, OnOffline::Reject, "failed"),
        (None, OnOffline::Hold, "failed"),
        (Some(Availability::Offline), OnOffline::Hold, "requested"),
    ] {
        let mut scene = Scene::new();
        scene.room = None;
        let command = scene.ask(LAMP, held("state", on_offline));
        scene.away.insert(LAMP, availability);
        scene.room = Some(100);
        scene.pass(1);
        let expected: &[&str] = if end == "requested" { &[] } else { &[end] };
        scene.life(command, expected);
    }
}

#[test]
fn what_finds_no_room_is_sent_when_there_is_some() {
    let mut scene = Scene::new();
    scene.room = Some(2);
    scene.room = Some(0);
    let first = scene.ask(LAMP, request("a"));
    scene.ask(LAMP, request("b"));
    scene.ask(DOOR, request("c"));
    scene.room = Some(2);
    scene.dispatch();
    assert_eq!(scene.sent.len(), 2);
    scene.ends(first, 1, Fate::Written);
    assert_eq!(scene.sent.len(), 3);
}

#[test]
fn an_answer_is_for_the_command_whose_number_it_has() {
    let asking = |name: &str| CommandRequest {
        evidence: Evidence::Reply { topic: "us/rpc".into(), id: "/id".into(), error: "/error".into() },
        ..once(name)
    };
    let mut scene = Scene::new();
    let (first, second) = (scene.ask(LAMP, asking("a")), scene.ask(LAMP, asking("b")));
    let answer = |scene: &mut Scene, payload: String| {
        let mut steps = Vec::new();
        scene.desk.answered("home", b"us/rpc", payload.as_bytes(), &mut steps);
        scene.record(steps);
    };
    scene.ends(first, 1, Fate::Written);
    scene.ends(second, 1, Fate::Written);
    assert!(scene.desk.awaits_answer("home", b"us/rpc"));
    assert!(!scene.desk.awaits_answer("other", b"us/rpc"));
    answer(&mut scene, r#"{"id":99,"result":{}}"#.into());
    answer(&mut scene, "not JSON".into());
    answer(&mut scene, format!(r#"{{"id":{second},"result":{{}}}}"#));
    scene.life(first, &["dispatched"]);
    scene.life(second, &["dispatched", "acknowledged", "applied"]);
    answer(&mut scene, format!(r#"{{"id":{first},"error":{{"code":-103,"message":"no such switch"}}}}"#));
    scene.life(first, &["dispatched", "failed"]);
    let failed = scene.facts.iter().any(|(_, fact)| {
        matches!(fact, Fact::CommandProgressed { progress: Progress::Failed { reason }, .. }
            if reason == "the device refuses it: no such switch")
    });
    assert!(failed && !scene.desk.awaits_answer("home", b"us/rpc"));
}

#[test]
fn every_publication_of_a_command_has_its_trace_context_also_after_a_restart() {
    let mut scene = Scene::new();
    let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let traced = CommandRequest { traceparent: TraceParent::parse(text), ..request("state") };
    let command = scene.ask(LAMP, traced);
    scene.ends(command, 1, Fate::Written);
    scene.ends(command, 1, Fate::Lost);
    scene.restart(BOOT);
    scene.ask(LAMP, request("other"));
    let sent = scene.sent.iter().map(|publication| publication.tracked().unwrap());
    let sent: Vec<(Seq, Option<String>)> =
        sent.map(|tracked| (tracked.command, tracked.traceparent.map(|parent| parent.to_string()))).collect();
    assert_eq!(sent.len(), 4, "{sent:?}");
    assert!(
        sent.iter().all(|(of, trace)| trace.as_deref() == Some(text).filter(|_| *of == command)),
        "{sent:?}"
    );
}

#[test]
fn without_evidence_an_acknowledgement_is_the_end() {
    let mut scene = Scene::new();
    let operation = CommandRequest { operation: true, evidence: Evidence::None, ..once("identify") };
    let (first, second) = (scene.ask(LAMP, operation.clone()), scene.ask(LAMP, operation));
    scene.life(second, &[]);
    scene.ends(first, 1, Fate::Written);
    scene.ends(first, 1, Fate::Acknowledged);
    scene.life(first, &["dispatched", "acknowledged"]);
    scene.life(second, &["dispatched"]);
    scene.ends(second, 1, Fate::Written);
    scene.ends(second, 1, Fate::Acknowledged);
    assert!(scene.desk.is_idle());
}

#[test]
fn after_a_crash_only_what_does_no_harm_twice_is_sent_again() {
    let mut scene = Scene::new();
    let (twice, only_once) = (scene.ask(LAMP, request("a")), scene.ask(LAMP, once("b")));
    scene.room = None;
    let waiting = scene.ask(LAMP, once("c"));
    scene.room = Some(100);
    scene.restart(BOOT);
    scene.life(twice, &["dispatched", "dispatched"]);
    scene.life(only_once, &["dispatched", "unknown"]);
    scene.life(waiting, &["dispatched"]);
    assert_eq!(scene.topics(), ["a", "b", "a", "c"]);
    // What may have been sent can still be seen to have arrived.
    scene.report(LAMP, "b", "ON");
    scene.life(only_once, &["dispatched", "unknown", "applied"]);
    // Restarts later send nothing again.
    scene.restart(BOOT);
    assert_eq!(scene.topics().iter().filter(|topic| **topic == "b").count(), 1);
}

#[test]
fn an_acknowledged_command_is_waited_for_after_a_restart_and_not_sent_again() {
    let mut scene = Scene::new();
    let command = scene.ask(LAMP, request("state"));
    scene.ends(command, 1, Fate::Written);
    scene.ends(command, 1, Fate::Acknowledged);
    scene.restart(BOOT);
    assert_eq!(scene.sent.len(), 1);
    scene.pass(u64::from(CONFIRM_S));
    scene.life(command, &["dispatched", "acknowledged", "unconfirmed"]);
    let ended = scene.ask(LAMP, request("state"));
    scene.ends(ended, 1, Fate::Written);
    scene.report(LAMP, "state", "ON");
    scene.restart(BOOT);
    assert_eq!(scene.sent.len(), 2);
    scene.life(ended, &["dispatched", "applied"]);
    // The earlier one could not be told apart from it any more.
    scene.life(command, &["dispatched", "acknowledged", "unconfirmed"]);
}

#[test]
fn after_a_reboot_only_a_clock_that_is_synchronised_lets_a_command_go() {
    let waiting = |trusted: bool, boot: [u8; 16]| {
        let mut scene = Scene::new();
        scene.room = None;
        let command = scene.ask(LAMP, request("state"));
        scene.room = Some(100);
        scene.passed += Duration::from_secs(5);
        if boot != BOOT {
            scene.booted = Duration::ZERO;
        }
        scene.trusted = trusted;
        scene.restart(boot);
        (scene, command)
    };
    assert_eq!(waiting(false, BOOT).0.sent.len(), 1, "the kernel knows how long it was");
    assert_eq!(waiting(true, [2; 16]).0.sent.len(), 1);
    let (mut scene, command) = waiting(false, [2; 16]);
    scene.pass(1);
    assert!(scene.sent.is_empty());
    scene.life(command, &[]);
    scene.trusted = true;
    scene.pass(1);
    assert_eq!(scene.sent.len(), 1);
    // The wall clock says that its time is over, be it right or wrong.
    let (mut scene, command) = waiting(false, [2; 16]);
    scene.set = 1_000 * SECOND;
    scene.pass(1);
    scene.life(command, &["expired"]);
    assert!(scene.sent.is_empty());
}

#[test]
fn ten_thousand_commands_for_devices_that_are_away_wait_and_expire() {
    let mut scene = Scene::new();
    scene.away.insert(LAMP, Some(Availability::Offline));
    for n in 0..10_000 {
        let now = scene.now();
        let request = CommandRequest {
            expires: Time(now.wall.0 + i64::from(TTL_S) * SECOND),
            ..held(&format!("attribute{n}"), OnOffline::Hold)
        };
        let mut steps = Vec::new();
        scene.desk.accept(Seq(n + 10), LAMP, Arc::new(request), now, &mut steps);
        assert!(steps.is_empty());
    }
    let (now, mut steps) = (scene.now(), Vec::new());
    scene.desk.dispatch(&Around(&scene.away, Some(100)), now, &mut steps);
    scene.desk.tick(now, &mut steps);
    assert!(steps.is_empty() && scene.desk.len() == 10_000);
    scene.passed += Duration::from_secs(u64::from(TTL_S));
    scene.desk.tick(scene.now(), &mut steps);
    assert!(steps.iter().all(|step| step.progress == Progress::Expired));
    assert_eq!((steps.len(), scene.desk.len()), (10_000, 0));
}

#[test]
fn the_causes_of_the_steps_are_a_chain_from_the_request() {
    let mut scene = Scene::new();
    let command = scene.ask(LAMP, request("state"));
    scene.ends(command, 1, Fate::Written);
    scene.ends(command, 1, Fate::Acknowledged);
    scene.report(LAMP, "state", "ON");
    let steps = scene.facts.iter().zip(1..).filter_map(|((cause, fact), at)| match fact {
        Fact::CommandProgressed { progress, .. } => Some((*cause, Seq(at), progress.clone())),
        _ => None,
    });
    let steps: Vec<_> = steps.collect();
    assert_eq!(steps[1].2, Progress::Acknowledged { by: AcknowledgedBy::Broker });
    let causes: Vec<Option<Seq>> = steps.iter().map(|(cause, ..)| *cause).collect();
    assert_eq!(causes, [Some(command), Some(steps[0].1), Some(steps[1].1)]);
}

#[test]
fn what_may_have_arrived_has_neither_expired_nor_failed() {
    let lost = |change: &dyn Fn(&mut Scene, Seq)| {
        let mut scene = Scene::new();
        let command = scene.ask(LAMP, request("state"));
        scene.ends(command, 1, Fate::Written);
        scene.room = None;
        scene.ends(command, 1, Fate::Lost);
        change(&mut scene, command);
        scene.life(command, &["dispatched", "unconfirmed"]);
        // What the device did can still be seen.
        scene.report(LAMP, "state", "ON");
        scene.life(command, &["dispatched", "unconfirmed", "applied"]);
    };
    lost(&|scene, _| scene.pass(u64::from(TTL_S)));
    lost(&|scene, _| {
        scene.away.insert(LAMP, Some(Availability::Offline));
        scene.room = Some(100);
        scene.pass(1);
    });
    lost(&|scene, _| {
        scene.away.insert(LAMP, None);
        scene.pass(1);
    });
    // Also across a restart, after which nobody knows whether it was written.
    lost(&|scene, _| {
        scene.passed += Duration::from_secs(u64::from(TTL_S));
        scene.restart(BOOT);
    });
    for fate in [Fate::TooLate, Fate::Refused("no".into())] {
        let mut scene = Scene::new();
        let command = scene.ask(LAMP, request("state"));
        scene.ends(command, 1, Fate::Written);
        scene.ends(command, 1, Fate::Lost);
        scene.ends(command, 2, fate);
        scene.life(command, &["dispatched", "dispatched", "unconfirmed"]);
    }
    // One that was certainly not sent has.
    let mut scene = Scene::new();
    let command = scene.ask(LAMP, request("state"));
    scene.room = None;
    scene.ends(command, 1, Fate::NotSent);
    scene.pass(u64::from(TTL_S));
    scene.life(command, &["dispatched", "requested", "expired"]);
}

#[test]
fn one_that_was_certainly_not_sent_is_sent_after_a_restart_and_another_is_not() {
    for twice in [request("state"), once("state")] {
        let mut scene = Scene::new();
        let command = scene.ask(LAMP, twice.clone());
        scene.room = None;
        scene.ends(command, 1, Fate::NotSent);
        scene.restart(BOOT);
        scene.life(command, &["dispatched", "requested"]);
        // Nothing of it is out, so a newer one would replace it, and a device that is retired has it fail.
        assert!(!scene.desk.open[&command].may_be_out);
        scene.room = Some(100);
        scene.pass(1);
        scene.ends(command, 2, Fate::Written);
        scene.ends(command, 2, Fate::Acknowledged);
        scene.life(command, &["dispatched", "requested", "dispatched", "acknowledged"]);
        // An earlier publication that was lost may have arrived, whatever became of the later one.
        if twice.idempotent {
            let mut scene = Scene::new();
            let command = scene.ask(LAMP, twice);
            scene.ends(command, 1, Fate::Written);
            scene.ends(command, 1, Fate::Lost);
            scene.room = None;
            scene.ends(command, 2, Fate::NotSent);
            scene.restart(BOOT);
            assert!(scene.desk.open[&command].may_be_out);
            scene.report(LAMP, "state", "ON");
            scene.life(command, &["dispatched", "dispatched", "requested", "applied"]);
        }
    }
}

#[test]
fn one_that_was_not_sent_after_all_is_superseded_like_one_that_waits() {
    let mut scene = Scene::new();
    let first = scene.ask(LAMP, request("state"));
    scene.room = None;
    scene.ends(first, 1, Fate::NotSent);
    let second = scene.ask(LAMP, request("state"));
    scene.life(first, &["dispatched", "requested", "superseded"]);
    scene.life(second, &[]);
}

#[test]
fn after_a_reboot_a_command_ends_in_time_also_if_the_clock_is_never_synchronised() {
    let mut scene = Scene::new();
    scene.room = None;
    let command = scene.ask(LAMP, request("state"));
    // There is no clock that runs without power, and no network.
    (scene.trusted, scene.set, scene.booted) = (false, -1_600_000_000 * SECOND, Duration::from_secs(4));
    scene.room = Some(100);
    scene.restart([2; 16]);
    for second in 0..u64::from(TTL_S) {
        scene.life(command, if second < 26 { &[] } else { &["expired"] });
        scene.pass(1);
    }
    assert!(scene.sent.is_empty());
}

#[test]
fn commands_that_only_late_evidence_could_close_are_dropped_with_their_keys() {
    let mut scene = Scene::new();
    let mut commands = Vec::new();
    let until = Time(1_700_000_100 * SECOND);
    for n in 0..3 {
        let asked = CommandRequest { remember_until: until, ..once(&format!("a{n}")) };
        let command = scene.ask(LAMP, asked);
        scene.ends(command, 1, Fate::Written);
        commands.push(command);
    }
    scene.pass(u64::from(CONFIRM_S));
    assert_eq!(scene.desk.forget(&scene.view().commands), []);
    assert_eq!(scene.desk.len(), 3);
    let later = CommandRequest { remember_until: Time(i64::MAX), ..once("b") };
    scene.facts.push((None, Fact::CommandRequested { device: DOOR, request: Box::new(later) }));
    assert_eq!(scene.view_at(Time(until.0 + 1)).commands.open().len(), 1);
    assert_eq!(scene.desk.forget(&scene.view_at(Time(until.0 + 1)).commands), commands);
    assert!(scene.desk.is_idle() && scene.desk.watched().len() == 0);
}

#[test]
fn a_sparkplug_command_that_waited_has_the_time_at_which_it_is_published() {
    let mut scene = Scene::new();
    let made = |at: Time| write("g/n", Called::Name("state"), 3, Raw::Int(5), at).unwrap();
    let (topic, payload) = made(scene.now().wall);
    scene.room = None;
    let publish = Publish { source: "home".into(), topic, payload: payload.to_vec(), qos: 0 };
    scene.ask(LAMP, CommandRequest { publish, ..request("state") });
    scene.room = Some(100);
    scene.pass(9);
    assert_eq!(scene.sent.len(), 1);
    assert_eq!(scene.sent[0].payload, made(scene.now().wall).1);
    assert_ne!(scene.sent[0].payload, payload);
}
