//! What is owed to whom asks through a sink.

use std::time::{Duration, Instant};

use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::command::{CommandRequest, Evidence, OnOffline, Progress, Publish};
use fieldlog_projections::commands::ENDED_MAX;
use fieldlog_projections::{DeviceId, Fact, Seq, Time, Value, View};
use serde_json::{Value as Json, json};

use super::*;

const LAMP: DeviceId = DeviceId(0);

fn call(to: &str) -> Call {
    Call {
        device: "lamp".into(),
        payload: r#"{"attribute":"state","value":"ON","ttl_s":30,"idempotency_key":"k"}"#.into(),
        oversized: None,
        fault: None,
        retained: false,
        expiry: None,
        may_be_old: false,
        received: Instant::now(),
        traceparent: None,
        from: Some(ReturnAddress { topic: to.into(), correlation: Some(Bytes::from_static(b"c")) }),
    }
}

fn requested() -> Fact {
    let request = CommandRequest {
        actor: "sink:cloud".into(),
        key: "k".into(),
        digest: [0; 16],
        reason: String::new(),
        name: "state".into(),
        operation: false,
        value: Value::Text("ON".into()),
        expires: Time(0),
        ttl_s: 30,
        booted_for: 0,
        remember_until: Time(i64::MAX),
        publish: Publish { source: "home".into(), topic: "t".into(), payload: b"ON".to_vec(), qos: 1 },
        idempotent: true,
        on_offline: OnOffline::Reject,
        confirm_s: 10,
        evidence: Evidence::Reported {
            attribute: "state".into(),
            target: Value::Text("ON".into()),
            tolerance: 0.0,
        },
        traceparent: None,
    };
    Fact::CommandRequested { device: LAMP, request: Box::new(request) }
}

fn step(progress: Progress) -> Fact {
    Fact::CommandProgressed { device: LAMP, command: Seq(1), progress }
}

fn view(facts: &[Fact]) -> View {
    let mut body = RecordBuffer::after(Time(0));
    facts.iter().for_each(|fact| body.push_fact(Envelope::default(), fact));
    let mut view = View::new(Vec::new());
    view.apply_records(body.records(Seq(1)), Seq(u64::MAX)).unwrap();
    view
}

/// The states that are told, with whether they are closed and to whom.
fn told(answers: &mut Answers) -> Vec<(String, Json, Json)> {
    std::iter::from_fn(|| answers.pop())
        .map(|answer| {
            assert_eq!(answer.to.correlation.as_deref(), Some(&b"c"[..]));
            let body: Json = serde_json::from_slice(&answer.body).unwrap();
            (answer.to.topic, body["state"].clone(), body["closed"].clone())
        })
        .collect()
}

fn ask(answers: &mut Answers, to: &str, view: &View) {
    let call = call(to);
    let accepted = Accepted { command: Seq(1), repeated: false };
    answers.accepted(&call, &call.read().unwrap(), accepted, view);
}

#[test]
fn a_command_without_evidence_in_time_is_told_and_so_is_what_closes_it() {
    let mut answers = Answers::new("gw", "e");
    let mut facts = vec![requested()];
    ask(&mut answers, "a", &view(&facts));
    ask(&mut answers, "b", &view(&facts));
    let line = |to: &str, state: &str, closed: bool| (to.to_owned(), json!(state), json!(closed));
    assert_eq!(told(&mut answers), [line("a", "requested", false), line("b", "requested", false)]);
    facts.push(step(Progress::Dispatched { attempt: 1 }));
    answers.settle(&view(&facts));
    assert_eq!(told(&mut answers), []);
    facts.push(step(Progress::Unconfirmed));
    for _ in 0..2 {
        answers.settle(&view(&facts));
    }
    assert_eq!(told(&mut answers), [line("a", "unconfirmed", false), line("b", "unconfirmed", false)]);
    // Who asks again now has been told.
    ask(&mut answers, "c", &view(&facts));
    answers.settle(&view(&facts));
    assert_eq!(told(&mut answers), [line("c", "unconfirmed", false)]);
    facts.push(step(Progress::Applied { evidence: None }));
    for _ in 0..2 {
        answers.settle(&view(&facts));
    }
    let closed = ["a", "b", "c"].map(|to| line(to, "applied", true));
    assert_eq!(told(&mut answers), closed);
    assert!(!answers.is_waiting());
}

