//! Commands as a fold: where each is, which keys are taken, what is wanted.

use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::command::{
    AcknowledgedBy, CommandRequest, CommandState, Evidence, OnOffline, Progress, Publish,
};
use fieldlog_projections::commands::ENDED_MAX;
use fieldlog_projections::fact::ClockQuality;
use fieldlog_projections::fold::Section;
use fieldlog_projections::{DeviceId, Epoch, Fact, Seq, Time, TraceParent, Value, View, snapshot};

const LAMP: DeviceId = DeviceId(0);
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const SECOND: i64 = 1_000_000;

pub fn request(key: &str, name: &str, value: Value) -> CommandRequest {
    CommandRequest {
        actor: "uid:1000".into(),
        key: key.into(),
        digest: [7; 16],
        reason: String::new(),
        name: name.into(),
        operation: false,
        value: value.clone(),
        expires: Time(30 * SECOND),
        ttl_s: 30,
        booted_for: 5,
        remember_until: Time(100 * SECOND),
        publish: Publish { source: "s".into(), topic: "t".into(), payload: Vec::new(), qos: 1 },
        idempotent: true,
        on_offline: OnOffline::Reject,
        confirm_s: 30,
        evidence: Evidence::Reported { attribute: name.into(), target: value, tolerance: 0.0 },
        traceparent: None,
    }
}

fn asked(key: &str, name: &str) -> Fact {
    Fact::CommandRequested { device: LAMP, request: Box::new(request(key, name, Value::Text("ON".into()))) }
}

fn step(command: u64, progress: Progress) -> Fact {
    Fact::CommandProgressed { device: LAMP, command: Seq(command), progress }
}

/// The lamp is introduced at position 1 and the agent boots at 2; the facts follow, one a second.
pub fn folded(facts: &[Fact]) -> View {
    let mut body = RecordBuffer::after(Time(0));
    let lamp = Fact::DeviceDiscovered {
        device: LAMP,
        name: "lamp".into(),
        source: "s".into(),
        parent: None,
        identity: None,
    };
    let boot = Fact::Booted { boot_id: [3; 16], version: "1".into(), clock: ClockQuality::Synchronised };
    for (second, fact) in [lamp, boot].iter().chain(facts).enumerate() {
        let wall = Time((second as i64 + 1) * SECOND);
        body.push_fact(Envelope { wall, ..Envelope::default() }, fact);
    }
    let mut view = View::new(Vec::new());
    view.apply_records(body.records(Seq(1)), Seq(u64::MAX)).unwrap();
    view
}

/// A life of each kind.
pub fn lives() -> Vec<Fact> {
    vec![
        asked("a", "state"),
        step(3, Progress::Dispatched { attempt: 1 }),
        step(3, Progress::Acknowledged { by: AcknowledgedBy::Broker }),
        step(3, Progress::Applied { evidence: Some(Seq(6)) }),
        asked("b", "brightness"),
        step(7, Progress::Failed { reason: "no".into() }),
        asked("c", "color"),
        step(9, Progress::Dispatched { attempt: 1 }),
        step(9, Progress::Unconfirmed),
    ]
}

/// The same, with the first and the last command in a trace.
pub fn traced() -> Vec<Fact> {
    let mut facts = lives();
    for at in [0, 6] {
        let Fact::CommandRequested { request, .. } = &mut facts[at] else { panic!("no request") };
        request.traceparent = TraceParent::parse(TRACE);
    }
    facts
}

#[test]
fn a_command_goes_from_its_request_to_its_end() {
    let view = folded(&lives());
    let applied = view.commands.get(Seq(3)).unwrap();
    assert_eq!((applied.state, applied.is_closed()), (CommandState::Applied, true));
    assert_eq!((applied.attempts, applied.dispatched, applied.acknowledged), (1, Some(Seq(4)), Some(Seq(5))));
    assert_eq!((applied.requested, applied.changed), (Time(3 * SECOND), (Seq(6), Time(6 * SECOND))));
    assert_eq!(applied.boot_id, [3; 16]);
    let unconfirmed = view.commands.get(Seq(9)).unwrap();
    assert_eq!((unconfirmed.state, unconfirmed.is_closed()), (CommandState::Unconfirmed, false));
    assert_eq!(view.commands.open().map(|command| command.seq).collect::<Vec<_>>(), [Seq(9)]);
    assert_eq!(view.commands.ended().map(|command| command.seq).collect::<Vec<_>>(), [Seq(3), Seq(7)]);
    // What nobody tries to reach any more is not wanted.
    let desired: Vec<_> =
        view.commands.desired(LAMP).map(|(name, desired)| (name, desired.command)).collect();
    assert_eq!(desired, [("color", Seq(9)), ("state", Seq(3))]);
    let restored = snapshot::decode(&snapshot::encode(&view, Epoch(1)).unwrap(), &[]).unwrap();
    assert!(restored == view && restored.stale().is_empty());
}

