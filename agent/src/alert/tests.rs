//! The rules as a state machine, on a clock that the tests move.

// Helpers of tests fail by panicking, like the tests themselves.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use fieldlog_projections::alert::{Condition, Severity};
use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::description::{AttributeDescription, DescribedBy};
use fieldlog_projections::fact::AvailabilityCause;
use fieldlog_projections::{AttrId, Epoch, snapshot};

use super::*;
use crate::clock::{Clock, TestClock};
use crate::config::Config;

const HOUR: u64 = 3_600;

/// What the rules see beside the view.
#[derive(Default)]
struct Around {
    heard: BTreeMap<u32, Time>,
    /// Not heard since the start, which counts as heard.
    unheard: BTreeSet<u32>,
    waiting: u64,
    oldest: Option<Time>,
}

impl World for Around {
    fn heard(&self, device: DeviceId) -> Option<Time> {
        self.heard.get(&device.0).copied()
    }

    fn was_heard(&self, device: DeviceId) -> bool {
        !self.unheard.contains(&device.0)
    }

    fn backlog_events(&self, _: &str) -> u64 {
        self.waiting
    }

    fn backlog_oldest(&self, _: &str) -> Option<Time> {
        self.oldest
    }
}

struct Scene {
    config: String,
    clock: TestClock,
    view: View,
    alerting: Alerting,
    around: Around,
    /// What was recorded, in words, since it was last asked.
    said: Vec<String>,
}

fn rules(config: &str) -> (Vec<AlertRule>, usize) {
    let config = Config::from_toml(config, "test.toml").unwrap_or_else(|faults| panic!("{faults}"));
    (config.alerts, config.limits.alerts_max)
}

/// A log with the devices `a/one` and `b/two`, and the attributes `t`, `open` and `x.Battery`.
fn scene(config: &str) -> Scene {
    let clock = TestClock::standing(Time::from_secs(1_700_000_000));
    let (rules, max) = rules(config);
    let mut scene = Scene {
        config: config.to_owned(),
        clock,
        view: View::new(Vec::new()),
        alerting: Alerting::new(&rules, max),
        around: Around::default(),
        said: Vec::new(),
    };
    for (device, name) in [(0, "a/one"), (1, "b/two")] {
        let (name, source) = (name.into(), "s".into());
        let device = DeviceId(device);
        scene.record(&Fact::DeviceDiscovered { device, name, source, parent: None, identity: None }, None);
    }
    for (attribute, name) in [(0, "t"), (1, "open"), (2, "x.Battery")] {
        scene.record(&Fact::AttributeNamed { attribute: AttrId(attribute), name: name.into() }, None);
    }
    scene
}

impl Scene {
    fn clock(&self) -> Clock {
        self.clock.clock()
    }

    fn now(&self) -> Now {
        Now { at: self.clock().now(), wall: self.clock().wall() }
    }

    /// Commits one record, and shows it to the rules.
    fn record(&mut self, fact: &Fact, cause: Option<Seq>) -> Seq {
        let wall = self.clock().wall();
        let mut body = RecordBuffer::after(self.view.time);
        body.push_fact(Envelope { wall, cause, ..Envelope::default() }, fact);
        let seq = self.view.seq.next();
        self.view.apply_records(body.records(seq), Seq(u64::MAX)).unwrap();
        let now = self.now();
        self.alerting.committed(body.records(seq), &self.view, now);
        seq
    }

    fn value(&mut self, device: u32, attribute: u32, value: Value) -> Seq {
        let changes = vec![(AttrId(attribute), value)];
        self.record(&Fact::StateChanged { device: DeviceId(device), changes }, None)
    }

    fn t(&mut self, value: f64) -> Seq {
        self.value(0, 0, Value::Float(value))
    }

    fn heard(&mut self, device: u32) {
        let now = self.clock().wall();
        self.around.heard.insert(device, now);
        self.around.unheard.remove(&device);
    }

    /// Lets seconds pass, with a tick in each of the last three, and says what was recorded.
    fn after(&mut self, seconds: u64) -> Vec<String> {
        self.clock.advance(Duration::from_secs(seconds.saturating_sub(3)));
        for _ in 0..seconds.min(3) {
            self.clock.advance(Duration::from_secs(1));
            self.tick();
        }
        std::mem::take(&mut self.said)
    }