#[test]
fn of_a_command_that_ended_long_ago_its_outcome_is_told() {
    let other = |n: u64| {
        let Fact::CommandRequested { device, mut request } = requested() else { unreachable!() };
        request.key = format!("k{n}");
        let ended = Fact::CommandProgressed { device, command: Seq(3 + 2 * n), progress: Progress::Expired };
        [Fact::CommandRequested { device, request }, ended]
    };
    let first = [requested(), step(Progress::Failed { reason: "no".into() })];
    let view = view(&first.into_iter().chain((0..ENDED_MAX as u64).flat_map(other)).collect::<Vec<_>>());
    assert!(view.commands.get(Seq(1)).is_none());
    let mut answers = Answers::new("gw", "e");
    ask(&mut answers, "a", &view);
    let body: Json = serde_json::from_slice(&answers.pop().unwrap().body).unwrap();
    assert_eq!(
        (&body["state"], &body["closed"], &body["failure"]),
        (&json!("failed"), &json!(true), &json!("no"))
    );
    assert!(answers.pop().is_none() && !answers.is_waiting());
}

#[test]
fn the_time_of_a_command_counts_from_its_arrival() {
    let mut call = call("a");
    let body = call.read().unwrap();
    let left =
        |call: &Call, after_ms: u64| call.ttl_left(&body, call.received + Duration::from_millis(after_ms));
    assert_eq!((left(&call, 0), left(&call, 900), left(&call, 12_000), left(&call, 40_000)), (30, 30, 18, 0));
    call.expiry = Some(Duration::from_secs(5));
    assert_eq!((left(&call, 0), left(&call, 4_999), left(&call, 5_000)), (5, 1, 0));
    call.expiry = Some(Duration::from_secs(500));
    assert_eq!(left(&call, 0), 30);
}

#[test]
fn what_is_owed_is_bounded() {
    let mut answers = Answers::new("gw", "e");
    let rejected = Rejected::new(Code::Busy, "no");
    for number in 0..READY_MAX + 3 {
        answers.refused(&call(&number.to_string()), "", &rejected);
    }
    assert_eq!((answers.take_dropped(), answers.take_dropped()), (3, 0));
    assert_eq!(answers.pop().unwrap().to.topic, "3");
    let mut answers = Answers::new("gw", "e");
    let view = view(&[requested()]);
    for number in 0..=OPEN_MAX {
        ask(&mut answers, &number.to_string(), &view);
        answers.pop();
    }
    assert_eq!((answers.take_dropped(), answers.waiting), (1, OPEN_MAX));
    assert_eq!(answers.open[&Seq(1)][0].to.topic, "1");
    // Nobody is told where nobody wants to be.
    answers.refused(&Call { from: None, ..call("") }, "", &rejected);
    assert_eq!(answers.pop(), None);
}

#[test]
fn what_is_no_command_is_refused_in_words() {
    let good = call("a");
    for (call, code, words) in [
        (Call { fault: Some("a property is cut off"), ..good.clone() }, Code::BadRequest, "malformed"),
        (Call { may_be_old: true, ..good.clone() }, Code::BadRequest, "no Message Expiry Interval"),
        (Call { retained: true, ..good.clone() }, Code::Retained, "without the retain flag"),
        (Call { oversized: Some(70_000), ..good.clone() }, Code::TooLarge, "it has 70000 bytes"),
        (Call { device: String::new(), ..good.clone() }, Code::NoSuchDevice, "does not name a device"),
        (Call { payload: "[]".into(), ..good.clone() }, Code::BadRequest, "a command looks like"),
    ] {
        let rejected = call.read().unwrap_err();
        assert_eq!(rejected.code, code);
        assert!(rejected.reason.contains(words), "{}", rejected.reason);
        assert!(!call.is_removal());
    }
    assert!(Call { retained: true, payload: Bytes::new(), ..good }.is_removal());
}
