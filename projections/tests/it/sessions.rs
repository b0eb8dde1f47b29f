//! Sparkplug session state that survives a restart.

use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::fact::{ClockQuality, DeclaredMetric};
use fieldlog_projections::{AttrId, DeviceId, Epoch, Fact, Seq, Time, Value, View, snapshot};

const NODE: DeviceId = DeviceId(0);

fn folded(facts: &[Fact]) -> View {
    let mut body = RecordBuffer::after(Time(0));
    body.push_fact(
        Envelope::default(),
        &Fact::DeviceDiscovered {
            device: NODE,
            name: "g/n".into(),
            source: "s".into(),
            parent: None,
            identity: None,
        },
    );
    body.push_fact(Envelope::default(), &Fact::AttributeNamed { attribute: AttrId(0), name: "x".into() });
    for fact in facts {
        let device_time = Some(Time(-5)).filter(|_| matches!(fact, Fact::HistoryReported { .. }));
        body.push_fact(Envelope { device_time, ..Envelope::default() }, fact);
    }
    let mut view = View::new(Vec::new());
    view.apply_records(body.records(Seq(1)), Seq(u64::MAX)).unwrap();
    view
}

fn noted(birth: u64, seq: Option<u8>) -> Fact {
    Fact::SessionNoted { device: NODE, birth: Some(birth), seq }
}

fn declared(alias: u64) -> Vec<DeclaredMetric> {
    vec![DeclaredMetric { attribute: Some(AttrId(0)), alias: Some(alias), datatype: 9 }]
}

#[test]
fn the_newest_birth_counts_and_a_boot_ends_the_numbering() {
    let metrics = |alias| Fact::MetricsDeclared { device: NODE, metrics: declared(alias) };
    let stopped = [noted(4, None), metrics(1), metrics(2), noted(5, None), noted(5, Some(9))];
    let view = folded(&stopped);
    let session = view.sessions.get(NODE).unwrap();
    assert_eq!((session.birth, session.seq, &session.metrics), (Some(5), Some(9), &declared(2)));
    let restored = snapshot::decode(&snapshot::encode(&view, Epoch(1)).unwrap(), &[]).unwrap();
    assert!(restored == view && restored.stale().is_empty());

    let boot = Fact::Booted { boot_id: [1; 16], version: "1".into(), clock: ClockQuality::Synchronised };
    let running = folded(&[&stopped[..], &[boot]].concat());
    let session = running.sessions.get(NODE).unwrap();
    assert_eq!((session.birth, session.seq, &session.metrics), (Some(5), None, &declared(2)));

    let forgotten = folded(&[&stopped[..], &[Fact::DeviceForgotten { device: NODE }]].concat());
    assert!(forgotten.sessions.get(NODE).is_none());
}

#[test]
fn what_is_noted_of_a_session_is_no_event_of_the_device_and_the_past_changes_no_state() {
    let before = folded(&[]).devices;
    let after = folded(&[noted(4, None)]).devices;
    assert_eq!(after, before);
    let past = Fact::HistoryReported { device: NODE, changes: vec![(AttrId(0), Value::Int(1))] };
    let device = folded(&[past]).devices.get(NODE).cloned().unwrap();
    assert_eq!((device.events, device.device_time), (2, None));
    assert!(device.attributes.is_empty());
}