    fn tick(&mut self) {
        if !self.alerting.is_restored() {
            self.alerting.restore(&self.view);
        }
        let now = self.now();
        self.alerting.tick(&self.around, &self.view, now);
        self.drain();
    }

    fn drain(&mut self) {
        let mut alerting = std::mem::take(&mut self.alerting);
        alerting.drain(|fact, cause| {
            let said = words(fact, cause);
            self.said.push(said);
            self.record(fact, cause)
        });
        self.alerting = alerting;
    }

    /// What was recorded for what has just been committed.
    fn at_once(&mut self) -> Vec<String> {
        self.drain();
        std::mem::take(&mut self.said)
    }

    /// The agent ends and starts again, from a snapshot.
    fn restart(&mut self) {
        let bytes = snapshot::encode(&self.view, Epoch(1)).unwrap();
        self.view = snapshot::decode(&bytes, &[]).unwrap();
        let (rules, max) = rules(&self.config);
        self.alerting = Alerting::new(&rules, max);
        for device in [0, 1] {
            self.heard(device);
            self.around.unheard.insert(device);
        }
    }

    fn configure(&mut self, config: &str) {
        self.config = config.to_owned();
        let (rules, max) = rules(config);
        self.alerting.configure(&rules, max);
    }
}

fn words(fact: &Fact, cause: Option<Seq>) -> String {
    let cause = cause.map(|seq| format!(" because of {seq}")).unwrap_or_default();
    match fact {
        Fact::AlertRaised(alert) => {
            let Alert { rule, severity, subject, condition, threshold, value } = &**alert;
            let (condition, severity) = (condition.word(), severity.word());
            format!("{rule} {severity} {subject:?} {value:?} {condition} {threshold:?}{cause}")
        }
        Fact::AlertCleared(cleared) => {
            let (because, value) = (cleared.because.word(), &cleared.value);
            format!("{} {} is over at {value:?}: {because}{cause}", cleared.rule, cleared.raised)
        }
        other => panic!("{other:?}"),
    }
}

const HOT: &str = "[[alert]]\nname = \"hot\"\non = \"attribute\"\ndevice = \"a/*\"\nattribute = \"t\"\nabove = 30\nclear = 28\n";
const ONE: &str = "Attribute(DeviceId(0), AttrId(0))";

#[test]
fn a_value_beyond_the_threshold_is_an_alert_until_it_is_below_the_other() {
    let mut scene = scene(HOT);
    assert!(scene.after(1).is_empty());
    scene.t(30.0);
    assert!(scene.at_once().is_empty(), "not above 30");
    let cause = scene.t(30.5);
    let raised = format!("hot warning {ONE} Float(30.5) above Float(30.0) because of {cause}");
    assert_eq!(scene.at_once(), [raised]);
    let open = scene.view.seq;
    for between in [31.0, 29.0, 28.5] {
        scene.t(between);
        assert!(scene.at_once().is_empty(), "{between}");
    }
    let cause = scene.t(28.0);
    let over = format!("hot {open} is over at Float(28.0): ended because of {cause}");
    assert_eq!(scene.at_once(), [over]);
    assert!(scene.view.alerts.is_empty() && scene.after(10).is_empty());
}

#[test]
fn only_what_the_patterns_name_is_looked_at() {
    let mut scene = scene(HOT);
    scene.after(1);
    scene.value(1, 0, Value::Float(99.0));
    scene.value(0, 1, Value::Float(99.0));
    assert!(scene.at_once().is_empty());
}

#[test]
fn a_short_excess_is_none_if_it_must_last() {
    let mut scene = scene(&format!("{HOT}for_s = 60\nseverity = \"critical\""));
    scene.after(1);
    scene.t(31.0);
    assert!(scene.after(59).is_empty());
    scene.t(29.0);
    assert!(scene.after(10).is_empty(), "29 is not wrong, so the time begins anew");
    scene.t(31.0);
    assert!(scene.after(30).is_empty());
    let cause = scene.t(32.0);
    let raised = format!("hot critical {ONE} Float(32.0) above Float(30.0) because of {cause}");
    assert_eq!(scene.after(30), [raised]);
}

