//! Alerts: which are open, and what becomes of them.

use fieldlog_projections::alert::{Alert, AlertCleared, ClearedBecause, Condition, Severity, Subject};
use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::{Alerts, AttrId, DeviceId, Epoch, Fact, Seq, Time, Value, View, snapshot};

const DEVICES: u32 = 3;

fn raised(subject: Subject) -> Fact {
    let rule = "hot".to_owned();
    let (threshold, value) = (Value::Float(30.0), Value::Float(30.5));
    let alert =
        Alert { rule, severity: Severity::Critical, subject, condition: Condition::Above, threshold, value };
    Fact::AlertRaised(Box::new(alert))
}

fn cleared(seq: u64, subject: Subject) -> Fact {
    Fact::AlertCleared(Box::new(AlertCleared {
        raised: Seq(seq),
        rule: "hot".into(),
        severity: Severity::Critical,
        subject,
        because: ClearedBecause::Ended,
        value: Value::Float(29.0),
    }))
}

/// Alerts of each kind, of which one is cleared and one is of a device that was forgotten. Positions 5 to 10.
pub fn lives() -> RecordBuffer {
    let mut body = RecordBuffer::after(Time(1_700_000_000_000_000));
    let mut push = |fact: Fact| {
        let wall = Time(body.last_time().0 + 1_000_000);
        body.push_fact(Envelope { wall, ..Envelope::default() }, &fact);
    };
    for device in 0..DEVICES {
        let (name, source) = (format!("d{device}"), "s".into());
        push(Fact::DeviceDiscovered { device: DeviceId(device), name, source, parent: None, identity: None });
    }
    push(Fact::AttributeNamed { attribute: AttrId(0), name: "t".into() });
    push(raised(Subject::Attribute(DeviceId(0), AttrId(0))));
    push(raised(Subject::Attribute(DeviceId(1), AttrId(0))));
    push(raised(Subject::Device(DeviceId(2))));
    push(raised(Subject::Sink("cloud".into())));
    push(cleared(5, Subject::Attribute(DeviceId(0), AttrId(0))));
    push(Fact::DeviceForgotten { device: DeviceId(2) });
    body
}

pub fn folded(body: &RecordBuffer) -> View {
    let mut view = View::new(Vec::new());
    view.apply_records(body.records(Seq(1)), Seq(u64::MAX)).unwrap();
    view
}

#[test]
fn those_that_are_neither_cleared_nor_of_a_forgotten_device_are_open() {
    let view = folded(&lives());
    let open: Vec<u64> = view.alerts.iter().map(|(seq, _)| seq.0).collect();
    assert_eq!(open, [6, 8]);
    let one = view.alerts.get(Seq(6)).unwrap();
    assert_eq!(one.alert.subject, Subject::Attribute(DeviceId(1), AttrId(0)));
    assert_eq!(one.raised, Time(1_700_000_006_000_000));
    assert_eq!(view.alerts.get(Seq(5)), None);
}

#[test]
fn they_are_in_a_snapshot_only_if_there_are_any() {
    let view = folded(&lives());
    let restored = snapshot::decode(&snapshot::encode(&view, Epoch(1)).unwrap(), &[]).unwrap();
    assert!(restored == view && restored.stale().is_empty());

    let mut none = RecordBuffer::after(Time(0));
    let all = lives();
    for record in all.records(Seq(1)).map(Result::unwrap).take(4) {
        none.push_fact(Envelope::default(), &record.fact().unwrap());
    }
    let without = folded(&none);
    let restored = snapshot::decode(&snapshot::encode(&without, Epoch(1)).unwrap(), &[]).unwrap();
    assert!(restored == without && restored.stale().is_empty(), "a snapshot without them lacks nothing");
    assert!(!without.stale().contains(&Alerts::ID));
}

#[test]
fn what_was_raised_in_a_deleted_record_is_no_error_when_it_is_cleared() {
    let mut body = RecordBuffer::after(Time(0));
    body.push_fact(Envelope::default(), &cleared(900, Subject::Sink("cloud".into())));
    assert!(folded(&body).alerts.is_empty());
}