#[test]
fn a_trace_context_stays_with_its_command_and_costs_others_nothing() {
    let plain = snapshot::encode(&folded(&lives()), Epoch(1)).unwrap();
    let view = folded(&traced());
    assert_eq!((folded(&lives()).commands.version(), view.commands.version()), (3, 4));
    let bytes = snapshot::encode(&view, Epoch(1)).unwrap();
    // How many, and for each its position and 25 bytes.
    assert_eq!(bytes.len() - plain.len(), 1 + 2 * 26);
    let restored = snapshot::decode(&bytes, &[]).unwrap();
    assert!(restored == view && restored.stale().is_empty());
    let of = |seq| restored.commands.get(Seq(seq)).unwrap().request.traceparent.map(|t| t.to_string());
    assert_eq!((of(3).as_deref(), of(7), of(9).as_deref()), (Some(TRACE), None, Some(TRACE)));
}

#[test]
fn late_evidence_closes_what_was_unconfirmed_or_unknown() {
    for progress in [Progress::Unconfirmed, Progress::Unknown] {
        let view = folded(&[
            asked("a", "state"),
            step(3, Progress::Dispatched { attempt: 1 }),
            step(3, progress),
            step(3, Progress::Applied { evidence: None }),
        ]);
        assert_eq!(view.commands.get(Seq(3)).unwrap().state, CommandState::Applied);
        assert_eq!(view.commands.open().len(), 0);
    }
}

#[test]
fn a_command_without_evidence_ends_with_its_acknowledgement() {
    let mut request = request("a", "identify", Value::Null);
    (request.operation, request.evidence) = (true, Evidence::None);
    let view = folded(&[
        Fact::CommandRequested { device: LAMP, request: Box::new(request) },
        step(3, Progress::Dispatched { attempt: 1 }),
        step(3, Progress::Acknowledged { by: AcknowledgedBy::Broker }),
    ]);
    assert!(view.commands.get(Seq(3)).unwrap().is_closed());
    assert_eq!((view.commands.open().len(), view.commands.desired(LAMP).count()), (0, 0));
}

#[test]
fn a_key_is_remembered_for_its_time_and_no_longer() {
    let view = folded(&[asked("a", "state"), step(3, Progress::Expired)]);
    assert_eq!(
        view.commands.key("uid:1000", "a").map(|key| (key.command, key.digest)),
        Some((Seq(3), [7; 16]))
    );
    assert_eq!(view.commands.key("uid:1001", "a"), None);
    assert_eq!((view.commands.keys(), view.commands.keys_at(Time(100 * SECOND))), (1, 1));
    assert_eq!(view.commands.keys_at(Time(100 * SECOND + 1)), 0);
    // Whatever is asked for after that makes the fold forget it, and what only late evidence could have closed.
    let idle = || (0..100).map(|_| Fact::ConfigChanged { keys: Vec::new() });
    let unknown = [asked("a", "state"), step(3, Progress::Unknown)];
    let later: Vec<Fact> = unknown.into_iter().chain(idle()).chain([asked("b", "state")]).collect();
    let view = folded(&later);
    assert_eq!((view.commands.keys(), view.commands.key("uid:1000", "a")), (1, None));
    assert_eq!(view.commands.is_open(Seq(3)), Some(false));
    assert_eq!(view.commands.get(Seq(3)).unwrap().state, CommandState::Unknown);
}

#[test]
fn only_the_newest_ended_commands_are_kept_whole() {
    let lives = (0..ENDED_MAX as u64 + 5)
        .flat_map(|n| [asked(&format!("k{n}"), "state"), step(3 + 2 * n, Progress::Expired)]);
    let view = folded(&lives.collect::<Vec<_>>());
    assert_eq!(view.commands.ended().len(), ENDED_MAX);
    assert_eq!(view.commands.get(Seq(3)), None);
    assert!(view.commands.get(Seq(3 + 2 * 5)).is_some());
}