#[test]
fn values_that_come_and_go_in_one_commit_are_seen() {
    let mut scene = scene(HOT);
    scene.after(1);
    scene.t(31.0);
    scene.t(20.0);
    let said = scene.at_once();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[1].starts_with(&format!("hot {} is over", scene.view.seq.0 - 1)), "{said:?}");
    assert!(scene.view.alerts.is_empty());
}

#[test]
fn texts_and_truth_values_can_be_what_is_wrong() {
    let rule =
        "[[alert]]\nname = \"open\"\non = \"attribute\"\nattribute = \"open\"\nequals = true\nfor_s = 300";
    let mut scene = scene(rule);
    scene.after(1);
    scene.value(1, 1, Value::Bool(true));
    assert!(scene.after(299).is_empty());
    assert_eq!(scene.after(1).len(), 1);
    scene.value(1, 1, Value::Null);
    assert!(scene.at_once()[0].contains("subject-gone"));
    scene.value(1, 1, Value::Text("true".into()));
    assert!(scene.after(HOUR).is_empty(), "a text is no truth value");
}

#[test]
fn what_is_no_number_says_nothing_of_a_threshold() {
    let mut scene = scene(HOT);
    scene.after(1);
    scene.t(31.0);
    scene.at_once();
    scene.value(0, 0, Value::Text("error".into()));
    scene.value(0, 0, Value::Float(f64::NAN));
    assert!(scene.at_once().is_empty());
    assert_eq!(scene.view.alerts.len(), 1);

    let mut scene = self::scene(&format!("{HOT}for_s = 10"));
    scene.after(1);
    scene.t(31.0);
    scene.value(0, 0, Value::Text("error".into()));
    assert!(scene.after(HOUR).is_empty(), "whether it is still so is not known");
}

#[test]
fn a_restart_neither_raises_again_nor_forgets() {
    let mut scene = scene(&format!("{HOT}for_s = 60"));
    scene.after(1);
    scene.t(31.0);
    assert_eq!(scene.after(60).len(), 1);
    let open = scene.view.seq;
    scene.restart();
    assert!(scene.after(HOUR).is_empty());
    scene.t(20.0);
    assert!(scene.at_once()[0].starts_with(&format!("hot {open} is over at Float(20.0): ended")));

    scene.t(31.0);
    assert!(scene.after(30).is_empty());
    scene.restart();
    assert!(scene.after(29).is_empty(), "it counts from the time of the value, also over a restart");
    assert_eq!(scene.after(1).len(), 1);

    // What ended while the agent was away.
    scene.restart();
    scene.t(20.0);
    assert!(scene.after(1)[0].contains("ended"));
}

#[test]
fn a_rule_that_is_gone_clears_its_alerts() {
    let check = |config: &str| {
        let mut scene = scene(HOT);
        scene.after(1);
        scene.t(31.0);
        scene.at_once();
        let expected = [format!("hot {} is over at Null: rule-removed", scene.view.seq)];
        scene.configure(config);
        assert_eq!(scene.after(1), expected, "{config}");
        let mut again = self::scene(HOT);
        again.after(1);
        again.t(31.0);
        again.at_once();
        again.config = config.to_owned();
        again.restart();
        assert_eq!(again.after(1), expected, "after a restart: {config}");
        assert!(again.after(9).is_empty());
    };
    check("");
    check(&HOT.replace("\"hot\"", "\"warm\"").replace("above = 30\nclear = 28", "below = 0"));
    check(&HOT.replace("a/*", "b/*"));
}

#[test]
fn a_rule_that_is_changed_is_applied_to_what_is_there() {
    let mut scene = scene(HOT);
    scene.after(1);
    scene.t(29.0);
    assert!(scene.at_once().is_empty());
    scene.configure(&HOT.replace("30", "28.5"));
    assert_eq!(scene.after(1).len(), 1);
    scene.configure(&HOT.replace("30", "40").replace("28", "35"));
    assert!(scene.after(1)[0].contains("is over at Float(29.0): ended"));
    scene.configure(&HOT.replace("30", "40").replace("28", "35"));
    assert!(scene.after(1).is_empty());
}

#[test]
fn a_silent_device_is_an_alert_until_it_is_heard() {
    let mut scene =
        scene("[[alert]]\nname = \"quiet\"\non = \"silence\"\ndevice = [\"a/*\", \"c\"]\nfor_s = 600");
    scene.heard(0);
    scene.heard(1);
    assert!(scene.after(599).is_empty());
    assert_eq!(scene.after(1), ["quiet warning Device(DeviceId(0)) Int(600) silent Int(600)"]);
    let open = scene.view.seq;
    assert!(scene.after(HOUR).is_empty());
    scene.heard(0);
    assert_eq!(scene.after(1), [format!("quiet {open} is over at Null: ended")]);
}

#[test]
fn a_restart_is_not_taken_for_a_sign_of_life() {
    let mut scene = scene("[[alert]]\nname = \"quiet\"\non = \"silence\"\nfor_s = 600\ndevice = \"a/*\"");
    scene.heard(0);
    assert_eq!(scene.after(600).len(), 1);
    let open = scene.view.seq;
    scene.restart();
    assert!(scene.after(HOUR).is_empty(), "neither over nor raised again");
    scene.heard(0);
    assert_eq!(scene.after(1), [format!("quiet {open} is over at Null: ended")]);

    // What was offline, and is known to be back, is no longer silent.
    let availability = |availability| Fact::AvailabilityChanged {
        device: DeviceId(0),
        availability,
        cause: AvailabilityCause::Topic,
    };
    scene.record(&availability(Availability::Offline), None);
    assert_eq!(scene.after(600).len(), 1);
    scene.restart();
    assert!(scene.after(1).is_empty());
    scene.record(&availability(Availability::Online), None);
    assert!(scene.after(1)[0].contains("ended"));
}

#[test]
fn a_device_that_is_offline_is_silent_although_its_bridge_speaks() {
    let mut scene = scene("[[alert]]\nname = \"quiet\"\non = \"silence\"\nfor_s = 60");
    let offline = |availability| Fact::AvailabilityChanged {
        device: DeviceId(0),
        availability,
        cause: AvailabilityCause::Topic,
    };
    scene.after(1);
    scene.record(&offline(Availability::Offline), None);
    for _ in 0..59 {
        scene.heard(0);
        scene.heard(1);
        assert!(scene.after(1).is_empty());
    }
    scene.heard(0);
    assert_eq!(scene.after(1), ["quiet warning Device(DeviceId(0)) Null offline Int(60)"]);
    scene.record(&offline(Availability::Online), None);
    scene.heard(0);
    assert!(scene.after(1)[0].contains("ended"));
}

#[test]
fn batteries_are_known_by_name_and_by_description() {
    let mut scene = scene("[[alert]]\nname = \"battery\"\non = \"battery\"\nclear = 30");
    scene.after(1);
    scene.value(0, 2, Value::Int(19));
    let raised = "battery warning Attribute(DeviceId(0), AttrId(2)) Int(19) below Float(20.0)";
    assert!(scene.at_once()[0].starts_with(raised));
    scene.value(0, 2, Value::Int(25));
    assert!(scene.at_once().is_empty());
    scene.value(0, 2, Value::Int(100));
    assert!(scene.at_once()[0].contains("ended"));

    let described = |attribute, unit: &str, class: &str| Fact::AttributeDescribed {
        device: DeviceId(1),
        attribute: AttrId(attribute),
        by: DescribedBy::Operator,
        description: AttributeDescription {
            unit: unit.into(),
            device_class: class.into(),
            ..AttributeDescription::default()
        },
    };
    scene.record(&described(0, "%", "battery"), None);
    scene.record(&described(1, "", "battery"), None);
    scene.record(&described(2, "mV", ""), None);
    scene.value(1, 0, Value::Int(5));
    scene.value(1, 1, Value::Bool(true));
    scene.value(1, 2, Value::Int(3));
    let said = scene.after(1);
    assert_eq!(said.len(), 2, "a voltage is no percentage: {said:?}");
    assert!(said[0].contains("AttrId(0)) Int(5) below"), "{said:?}");
    assert!(said[1].contains("AttrId(1)) Bool(true) battery-low Null"), "{said:?}");
}