#[test]
fn of_an_older_one_it_is_kept_how_it_ended_for_as_long_as_its_key_is_remembered() {
    let mut first = request("first", "state", Value::Text("ON".into()));
    first.remember_until = Time((2 * ENDED_MAX as i64 + 20) * SECOND);
    let first = Fact::CommandRequested { device: LAMP, request: Box::new(first) };
    let failed = step(3, Progress::Failed { reason: "no".into() });
    let lives = |count: u64| {
        let others = (0..count).flat_map(|n| {
            let n = 5 + 2 * n;
            [asked(&format!("k{n}"), "state"), step(n, Progress::Expired)]
        });
        folded(&[first.clone(), failed.clone()].into_iter().chain(others).collect::<Vec<_>>()).commands
    };
    let whole = lives(ENDED_MAX as u64 - 1);
    assert!(whole.get(Seq(3)).is_some() && whole.remembered(Seq(3)).is_none());
    let kept = lives(ENDED_MAX as u64);
    assert_eq!(kept.get(Seq(3)), None);
    let (names, ended) = kept.remembered(Seq(3)).unwrap();
    assert_eq!((&*names.0, &*names.1), ("uid:1000", "first"));
    assert_eq!(
        (ended.device, ended.state, ended.changed),
        (LAMP, CommandState::Failed, (Seq(4), Time(4 * SECOND)))
    );
    assert_eq!(ended.progress, Some(Progress::Failed { reason: "no".into() }));
    assert_eq!((ended.requested, ended.expires), (Time(3 * SECOND), Time(30 * SECOND)));
    assert_eq!(lives(ENDED_MAX as u64 + 20).remembered(Seq(3)), None, "its key is forgotten");
}

#[test]
fn one_that_was_not_sent_after_all_waits_again() {
    let view = folded(&[
        asked("a", "state"),
        step(3, Progress::Dispatched { attempt: 1 }),
        step(3, Progress::Unsent),
    ]);
    let command = view.commands.get(Seq(3)).unwrap();
    assert_eq!((command.state, command.attempts, command.unsent), (CommandState::Requested, 1, 1));
    assert_eq!(view.commands.desired(LAMP).count(), 1);
}

#[test]
fn a_step_of_a_command_whose_request_is_not_there_changes_nothing() {
    let before = folded(&[]).commands;
    let after = folded(&[step(1, Progress::Expired), step(99, Progress::Unknown)]).commands;
    assert!(before == after);
}

/// Facts with their times, in seconds of the wall clock.
fn at(facts: &[(i64, Fact)]) -> View {
    let mut body = RecordBuffer::after(Time(0));
    for (second, fact) in facts {
        body.push_fact(Envelope { wall: Time(second * SECOND), ..Envelope::default() }, fact);
    }
    let mut view = View::new(Vec::new());
    view.apply_records(body.records(Seq(1)), Seq(u64::MAX)).unwrap();
    view
}

fn stepped(expected: i64, found: i64) -> Fact {
    Fact::ClockStepped { expected: Time(expected * SECOND), found: Time(found * SECOND) }
}

#[test]
fn a_key_is_remembered_across_a_clock_that_is_set_ahead_and_no_longer_than_if_it_were_new() {
    let known = |facts: &[(i64, Fact)]| at(facts).commands.key("uid:1000", "a").is_some();
    let day = 86_400;
    // Asked for at 10, it is remembered until 100. The clock goes from 20 to a day later.
    let (asked_a, ahead) = ((10, asked("a", "x")), (day, stepped(20, day)));
    assert!(!known(&[asked_a.clone(), (day, asked("b", "y"))]), "time may have passed while nobody looked");
    assert!(known(&[asked_a.clone(), ahead.clone(), (day + 79, asked("b", "y"))]));
    assert!(!known(&[asked_a.clone(), ahead.clone(), (day + 81, asked("b", "y"))]));
    // A clock that came from 1970 says nothing of how much time has passed.
    let from_1970 = (day, stepped(-50 * day, day));
    assert!(known(&[asked_a.clone(), from_1970.clone(), (day + 89, asked("b", "y"))]));
    assert!(!known(&[asked_a.clone(), from_1970, (day + 91, asked("b", "y"))]));
    // Set back, log time waits; set ahead again to where it was, it has not gone on.
    let (back, again) = ((30, stepped(40, 30)), (35, stepped(31, 35)));
    assert!(!known(&[asked_a.clone(), (40, asked("c", "z")), back, again, (101, asked("b", "y"))]));
}

#[test]
fn a_command_that_outlives_its_key_ends_with_the_agents_interest_in_it() {
    let facts = [
        (10, asked("a", "x")),
        (11, step(1, Progress::Dispatched { attempt: 1 })),
        (101, asked("b", "y")),
        (102, step(1, Progress::Unconfirmed)),
    ];
    assert_eq!(at(&facts[..3]).commands.is_open(Seq(1)), Some(true), "it is on its way");
    let view = at(&facts);
    assert_eq!(view.commands.is_open(Seq(1)), Some(false));
    assert_eq!(view.commands.open().map(|command| command.seq).collect::<Vec<_>>(), [Seq(3)]);
}