#[test]
fn what_waits_for_a_sink_is_an_alert() {
    let sink = "[[sink]]\nname = \"cloud\"\naddress = \"http://h/p\"\n[[alert]]\nname = \"late\"\non = \"sink-backlog\"\nsink = \"cloud\"\n";
    let mut events = scene(&format!("{sink}above_events = 100\nfor_s = 10"));
    events.around.waiting = 101;
    assert!(events.after(1).is_empty() && events.after(9).is_empty());
    assert_eq!(events.after(1), ["late warning Sink(\"cloud\") Int(101) backlog-events Int(100)"]);
    events.around.waiting = 100;
    assert!(events.after(1)[0].contains("is over at Int(100): ended"));

    let mut age = scene(&format!("{sink}above_s = 300"));
    age.around.oldest = Some(age.clock().wall());
    assert!(age.after(300).is_empty());
    assert_eq!(age.after(1), ["late warning Sink(\"cloud\") Int(301) backlog-seconds Int(300)"]);
    age.around.oldest = None;
    assert!(age.after(1)[0].contains("ended"));
}

#[test]
fn a_retired_device_has_no_alerts() {
    let mut scene = scene(&format!("{HOT}for_s = 5"));
    scene.after(1);
    scene.t(31.0);
    scene.after(5);
    let open = scene.view.seq;
    scene.record(&Fact::DeviceRetired { device: DeviceId(0) }, None);
    assert_eq!(scene.after(1), [format!("hot {open} is over at Null: subject-gone")]);
    assert!(scene.after(HOUR).is_empty());
    let (name, source) = ("a/one".into(), "s".into());
    let device = DeviceId(0);
    scene.record(&Fact::DeviceDiscovered { device, name, source, parent: None, identity: None }, None);
    assert_eq!(scene.after(10).len(), 1, "it is back with its value");
}

#[test]
fn renaming_a_device_may_take_it_out_of_a_rule() {
    let mut scene = scene(HOT);
    scene.after(1);
    scene.t(31.0);
    scene.at_once();
    let renamed = |name: &str| {
        let (name, called) = (name.to_owned(), name.to_owned());
        Fact::DeviceRenamed { device: DeviceId(0), name, called }
    };
    scene.record(&renamed("c/one"), None);
    assert!(scene.after(1)[0].contains("rule-removed"));
    scene.record(&renamed("a/two"), None);
    assert_eq!(scene.after(1).len(), 1);
}

#[test]
fn alerts_are_bounded_and_those_beyond_are_counted_once() {
    let mut scene = scene(&format!("[limits]\nalerts_max = 1\n{}", HOT.replace("a/*", "*")));
    scene.after(1);
    scene.t(31.0);
    scene.value(1, 0, Value::Float(31.0));
    scene.value(1, 0, Value::Float(32.0));
    assert_eq!((scene.at_once().len(), scene.alerting.beyond()), (1, 1));
    assert!(scene.after(9).is_empty());
    assert_eq!(scene.alerting.beyond(), 1);
    scene.t(20.0);
    assert_eq!(scene.at_once().len(), 1);
    let said = scene.after(1);
    assert!(said[0].starts_with("hot warning Attribute(DeviceId(1), AttrId(0)) Float(32.0)"), "{said:?}");
}

#[test]
fn without_rules_there_is_nothing_to_do() {
    let mut scene = scene("");
    assert!(!scene.alerting.is_idle(), "open alerts of the log may have to be cleared");
    scene.tick();
    assert!(scene.alerting.is_idle());
    scene.t(31.0);
    assert!(scene.after(HOUR).is_empty());
    let rule = Alert {
        rule: "gone".into(),
        severity: Severity::Critical,
        subject: Subject::Device(DeviceId(0)),
        condition: Condition::Silent,
        threshold: Value::Null,
        value: Value::Null,
    };
    scene.record(&Fact::AlertRaised(Box::new(rule)), None);
    let open = scene.view.seq;
    scene.restart();
    assert_eq!(scene.after(1), [format!("gone {open} is over at Null: rule-removed")]);
    assert!(scene.alerting.is_idle());
}
